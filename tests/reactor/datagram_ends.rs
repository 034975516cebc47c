//! Datagram sockets: how they end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use oneloop::{CloseReason, DatagramLimits, DatagramOptions, Ended, Queued, SocketAddress};

use crate::support::datagrams::*;
use crate::support::*;

#[test]
fn a_socket_that_is_closed_hands_over_what_it_was_given() {
    if !alone("a_socket_that_is_closed_hands_over_what_it_was_given") {
        return; // it counts descriptors
    }
    let client = udp();
    let to: SocketAddress = client.local_addr().unwrap().into();
    let datagrams = Datagrams::new(move |socket, call| {
        if *call == DatagramCall::Bound {
            socket.send_to(&to, b"last words").ignore();
            socket.close();
            assert_eq!(socket.send_to(&to, b"too late"), Queued::Gone);
        }
    });
    let before = descriptors();
    let mut server = Bound::new(datagrams);
    assert_eq!(server.received(&client).0, b"last words");
    let closed = DatagramCall::Close(server.key, CloseReason::Closed);
    assert_eq!(*server.calls.borrow(), [DatagramCall::Bound, closed]);
    let stats = server.reactor.stats();
    assert_eq!((stats.datagram_sockets, stats.datagrams_out), (0, 1));
    assert!(server.reactor.datagram_address(server.key).is_err());
    drop(server);
    assert_eq!(descriptors(), before);
}

#[test]
fn an_interval_ends_with_its_socket() {
    let timers = std::rc::Rc::<std::cell::Cell<Option<oneloop::TimerId>>>::default();
    let noted = std::rc::Rc::clone(&timers);
    let datagrams = Datagrams::new(move |socket, call| {
        if *call == DatagramCall::Bound {
            noted.set(Some(socket.set_interval(Duration::from_millis(5))));
            socket.close();
        }
    });
    let mut server = Bound::new(datagrams);
    let calls = std::rc::Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is closed", |_| calls.borrow().len() == 2);
    let handler = server.handler;
    let timer = timers.get().expect("it was set");
    assert!(!server.reactor.context(handler).rearm_timer(timer, Duration::ZERO), "it has ended");
    let start = Instant::now();
    run_until(&mut server.reactor, "its moment passes", |_| {
        start.elapsed() > Duration::from_millis(20)
    });
    assert_eq!(server.reactor.next_wait(), None, "the loop wakes for nobody");
}

#[test]
fn nothing_is_shown_after_a_close() {
    let datagrams = Datagrams::new(|socket, call| {
        if matches!(call, DatagramCall::Datagram(..)) {
            socket.close();
        }
    });
    let mut server = Bound::new(datagrams);
    server.until("it is bound", |calls| calls.len() == 1);
    let client = udp();
    for _ in 0..3 {
        client.send_to(b"x", server.address).unwrap();
    }
    server.until("it is closed", |calls| matches!(calls.last(), Some(DatagramCall::Close(..))));
    assert_eq!(server.shown().len(), 1);
}

#[test]
fn a_key_closes_a_socket_and_its_port_is_free_again() {
    let mut server = Bound::new(Datagrams::listens());
    server.reactor.context(server.handler).close_key(server.key);
    server.until("it is closed", |calls| matches!(calls.last(), Some(DatagramCall::Close(..))));
    server.reactor.bind(server.handler, server.address).unwrap();
}

#[test]
fn a_stop_closes_sockets_and_drops_what_waits() {
    let mut server = Bound::new(Datagrams::listens());
    server.until("it is bound", |calls| calls.len() == 1);
    let client = udp();
    server.send(client.local_addr().unwrap(), b"never sent").ignore();
    server.reactor.stop();
    let report = server.reactor.report().unwrap();
    assert_eq!(report.datagrams_dropped, 1);
    assert!(report.to_string().contains("; datagrams: 1 dropped; "), "{report}");
    let closed = DatagramCall::Close(server.key, CloseReason::Stopped);
    assert_eq!(*server.calls.borrow(), [DatagramCall::Bound, closed]);
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_out, stats.datagrams_dropped), (0, 1));
    assert_eq!((stats.datagram_sockets, stats.datagram_bytes_waiting), (0, 0));
    assert!(client.recv_from(&mut [0; 10]).is_err());
}

