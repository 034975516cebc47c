//! Accepting: what the listening socket is, who gets in by it, and that it rests when nobody comes.
//! `accept_errors.rs` has what happens when it fails.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Limits, ListenOptions, Origin, ReactorLimits};

use crate::support::*;

/// Where listeners are edges, one stays on the loop's list until a call says that nobody waits, and not
/// a turn longer: a list that is not empty keeps the loop awake.
#[test]
fn a_listener_with_nobody_to_accept_lets_the_loop_sleep() {
    fn assert_sleeps(server: &mut Server, when: &str) {
        for _ in 0..3 {
            server.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(server.reactor.next_wait(), None, "awake {when}");
    }
    let limits = Limits::new().connections_max(2).idle_timeout(Duration::MAX);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    assert_sleeps(&mut server, "before anybody came");
    let (first, _) = server.open();
    assert_sleeps(&mut server, "after one came");
    let (_second, _) = server.open();
    let (mut third, pauses) = (server.connect(), |r: &mut Reactor| r.stats().accept_pauses == 1);
    run_until(&mut server.reactor, "there is no place left", pauses);
    assert_sleeps(&mut server, "without a place");
    drop(first);
    server.assert_echoes(&mut third);
    assert_sleeps(&mut server, "after the last one got in");
    server.reactor.close_listener(server.listener);
    assert_sleeps(&mut server, "after it was closed");
    server.assert_echoes(&mut third);
}

/// The descriptor that is kept for the day on which there are no more tells them.
#[test]
fn who_waits_while_descriptors_are_out_is_told_and_the_next_one_is_served() {
    if !alone("who_waits_while_descriptors_are_out_is_told_and_the_next_one_is_served") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let (mut established, _) = server.open();
    for round in 1..=3 {
        let mut waiting: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
        without_descriptors(|| {
            for client in &mut waiting {
                assert_eq!(server.read_to_end(client), (Vec::new(), None));
            }
            server.assert_echoes(&mut established);
        });
        assert_eq!(server.reactor.stats().sheds, 10 * round);
        let mut next = server.connect();
        server.assert_echoes(&mut next);
    }
    assert!(server.reactor.stats().accept_errors >= 3);
    assert_eq!(server.reactor.stats().accepts, 1 + 3);
}

/// On Linux the accept succeeds, and then nothing about the connection does: its address is unknown,
/// its options cannot be set.
#[test]
fn a_client_that_resets_before_the_accept_costs_its_own_connection_only() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let recorder = Recorder::echo().open(|conn| {
        // May be an error, must not be more.
        let _ = (conn.peer_address(), conn.local_address());
    });
    let mut server = Server::new(recorder);
    let (mut established, _) = server.open();
    for round in 0..10 {
        for _ in 0..10 {
            let mut client = server.connect();
            let _ = client.write_all(b"never mind");
            reset(client);
        }
        let mut last = server.connect();
        server.assert_echoes(&mut last);
        server.assert_echoes(&mut established);
        drop(last);
        run_until(&mut server.reactor, "they are gone", |reactor| reactor.connections() == 1);
        let stats = server.reactor.stats();
        assert_eq!(stats.accepts, 1 + (round + 1) * 11);
        assert_eq!(stats.closes(CloseReason::Reset), (round + 1) * 10);
    }
    server.calls.check();
}

