//! Closing: output, our end of file, the peer's, and then the descriptor.

use std::io;

use log::debug;

use super::flag::*;
use crate::clock::Time;
use crate::core::{Core, Source};
use crate::driver::Driver;
use crate::error::CloseReason;
use crate::key::Key;
use crate::reactor::Reactor;

impl Core {
    pub(super) fn drop_input(&mut self, key: Key) {
        if let Some(Source::Stream(stream)) = self.sources.get_mut(key)
            && let Some(buffers) = &mut stream.buffers
        {
            self.stats.bytes_discarded += buffers.input_len() as u64;
            buffers.drop_input();
        }
        self.account(key);
    }
}

impl<D: Driver> Reactor<D> {
    /// Goes on with a connection that has said it will send no more.
    pub(super) fn go_on_closing(&mut self, key: Key) {
        let core = &mut self.core;
        let stream = core.sources.live(key);
        let is_flushed = !stream.has(HAS_OUTPUT);
        let is_pipe_out = stream.is_pipe_out();
        let usual = if is_pipe_out { CloseReason::Closed } else { CloseReason::PeerClosed };
        let reason = stream.reason.unwrap_or(usual);
        if is_flushed && stream.has(EOF) && (stream.has(CLOSING) || stream.has(EOF_SHOWN)) {
            // The peer is done and so are we: closing sends our end of file, if it was not sent.
            return core.end(key, reason);
        }
        if stream.has(CLOSING) && stream.is_pipe_in() {
            // Nothing of ours is on its way that a close could destroy, and by it the writer learns of the end.
            return core.end(key, reason);
        }
        if is_flushed && !stream.has(FIN_SENT) {
            stream.flags |= FIN_SENT;
            stream.put_linger_off(core.now);
            let Some((driver, socket)) = self.sockets.with(key) else { return };
            if let Err(error) = driver.shutdown_write(socket) {
                debug!("{key}: shutdown failed: {error}");
                // Not connected any more, that is (shutdown(2)): a reset came first.
                let is_gone = error.kind() == io::ErrorKind::NotConnected;
                let reason =
                    if is_gone { CloseReason::Reset } else { CloseReason::of_error(&error) };
                return core.end(key, reason);
            }
        }
        if stream.has(CLOSING) && stream.phase_deadline == Time::NEVER {
            stream.put_linger_off(core.now);
        }
        if stream.has(CLOSING) && core.drain.is_some() {
            stream.flags |= DRAIN_TOLD;
        }
    }

    /// A closing connection's time is up.
    pub(super) fn end_linger(&mut self, key: Key) {
        let core = &mut self.core;
        let stream = core.sources.live(key);
        debug!("{key}: lingered for long enough");
        core.stats.lingers_cut += 1;
        if stream.has(HAS_OUTPUT) {
            stream.flags |= RESET;
        }
        core.end(key, CloseReason::SlowReader);
    }
}