#[test]
fn a_drain_shows_what_waits_and_then_tells_and_ends_when_all_are_closed() {
    let limits = DatagramLimits::new().datagrams_per_turn_max(10);
    let options = DatagramOptions::new().limits(limits);
    let mut server = Bound::with(Datagrams::echo(), "127.0.0.1:0", &options);
    server.until("it is bound", |calls| calls.len() == 1);
    let client = udp();
    for number in 0..100 {
        client.send_to(&[number], server.address).unwrap();
    }
    server.reactor.drain(DEADLINE);
    let report = server.reactor.run().unwrap();
    assert_eq!(report.end, Ended::Drained);
    assert_eq!(server.shown().len(), 100, "in many turns");
    let calls = server.calls.borrow().clone();
    let closed = DatagramCall::Close(server.key, CloseReason::Closed);
    assert_eq!(calls[calls.len() - 2..], [DatagramCall::Drain, closed]);
    assert_eq!(server.reactor.stats().datagrams_out, 100, "and answered");
}

#[test]
fn a_flood_does_not_hold_up_a_drain() {
    let client = udp();
    let datagrams = Datagrams::new({
        let mut own = None;
        move |socket, call| {
            let address = own.get_or_insert_with(|| socket.local_address().unwrap()).clone();
            // Each makes another one.
            if matches!(call, DatagramCall::Datagram(..)) {
                socket.send_to(&address, b"again").ignore();
            }
            closes_on_drain(socket, call);
        }
    });
    let mut server = Bound::new(datagrams);
    // More than are received in a turn, so that the socket is never empty.
    for _ in 0..100 {
        client.send_to(b"again", server.address).unwrap();
    }
    server.reactor.drain(DEADLINE);
    assert_eq!(server.reactor.run().unwrap().end, Ended::Drained);
    // The drain begins at the end of the first turn, which has a budget of its own.
    let shown = server.shown().len();
    assert!((1024..=1024 + 64).contains(&shown), "{shown}");
}

#[test]
fn who_owes_an_answer_stays_in_a_drain_until_its_time_is_up() {
    let mut server = Bound::new(Datagrams::new(|_, _| {}));
    server.reactor.drain(Duration::from_millis(20));
    assert_eq!(server.reactor.run().unwrap().end, Ended::TimedOut);
    let closed = DatagramCall::Close(server.key, CloseReason::Stopped);
    assert_eq!(*server.calls.borrow(), [DatagramCall::Bound, DatagramCall::Drain, closed]);
}

#[test]
fn a_socket_that_is_bound_in_a_drain_is_told_of_it() {
    let mut server = Bound::new(Datagrams::new(|_, _| {}));
    server.reactor.drain(DEADLINE);
    server.until("it is told", |calls| calls.contains(&DatagramCall::Drain));
    server.calls.borrow_mut().clear();
    server.reactor.bind(server.handler, "127.0.0.1:0").unwrap();
    server.until("it is told", |calls| calls.len() == 2);
    assert_eq!(*server.calls.borrow(), [DatagramCall::Bound, DatagramCall::Drain]);
}

/// As of a connection or a raw source: this one ends, and the others go on.
#[test]
fn a_panic_in_a_callback_closes_its_socket_and_no_other_one() {
    let panics = Datagrams::new(|socket, call| {
        let is_about = matches!(call, DatagramCall::Datagram(data, ..) if data == b"panic");
        if let DatagramCall::Datagram(data, from, _) = call {
            socket.send_to(from, data).ignore();
        }
        assert!(!is_about, "as ordered");
    });
    let mut server = Bound::new(panics);
    let other = server.reactor.bind(server.handler, "127.0.0.1:0").unwrap();
    let other = server.reactor.datagram_address(other).unwrap().inet().unwrap();
    let client = udp();
    client.send_to(b"panic", server.address).unwrap();
    client.send_to(b"calm", other).unwrap();
    assert_eq!(server.received(&client).0, b"calm");
    server.until("it is closed", |calls| {
        calls.iter().any(|call| matches!(call, DatagramCall::Close(_, CloseReason::Panicked)))
    });
    let stats = server.reactor.stats();
    assert_eq!((stats.panics, stats.datagram_sockets), (1, 1));
    assert_eq!((stats.datagrams_out, stats.datagrams_dropped), (1, 1));
    assert_idle(&mut server.reactor);
}

