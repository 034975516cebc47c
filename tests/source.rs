//! Raw sources: anything that the poll takes, with the handler doing its own I/O.

mod support;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Context, Drained, HandlerId, Interest, Key, SourceHandler};

use support::*;

/// What a source handler was told, and what became of its source.
#[derive(Default)]
struct Log {
    read: Vec<u8>,
    readable: u32,
    writable: u32,
    errors: Vec<ErrorKind>,
    closed: Vec<(Key, CloseReason)>,
}

type Shared = Rc<RefCell<Log>>;

/// Where a source that came back is put.
type Back = Rc<RefCell<Option<PairSource>>>;

fn reactor() -> (Reactor, HandlerId<Recorder>) {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Recorder::new());
    (reactor, handler)
}

/// Reads pieces of `piece` bytes, at most `per_call` of them in one call; closes at the end of file.
struct Reader {
    log: Shared,
    piece: usize,
    per_call: usize,
}

impl Reader {
    fn new(log: &Shared) -> Reader {
        Reader { log: Rc::clone(log), piece: 1024, per_call: usize::MAX }
    }
}

impl SourceHandler for Reader {
    type Source = PipeReceiver;

    fn on_readable(
        &mut self,
        key: Key,
        source: &mut PipeReceiver,
        cx: &mut Context<'_>,
    ) -> Drained {
        let mut log = self.log.borrow_mut();
        log.readable += 1;
        let mut buffer = vec![0; self.piece];
        for _ in 0..self.per_call {
            match source.read(&mut buffer) {
                Ok(0) => {
                    cx.close_key(key);
                    return Drained::Yes;
                }
                Ok(count) => log.read.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Drained::Yes,
                Err(e) => panic!("{e}"),
            }
        }
        Drained::No
    }

    fn on_writable(&mut self, _: Key, _: &mut PipeReceiver, _: &mut Context<'_>) -> Drained {
        panic!("nobody asked");
    }

    fn on_close(
        &mut self,
        source: PipeReceiver,
        key: Key,
        reason: CloseReason,
        _: &mut Context<'_>,
    ) {
        drop(source);
        self.log.borrow_mut().closed.push((key, reason));
    }
}

/// Writes pieces until `left` is nothing; an error closes it.
struct Writer {
    log: Shared,
    left: usize,
}

impl SourceHandler for Writer {
    type Source = PipeSender;

    fn on_readable(&mut self, _: Key, _: &mut PipeSender, _: &mut Context<'_>) -> Drained {
        // An error is told to both sides; a pipe's write end has no other reason.
        Drained::Yes
    }

    fn on_writable(&mut self, key: Key, source: &mut PipeSender, cx: &mut Context<'_>) -> Drained {
        let mut log = self.log.borrow_mut();
        log.writable += 1;
        while self.left > 0 {
            match source.write(&vec![7; self.left.min(1000)]) {
                Ok(count) => self.left -= count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Drained::Yes,
                Err(e) => {
                    log.errors.push(e.kind());
                    cx.close_key(key);
                    return Drained::Yes;
                }
            }
        }
        cx.close_key(key);
        Drained::Yes
    }

    fn on_close(&mut self, _: PipeSender, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.log.borrow_mut().closed.push((key, reason));
    }
}

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

/// Both directions of one descriptor; gives it back when it is closed.
struct Both {
    log: Shared,
    fill: bool,
    back: Back,
}

impl SourceHandler for Both {
    type Source = PairSource;

    fn on_readable(&mut self, _: Key, source: &mut PairSource, _: &mut Context<'_>) -> Drained {
        let mut log = self.log.borrow_mut();
        log.readable += 1;
        let mut buffer = [0; 100];
        match source.read(&mut buffer) {
            Ok(count) if count > 0 => {
                log.read.extend_from_slice(&buffer[..count]);
                Drained::No
            }
            _ => Drained::Yes,
        }
    }

    fn on_writable(&mut self, _: Key, source: &mut PairSource, _: &mut Context<'_>) -> Drained {
        let mut log = self.log.borrow_mut();
        log.writable += 1;
        if self.fill {
            let error = loop {
                if let Err(error) = source.write(&[0; 4096]) {
                    break error;
                }
            };
            log.errors.push(error.kind());
        }
        Drained::Yes
    }

