//! Signals: who is told of them, and what they do to a reactor.

#![cfg(feature = "signals")]

mod support;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{Connection, Context, Ended, Error, Signal, StreamHandler};
use support::*;

const LONG: Duration = Duration::from_secs(3600);

/// Notes signals, and has no connections.
struct Told(Rc<RefCell<Vec<Signal>>>);

impl StreamHandler for Told {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_signal(&mut self, signal: Signal, _: &mut Context<'_>) {
        self.0.borrow_mut().push(signal);
    }
}

#[test]
fn every_handler_is_told_of_the_signals_that_are_watched() {
    if !alone("every_handler_is_told_of_the_signals_that_are_watched") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let told = [Rc::default(), Rc::default()];
    for told in &told {
        server.reactor.add(Told(Rc::clone(told)));
    }
    let all = [Signal::Hangup, Signal::User1, Signal::User2];
    server.reactor.watch_signals(&all[..2]).unwrap();
    server.reactor.watch_signals(&all).unwrap();
    for signal in all {
        for _ in 0..3 {
            raise(&server.reactor, signal);
        }
        run_until(&mut server.reactor, "they are told", |_| {
            told.iter().all(|told| told.borrow().contains(&signal))
        });
    }
    server.assert_idle();
    assert_eq!(told[0], told[1]);
    let mut each_once = told[0].borrow().clone();
    each_once.dedup();
    assert_eq!(each_once, all);
    assert_eq!(server.reactor.stats().stale_events, 0);
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
}

#[test]
fn the_first_signal_drains_and_the_second_stops() {
    if !alone("the_first_signal_drains_and_the_second_stops") {
        return;
    }
    for signals in [[Signal::Terminate, Signal::Interrupt], [Signal::Interrupt; 2]] {
        let mut server = Server::new(Recorder::echo().drain(|_| {}));
        let _client = server.open();
        server.reactor.drain_on_signals(LONG).unwrap();
        raise(&server.reactor, signals[0]);
        server.until("it drains", |calls| calls.count(|call| matches!(call, Call::Drain(_))) == 1);
        assert!(server.reactor.is_draining());
        raise(&server.reactor, signals[1]);
        run_until(&mut server.reactor, "it stops", |reactor| !reactor.is_draining());
        let report = server.reactor.report().unwrap();
        assert_eq!((report.end, report.connections_cut), (Ended::Stopped, 1));
    }
}

#[test]
fn a_signal_ends_run_when_all_have_finished() {
    if !alone("a_signal_ends_run_when_all_have_finished") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    server.reactor.drain_on_signals(LONG).unwrap();
    raise(&server.reactor, Signal::Terminate);
    let _watchdog = Watchdog::new("run returns");
    assert_eq!(server.reactor.run().unwrap().end, Ended::Drained);
}

#[test]
fn signals_that_are_only_watched_end_nothing() {
    if !alone("signals_that_are_only_watched_end_nothing") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let told = Rc::default();
    server.reactor.add(Told(Rc::clone(&told)));
    server.reactor.watch_signals(&[Signal::Terminate]).unwrap();
    raise(&server.reactor, Signal::Terminate);
    run_until(&mut server.reactor, "it is told", |_| !told.borrow().is_empty());
    assert!(!server.reactor.is_draining());
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
}

#[test]
fn a_reactor_that_is_gone_leaves_no_descriptor() {
    if !alone("a_reactor_that_is_gone_leaves_no_descriptor") {
        return;
    }
    let before = descriptors();
    for _ in 0..3 {
        let mut server = Server::new(Recorder::echo());
        server.reactor.drain_on_signals(LONG).unwrap();
        drop(server);
        assert_eq!(descriptors(), before);
    }
}

/// Panics at the first signal.
struct Panics(Cell<bool>);

impl StreamHandler for Panics {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_signal(&mut self, _: Signal, _: &mut Context<'_>) {
        assert!(self.0.replace(true), "as the test wants");
    }
}

#[test]
fn a_panic_in_on_signal_keeps_no_signal_from_anybody() {
    if !alone("a_panic_in_on_signal_keeps_no_signal_from_anybody") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let told = [Rc::default(), Rc::default()];
    server.reactor.add(Told(Rc::clone(&told[0])));
    server.reactor.add(Panics(Cell::new(false)));
    server.reactor.add(Told(Rc::clone(&told[1])));
    let all = [Signal::Hangup, Signal::User1];
    server.reactor.watch_signals(&all).unwrap();
    for signal in all {
        raise(&server.reactor, signal);
    }
    let turns = AssertUnwindSafe(|| run_until(&mut server.reactor, "the panic", |_| false));
    let panic = catch_unwind(turns).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"as the test wants"));
    // Nothing else would wake it.
    let _watchdog = Watchdog::new("run returns");
    let is_told = |told: &Rc<RefCell<Vec<Signal>>>| told.borrow().len() == all.len();
    server.reactor.run_until(|_| told.iter().all(is_told)).unwrap();
    server.assert_idle();
    for told in told {
        told.borrow_mut().sort();
        assert_eq!(*told.borrow(), all, "each once");
    }
}
