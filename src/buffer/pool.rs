//! Buffers between two owners.

use super::Buffers;

/// How many are kept for the next burst.
const SPARE_MAX: usize = 64;

/// The most input room that a spare one keeps; more goes back to the allocator.
const SPARE_INPUT_BYTES: usize = 16 * 1024;

/// The buffers that no connection owns. They are handed out last in, first out, so that the ones in
/// use are the ones whose pages are warm: the first touch of a fresh page costs as much as an echo.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    // Boxed, because that is how a connection owns them: giving them back moves one pointer.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Buffers>>,
}

impl Pool {
    pub(crate) fn take(&mut self) -> Box<Buffers> {
        self.spare.pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&mut self, mut buffers: Box<Buffers>) {
        debug_assert!(buffers.is_empty());
        debug_assert_eq!(buffers.accounted, 0);
        if self.spare.len() == SPARE_MAX {
            return;
        }
        if buffers.input.capacity() > SPARE_INPUT_BYTES {
            buffers.input = Vec::new();
        }
        buffers.output.shrink();
        buffers.output_since = None;
        buffers.over_soft_since = None;
        buffers.rests_since = None;
        buffers.frames_left = (0, 0);
        buffers.asks_writable = false;
        self.spare.push(buffers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_a_bounded_number_of_bounded_buffers() {
        let mut pool = Pool::default();
        for _ in 0..2 * SPARE_MAX {
            let mut buffers = Box::<Buffers>::default();
            buffers.keep_input(&[0; 4 * SPARE_INPUT_BYTES]);
            buffers.drop_input();
            pool.give_back(buffers);
        }
        assert_eq!(pool.spare.len(), SPARE_MAX);
        assert!(pool.spare.iter().all(|spare| spare.memory() <= SPARE_INPUT_BYTES));
    }

    #[test]
    fn who_takes_buffers_has_not_used_up_what_their_last_owner_has() {
        let mut pool = Pool::default();
        pool.give_back(Box::new(Buffers { frames_left: (7, 0), ..Buffers::default() }));
        assert_eq!(pool.take().frames_left, (0, 0));
    }
}
