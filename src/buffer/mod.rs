//! What a connection owns while it has a partial message or unsent output, and only then.

mod output;
mod pool;

use crate::clock::Time;

pub(crate) use output::{Output, SLICES_MAX};
pub(crate) use pool::Pool;

/// The buffers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Bytes received and not yet consumed: `input[consumed..]`.
    input: Vec<u8>,
    consumed: usize,
    pub(crate) output: Output,
    /// When the kernel last took output, or when output began to wait.
    pub(crate) output_moved: Time,
    /// Since when output waits all the time, or when enough of it was last found to be taken.
    pub(crate) output_since: Option<Time>,
    /// How many bytes the kernel had taken by then.
    pub(crate) output_from: u64,
    /// Since when more output waits than its soft limit.
    pub(crate) over_soft_since: Option<Time>,
    /// When the input that is kept began to come, or was last consumed in part.
    pub(crate) message_since: Time,
    /// Since when the connection is not read from, which does not count for that input.
    pub(crate) rests_since: Option<Time>,
    /// How many bytes the connection had received before that input.
    pub(crate) message_from: u64,
    /// In which turn the connection was shown frames, before others were, and how many more it may be in that.
    pub(crate) frames_left: (u64, usize),
    /// The driver was asked to tell when the kernel takes output again; not asked of TCP.
    pub(crate) asks_writable: bool,
    /// What the reactor's memory account holds for these buffers.
    pub(crate) accounted: usize,
}

impl Buffers {
    pub(crate) fn input_len(&self) -> usize {
        self.input.len() - self.consumed
    }

    pub(crate) fn input(&self) -> &[u8] {
        &self.input[self.consumed..]
    }

    /// Keeps what a callback left of the shared read buffer.
    pub(crate) fn keep_input(&mut self, rest: &[u8]) {
        debug_assert_eq!(self.input_len(), 0, "there is no older input");
        self.input.clear();
        self.consumed = 0;
        self.input.extend_from_slice(rest);
    }

    /// Takes the input out for a call of the handler; [`put_back`](Buffers::put_back) returns it.
    pub(crate) fn take_input(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.input), std::mem::take(&mut self.consumed))
    }

    pub(crate) fn put_back(&mut self, input: Vec<u8>, consumed: usize) {
        debug_assert!(consumed <= input.len());
        self.input = input;
        self.consumed = consumed;
        if self.consumed == self.input.len() {
            self.drop_input();
        }
    }

    pub(crate) fn drop_input(&mut self) {
        self.input.clear();
        self.consumed = 0;
    }

    /// Puts what was read behind what is there; `limit` is the most that may be there afterwards.
    /// Room grows in proportion to what has arrived, never to what a peer announced; consumed bytes
    /// are squeezed out only when they are the larger part, so that every byte is moved O(1) times.
    pub(crate) fn append_input(&mut self, data: &[u8], limit: usize) {
        debug_assert!(self.input_len() + data.len() <= limit);
        if self.consumed > self.input.len() / 2 {
            self.input.drain(..self.consumed);
            self.consumed = 0;
        }
        let length = self.input.len() + data.len();
        if self.input.capacity() < length {
            let target = (2 * length).max(4096).min(self.consumed.saturating_add(limit));
            self.input.reserve_exact(target - self.input.len());
        }
        self.input.extend_from_slice(data);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.input_len() == 0 && self.output.len() == 0
    }

    /// Bytes that these buffers hold.
    pub(crate) fn memory(&self) -> usize {
        self.input.capacity() + self.output.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_arriving_byte_by_byte_is_moved_a_constant_number_of_times() {
        let mut buffers = Buffers::default();
        buffers.keep_input(b"x");
        let mut reallocations = 0;
        for _ in 0..1_000_000 {
            let capacity = buffers.input.capacity();
            buffers.append_input(b"x", 1 << 21);
            reallocations += usize::from(buffers.input.capacity() != capacity);
        }
        assert!(buffers.input.capacity() <= 1 << 21);
        assert!(reallocations < 20, "{reallocations}");
    }

    #[test]
    fn input_is_allocated_no_more_than_its_limit() {
        let mut buffers = Buffers::default();
        buffers.keep_input(&[1; 5000]);
        buffers.append_input(&[1; 3000], 8000);
        assert_eq!((buffers.input_len(), buffers.input.capacity()), (8000, 8000));
        let (input, _) = buffers.take_input();
        buffers.put_back(input, 3000);
        buffers.append_input(&[1; 3000], 8000);
        assert_eq!((buffers.input_len(), buffers.input.capacity()), (8000, 11_000));
    }

    #[test]
    fn consumed_input_is_squeezed_out_when_it_is_the_larger_part() {
        let mut buffers = Buffers::default();
        buffers.keep_input(&[1; 5000]);
        let (input, _) = buffers.take_input();
        buffers.put_back(input, 4000);
        buffers.append_input(&[1; 500], 1 << 16);
        assert_eq!((buffers.input.len(), buffers.consumed), (1500, 0));
    }
}
