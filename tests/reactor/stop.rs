//! How a reactor ends: stopped, or dropped.

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, ConnectError, Ended, Limits, ListenOptions, ReactorLimits};

#[test]
fn stop_closes_everything_as_stopped_before_run_returns() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.stop();
        Ok(data.len())
    }));
    let clients: Vec<_> = (0..10).map(|_| server.open()).collect();
    (&clients[3].0).write_all(b"stop").unwrap();
    let _watchdog = Watchdog::new("run returns");
    server.reactor.run().unwrap();
    server.calls.check();
    assert_eq!(server.calls.reasons(), [CloseReason::Stopped; 10]);
    assert_eq!(server.reactor.connections(), 0);
    assert_eq!(server.reactor.stats().closes(CloseReason::Stopped), 10);
    for (mut client, _) in clients {
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }
    assert!(server.reactor.listener_address(server.listener).is_err(), "listeners are closed, too");
    assert!(try_connect(server.address).is_err());
}

#[test]
fn a_stopped_reactor_can_be_used_again() {
    let mut server = Server::new(Recorder::echo());
    server.open();
    server.reactor.stop();
    assert_eq!(server.calls.reasons(), [CloseReason::Stopped]);
    server.assert_idle();
    let listener = server.reactor.listen(server.handler, "127.0.0.1:0").unwrap();
    server.address = server.reactor.listener_address(listener).unwrap().inet().unwrap();
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
}

#[test]
fn stop_drops_the_unsent_output_of_what_is_closing_and_is_its_reason() {
    let mut server = Server::with_limits(
        Recorder::new().open(|conn| {
            // More than the kernel takes at once.
            conn.send(&vec![0; 16 << 20]).ignore();
            conn.close();
        }),
        Limits::new().output_bytes_max(32 << 20),
    );
    let (_client, _) = server.open();
    assert!(server.reactor.stats().memory_bytes > 0);
    server.reactor.stop();
    assert_eq!(server.calls.reasons(), [CloseReason::Stopped]);
    assert_eq!(server.reactor.stats().memory_bytes, 0);
}

#[test]
fn stop_from_every_callback_ends_run() {
    type Place = fn(Recorder) -> Recorder;
    let places: [(&'static str, Place); 10] = [
        ("on_start", |r| r.start(|cx| cx.stop())),
        ("accept", |r| {
            r.accept(|_, cx| {
                cx.stop();
                true
            })
        }),
        ("on_open", |r| r.open(|conn| conn.stop())),
        ("on_data", |r| {
            r.data(|conn, data| {
                conn.stop();
                Ok(data.len())
            })
        }),
        ("on_drained", |r| {
            r.open(|conn| assert_eq!(conn.send(&[0; 101]), oneloop::Sent::OverHigh))
                .drained(|conn| conn.stop())
        }),
        ("on_peer_closed", |r| r.peer_closed(|conn| conn.stop())),
        ("on_timer", |r| {
            r.open(|conn| {
                conn.set_timer(Duration::ZERO);
            })
            .timer(|conn, _| conn.stop())
        }),
        ("on_poke", |r| {
            r.open(|conn| {
                let key = conn.key();
                conn.poke(key);
            })
            .poke(|conn| conn.stop())
        }),
        ("on_close", |r| r.close(|_, _, cx| cx.stop())),
        ("on_handler_timer", |r| {
            r.start(|cx| {
                cx.set_handler_timer(Duration::from_millis(1));
            })
            .handler_timer(|_, cx| cx.stop())
        }),
    ];
    for (place, make) in places {
        let options =
            ListenOptions::new().limits(Limits::new().output_bytes_low(10).output_bytes_high(100));
        let limits = ReactorLimits::new().connections_max(16);
        let mut server = Server::with(make(Recorder::new()), &options, limits);
        let mut client = server.connect();
        client.write_all(b"data").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let _watchdog = Watchdog::new(place);
        server.reactor.run().unwrap();
        server.calls.check();
        assert_eq!(server.reactor.connections(), 0, "{place}");
        assert_eq!(server.calls.opened().len(), server.calls.closed().len(), "{place}");
    }
}

#[test]
fn a_stop_ends_everything_also_for_who_calls_turn() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.stop();
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"stop").unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Stopped]);
    server.assert_idle();
    assert_eq!(server.reactor.next_wait(), None);
}

