//! A queue with a bell, and an end.

use std::sync::Arc;

use super::bell::Bell;
use super::queue::Queue;
use super::sync::{AtomicBool, AtomicU64, OnceLock, Ordering, fence};

/// What the two halves of a mailbox share.
#[derive(Debug)]
pub(crate) struct Postbox<T> {
    queue: Queue<T>,
    /// That of the reactor, once it is attached to one.
    bell: OnceLock<Arc<Bell>>,
    /// Nobody reads it any more.
    has_ended: AtomicBool,
    /// How many there are who may post. The count of an `Arc` is no such number: it falls after
    /// what its last owner can do, and a reader that is told before would look too early.
    posters: AtomicU64,
}

/// Why something was not taken, with it.
#[derive(Debug)]
pub(crate) enum Refused<T> {
    Full(T),
    Ended(T),
}

impl<T> Postbox<T> {
    /// With the half that reads it, and one who may post.
    ///
    /// # Panics
    ///
    /// If the capacity is 0.
    pub(crate) fn new(capacity: usize) -> (Arc<Postbox<T>>, Reader<T>) {
        let postbox = Arc::new(Postbox {
            queue: Queue::new(capacity),
            bell: OnceLock::new(),
            has_ended: AtomicBool::new(false),
            posters: AtomicU64::new(1),
        });
        (Arc::clone(&postbox), Reader { postbox, head: 0, until: 0 })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// What it takes is either read, or dropped at the end.
    pub(crate) fn post(&self, value: T) -> Result<(), Refused<T>> {
        if self.has_ended() {
            return Err(Refused::Ended(value));
        }
        let place = self.queue.push(value).map_err(Refused::Full)?;
        // After it either we see the reader's end, or its bell, or the reader sees what we pushed.
        fence(Ordering::SeqCst);
        if self.has_ended.load(Ordering::Relaxed) {
            // Whether the reader saw it when it ended, the slot knows.
            return self.queue.take_back(place).map_or(Ok(()), |value| Err(Refused::Ended(value)));
        }
        self.ring_after_fence();
        Ok(())
    }

    /// One more may post: one who may has made it.
    pub(crate) fn add_poster(&self) {
        self.posters.fetch_add(1, Ordering::Relaxed);
    }

    /// One who might post does not any more. The last one rings: the reader need not be kept.
    pub(crate) fn remove_poster(&self) {
        if self.posters.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ring();
        }
    }

    /// Has the reader's reactor look.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if !self.has_ended.load(Ordering::Relaxed) {
            self.ring_after_fence();
        }
    }

    fn ring_after_fence(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring_after_fence();
        }
    }
}

/// The half that reads.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    postbox: Arc<Postbox<T>>,
    /// The place to read next.
    head: u64,
    /// What is read in this turn ends here.
    until: u64,
}

impl<T> Reader<T> {
    /// Has posts ring a bell from now on, and rings it for those that came before.
    pub(crate) fn attach(&self, bell: Arc<Bell>) {
        let is_first = self.postbox.bell.set(Arc::clone(&bell)).is_ok();
        debug_assert!(is_first, "a reader is attached once");
        bell.ring();
    }

    /// What is there now is what [`next`](Self::next) gives until this is called again.
    pub(crate) fn begin(&mut self) {
        self.until = self.postbox.queue.end();
    }

    /// A value that is still being put in ends it: its poster rings afterwards.
    pub(crate) fn next(&mut self) -> Option<T> {
        if !self.has_next() {
            return None;
        }
        let value = self.postbox.queue.pop(self.head);
        match &value {
            Some(_) => self.head += 1,
            None => self.until = self.head,
        }
        value
    }

    /// Whether [`next`](Self::next) may give something yet.
    pub(crate) fn has_next(&self) -> bool {
        self.head < self.until
    }

    /// Whether nothing is left to read, and nobody is left to post.
    pub(crate) fn is_done(&self) -> bool {
        // In this order: after the last one has gone nothing is pushed.
        self.postbox.posters.load(Ordering::Acquire) == 0 && self.is_empty()
    }

    /// Whether nothing is left to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.postbox.queue.end() == self.head
    }

    /// From now on nothing is taken. Gives what was, and was not read; the second time, nothing.
    pub(crate) fn end(&mut self) -> impl Iterator<Item = T> {
        let had_ended = self.postbox.has_ended.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let end = if had_ended { self.head } else { self.postbox.queue.end() };
        // One that is not there yet is taken back by its poster.
        (self.head..end).filter_map(|place| self.postbox.queue.take_back(place))
    }
}
