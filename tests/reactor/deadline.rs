//! Deadlines of connections that say nothing: idle, the first byte, and what the handler expects.

use std::cell::Cell;
use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use crate::support::deadline::*;
use crate::support::*;
use oneloop::{CloseReason, Deadline, Time};

#[test]
fn a_connection_that_says_nothing_and_is_told_nothing_is_idle() {
    let (recorder, missed) = noting(Recorder::echo());
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let opened = now(&mut server);
    let (_client, _) = server.open();
    server.until_closed(1);
    let (deadline, after) = only(&missed, opened);
    assert_eq!(deadline, Deadline::Idle);
    assert!(after >= SHORT, "early: {after:?}");
    assert_eq!(server.calls.reasons(), [CloseReason::IdleTimeout]);
    assert_eq!(server.reactor.stats().closes(CloseReason::IdleTimeout), 1);
}

#[test]
fn bytes_in_either_direction_put_the_idle_deadline_off() {
    for is_client_talking in [true, false] {
        let recorder = Recorder::new().timer(|conn, _| conn.send(b"tick").ignore());
        let recorder = recorder.open(move |conn| {
            if !is_client_talking {
                conn.set_interval(SHORT / 4);
            }
        });
        let (recorder, missed) = noting(recorder);
        let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
        let (mut client, _) = server.open();
        for _ in 0..12 {
            // It may be closed, see below.
            if is_client_talking && client.write_all(b"tick").is_err() {
                break;
            }
            turn_for(&mut server, SHORT / 4);
        }
        // A machine that stops for so long makes the connection really idle; that is not this test's
        // matter, and on a simulated one it does not happen.
        assert!(missed.borrow().is_empty() || HAS_KERNEL, "{missed:?}");
    }
}

#[test]
fn the_idle_deadline_counts_from_the_last_byte() {
    let last = Rc::new(Cell::new(Time::default()));
    let noted = Rc::clone(&last);
    let (recorder, missed) = noting(Recorder::new().data(move |conn, data| {
        noted.set(conn.now());
        Ok(data.len())
    }));
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (mut client, _) = server.open();
    turn_for(&mut server, SHORT / 2);
    client.write_all(b"x").unwrap();
    server.until_closed(1);
    let (_, after) = only(&missed, last.get());
    assert!(after >= SHORT, "early: {after:?}");
}

#[test]
fn the_idle_deadline_rests_during_a_pause_and_counts_from_its_end() {
    let (recorder, missed) = noting(Recorder::echo().open(|conn| conn.pause()));
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, key) = server.open();
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(*missed.borrow(), []);
    let resumed = now(&mut server);
    server.reactor.context(server.handler).resume_key(key);
    server.until_closed(1);
    let (deadline, after) = only(&missed, resumed);
    assert_eq!(deadline, Deadline::Idle);
    assert!(after >= SHORT, "early: {after:?}");
}

#[test]
fn a_peer_that_half_closed_and_stays_is_idle_in_the_end() {
    let recorder = Recorder::echo().peer_closed(|_| {});
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (client, _) = server.open();
    client.shutdown(Shutdown::Write).unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::IdleTimeout]);
}

#[test]
fn a_client_has_to_send_a_first_byte_in_time() {
    let (recorder, missed) = noting(Recorder::echo().open(|conn| conn.send(b"hello?").ignore()));
    let mut server = Server::with_limits(recorder, patient().first_byte_timeout(SHORT));
    let opened = now(&mut server);
    let (_silent, _) = server.open();
    let (mut talking, key) = server.open();
    talking.write_all(b"x").unwrap();
    server.until_closed(1);
    let (deadline, after) = only(&missed, opened);
    assert_eq!(deadline, Deadline::FirstByte);
    assert!(after >= SHORT, "early: {after:?}");
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(server.calls.reasons(), [CloseReason::FirstByteTimeout]);
    assert!(server.reactor.context(server.handler).is_open(key), "who spoke stays");
}

#[test]
fn the_deadline_for_the_first_byte_counts_from_the_end_of_an_answer_that_had_to_wait() {
    // As long as the peer takes nothing it is not listened to either.
    let drained = Rc::new(Cell::new(Time::default()));
    let noted = Rc::clone(&drained);
    let size = 12 << 20;
    let recorder = Recorder::echo()
        .open(move |conn| conn.send(&pattern(size)).ignore())
        .drained(move |conn| noted.set(conn.now()));
    let (recorder, missed) = noting(recorder);
    let limits = patient().output_bytes_max(2 * size).first_byte_timeout(SHORT);
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    server.until("it is open", |calls| calls.opened().len() == 1);
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(*missed.borrow(), []);
    server.read(&mut client, size);
    server.until("it misses a deadline", |_| !missed.borrow().is_empty());
    let (deadline, after) = only(&missed, drained.get());
    assert_eq!(deadline, Deadline::FirstByte);
    assert!(after >= SHORT, "early: {after:?}");
}

