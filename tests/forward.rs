//! Forwarding: bytes, ends and pressure go from one connection to another, and no handler sees them.

mod support;

use std::io::Write;
use std::net::Shutdown;

use oneloop::{CloseReason, Key, Limits};
use support::*;

/// Two clients, and the keys of their connections.
struct Pair {
    server: Server,
    one: TcpStream,
    other: TcpStream,
    keys: [Key; 2],
}

impl Pair {
    fn new(recorder: Recorder) -> Pair {
        Pair::with_limits(recorder, Limits::new())
    }

    fn with_limits(recorder: Recorder, limits: Limits) -> Pair {
        let mut server = Server::with_limits(recorder, limits);
        let (one, first) = server.open();
        let (other, second) = server.open();
        Pair { server, one, other, keys: [first, second] }
    }

    fn forward(&mut self, from: usize, to: usize) -> bool {
        let handler = self.server.handler;
        self.server.reactor.context(handler).forward(self.keys[from], self.keys[to])
    }

    fn both_ways(mut self) -> Pair {
        assert!(self.forward(0, 1) && self.forward(1, 0));
        self
    }
}

#[test]
fn bytes_go_both_ways_and_no_handler_is_shown_them() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    pair.one.write_all(b"there").unwrap();
    assert_eq!(pair.server.read(&mut pair.other, 5), b"there");
    pair.other.write_all(b"and back").unwrap();
    assert_eq!(pair.server.read(&mut pair.one, 8), b"and back");
    assert_eq!(pair.server.calls.shown(), Vec::<Vec<u8>>::new());
}

#[test]
fn what_the_handler_has_not_consumed_goes_first() {
    let recorder = Recorder::new().data(|conn, _| {
        conn.need(100);
        Ok(0)
    });
    let mut pair = Pair::new(recorder);
    pair.one.write_all(b"first, ").unwrap();
    pair.server.until("it is shown", |calls| calls.shown().len() == 1);
    assert!(pair.forward(0, 1));
    pair.one.write_all(b"second").unwrap();
    assert_eq!(pair.server.read(&mut pair.other, 13), b"first, second");
}

#[test]
fn a_callback_consumes_the_head_and_forwards_the_rest() {
    let (other, noted) = noted::<Key>();
    let recorder = Recorder::new().data(move |conn, data| {
        let (from, to) = (conn.key(), noted.borrow()[0]);
        assert!(conn.forward(from, to));
        Ok(data.len().min(5))
    });
    let mut pair = Pair::new(recorder);
    other.borrow_mut().push(pair.keys[1]);
    pair.one.write_all(b"head\nbody").unwrap();
    assert_eq!(pair.server.read(&mut pair.other, 4), b"body");
    assert_eq!(pair.server.calls.shown(), [b"head\nbody"]);
}

#[test]
fn the_end_of_file_goes_on_behind_the_bytes_and_the_other_direction_stays() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    let request = pattern(3_000_000);
    assert_eq!(pair.server.write(&mut pair.one, &request[..100_000]), None);
    pair.one.shutdown(Shutdown::Write).unwrap();
    let (there, end) = pair.server.read_to_end(&mut pair.other);
    assert!(there == request[..100_000] && end.is_none(), "{} bytes, {end:?}", there.len());
    pair.other.write_all(b"the answer").unwrap();
    assert_eq!(pair.server.read(&mut pair.one, 10), b"the answer");
    pair.other.shutdown(Shutdown::Write).unwrap();
    let (back, end) = pair.server.read_to_end(&mut pair.one);
    assert!(back.is_empty() && end.is_none());
    pair.server.until_closed(2);
    assert_eq!(pair.server.calls.reasons(), [CloseReason::PeerClosed; 2]);
    assert_eq!(pair.server.calls.count(|call| matches!(call, Call::PeerClosed(_))), 0);
}

#[test]
fn a_slow_reader_holds_up_who_feeds_it_and_loses_nothing() {
    let limits = Limits::new().output_bytes_high(64 << 10).output_bytes_low(16 << 10);
    let mut pair = Pair::with_limits(Recorder::new(), limits).both_ways();
    let sent = pattern(24 << 20);
    pair.one.set_nonblocking(true).unwrap();
    let mut written = 0;
    // As much as there is room for in all the buffers on the way.
    for _ in 0..2_000 {
        written += pair.one.write(&sent[written..]).unwrap_or(0);
        pair.server.reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
    }
    assert!(written < sent.len(), "all of it went into buffers");
    let memory = pair.server.reactor.stats().memory_bytes_peak;
    assert!(memory < 1 << 20, "{memory} bytes wait in the reactor");
    let mut read = Vec::new();
    while read.len() < sent.len() {
        if written < sent.len() {
            written += pair.one.write(&sent[written..]).unwrap_or(0);
        }
        read.extend(pair.server.read_some(&mut pair.other));
    }
    assert!(read == sent, "bytes were lost or changed");
    assert_eq!(pair.server.calls.reasons(), []);
}

