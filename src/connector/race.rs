//! In which order, and when, the addresses of one server are tried: Happy Eyeballs (RFC 8305).
//!
//! It knows no socket and no clock: it is told the time, and what became of those that it had begun.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Time;
use crate::error::ConnectError;
use crate::key::Key;

/// How long the newest one has before the next one begins beside it (RFC 8305, 5 and 8: the recommended
/// value).
const DELAY: Duration = Duration::from_millis(250);

/// So many descriptors one connection takes at most before it is open; the next address waits until one of
/// them has failed.
const RUNNING_MAX: usize = 8;

/// Who has more addresses than that is not found by trying one after another.
const ADDRESSES_MAX: usize = 64;

/// Addresses that are tried beside each other, until one answers.
#[derive(Debug)]
pub(crate) struct Race {
    /// Those that are to come, in their order.
    waiting: VecDeque<SocketAddr>,
    /// Those that are under way.
    running: Vec<Key>,
    /// When the next one may begin beside another.
    next_at: Time,
    /// Before that none can begin.
    not_before: Time,
    /// The most telling reason of those that have failed.
    error: Option<ConnectError>,
}

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Begin with this address, and tell whether that [began](Race::began), [failed](Race::failed), or is to be
    /// [put off](Race::put_off).
    Begin(SocketAddr),
    /// Nothing before that moment, unless one of them comes to its end.
    WaitUntil(Time),
    /// Nothing before one of them comes to its end.
    Wait,
    /// All of them have failed.
    Failed(ConnectError),
}

impl Race {
    /// Between these, of which the first is the best. The families take turns, beginning with that of the
    /// first; within a family the order stays (RFC 8305, 4).
    pub(crate) fn new(addresses: &[SocketAddr]) -> Race {
        let mut rest: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            if !rest.contains(address) && rest.len() < ADDRESSES_MAX {
                rest.push(*address);
            }
        }
        let first = rest.first().copied();
        let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) =
            rest.into_iter().partition(|one| first.is_some_and(|of| of.is_ipv4() == one.is_ipv4()));
        let mut waiting = VecDeque::new();
        while !ours.is_empty() || !others.is_empty() {
            waiting.extend(ours.pop_front());
            waiting.extend(others.pop_front());
        }
        Race {
            waiting,
            running: Vec::new(),
            next_at: Time::from_nanos(0),
            not_before: Time::from_nanos(0),
            error: None,
        }
    }

    /// What is to be done at `now`. To be asked again after each that began or failed, and at the moment that
    /// it gave.
    pub(crate) fn step(&mut self, now: Time) -> Step {
        if self.waiting.is_empty() && self.running.is_empty() {
            // Without an address nobody was asked.
            return Step::Failed(self.error.unwrap_or(ConnectError::Unreachable));
        }
        if self.waiting.is_empty() || self.running.len() >= RUNNING_MAX {
            return Step::Wait;
        }
        let next_at = if self.running.is_empty() { Time::from_nanos(0) } else { self.next_at };
        let next_at = next_at.max(self.not_before);
        if now < next_at {
            return Step::WaitUntil(next_at);
        }
        self.next_at = now + DELAY;
        self.waiting.pop_front().map_or(Step::Wait, Step::Begin)
    }

    /// The one that was to begin is under way, as `key`.
    pub(crate) fn began(&mut self, key: Key) {
        self.running.push(key);
    }

    /// The one that was to begin, with this address, cannot before `at`.
    pub(crate) fn put_off(&mut self, address: SocketAddr, at: Time) {
        self.waiting.push_front(address);
        self.not_before = at;
    }

    /// The one that was to begin has failed, or the one under way as `key`. Nobody waits for the next one any
    /// longer.
    pub(crate) fn failed(&mut self, key: Option<Key>, error: ConnectError) {
        self.running.retain(|one| Some(*one) != key);
        self.next_at = Time::from_nanos(0);
        if self.error.is_none_or(|before| telling(error) >= telling(before)) {
            self.error = Some(error);
        }
    }

    /// Those that are under way.
    pub(crate) fn running(&self) -> &[Key] {
        &self.running
    }
}

