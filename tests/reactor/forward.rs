//! Forwarding: bytes, ends and pressure go from one connection to another, and no handler sees them.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Ended, Key, Limits, Report, Traffic};

/// Longer than any of these drains takes.
const LONG: Duration = Duration::from_secs(3600);

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

    /// Both clients say what they have to, and both sides end.
    fn finish(self) -> Server {
        let Pair { mut server, mut one, mut other, .. } = self;
        one.write_all(b"the end").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read_to_end(&mut other), (b"the end".to_vec(), None));
        other.write_all(b"goodbye").unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read_to_end(&mut one), (b"goodbye".to_vec(), None));
        server.until_closed(2);
        server
    }
}

fn report_of_drain(server: &mut Server) -> Report {
    run_until(&mut server.reactor, "the drain is over", |reactor| !reactor.is_draining());
    server.reactor.report().expect("it has ended").clone()
}

fn is_drain(call: &Call) -> bool {
    matches!(call, Call::Drain(_))
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
        pair.server.reactor.turn(Some(Duration::ZERO)).unwrap();
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
        pair.server.reactor.turn(Some(Duration::ZERO)).unwrap();
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
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
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

#[test]
fn what_there_is_room_for_costs_a_read_and_a_write_and_no_memory() {
    if !needs_linux("calls are counted") || !needs_tcp("a short read says nothing there") {
        return;
    }
    let mut pair = Pair::new(Recorder::new()).both_ways();
    pair.server.assert_idle();
    for round in 0..10 {
        let before = pair.server.reactor.stats().clone();
        pair.one.write_all(b"piece").unwrap();
        assert_eq!(pair.server.read(&mut pair.other, 5), b"piece");
        let now = pair.server.reactor.stats();
        let calls = (now.reads - before.reads, now.writes - before.writes);
        assert_eq!(calls, (1, 1), "round {round}");
    }
    assert_eq!(pair.server.reactor.stats().memory_bytes_peak, 0);
}

#[test]
fn how_much_went_over_a_connection_is_known_until_its_end_also_of_what_was_forwarded() {
    let (notes, noted) = noted();
    let recorder = Recorder::echo().close(move |key, _, cx| {
        let Traffic { bytes_in, bytes_out, .. } = cx.traffic(key).expect("it ends now");
        noted.borrow_mut().push((bytes_in, bytes_out));
        let others = cx.traffic(Key::from_bits(0));
        assert_eq!(others, None);
    });
    let mut pair = Pair::new(recorder);
    let (mut alone, key) = pair.server.open();
    alone.write_all(b"hello").unwrap();
    pair.server.read(&mut alone, 5);
    let handler = pair.server.handler;
    let traffic = pair.server.reactor.context(handler).traffic(key).expect("it is open");
    assert_eq!((traffic.bytes_in, traffic.bytes_out), (5, 5));
    drop(alone);
    pair.server.until_closed(1);
    assert_eq!(*notes.borrow(), [(5, 5)]);
    assert_eq!(pair.server.reactor.context(handler).traffic(key), None);

    let mut pair = pair.both_ways();
    pair.one.write_all(b"request").unwrap();
    pair.server.read(&mut pair.other, 7);
    pair.other.write_all(b"an answer").unwrap();
    pair.server.read(&mut pair.one, 9);
    pair.finish();
    let mut ends = notes.borrow()[1..].to_vec();
    ends.sort_unstable();
    assert_eq!(ends, [(14, 16), (16, 14)], "with seven bytes each at the end");
}

#[test]
fn bytes_for_one_that_is_gone_are_counted_and_whoever_sent_them_is_reset() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let mut pair = Pair::new(Recorder::new()).both_ways();
    pair.one.write_all(b"too late").unwrap();
    until_received(pair.server.address, &pair.one, 8);
    reset(pair.other);
    pair.server.until_closed(2);
    assert_eq!(pair.server.calls.reasons(), [CloseReason::Reset; 2]);
    let (read, end) = pair.server.read_to_end(&mut pair.one);
    assert!(read.is_empty() && end == Some(std::io::ErrorKind::ConnectionReset), "{end:?}");
    if COUNTS_AS_LINUX && !HAS_KERNEL {
        // Who became ready first is served first, and a reset takes no time.
        assert_eq!(pair.server.reactor.stats().bytes_undelivered, 8);
    }
}

