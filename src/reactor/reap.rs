//! The last phase: telling the end, and freeing what it held.

use std::io;

use log::debug;

use crate::context::Context;
use crate::core::Source;
use crate::driver::Driver;
use crate::error::{CloseReason, ConnectError};
use crate::key::Key;
use crate::reactor::Reactor;
use crate::stream::{Stream, flag::*};

impl<D: Driver> Reactor<D> {
    /// Frees the slots of what ended, here and nowhere else: so no key changes its meaning while a
    /// turn still holds it. A panic in `on_close` goes through; what is left is reaped in the next
    /// turn.
    pub(super) fn reap(&mut self) {
        let ended = self.core.reap.len();
        for _ in 0..ended {
            // One at a time, off the list before its callback, which may panic.
            let Some(key) = self.core.reap.pop_front() else { return };
            self.core.disarm(key);
            match self.core.sources.remove(key) {
                Some(Source::Stream(stream)) => self.reap_stream(key, stream),
                Some(Source::Raw(raw)) => self.reap_raw(key, &raw),
                Some(Source::Datagram(state)) => self.reap_datagrams(key, state),
                Some(Source::Listener(_)) => {
                    // The path first: whoever comes now finds nobody, and is not reset.
                    self.remove_path(key);
                    self.take_out(key);
                    self.sockets.take(key);
                    self.listeners.retain(|listener| *listener != key);
                    debug!("{key}: listener closed");
                }
                Some(Source::Candidate(candidate)) => match self.sockets.take(key) {
                    Some(socket) if candidate.resets => self.sockets.driver.abort(socket),
                    socket => drop(socket), // which closes it
                },
                None => debug_assert!(false, "{key} was on the reap list twice"),
            }
            self.hold_to_memory();
        }
    }

    /// Takes the path of a listener or datagram socket out of the file system, if it has one.
    pub(crate) fn remove_path(&mut self, socket: Key) {
        self.guards.retain(|(key, _)| *key != socket);
    }

    /// Hears no more of what somebody else may have open as well, so that closing it is not enough.
    pub(crate) fn take_out(&self, key: Key) {
        if let Some((driver, socket)) = self.sockets.with(key)
            && let Err(error) = driver.deregister(socket)
            && error.kind() != io::ErrorKind::NotFound
        // a listener that pauses is out already
        {
            debug!("{key}: not deregistered: {error}");
        }
    }

    fn reap_stream(&mut self, key: Key, stream: Stream) {
        if stream.is_adopted() {
            self.take_out(key);
        }
        match self.sockets.take(key) {
            Some(socket) if stream.has(RESET) => self.sockets.driver.abort(socket),
            socket => drop(socket), // which closes it
        }
        let core = &mut self.core;
        core.stats.connections -= 1;
        if stream.has(TIMERS) {
            let sources = &core.sources;
            core.timers.owner_ended(|key| sources.get(key).is_some());
        }
        if stream.has(CONNECTING) {
            core.end_attempt(stream.need);
        }
        if !stream.has(OUTBOUND)
            && let Some(listener) = core.listener_mut(Key::from_bits(stream.tag))
        {
            listener.connections -= 1;
        }
        self.wake_full_listeners();
        let reason = stream.reason.unwrap_or(CloseReason::Stopped);
        let handler = stream.handler;
        let mut cx = Context { core: &mut self.core, host: &self.sockets, handler };
        if stream.has(OPEN) {
            cx.core.stats.count_close(reason);
            debug!("{key}: closed: {reason}, {} in, {} out", stream.bytes_in, stream.bytes_out);
            cx.core.reaped = Some((key, stream.traffic()));
            self.handlers[handler as usize].close(stream.session, key, reason, &mut cx);
            self.core.reaped = None;
        } else if !stream.has(CONNECTING) {
            // Its `on_open` panicked, or everything was stopped before it returned.
            cx.core.stats.count_close(reason);
        } else {
            let error = match (stream.failure, reason) {
                (Some(error), _) => error,
                (None, CloseReason::Stopped) => ConnectError::Stopped,
                (None, CloseReason::MemoryLimit) => ConnectError::Io(io::ErrorKind::OutOfMemory),
                (None, _) => ConnectError::Cancelled,
            };
            cx.core.stats.connect_failures += 1;
            self.handlers[handler as usize].connect_failed(key, stream.tag, error, &mut cx);
        }
    }

    /// Ends and reaps everything.
    pub(super) fn end_all(&mut self) {
        let all: Vec<Key> = self.core.sources.iter().map(|(key, _)| key).collect();
        for key in all {
            self.core.end(key, CloseReason::Stopped);
        }
        self.reap();
        let core = &mut self.core;
        debug_assert_eq!(core.sources.len(), 0);
        core.ready.clear();
        core.accept.clear();
        core.flush.clear();
        core.poked.clear();
        core.timers.cancel_all(|_| true);
        core.due.clear();
        core.alarmed.clear();
        self.drop_commands();
    }
}
