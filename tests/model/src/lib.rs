//! The files of the library that several threads enter at once, under the model checker
//! [loom](https://docs.rs/loom): it runs each test below once for every order in which the threads may
//! take their steps, and for every value that the memory model lets a load see.
//!
//! The files are the library's own; only the primitives in `sync` are loom's. A wake-up that is lost
//! is a deadlock here, which loom reports.
//!
//! `LOOM_MAX_PREEMPTIONS=4 cargo test --release -p oneloop-model` looks at more orders than the usual
//! bound does.

#![forbid(unsafe_code)]
#![cfg(test)]

/// As in the library.
mod driver {
    pub(crate) trait Wake: Send + Sync {
        fn wake(&self);
    }
}

#[allow(dead_code, reason = "the library needs all of it")]
#[path = "../../../src/mail"]
mod mail {
    pub(crate) mod bell;
    pub(crate) mod postbox;
    pub(crate) mod queue;

    /// The primitives, as `src/mail/sync.rs` has the standard library's.
    mod sync {
        pub(crate) use loom::sync::Mutex;
        pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

        /// Whether it is set is what threads can see early or late; the value comes with it.
        #[derive(Debug)]
        pub(crate) struct OnceLock<T> {
            is_set: AtomicBool,
            value: std::sync::OnceLock<T>,
        }

        impl<T> OnceLock<T> {
            pub(crate) fn new() -> OnceLock<T> {
                OnceLock { is_set: AtomicBool::new(false), value: std::sync::OnceLock::new() }
            }

            pub(crate) fn get(&self) -> Option<&T> {
                if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
            }

            pub(crate) fn set(&self, value: T) -> Result<(), T> {
                self.value.set(value)?;
                self.is_set.store(true, Ordering::Release);
                Ok(())
            }
        }
    }
}

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use driver::Wake;
use mail::bell::Bell;
use mail::postbox::{Postbox, Reader, Refused};

/// An eventfd, and a poll that waits for nothing else.
struct Kernel {
    is_readable: Mutex<bool>,
    changed: Condvar,
    writes: AtomicUsize,
}

impl Wake for Kernel {
    fn wake(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        *self.is_readable.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

impl Kernel {
    fn poll(&self) {
        let mut is_readable = self.is_readable.lock().unwrap();
        while !*is_readable {
            is_readable = self.changed.wait(is_readable).unwrap();
        }
        *is_readable = false;
    }
}

/// As much of a reactor as gets mail.
struct Loop {
    kernel: Arc<Kernel>,
    bell: Arc<Bell>,
    reader: Reader<u32>,
    received: Vec<u32>,
    /// What a turn reads at most.
    budget: usize,
    sleeps: usize,
}

impl Loop {
    fn new(reader: Reader<u32>) -> Loop {
        let kernel = Arc::new(Kernel {
            is_readable: Mutex::new(false),
            changed: Condvar::new(),
            writes: AtomicUsize::new(0),
        });
        let waker: Arc<dyn Wake> = Arc::<Kernel>::clone(&kernel);
        let bell = Arc::new(Bell::new(waker));
        Loop { kernel, bell, reader, received: Vec::new(), budget: usize::MAX, sleeps: 0 }
    }

    fn attach(&self) {
        self.reader.attach(Arc::clone(&self.bell));
    }

    /// `Reactor::turn`, without anything else to do.
    fn turn(&mut self) {
        if self.bell.fall_asleep() {
            self.sleeps += 1;
            self.kernel.poll();
        }
        self.bell.wake_up();
        if self.bell.answer() {
            self.reader.begin();
            let messages = std::iter::from_fn(|| self.reader.next());
            self.received.extend(messages.take(self.budget));
            if self.reader.has_next() {
                self.bell.ring();
            }
        }
    }

    fn run_until_received(&mut self, count: usize) {
        while self.received.len() < count {
            self.turn();
        }
        let writes = self.kernel.writes.load(Ordering::Relaxed);
        assert!(writes <= self.sleeps, "{writes} writes for {} sleeps", self.sleeps);
    }
}

/// Every order with at most so many switches away from a thread that could go on.
fn check(preemptions_max: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions_max));
    builder.check(model);
}

fn post_all(postbox: &Postbox<u32>, messages: &[u32]) {
    for message in messages {
        assert!(postbox.post(*message).is_ok(), "there is room");
    }
}

#[test]
fn a_post_wakes_a_loop_that_falls_asleep() {
    check(4, || {
        let (postbox, reader) = Postbox::new(2);
        let mut reactor = Loop::new(reader);
        reactor.attach();
        reactor.turn(); // the bell that the attaching rang
        let poster = thread::spawn(move || post_all(&postbox, &[1, 2]));
        reactor.run_until_received(2);
        assert_eq!(reactor.received, [1, 2], "in order");
        poster.join().unwrap();
    });
}

#[test]
fn what_a_budget_leaves_over_is_read_without_another_post() {
    check(4, || {
        let (postbox, reader) = Postbox::new(2);
        let mut reactor = Loop::new(reader);
        reactor.budget = 1;
        reactor.attach();
        reactor.turn();
        let poster = thread::spawn(move || post_all(&postbox, &[1, 2]));
        reactor.run_until_received(2);
        assert_eq!(reactor.received, [1, 2], "in order");
        poster.join().unwrap();
    });
}

