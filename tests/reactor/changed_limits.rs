//! Limits that change while a connection is open, with input that was kept under the old ones.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Limits, Sent};

// Changed

/// Keeps what it is shown until that are so many bytes. A timer later it has a limit of 50 bytes of
/// input, and consumes so many bytes a call.
fn limited_with(kept: usize, consumes: usize) -> Recorder {
    let limits = Rc::new(Limits::new().input_bytes_max(50));
    let is_limited = Rc::new(Cell::new(false));
    let limited = Rc::clone(&is_limited);
    Recorder::new()
        .data(move |conn, data| {
            if limited.get() {
                return Ok(consumes.min(data.len()));
            }
            if data.len() == kept {
                conn.set_timer(Duration::ZERO);
            }
            Ok(0)
        })
        .timer(move |conn, _| {
            is_limited.set(true);
            conn.set_limits(&limits);
        })
}

/// Sends so many bytes, which are shown, and waits until the limits have changed.
fn until_limited_with(server: &mut Server, kept: usize) -> TcpStream {
    let (mut client, _) = server.open();
    client.write_all(&pattern(kept)).unwrap();
    until_limited(server);
    client
}

fn until_limited(server: &mut Server) {
    server.until("the limits are set", |calls| {
        calls.count(|call| matches!(call, Call::Timer(..))) == 1
    });
}

#[test]
fn a_limit_that_is_lowered_to_what_is_kept_or_below_shows_it_once_more() {
    for kept in [50, 51, 200] {
        let mut server = Server::new(limited_with(kept, 0));
        let client = until_limited_with(&mut server, kept);
        drop(client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::InputTooLong], "{kept}");
        let shown = server.calls.shown();
        let times = shown.iter().filter(|data| **data == pattern(kept)).count();
        assert_eq!(times, 2, "before and after");
    }
}

#[test]
fn who_consumes_enough_under_a_lowered_limit_stays() {
    for kept in [50, 51, 200] {
        for consumes in [1, 30, 1000] {
            let mut server = Server::new(limited_with(kept, consumes));
            let mut client = until_limited_with(&mut server, kept);
            server.assert_idle();
            let left = server.calls.shown().last().unwrap().len().saturating_sub(consumes);
            assert!(left < 50, "{left} of {kept} are left");
            client.write_all(b"more").unwrap();
            server.until("more is shown", |calls| calls.shown().last().unwrap().ends_with(b"more"));
            assert!(server.calls.closed().is_empty());
        }
    }
}

#[test]
fn a_lowered_limit_with_room_left_shows_nothing_until_something_comes() {
    let mut server = Server::new(limited_with(49, 0));
    let mut client = until_limited_with(&mut server, 49);
    server.assert_idle();
    let shown = server.calls.shown();
    assert_eq!(shown.iter().filter(|data| data.len() == 49).count(), 1);
    client.write_all(&[0; 10]).unwrap();
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::InputTooLong]);
    assert_eq!(server.calls.shown().last().unwrap().len(), 50);
}

#[test]
fn a_limit_that_is_lowered_while_input_waits_for_more_shows_it() {
    let limits = Rc::new(Limits::new().input_bytes_max(50));
    let recorder = Recorder::new()
        .open(|conn| {
            conn.need(200);
            conn.set_interval(Duration::from_millis(1));
        })
        .timer(move |conn, timer| {
            if conn.bytes_in() == 100 {
                conn.cancel_timer(timer);
                conn.set_limits(&limits);
            }
        });
    let mut server = Server::new(recorder);
    let (mut client, _) = server.open();
    client.write_all(&pattern(100)).unwrap();
    server.until("it is shown", |calls| calls.shown() == [pattern(100)]);
    server.assert_idle();
    assert!(server.calls.closed().is_empty());
}

#[test]
fn a_limit_that_is_lowered_in_a_pause_is_judged_when_that_is_over() {
    for consumes in [0, 60] {
        let limits = Rc::new(Limits::new().input_bytes_max(50));
        let is_first = Cell::new(true);
        let recorder = Recorder::new().data(move |conn, data| {
            if data.len() < 100 && is_first.get() {
                return Ok(0);
            }
            if is_first.replace(false) {
                conn.pause();
                conn.set_limits(&limits);
                return Ok(0);
            }
            Ok(consumes.min(data.len()))
        });
        let mut server = Server::new(recorder);
        let (mut client, key) = server.open();
        client.write_all(&pattern(100)).unwrap();
        server.until("it is shown", |calls| calls.shown().contains(&pattern(100)));
        server.assert_idle();
        assert!(server.calls.closed().is_empty(), "nobody can consume it in a pause");
        client.write_all(b"x").unwrap();
        server.reactor.context(server.handler).resume_key(key);
        if consumes == 0 {
            drop(client);
            server.until_closed(1);
            assert_eq!(server.calls.reasons(), [CloseReason::InputTooLong]);
            let shown = server.calls.shown();
            assert_eq!(shown[shown.len() - 2..], [pattern(100), pattern(100)]);
        } else {
            server.until("the rest is shown", |calls| {
                calls.shown().last().unwrap().last() == Some(&b'x')
            });
            assert!(server.calls.shown().iter().all(|data| data.len() <= 100));
        }
    }
}

#[test]
fn a_limit_that_is_lowered_by_who_consumes_a_part_shows_the_rest() {
    let limits = Rc::new(Limits::new().input_bytes_max(50));
    let is_limited = Cell::new(false);
    let recorder = Recorder::new().data(move |conn, data| {
        if data.len() == 100 {
            is_limited.set(true);
            conn.set_limits(&limits);
        }
        Ok(if is_limited.get() { data.len().min(10) } else { 0 })
    });
    let mut server = Server::new(recorder);
    let (mut client, _) = server.open();
    client.write_all(&pattern(100)).unwrap();
    server.until("less is left than the limit", |calls| {
        calls.shown().contains(&pattern(100)) && calls.shown().last().unwrap().len() < 60
    });
    server.assert_idle();
    assert!(server.calls.closed().is_empty());
    client.write_all(b"x").unwrap();
    server.until("more is shown", |calls| calls.shown().last().unwrap().ends_with(b"x"));
}

#[test]
fn a_raised_limit_lets_in_what_the_old_one_had_no_room_for() {
    let limits = Rc::new(Limits::new().input_bytes_max(200));
    let recorder = Recorder::new().data(move |conn, data| {
        if data.len() == 50 {
            conn.set_limits(&limits);
        }
        Ok(0)
    });
    let mut server = Server::with_limits(recorder, Limits::new().input_bytes_max(50));
    let (mut client, _) = server.open();
    client.write_all(&pattern(100)).unwrap();
    server.until("all of it is shown", |calls| calls.shown().contains(&pattern(100)));
    server.assert_idle();
    assert!(server.calls.closed().is_empty());
}

#[test]
fn a_high_watermark_that_is_lowered_holds_for_what_is_sent_next() {
    let limits = Rc::new(Limits::new().output_bytes_low(10).output_bytes_high(100));
    let mut server = Server::new(Recorder::new().open(move |conn| {
        conn.set_limits(&limits);
        assert_eq!(conn.send(&[0; 100]), Sent::Ok);
        assert!(!conn.is_over_high());
        assert_eq!(conn.send(&[0]), Sent::OverHigh);
        assert!(conn.is_over_high());
    }));
    let (mut client, key) = server.open();
    assert_eq!(server.read(&mut client, 101), [0; 101]);
    server.until("it is told", |calls| calls.has(&Call::Drained(key)));
}