/// How much a reason says about the server, and not about the way there: where one family has no route at
/// all, what the other one met is of interest.
fn telling(error: ConnectError) -> u8 {
    match error {
        ConnectError::Refused => 3,
        ConnectError::TimedOut => 2,
        ConnectError::Unreachable | ConnectError::AddressUnavailable => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 7000))
    }

    fn v6(number: u16) -> SocketAddr {
        SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, number], 7000))
    }

    /// So many milliseconds after the start.
    fn at(millis: u64) -> Time {
        Time::from_nanos(1_000_000_000) + Duration::from_millis(millis)
    }

    fn key(number: u32) -> Key {
        Key::new(number, 1)
    }

    /// All of them, when each fails at once.
    fn order(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut race = Race::new(addresses);
        let mut order = Vec::new();
        while let Step::Begin(address) = race.step(at(0)) {
            order.push(address);
            race.failed(None, ConnectError::Refused);
        }
        order
    }

    #[test]
    fn families_take_turns_and_each_keeps_its_order() {
        assert_eq!(
            order(&[v6(1), v6(2), v6(3), v4(1), v4(2)]),
            [v6(1), v4(1), v6(2), v4(2), v6(3)]
        );
        assert_eq!(order(&[v4(1), v4(2), v6(1)]), [v4(1), v6(1), v4(2)]);
        assert_eq!(order(&[v4(2), v4(1)]), [v4(2), v4(1)]);
    }

    #[test]
    fn an_address_is_tried_once_and_there_is_a_most() {
        assert_eq!(order(&[v4(1), v4(1), v6(1), v4(1)]), [v4(1), v6(1)]);
        let many: Vec<SocketAddr> = (0..200).map(v4).collect();
        assert_eq!(order(&many).len(), ADDRESSES_MAX);
    }

    #[test]
    fn the_next_one_begins_when_the_one_before_has_had_its_time() {
        let mut race = Race::new(&[v6(1), v4(1), v6(2)]);
        assert_eq!(race.step(at(0)), Step::Begin(v6(1)));
        race.began(key(1));
        assert_eq!(race.step(at(0)), Step::WaitUntil(at(250)));
        assert_eq!(race.step(at(249)), Step::WaitUntil(at(250)));
        assert_eq!(race.step(at(260)), Step::Begin(v4(1)));
        race.began(key(2));
        assert_eq!(race.step(at(260)), Step::WaitUntil(at(510)), "late ones do not bunch");
        assert_eq!(race.step(at(510)), Step::Begin(v6(2)));
        race.began(key(3));
        assert_eq!(race.step(at(5000)), Step::Wait);
        assert_eq!(race.running(), [key(1), key(2), key(3)]);
    }

    #[test]
    fn one_that_failed_is_followed_at_once() {
        let mut race = Race::new(&[v6(1), v4(1), v6(2)]);
        assert_eq!(race.step(at(0)), Step::Begin(v6(1)));
        race.began(key(1));
        race.failed(Some(key(1)), ConnectError::Refused);
        assert_eq!(race.step(at(1)), Step::Begin(v4(1)));
        race.began(key(2));
        assert_eq!(race.step(at(2)), Step::WaitUntil(at(251)));
        race.failed(Some(key(2)), ConnectError::Refused);
        assert_eq!(race.step(at(3)), Step::Begin(v6(2)));
    }

    #[test]
    fn one_that_failed_is_followed_at_once_also_while_another_goes_on() {
        let mut race = Race::new(&[v6(1), v4(1), v6(2)]);
        assert_eq!(race.step(at(0)), Step::Begin(v6(1)));
        race.began(key(1));
        assert_eq!(race.step(at(250)), Step::Begin(v4(1)));
        race.failed(None, ConnectError::Refused);
        assert_eq!(race.step(at(250)), Step::Begin(v6(2)));
    }

    #[test]
    fn one_that_cannot_begin_yet_is_the_next_one_later() {
        let mut race = Race::new(&[v6(1), v4(1)]);
        assert_eq!(race.step(at(0)), Step::Begin(v6(1)));
        race.put_off(v6(1), at(2));
        assert_eq!(race.step(at(0)), Step::WaitUntil(at(2)), "and does not spin");
        assert_eq!(race.step(at(2)), Step::Begin(v6(1)));
        race.began(key(1));
        assert_eq!(race.step(at(252)), Step::Begin(v4(1)));
        race.put_off(v4(1), at(260));
        race.failed(Some(key(1)), ConnectError::Refused);
        assert_eq!(race.step(at(253)), Step::WaitUntil(at(260)));
    }

    #[test]
    fn it_is_over_when_the_last_one_has_failed_and_not_before() {
        let mut race = Race::new(&[v6(1), v4(1)]);
        assert_eq!(race.step(at(0)), Step::Begin(v6(1)));
        race.began(key(1));
        assert_eq!(race.step(at(250)), Step::Begin(v4(1)));
        race.failed(None, ConnectError::Unreachable);
        assert_eq!(race.step(at(250)), Step::Wait);
        race.failed(Some(key(1)), ConnectError::TimedOut);
        assert_eq!(race.step(at(900)), Step::Failed(ConnectError::TimedOut));
    }

    #[test]
    fn no_more_than_so_many_are_under_way_at_once() {
        let many: Vec<SocketAddr> = (0..20).map(v4).collect();
        let mut race = Race::new(&many);
        let mut begun = 0;
        for second in 0..100 {
            if let Step::Begin(_) = race.step(at(second * 1000)) {
                race.began(key(begun));
                begun += 1;
            }
        }
        assert_eq!(begun as usize, RUNNING_MAX);
        race.failed(Some(key(3)), ConnectError::Refused);
        assert_eq!(race.step(at(100_000)), Step::Begin(v4(8)));
    }

    #[test]
    fn what_a_host_answered_is_told_rather_than_that_there_is_no_way_to_another() {
        use ConnectError::*;
        for (errors, told) in [
            ([Refused, Unreachable], Refused),
            ([Unreachable, Refused], Refused),
            ([TimedOut, Unreachable], TimedOut),
            ([Refused, TimedOut], Refused),
            ([Denied, Unreachable], Denied),
            ([Denied, SelfConnected], SelfConnected),
            ([Unreachable, AddressUnavailable], AddressUnavailable),
        ] {
            let mut race = Race::new(&[v6(1), v4(1)]);
            for error in errors {
                assert!(matches!(race.step(at(0)), Step::Begin(_)));
                race.failed(None, error);
            }
            assert_eq!(race.step(at(0)), Step::Failed(told), "{errors:?}");
        }
    }
}