/// Two thousand clients at the door do not delay an established one by a turn, and a turn takes in no
/// more than its budget.
#[test]
fn a_crowd_at_the_door_does_not_starve_the_established() {
    const CROWD: usize = 2000;
    assert!(may_open(2 * CROWD as u64 + 100));
    let crowd = CROWD.min(backlog_max());
    let limits = ReactorLimits::new().connections_max(CROWD + 1);
    let mut server = Server::with(Recorder::echo(), &ListenOptions::new(), limits);
    let (mut client, key) = server.open();
    server.assert_idle();
    // All of them say something at once.
    let crowd: Vec<TcpStream> = (0..crowd)
        .map(|_| {
            let mut client = server.connect();
            client.write_all(b"hello").unwrap();
            client
        })
        .collect();
    let mut turns = 0;
    while server.reactor.stats().accepts < 1 + crowd.len() as u64 {
        let accepts = server.reactor.stats().accepts;
        server.calls.clear();
        client.write_all(b"still there?").unwrap();
        server.reactor.turn(Some(DEADLINE)).unwrap();
        let accepted = server.reactor.stats().accepts - accepts;
        assert!(accepted <= 64, "{accepted} accepted in one turn");
        assert!(server.calls.has(&Call::Data(key, b"still there?".to_vec())), "not in this turn");
        turns += 1;
        client.read_exact(&mut [0; 12]).unwrap();
    }
    assert!(turns < 10 + crowd.len() / 64 + 10, "{turns} turns");
    run_until(&mut server.reactor, "the crowd is served", |reactor| {
        reactor.stats().bytes_in == (12 * turns + 5 * crowd.len()) as u64
    });
}

/// The backlog is what was asked for, not what a library thinks right.
#[test]
fn the_backlog_is_the_one_that_was_asked_for() {
    if !needs_tcp("a Unix socket's client waits for room in the backlog") {
        return;
    }
    // The kernel takes one more than it was told, and drops the SYN of whoever comes then.
    for backlog in [0_u32, 5, 20] {
        let options = ListenOptions::new().backlog(backlog);
        let server = Server::with(Recorder::new(), &options, ReactorLimits::new());
        let clients: Vec<TcpStream> =
            (0..=backlog).map(|_| try_connect(server.address).expect("there is room")).collect();
        let error = try_connect(server.address).expect_err("there is no room");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "backlog {backlog}");
        drop(clients);
    }
}

#[test]
fn the_default_backlog_holds_a_crowd_before_the_first_turn() {
    // With the 128 of many libraries the 130th would wait for a second.
    let crowd = 1000.min(backlog_max());
    assert!(may_open(2 * crowd as u64 + 100));
    let server = Server::new(Recorder::new());
    let clients: Vec<TcpStream> = (0..crowd).map(|_| connect(server.address)).collect();
    assert_eq!(clients.len(), crowd);
}

#[test]
fn two_reactors_share_a_port_if_both_ask_for_it() {
    if !needs_tcp("a Unix socket's client has no address") {
        return;
    }
    let options = ListenOptions::new().reuse_port(true);
    let mut first = Server::with(Recorder::echo(), &options, ReactorLimits::new());
    let mut second = Reactor::new().unwrap();
    let handler = second.add(Recorder::echo());
    let error = second.listen(handler, first.address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&first.address.to_string()), "{error}");

    second.listen_with(handler, first.address, &options).unwrap();
    let _clients: Vec<TcpStream> = (0..64).map(|_| first.connect()).collect();
    run_until(&mut first.reactor, "all are accepted by one of them", |first| {
        second.turn(Some(Duration::from_millis(1))).unwrap();
        first.stats().accepts + second.stats().accepts == 64
    });
    if needs_kernel("it spreads them by a hash; that one gets none of 64 does not happen") {
        assert!(first.reactor.stats().accepts > 0 && second.stats().accepts > 0);
    }
    // The door stays open when one of them leaves.
    let before = second.stats().accepts;
    first.reactor.close_listener(first.listener);
    first.assert_idle();
    let _late = first.connect();
    run_until(&mut second, "the other one accepts", |second| second.stats().accepts == before + 1);
}

/// The address of the server is still in TIME_WAIT: its side closed first.
#[test]
fn a_server_that_starts_again_gets_its_port_back_at_once() {
    let mut server = Server::new(Recorder::new().open(|conn| conn.close()));
    let mut client = server.connect();
    server.read_to_end(&mut client);
    drop(client);
    server.until_closed(1);
    let address = server.address;
    drop(server);
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Recorder::new());
    reactor.listen(handler, address).unwrap();
}

/// Whether this machine speaks IPv6 at all; where it does not there is nothing to test.
fn has_v6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        println!("skipped: this machine has no ::1");
    }
    has
}

