//! Places: how many connections there may be, of a listener, of a client's address and of a reactor, and
//! who gets one that is free again.

use std::cell::Cell;
use std::io::Write;
use std::net::Ipv4Addr;
use std::rc::Rc;

use crate::support::*;
use oneloop::{ConnectError, Limits, ListenOptions, ReactorLimits};

#[test]
fn no_more_than_accepts_per_turn_max_are_accepted_in_a_turn() {
    let mut server = Server::with_limits(Recorder::echo(), Limits::new().accepts_per_turn_max(3));
    let mut clients: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let largest = server.largest_step(|stats| stats.accepts, |stats| stats.accepts == 40);
    assert_eq!(largest, 3);
    for client in &mut clients {
        server.assert_echoes(client);
    }
}

#[test]
fn at_connections_max_accepting_pauses_and_the_backlog_holds_the_rest() {
    let mut server = Server::with_limits(Recorder::echo(), Limits::new().connections_max(10));
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    server.until("ten are open", |calls| calls.opened().len() == 10);
    server.assert_idle();
    assert_eq!(server.calls.opened().len(), 10);
    assert_eq!(server.reactor.connections(), 10);
    let stats = server.reactor.stats();
    assert_eq!((stats.accept_pauses, stats.refusals), (1, 0));
    // Those in the backlog have written already, and are served when it is their turn.
    for client in &mut clients {
        client.write_all(b"early").unwrap();
    }
    for (count, mut client) in clients.into_iter().enumerate() {
        assert_eq!(server.read(&mut client, 5), b"early");
        drop(client);
        server.until_closed(count + 1);
        assert!(server.reactor.connections() <= 10);
    }
    assert_eq!(server.calls.opened().len(), 50);
    server.assert_idle();
}

#[test]
fn connections_max_of_a_listener_leaves_the_other_listeners_alone() {
    let mut server = Server::with_limits(Recorder::echo(), Limits::new().connections_max(1));
    let (_first, _) = server.open();
    let _waits = server.connect();
    server.assert_idle();
    let other = server.reactor.listen(server.handler, "127.0.0.1:0").unwrap();
    let other = server.reactor.listener_address(other).unwrap().inet().unwrap();
    let mut clients: Vec<_> = (0..5).map(|_| connect(other)).collect();
    for client in &mut clients {
        server.assert_echoes(client);
    }
}

#[test]
fn connections_max_of_the_reactor_holds_over_all_listeners_and_resumes_by_itself() {
    let limits = ReactorLimits::new().connections_max(4);
    let mut server = Server::with(Recorder::echo(), &ListenOptions::new(), limits);
    let other = server.reactor.listen(server.handler, "127.0.0.1:0").unwrap();
    let other = server.reactor.listener_address(other).unwrap().inet().unwrap();
    let mut clients: Vec<_> =
        (0..12).map(|i| connect(if i % 2 == 0 { server.address } else { other })).collect();
    server.until("four are open", |calls| calls.opened().len() == 4);
    server.assert_idle();
    assert_eq!(server.reactor.connections(), 4);
    for client in &mut clients {
        client.write_all(b"early").unwrap();
    }
    // As each one leaves, one that waits is served, from either backlog.
    let mut served = 0;
    let _watchdog = Watchdog::new("all clients are served");
    while !clients.is_empty() {
        clients.retain_mut(|client| {
            let answer = server.try_read(client);
            served += answer.len();
            answer.is_empty()
        });
        assert!(server.reactor.connections() <= 4);
    }
    assert_eq!(served, 12 * 5);
    server.until_closed(12);
    server.assert_idle();
}

#[test]
fn an_outbound_connection_over_the_limit_of_the_reactor_fails() {
    if !needs_tcp("it connects out") {
        return;
    }
    let elsewhere = Server::new(Recorder::new());
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(2)).unwrap();
    let recorder = Recorder::new();
    let calls = recorder.calls.clone();
    let handler = reactor.add(recorder);
    let keys: Vec<_> =
        (0..3).map(|tag| reactor.context(handler).connect(elsewhere.address, tag)).collect();
    run_until(&mut reactor, "two open and one fails", |_| calls.all().len() == 4);
    assert_eq!(calls.opened().len(), 2);
    let failed = calls.all().into_iter().find_map(|call| match call {
        Call::ConnectFailed(key, tag, error) => Some((key, tag, error)),
        _ => None,
    });
    let (key, tag, error) = failed.expect("one failed");
    assert_eq!((key, error), (keys[tag as usize], ConnectError::TooManyConnections));
    reactor.context(handler).abort_key(calls.opened()[0]);
    run_until(&mut reactor, "one ends", |_| calls.closed().len() == 1);
    reactor.context(handler).connect(elsewhere.address, 9);
    run_until(&mut reactor, "another opens", |_| calls.opened().len() == 3);
}

#[test]
fn a_client_address_over_connections_per_address_max_is_turned_away() {
    if !needs_tcp("a Unix socket's client has no address") {
        return;
    }
    let mut server =
        Server::with_limits(Recorder::echo(), Limits::new().connections_per_address_max(2));
    let one = Ipv4Addr::new(127, 0, 0, 1);
    let two = Ipv4Addr::new(127, 0, 0, 2);
    let from = |server: &mut Server, source: Ipv4Addr, is_welcome: bool| {
        let mut client = connect_from(source, 0, server.address);
        if is_welcome {
            server.assert_echoes(&mut client);
        } else {
            assert_eq!(server.read_to_end(&mut client), (Vec::new(), None), "turned away");
        }
        client
    };
    let first = from(&mut server, one, true);
    let _second = from(&mut server, one, true);
    let _third = from(&mut server, one, false);
    let _other = from(&mut server, two, true);
    let _other = from(&mut server, two, true);
    from(&mut server, two, false);
    assert_eq!(server.reactor.stats().refusals, 2);
    assert_eq!(server.calls.opened().len(), 4);
    drop(first);
    server.until_closed(1);
    let _again = from(&mut server, one, true);
    from(&mut server, one, false);
    assert_eq!(server.reactor.connections(), 4);
}

#[test]
fn a_client_that_the_handler_turns_away_does_not_count_for_its_address() {
    let count = Rc::new(Cell::new(0));
    let asked = Rc::clone(&count);
    let mut server = Server::with_limits(
        Recorder::echo().accept(move |_, _| {
            asked.set(asked.get() + 1);
            asked.get() > 5
        }),
        Limits::new().connections_per_address_max(1),
    );
    for _ in 0..5 {
        let mut client = server.connect();
        assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    }
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
}

#[test]
fn a_client_that_comes_back_at_once_finds_its_place_free() {
    if !needs_linux("events in the order of what happened") {
        return;
    }
    let mut server =
        Server::with_limits(Recorder::echo(), Limits::new().connections_per_address_max(1));
    let mut client = server.open().0;
    for _ in 0..20 {
        drop(client);
        client = server.connect(); // both are in the kernel before the next turn
        server.assert_echoes(&mut client);
    }
    assert_eq!(server.reactor.stats().refusals, 0);
}

#[test]
fn one_free_place_is_enough_for_the_client_that_waits() {
    let mut server = Server::with(
        Recorder::echo(),
        &ListenOptions::new(),
        ReactorLimits::new().connections_max(100),
    );
    let mut open: Vec<TcpStream> = (0..100).map(|_| server.open().0).collect();
    let mut waits = server.connect();
    run_until(&mut server.reactor, "it pauses", |r| r.stats().accept_pauses == 1);
    open.pop();
    server.assert_echoes(&mut waits);
}
