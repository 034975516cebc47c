//! A handle stops, drains and asks a reactor, and hears of its end.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::support::office::*;
use crate::support::*;
use oneloop::{CloseReason, Ended, HandleError};

#[test]
fn a_handle_stops_the_reactor_also_before_it_runs() {
    let _watchdog = Watchdog::new("run returns");
    let mut office = Office::new(Clerk::new(), 1);
    let handle = office.reactor.handle().unwrap();
    let (_client, key) = office.open();
    handle.stop().unwrap();
    handle.clone().stop().unwrap();
    office.reactor.run().unwrap();
    assert!(office.take().contains(&Heard::Close(key, CloseReason::Stopped)));
    assert!(!handle.has_ended());
    assert_ne!(office.reactor.next_wait(), Some(Duration::ZERO), "a stop is one stop");
    // Who stops it otherwise has done what was asked for.
    handle.stop().unwrap();
    office.reactor.stop();
    let mut turns_left = 3;
    let is_done = |_: &mut Reactor| {
        turns_left -= 1;
        turns_left == 0
    };
    for millis in 0..3 {
        office.reactor.context(office.handler).set_handler_timer(Duration::from_millis(millis));
    }
    office.reactor.run_until(is_done).unwrap();
    assert_eq!(turns_left, 0);
}

#[test]
fn a_handle_drains_the_reactor_within_the_shortest_time_that_was_asked_for() {
    let _watchdog = Watchdog::new("run returns");
    let mut office = Office::new(Clerk::new(), 1);
    let handle = office.reactor.handle().unwrap();
    let (client, key) = office.open();
    // The client stays, and its connection lingers until the time is up.
    handle.drain(Duration::MAX).unwrap();
    handle.drain(Duration::from_millis(20)).unwrap();
    let report = office.reactor.run().unwrap();
    assert_eq!(report.end, Ended::TimedOut);
    assert!(report.duration >= Duration::from_millis(20), "{report}");
    assert!(office.take().contains(&Heard::Close(key, CloseReason::Closed)));
    drop(client);
    assert_ne!(office.reactor.next_wait(), Some(Duration::ZERO), "a drain is one drain");
}

#[test]
fn a_handle_does_not_wait_for_ever() {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    // Nobody turns it.
    let error = handle.stats(Duration::from_millis(1)).unwrap_err();
    assert_eq!(
        (error, error.to_string()),
        (HandleError::TimedOut, "the reactor does not answer".into())
    );
    drop(reactor);
    assert!(handle.has_ended());
    let error = handle.stats(DEADLINE).unwrap_err();
    assert_eq!((error, error.to_string()), (HandleError::Ended, "the reactor has ended".into()));
}

#[test]
fn who_waits_for_statistics_hears_of_the_end() {
    if !needs_kernel("threads") {
        return;
    }
    let _watchdog = Watchdog::new("the thread has its answer");
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    let barrier = Arc::new(Barrier::new(2));
    let with = Arc::clone(&barrier);
    let thread = thread::spawn(move || {
        with.wait();
        handle.stats(Duration::MAX)
    });
    barrier.wait();
    drop(reactor);
    assert_eq!(thread.join().unwrap().unwrap_err(), HandleError::Ended);
}
