//! Datagrams that wait to be sent.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::aside::Aside;
use crate::address::SocketAddress;
use crate::clock::Time;
use crate::driver::Batch;

/// A memory that an empty queue keeps, so that an echo allocates nothing.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Where a datagram leaves from and whom it is for, where that is said, and how many bytes it has.
type Waiting = (Option<IpAddr>, Option<SocketAddress>, usize);

/// A queue of datagrams, whose bytes lie one behind the other; and those that stand aside for a while, so that
/// others can pass.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The bytes of all that wait; those before `start` were sent.
    data: Vec<u8>,
    start: usize,
    queue: VecDeque<Waiting>,
    pub(super) aside: Aside,
}

impl Outbox {
    /// Whether nothing waits for its turn; some may stand aside.
    pub(super) fn queue_is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are, with those that stand aside.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.aside.len()
    }

    /// How many bytes all of them have.
    pub(super) fn bytes(&self) -> usize {
        self.queue_bytes() + self.aside.bytes()
    }

    fn queue_bytes(&self) -> usize {
        self.data.len() - self.start
    }

    /// Whether one more of so many bytes fits. Into an empty queue everything does: what is too large for the
    /// network, the kernel says.
    pub(super) fn has_room(&self, bytes: usize, len_max: usize, bytes_max: usize) -> bool {
        has_room_beside(self.len(), self.bytes(), bytes, len_max, bytes_max)
    }

    /// Whether it fits if some of those are dropped that stand aside and may be, for one to this receiver.
    pub(super) fn can_make_room(
        &self,
        to: Option<&SocketAddress>,
        bytes: usize,
        len_max: usize,
        bytes_max: usize,
    ) -> bool {
        let (mut len, mut bytes_left) = (self.len(), self.bytes());
        self.aside.droppable(to).any(|length| {
            len -= 1;
            bytes_left -= length;
            has_room_beside(len, bytes_left, bytes, len_max, bytes_max)
        })
    }

    pub(super) fn push(&mut self, from: Option<IpAddr>, to: Option<&SocketAddress>, data: &[u8]) {
        self.data.extend_from_slice(data);
        self.queue.push_back((from, to.cloned(), data.len()));
    }

    pub(super) fn front(&self) -> Option<(Option<IpAddr>, Option<&SocketAddress>, &[u8])> {
        let (from, to, length) = self.queue.front()?;
        Some((*from, to.as_ref(), &self.data[self.start..self.start + length]))
    }

    /// The front, and those behind it for the same receiver and of the same length, `len_max` of them and `bytes_max`
    /// bytes at most.
    pub(super) fn front_batch(&self, len_max: usize, bytes_max: usize) -> Option<Batch<'_>> {
        let front @ (from, to, length) = self.queue.front()?;
        // Of empty ones nobody could tell how many there are.
        let fit = bytes_max.checked_div(*length).unwrap_or(1).min(len_max);
        let others = self.queue.iter().take(fit).skip(1);
        let count = 1 + others.take_while(|next| *next == front).count();
        let data = &self.data[self.start..self.start + count * length];
        Some(Batch { from: *from, to: to.as_ref(), data, length: *length })
    }

    /// Takes the front off: whom it was for, and how many bytes it had.
    pub(super) fn pop(&mut self) -> Option<(Option<SocketAddress>, usize)> {
        let (_, to, length) = self.queue.pop_front()?;
        self.start += length;
        if self.queue.is_empty() {
            self.data.clear();
            self.start = 0;
            if self.data.capacity() > KEPT_BYTES_MAX {
                (self.data, self.queue) = Default::default();
            }
        } else if 2 * self.start > self.data.len() {
            // Each byte is moved once at most for one that was sent.
            self.data.drain(..self.start);
            self.start = 0;
        }
        Some((to, length))
    }

    /// Whether the front has to stand aside, because others to the same receiver do.
    pub(super) fn is_front_behind_aside(&self) -> bool {
        // One that is to leave from an address cannot, which the kernel is left to say.
        matches!(self.queue.front(), Some((None, Some(to), _)) if self.aside.is_for(to))
    }

    /// The front stands aside, `until` then at most; it has an address, and as one of a Unix socket no other to leave
    /// from.
    pub(super) fn put_front_aside(&mut self, now: Time, until: Time) {
        let Some((None, Some(to), data)) = self.front() else { return };
        let (to, data) = (to.clone(), data.into());
        self.pop();
        self.aside.push(to, data, now, until);
    }

    pub(super) fn verify(&self) {
        let bytes: usize = self.queue.iter().map(|(_, _, length)| length).sum();
        assert_eq!(bytes, self.queue_bytes(), "every byte is of a datagram");
        self.aside.verify();
    }
}