#[test]
fn a_panic_in_each_callback_is_contained() {
    for at in ["bound", "room", "failed", "timer", "drain"] {
        let peer = udp();
        let to: SocketAddress = peer.local_addr().unwrap().into();
        let datagrams = Datagrams::new(move |socket, call| {
            let name = match call {
                DatagramCall::Bound => "bound",
                DatagramCall::Room => "room",
                DatagramCall::Failed(..) => "failed",
                DatagramCall::Timer(_) => "timer",
                DatagramCall::Drain => "drain",
                _ => "other",
            };
            assert!(name != at, "as ordered");
            if name == "bound" {
                socket.set_timer(Duration::ZERO);
                socket.send_to(&to, &pattern(65_508)).ignore();
                while socket.send_to(&to, b"x") == Queued::Ok {}
            }
        });
        let mut server = Bound::new(datagrams);
        if at == "drain" {
            server.reactor.drain(DEADLINE);
        }
        let key = server.key;
        server.until(at, |calls| calls.contains(&DatagramCall::Close(key, CloseReason::Panicked)));
        assert_eq!(server.reactor.stats().panics, 1, "{at}");
    }
}

#[test]
fn a_panic_that_is_let_through_leaves_the_reactor_usable() {
    let panics = Datagrams::new(|_, call| {
        assert!(!matches!(call, DatagramCall::Datagram(..)), "as ordered");
    });
    let mut server = Bound::new(panics);
    server.reactor.let_panics_through(true);
    server.until("it is bound", |calls| calls.len() == 1);
    udp().send_to(b"x", server.address).unwrap();
    let turn = || server.reactor.turn(Some(DEADLINE));
    assert!(catch_unwind(AssertUnwindSafe(turn)).is_err());
    server.until("it is closed", |calls| matches!(calls.last(), Some(DatagramCall::Close(..))));
    assert_idle(&mut server.reactor);
}

#[test]
fn a_handler_of_datagrams_only_cannot_serve_connections() {
    let mut server = Bound::new(Datagrams::listens());
    let address = server.address;
    let mut cx = server.reactor.context(server.handler);
    let connects = || cx.connect(address, 0);
    assert!(catch_unwind(AssertUnwindSafe(connects)).is_err());
    let mut cx = server.reactor.context(server.handler);
    let sets_timer = || cx.set_handler_timer(Duration::ZERO);
    assert!(catch_unwind(AssertUnwindSafe(sets_timer)).is_err());
}

/// Between turns, where the memory is held to its new limit at once, no phase is there to catch it.
#[test]
fn a_panic_of_a_socket_that_makes_room_for_others_closes_that_socket() {
    let mut server = Bound::new(Datagrams::new(|_, call| {
        assert!(!matches!(call, DatagramCall::Failed(..)), "as the test wants");
    }));
    server.until("it is bound", |calls| calls.len() == 1);
    let to = udp().local_addr().unwrap();
    // Longer than any datagram.
    assert_eq!(server.send(to, &[0; 66_000]), Queued::Ok);
    let limits = server.reactor.limits().clone().memory_bytes_max(1000);
    server.reactor.set_limits(limits).unwrap();
    server.until("it is closed", |calls| matches!(calls.last(), Some(DatagramCall::Close(..))));
    let calls = server.calls.borrow();
    assert_eq!(calls.last(), Some(&DatagramCall::Close(server.key, CloseReason::Panicked)));
    assert_eq!(server.reactor.stats().panics, 1);
}
