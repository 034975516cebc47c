//! The first phase: how long to wait, and how.

use std::io;
use std::time::Duration;

use log::trace;

use crate::clock::Time;
use crate::driver::Driver;
use crate::reactor::Reactor;

/// What a reactor does when nothing is left to do; [`Reactor::set_wait`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Wait {
    /// Sleeps in the kernel until something happens.
    #[default]
    Block,
    /// For so long after the last work, looks for more without sleeping; then sleeps. What comes in that
    /// time need not wake the process up, which takes some microseconds; it costs the core, for which
    /// there should be no better use.
    Spin(Duration),
}

/// What the wait of one turn is for.
#[derive(PartialEq, Debug)]
enum Until {
    /// The next event.
    Event,
    /// An event, or so long; rounded up to what the driver can do at no cost.
    Roughly(Duration),
    /// An event, or this moment.
    Exactly(Time),
}

const MILLISECOND: Duration = Duration::from_millis(1);

fn is_whole(duration: Duration) -> bool {
    duration.subsec_nanos().is_multiple_of(MILLISECOND.subsec_nanos())
}

/// When a wait that is rounded up to whole milliseconds would end.
fn rounded_up(at: Time, now: Time) -> Time {
    let wait = at.since(now);
    let nanos = wait.subsec_nanos().next_multiple_of(MILLISECOND.subsec_nanos());
    now + Duration::from_secs(wait.as_secs()) + Duration::from_nanos(nanos.into())
}

impl<D: Driver> Reactor<D> {
    /// How to wait when nothing is left to do: by default, asleep ([`Wait::Block`]).
    ///
    /// # Cost
    ///
    /// While it spins, a turn every microsecond or so, each with one epoll_wait(2) that does not wait.
    pub fn set_wait(&mut self, wait: Wait) {
        self.spin = match wait {
            Wait::Block => Duration::ZERO,
            Wait::Spin(duration) => duration,
        };
    }

    /// How long [`turn`](Self::turn) would wait if no event came: not at all if there is work left or
    /// while it spins, for ever (`None`) if there is nothing to wait for. For a reactor inside another
    /// loop: from this call to the next turn, who posts something makes its descriptor readable.
    pub fn next_wait(&mut self) -> Option<Duration> {
        if self.core.has_work() {
            return Some(Duration::ZERO);
        }
        // From a fresh reading: the turn's own time is as old as its callbacks took.
        let now = self.sockets.driver.now();
        if self.is_spinning(now) {
            return Some(Duration::ZERO);
        }
        if !self.mailroom.fall_asleep() {
            return Some(Duration::ZERO);
        }
        let next = [self.core.timers.next(), self.core.deadlines.next()];
        Some(next.into_iter().flatten().min()?.since(now))
    }

    fn is_spinning(&self, now: Time) -> bool {
        now < self.last_work + self.spin
    }

