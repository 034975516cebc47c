//! What a handler answers when a deadline has passed: more time, a last word, an end of its own.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use crate::support::deadline::*;
use crate::support::*;
use oneloop::{CloseReason, Deadline, Time};

#[test]
fn more_time_is_what_the_handler_says_also_when_it_says_something_to_the_peer() {
    let times = Rc::<RefCell<Vec<Time>>>::default();
    let noted = Rc::clone(&times);
    let recorder = Recorder::echo().deadline(move |conn, _| {
        noted.borrow_mut().push(conn.now());
        conn.send(b"still there?").ignore();
        (noted.borrow().len() == 1).then_some(SHORT / 4)
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(2 * SHORT));
    let (_client, _) = server.open();
    server.until_closed(1);
    let (asked, ended) = (times.borrow()[0], times.borrow()[1]);
    assert!(ended - asked >= SHORT / 4);
    assert!(ended - asked < 2 * SHORT || HAS_KERNEL, "{:?}", ended - asked);
}

#[test]
fn a_handler_may_give_more_time_and_is_asked_again() {
    let asked = Rc::<RefCell<Vec<Time>>>::default();
    let noted = Rc::clone(&asked);
    let recorder = Recorder::echo().deadline(move |conn, _| {
        noted.borrow_mut().push(conn.now());
        (noted.borrow().len() < 3).then_some(SHORT / 2)
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, _) = server.open();
    server.until_closed(1);
    let asked = asked.borrow();
    assert_eq!(asked.len(), 3);
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= SHORT / 2), "{asked:?}");
    assert_eq!(server.calls.reasons(), [CloseReason::IdleTimeout]);
}

#[test]
fn more_time_holds_for_every_deadline() {
    let patience = patient()
        .idle_timeout(SHORT)
        .first_byte_timeout(SHORT)
        .message_timeout(SHORT)
        .write_stall_timeout(SHORT)
        .output_soft_timeout(SHORT)
        .output_bytes_soft(1 << 20)
        .output_bytes_max(64 << 20)
        .input_rate_min(1_000_000)
        .input_rate_grace(SHORT / 2);
    let missed = Missed::default();
    let noted = Rc::clone(&missed);
    let recorder = Recorder::new()
        .open(|conn| conn.expect_within(SHORT))
        .data(|conn, _| {
            conn.send(&pattern(12 << 20)).ignore();
            Ok(0)
        })
        .deadline(move |conn, deadline| {
            noted.borrow_mut().push((deadline, conn.now()));
            Some(100 * DEADLINE)
        });
    let mut server = Server::with_limits(recorder, patience);
    let (_silent, _) = server.open();
    let mut client = connect_small(server.address);
    client.write_all(b"x").unwrap();
    server.until("all are missed", |_| missed.borrow().len() >= 6);
    turn_for(&mut server, 2 * SHORT);
    assert!(server.calls.closed().is_empty());
    let mut kinds: Vec<_> = missed.borrow().iter().map(|(deadline, _)| *deadline).collect();
    kinds.sort_by_key(|deadline| format!("{deadline:?}"));
    use Deadline::*;
    // What the other one has to say rests, because its output is over the high watermark. Who is given
    // more time to be idle has it until something moves, which a little output may.
    kinds.retain(|deadline| *deadline != Idle);
    assert_eq!(kinds, [Expect, Expect, OutputSoft, WriteStall], "once each");
}

#[test]
fn no_more_time_is_none() {
    let recorder = Recorder::echo().deadline(|_, _| Some(Duration::ZERO));
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, _) = server.open();
    server.until_closed(1);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Deadline(..))), 1);
}

#[test]
fn a_last_word_reaches_the_peer() {
    let recorder = Recorder::echo().deadline(|conn, deadline| {
        conn.send(format!("bye: {deadline}").as_bytes()).ignore();
        None
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (mut client, _) = server.open();
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received.as_slice(), error), (b"bye: idle for too long".as_slice(), None));
}

