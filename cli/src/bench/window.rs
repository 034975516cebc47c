//! The datagrams of one client that are on their way, and what became of the last ones.

use std::collections::VecDeque;

use serde::Serialize;

/// A datagram that so many later ones of its client have overtaken is lost.
const OVERTAKEN_MAX: u64 = 256;

/// So many of the lost ones are remembered after that, the last ones.
const LOST_MAX: usize = 256;

/// Datagrams, and what became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Datagrams {
    pub(crate) sent: u64,
    /// All that came, of whatever kind.
    pub(crate) received: u64,
    /// Those that were not back in time.
    pub(crate) lost: u64,
    /// Those of the lost that came after all.
    pub(crate) late: u64,
    /// Those that came back more than once, or so late that it was forgotten that they were lost.
    pub(crate) duplicated: u64,
    /// Those that were overtaken by one that was sent later.
    pub(crate) out_of_order: u64,
    /// Those that were not what was sent.
    pub(crate) bad: u64,
}

impl Datagrams {
    /// All together; `None` of none.
    pub(crate) fn sum(all: impl Iterator<Item = Datagrams>) -> Option<Datagrams> {
        all.reduce(|a, b| Datagrams {
            sent: a.sent + b.sent,
            received: a.received + b.received,
            lost: a.lost + b.lost,
            late: a.late + b.late,
            duplicated: a.duplicated + b.duplicated,
            out_of_order: a.out_of_order + b.out_of_order,
            bad: a.bad + b.bad,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Back,
    Lost,
}

/// What a datagram is that came back whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// One that was waited for.
    InTime { sent_at: u64, is_overtaken: bool },
    /// One that had been given up.
    Late,
    /// One that had come before, or was lost so long ago that nobody remembers.
    Again,
}

/// What it remembers is bounded by how many may be on their way.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// When the last ones were sent, oldest first, and their states.
    last: VecDeque<(u64, State)>,
    /// The numbers of older ones that were lost and have not come, in ascending order.
    lost: VecDeque<u64>,
    /// The number of the next one.
    next: u64,
    /// The lowest number that may be waited for.
    oldest: u64,
    /// One more than the highest number that came back.
    highest: u64,
    in_flight: u64,
}

impl Window {
    /// How many were sent, which is the number of the next one.
    pub(super) fn sent(&self) -> u64 {
        self.next
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// One more is sent, of at most `in_flight_max`: its number, and how many are lost because it overtakes
    /// them.
    pub(super) fn send(&mut self, now: u64, in_flight_max: u64) -> (u64, u64) {
        let mut lost = 0;
        while self.last.len() as u64 >= in_flight_max + OVERTAKEN_MAX {
            let number = self.first();
            let Some((_, state)) = self.last.pop_front() else { break };
            lost += u64::from(state == State::Waiting);
            if state != State::Back {
                self.lost.push_back(number);
            }
        }
        let forgotten = self.lost.len().saturating_sub(LOST_MAX);
        self.lost.drain(..forgotten);
        self.in_flight += 1;
        self.in_flight -= lost;
        self.last.push_back((now, State::Waiting));
        self.next += 1;
        (self.next - 1, lost)
    }

    /// One of those that were sent came back.
    pub(super) fn take(&mut self, number: u64) -> Arrival {
        debug_assert!(number < self.next);
        let first = self.first();
        let Some((sent_at, state)) = number.checked_sub(first).map(|i| &mut self.last[i as usize])
        else {
            return match self.lost.binary_search(&number) {
                Ok(index) => {
                    self.lost.remove(index);
                    Arrival::Late
                }
                Err(_) => Arrival::Again,
            };
        };
        match std::mem::replace(state, State::Back) {
            State::Waiting => {
                let is_overtaken = number < self.highest;
                self.highest = self.highest.max(number + 1);
                self.in_flight -= 1;
                Arrival::InTime { sent_at: *sent_at, is_overtaken }
            }
            State::Lost => Arrival::Late,
            State::Back => Arrival::Again,
        }
    }

    /// Gives those up that were sent before: how many.
    pub(super) fn give_up(&mut self, sent_before: u64) -> u64 {
        let first = self.first();
        self.oldest = self.oldest.max(first);
        let mut lost = 0;
        while let Some((sent_at, state)) = self.last.get_mut((self.oldest - first) as usize) {
            if *state == State::Waiting {
                if *sent_at >= sent_before {
                    break;
                }
                *state = State::Lost;
                lost += 1;
            }
            self.oldest += 1;
        }
        self.in_flight -= lost;
        lost
    }

    /// The lowest number that is remembered.
    fn first(&self) -> u64 {
        self.next - self.last.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_TIME: fn(u64) -> Arrival = |sent_at| Arrival::InTime { sent_at, is_overtaken: false };

    #[test]
    fn what_comes_back_is_told_apart() {
        let mut window = Window::default();
        for now in 10..14 {
            assert_eq!(window.send(now, 4), (now - 10, 0));
        }
        assert_eq!(window.take(1), IN_TIME(11));
        assert_eq!(window.take(1), Arrival::Again);
        assert_eq!(window.take(0), Arrival::InTime { sent_at: 10, is_overtaken: true });
        assert_eq!(window.in_flight(), 2);
        assert_eq!(window.give_up(13), 1);
        assert_eq!(window.give_up(13), 0);
        assert_eq!(window.take(2), Arrival::Late);
        assert_eq!(window.take(2), Arrival::Again);
        assert_eq!(window.take(3), IN_TIME(13));
        assert_eq!(window.in_flight(), 0);
    }

    #[test]
    fn one_that_all_overtake_is_lost_and_late_when_it_comes() {
        let mut window = Window::default();
        assert_eq!(window.send(0, 2), (0, 0));
        let mut lost = 0;
        for number in 1..10_000 {
            let (sent, more) = window.send(number, 2);
            assert_eq!(sent, number);
            lost += more;
            assert_eq!(window.take(number), IN_TIME(number));
        }
        assert_eq!((lost, window.in_flight()), (1, 0));
        assert!(window.last.len() as u64 <= 2 + OVERTAKEN_MAX);
        assert_eq!(window.take(0), Arrival::Late);
        assert_eq!(window.take(0), Arrival::Again);
        assert_eq!(window.take(1), Arrival::Again);
        assert_eq!(window.give_up(u64::MAX), 0);
    }

    #[test]
    fn of_many_that_are_lost_the_last_ones_are_remembered() {
        let mut window = Window::default();
        for now in 0..2_000 {
            window.send(now, 1);
            window.give_up(u64::MAX);
        }
        // The last 257 are in the window, and before them are those that are remembered.
        let oldest = 2_000 - 257 - LOST_MAX as u64;
        assert_eq!(window.lost.len(), LOST_MAX);
        assert_eq!(window.take(oldest), Arrival::Late);
        assert_eq!(window.take(oldest - 1), Arrival::Again);
    }

    /// Random sends, returns and losses: every datagram is in exactly one state.
    #[test]
    fn nothing_is_counted_twice() {
        let mut window = Window::default();
        let (mut sent, mut back, mut lost) = (0, 0, 0);
        let mut state = 7_u64;
        for now in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let roll = state >> 33;
            if window.in_flight() < 16 {
                lost += window.send(now, 16).1;
                sent += 1;
            }
            if roll.is_multiple_of(3) {
                let number = sent - 1 - (roll >> 8) % sent.min(40);
                back += u64::from(matches!(window.take(number), Arrival::InTime { .. }));
            }
            if roll.is_multiple_of(5) {
                lost += window.give_up(now.saturating_sub(roll % 500));
            }
            assert_eq!(sent, back + lost + window.in_flight());
        }
        assert!(back > 1_000 && lost > 1_000, "{back} back, {lost} lost");
    }
}
