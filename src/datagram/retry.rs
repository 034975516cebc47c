//! How those datagrams leave that stand aside, or are given up.

use std::io;
use std::time::Duration;

use super::send::Tried;
use crate::core::Source;
use crate::driver::Driver;
use crate::key::Key;
use crate::reactor::Reactor;
use crate::timer::Purpose;

impl<D: Driver> Reactor<D> {
    /// The timer phase's part: receivers may have room by now.
    pub(crate) fn retry_datagrams(&mut self, key: Key) {
        let Some(state) = self.core.datagram_mut(key) else { return };
        state.retry = None;
        self.begin_datagrams(key);
        self.send_aside(key);
        self.send_datagrams(key);
        self.core.running = Key::NONE;
    }

    /// An event has told that the socket's own buffer has room: that may be what those who stand aside found full.
    pub(super) fn retry_with_room(&mut self, key: Key) {
        let now = self.core.now;
        let Some(state) = self.core.datagram_mut(key) else { return };
        if std::mem::take(&mut state.waits_aside) {
            state.outbox.aside.retry_all(now);
            self.send_aside(key);
        }
    }

    /// As long as the socket's own buffer may be full, those that come later must not take all the room that there is when
    /// somebody has read: one receiver that stands aside is tried before them, and after each that had room the next one.
    pub(super) fn send_next_aside(&mut self, key: Key) {
        let now = self.core.now;
        // Who finds no room after somebody else has taken it keeps its turn.
        let mut is_first = true;
        loop {
            let Some(state) = self.core.datagram_mut(key) else { return };
            let (aside, has_budget) = (&mut state.outbox.aside, state.len_left > 0);
            let len = aside.len();
            if !state.waits_aside || !has_budget || !aside.retry_next(now, is_first) {
                return;
            }
            is_first = false;
            self.send_aside(key);
            let Some(state) = self.core.datagram_mut(key) else { return };
            if state.reason.is_some() || state.outbox.aside.len() >= len {
                return;
            }
        }
    }

    /// Tries those that stand aside and are due, within the budget. One that has stood there for long enough and still
    /// finds no room is given up.
    fn send_aside(&mut self, key: Key) {
        let now = self.core.now;
        loop {
            let Some(Source::Datagram(state)) = self.core.sources.get(key) else { return };
            if state.reason.is_some() || state.len_left == 0 || state.bytes_left == 0 {
                return;
            }
            let aside = &state.outbox.aside;
            let Some(receiver) = aside.due(now) else { return };
            let Some(first) = aside.first(receiver) else { return };
            let (tried, earlier) = self.try_to_send(key, first);
            if matches!(tried, Tried::WouldBlock) {
                self.found_no_room(key);
                self.give_up_late(key, receiver);
                continue;
            }
            let Some(state) = self.core.datagram_mut(key) else { return };
            let Some((to, length)) = state.outbox.aside.take(receiver) else { return };
            self.pay_for_datagram(key, length);
            if let Some(error) = earlier {
                self.tell_failed(key, None, &error);
            }
            match tried {
                Tried::Failed(error) => self.give_up(key, Some(&to), &error),
                Tried::Sent(_) | Tried::WouldBlock => self.core.stats.datagrams_out += 1,
            }
        }
    }

    /// A receiver still has no room: those to it that are late are given up, within the budget.
    fn give_up_late(&mut self, key: Key, receiver: usize) {
        let now = self.core.now;
        let Some(state) = self.core.datagram_mut(key) else { return };
        let late = state.outbox.aside.take_late(receiver, now, state.len_left);
        let Some((to, count, bytes)) = late else { return };
        state.len_left -= count;
        self.core.account_gone(bytes);
        for _ in 0..count {
            self.give_up(key, Some(&to), &io::ErrorKind::WouldBlock.into());
        }
    }

    /// The first datagram of the queue stands aside: nobody tells when its receiver has room.
    pub(super) fn put_front_aside(&mut self, key: Key) {
        let now = self.core.now;
        if let Some(state) = self.core.datagram_mut(key) {
            let until = now + state.limits.send_timeout;
            state.outbox.put_front_aside(now, until);
        }
    }

    /// One that names its receiver found no room: there, of which nothing tells, or in the socket's own buffer, of which
    /// an event does. Which of them, only the second one says, by not being writable.
    pub(super) fn found_no_room(&mut self, key: Key) {
        self.pay_for_try(key);
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        let Some(Source::Datagram(state)) = self.core.sources.get_mut(key) else { return };
        if !state.waits_aside && !driver.is_writable(socket) {
            state.waits_aside = true;
            self.ask_for_room(key, true);
        }
    }

    /// Sees to it that those which stand aside are tried.
    pub(super) fn set_retry(&mut self, key: Key) {
        let core = &mut self.core;
        let Some(Source::Datagram(state)) = core.sources.get_mut(key) else { return };
        match (state.outbox.aside.retry_at(), state.retry) {
            (Some(at), Some(retry)) => {
                core.timers.rearm(retry, at);
            }
            (Some(at), None) => {
                state.retry = Some(core.timers.set(at, Duration::ZERO, Purpose::Retry(key)));
            }
            (None, retry) => {
                state.waits_aside = false;
                if let Some(retry) = retry {
                    state.retry = None;
                    core.timers.cancel(retry);
                }
            }
        }
    }
}
