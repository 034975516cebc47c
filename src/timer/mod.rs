//! When to call back.

mod wheel;

use std::time::Duration;

use crate::clock::Time;
use crate::key::Key;
use crate::table::Table;

pub(crate) use self::wheel::{Node, Nodes, Wheel};

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
    /// A listener that ran out of something tries again.
    Accept(Key),
    /// An outbound connection that could not begin tries again.
    Connect(Key),
    /// A handler's own, for one of its datagram sockets.
    Datagram(Key),
    /// A datagram socket tries again to send.
    Retry(Key),
    /// The drain's time is up.
    Drain,
}

impl Purpose {
    fn source(self) -> Option<Key> {
        match self {
            Purpose::Connection(key)
            | Purpose::Accept(key)
            | Purpose::Connect(key)
            | Purpose::Datagram(key)
            | Purpose::Retry(key) => Some(key),
            Purpose::Handler(_) | Purpose::Drain => None,
        }
    }
}

#[derive(Debug)]
struct Timer {
    /// Its place in the wheel, which may be due earlier than the timer: one that is put off stays where
    /// it is, and is moved when that comes up. Not linked between being taken and being fired.
    node: Node,
    /// When it is to fire.
    at: Time,
    purpose: Purpose,
    /// From one firing to the next, in nanoseconds; zero for a timer that fires once.
    period: u64,
}

impl Nodes for Table<Timer> {
    fn node(&mut self, index: u32) -> &mut Node {
        &mut self.at_mut(index).node
    }
}

/// Under this many timers no sweep is worth its call.
const SWEEP_MIN: usize = 64;

