//! What changes while a reactor runs: listeners and limits.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Context, Limits, ListenOptions, ListenerId, ReactorLimits};

type Outcome = (ListenerId, io::Result<SocketAddr>);

/// A handler that does what it is told at its start, and what came of the listeners that this asked for.
fn door(start: impl FnMut(&mut Context<'_>) + 'static) -> (Recorder, Rc<RefCell<Vec<Outcome>>>) {
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let noting = Rc::clone(&outcomes);
    let recorder = Recorder::echo()
        .start(start)
        .listening(move |listener, result, _| noting.borrow_mut().push((listener, result)));
    (recorder, outcomes)
}

/// Adds a handler that listens to a server's reactor, and gives what came of it.
fn open_door(server: &mut Server, address: SocketAddr) -> Outcome {
    let (door, outcomes) = door(move |cx| {
        cx.listen(address, &ListenOptions::new());
    });
    server.reactor.add(door);
    run_until(&mut server.reactor, "it is told", |_| !outcomes.borrow().is_empty());
    let outcome = outcomes.borrow_mut().pop().unwrap();
    assert!(outcomes.borrow().is_empty(), "told once");
    outcome
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[test]
fn a_callback_can_listen_and_is_told_the_address() {
    let mut server = Server::new(Recorder::echo());
    let (listener, address) = open_door(&mut server, any_port());
    let address = address.unwrap();
    assert_eq!(server.reactor.listener_address(listener).unwrap().inet().unwrap(), address);
    assert_ne!(address, server.address);
    let mut client = connect(address);
    server.assert_echoes(&mut client);
}

#[test]
fn a_listener_that_cannot_be_is_told_with_its_error_and_leaves_nothing() {
    let mut server = Server::new(Recorder::echo());
    let address = server.address;
    let (listener, result) = open_door(&mut server, address);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(server.reactor.listener_limits(listener).is_none());
    server.assert_idle();
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
}

#[test]
fn a_callback_can_close_a_listener_whose_connections_go_on() {
    let listener = Rc::new(RefCell::new(None::<ListenerId>));
    let mut server = Server::new(Recorder::new().data({
        let listener = Rc::clone(&listener);
        move |conn, data| {
            if let Some(listener) = listener.borrow_mut().take() {
                conn.close_listener(listener);
            }
            conn.send(data).ignore();
            Ok(data.len())
        }
    }));
    *listener.borrow_mut() = Some(server.listener);
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
    assert!(try_connect(server.address).is_err());
    server.assert_echoes(&mut client);
    // A name that is out of date is no error.
    let (handler, listener) = (server.handler, server.listener);
    server.reactor.context(handler).close_listener(listener);
    server.assert_idle();
}

/// The one outcome of a listener that never was, and what it says.
fn never_opened(server: &Server, outcomes: &Rc<RefCell<Vec<Outcome>>>) -> (ErrorKind, String) {
    let outcomes = outcomes.take();
    let [(listener, Err(error))] = &outcomes[..] else { panic!("told once: {outcomes:?}") };
    assert!(server.reactor.listener_address(*listener).is_err());
    (error.kind(), error.to_string())
}

#[test]
fn a_listener_closed_before_it_began_never_opens_and_its_handler_is_told() {
    let mut server = Server::new(Recorder::echo());
    let (door, outcomes) = door(|cx| {
        let listener = cx.listen(any_port(), &ListenOptions::new());
        cx.close_listener(listener);
    });
    server.reactor.add(door);
    server.assert_idle();
    let (kind, text) = never_opened(&server, &outcomes);
    assert_eq!(kind, ErrorKind::NotConnected);
    assert!(text.contains("127.0.0.1:0") && text.contains("closed"), "{text}");
}

/// Asked for when the listeners of its turn were opened, so that its place is free before it would open.
#[test]
fn a_listener_closed_in_the_turn_before_it_would_begin_is_told_of_too() {
    let mut server = Server::new(Recorder::echo());
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let noting = Rc::clone(&outcomes);
    let door = Recorder::new()
        .start(|cx| {
            cx.listen(any_port(), &ListenOptions::new());
        })
        .listening(move |listener, result, cx| {
            if result.is_ok() {
                let next = cx.listen(any_port(), &ListenOptions::new());
                cx.close_listener(next);
            } else {
                noting.borrow_mut().push((listener, result));
            }
        });
    server.reactor.add(door);
    server.assert_idle();
    assert_eq!(never_opened(&server, &outcomes).0, ErrorKind::NotConnected);
}

#[test]
fn a_listener_that_a_stop_keeps_from_opening_is_told_of() {
    let mut server = Server::new(Recorder::echo());
    let (door, outcomes) = door(|_| {});
    let handler = server.reactor.add(door);
    server.reactor.context(handler).listen(any_port(), &ListenOptions::new());
    server.reactor.stop();
    let (_, text) = never_opened(&server, &outcomes);
    assert!(text.contains("stop"), "{text}");
    server.assert_idle();
}

#[test]
fn no_listener_is_added_in_a_drain() {
    let mut server = Server::new(Recorder::new().drain(|_| {}));
    let _client = server.open();
    server.reactor.drain(Duration::from_secs(3600));
    let (_, result) = open_door(&mut server, any_port());
    assert!(result.unwrap_err().to_string().contains("drains"));
    assert!(server.reactor.listen(server.handler, "127.0.0.1:0").is_err());
    server.reactor.stop();
}

#[test]
fn new_limits_of_a_listener_hold_for_who_is_accepted_from_now_on() {
    let limits = Limits::new().connections_max(1).linger_timeout(Duration::from_millis(20));
    let mut server = Server::with_limits(Recorder::new().data(|_, _| Ok(0)), limits.clone());
    let (mut first, first_key) = server.open();
    let mut second = server.connect();
    server.assert_idle();
    assert_eq!(server.calls.opened().len(), 1);

    let limits = limits.connections_max(2).input_bytes_max(10);
    server.reactor.set_listener_limits(server.listener, limits.clone()).unwrap();
    assert_eq!(server.reactor.listener_limits(server.listener), Some(&limits));
    // Who waits is let in although nobody left.
    server.until("the other one is open", |calls| calls.opened().len() == 2);
    first.write_all(&[0; 10]).unwrap();
    second.write_all(&[0; 10]).unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::InputTooLong]);
    assert_ne!(server.calls.closed()[0].0, first_key, "who was open keeps its limits");

    let bad = Limits::new().connections_max(0);
    let error = server.reactor.set_listener_limits(server.listener, bad).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_reactor_can_take_more_or_fewer_connections_but_not_more_than_it_was_made_for() {
    let limits = ReactorLimits::new().connections_max(4);
    let mut server = Server::with(Recorder::echo(), &ListenOptions::new(), limits.clone());
    server.reactor.set_limits(limits.clone().connections_max(1)).unwrap();
    assert_eq!(server.reactor.limits().connections_max, 1);
    let (mut first, _) = server.open();
    let _second = server.connect();
    server.assert_idle();
    assert_eq!(server.calls.opened().len(), 1);
    server.reactor.set_limits(limits.clone().connections_max(4)).unwrap();
    server.until("the other one is open", |calls| calls.opened().len() == 2);
    let error = server.reactor.set_limits(limits.connections_max(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("made for 4"), "{error}");
    assert_eq!(server.reactor.limits().connections_max, 4);
    server.assert_echoes(&mut first);
}

#[test]
fn listeners_make_no_room_for_more_connections_than_it_was_made_for() {
    let limits = ReactorLimits::new().connections_max(4);
    let mut server = Server::with(Recorder::echo(), &ListenOptions::new(), limits.clone());
    for _ in 0..100 {
        server.reactor.listen(server.handler, any_port()).unwrap();
    }
    let error = server.reactor.set_limits(limits.connections_max(5)).unwrap_err();
    assert!(error.to_string().contains("made for 4"), "{error}");
}

#[test]
fn buffers_and_events_can_be_made_smaller_and_larger() {
    let mut server = Server::new(Recorder::echo());
    let (mut client, _) = server.open();
    for bytes in [7, 1 << 20, 100] {
        let limits = server.reactor.limits().clone();
        let limits = limits.read_buffer_bytes(bytes).events_per_poll_max(1 + bytes % 5);
        server.reactor.set_limits(limits).unwrap();
        server.write(&mut client, &pattern(5000));
        assert!(server.read(&mut client, 5000) == pattern(5000));
    }
}

#[test]
fn less_memory_takes_effect_at_once() {
    let limits = Limits::new().output_bytes_max(16 << 20);
    let mut server = Server::with_limits(
        Recorder::new().open(|conn| {
            let _ = conn.send(&vec![0; 8 << 20]);
        }),
        limits,
    );
    let _client = connect_small(server.address);
    server.until("it is open", |calls| calls.opened().len() == 1);
    assert!(server.reactor.stats().memory_bytes > 1 << 20);
    let limits = server.reactor.limits().clone().memory_bytes_max(1 << 20);
    server.reactor.set_limits(limits).unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::MemoryLimit]);
}
