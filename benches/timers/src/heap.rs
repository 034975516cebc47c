//! The usual alternative: a heap of moments in which cancelled timers are left behind.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Keeper;
use crate::clock::Time;
use crate::key::Key;
use crate::table::Table;

/// The standard library's heap with lazy deletion: a cancelled timer stays in the heap until it comes
/// to the top, and is passed over then.
pub(crate) struct Heap {
    live: Table<()>,
    heap: BinaryHeap<Reverse<(Time, Key)>>,
}

impl Heap {
    pub(crate) fn new() -> Heap {
        Heap { live: Table::new(), heap: BinaryHeap::new() }
    }
}

impl Keeper for Heap {
    type Id = Key;

    fn set(&mut self, at: Time) -> Key {
        let key = self.live.insert(());
        self.heap.push(Reverse((at, key)));
        key
    }

    fn cancel(&mut self, key: Key) {
        assert!(self.live.remove(key).is_some());
    }

    fn put_off(&mut self, key: Key, at: Time) -> Key {
        self.cancel(key);
        self.set(at)
    }

    fn advance(&mut self, now: Time) {
        while let Some(Reverse((at, key))) = self.heap.peek()
            && (*at <= now || self.live.get(*key).is_none())
        {
            assert!(self.live.get(*key).is_none(), "nothing is due");
            self.heap.pop();
        }
    }
}
