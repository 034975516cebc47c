//! Datagrams that stand aside, because their receivers had no room, so that others can pass.

use std::collections::VecDeque;
use std::time::Duration;

use crate::address::SocketAddress;
use crate::clock::Time;
use crate::driver::Batch;

/// When a receiver that a Unix socket names has no room, nothing tells when it has: it is tried again after so long,
/// then after twice that, and so on.
const RETRY_FIRST: Duration = Duration::from_millis(1);
const RETRY_MAX: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Held {
    data: Box<[u8]>,
    /// When it has stood aside for long enough.
    until: Time,
}

/// Those to one receiver.
#[derive(Debug)]
struct Receiver {
    to: SocketAddress,
    /// In the order in which they were given, which is also that of their times; never none.
    held: VecDeque<Held>,
    /// When the first of them is tried again, ...
    retry_at: Time,
    /// ... which is so long after it was tried last, or sooner.
    wait: Duration,
    /// Its place among those that are tried before others come: the lowest is next.
    turn: u64,
}

/// All that stand aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    receivers: Vec<Receiver>,
    /// So many turns were given.
    turns: u64,
    len: usize,
    bytes: usize,
}

impl Aside {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many datagrams there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some stand aside that are for this receiver.
    pub(super) fn is_for(&self, to: &SocketAddress) -> bool {
        self.receivers.iter().any(|receiver| receiver.to == *to)
    }

    /// One more, behind those to the same receiver.
    pub(super) fn push(&mut self, to: SocketAddress, data: Box<[u8]>, now: Time, until: Time) {
        self.len += 1;
        self.bytes += data.len();
        let held = Held { data, until };
        match self.receivers.iter_mut().find(|receiver| receiver.to == to) {
            Some(receiver) => receiver.held.push_back(held),
            None => self.receivers.push(Receiver {
                to,
                held: VecDeque::from([held]),
                retry_at: now + RETRY_FIRST,
                wait: RETRY_FIRST,
                turn: self.turns,
            }),
        }
        self.turns += 1;
    }

    /// When the first receiver is to be tried again.
    pub(super) fn retry_at(&self) -> Option<Time> {
        self.receivers.iter().map(|receiver| receiver.retry_at).min()
    }

    /// All receivers are to be tried again.
    pub(super) fn retry_all(&mut self, now: Time) {
        for receiver in &mut self.receivers {
            receiver.retry_at = receiver.retry_at.min(now);
        }
    }

    /// The receiver whose turn is next is to be tried now, and has had its turn with that if this `is_turn`; whether there
    /// is one.
    pub(super) fn retry_next(&mut self, now: Time, is_turn: bool) -> bool {
        let next = self.receivers.iter_mut().min_by_key(|receiver| receiver.turn);
        let Some(next) = next else { return false };
        next.retry_at = next.retry_at.min(now);
        if is_turn {
            next.turn = self.turns;
            self.turns += 1;
        }
        true
    }

    /// A receiver that is to be tried again: its number, which it has until one is taken.
    pub(super) fn due(&self, now: Time) -> Option<usize> {
        self.receivers.iter().position(|receiver| receiver.retry_at <= now)
    }

    /// The first datagram to a receiver.
    pub(super) fn first(&self, receiver: usize) -> Option<Batch<'_>> {
        let Receiver { to, held, .. } = self.receivers.get(receiver)?;
        let data = &held.front()?.data;
        Some(Batch { from: None, to: Some(to), data, length: data.len() })
    }

    /// Takes the first datagram to a receiver: whom it was for, and how many bytes it had. Those behind it are tried at
    /// once.
    pub(super) fn take(&mut self, receiver: usize) -> Option<(SocketAddress, usize)> {
        let one = self.receivers.get_mut(receiver)?;
        let data = one.held.pop_front()?.data;
        one.wait = RETRY_FIRST;
        self.len -= 1;
        self.bytes -= data.len();
        let to = match one.held.is_empty() {
            true => self.receivers.swap_remove(receiver).to,
            false => one.to.clone(),
        };
        Some((to, data.len()))
    }

    /// A receiver had no room again: takes those to it that have stood aside for long enough, `max` of them at most.
    /// Whom they were for, how many there were, and how many bytes they had.
    pub(super) fn take_late(
        &mut self,
        receiver: usize,
        now: Time,
        max: usize,
    ) -> Option<(SocketAddress, usize, usize)> {
        let one = self.receivers.get_mut(receiver)?;
        let late = one.held.iter().take(max).take_while(|held| held.until <= now).count();
        let bytes = one.held.drain(..late).map(|held| held.data.len()).sum();
        self.len -= late;
        self.bytes -= bytes;
        let to = one.to.clone();
        if one.held.is_empty() {
            self.receivers.swap_remove(receiver);
        } else if one.held[0].until > now {
            one.wait = (2 * one.wait).min(RETRY_MAX);
            one.retry_at = now + one.wait;
        }
        Some((to, late, bytes))
    }

    /// How many bytes those have, in any order, that make room for one to this receiver: all that have stood aside for as
    /// long as the first one to it.
    pub(super) fn droppable(&self, to: Option<&SocketAddress>) -> impl Iterator<Item = usize> {
        let is_own = move |receiver: &&Receiver| Some(&receiver.to) == to;
        let own = self.receivers.iter().find(is_own);
        let until = own.map_or(Time::NEVER, |own| own.held[0].until);
        let others = self.receivers.iter().filter(move |receiver| !is_own(receiver));
        others
            .flat_map(move |other| other.held.iter().take_while(move |held| held.until <= until))
            .map(|held| held.data.len())
    }

    /// Takes the one that has stood aside for the longest, unless it is for this receiver: whom it was for, and how many
    /// bytes it had.
    pub(super) fn take_oldest(
        &mut self,
        but_to: Option<&SocketAddress>,
    ) -> Option<(SocketAddress, usize)> {
        let receivers = self.receivers.iter().enumerate();
        let (number, oldest) = receivers
            .min_by_key(|(_, receiver)| (receiver.held[0].until, Some(&receiver.to) == but_to))?;
        if Some(&oldest.to) == but_to {
            return None;
        }
        self.take(number)
    }

    pub(super) fn verify(&self) {
        let len: usize = self.receivers.iter().map(|receiver| receiver.held.len()).sum();
        let all = self.receivers.iter().flat_map(|receiver| &receiver.held);
        let bytes: usize = all.map(|held| held.data.len()).sum();
        assert_eq!(
            (len, bytes),
            (self.len, self.bytes),
            "every byte that is held is of a datagram"
        );
        for receiver in &self.receivers {
            assert!(!receiver.held.is_empty(), "held for nobody");
            assert!(receiver.held.iter().is_sorted_by_key(|held| held.until), "held in order");
        }
    }
}