/// The timers that handlers set, and the few that the reactor sets for its listeners. Setting, moving
/// and cancelling is O(1); firing is too, amortised.
#[derive(Debug)]
pub(crate) struct Timers {
    live: Table<Timer>,
    wheel: Wheel,
    /// How many were live after the last sweep of those whose source had ended.
    live_after_sweep: usize,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { live: Table::new(), wheel: Wheel::new(), live_after_sweep: 0 }
    }

    /// A `period` of zero makes a timer that fires once.
    pub(crate) fn set(&mut self, at: Time, period: Duration, purpose: Purpose) -> TimerId {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let timer = Timer { node: Node::new(), at, purpose, period };
        let key = self.live.insert(timer);
        self.wheel.insert(&mut self.live, key.index() as u32, at);
        TimerId(key)
    }

    pub(crate) fn purpose(&self, timer: TimerId) -> Option<Purpose> {
        self.live.get(timer.0).map(|timer| timer.purpose)
    }

    /// Whether the timer was still to come.
    pub(crate) fn cancel(&mut self, timer: TimerId) -> bool {
        if self.live.get(timer.0).is_none() {
            return false;
        }
        self.wheel.remove(&mut self.live, timer.0.index() as u32);
        self.live.remove(timer.0).is_some()
    }

    /// Moves a timer to another moment, which costs a store if that is later; whether it was still to
    /// come.
    pub(crate) fn rearm(&mut self, timer: TimerId, at: Time) -> bool {
        let Some(entry) = self.live.get_mut(timer.0) else { return false };
        entry.at = at;
        if !entry.node.is_linked() || at < entry.node.at() {
            let index = timer.0.index() as u32;
            self.wheel.remove(&mut self.live, index);
            self.wheel.insert(&mut self.live, index, at);
        }
        true
    }

    /// A moment before which no timer is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.wheel.next()
    }

    /// Takes at most `max` timers that are due at `now`, earliest first, equal ones in the order of
    /// setting. Each is still live, and can be moved or cancelled, until it is [`fire`](Timers::fire)d.
    pub(crate) fn take_due(&mut self, now: Time, max: usize, due: &mut Vec<Key>) {
        self.wheel.take_due(&mut self.live, now, max, |live, index, moment| {
            let (key, timer) = live.entry_at_mut(index);
            if timer.at > moment {
                return timer.at; // put off, and then due in its turn
            }
            due.push(key);
            Time::NEVER
        });
    }

    /// What a timer that was taken is for, and when it was due, unless it was cancelled or moved since.
    /// If it fires once it is live no longer; else it is set for the first moment of its period that is
    /// still to come: what was missed while the loop was busy is left out.
    pub(crate) fn fire(&mut self, key: Key, now: Time) -> Option<(Purpose, Time)> {
        let timer = self.live.get_mut(key)?;
        let (at, purpose, period) = (timer.at, timer.purpose, timer.period);
        if timer.node.is_linked() || at > now {
            return None;
        }
        let late = now.since(at).as_nanos() as u64;
        match late.checked_div(period) {
            None => drop(self.live.remove(key)),
            Some(missed) => {
                timer.at = at + Duration::from_nanos(period.saturating_mul(missed + 1));
                let next = timer.at;
                self.wheel.insert(&mut self.live, key.index() as u32, next);
            }
        }
        Some((purpose, at))
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

    /// Whether there is a timer that fires once.
    #[allow(dead_code, reason = "only a simulation asks")]
    pub(crate) fn any_fires_once(&self) -> bool {
        self.live.iter().any(|(_, timer)| timer.period == 0)
    }

    pub(crate) fn cancel_all(&mut self, is_meant: impl Fn(Purpose) -> bool) {
        let meant = self.live.iter().filter(|(_, timer)| is_meant(timer.purpose));
        let meant: Vec<Key> = meant.map(|(key, _)| key).collect();
        for key in meant {
            self.cancel(TimerId(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONCE: Duration = Duration::ZERO;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// What fires at `now`, as numbers of handlers and moments.
    fn fired(timers: &mut Timers, now: u64, max: usize) -> Vec<(u16, u64)> {
        let mut due = Vec::new();
        timers.take_due(at(now), max, &mut due);
        let fired = due.into_iter().map(|key| match timers.fire(key, at(now)) {
            Some((Purpose::Handler(handler), due)) => (handler, due.as_nanos()),
            other => panic!("{other:?}"),
        });
        fired.collect()
    }

    #[test]
    fn due_timers_come_in_order_of_time_and_equal_ones_in_order_of_setting() {
        let mut timers = Timers::new();
        for handler in 0..1000 {
            timers.set(at(7), ONCE, Purpose::Handler(handler));
        }
        timers.set(at(3), ONCE, Purpose::Handler(1000));
        timers.set(at(8), ONCE, Purpose::Handler(2000));
        let order = fired(&mut timers, 7, usize::MAX);
        assert_eq!(order[0], (1000, 3));
        assert_eq!(order[1..], (0..1000).map(|handler| (handler, 7)).collect::<Vec<_>>());
        assert_eq!(timers.next(), Some(at(8)));
    }

    #[test]
    fn what_is_over_the_most_of_a_turn_fires_in_the_next_one() {
        let mut timers = Timers::new();
        for handler in 0..10 {
            timers.set(at(7), ONCE, Purpose::Handler(handler));
        }
        assert_eq!(fired(&mut timers, 9, 4), [(0, 7), (1, 7), (2, 7), (3, 7)]);
        assert_eq!(timers.next(), Some(at(7)));
        assert_eq!(fired(&mut timers, 9, 100).len(), 6);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_cancelled_timer_neither_fires_nor_keeps_its_place() {
        let mut timers = Timers::new();
        let first = timers.set(at(1), ONCE, Purpose::Handler(1));
        timers.set(at(200), ONCE, Purpose::Handler(2));
        assert!(timers.cancel(first));
        assert!(!timers.cancel(first));
        assert_eq!(timers.next(), Some(at(200)));
        assert_eq!(fired(&mut timers, 1, 9), []);
        assert_eq!(timers.live.len(), 1);
    }

    #[test]
    fn a_timer_can_be_cancelled_or_moved_between_being_due_and_firing() {
        for moved in [false, true] {
            let mut timers = Timers::new();
            let timer = timers.set(at(1), ONCE, Purpose::Handler(1));
            let mut due = Vec::new();
            timers.take_due(at(1), 9, &mut due);
            assert_eq!(due, [timer.0]);
            assert!(if moved { timers.rearm(timer, at(5)) } else { timers.cancel(timer) });
            assert_eq!(timers.fire(timer.0, at(1)), None);
            let later = if moved { vec![(1, 5)] } else { vec![] };
            assert_eq!(fired(&mut timers, 5, 9), later);
            assert!(!timers.rearm(timer, at(9)), "it is no more");
        }
    }

    #[test]
    fn a_periodic_timer_keeps_its_beat_and_leaves_out_what_was_missed() {
        let mut timers = Timers::new();
        let timer = timers.set(at(10), Duration::from_nanos(10), Purpose::Handler(1));
        assert_eq!(fired(&mut timers, 13, 9), [(1, 10)]);
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(fired(&mut timers, 120, 9), [(1, 20)], "once, after ten periods");
        assert_eq!(timers.next(), Some(at(130)), "and not at the moment itself");
        assert!(timers.cancel(timer));
        assert_eq!((timers.next(), timers.live.len()), (None, 0));
        timers.set(at(1000), Duration::MAX, Purpose::Handler(1));
        assert_eq!(fired(&mut timers, 1000, 9), [(1, 1000)]);
        assert_eq!(timers.next(), None, "a period without end");
    }

    #[test]
    fn setting_and_cancelling_for_ever_stays_bounded() {
        let mut timers = Timers::new();
        for _ in 0..100_000 {
            let timer = timers.set(at(1 << 60), ONCE, Purpose::Handler(0));
            assert_eq!(timer.0.index(), 0);
            timers.cancel(timer);
        }
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn timers_of_ended_connections_are_swept_however_many_each_had() {
        for timers_each in [1, 2, 10] {
            let mut timers = Timers::new();
            for i in 0..10_000 {
                for _ in 0..timers_each {
                    timers.set(at(1 << 60), ONCE, Purpose::Connection(Key::new(i, 1)));
                }
                timers.owner_ended(|_| false);
                assert!(timers.live.len() <= 2 * SWEEP_MIN, "{timers_each} each, at {i}");
            }
        }
    }
}