/// Whether one of so many bytes fits beside so many others with their bytes.
fn has_room_beside(
    len: usize,
    others_bytes: usize,
    bytes: usize,
    len_max: usize,
    bytes_max: usize,
) -> bool {
    len == 0 || len < len_max && others_bytes.saturating_add(bytes) <= bytes_max
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
                let from = roll.is_multiple_of(5).then_some(Ipv4Addr::from_bits(step).into());
                outbox.push(from, to.as_ref(), &data);
                model.push_back((from, to, data));
            } else {
                let expected = model.pop_front();
                let front =
                    outbox.front().map(|(from, to, data)| (from, to.cloned(), data.to_vec()));
                assert_eq!(front, expected, "step {step}");
                let popped = outbox.pop();
                assert_eq!(popped, expected.map(|(_, to, data)| (to, data.len())));
            }
            outbox.verify();
            assert_eq!(outbox.len(), model.len());
            assert!(!outbox.is_empty() || outbox.data.capacity() <= KEPT_BYTES_MAX);
        }
    }

    #[test]
    fn a_batch_is_of_neighbours_that_are_alike() {
        let (to, mut outbox) = (SocketAddress::Unnamed, Outbox::default());
        let here = Some(Ipv4Addr::LOCALHOST.into());
        let front = |outbox: &Outbox, len_max, bytes_max| {
            let batch = outbox.front_batch(len_max, bytes_max)?;
            Some((batch.data.to_vec(), batch.len()))
        };
        assert_eq!(front(&outbox, 9, 9), None);
        for data in [b"12", b"34", b"56"] {
            outbox.push(None, None, data);
        }
        outbox.push(None, None, b"7");
        assert_eq!(front(&outbox, 9, 9), Some((b"123456".to_vec(), 3)));
        assert_eq!(front(&outbox, 2, 9), Some((b"1234".to_vec(), 2)), "so many");
        assert_eq!(front(&outbox, 9, 5), Some((b"1234".to_vec(), 2)), "so many bytes");
        assert_eq!(front(&outbox, 9, 1), Some((b"12".to_vec(), 1)), "one in any case");
        outbox.push(None, Some(&to), b"8");
        outbox.push(here, Some(&to), b"9");
        for _ in 0..3 {
            outbox.pop();
        }
        assert_eq!(front(&outbox, 9, 9), Some((b"7".to_vec(), 1)), "for somebody else");
        outbox.pop();
        assert_eq!(front(&outbox, 9, 9), Some((b"8".to_vec(), 1)), "from somewhere else");
        outbox.pop();
        outbox.pop();
        outbox.push(None, None, b"");
        outbox.push(None, None, b"");
        assert_eq!(front(&outbox, 9, 9), Some((Vec::new(), 1)));
    }

    #[test]
    fn who_stands_aside_keeps_its_order_and_its_place_in_the_count() {
        let name = crate::address::UnixName::from_abstract("one").unwrap();
        let (one, other) = (SocketAddress::Unix(name), SocketAddress::Unnamed);
        let mut outbox = Outbox::default();
        for (to, data) in [(&one, b"1"), (&other, b"2"), (&one, b"3")] {
            outbox.push(None, Some(to), data);
        }
        outbox.put_front_aside(Time::from_nanos(0), Time::from_nanos(7));
        assert!(!outbox.is_front_behind_aside());
        assert_eq!(outbox.pop(), Some((Some(other), 1)));
        assert!(outbox.is_front_behind_aside());
        outbox.put_front_aside(Time::from_nanos(1), Time::from_nanos(8));
        assert_eq!((outbox.queue_is_empty(), outbox.len(), outbox.bytes()), (true, 2, 2));
        outbox.verify();
        for data in [b"1", b"3"] {
            assert_eq!(outbox.aside.first(0).map(|batch| batch.data), Some(&data[..]));
            assert_eq!(outbox.aside.take(0), Some((one.clone(), 1)));
        }
        assert_eq!((outbox.len(), outbox.bytes()), (0, 0));
    }

    #[test]
    fn a_queue_has_room_by_number_and_by_bytes_and_an_empty_one_always() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(100, 2, 10), "the kernel says what is too large");
        outbox.push(None, None, b"");
        assert!(outbox.has_room(10, 2, 10) && !outbox.has_room(11, 2, 10));
        outbox.push(None, None, b"123");
        assert!(!outbox.has_room(0, 2, 10));
        assert!(outbox.has_room(7, 3, 10) && !outbox.has_room(8, 3, 10));
    }
}
