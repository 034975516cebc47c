//! When to call back: a heap of moments, with lazy deletion.
//!
//! Setting is O(log n), cancelling O(1): the entry in the heap is left behind and passed over when its
//! moment comes. When more than half of the heap is left-behinds it is swept, so that setting and
//! cancelling for ever stays bounded, at a cost of O(1) amortised.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Time;
use crate::key::Key;
use crate::table::Table;

/// Names one timer for its whole life, and never another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimerId(pub(crate) Key);

impl TimerId {
    /// Names no timer.
    pub(crate) const NONE: TimerId = TimerId(Key::NONE);
}

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A handler's own, for one of its connections.
    Connection(Key),
    /// A handler's own.
    Handler(u16),
    /// A closing connection may have made no progress for too long: it had sent so many bytes then.
    Linger(Key, u64),
    /// An outbound connection took too long to open.
    Connect(Key),
    /// A listener that ran out of something tries again.
    Accept(Key),
    /// The drain's time is up.
    Drain,
}

impl Purpose {
    fn source(self) -> Option<Key> {
        match self {
            Purpose::Connection(key)
            | Purpose::Linger(key, _)
            | Purpose::Connect(key)
            | Purpose::Accept(key) => Some(key),
            Purpose::Handler(_) | Purpose::Drain => None,
        }
    }
}

/// Under this many left-behinds no sweep is worth its call.
const SWEEP_MIN: usize = 64;

#[derive(Debug)]
pub(crate) struct Timers {
    live: Table<Purpose>,
    /// Moment, order of setting, timer. A timer that is no longer in `live` is a left-behind.
    heap: BinaryHeap<Reverse<(Time, u64, Key)>>,
    set: u64,
    /// How many were live after the last sweep of those whose source had ended.
    live_after_sweep: usize,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { live: Table::new(), heap: BinaryHeap::new(), set: 0, live_after_sweep: 0 }
    }

    pub(crate) fn set(&mut self, at: Time, purpose: Purpose) -> TimerId {
        let key = self.live.insert(purpose);
        self.heap.push(Reverse((at, self.set, key)));
        self.set += 1;
        TimerId(key)
    }

    /// Whether the timer was still to come.
    pub(crate) fn cancel(&mut self, timer: TimerId) -> bool {
        let was_live = self.live.remove(timer.0).is_some();
        if self.heap.len() > 2 * self.live.len() + SWEEP_MIN {
            let live = &self.live;
            self.heap.retain(|Reverse((_, _, key))| live.get(*key).is_some());
        }
        was_live
    }

    /// The next moment at which a live timer is due.
    pub(crate) fn next_deadline(&mut self) -> Option<Time> {
        while let Some(Reverse((at, _, key))) = self.heap.peek() {
            if self.live.get(*key).is_some() {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the timers that are due at `now`, earliest first, equal ones in the order of setting.
    /// Each is still live, and can be cancelled, until it is [`fire`](Timers::fire)d.
    pub(crate) fn take_due(&mut self, now: Time, due: &mut Vec<Key>) {
        while self.heap.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            if let Some(Reverse((_, _, key))) = self.heap.pop()
                && self.live.get(key).is_some()
            {
                due.push(key);
            }
        }
    }

    /// What a timer that was taken is for, unless it was cancelled since. It is live no longer.
    pub(crate) fn fire(&mut self, key: Key) -> Option<Purpose> {
        self.live.remove(key)
    }

    /// A source that set timers has ended. `is_alive` tells which sources still live, for the sweep
    /// that is due when the timers have doubled since the last one: so it is paid for by those set in
    /// between.
    pub(crate) fn owner_ended(&mut self, is_alive: impl Fn(Key) -> bool) {
        if self.live.len() > 2 * self.live_after_sweep + SWEEP_MIN {
            self.sweep(is_alive);
        }
    }

    /// Cancels the timers of sources that have ended.
    pub(crate) fn sweep(&mut self, is_alive: impl Fn(Key) -> bool) {
        self.cancel_all(|purpose| purpose.source().is_some_and(|key| !is_alive(key)));
        self.live_after_sweep = self.live.len();
    }

    pub(crate) fn cancel_all(&mut self, is_meant: impl Fn(Purpose) -> bool) {
        let meant = self.live.iter().filter(|(_, purpose)| is_meant(**purpose));
        let meant: Vec<Key> = meant.map(|(key, _)| key).collect();
        for key in meant {
            self.cancel(TimerId(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn due_timers_come_in_order_of_time_and_equal_ones_in_order_of_setting() {
        let mut timers = Timers::new();
        for handler in 0..100 {
            timers.set(at(7), Purpose::Handler(handler));
        }
        timers.set(at(3), Purpose::Handler(1000));
        timers.set(at(8), Purpose::Handler(2000));
        let mut due = Vec::new();
        timers.take_due(at(7), &mut due);
        let order: Vec<u16> = due
            .into_iter()
            .map(|key| match timers.fire(key) {
                Some(Purpose::Handler(handler)) => handler,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order[0], 1000);
        assert_eq!(order[1..], (0..100).collect::<Vec<_>>());
        assert_eq!(timers.next_deadline(), Some(at(8)));
    }

    #[test]
    fn a_cancelled_timer_neither_fires_nor_sets_the_deadline() {
        let mut timers = Timers::new();
        let first = timers.set(at(1), Purpose::Handler(1));
        timers.set(at(2), Purpose::Handler(2));
        assert!(timers.cancel(first));
        assert!(!timers.cancel(first));
        assert_eq!(timers.next_deadline(), Some(at(2)));
        let mut due = Vec::new();
        timers.take_due(at(1), &mut due);
        assert_eq!(due, []);
    }

    #[test]
    fn a_timer_can_be_cancelled_between_being_due_and_firing() {
        let mut timers = Timers::new();
        let timer = timers.set(at(1), Purpose::Handler(1));
        let mut due = Vec::new();
        timers.take_due(at(1), &mut due);
        assert_eq!(due, [timer.0]);
        assert!(timers.cancel(timer));
        assert_eq!(timers.fire(timer.0), None);
    }

    #[test]
    fn setting_and_cancelling_for_ever_stays_bounded() {
        let mut timers = Timers::new();
        for i in 0..100_000 {
            let timer = timers.set(at(1 << 60), Purpose::Handler(0));
            timers.cancel(timer);
            assert!(timers.heap.len() <= 2 * SWEEP_MIN, "at {i}");
        }
    }

    #[test]
    fn timers_of_ended_connections_are_swept_however_many_each_had() {
        for timers_each in [1, 2, 10] {
            let mut timers = Timers::new();
            for i in 0..10_000 {
                for _ in 0..timers_each {
                    timers.set(at(1 << 60), Purpose::Connection(Key::new(i, 1)));
                }
                timers.owner_ended(|_| false);
                assert!(timers.live.len() <= 2 * SWEEP_MIN, "{timers_each} each, at {i}");
            }
        }
    }
}