/// Listens on `address` and gives the port.
fn listen_on(server: &mut Server, address: &str, options: &ListenOptions) -> SocketAddr {
    let listener = server.reactor.listen_with(server.handler, address, options).unwrap();
    server.reactor.listener_address(listener).unwrap().inet().unwrap()
}

#[test]
fn a_dual_stack_listener_takes_both_and_shows_ipv4_peers_as_mapped() {
    if !has_v6() {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let address = listen_on(&mut server, "[::]:0", &ListenOptions::new());
    let port = address.port();
    let mut v4 = connect(SocketAddr::from(([127, 0, 0, 1], port)));
    server.assert_echoes(&mut v4);
    let mut v6 = connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    server.assert_echoes(&mut v6);
    let peers: Vec<SocketAddr> = server
        .calls
        .all()
        .iter()
        .filter_map(|call| if let Call::Accept(peer) = call { Some(*peer) } else { None })
        .collect();
    assert_eq!(peers[0].ip().to_string(), "::ffff:127.0.0.1");
    assert_eq!(peers[1].ip().to_string(), "::1");
    if needs_kernel("addresses that overlap") {
        let error = server.reactor.listen(server.handler, ("0.0.0.0", port)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "it has IPv4 already");
    }
}

#[test]
fn a_listener_for_only_v6_leaves_ipv4_to_others() {
    if !has_v6() {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let address = listen_on(&mut server, "[::]:0", &ListenOptions::new().only_v6(true));
    // An address that no other test uses: its port is free.
    let v4 = SocketAddr::from(([127, 0, 0, 9], address.port()));
    assert_eq!(try_connect(v4).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let mut v6 = connect(SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())));
    server.assert_echoes(&mut v6);
    listen_on(&mut server, &v4.to_string(), &ListenOptions::new());
    let mut client = connect(v4);
    server.assert_echoes(&mut client);
}

/// One handler, many doors: it is told by which one a connection came, each has its own limits, and
/// closing one leaves the others open.
#[test]
fn several_addresses_lead_to_one_handler() {
    if !needs_tcp("a Unix socket's client has no address") {
        return;
    }
    let origins: Rc<RefCell<Vec<Origin>>> = Rc::default();
    let log = Rc::clone(&origins);
    let mut server =
        Server::new(Recorder::echo().open(move |conn| log.borrow_mut().push(conn.origin())));
    let mut addresses = vec!["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"];
    if has_v6() {
        addresses.push("[::1]:0");
    }
    let mut listeners = vec![server.listener];
    for address in addresses {
        let options = ListenOptions::new().limits(Limits::new().connections_max(3));
        listeners.push(server.reactor.listen_with(server.handler, address, &options).unwrap());
    }
    let mut clients = Vec::new();
    for listener in &listeners {
        let address = server.reactor.listener_address(*listener).unwrap().inet().unwrap();
        let mut client = connect(address);
        server.assert_echoes(&mut client);
        assert_eq!(origins.borrow().last(), Some(&Origin::Accepted(*listener)), "{address}");
        clients.push(client);
    }
    let closed = server.reactor.listener_address(listeners[1]).unwrap().inet().unwrap();
    server.reactor.close_listener(listeners[1]);
    server.assert_idle();
    assert_eq!(try_connect(closed).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(server.reactor.listener_address(listeners[1]).is_err());
    for client in &mut clients {
        server.assert_echoes(client);
    }
    let open = server.reactor.listener_address(listeners[2]).unwrap().inet().unwrap();
    let mut client = connect(open);
    server.assert_echoes(&mut client);
}

#[test]
fn an_address_that_cannot_be_bound_is_named() {
    if !needs_tcp("a Unix socket's client has no address") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let mut others = vec![(server.address, ErrorKind::AddrInUse)];
    if needs_kernel("which addresses are the machine's") {
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 1)); // nobody's (RFC 5737)
        others.push((elsewhere, ErrorKind::AddrNotAvailable));
    }
    for (other, reason) in others {
        let error = server.reactor.listen(server.handler, other).unwrap_err();
        assert_eq!(error.kind(), reason);
        assert!(error.to_string().contains(&other.to_string()), "{error}");
    }
}