#[test]
fn two_posters_make_one_write_a_sleep_and_keep_their_order() {
    check(2, || {
        let (postbox, reader) = Postbox::new(3);
        let mut reactor = Loop::new(reader);
        reactor.attach();
        reactor.turn();
        let other = Arc::clone(&postbox);
        let one = thread::spawn(move || post_all(&postbox, &[1, 2]));
        let two = thread::spawn(move || post_all(&other, &[10]));
        reactor.run_until_received(3);
        let mut ones = reactor.received.clone();
        ones.retain(|message| *message < 10);
        assert_eq!((reactor.received.len(), ones), (3, vec![1, 2]));
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn a_post_while_the_mailbox_is_attached_is_found() {
    check(4, || {
        let (postbox, reader) = Postbox::new(1);
        let mut reactor = Loop::new(reader);
        let poster = thread::spawn(move || post_all(&postbox, &[1]));
        reactor.attach();
        reactor.run_until_received(1);
        poster.join().unwrap();
    });
}

#[test]
fn two_mailboxes_share_a_bell() {
    check(2, || {
        let (first, reader) = Postbox::new(1);
        let mut reactor = Loop::new(reader);
        reactor.attach();
        let (second, mut other) = Postbox::new(1);
        other.attach(Arc::clone(&reactor.bell));
        let one = thread::spawn(move || post_all(&first, &[1]));
        let two = thread::spawn(move || post_all(&second, &[2]));
        let mut received = Vec::new();
        while reactor.received.len() + received.len() < 2 {
            if reactor.bell.fall_asleep() {
                reactor.kernel.poll();
            }
            reactor.bell.wake_up();
            if reactor.bell.answer() {
                for (reader, received) in
                    [(&mut reactor.reader, &mut reactor.received), (&mut other, &mut received)]
                {
                    reader.begin();
                    received.extend(std::iter::from_fn(|| reader.next()));
                }
            }
        }
        assert_eq!((&reactor.received[..], &received[..]), (&[1][..], &[2][..]));
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn a_loop_hears_that_the_last_poster_has_gone() {
    check(3, || {
        let (postbox, reader) = Postbox::new(2);
        let mut reactor = Loop::new(reader);
        postbox.add_poster();
        let other = Arc::clone(&postbox);
        let one = thread::spawn(move || {
            post_all(&postbox, &[1]);
            postbox.remove_poster();
        });
        let two = thread::spawn(move || other.remove_poster());
        reactor.attach();
        while !reactor.reader.is_done() {
            reactor.turn();
        }
        assert_eq!(reactor.received, [1]);
        one.join().unwrap();
        two.join().unwrap();
    });
}

/// Posts, and says which messages were taken and which came back as they went in.
fn post_and_tell(postbox: &Postbox<u32>, messages: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let (mut taken, mut back) = (Vec::new(), Vec::new());
    for message in messages {
        match postbox.post(*message) {
            Ok(()) => taken.push(*message),
            Err(Refused::Full(same) | Refused::Ended(same)) => {
                assert_eq!(same, *message, "somebody else's message");
                back.push(same);
            }
        }
    }
    (taken, back)
}

/// What is taken is read, or dropped and counted; what is not comes back. `capacity` of 1 has the
/// posters use the same slot one round after the other.
fn ends_while_others_post(capacity: usize) {
    let (postbox, mut reader) = Postbox::new(capacity);
    let other = Arc::clone(&postbox);
    let one = thread::spawn(move || post_and_tell(&postbox, &[1]));
    let two = thread::spawn(move || post_and_tell(&other, &[10]));
    reader.begin();
    let read = reader.next();
    let dropped = reader.end().count();
    let (mut taken, back) = one.join().unwrap();
    let (others_taken, others_back) = two.join().unwrap();
    taken.extend(others_taken);
    assert_eq!(taken.len(), usize::from(read.is_some()) + dropped);
    assert!(read.is_none_or(|message| taken.contains(&message)));
    assert_eq!(taken.len() + back.len() + others_back.len(), 2);
    assert_eq!(reader.end().count(), 0, "it ends once");
}

#[test]
fn a_post_beside_the_end_is_dropped_or_comes_back() {
    check(3, || ends_while_others_post(2));
}

#[test]
fn a_slot_that_is_used_again_beside_the_end_gives_everybody_his_own() {
    check(3, || ends_while_others_post(1));
}

#[test]
fn a_full_queue_loses_and_doubles_nothing() {
    check(3, || {
        let (postbox, mut reader) = Postbox::new(1);
        let other = Arc::clone(&postbox);
        let one = thread::spawn(move || post_and_tell(&postbox, &[1, 2]).0);
        let two = thread::spawn(move || post_and_tell(&other, &[10]).0);
        let mut read = Vec::new();
        for _ in 0..2 {
            reader.begin();
            read.extend(reader.next());
        }
        let mut taken = one.join().unwrap();
        taken.extend(two.join().unwrap());
        reader.begin();
        read.extend(reader.next());
        read.sort_unstable();
        taken.sort_unstable();
        assert_eq!(read, taken);
    });
}
