//! How raw sources end: closed, stopped, by a panic, or never registered.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Context, Drained, Interest, Key, SourceHandler};

use crate::support::raw::*;
use crate::support::*;

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
