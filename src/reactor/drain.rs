//! The drain: everybody is served what they had sent by then, told, and closed.

use std::io;
use std::time::Duration;

use log::{debug, info};

use crate::core::Source;
use crate::drain::{Ended, Report};
use crate::driver::{AcceptError, Driver};
use crate::error::CloseReason;
use crate::key::Key;
use crate::reactor::Reactor;
use crate::stream::flag::*;
use crate::timer::Purpose;

impl<D: Driver> Reactor<D> {
    /// The flush phase's part: a drain was asked for, or a shorter one.
    pub(super) fn carry_out_drain(&mut self) {
        let core = &mut self.core;
        let Some(drain) = &mut core.drain else { return };
        core.timers.cancel(drain.timer);
        drain.timer = core.timers.set(drain.deadline, Duration::ZERO, Purpose::Drain);
        if drain.has_begun {
            return;
        }
        drain.has_begun = true;
        let connections = core.stats.connections;
        let within = drain.deadline.since(core.now);
        info!("draining {connections} connections, within {within:?}");
        #[cfg(feature = "systemd")]
        self.notify_stopping();
        for index in 0..self.listeners.len() {
            let key = self.listeners[index];
            if let Some(listener) = self.core.listener_mut(key) {
                listener.begin_drain();
                self.core.queue(key);
                // Nobody new finds the way here, and who is at the door is still let in.
                self.remove_path(key);
            }
        }
        self.end_resting_attempts();
        let streams = self.core.sources.iter().filter_map(|(key, source)| match source {
            Source::Stream(stream) => stream.has(OPEN | CLOSING).then_some(key),
            _ => None,
        });
        let streams: Vec<Key> = streams.collect();
        for key in streams {
            self.begin_drain_of(key);
        }
        let datagrams = self.core.sources.iter().filter_map(|(key, source)| match source {
            Source::Datagram(_) => Some(key),
            _ => None,
        });
        for key in datagrams.collect::<Vec<_>>() {
            self.begin_drain_of_datagrams(key);
        }
    }

    /// A connection's part in the drain begins: what is readable now is still going to be shown. Not that
    /// of one that forwards, or is forwarded to, which begins when that ends. One that is closing lingers for a shorter time.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin_drain_of(&mut self, key: Key) {
        let core = &mut self.core;
        let Some(drain) = &mut core.drain else { return };
        let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
        if !drain.has_begun || stream.has(DEAD) {
            return;
        }
        if stream.has(CLOSING) {
            stream.flags |= DRAIN_TOLD;
            return core.arm(key);
        }
        if stream.has(FORWARDS | FED) {
            return;
        }
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        // Of a socket with an error the next read tells.
        let readable = driver.readable_bytes(socket).unwrap_or(0);
        // After its end there is nothing; of a pipe it is what was written to it.
        let readable = if stream.has(EOF) { 0 } else { readable };
        stream.flags |= DRAINING;
        if readable > 0 {
            stream.flags |= READABLE; // whether or not the event has come
        }
        drain.set_target(key, stream.bytes_in + readable as u64);
        core.queue(key);
    }

    /// The accept phase's part: takes in who had connected when the drain began, and closes the
    /// listener. For whom there is no room, it is closed at once: they cannot wait for it any more.
    pub(crate) fn drain_listener(&mut self, key: Key) {
        let Some(listener) = self.core.listener_mut(key) else { return };
        if listener.is_waiting() {
            return; // for its timer
        }
        let accepts_max = listener.limits.accepts_per_turn_max;
        // It is on the list until it is over: a handler's panic ends this run of it, and not its drain.
        self.core.queue(key);
        for _ in 0..accepts_max {
            let connections = self.core.stats.connections;
            let connections_max = self.core.limits.connections_max;
            let Some(listener) = self.core.listener_mut(key) else { return };
            if listener.dead || listener.is_waiting() {
                return;
            }
            let Some(left) = listener.take_from_drain() else { break };
            let is_full = listener.connections >= listener.limits.connections_max
                || connections >= connections_max;
            let Some((driver, socket)) = self.sockets.with(key) else { return };
            match driver.accept(socket) {
                Ok((_, peer)) if is_full => {
                    debug!("{key}: {peer} turned away: there is no room, and a drain");
                    self.core.stats.refusals += 1;
                }
                Ok((socket, peer)) => self.admit(key, socket, &peer),
                Err(AcceptError::WouldBlock) => {
                    listener.drain_left = Some(0);
                    break;
                }
                Err(AcceptError::Connection(error)) => {
                    debug!("{key}: a connection ended before it was accepted: {error}");
                    self.core.stats.accept_errors += 1;
                }
                Err(AcceptError::Descriptors(error)) => {
                    listener.drain_left = Some(left);
                    self.shed(key);
                    return self.wait_for_resources(key, &error);
                }
                Err(AcceptError::Other(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                    debug!("{key}: nobody can be at the door: {error}"); // accept(2), `EINVAL`
                    listener.drain_left = Some(0);
                    break;
                }
                Err(AcceptError::Other(error)) => {
                    listener.drain_left = Some(left);
                    return self.wait_for_resources(key, &error);
                }
            }
        }
        let listener = self.core.listener_mut(key);
        if listener.is_some_and(|listener| listener.drain_left == Some(0)) {
            debug!("{key}: drained");
            self.core.end(key, CloseReason::Closed);
        }
    }

    /// The timer phase's part: the drain's time is up.
    pub(super) fn time_out_drain(&mut self) {
        let Some(drain) = &mut self.core.drain else { return };
        let stats = &self.core.stats;
        let is_done = stats.connections == 0 && stats.datagram_sockets == 0;
        drain.end = if is_done { Ended::Drained } else { Ended::TimedOut };
        self.core.stopping = true;
    }

    /// What the kernel has received for connections that are about to be cut off.
    pub(super) fn unread_bytes(&self) -> u64 {
        let sources = self.core.sources.iter();
        let unread = sources.map(|(key, source)| match (source, self.sockets.with(key)) {
            (Source::Stream(stream), Some((driver, socket))) if !stream.has(DEAD | EOF) => {
                driver.readable_bytes(socket).unwrap_or(0) as u64
            }
            _ => 0,
        });
        unread.sum()
    }

    /// The end of a turn of a drain: whether it was the last one.
    pub(super) fn look_at_drain(&mut self) {
        let core = &mut self.core;
        if let Some(drain) = &mut core.drain
            && drain.has_begun
            && !core.stopping
            && core.stats.connections == 0
            && core.stats.datagram_sockets == 0
            && self.listeners.is_empty()
        {
            drain.end = Ended::Drained;
            core.stopping = true;
        }
    }

    /// How it ended when it last did: by a stop, or at the end of a drain. For who calls
    /// [`turn`](Self::turn); [`run`](Self::run) returns it.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Whether a drain goes on.
    pub fn is_draining(&self) -> bool {
        self.core.drain.is_some()
    }
}
