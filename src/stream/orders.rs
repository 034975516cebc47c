//! What callbacks, and the turn, tell a connection to do: close, end, pause, and the like.

use super::flag::*;
use crate::clock::Time;
use crate::core::{Core, Source};
use crate::error::CloseReason;
use crate::key::Key;
use crate::listener::NO_NUMBER;

impl Core {
    /// Closes gracefully: output, our end of file, and the peer's. A connection that is not open yet
    /// is dropped.
    pub(crate) fn close(&mut self, key: Key, reason: CloseReason) {
        match self.sources.get_mut(key) {
            Some(Source::Stream(stream)) => {
                if stream.has(CLOSING | DEAD) {
                    return;
                }
                if stream.has(CONNECTING) {
                    return self.end(key, reason);
                }
                let is_after_peer =
                    reason == CloseReason::Closed && stream.has(EOF_SHOWN) && !stream.is_pipe_out();
                let reason = if is_after_peer { CloseReason::PeerClosed } else { reason };
                stream.flags |= CLOSING | FIN_WANTED;
                stream.phase_deadline = Time::NEVER;
                stream.flags &= !(PAUSED | SHOW | OVER_HIGH | HAS_INPUT | DRAINING);
                stream.reason = Some(reason);
                if let Some(buffers) = &mut stream.buffers {
                    self.stats.bytes_discarded += buffers.input_len() as u64;
                    buffers.drop_input();
                }
                if key == self.running {
                    self.direct_max = 0;
                } else {
                    self.account(key);
                    self.queue_flush(key);
                }
            }
            Some(_) => self.end(key, reason),
            None => {}
        }
    }

    /// Ends a source at once: it is reaped in this turn's last phase, or in the next one's.
    pub(crate) fn end(&mut self, key: Key, reason: CloseReason) {
        match self.sources.get_mut(key) {
            Some(Source::Stream(stream)) => {
                if stream.has(DEAD) {
                    return;
                }
                stream.flags |= DEAD;
                let unwritten = if key == self.running { self.scratch.len() } else { 0 };
                // A graceful end that lost output was none.
                let is_cut = (stream.has(HAS_OUTPUT) || unwritten > 0)
                    && stream.reason.is_some_and(CloseReason::has_delivered_all);
                if is_cut || stream.reason.is_none() {
                    stream.reason = Some(reason);
                }
                if let Some(buffers) = &mut stream.buffers {
                    self.stats.bytes_discarded += buffers.input_len() as u64;
                    self.stats.lose(buffers.output.len());
                    buffers.drop_input();
                    buffers.output.clear();
                }
                let forwards = stream.has(FORWARDS | FED);
                let attempt = stream.has(CONNECTING).then_some(stream.need);
                let is_reset =
                    stream.has(RESET) || stream.reason.is_some_and(CloseReason::is_broken);
                if !stream.has(OUTBOUND) {
                    let address = std::mem::replace(&mut stream.address, NO_NUMBER);
                    let listener = Key::from_bits(stream.tag);
                    self.leave_address(listener, address);
                }
                self.account(key);
                if key == self.running {
                    self.stats.lose(unwritten);
                    self.scratch.clear();
                    self.direct_max = 0;
                }
                if forwards {
                    self.end_forwards_of(key, !is_reset);
                }
                if let Some(number) = attempt {
                    self.end_try(number);
                }
            }
            Some(Source::Listener(listener)) => {
                if std::mem::replace(&mut listener.dead, true) {
                    return;
                }
            }
            Some(Source::Raw(raw)) => {
                if raw.reason.is_some() {
                    return;
                }
                raw.reason = Some(reason);
            }
            Some(Source::Datagram(state)) => {
                if state.reason.is_some() {
                    return;
                }
                state.reason = Some(reason);
            }
            Some(Source::Candidate(candidate)) => {
                if std::mem::replace(&mut candidate.dead, true) {
                    return;
                }
            }
            None => return,
        }
        self.reap.push_back(key);
    }

    pub(crate) fn abort(&mut self, key: Key) {
        if let Some(stream) = self.stream_mut(key)
            && !stream.has(DEAD)
        {
            stream.flags |= RESET;
        }
        self.end(key, CloseReason::Aborted);
    }

    pub(crate) fn shutdown_write(&mut self, key: Key) {
        let is_running = key == self.running;
        let Some(stream) = self.stream_mut(key) else { return };
        stream.flags |= FIN_WANTED;
        if is_running {
            self.direct_max = 0; // what was sent is still written, but nothing more is taken
        } else {
            self.queue_flush(key);
        }
    }

    pub(crate) fn pause(&mut self, key: Key) {
        let now = self.now;
        if let Some(stream) = self.stream_mut(key)
            && !stream.has(CLOSING | DEAD)
        {
            stream.flags |= PAUSED;
            stream.note_rest(now);
        }
    }

    pub(crate) fn resume(&mut self, key: Key) {
        let is_running = key == self.running;
        let now = self.now;
        let Some(stream) = self.stream_mut(key) else { return };
        if !stream.has(PAUSED) {
            return;
        }
        stream.flags &= !PAUSED;
        stream.flags |= REARM;
        stream.end_pause(now);
        // A run that is under way keeps its own account of what is left: it shows it again only if
        // it is asked to.
        if stream.has(HAS_INPUT) || is_running {
            stream.flags |= SHOW;
        }
        // No event will come for bytes that are already there.
        self.queue(key);
    }

    pub(crate) fn poke(&mut self, key: Key) {
        if let Some(stream) = self.stream_mut(key)
            && !stream.has(POKED | CLOSING | DEAD)
        {
            stream.flags |= POKED;
            self.poked.push(key);
        }
    }
}
