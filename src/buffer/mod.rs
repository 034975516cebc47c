//! What a connection owns while it has a partial message or unsent output, and only then.

mod output;
mod pool;

pub(crate) use output::{Output, SLICES_MAX};
pub(crate) use pool::Pool;

/// The buffers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Bytes received and not yet consumed: `input[consumed..]`.
    input: Vec<u8>,
    consumed: usize,
    pub(crate) output: Output,
    /// What the reactor's memory account holds for these buffers.
    pub(crate) accounted: usize,
}

impl Buffers {
    pub(crate) fn input_len(&self) -> usize {
        self.input.len() - self.consumed
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

    /// The vector to read more input into, behind what is there, with room for at least one byte and
    /// at most `limit` unconsumed bytes in all. Room grows in proportion to what has arrived, never
    /// to what a peer announced; consumed bytes are squeezed out only when they are the larger part,
    /// so that every byte is moved O(1) times.
    pub(crate) fn input_room(&mut self, limit: usize) -> &mut Vec<u8> {
        debug_assert!(self.input_len() < limit);
        if self.consumed > self.input.len() / 2 {
            self.input.drain(..self.consumed);
            self.consumed = 0;
        }
        let limit = self.consumed + limit;
        if self.input.capacity() == self.input.len() {
            let target = (2 * self.input.len()).max(4096).min(limit);
            self.input.reserve_exact(target - self.input.len());
        }
        &mut self.input
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
            let room = buffers.input_room(1 << 21);
            let capacity = room.capacity();
            assert!(capacity > room.len());
            room.push(b'x');
            reallocations += usize::from(buffers.input.capacity() != capacity);
        }
        assert!(buffers.input.capacity() <= 1 << 21);
        assert!(reallocations < 20, "{reallocations}");
    }

    #[test]
    fn room_is_never_more_than_the_limit() {
        let mut buffers = Buffers::default();
        buffers.keep_input(&[1; 100]);
        let (input, _) = buffers.take_input();
        buffers.put_back(input, 40);
        let room = buffers.input_room(61);
        assert!(room.capacity() - room.len() >= 1);
        assert_eq!(buffers.input_len(), 60);
    }

    #[test]
    fn consumed_input_is_squeezed_out_when_it_is_the_larger_part() {
        let mut buffers = Buffers::default();
        buffers.keep_input(&[1; 5000]);
        let (input, _) = buffers.take_input();
        buffers.put_back(input, 4000);
        assert_eq!(buffers.input_room(1 << 16).len(), 1000);
    }
}
