//! A bounded queue that many threads push to and one pops from.

use super::sync::{AtomicU64, Mutex, Ordering};

/// A ring of slots.
///
/// Nobody waits for anybody: who pushes takes a place and fills it, and one that is interrupted in
/// between holds up those that come after it in the queue, but no thread. Nothing is allocated after
/// the queue is made.
///
/// Places are counted from 0 and never start again; place `p` is in slot `p % capacity`.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    slots: Box<[Slot<T>]>,
    /// The next place to be taken.
    tail: AtomicU64,
}

#[derive(Debug)]
struct Slot<T> {
    /// What the slot is in: `2p` while it waits for the value of place `p`, `2p + 1` while it holds it.
    stamp: AtomicU64,
    /// The stamp says whose turn it is, so that the lock is free whenever it is taken: it is here
    /// because without `unsafe` there is no other way to share the value. Only at the end of a
    /// reactor may two meet in it, for the time of a move.
    value: Mutex<Option<T>>,
}

impl<T> Slot<T> {
    fn put(&self, value: T) {
        *self.value.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(value);
    }

    fn take(&self) -> Option<T> {
        self.value.lock().unwrap_or_else(|poison| poison.into_inner()).take()
    }
}

impl<T> Queue<T> {
    /// # Panics
    ///
    /// If there is no room for anything.
    pub(crate) fn new(capacity: usize) -> Queue<T> {
        assert!(capacity > 0, "a mailbox has room for one message at least");
        let slot = |place| Slot { stamp: AtomicU64::new(2 * place), value: Mutex::new(None) };
        Queue { slots: (0..capacity as u64).map(slot).collect(), tail: AtomicU64::new(0) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, place: u64) -> &Slot<T> {
        &self.slots[(place % self.slots.len() as u64) as usize]
    }

    /// Appends `value`, and says at which place.
    ///
    /// # Errors
    ///
    /// The queue is full; the value comes back.
    pub(crate) fn push(&self, value: T) -> Result<u64, T> {
        let mut place = self.tail.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(place);
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == 2 * place {
                let taken = self.tail.compare_exchange_weak(
                    place,
                    place + 1,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                match taken {
                    Ok(_) => {
                        slot.put(value);
                        slot.stamp.store(2 * place + 1, Ordering::Release);
                        return Ok(place);
                    }
                    Err(tail) => place = tail,
                }
                continue;
            }
            let tail = self.tail.load(Ordering::Relaxed);
            if stamp < 2 * place && tail == place {
                return Err(value); // what came a round before is still in it
            }
            place = tail;
        }
    }

    /// The place after the last one that was taken.
    pub(crate) fn end(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Takes the value of `place` out and gives the slot free; `None` if it is not there yet. Only
    /// one thread may call it, for one place after the other.
    pub(crate) fn pop(&self, place: u64) -> Option<T> {
        let slot = self.slot(place);
        if slot.stamp.load(Ordering::Acquire) != 2 * place + 1 {
            return None;
        }
        let value = slot.take();
        debug_assert!(value.is_some(), "values are taken back at the end only");
        slot.stamp.store(2 * (place + self.slots.len() as u64), Ordering::Release);
        value
    }

    /// Takes the value of `place` out if it is still there, and does not give the slot free: for the
    /// end, at which the reader and whoever pushed it may both try. One of them gets it.
    pub(crate) fn take_back(&self, place: u64) -> Option<T> {
        let slot = self.slot(place);
        let mut value = slot.value.lock().unwrap_or_else(|poison| poison.into_inner());
        // Looked at under the lock: as long as it is this one, nobody else can have filled the slot.
        if slot.stamp.load(Ordering::Acquire) == 2 * place + 1 { value.take() } else { None }
    }
}
