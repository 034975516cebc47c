//! Edges: an edge is reported once, so whatever is left undone has to be remembered.

use std::cell::RefCell;
use std::io::{IoSlice, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Limits, ListenOptions, ReactorLimits};

use crate::support::*;

/// Ten budgets and then silence, with the budget counted in bytes, in reads, and cut by every other
/// limit of a read; around every boundary.
#[test]
fn what_a_budget_leaves_is_read_without_another_event() {
    const BUDGET: usize = 1000;
    let plain = || Limits::new().read_bytes_per_turn_max(BUDGET);
    let cases = [
        (plain(), 64 * 1024),
        (plain().reads_per_turn_max(1), 64 * 1024),
        (plain().input_bytes_max(300), 64 * 1024),
        (plain().input_bytes_max(300).reads_per_turn_max(2), 64 * 1024),
        (plain(), 300),
        (plain(), 1),
    ];
    for (limits, read_buffer_bytes) in cases {
        for extra in [0, 1] {
            let sent = pattern(10 * BUDGET + extra);
            let in_turn: Rc<RefCell<Vec<(u64, usize)>>> = Rc::default();
            let log = Rc::clone(&in_turn);
            let recorder = Recorder::new().data(move |conn, data| {
                log.borrow_mut().push((conn.stats().turns, data.len()));
                Ok(data.len())
            });
            let options = ListenOptions::new().limits(limits.clone());
            let reactor_limits =
                ReactorLimits::new().connections_max(8).read_buffer_bytes(read_buffer_bytes);
            let mut server = Server::with(recorder, &options, reactor_limits);
            let (mut client, _) = server.open();
            client.write_all(&sent).unwrap();
            until_received(server.address, &client, sent.len());
            let events = server.reactor.stats().events;
            run_until(&mut server.reactor, "all of it is read", |reactor| {
                reactor.stats().bytes_in == sent.len() as u64
            });
            assert_eq!(server.calls.shown().concat(), sent);
            if needs_linux("events that are counted") {
                assert!(server.reactor.stats().events <= events + 1, "one event for all of it");
            }
            assert!(server.reactor.stats().budgets_exhausted >= 10);
            server.assert_idle();
            let log = in_turn.borrow();
            for turn in log.iter().map(|(turn, _)| *turn) {
                let bytes: usize =
                    log.iter().filter(|(other, _)| *other == turn).map(|(_, count)| *count).sum();
                assert!(bytes <= BUDGET, "{bytes} bytes in turn {turn}: {limits:?}");
            }
        }
    }
}

/// What is kept of a partial message, however large, makes the next read neither larger than the
/// budget nor what is shown larger than the limit.
#[test]
fn a_partial_message_is_read_within_the_budget_and_shown_within_the_limit() {
    const BUDGET: usize = 1000;
    for input_bytes_max in [1500, 15_000] {
        let recorder = Recorder::new().data(move |conn, data| {
            assert!(data.len() <= input_bytes_max);
            if data.len() < input_bytes_max {
                conn.need(input_bytes_max);
                return Ok(0);
            }
            // The most room that a later read could mistake for its own.
            Ok(input_bytes_max - 1)
        });
        let limits = Limits::new().read_bytes_per_turn_max(BUDGET).input_bytes_max(input_bytes_max);
        let mut server = Server::with_limits(recorder, limits);
        let (mut client, _) = server.open();
        let total = 3 * input_bytes_max;
        client.write_all(&pattern(total)).unwrap();
        until_received(server.address, &client, total);
        let mut before = 0;
        run_until(&mut server.reactor, "all of it is read", |reactor| {
            let now = reactor.stats().bytes_in;
            assert!(now - before <= BUDGET as u64, "{} bytes in one turn", now - before);
            before = now;
            now == total as u64
        });
        let full =
            |call: &Call| matches!(call, Call::Data(_, data) if data.len() == input_bytes_max);
        assert_eq!(server.calls.count(full), 3);
        assert_eq!(server.calls.closed(), []);
    }
}

/// Data and the end of file that come together are one event, so a read that does not fill its
/// buffer must not count as the last one.
#[test]
fn a_short_read_does_not_hide_the_end_of_file_that_came_with_it() {
    const READ: usize = 100;
    for count in [1, 3, READ - 1, READ, READ + 1, 2 * READ, 2 * READ + 1, 10 * READ] {
        for is_open_before in [false, true] {
            let reactor_limits = ReactorLimits::new().connections_max(8).read_buffer_bytes(READ);
            let mut server = Server::with(Recorder::new(), &ListenOptions::new(), reactor_limits);
            let mut client = if is_open_before {
                let (client, _) = server.open();
                server.assert_idle();
                client
            } else {
                server.connect()
            };
            let sent = pattern(count);
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            until_received(server.address, &client, count + 1);
            server.until_closed(1);
            assert_eq!(server.calls.shown().concat(), sent);
            assert_eq!(server.calls.count(|call| matches!(call, Call::PeerClosed(_))), 1);
            assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
        }
    }
}

