//! Timers that beat, and timers that are moved.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{Limits, Time, TimerId};

const MS: Duration = Duration::from_millis(1);

/// Which beat of an interval of `period` that began at `start` is the last one at `now`.
fn beat(start: Time, now: Time, period: Duration) -> u128 {
    (now - start).as_nanos() / period.as_nanos()
}

#[test]
fn an_interval_keeps_its_beat_and_does_not_drift() {
    const PERIOD: Duration = Duration::from_millis(4);
    for is_of_a_connection in [true, false] {
        let (times, fired) = noted();
        let (connection_times, begun) = (Rc::clone(&fired), Rc::clone(&fired));
        let on_open_times = Rc::clone(&fired);
        let recorder = Recorder::new()
            .start(move |cx| {
                if !is_of_a_connection {
                    begun.borrow_mut().push(cx.now());
                    cx.set_handler_interval(PERIOD);
                }
            })
            .open(move |conn| {
                if is_of_a_connection {
                    on_open_times.borrow_mut().push(conn.now());
                    conn.set_interval(PERIOD);
                }
            })
            .timer(move |conn, _| connection_times.borrow_mut().push(conn.now()))
            .handler_timer(move |_, cx| {
                fired.borrow_mut().push(cx.now());
                stall(PERIOD / 3); // which has no influence on the next one
            });
        let mut server = Server::new(recorder);
        let (_client, _) = server.open();
        run_until(&mut server.reactor, "twelve beats", |_| times.borrow().len() > 12);
        let times = times.borrow();
        let beats: Vec<u128> = times.iter().map(|time| beat(times[0], *time, PERIOD)).collect();
        assert!(beats.windows(2).all(|pair| pair[1] > pair[0]), "one call a beat: {beats:?}");
        // A machine may miss some; a simulated one has no reason to.
        assert!(HAS_KERNEL || beats == (0..=12).collect::<Vec<_>>(), "{beats:?}");
        let late = times[12] - times[0] - PERIOD * u32::try_from(beats[12]).unwrap();
        assert!(HAS_KERNEL || late < PERIOD / 2, "it drifts: {late:?}");
    }
}

#[test]
fn an_interval_leaves_out_the_ten_beats_that_it_missed() {
    const PERIOD: Duration = Duration::from_millis(3);
    let (times, fired) = noted();
    let begun = Rc::clone(&fired);
    let recorder = Recorder::new()
        .start(move |cx| {
            begun.borrow_mut().push(cx.now());
            cx.set_handler_interval(PERIOD);
        })
        .handler_timer(move |_, cx| {
            fired.borrow_mut().push(cx.now());
            if fired.borrow().len() == 2 {
                stall(10 * PERIOD);
            }
        });
    let mut server = Server::new(recorder);
    run_until(&mut server.reactor, "a few beats", |_| times.borrow().len() > 5);
    let times = times.borrow();
    let beats: Vec<u128> = times.iter().map(|time| beat(times[0], *time, PERIOD)).collect();
    assert!(beats[2] >= beats[1] + 10, "it was late: {beats:?}");
    assert!(beats.windows(2).all(|pair| pair[1] > pair[0]), "one call for all: {beats:?}");
    assert!(HAS_KERNEL || beats[2..] == [11, 12, 13, 14], "in the old beat: {beats:?}");
}

#[test]
fn an_interval_can_be_cancelled_by_its_own_call() {
    let (ids, fired) = noted();
    let recorder = Recorder::new()
        .start(|cx| {
            cx.set_handler_interval(MS);
        })
        .handler_timer(move |timer, cx| {
            fired.borrow_mut().push(timer);
            if fired.borrow().len() == 3 {
                assert!(cx.cancel_timer(timer));
                assert!(!cx.cancel_timer(timer));
                assert!(!cx.rearm_timer(timer, MS));
            }
        });
    let mut server = Server::new(recorder);
    run_until(&mut server.reactor, "three beats", |_| ids.borrow().len() == 3);
    server.assert_idle();
    assert_eq!(server.reactor.next_wait(), None);
    assert_eq!(ids.borrow().len(), 3);
    assert!(ids.borrow().iter().all(|id| *id == ids.borrow()[0]), "one name for all its beats");
}

#[test]
fn an_interval_ends_with_its_connection() {
    // Neither does it fire, nor does it wake the reactor for ever.
    let mut server = Server::with_limits(
        Recorder::new().open(|conn| {
            conn.set_interval(5 * MS);
        }),
        Limits::new().idle_timeout(Duration::MAX),
    );
    let (client, _) = server.open();
    drop(client);
    server.until_closed(1);
    let fired = server.calls.count(|call| matches!(call, Call::Timer(..)));
    run_until(&mut server.reactor, "nothing is left to wait for", |reactor| {
        reactor.next_wait().is_none()
    });
    assert_eq!(server.calls.count(|call| matches!(call, Call::Timer(..))), fired);
}

