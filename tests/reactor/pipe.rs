//! Pipes as connections: one direction each, through the same handlers.

#![allow(clippy::useless_conversion, reason = "only in simulation an end is what a reactor adopts")]

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Ended, HandlerId, Key, Limits, Origin, ReactorLimits, Sent};

struct Loop {
    reactor: Reactor,
    handler: HandlerId<Recorder>,
    calls: Calls,
}

impl Loop {
    fn new(recorder: Recorder) -> Loop {
        Loop::with_limits(recorder, Limits::new())
    }

    fn with_limits(recorder: Recorder, limits: Limits) -> Loop {
        let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(8)).unwrap();
        reactor.set_connect_limits(limits).unwrap();
        let calls = recorder.calls.clone();
        let handler = reactor.add(recorder);
        Loop { reactor, handler, calls }
    }

    fn adopt(&mut self, end: PipeEnd, tag: u64) -> Key {
        self.reactor.adopt(self.handler, end.into(), tag).expect("it is a pipe")
    }

    /// A pipe that is read by the reactor, and the end that writes to it.
    fn pipe_in(&mut self) -> (Key, PipeEnd) {
        let (reader, writer) = pipe_ends();
        let key = self.adopt(reader, 1);
        self.until("it opens", |calls| calls.opened().contains(&key));
        (key, writer)
    }

    /// A pipe that the reactor writes to, and the end that reads it.
    fn pipe_out(&mut self) -> (Key, PipeEnd) {
        let (reader, writer) = pipe_ends();
        let key = self.adopt(writer, 2);
        self.until("it opens", |calls| calls.opened().contains(&key));
        (key, reader)
    }

    fn until(&mut self, what: &str, is_done: impl Fn(&Calls) -> bool) {
        let calls = self.calls.clone();
        run_until(&mut self.reactor, &format!("{what}: {calls:?}"), |_| is_done(&calls));
    }

    fn until_closed(&mut self) -> Vec<CloseReason> {
        self.until("all are closed", |calls| calls.closed().len() == calls.opened().len());
        self.calls.check();
        self.calls.reasons()
    }

    fn read_to_end(&mut self, reader: &mut PipeEnd) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        run_until(&mut self.reactor, "the end of file comes", |_| {
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => return true,
                    Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        bytes
    }

    fn shown(&self) -> Vec<u8> {
        self.calls.shown().concat()
    }
}

#[test]
fn what_is_written_to_a_pipe_is_shown_and_then_its_end() {
    let mut pipes = Loop::new(Recorder::new());
    let (key, mut writer) = pipes.pipe_in();
    writer.write_all(b"one, ").unwrap();
    pipes.until("it is shown", |calls| !calls.shown().is_empty());
    writer.write_all(b"two").unwrap();
    drop(writer);
    assert_eq!(pipes.until_closed(), [CloseReason::PeerClosed]);
    assert_eq!(pipes.shown(), b"one, two");
    assert!(pipes.calls.has(&Call::PeerClosed(key)));
    assert_idle(&mut pipes.reactor);
}

/// Of an empty pipe Linux reports its end alone, and nothing to read.
#[test]
fn the_end_of_an_empty_pipe_is_an_end_of_file() {
    let mut pipes = Loop::new(Recorder::new());
    let (key, writer) = pipes.pipe_in();
    assert_idle(&mut pipes.reactor);
    drop(writer);
    assert_eq!(pipes.until_closed(), [CloseReason::PeerClosed]);
    assert!(pipes.calls.has(&Call::PeerClosed(key)));
}

#[test]
fn a_handler_that_stays_when_the_peer_closed_has_nothing_to_stay_for() {
    let mut pipes = Loop::new(Recorder::new().peer_closed(|_| {}));
    let (_, writer) = pipes.pipe_in();
    drop(writer);
    assert_eq!(pipes.until_closed(), [CloseReason::PeerClosed]);
}

#[test]
fn the_start_of_the_handler_comes_first_and_the_tag_with_the_opening() {
    let (origins, notes) = noted();
    let recorder = Recorder::new().open(move |conn| notes.borrow_mut().push(conn.origin()));
    let mut pipes = Loop::new(recorder);
    let (reader, mut writer) = pipe_ends();
    writer.write_all(b"early").unwrap();
    let key = pipes.adopt(reader, 77);
    assert_eq!(pipes.calls.all(), []);
    pipes.until("it is shown", |calls| !calls.shown().is_empty());
    let calls = [Call::Start, Call::Open(key), Call::Data(key, b"early".to_vec())];
    assert_eq!(pipes.calls.all(), calls);
    assert_eq!(*origins.borrow(), [Origin::Adopted(77)]);
    assert_eq!(pipes.reactor.stats().adoptions, 1);
}