#[test]
fn what_handlers_begin_while_everything_stops_comes_to_nothing() {
    // A client that always comes back, and peers that say goodbye to each other.
    let mut server = Server::new(Recorder::echo());
    let address = server.address;
    let (_client, key) = server.open();
    let calls;
    {
        let recorder = Recorder::new()
            .close(move |_, _, cx| {
                let again = cx.connect(address, 1);
                assert_eq!(cx.send_to(key, b"goodbye"), oneloop::Sent::Gone);
                let _ = cx.send_to(again, b"hello");
                cx.poke(again);
                cx.set_handler_timer(Duration::from_secs(3600));
            })
            .connect_failed(move |_, _, _, cx| {
                let again = cx.connect(address, 1);
                cx.abort_key(again);
            });
        calls = recorder.calls.clone();
        let handler = server.reactor.add(recorder);
        server.reactor.context(handler).connect(address, 0);
        run_until(&mut server.reactor, "it is connected", |_| calls.opened().len() == 1);
        server.reactor.context(handler).connect(address, 2);
    }
    server.reactor.stop();
    assert_eq!(calls.reasons(), [CloseReason::Stopped]);
    let failed = |call: &Call| matches!(call, Call::ConnectFailed(_, 2, ConnectError::Stopped));
    assert_eq!(calls.count(failed), 1);
    assert_eq!(calls.count(|call| matches!(call, Call::ConnectFailed(..))), 1);
    assert_eq!(server.reactor.connections(), 0);
    assert_eq!(server.reactor.stats().memory_bytes, 0);
    server.assert_idle();
}

#[test]
fn dropping_a_reactor_calls_nobody_and_closes_its_descriptors() {
    if !alone("dropping_a_reactor_calls_nobody_and_closes_its_descriptors") {
        return;
    }
    let before = descriptors();
    let dropped = Rc::new(Cell::new(0));
    struct Counted(Rc<Cell<u32>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let counted = Counted(Rc::clone(&dropped));
    let mut server = Server::new(Recorder::echo().close(move |_, _, _| {
        let _ = &counted;
    }));
    let mut clients: Vec<_> = (0..5).map(|_| server.open().0).collect();
    let (handler, address) = (server.handler, server.address);
    server.reactor.context(handler).connect(address, 0); // never begun
    let calls = server.calls.all();
    assert!(descriptors() > before + 10);
    drop(server.reactor);
    assert_eq!(server.calls.all(), calls);
    assert_eq!(dropped.get(), 1, "the handler is dropped");
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }
    drop(clients);
    assert_eq!(descriptors(), before);
}

#[test]
fn descriptors_are_given_back_after_many_connections() {
    if !alone("descriptors_are_given_back_after_many_connections") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    server.open();
    server.until_closed(1);
    let before = descriptors();
    for round in 0..20 {
        let clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
        let count = 1 + 50 * (round + 1);
        server.until("all are open", |calls| calls.opened().len() == count);
        for (number, client) in clients.into_iter().enumerate() {
            if number % 2 == 0 {
                reset(client);
            }
        }
        server.until_closed(count);
    }
    assert_eq!(descriptors(), before);
}

#[test]
fn run_until_asks_before_every_turn_and_closes_nothing() {
    let mut server = Server::new(Recorder::echo());
    let (mut client, _) = server.open();
    let turns = server.reactor.stats().turns;
    server.reactor.run_until(|_| true).unwrap();
    assert_eq!(server.reactor.stats().turns, turns);
    client.write_all(b"x").unwrap();
    let calls = server.calls.clone();
    let _watchdog = Watchdog::new("the byte is shown");
    server.reactor.run_until(|_| calls.shown().len() == 1).unwrap();
    assert!(calls.closed().is_empty());
    assert_eq!(server.read(&mut client, 1), b"x");
    server.assert_echoes(&mut client);
}

#[test]
fn what_waits_unread_at_a_stop_is_counted() {
    let mut server = Server::new(Recorder::new().open(|conn| conn.pause()));
    let (mut one, _) = server.open();
    let (mut other, _) = server.open();
    for (client, count) in [(&mut one, 4), (&mut other, 9)] {
        client.write_all(&pattern(count)).unwrap();
        until_received(server.address, client, count);
    }
    server.reactor.stop();
    let report = server.reactor.report().unwrap();
    assert_eq!((report.end, report.connections_cut), (Ended::Stopped, 2));
    assert_eq!((report.bytes_unaccepted, report.bytes_undelivered), (13, 0));
}
