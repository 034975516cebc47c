//! What the turn does for a datagram socket.

use std::io;
use std::net::IpAddr;
use std::ops::Range;

use log::{debug, trace};

use super::any::AnyDatagram;
use super::{Datagram, DatagramSocket, DatagramState};
use crate::address::SocketAddress;
use crate::context::Context;
use crate::core::Source;
use crate::driver::Driver;
use crate::error::CloseReason;
use crate::key::Key;
use crate::reactor::Reactor;
use crate::reactor::any_handler::AnyHandler;
use crate::readiness::Readiness;
use crate::timer::TimerId;

/// As many datagrams as a drain still takes in: the usual receive buffer (`net.core.rmem_default`) holds
/// some hundred.
const DRAIN_LEN_MAX: usize = 1024;

/// What went wrong with single datagrams is over when it was told. So many errors on end are something else.
const ERRORS_MAX: u32 = 64;

impl<D: Driver> Reactor<D> {
    /// Makes a call of the socket's handler, unless the socket has ended.
    fn call_datagram(
        &mut self,
        key: Key,
        call: impl FnOnce(&dyn AnyDatagram, &mut dyn AnyHandler, &mut DatagramSocket<'_>),
    ) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        if state.reason.is_some() {
            return;
        }
        let (handler, calls, context) = (state.handler, state.calls, state.context);
        let context = Context { core: &mut self.core, host: &self.sockets, handler: context };
        let mut socket = DatagramSocket { context, key, came: None };
        call(calls, &mut *self.handlers[usize::from(handler)], &mut socket);
    }

    /// A flag of the state that says that a call is owed: takes it.
    fn takes(&mut self, key: Key, flag: fn(&mut DatagramState) -> &mut bool) -> bool {
        self.core.datagram_mut(key).is_some_and(|state| std::mem::take(flag(state)))
    }

    /// From here on its callbacks may be called, and it has a budget to send with.
    pub(super) fn begin_datagrams(&mut self, key: Key) {
        self.core.running = key;
        if let Some(state) = self.core.datagram_mut(key) {
            state.len_left = state.limits.datagrams_per_turn_max;
            state.bytes_left = state.limits.bytes_per_turn_max;
        }
    }

    /// The ready phase's part.
    #[inline(never)]
    pub(crate) fn run_datagrams(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        state.queued = false;
        let ready = std::mem::take(&mut state.readiness);
        let is_any = |hint: Readiness| ready.0 & hint.0 != 0;
        // The next receive tells the error.
        state.is_readable |= is_any(Readiness::READABLE | Readiness::ERROR);
        let may_have_room = is_any(Readiness::WRITABLE | Readiness::ERROR);
        state.is_waiting &= !may_have_room;
        self.begin_datagrams(key);
        if self.takes(key, |state| &mut state.owes_bound) {
            self.call_datagram(key, |calls, handler, socket| calls.bound(handler, socket));
        }
        if may_have_room {
            self.retry_with_room(key);
        }
        self.send_datagrams(key);
        self.tell_pushed_out(key);
        if self.takes(key, |state| &mut state.was_shed) {
            self.tell_failed(key, None, &io::ErrorKind::OutOfMemory.into());
        }
        if self.takes(key, |state| &mut state.owes_room) {
            self.call_datagram(key, |calls, handler, socket| calls.room(handler, socket));
        }
        self.receive_datagrams(key);
        self.drain_datagrams(key);
        self.send_datagrams(key);
        self.core.running = Key::NONE;
        self.hold_to_memory();
    }

    /// The timer phase's part: a timer that a callback of the socket set.
    pub(crate) fn fire_datagram_timer(&mut self, key: Key, timer: TimerId) {
        if !self.core.is_live(key) {
            // It was not swept yet; an interval would come again and again.
            self.core.timers.cancel(timer);
            return;
        }
        self.begin_datagrams(key);
        self.call_datagram(key, |calls, handler, socket| calls.timer(handler, socket, timer));
        self.send_datagrams(key);
        self.core.running = Key::NONE;
        self.hold_to_memory();
    }