    fn on_close(&mut self, source: PairSource, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        *self.back.borrow_mut() = Some(source);
        self.log.borrow_mut().closed.push((key, reason));
    }
}

fn both(reactor: &mut Reactor, interest: Interest, fill: bool) -> (PairSource, Key, Shared, Back) {
    let (ours, theirs) = pair();
    let (log, back) = (Shared::default(), Rc::default());
    let handler = Both { log: Rc::clone(&log), fill, back: Rc::clone(&back) };
    let key = reactor.add_source(handler, ours, interest).unwrap();
    (theirs, key, log, back)
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

#[test]
fn close_by_key_gives_the_source_back_working_and_forgotten() {
    let (mut reactor, handler) = reactor();
    let (mut peer, key, log, back) = both(&mut reactor, Interest::Both, false);
    reactor.turn(Some(DEADLINE)).unwrap();
    reactor.context(handler).close_key(key);
    reactor.context(handler).close_key(key);
    assert_idle(&mut reactor);
    assert_eq!(log.borrow().closed, [(key, CloseReason::Closed)]);
    let calls = (log.borrow().readable, log.borrow().writable);

    peer.write_all(b"hello").unwrap();
    assert_idle(&mut reactor);
    assert_eq!((log.borrow().readable, log.borrow().writable), calls, "called after its end");
    let mut stream = back.borrow_mut().take().expect("it came back");
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");

    // And it can be added again.
    let handler = Both { log: Rc::clone(&log), fill: false, back };
    let again = reactor.add_source(handler, stream, Interest::Readable).unwrap();
    assert_ne!(again, key);
    peer.write_all(b"again").unwrap();
    run_until(&mut reactor, "it is read", |_| log.borrow().read == b"again");
}

#[test]
fn a_stop_gives_the_sources_back_as_stopped() {
    let (mut reactor, _) = reactor();
    let (_peer, key, log, back) = both(&mut reactor, Interest::Both, false);
    reactor.stop();
    assert_eq!(log.borrow().closed, [(key, CloseReason::Stopped)]);
    assert!(back.borrow().is_some());
}

/// Closed by the call for the first half of an event, it gets no call for the second half.
#[test]
fn a_source_closed_while_readable_is_not_called_as_writable() {
    struct Once(Rc<Cell<u32>>, Shared);

    impl SourceHandler for Once {
        type Source = PairSource;

        fn on_readable(&mut self, key: Key, _: &mut PairSource, cx: &mut Context<'_>) -> Drained {
            self.0.set(self.0.get() + 1);
            cx.close_key(key);
            Drained::No
        }

        fn on_writable(&mut self, _: Key, _: &mut PairSource, _: &mut Context<'_>) -> Drained {
            panic!("it was closed");
        }

        fn on_close(&mut self, _: PairSource, key: Key, reason: CloseReason, _: &mut Context<'_>) {
            self.1.borrow_mut().closed.push((key, reason));
        }
    }

    let (mut reactor, _) = reactor();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").unwrap();
    let (calls, log) = (Rc::default(), Shared::default());
    let handler = Once(Rc::clone(&calls), Rc::clone(&log));
    let key = reactor.add_source(handler, ours, Interest::Both).unwrap();
    assert_idle(&mut reactor);
    assert_eq!(calls.get(), 1);
    assert_eq!(log.borrow().closed, [(key, CloseReason::Closed)]);
}

/// Panics in every call for which it is told to.
struct Panicking {
    in_readable: bool,
    closed: Rc<RefCell<Vec<CloseReason>>>,
}

impl SourceHandler for Panicking {
    type Source = PairSource;

    fn on_readable(&mut self, _: Key, _: &mut PairSource, _: &mut Context<'_>) -> Drained {
        assert!(!self.in_readable, "on purpose");
        Drained::Yes
    }

    fn on_writable(&mut self, _: Key, _: &mut PairSource, _: &mut Context<'_>) -> Drained {
        assert!(self.in_readable, "on purpose");
        Drained::Yes
    }

    fn on_close(&mut self, _: PairSource, _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.closed.borrow_mut().push(reason);
    }
}

#[test]
fn a_panic_removes_the_source_and_the_others_go_on() {
    for in_readable in [true, false] {
        let (mut reactor, _) = reactor();
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").unwrap();
        let closed = Rc::default();
        let handler = Panicking { in_readable, closed: Rc::clone(&closed) };
        reactor.add_source(handler, ours, Interest::Both).unwrap();
        let log = Shared::default();
        let (mut sender, receiver) = pipe();
        reactor.add_source(Reader::new(&log), receiver, Interest::Readable).unwrap();
        sender.write_all(b"me too").unwrap();
        run_until(&mut reactor, "the other one is served", |_| log.borrow().read == b"me too");
        assert_idle(&mut reactor);
        assert_eq!(*closed.borrow(), [CloseReason::Panicked]);
        assert_eq!(reactor.stats().panics, 1);
        // The descriptor is closed: the other end sees it.
        let end = theirs.read(&mut [0]).map_err(|error| error.kind());
        assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    }
}

/// Is never to be called.
struct Refused(Rc<Cell<bool>>);

impl SourceHandler for Refused {
    type Source = Unpollable;

    fn on_close(&mut self, _: Unpollable, _: Key, _: CloseReason, _: &mut Context<'_>) {
        self.0.set(true);
    }
}

#[test]
fn a_source_that_cannot_be_polled_is_a_clear_error_and_leaves_nothing_behind() {
    let (mut reactor, _) = reactor();
    let was_closed = Rc::new(Cell::new(false));
    let turns = if cfg!(debug_assertions) { 10 } else { 1000 };
    for _ in 0..turns {
        let handler = Refused(Rc::clone(&was_closed));
        let error = reactor.add_source(handler, unpollable(), Interest::Readable).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(!was_closed.get(), "it was never there");
    // Nothing is left of it in the tables either: the next one is the first.
    let (_sender, receiver) = pipe();
    let reader = Reader::new(&Shared::default());
    let key = reactor.add_source(reader, receiver, Interest::Readable).unwrap();
    assert_eq!(slot(key), 0);
}

/// Its place in the table.
fn slot(key: Key) -> u32 {
    key.to_bits() as u32
}

/// Stays registered, and reads nothing.
struct Forgotten;

impl SourceHandler for Forgotten {
    type Source = Careless;
}

#[test]
fn a_stale_event_finds_nobody_although_its_slot_is_in_use_again() {
    let (mut reactor, handler) = reactor();
    let (mut old_sender, receiver) = pipe();
    let _duplicate = duplicate(&receiver);
    let old = reactor.add_source(Forgotten, Careless(receiver), Interest::Readable).unwrap();
    reactor.context(handler).close_key(old);
    assert_idle(&mut reactor);

    let (_sender, receiver) = pipe();
    let log = Shared::default();
    let heir = reactor.add_source(Reader::new(&log), receiver, Interest::Readable).unwrap();
    assert_eq!(slot(heir), slot(old), "the slot is used again");
    assert_ne!(heir, old);

    assert_eq!(reactor.stats().stale_events, 0);
    old_sender.write_all(b"boo").unwrap();
    run_until(&mut reactor, "the event is dropped", |reactor| reactor.stats().stale_events > 0);
    assert_idle(&mut reactor);
    assert_eq!(log.borrow().readable, 0, "the new owner of the slot was called for the old one");
}

#[test]
fn a_duplicate_of_a_removed_raw_source_makes_no_ghost_events() {
    let (mut reactor, handler) = reactor();
    let (mut sender, receiver) = pipe();
    let _duplicate = duplicate(&receiver);
    let reader = Reader::new(&Shared::default());
    let key = reactor.add_source(reader, receiver, Interest::Readable).unwrap();
    reactor.context(handler).close_key(key);
    assert_idle(&mut reactor);
    let events = reactor.stats().events;
    sender.write_all(b"boo").unwrap();
    assert_idle(&mut reactor);
    assert_eq!(reactor.stats().events, events);
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
