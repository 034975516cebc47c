//! Signals: who is told of them, and what they do to a reactor.

#![cfg(feature = "signals")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::support::*;
use oneloop::{Ended, Signal};

const LONG: Duration = Duration::from_secs(3600);

/// Adds a handler without connections, and gives its calls.
fn add(server: &mut Server) -> Calls {
    let recorder = Recorder::new();
    let calls = recorder.calls.clone();
    server.reactor.add(recorder);
    calls
}

#[test]
fn every_handler_is_told_of_the_signals_that_are_watched() {
    if !alone("every_handler_is_told_of_the_signals_that_are_watched") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let told = [add(&mut server), add(&mut server)];
    let all = [Signal::Hangup, Signal::User1, Signal::User2];
    server.reactor.watch_signals(&all[..2]).unwrap();
    server.reactor.watch_signals(&all).unwrap();
    for signal in all {
        for _ in 0..3 {
            raise(&server.reactor, signal);
        }
        run_until(&mut server.reactor, "they are told", |_| {
            told.iter().all(|told| told.has(&Call::Signal(signal)))
        });
    }
    server.assert_idle();
    assert_eq!(told[0].signals(), told[1].signals());
    let mut each_once = told[0].signals();
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
    let told = add(&mut server);
    server.reactor.watch_signals(&[Signal::Terminate]).unwrap();
    raise(&server.reactor, Signal::Terminate);
    run_until(&mut server.reactor, "it is told", |_| !told.signals().is_empty());
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

#[test]
fn a_panic_in_on_signal_keeps_no_signal_from_anybody() {
    if !alone("a_panic_in_on_signal_keeps_no_signal_from_anybody") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let before = add(&mut server);
    let mut is_first = true;
    server.reactor.add(Recorder::new().signal(move |_, _| {
        assert!(!std::mem::replace(&mut is_first, false), "as the test wants");
    }));
    let told = [before, add(&mut server)];
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
    let is_told = |told: &Calls| told.signals().len() == all.len();
    server.reactor.run_until(|_| told.iter().all(is_told)).unwrap();
    server.assert_idle();
    for told in told {
        let mut signals = told.signals();
        signals.sort();
        assert_eq!(signals, all, "each once");
    }
}