    /// The turn's first phase.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let is_busy = self.core.has_work();
        let may_wait = !is_busy && timeout != Some(Duration::ZERO);
        let mut now = Time::NEVER;
        if may_wait || self.has_open_turn() {
            // One reading for both: the end of the turn before, and from when to wait.
            now = self.sockets.driver.now();
            self.end_turn(now);
        }
        self.core.has_worked = is_busy;
        let is_spinning = may_wait && self.is_spinning(now);
        let until = match may_wait && !is_spinning {
            true => self.wait_until(now, timeout),
            false => Until::Roughly(Duration::ZERO),
        };
        self.core.stats.turns += 1;
        self.core.stats.spins += u64::from(is_spinning);
        let polled = match until {
            Until::Event => {
                trace!("turn {}: waiting", self.core.stats.turns);
                self.sockets.driver.poll(None)
            }
            Until::Roughly(wait) => {
                self.core.stats.busy_turns += u64::from(wait.is_zero() && !is_spinning);
                trace!("turn {}: waiting for {wait:?}", self.core.stats.turns);
                self.sockets.driver.poll(Some(wait))
            }
            Until::Exactly(at) => {
                trace!("turn {}: waiting for {:?} exactly", self.core.stats.turns, at - now);
                self.sockets.driver.poll_until(now, at)
            }
        };
        self.mailroom.wake_up();
        polled
    }

    /// Timers are told to the nanosecond, and so is a time-out that is not in whole milliseconds. Of
    /// connections' deadlines it is enough that they are not early.
    fn wait_until(&self, now: Time, timeout: Option<Duration>) -> Until {
        if !self.mailroom.fall_asleep() {
            return Until::Roughly(Duration::ZERO);
        }
        let core = &self.core;
        let earliest = |one: Option<Time>, other: Option<Time>| one.into_iter().chain(other).min();
        let exact = timeout.filter(|timeout| !is_whole(*timeout)).map(|timeout| now + timeout);
        let exact = earliest(core.timers.next(), exact);
        let rough = earliest(core.deadlines.next(), timeout.map(|timeout| now + timeout));
        match (earliest(exact, rough), exact) {
            (None, _) => Until::Event,
            (Some(at), _) if at <= now => Until::Roughly(Duration::ZERO),
            // Rounded up, the wait would sleep through it.
            (Some(at), Some(exact)) if exact < rounded_up(at, now) => Until::Exactly(at),
            (Some(at), _) => Until::Roughly(at - now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::core::Source;
    use crate::stream::{Stream, flag::OPEN};
    use crate::timer::Purpose;

    const NOW: Time = Time::from_nanos(1_000);

    fn after(micros: u64) -> Time {
        NOW + Duration::from_micros(micros)
    }

    /// How a reactor with these would wait, in microseconds from now.
    fn wait(timers: &[u64], deadlines: &[u64], timeout: Option<u64>) -> Until {
        let mut reactor = Reactor::new().unwrap();
        let core = &mut reactor.core;
        for timer in timers {
            core.timers.set(after(*timer), Duration::ZERO, Purpose::Handler(0));
        }
        for deadline in deadlines {
            let stream = Stream::new(OPEN, 0, 0, Rc::default());
            let index = core.sources.insert(Source::Stream(stream)).index() as u32;
            core.deadlines.insert(&mut core.sources, index, after(*deadline));
        }
        reactor.wait_until(NOW, timeout.map(Duration::from_micros))
    }

    #[test]
    fn only_timers_and_odd_time_outs_are_waited_for_exactly() {
        let roughly = |micros| Until::Roughly(Duration::from_micros(micros));
        assert_eq!(wait(&[], &[], None), Until::Event);
        assert_eq!(wait(&[], &[5_200], None), roughly(5_200));
        assert_eq!(wait(&[], &[5_200], Some(3_000)), roughly(3_000));
        assert_eq!(wait(&[], &[5_200], Some(9_000)), roughly(5_200));
        assert_eq!(wait(&[], &[5_200], Some(300)), Until::Exactly(after(300)));
        assert_eq!(wait(&[5_500], &[], None), Until::Exactly(after(5_500)));
        assert_eq!(wait(&[5_500], &[], Some(5_000)), roughly(5_000));
        assert_eq!(wait(&[5_500], &[], Some(6_000)), Until::Exactly(after(5_500)));
        assert_eq!(wait(&[0], &[], None), roughly(0));
    }

    #[test]
    fn a_rough_wait_does_not_sleep_through_an_exact_moment() {
        let wait = |timer, deadline| wait(&[timer], &[deadline], None);
        assert_eq!(wait(5_500, 5_200), Until::Exactly(after(5_200)));
        assert_eq!(wait(6_000, 5_200), Until::Roughly(Duration::from_micros(5_200)));
        assert_eq!(wait(5_500, 6_200), Until::Exactly(after(5_500)));
    }

    #[test]
    fn waits_are_rounded_up_to_whole_milliseconds() {
        let now = Time::from_nanos(7);
        let ends = |nanos: u64| rounded_up(now + Duration::from_nanos(nanos), now) - now;
        assert_eq!(ends(0), Duration::ZERO);
        assert_eq!(ends(1), MILLISECOND);
        assert_eq!(ends(1_000_000), MILLISECOND);
        assert_eq!(ends(999_000_001), Duration::from_secs(1));
        assert_eq!(ends(5_000_000_000), Duration::from_secs(5));
        assert_eq!(rounded_up(Time::NEVER, now), Time::NEVER);
        assert!(is_whole(Duration::from_millis(50)) && !is_whole(Duration::from_micros(300)));
    }
}
