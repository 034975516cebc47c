//! Datagrams that wait to be sent.

use std::collections::VecDeque;

use crate::address::SocketAddress;

/// A memory that an empty queue keeps, so that an echo allocates nothing.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A queue of datagrams, whose bytes lie one behind the other.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The bytes of all that wait; those before `start` were sent.
    data: Vec<u8>,
    start: usize,
    /// Whom each is for, and how many bytes it has.
    queue: VecDeque<(Option<SocketAddress>, usize)>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len() - self.start
    }

    /// Whether one more of so many bytes fits. Into an empty queue everything does: what is too large for the
    /// network, the kernel says.
    pub(super) fn has_room(&self, bytes: usize, len_max: usize, bytes_max: usize) -> bool {
        self.is_empty() || self.len() < len_max && self.bytes().saturating_add(bytes) <= bytes_max
    }

    pub(super) fn push(&mut self, to: Option<&SocketAddress>, data: &[u8]) {
        self.data.extend_from_slice(data);
        self.queue.push_back((to.cloned(), data.len()));
    }

    pub(super) fn front(&self) -> Option<(Option<&SocketAddress>, &[u8])> {
        let (to, length) = self.queue.front()?;
        Some((to.as_ref(), &self.data[self.start..self.start + length]))
    }

    /// Takes the front off: whom it was for, and how many bytes it had.
    pub(super) fn pop(&mut self) -> Option<(Option<SocketAddress>, usize)> {
        let (to, length) = self.queue.pop_front()?;
        self.start += length;
        if self.queue.is_empty() {
            self.data.clear();
            self.start = 0;
            if self.data.capacity() > KEPT_BYTES_MAX {
                *self = Outbox::default();
            }
        } else if 2 * self.start > self.data.len() {
            // Each byte is moved once at most for one that was sent.
            self.data.drain(..self.start);
            self.start = 0;
        }
        Some((to, length))
    }

    pub(super) fn verify(&self) {
        let bytes: usize = self.queue.iter().map(|(_, length)| length).sum();
        assert_eq!(bytes, self.bytes(), "every byte is of a datagram");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random;

    /// Random pushes and pops against a plain queue of vectors.
    #[test]
    fn datagrams_come_out_whole_and_in_order() {
        let (mut outbox, mut model) = (Outbox::default(), VecDeque::new());
        let mut state = 1;
        for step in 0..20_000_u32 {
            let roll = random(&mut state);
            if roll.is_multiple_of(2) && model.len() < 100 {
                let data = vec![step as u8; (roll >> 8) as usize % 2000];
                let to = roll.is_multiple_of(3).then_some(SocketAddress::Unnamed);
                outbox.push(to.as_ref(), &data);
                model.push_back((to, data));
            } else {
                let expected = model.pop_front();
                let front = outbox.front().map(|(to, data)| (to.cloned(), data.to_vec()));
                assert_eq!(front, expected, "step {step}");
                let popped = outbox.pop();
                assert_eq!(popped, expected.map(|(to, data)| (to, data.len())));
            }
            outbox.verify();
            assert_eq!(outbox.len(), model.len());
            assert!(!outbox.is_empty() || outbox.data.capacity() <= KEPT_BYTES_MAX);
        }
    }

    #[test]
    fn a_queue_has_room_by_number_and_by_bytes_and_an_empty_one_always() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(100, 2, 10), "the kernel says what is too large");
        outbox.push(None, b"");
        assert!(outbox.has_room(10, 2, 10) && !outbox.has_room(11, 2, 10));
        outbox.push(None, b"123");
        assert!(!outbox.has_room(0, 2, 10));
        assert!(outbox.has_room(7, 3, 10) && !outbox.has_room(8, 3, 10));
    }
}