#[test]
fn an_end_of_file_after_the_data_was_read_is_seen() {
    let mut server = Server::new(Recorder::new());
    let (mut client, _) = server.open();
    client.write_all(b"abc").unwrap();
    server.until("the data", |calls| calls.shown() == [b"abc"]);
    server.assert_idle();
    client.shutdown(Shutdown::Write).unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
}

/// The edge for them came during the pause, and no other one will.
#[test]
fn resume_finds_the_bytes_that_came_during_the_pause() {
    for is_seen_before in [false, true] {
        let mut server = Server::new(Recorder::new().open(|conn| conn.pause()));
        let (mut client, key) = server.open();
        client.write_all(b"while you were away").unwrap();
        until_received(server.address, &client, 19);
        if is_seen_before {
            server.assert_idle();
        }
        assert_eq!(server.calls.shown().len(), 0);
        let events = server.reactor.stats().events;
        server.reactor.context(server.handler).resume_key(key);
        server.until("it is shown", |calls| calls.shown() == [b"while you were away"]);
        let more = server.reactor.stats().events - events;
        if needs_linux("events that are counted") {
            assert_eq!(more, u64::from(!is_seen_before), "events");
        }
        server.assert_idle();
    }
}

#[test]
fn resume_finds_an_end_of_file_that_came_during_the_pause() {
    for data in [&b""[..], b"the last words"] {
        let mut server = Server::new(Recorder::new().open(|conn| conn.pause()));
        let (mut client, key) = server.open();
        client.write_all(data).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        until_received(server.address, &client, data.len() + 1);
        server.assert_idle();
        assert_eq!(server.calls.all().len(), 3, "accept, open, start: {:?}", server.calls);
        server.reactor.context(server.handler).resume_key(key);
        server.until_closed(1);
        assert_eq!(server.calls.shown().concat(), data);
        assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
    }
}

#[test]
fn bytes_that_came_before_the_accept_are_read() {
    let mut server = Server::new(Recorder::echo());
    let mut client = server.connect();
    client.write_all(b"early bird").unwrap();
    until_received(server.address, &client, 10);
    assert_eq!(server.read(&mut client, 10), b"early bird");
    server.assert_idle();
}

/// A read into no room gives 0 bytes, which looks like an end of file; here everything is filled to
/// the last byte.
#[test]
fn input_that_fills_its_room_exactly_is_no_end_of_file() {
    const MAX: usize = 4096;
    // What the handler consumes of each full buffer: all; most, by need; half.
    for consume in [MAX, MAX - 1, MAX / 2, 1] {
        for piece in [MAX, MAX / 2, 1024, 1000] {
            let recorder = Recorder::new().data(move |conn, data| {
                if data.len() < MAX {
                    conn.need(MAX);
                    return Ok(0);
                }
                Ok(consume)
            });
            let limits = Limits::new().input_bytes_max(MAX);
            let mut server = Server::with_limits(recorder, limits);
            let (mut client, _) = server.open();
            let total = 4 * MAX;
            for part in pattern(total).chunks(piece) {
                client.write_all(part).unwrap();
                server.reactor.turn(Some(Duration::ZERO)).unwrap();
            }
            run_until(&mut server.reactor, "all of it is read", |reactor| {
                reactor.stats().bytes_in == total as u64
            });
            server.assert_idle();
            assert_eq!(server.calls.closed(), [], "consume {consume}, piece {piece}");
            client.shutdown(Shutdown::Write).unwrap();
            server.until_closed(1);
            assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
        }
    }
}

#[test]
fn sending_nothing_writes_nothing() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.send(b"").ignore();
        conn.send_shared(Rc::from([])).ignore();
        conn.send_vectored(&[]).ignore();
        conn.send_vectored(&[IoSlice::new(b""), IoSlice::new(b"")]).ignore();
        let key = conn.key();
        conn.send_to(key, b"").ignore();
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 1);
    server.assert_idle();
    let stats = server.reactor.stats();
    assert_eq!((stats.writes, stats.memory_bytes, stats.closes_total()), (0, 0, 0));
}
