//! Raw sources: anything that the poll takes, with the handler doing its own I/O.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;

use oneloop::{CloseReason, Context, Drained, Interest, Key, SourceHandler};

use crate::support::raw::*;
use crate::support::*;

#[test]
fn a_pipe_is_read_as_bytes_come_and_closed_at_its_end() {
    let (mut reactor, _) = reactor();
    let log = Shared::default();
    let (mut sender, receiver) = pipe();
    let key = reactor.add_source(Reader::new(&log), receiver, Interest::Readable).unwrap();
    assert_idle(&mut reactor);
    assert_eq!(log.borrow().readable, 0, "there is nothing yet");
    for round in 1..=3 {
        sender.write_all(b"drip").unwrap();
        run_until(&mut reactor, "it is read", |_| log.borrow().read.len() == 4 * round);
        assert_idle(&mut reactor);
        assert_eq!(log.borrow().readable, round as u32);
    }
    drop(sender);
    run_until(&mut reactor, "it is closed", |_| !log.borrow().closed.is_empty());
    assert_eq!(log.borrow().closed, [(key, CloseReason::Closed)]);
    assert_idle(&mut reactor);
}

#[test]
fn bytes_that_were_there_before_the_source_was_added_are_reported() {
    let (mut reactor, _) = reactor();
    let log = Shared::default();
    let (mut sender, receiver) = pipe();
    sender.write_all(b"early").unwrap();
    reactor.add_source(Reader::new(&log), receiver, Interest::Readable).unwrap();
    run_until(&mut reactor, "it is read", |_| log.borrow().read == b"early");
}

/// No event comes for what is left behind; the promise to call again stands in for it, a turn at a
/// time, so that others have theirs.
#[test]
fn a_source_that_is_not_drained_is_called_again_in_the_next_turn() {
    let (mut reactor, _) = reactor();
    let log = Shared::default();
    let (mut sender, receiver) = pipe();
    let reader = Reader { piece: 10, per_call: 1, ..Reader::new(&log) };
    reactor.add_source(reader, receiver, Interest::Readable).unwrap();
    let sent = pattern(1000);
    sender.write_all(&sent).unwrap();
    for turn in 1..=100 {
        reactor.turn(Some(DEADLINE)).unwrap();
        assert_eq!(log.borrow().read.len(), 10 * turn, "one call in a turn");
    }
    assert_eq!(log.borrow().read, sent);
    assert_idle(&mut reactor);
    assert_eq!(log.borrow().readable, 101, "the last call found that it was drained");
}

#[test]
fn a_writer_is_called_when_there_is_room_and_not_before() {
    let (mut reactor, _) = reactor();
    let log = Shared::default();
    let (sender, mut receiver) = pipe();
    const BYTES: usize = 1 << 20;
    let writer = Writer { log: Rc::clone(&log), left: BYTES };
    let key = reactor.add_source(writer, sender, Interest::Writable).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut received = 0;
    run_until(&mut reactor, "the pipe is full", |_| log.borrow().writable == 1);
    assert_idle(&mut reactor);
    run_until(&mut reactor, "everything is written", |_| {
        if let Ok(count) = receiver.read(&mut buffer) {
            assert!(buffer[..count].iter().all(|byte| *byte == 7));
            received += count;
        }
        received == BYTES
    });
    run_until(&mut reactor, "it is closed", |_| {
        log.borrow().closed == [(key, CloseReason::Closed)]
    });
    assert!(log.borrow().writable > 1);
    assert!(log.borrow().writable <= 1 + (BYTES / 4096) as u32, "called without need");
}

/// A pipe whose read end is closed reports an error and nothing else: not that it is writable.
#[test]
fn the_error_of_a_closed_read_end_wakes_the_writer() {
    let (mut reactor, _) = reactor();
    let log = Shared::default();
    let (sender, receiver) = pipe();
    let writer = Writer { log: Rc::clone(&log), left: 1 << 20 };
    let key = reactor.add_source(writer, sender, Interest::Writable).unwrap();
    run_until(&mut reactor, "the pipe is full", |_| log.borrow().writable == 1);
    assert_idle(&mut reactor);
    drop(receiver);
    run_until(&mut reactor, "it is closed", |_| !log.borrow().closed.is_empty());
    assert_eq!(log.borrow().errors, [ErrorKind::BrokenPipe]);
    assert_eq!(log.borrow().closed, [(key, CloseReason::Closed)]);
    assert_idle(&mut reactor);
}

#[test]
fn a_source_is_told_what_it_asked_for_and_no_more() {
    let cases = [
        (Interest::Readable, (true, false)),
        (Interest::Writable, (false, true)),
        (Interest::Both, (true, true)),
    ];
    for (interest, expected) in cases {
        let (mut reactor, _) = reactor();
        let (mut peer, _, log, _) = both(&mut reactor, interest, false);
        peer.write_all(b"x").unwrap();
        assert_idle(&mut reactor);
        let log = log.borrow();
        assert_eq!((log.readable > 0, log.writable > 0), expected, "{interest:?}");
    }
}

/// The peer is gone while the send buffer is full: only a hang-up is reported, and a write would tell.
#[test]
fn a_hang_up_wakes_a_writer_whose_buffer_is_full() {
    let (mut reactor, _) = reactor();
    let (peer, _, log, _) = both(&mut reactor, Interest::Writable, true);
    run_until(&mut reactor, "its buffer is full", |_| log.borrow().writable == 1);
    assert_idle(&mut reactor);
    drop(peer);
    run_until(&mut reactor, "the writer is called", |_| log.borrow().writable > 1);
    assert_eq!(log.borrow().errors, [ErrorKind::WouldBlock, ErrorKind::BrokenPipe]);
}

/// A raw source can do whatever a connection's handler can: here it hands on what it reads.
#[test]
fn a_source_reaches_connections_by_key() {
    struct Relay(Rc<Cell<Option<Key>>>);

    impl SourceHandler for Relay {
        type Source = PipeReceiver;

        fn on_readable(
            &mut self,
            _: Key,
            source: &mut PipeReceiver,
            cx: &mut Context<'_>,
        ) -> Drained {
            let mut buffer = [0; 100];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                cx.send_to(self.0.get().unwrap(), &buffer[..count]).ignore();
            }
            Drained::Yes
        }
    }

    let mut server = Server::new(Recorder::new());
    let to = Rc::new(Cell::new(None));
    let (mut sender, receiver) = pipe();
    server.reactor.add_source(Relay(Rc::clone(&to)), receiver, Interest::Readable).unwrap();
    let (mut client, key) = server.open();
    to.set(Some(key));
    sender.write_all(b"from the pipe").unwrap();
    assert_eq!(server.read(&mut client, 13), b"from the pipe");
}