#[test]
fn an_interval_of_a_closing_connection_does_not_beat() {
    let mut server = Server::with_limits(
        Recorder::new().open(|conn| {
            conn.set_interval(MS);
            conn.close();
        }),
        Limits::new().linger_timeout(Duration::MAX),
    );
    let (client, _) = server.open();
    run_until(&mut server.reactor, "nothing is left to wait for", |reactor| {
        reactor.next_wait().is_none()
    });
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Timer(..))), 0);
}

#[test]
fn a_timer_that_is_moved_fires_once_at_its_new_moment() {
    for (set, moved) in [(5 * MS, 30 * MS), (Duration::MAX, 10 * MS), (1000 * MS, 10 * MS)] {
        let (times, fired) = noted();
        let begun = Rc::clone(&fired);
        let recorder = Recorder::new()
            .open(move |conn| {
                begun.borrow_mut().push(conn.now());
                let timer = conn.set_timer(set);
                assert!(conn.rearm_timer(timer, 500 * MS));
                assert!(conn.rearm_timer(timer, moved));
            })
            .timer(move |conn, timer| {
                fired.borrow_mut().push(conn.now());
                assert!(!conn.rearm_timer(timer, MS), "it has fired");
            });
        let limits = Limits::new().idle_timeout(Duration::MAX);
        let mut server = Server::with_limits(recorder, limits);
        let (_client, _) = server.open();
        run_until(&mut server.reactor, "it fires", |_| times.borrow().len() == 2);
        server.assert_idle();
        assert_eq!(server.reactor.next_wait(), None);
        let times = times.borrow();
        let after = times[1] - times[0];
        assert!(times.len() == 2 && after >= moved, "{times:?}");
        assert!(HAS_KERNEL || after < moved + MS, "{after:?} instead of {moved:?}");
    }
}

#[test]
fn an_interval_that_is_moved_keeps_its_period_from_there() {
    const PERIOD: Duration = Duration::from_millis(20);
    for first in [PERIOD / 4, 2 * PERIOD] {
        let (times, fired) = noted();
        let begun = Rc::clone(&fired);
        let recorder = Recorder::new()
            .start(move |cx| {
                begun.borrow_mut().push(cx.now());
                let timer = cx.set_handler_interval(PERIOD);
                assert!(cx.rearm_timer(timer, first));
            })
            .handler_timer(move |_, cx| fired.borrow_mut().push(cx.now()));
        let mut server = Server::new(recorder);
        run_until(&mut server.reactor, "three beats", |_| times.borrow().len() == 4);
        let times = times.borrow();
        for (number, time) in (0..).zip(&times[1..]) {
            let due = first + number * PERIOD;
            let after = *time - times[0];
            assert!(after >= due, "beat {number} came early: {after:?}");
            assert!(HAS_KERNEL || after < due + MS, "beat {number} came late: {after:?}");
        }
    }
}

#[test]
fn a_timer_that_is_due_in_the_same_turn_can_still_be_moved() {
    for after in [Duration::ZERO, 5 * MS, Duration::MAX] {
        let (timers, set) = noted::<TimerId>();
        let recorder = Recorder::new()
            .start(move |cx| *set.borrow_mut() = (0..2).map(|_| cx.set_handler_timer(MS)).collect())
            .handler_timer({
                let timers = Rc::clone(&timers);
                let mut first = None;
                move |timer, cx| {
                    let Some((time, turn)) = first else {
                        first = Some((cx.now(), cx.stats().turns));
                        let other = timers.borrow().iter().find(|other| **other != timer).copied();
                        assert!(cx.rearm_timer(other.unwrap(), after));
                        return;
                    };
                    assert!(cx.now() >= time + after, "early");
                    assert!(cx.stats().turns > turn, "work made by work is the next turn's");
                }
            });
        let mut server = Server::new(recorder);
        let expected = if after == Duration::MAX { 1 } else { 2 };
        server.until("they fire", |calls| calls.all().len() == 1 + expected);
        server.assert_idle();
        assert_eq!(server.calls.all().len(), 1 + expected);
        assert_eq!(server.reactor.next_wait(), None);
    }
}

#[test]
fn timers_that_were_moved_fire_in_the_order_of_their_moments() {
    // Also when the loop comes to all of them late, in one turn.
    let (timers, set) = noted::<TimerId>();
    let recorder = Recorder::new().start(move |cx| {
        let moments = [(1, 7), (3, 3), (5, 5), (6, 2), (2, 8), (4, 4)];
        for (first, moved) in moments {
            let timer = cx.set_handler_timer(first * MS);
            assert!(first == moved || cx.rearm_timer(timer, moved * MS));
            set.borrow_mut().push(timer);
        }
        stall(20 * MS);
    });
    let mut server = Server::new(recorder);
    server.until("all have fired", |calls| calls.all().len() == 7);
    let timers = timers.borrow();
    let expected = [3, 1, 5, 2, 0, 4].map(|i: usize| Call::HandlerTimer(timers[i]));
    assert_eq!(server.calls.all()[1..], expected);
}

#[test]
fn an_interval_takes_some_time() {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Recorder::new());
    let set = AssertUnwindSafe(|| reactor.context(handler).set_handler_interval(Duration::ZERO));
    assert!(catch_unwind(set).is_err());
    reactor.context(handler).set_handler_interval(Duration::from_nanos(1));
}