#[test]
fn what_the_handler_expects_has_to_happen_in_time() {
    let recorder = Recorder::new().open(|conn| conn.expect_within(SHORT));
    let (recorder, missed) = noting(recorder.data(|conn, data| {
        match data[0] {
            b'n' => conn.expect_nothing(),
            b'l' => conn.expect_within(4 * SHORT),
            b'e' => conn.expect_within(SHORT / 4),
            _ => {}
        }
        Ok(data.len())
    }));
    let mut server = Server::with_limits(recorder, patient());
    for (word, least) in
        [("", SHORT), ("other", SHORT), ("later", 4 * SHORT), ("earlier", SHORT / 4)]
    {
        let opened = now(&mut server);
        let (mut client, _) = server.open();
        client.write_all(word.as_bytes()).unwrap();
        server.until("it is missed", |_| !missed.borrow().is_empty());
        let (deadline, after) = only(&missed, opened);
        assert_eq!(deadline, Deadline::Expect);
        assert!(after >= least, "{word}: early: {after:?}");
        assert!(word != "earlier" || after < SHORT || HAS_KERNEL, "late: {after:?}");
        missed.borrow_mut().clear();
    }
    let (mut client, _) = server.open();
    client.write_all(b"nothing").unwrap();
    turn_for(&mut server, 3 * SHORT);
    assert!(missed.borrow().is_empty() || HAS_KERNEL);
    assert!(server.calls.reasons().iter().all(|reason| *reason == CloseReason::ExpectTimeout));
}

#[test]
fn other_limits_hold_from_when_they_are_set() {
    let shorter = Rc::new(patient().idle_timeout(SHORT));
    let (recorder, missed) = noting(Recorder::new().data(move |conn, data| {
        conn.set_limits(&shorter);
        assert_eq!(conn.limits(), &shorter);
        Ok(data.len())
    }));
    let mut server = Server::with_limits(recorder, patient());
    let (mut client, _) = server.open();
    turn_for(&mut server, SHORT / 2);
    client.write_all(b"x").unwrap();
    server.until_closed(1);
    assert_eq!(missed.borrow()[0].0, Deadline::Idle);
}

#[test]
fn a_deadline_for_ever_is_none() {
    for ever in [Duration::MAX, Duration::MAX / 2, Duration::from_nanos(u64::MAX)] {
        let limits = patient().idle_timeout(ever).first_byte_timeout(ever);
        let mut server = Server::with_limits(Recorder::echo(), limits);
        let (mut client, _) = server.open();
        server.assert_echoes(&mut client);
        server.assert_idle();
        assert_eq!(server.reactor.next_wait(), None);
    }
}

#[test]
fn a_connection_that_ends_takes_its_deadlines_along() {
    let mut server = Server::with_limits(Recorder::echo(), patient().idle_timeout(SHORT));
    for _ in 0..3 {
        let (client, _) = server.open();
        drop(client);
    }
    server.until_closed(3);
    server.assert_idle();
    assert_eq!(server.reactor.next_wait(), None);
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Deadline(..))), 0);
}

#[test]
fn a_pause_takes_nothing_from_the_time_of_a_peer() {
    // For its first byte, or for the rest of what it has begun to say.
    for (begins, deadline) in [("", Deadline::FirstByte), ("x", Deadline::Message)] {
        let is_first = Cell::new(true);
        let (recorder, missed) = noting(
            Recorder::new()
                .open(move |conn| {
                    if begins.is_empty() {
                        conn.pause();
                    }
                })
                .data(move |conn, _| {
                    if is_first.replace(false) {
                        conn.pause();
                    }
                    Ok(0)
                }),
        );
        let limits = patient().first_byte_timeout(SHORT).message_timeout(SHORT);
        let mut server = Server::with_limits(recorder, limits);
        let (mut client, key) = server.open();
        client.write_all(begins.as_bytes()).unwrap();
        turn_for(&mut server, 2 * SHORT);
        assert_eq!(*missed.borrow(), []);
        let resumed = now(&mut server);
        server.reactor.context(server.handler).resume_key(key);
        server.until_closed(1);
        let (missed, after) = only(&missed, resumed);
        assert_eq!(missed, deadline);
        // The message had a little of its time before.
        let rest = if begins.is_empty() { SHORT } else { SHORT / 2 };
        assert!(after >= rest, "early: {after:?}");
    }
}