#[test]
fn a_drain_waits_for_both_peers_and_tells_neither_side() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    pair.one.write_all(b"request").unwrap();
    pair.server.reactor.drain(LONG);
    assert_eq!(pair.server.read(&mut pair.other, 7), b"request");
    pair.server.assert_idle();
    pair.other.write_all(b"answer").unwrap();
    assert_eq!(pair.server.read(&mut pair.one, 6), b"answer");
    let mut server = pair.finish();
    let report = report_of_drain(&mut server);
    assert_eq!((report.end, report.connections_finished), (Ended::Drained, 2));
    assert_eq!((report.bytes_undelivered, report.bytes_unaccepted), (0, 0));
    assert_eq!(server.calls.count(is_drain), 0);
}

#[test]
fn who_begins_to_forward_in_a_drain_is_left_alone_from_then_on() {
    let mut pair = Pair::new(Recorder::new().open(|conn| conn.pause()));
    pair.server.reactor.drain(LONG);
    pair.server.until("they are told", |calls| calls.count(is_drain) == 2);
    let mut pair = pair.both_ways();
    pair.server.assert_idle();
    let mut server = pair.finish();
    assert_eq!(server.calls.count(is_drain), 2);
    assert_eq!(report_of_drain(&mut server).connections_finished, 2);
}

#[test]
fn a_forwarding_that_ends_in_a_drain_gives_both_sides_to_the_drain() {
    let mut pair = Pair::new(Recorder::echo());
    let [from, to] = pair.keys;
    assert!(pair.forward(0, 1));
    pair.server.reactor.drain(LONG);
    pair.one.write_all(b"forwarded").unwrap();
    assert_eq!(pair.server.read(&mut pair.other, 9), b"forwarded");
    // The other direction is its handler's, as ever.
    pair.server.assert_echoes(&mut pair.other);
    pair.one.write_all(b"answered").unwrap();
    until_received(pair.server.address, &pair.one, 8);
    let handler = pair.server.handler;
    assert!(pair.server.reactor.context(handler).end_forward(from));
    assert_eq!(pair.server.read_to_end(&mut pair.one), (b"answered".to_vec(), None));
    assert_eq!(pair.server.read_to_end(&mut pair.other), (vec![], None));
    drop((pair.one, pair.other));
    let report = report_of_drain(&mut pair.server);
    assert_eq!((report.connections_finished, report.bytes_unaccepted), (2, 0));
    for key in [from, to] {
        assert_eq!(pair.server.calls.count(|call| *call == Call::Drain(key)), 1);
    }
}

#[test]
fn a_drain_counts_who_followed_its_other_side_as_finished() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    pair.server.reactor.drain(LONG);
    let (handler, key) = (pair.server.handler, pair.keys[0]);
    pair.server.reactor.context(handler).close_key(key);
    drop((pair.one, pair.other));
    let report = report_of_drain(&mut pair.server);
    assert_eq!((report.connections_finished, report.connections_failed), (2, 0));
    let reasons = pair.server.calls.reasons();
    assert_eq!(reasons, [CloseReason::Closed, CloseReason::OtherSide]);
}

#[test]
fn what_waits_already_goes_first() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    pair.one.write_all(b"younger").unwrap();
    until_received(pair.server.address, &pair.one, 7);
    let (handler, key) = (pair.server.handler, pair.keys[1]);
    pair.server.reactor.context(handler).send_to(key, b"older, ").ignore();
    assert_eq!(pair.server.read(&mut pair.other, 14), b"older, younger");
}

#[test]
fn who_was_full_between_two_pieces_goes_on_when_there_is_room() {
    let mut pair = Pair::new(Recorder::new()).both_ways();
    let mut sent = Vec::new();
    while pair.server.reactor.stats().write_would_blocks == 0 {
        let piece = [sent.len() as u8; 1000];
        assert_eq!(pair.server.write(&mut pair.one, &piece), None);
        sent.extend(piece);
        pair.server.reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(pair.server.read(&mut pair.other, sent.len()) == sent);
}