#[test]
fn a_handler_that_closes_at_a_deadline_has_its_own_reason() {
    for reason in [CloseReason::Closed, CloseReason::Aborted] {
        let recorder = Recorder::echo().deadline(move |conn, _| {
            if reason == CloseReason::Closed {
                conn.close()
            } else {
                conn.abort()
            }
            None
        });
        let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
        let (_client, _) = server.open();
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [reason]);
    }
}

#[test]
fn a_panic_at_a_deadline_ends_its_connection_only() {
    let first = Rc::new(Cell::new(None));
    let panics = Rc::clone(&first);
    let recorder = Recorder::echo().deadline(move |conn, _| {
        assert_ne!(Some(conn.key()), panics.get(), "no patience");
        Some(DEADLINE)
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, key) = server.open();
    first.set(Some(key));
    let (mut other, _) = server.open();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Panicked]);
    server.assert_echoes(&mut other);
}

#[test]
fn more_time_for_ever_ends_with_the_traffic_that_follows_it() {
    // Which goes the short way, that looks at no deadline.
    for more in [Duration::MAX, Duration::MAX / 2, 1000 * DEADLINE] {
        let is_first = Cell::new(true);
        let recorder =
            Recorder::echo().deadline(move |_, _| is_first.replace(false).then_some(more));
        let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
        let (mut client, key) = server.open();
        server.until("more time is given", |calls| calls.has(&Call::Deadline(key, Deadline::Idle)));
        turn_for(&mut server, 2 * SHORT);
        server.assert_echoes(&mut client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::IdleTimeout]);
    }
}

#[test]
fn more_time_is_kept_without_looking_at_the_clock_all_the_while() {
    // However short the timeout is.
    for timeout in [Duration::from_nanos(1), Duration::from_micros(100)] {
        let (asked, noted) = (Rc::<Cell<Option<Time>>>::default(), Rc::<Cell<_>>::default());
        let first = Rc::clone(&noted);
        let noting = Rc::clone(&asked);
        let recorder = Recorder::new().deadline(move |conn, _| {
            if noting.replace(Some(conn.now())).is_some() {
                return None;
            }
            first.set(Some(conn.now()));
            Some(SHORT)
        });
        let mut server = Server::with_limits(recorder, patient().idle_timeout(timeout));
        let _client = server.connect();
        server.until("it is asked", |_| noted.get().is_some());
        let turns = server.reactor.stats().turns;
        server.until_closed(1);
        assert!(asked.get().unwrap() - noted.get().unwrap() >= SHORT, "early");
        let turns = server.reactor.stats().turns - turns;
        assert!(turns < 100, "{turns} turns in {SHORT:?}, of 2 ms at the most");
    }
}

#[test]
fn more_time_counts_from_now_also_under_limits_that_were_set_with_it() {
    let (asked, noted) = (Missed::default(), Rc::new(patient().idle_timeout(SHORT / 4)));
    let noting = Rc::clone(&asked);
    let recorder = Recorder::new().deadline(move |conn, deadline| {
        noting.borrow_mut().push((deadline, conn.now()));
        conn.set_limits(&noted);
        (noting.borrow().len() == 1).then_some(SHORT)
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, _) = server.open();
    server.until_closed(1);
    let asked = asked.borrow();
    assert!(asked[1].1 - asked[0].1 >= SHORT, "early: {asked:?}");
}

#[test]
fn what_is_expected_no_longer_is_not_given_more_time() {
    let recorder = Recorder::new().open(|conn| conn.expect_within(SHORT));
    let recorder = recorder.deadline(|conn, _| {
        conn.expect_nothing();
        Some(SHORT / 2)
    });
    let mut server = Server::with_limits(recorder, patient());
    let (_client, _) = server.open();
    turn_for(&mut server, 3 * SHORT);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Deadline(..))), 1);
    assert_eq!(server.calls.closed(), []);
}