#[test]
fn who_reads_nothing_may_still_send() {
    let limits = Limits::new().output_bytes_high(64 << 10).output_bytes_low(16 << 10);
    let mut pair = Pair::with_limits(Recorder::new(), limits).both_ways();
    let much = pattern(24 << 20);
    pair.other.set_nonblocking(true).unwrap();
    let mut written = 0;
    for _ in 0..2_000 {
        written += pair.other.write(&much[written..]).unwrap_or(0);
        pair.server.reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
    }
    assert!(written < much.len(), "all of it went into buffers");
    pair.one.write_all(b"and yet").unwrap();
    assert_eq!(pair.server.read(&mut pair.other, 7), b"and yet");
}

#[test]
fn an_end_that_was_forwarded_is_told_to_the_handler_when_the_forwarding_ends() {
    let mut pair = Pair::new(Recorder::new());
    assert!(pair.forward(0, 1));
    pair.one.shutdown(Shutdown::Write).unwrap();
    let (read, end) = pair.server.read_to_end(&mut pair.other);
    assert!(read.is_empty() && end.is_none());
    let (handler, key) = (pair.server.handler, pair.keys[0]);
    assert!(pair.server.reactor.context(handler).end_forward(key));
    pair.server.until("it hears of the end", |calls| calls.has(&Call::PeerClosed(key)));
}

#[test]
fn a_reset_goes_on_as_one() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    reset(pair.one);
    pair.server.until_closed(2);
    let (read, end) = pair.server.read_to_end(&mut pair.other);
    assert!(read.is_empty() && end == Some(std::io::ErrorKind::ConnectionReset), "{end:?}");
    let reasons = pair.server.calls.reasons();
    assert_eq!(reasons, [CloseReason::Reset; 2]);
}

#[test]
fn when_a_handler_closes_one_side_the_other_one_gets_its_bytes_and_the_end() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    pair.one.write_all(b"the last word").unwrap();
    assert_eq!(pair.server.read(&mut pair.other, 13), b"the last word");
    let (handler, key) = (pair.server.handler, pair.keys[0]);
    pair.server.reactor.context(handler).close_key(key);
    let (read, end) = pair.server.read_to_end(&mut pair.one);
    assert!(read.is_empty() && end.is_none());
    drop(pair.one);
    let (read, end) = pair.server.read_to_end(&mut pair.other);
    assert!(read.is_empty() && end.is_none(), "{end:?}");
    drop(pair.other);
    pair.server.until_closed(2);
    let reasons = pair.server.calls.reasons();
    assert_eq!(reasons, [CloseReason::Closed, CloseReason::OtherSide]);
}

#[test]
fn an_ended_forwarding_gives_the_connection_back_to_its_handler() {
    let mut pair = Pair::new(Recorder::echo());
    assert!(pair.forward(0, 1));
    pair.one.write_all(b"forwarded").unwrap();
    assert_eq!(pair.server.read(&mut pair.other, 9), b"forwarded");
    let (handler, key) = (pair.server.handler, pair.keys[0]);
    let mut cx = pair.server.reactor.context(handler);
    assert!(cx.end_forward(key));
    assert!(!cx.end_forward(key), "it has ended");
    pair.server.assert_echoes(&mut pair.one);
    pair.server.assert_echoes(&mut pair.other);
}

#[test]
fn what_cannot_be_forwarded_is_refused() {
    let mut pair = Pair::new(Recorder::new());
    let (_third, third) = pair.server.open();
    assert!(!pair.forward(0, 0), "to itself");
    assert!(pair.forward(0, 1));
    assert!(!pair.forward(0, 1), "again");
    let (handler, [one, other]) = (pair.server.handler, pair.keys);
    let mut cx = pair.server.reactor.context(handler);
    assert!(!cx.forward(third, other), "two into one");
    assert!(!cx.forward(one, third), "one into two");
    cx.close_key(third);
    assert!(!cx.forward(other, third), "to one that closes");
    assert!(!cx.forward(third, one), "from one that closes");
    assert!(!cx.forward(Key::from_bits(0), one), "from nobody");
}

#[test]
fn a_pause_that_waited_for_the_other_side_ends_with_it() {
    let recorder = Recorder::new().open(|conn| conn.pause());
    let mut pair = Pair::new(recorder);
    pair.one.write_all(b"early").unwrap();
    let mut pair = pair.both_ways();
    assert_eq!(pair.server.read(&mut pair.other, 5), b"early");
}

#[test]
fn a_connection_forwards_from_its_first_callback_on() {
    let (first, noted) = noted::<Key>();
    let recorder = Recorder::new().open(move |conn| {
        let own = conn.key();
        match noted.borrow().first() {
            Some(first) => assert!(conn.forward(own, *first) && conn.forward(*first, own)),
            None => conn.pause(),
        }
    });
    let mut server = Server::new(recorder);
    let (mut one, key) = server.open();
    first.borrow_mut().push(key);
    one.write_all(b"early").unwrap();
    let (mut other, _) = server.open();
    assert_eq!(server.read(&mut other, 5), b"early");
    other.write_all(b"late").unwrap();
    assert_eq!(server.read(&mut one, 4), b"late");
}

#[test]
fn a_stop_ends_both() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    pair.server.reactor.stop();
    assert_eq!(pair.server.calls.reasons(), [CloseReason::Stopped; 2]);
    pair.server.reactor.verify();
}