#[test]
fn to_a_pipe_that_is_read_nothing_can_be_sent() {
    let (sent, notes) = noted();
    let recorder = Recorder::new().data(move |conn, data| {
        notes.borrow_mut().push(conn.send(data));
        Ok(data.len())
    });
    let mut pipes = Loop::new(recorder);
    let (key, mut writer) = pipes.pipe_in();
    writer.write_all(b"x").unwrap();
    pipes.until("it is shown", |calls| !calls.shown().is_empty());
    assert_eq!(*sent.borrow(), [Sent::Gone]);
    assert_eq!(pipes.reactor.context(pipes.handler).send_to(key, b"x"), Sent::Gone);
}

/// It does not wait for the writer, which learns of it when it writes again.
#[test]
fn a_pipe_that_is_read_closes_at_once() {
    let mut pipes = Loop::new(Recorder::new());
    let (key, mut writer) = pipes.pipe_in();
    pipes.reactor.context(pipes.handler).close_key(key);
    assert_eq!(pipes.until_closed(), [CloseReason::Closed]);
    assert_eq!(pipes.reactor.stats().lingers_cut, 0);
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_callback_that_closes_a_pipe_leaves_the_rest_in_it() {
    let mut pipes = Loop::with_limits(
        Recorder::new().data(|conn, data| {
            conn.close();
            Ok(data.len())
        }),
        Limits::new().read_bytes_per_turn_max(100).input_bytes_max(100),
    );
    let (_, mut writer) = pipes.pipe_in();
    writer.write_all(&pattern(1000)).unwrap();
    assert_eq!(pipes.until_closed(), [CloseReason::Closed]);
    assert_eq!(pipes.reactor.stats().bytes_discarded, 0);
    assert!(pipes.shown().len() <= 100);
}

#[test]
fn a_paused_pipe_holds_its_writer_up_and_loses_nothing() {
    let mut pipes = Loop::new(Recorder::new().open(|conn| conn.pause()));
    let (key, mut writer) = pipes.pipe_in();
    let sent = pattern(3_000_000);
    let mut written = 0;
    for _ in 0..100 {
        written += writer.write(&sent[written..]).unwrap_or(0);
        pipes.reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(written < sent.len() && pipes.calls.shown().is_empty());
    pipes.reactor.context(pipes.handler).resume_key(key);
    let calls = pipes.calls.clone();
    run_until(&mut pipes.reactor, "all is written", |_| {
        written += writer.write(&sent[written..]).unwrap_or(0);
        written == sent.len() && calls.shown().concat().len() == written
    });
    assert!(pipes.shown() == sent, "bytes were lost or changed");
}

#[test]
fn what_is_sent_to_a_pipe_comes_out_in_order_however_slowly_it_is_read() {
    let limits = Limits::new().output_bytes_high(8 << 20).output_bytes_max(16 << 20);
    let mut pipes = Loop::with_limits(Recorder::new(), limits);
    let (key, mut reader) = pipes.pipe_out();
    let much = pattern(5_000_000);
    let mut cx = pipes.reactor.context(pipes.handler);
    for piece in much.chunks(700_001) {
        assert_eq!(cx.send_to(key, piece), Sent::Ok);
    }
    cx.close_key(key);
    run_until(&mut pipes.reactor, "it is full", |reactor| reactor.stats().write_would_blocks > 0);
    assert_idle(&mut pipes.reactor);
    assert!(pipes.read_to_end(&mut reader) == much, "bytes were lost or changed");
    assert_eq!(pipes.until_closed(), [CloseReason::Closed]);
}

#[test]
fn sending_the_end_of_file_to_a_pipe_closes_it() {
    let mut pipes = Loop::new(Recorder::new().open(|conn| {
        conn.send(b"all there is").ignore();
        conn.shutdown_write();
    }));
    let (_, mut reader) = pipes.pipe_out();
    assert_eq!(pipes.read_to_end(&mut reader), b"all there is");
    assert_eq!(pipes.until_closed(), [CloseReason::Closed]);
}

/// An idle pipe that is written to is nothing to read, and has no end.
#[test]
fn a_pipe_that_is_written_to_is_quiet() {
    let mut pipes = Loop::new(Recorder::new());
    let (key, mut reader) = pipes.pipe_out();
    pipes.reactor.context(pipes.handler).send_to(key, b"x").ignore();
    pipes.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_idle(&mut pipes.reactor);
    assert_eq!(reader.read(&mut [0; 2]).unwrap(), 1);
    assert_idle(&mut pipes.reactor);
    assert_eq!(pipes.calls.all(), [Call::Start, Call::Open(key)]);
}

#[test]
fn a_reader_that_goes_is_noticed_without_a_write() {
    if !needs_linux("that its reader is gone is told by a hint") {
        return;
    }
    let mut pipes = Loop::new(Recorder::new());
    let (_, reader) = pipes.pipe_out();
    drop(reader);
    assert_eq!(pipes.until_closed(), [CloseReason::Reset]);
}

#[test]
fn output_that_nobody_will_read_is_counted_as_undelivered() {
    let limits = Limits::new().output_bytes_high(8 << 20).output_bytes_max(16 << 20);
    let mut pipes = Loop::with_limits(Recorder::new(), limits);
    let (key, reader) = pipes.pipe_out();
    let mut cx = pipes.reactor.context(pipes.handler);
    assert_eq!(cx.send_to(key, &pattern(5_000_000)), Sent::Ok);
    cx.close_key(key);
    pipes.reactor.turn(Some(Duration::ZERO)).unwrap();
    drop(reader);
    assert_eq!(pipes.until_closed(), [CloseReason::Reset]);
    let stats = pipes.reactor.stats();
    assert_eq!(stats.bytes_out + stats.bytes_undelivered, 5_000_000);
}

/// The first write fails, before anything was queued.
#[test]
fn last_words_that_nobody_will_read_are_counted_as_undelivered() {
    let mut pipes = Loop::new(Recorder::new().open(|conn| {
        conn.send(b"last words").ignore();
        conn.close();
    }));
    let (reader, writer) = pipe_ends();
    drop(reader);
    pipes.adopt(writer, 1);
    pipes.until("it has ended", |calls| !calls.closed().is_empty());
    assert_eq!(pipes.calls.reasons(), [CloseReason::Reset]);
    assert_eq!(pipes.reactor.stats().bytes_undelivered, 10);
}

/// As a program does that stands between two others.
#[test]
fn a_pipe_is_forwarded_to_a_pipe_with_its_end() {
    let mut pipes = Loop::new(Recorder::new());
    let (from, mut writer) = pipes.pipe_in();
    let (to, mut reader) = pipes.pipe_out();
    assert!(pipes.reactor.context(pipes.handler).forward(from, to));
    let sent = pattern(50_000);
    writer.write_all(&sent).unwrap();
    drop(writer);
    assert!(pipes.read_to_end(&mut reader) == sent);
    let mut reasons = pipes.until_closed();
    reasons.sort_by_key(|reason| *reason == CloseReason::Closed);
    assert_eq!(reasons, [CloseReason::PeerClosed, CloseReason::Closed]);
    assert_eq!(pipes.calls.shown(), Vec::<Vec<u8>>::new());
}

#[test]
fn the_wrong_end_of_a_pipe_cannot_be_forwarded() {
    let mut pipes = Loop::new(Recorder::new());
    let (reads, _writer) = pipes.pipe_in();
    let (writes, _reader) = pipes.pipe_out();
    let mut cx = pipes.reactor.context(pipes.handler);
    assert!(!cx.forward(writes, reads));
    assert!(!cx.forward(reads, reads));
    assert!(!cx.forward(writes, writes));
}

#[test]
fn a_drain_shows_what_was_written_and_closes() {
    let mut pipes = Loop::new(Recorder::new());
    let (_, mut writer) = pipes.pipe_in();
    let (out, mut reader) = pipes.pipe_out();
    writer.write_all(b"before").unwrap();
    pipes.reactor.context(pipes.handler).send_to(out, b"last").ignore();
    pipes.reactor.drain(Duration::from_secs(5));
    run_until(&mut pipes.reactor, "it is drained", |reactor| reactor.report().is_some());
    assert_eq!(pipes.reactor.report().unwrap().end, Ended::Drained);
    assert_eq!(pipes.shown(), b"before");
    let mut last = Vec::new();
    reader.read_to_end(&mut last).unwrap();
    assert_eq!(last, b"last");
    assert_eq!(pipes.calls.reasons(), [CloseReason::Closed; 2]);
    drop(writer);
}

#[test]
fn whoever_is_stopped_before_it_opens_is_told_nothing() {
    let mut pipes = Loop::new(Recorder::new());
    let (reader, _writer) = pipe_ends();
    pipes.adopt(reader, 1);
    pipes.reactor.stop();
    assert_eq!(pipes.calls.all(), []);
    assert_eq!(pipes.reactor.connections(), 0);
}

#[test]
fn whoever_is_closed_before_it_opens_is_told_nothing() {
    let mut pipes = Loop::new(Recorder::new());
    let (reader, mut writer) = pipe_ends();
    let key = pipes.adopt(reader, 1);
    pipes.reactor.context(pipes.handler).close_key(key);
    run_until(&mut pipes.reactor, "it is gone", |reactor| reactor.connections() == 0);
    assert_eq!(pipes.calls.all(), [Call::Start]);
    assert_eq!(pipes.reactor.stats().adoptions, 0);
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn pipes_count_as_connections() {
    let mut pipes = Loop::new(Recorder::new());
    let mut ends = Vec::new();
    for _ in 0..8 {
        let (reader, writer) = pipe_ends();
        pipes.adopt(reader, 0);
        ends.push(writer);
    }
    let error = pipes.reactor.adopt(pipes.handler, pipe_ends().0.into(), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    ends.clear();
    pipes.until("all are closed", |calls| calls.closed().len() == 8);
    pipes.pipe_in();
}

#[test]
fn the_idle_deadline_holds_for_pipes_too() {
    let limits = Limits::new().idle_timeout(Duration::from_millis(50));
    let mut pipes = Loop::with_limits(Recorder::new(), limits);
    let (_, _writer) = pipes.pipe_in();
    let (_, _reader) = pipes.pipe_out();
    assert_eq!(pipes.until_closed(), [CloseReason::IdleTimeout; 2]);
}
