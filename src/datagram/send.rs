//! How datagrams leave.

use std::io;

use log::{debug, trace};

use super::DatagramState;
use crate::address::SocketAddress;
use crate::core::Source;
use crate::driver::{Batch, Driver};
use crate::error::CloseReason;
use crate::key::Key;
use crate::reactor::Reactor;

/// As many datagrams at most are sent with a call: what the kernel takes (`UDP_MAX_SEGMENTS`).
const BATCH_LEN_MAX: usize = if cfg!(feature = "udp-batch") { 64 } else { 1 };

/// ... and as many bytes: it makes one packet of them, before it cuts that.
const BATCH_BYTES_MAX: usize = 65_535 - 48;

/// How a try to send ended.
pub(super) enum Tried {
    /// So many.
    Sent(usize),
    WouldBlock,
    Failed(io::Error),
}

impl<D: Driver> Reactor<D> {
    /// The flush phase's part: somebody else sent with it.
    #[cold]
    #[inline(never)]
    pub(crate) fn flush_datagrams(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        state.flushing = false;
        self.begin_datagrams(key);
        self.send_datagrams(key);
        self.core.running = Key::NONE;
    }

    /// Sends what waits, within the budget, and sees to what is owed when some have gone: also those that just left from
    /// standing aside.
    pub(super) fn send_datagrams(&mut self, key: Key) {
        self.send_next_aside(key);
        loop {
            let Some(state) = self.core.datagram_mut(key) else { return };
            if state.reason.is_some() || state.is_waiting || state.outbox.queue_is_empty() {
                break;
            }
            if state.len_left == 0 || state.bytes_left == 0 {
                self.core.queue(key);
                break;
            }
            if state.outbox.is_front_behind_aside() {
                self.pay_for_try(key);
                self.put_front_aside(key);
                continue;
            }
            let Some(Source::Datagram(state)) = self.core.sources.get(key) else { return };
            let len_max = if state.is_unix { 1 } else { BATCH_LEN_MAX.min(state.len_left) };
            let bytes_max = BATCH_BYTES_MAX.min(state.bytes_left);
            let Some(batch) = state.outbox.front_batch(len_max, bytes_max) else { break };
            // Of room in the socket it is connected to, and in the network's queue, it is told.
            let is_told_of_room = !state.is_unix || batch.to.is_none();
            let (tried, earlier) = self.try_to_send(key, batch);
            // Off the queue before any callback, which may close the socket.
            let gone = match tried {
                Tried::WouldBlock => 0,
                Tried::Sent(count) => count,
                Tried::Failed(_) => 1,
            };
            let mut to = None;
            for _ in 0..gone {
                to = self.take_datagram(key);
            }
            if let Some(error) = earlier {
                self.tell_failed(key, None, &error);
            }
            match tried {
                Tried::Sent(count) => self.core.stats.datagrams_out += count as u64,
                Tried::WouldBlock if is_told_of_room => self.wait_for_room(key),
                Tried::WouldBlock => {
                    self.found_no_room(key);
                    self.put_front_aside(key);
                }
                Tried::Failed(error) => self.give_up(key, to.as_ref(), &error),
            }
        }
        self.end_sending(key);
    }

