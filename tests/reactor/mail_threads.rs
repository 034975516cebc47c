//! Posts and handles on other threads: who sleeps is woken, and under load nothing is lost.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::support::office::*;
use crate::support::*;
use oneloop::{PostError, Sender, mailbox};

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn senders_and_handles_go_to_other_threads() {
    is_send_and_sync::<Sender<u64>>();
    is_send_and_sync::<oneloop::Handle>();
    is_send_and_sync::<oneloop::Blocking<u64>>();
    is_send_and_sync::<oneloop::Inbox<u64>>();
}

#[test]
fn a_reactor_that_sleeps_is_woken_by_a_post_and_by_a_handle() {
    if !needs_kernel("threads") {
        return;
    }
    let _watchdog = Watchdog::new("the posts have arrived");
    let mut office = Office::new(Clerk::new(), 1);
    let handle = office.reactor.handle().unwrap();
    let sender = office.sender.clone();
    let heard = Rc::clone(&office.heard);
    let barrier = Arc::new(Barrier::new(2));
    let with = Arc::clone(&barrier);
    let thread = thread::spawn(move || {
        with.wait();
        sender.post(1).unwrap();
        let turns = handle.stats(DEADLINE).unwrap().turns;
        handle.stop().unwrap();
        turns
    });
    barrier.wait();
    office.reactor.run_until(|_| heard.borrow().len() == 1).unwrap();
    office.reactor.run().unwrap();
    assert!(thread.join().unwrap() > 0);
}

/// Four threads post as fast as they can while the loop serves a client: nothing is lost, doubled or
/// out of order, whether the loop sleeps or not.
#[test]
fn four_threads_post_under_load() {
    if !needs_kernel("threads") {
        return;
    }
    const SENDERS: u64 = 4;
    const POSTS: u64 = 50_000;
    let _watchdog = Watchdog::new("all posts have arrived");
    for capacity in [1, 7, 1024] {
        let posts = if capacity == 1 { POSTS / 10 } else { POSTS };
        let mut clerk = Clerk::new();
        let counts = Rc::new(RefCell::new([0; SENDERS as usize]));
        let counting = Rc::clone(&counts);
        clerk.own = Box::new(move |message, _| {
            let (sender, number) = (message >> 32, message & 0xffff_ffff);
            let mut counts = counting.borrow_mut();
            assert_eq!(counts[sender as usize], number, "of sender {sender}");
            counts[sender as usize] += 1;
        });
        let mut office = Office::new(clerk, capacity);
        let threads: Vec<_> = (0..SENDERS)
            .map(|id| {
                let sender = office.sender.clone();
                thread::spawn(move || {
                    for number in 0..posts {
                        while let Err(error) = sender.post(id << 32 | number) {
                            assert!(error.is_full());
                            thread::yield_now();
                        }
                        if number % 1000 == 0 {
                            thread::park_timeout(Duration::from_micros(50)); // lets the loop sleep
                        }
                    }
                })
            })
            .collect();
        let done = Rc::clone(&counts);
        office.reactor.run_until(|_| done.borrow().iter().all(|count| *count == posts)).unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(office.reactor.stats().messages, SENDERS * posts);
        office.reactor.verify();
    }
}

/// Threads post until they are told of the end: what was taken is delivered or dropped, and counted.
#[test]
fn every_message_of_a_reactor_that_stops_is_accounted_for() {
    if !needs_kernel("threads") {
        return;
    }
    let _watchdog = Watchdog::new("the threads have heard of the end");
    for round in 0..50 {
        let mut office = Office::new(Clerk::new(), 64);
        let alive = Arc::new(AtomicUsize::new(0));
        let (sender, inbox) = mailbox(64);
        office.reactor.attach(office.handler, inbox).unwrap();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (sender, alive) = (sender.clone(), Arc::clone(&alive));
                thread::spawn(move || {
                    let mut taken = 0;
                    loop {
                        match sender.post(Counted::new(&alive)) {
                            Ok(()) => taken += 1,
                            Err(PostError::Full(_)) => thread::yield_now(),
                            Err(_) => return taken,
                        }
                    }
                })
            })
            .collect();
        office.reactor.run_until(|reactor| reactor.stats().messages > 20 * round).unwrap();
        office.reactor.stop();
        let taken: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let stats = office.reactor.stats();
        assert_eq!(stats.messages + stats.messages_undelivered, taken, "round {round}");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "round {round}");
    }
}