    /// Receives within the budget.
    fn receive_datagrams(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        let limits = &state.limits;
        let mut len_left =
            limits.datagrams_per_turn_max.min(state.drain_left.unwrap_or(usize::MAX));
        let mut bytes_left = limits.bytes_per_turn_max;
        if len_left == 0 {
            return;
        }
        while len_left > 0 && bytes_left > 0 {
            let Some(Source::Datagram(state)) = self.core.sources.get_mut(key) else { return };
            if state.reason.is_some() || !state.is_readable {
                return;
            }
            let Some((driver, socket)) = self.sockets.with(key) else { return };
            let received = match (state.gathers, state.is_anywhere) {
                (true, _) => driver.receive_gathered(socket, &mut self.input),
                (false, true) => driver
                    .receive_addressed(socket, &mut self.input)
                    .map(|(length, from, to)| (length, from, to, length)),
                (false, false) => driver
                    .receive(socket, &mut self.input)
                    .map(|(length, from)| (length, from, None, length)),
            };
            let (length, from, to, each) = match received {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.is_readable = false;
                    state.errors = 0;
                    return;
                }
                Err(error) => {
                    state.errors += 1;
                    let is_broken = state.errors == ERRORS_MAX;
                    self.tell_failed(key, None, &error);
                    if is_broken {
                        debug!("{key}: nothing but errors");
                        return self.core.end(key, CloseReason::Io(error.kind()));
                    }
                    len_left -= 1;
                    continue;
                }
            };
            trace!("{key}: {length} bytes from {from}, {each} each");
            state.errors = 0;
            bytes_left = bytes_left.saturating_sub(length);
            // One at least, which may be empty.
            let mut start = 0;
            while start == 0 || start < length {
                let end = length.min(start + each.max(1));
                self.show_datagram(key, start..end, &from, to);
                len_left = len_left.saturating_sub(1);
                start = end.max(1);
            }
        }
        self.core.stats.budgets_exhausted += 1;
        self.core.queue(key);
    }

    /// Shows a datagram, which was received to this place; what is not there was cut off.
    fn show_datagram(
        &mut self,
        key: Key,
        place: Range<usize>,
        from: &SocketAddress,
        to: Option<IpAddr>,
    ) {
        let Some(Source::Datagram(state)) = self.core.sources.get_mut(key) else { return };
        if state.reason.is_some() {
            return; // it was closed by one that was received with it
        }
        if let Some(left) = &mut state.drain_left {
            *left = left.saturating_sub(1);
        }
        let length = place.len();
        let there = self.input.len();
        let data = &self.input[place.start.min(there)..place.end.min(there)];
        let datagram = Datagram { data, from, to, length };
        let stats = &mut self.core.stats;
        stats.datagrams_in += 1;
        stats.datagrams_truncated += u64::from(datagram.is_truncated());
        // As `call_datagram`, beside the buffer.
        let (handler, calls, context) = (state.handler, state.calls, state.context);
        let context = Context { core: &mut self.core, host: &self.sockets, handler: context };
        let came = to.map(|to| (from, to));
        let mut socket = DatagramSocket { context, key, came };
        calls.datagram(&mut *self.handlers[usize::from(handler)], &mut socket, datagram);
    }

    pub(super) fn tell_failed(&mut self, key: Key, to: Option<&SocketAddress>, error: &io::Error) {
        trace!("{key}: {error}");
        self.core.stats.datagram_errors += 1;
        self.call_datagram(key, |calls, handler, socket| {
            calls.send_failed(handler, socket, to, error);
        });
    }

    /// Tells of those that made room for others.
    fn tell_pushed_out(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        for to in std::mem::take(&mut state.pushed_out) {
            self.tell_failed(key, Some(&to), &io::ErrorKind::WouldBlock.into());
        }
    }

    /// A drain begins for this socket.
    pub(crate) fn begin_drain_of_datagrams(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        if state.is_unbound {
            return; // it is told when it is bound
        }
        state.drain_left = Some(DRAIN_LEN_MAX);
        state.is_readable = true; // whether or not the event has come
        self.core.queue(key);
    }

    /// Tells of the drain when what was there is shown.
    fn drain_datagrams(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        if state.drain_left.is_some_and(|left| left == 0 || !state.is_readable) {
            state.drain_left = None;
            self.call_datagram(key, |calls, handler, socket| calls.drain(handler, socket));
            self.core.queue(key); // what came since
        }
    }

    /// The reap phase's part. Who was closed by its handler has what it sent handed to the kernel, as far as
    /// that has room.
    pub(crate) fn reap_datagrams(&mut self, key: Key, mut state: Box<DatagramState>) {
        let reason = state.reason.unwrap_or(CloseReason::Stopped);
        // The path first: whoever sends to it now is told that nobody is there.
        self.remove_path(key);
        if state.is_shared {
            self.take_out(key);
        }
        let socket = self.sockets.take(key);
        let core = &mut self.core;
        core.stats.datagram_sockets -= 1;
        core.account_gone(state.outbox.bytes());
        if let (CloseReason::Closed, Some(socket)) = (reason, &socket) {
            self.hand_over(&mut state, socket);
        }
        let core = &mut self.core;
        core.stats.datagrams_dropped += state.outbox.len() as u64;
        if let Some(retry) = state.retry {
            core.timers.cancel(retry);
        }
        if state.has_timers {
            let sources = &core.sources;
            core.timers.owner_ended(|key| sources.get(key).is_some());
        }
        if state.is_unbound {
            return self.tell_bind_failed(key, &mut state);
        }
        drop(socket); // which closes it
        debug!("{key}: closed: {reason}");
        let handler = &mut *self.handlers[usize::from(state.handler)];
        let mut cx = Context { core: &mut self.core, host: &self.sockets, handler: state.context };
        state.calls.close(handler, key, reason, &mut cx);
    }
}