    /// Sends datagrams of this length, one behind the other.
    ///
    /// Of a connected socket an error may be that of a datagram which has left already: one more try tells. It may
    /// be somebody else's the second time as well. Such an error is given beside.
    pub(super) fn try_to_send(&self, key: Key, batch: Batch<'_>) -> (Tried, Option<io::Error>) {
        let (Some(Source::Datagram(state)), Some((driver, socket))) =
            (self.core.sources.get(key), self.sockets.with(key))
        else {
            unreachable!("slots are freed in the reap phase, and what runs has a socket")
        };
        let is_connected = state.peer.is_some();
        let send = || match driver.send_batch(socket, batch) {
            Ok(count) => {
                trace!("{key}: {count} datagrams of {} bytes to {:?}", batch.length, batch.to);
                Tried::Sent(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Tried::WouldBlock,
            Err(error) => Tried::Failed(error),
        };
        match send() {
            Tried::Failed(earlier) if is_connected => match send() {
                Tried::Failed(error) if error.kind() == earlier.kind() => {
                    (Tried::Failed(error), None)
                }
                tried => (tried, Some(earlier)),
            },
            tried => (tried, None),
        }
    }

    /// Takes the first datagram off the queue, and off the budget: whom it was for.
    fn take_datagram(&mut self, key: Key) -> Option<SocketAddress> {
        let state = self.core.datagram_mut(key)?;
        let (to, length) = state.outbox.pop()?;
        let to = to.or_else(|| state.peer.clone());
        self.pay_for_datagram(key, length);
        to
    }

    /// Takes a datagram that is not queued any more off the budget.
    pub(super) fn pay_for_datagram(&mut self, key: Key, length: usize) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        state.len_left -= 1;
        state.bytes_left = state.bytes_left.saturating_sub(length);
        self.core.account_gone(length);
    }

    /// Takes off the budget what it cost to send nothing: a call, or a search among those that stand aside.
    pub(super) fn pay_for_try(&mut self, key: Key) {
        if let Some(state) = self.core.datagram_mut(key) {
            state.len_left -= 1;
        }
    }

    /// Drops a datagram that was taken off the queue, of which its handler is told.
    pub(super) fn give_up(&mut self, key: Key, to: Option<&SocketAddress>, error: &io::Error) {
        self.core.stats.datagrams_dropped += 1;
        self.tell_failed(key, to, error);
    }

    fn wait_for_room(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        state.is_waiting = true;
        self.ask_for_room(key, true);
    }

    /// Has an event tell of room, or no more.
    pub(super) fn ask_for_room(&mut self, key: Key, yes: bool) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        if std::mem::replace(&mut state.asks_writable, yes) == yes {
            return;
        }
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        if let Err(error) = driver.ask_writable(socket, key, yes) {
            // A wake-up that may never come is worse than an end.
            debug!("{key}: {error}");
            self.core.end(key, CloseReason::Io(error.kind()));
        }
    }

    /// Drops all that waits, because the reactor is over its memory.
    #[cold]
    pub(crate) fn shed_datagrams(&mut self, key: Key) {
        let core = &mut self.core;
        let Some(Source::Datagram(state)) = core.sources.get_mut(key) else { return };
        let outbox = std::mem::take(&mut state.outbox);
        state.is_waiting = false;
        state.waits_aside = false;
        state.was_shed = true;
        state.owes_room |= std::mem::take(&mut state.is_full);
        // One that is not bound yet is told in its first run.
        let has_runs = !state.is_unbound;
        core.stats.datagrams_dropped += outbox.len() as u64;
        core.account_gone(outbox.bytes());
        if has_runs {
            core.queue(key);
            self.end_sending(key);
        }
    }

    /// What is to be seen to when some have gone.
    fn end_sending(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        let limits = &state.limits;
        let (len, bytes) = (state.outbox.len(), state.outbox.bytes());
        let has_room = 2 * len <= limits.queue_len_max && 2 * bytes <= limits.queue_bytes_max;
        if has_room && std::mem::take(&mut state.is_full) {
            state.owes_room = true;
        }
        let is_owed = state.owes_room;
        if is_owed {
            self.core.queue(key);
        }
        self.set_retry(key);
        let Some(state) = self.core.datagram_mut(key) else { return };
        if state.outbox.queue_is_empty() && !state.waits_aside {
            self.ask_for_room(key, false);
        }
    }

    /// Gives the kernel what it has room for.
    pub(super) fn hand_over(&mut self, state: &mut DatagramState, socket: &D::Socket) {
        let driver = &self.sockets.driver;
        let stats = &mut self.core.stats;
        let mut sent = |batch: Batch<'_>| {
            let mut result = driver.send_batch(socket, batch);
            if let Err(error) = &result
                && error.kind() != io::ErrorKind::WouldBlock
                && state.peer.is_some()
            {
                result = driver.send_batch(socket, batch);
            }
            let has_room =
                !matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            stats.datagrams_out += u64::from(result.is_ok());
            stats.datagrams_dropped += u64::from(result.is_err());
            has_room
        };
        while let Some(first) = state.outbox.aside.first(0) {
            sent(first);
            state.outbox.aside.take(0);
        }
        while let Some(one) = state.outbox.front_batch(1, usize::MAX) {
            let has_room = sent(one);
            let is_named = one.to.is_some();
            state.outbox.pop();
            if !(has_room || state.is_unix && is_named) {
                break; // what is left finds none, either
            }
        }
    }
}
