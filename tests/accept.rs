//! Accepting: when it fails, when there is too much of it, and what the listening socket is.

mod child;
mod support;

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use oneloop::{CloseReason, Limits, ListenOptions, Origin, Reactor, ReactorLimits};

use child::{Child, is_served};
use support::*;

#[test]
#[ignore = "the server process of the other tests"]
fn child() {
    child::serve();
}

/// A client that gives up after a while that is short for a person and long for loopback.
fn try_connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, Duration::from_millis(300))
}

/// 64 descriptors, 200 clients: those that got in are served, the others learn that they did not, the
/// server rests meanwhile, and when there is room again the next client gets in.
#[test]
fn without_descriptors_the_server_serves_on_sheds_rests_and_recovers_by_itself() {
    assert!(kernel::may_open(512));
    let mut child = Child::start(Some(64));
    let mut clients: Vec<TcpStream> = (0..200).map(|_| connect(child.address)).collect();
    let mut served = Vec::new();
    while let Some(mut client) = clients.pop() {
        if is_served(&mut client) {
            served.push(client);
        }
    }
    let report = child.report();
    assert!((40..64).contains(&served.len()), "{} of 200 were served", served.len());
    assert_eq!(report.get("connections"), served.len() as u64);
    assert_eq!(report.get("sheds"), 200 - served.len() as u64);

    // More of them wait at the door while the established ones go on.
    let waiting: Vec<TcpStream> = (0..100).map(|_| connect(child.address)).collect();
    for _ in 0..5 {
        for client in &mut served {
            assert!(is_served(client), "an established connection");
        }
    }
    // And while nobody says anything: one question ends the time before and one the time after.
    let turns = child.report().get("turns");
    let (cpu, start) = (kernel::cpu_time(child.pid), Instant::now());
    let mut late = connect(child.address);
    assert!(!is_served(&mut late), "it has to wait for a retry, and is shed");
    let deadline = Duration::from_millis(1500);
    while start.elapsed() < deadline {
        std::thread::sleep(deadline.saturating_sub(start.elapsed()));
    }
    let (cpu, elapsed) = (kernel::cpu_time(child.pid) - cpu, start.elapsed());
    let turns = child.report().get("turns") - turns;
    println!("{turns} polls and {cpu:?} on a processor within {elapsed:?}");
    assert!(turns as f64 / elapsed.as_secs_f64() < 100.0, "{turns} polls in {elapsed:?}");
    assert!(cpu < elapsed / 10, "{cpu:?} on a processor in {elapsed:?}");

    // Room again. Nobody else knocks.
    drop(waiting);
    let rest = served.split_off(5);
    drop(served);
    child.until("the server has seen them go", |report| {
        report.get("connections") == rest.len() as u64
    });
    let mut next = Vec::new();
    for _ in 0..5 {
        next.push(connect(child.address));
        assert!(next.last_mut().is_some_and(is_served));
    }
}

/// Another thread may take the reserved descriptor while it is given up. As soon as there is one
/// again, it is reserved first.
#[test]
fn a_reserved_descriptor_that_was_lost_is_taken_again() {
    // The reserve, the listener, the connection to the parent; the fourth one is the reserve again.
    let mut child = Child::start_short_and_failing(Some(64), "socket", "error=EMFILE:when=4");
    let mut served = Vec::new();
    loop {
        let mut client = connect(child.address);
        if !is_served(&mut client) {
            break; // the reserve is lost with it
        }
        served.push(client);
    }
    assert_eq!(child.report().get("sheds"), 1);
    let mut next: Vec<TcpStream> = (0..20).map(|_| connect(child.address)).collect();
    let served: usize = next.iter_mut().map(|client| usize::from(is_served(client))).sum();
    assert_eq!(served, 0, "the descriptor that is left is the reserve");
}

/// A client that is at the door when descriptors end, and for which nothing is shed, waits for the
/// retry and for nobody else.
#[test]
fn a_client_that_waited_for_a_resource_is_served_without_another_one_coming() {
    for error in ["ENFILE", "EMFILE", "ENOBUFS", "ENOMEM"] {
        // The attempt, the one after giving up the reserve, and two more.
        let mut child = Child::start_with_failing("accept4", &format!("error={error}:when=1..4"));
        let mut client = connect(child.address);
        assert!(is_served(&mut client), "{error}");
        let report = child.report();
        assert_eq!(report.get("accepts"), 1, "{error}");
        assert!(report.get("accept_errors") >= 1, "{error}");
        assert_eq!(report.get("sheds"), 0, "{error}");
    }
}

/// Errors that belong to the connection that was to be accepted (accept(2)), and a signal.
#[test]
fn an_error_of_one_connection_is_passed_over() {
    for error in
        ["ECONNABORTED", "EINTR", "EPROTO", "EPERM", "ENETDOWN", "EHOSTUNREACH", "ETIMEDOUT"]
    {
        let mut child = Child::start_with_failing("accept4", &format!("error={error}:when=1..3"));
        let mut client = connect(child.address);
        let start = Instant::now();
        assert!(is_served(&mut client), "{error}");
        let mut next = connect(child.address);
        assert!(is_served(&mut next), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{error} is no reason to wait");
        let report = child.report();
        assert_eq!(report.get("accepts"), 2, "{error}");
        assert_eq!(report.get("accept_errors"), if error == "EINTR" { 0 } else { 3 }, "{error}");
    }
}

/// Nobody knows this error; it ends nothing either.
#[test]
fn an_unknown_error_of_accept_ends_nothing() {
    let mut child = Child::start_with_failing("accept4", "error=EUCLEAN:when=1..2");
    let mut client = connect(child.address);
    assert!(is_served(&mut client));
    assert_eq!(child.report().get("accepts"), 1);
}

/// On Linux the accept succeeds, and then nothing about the connection does: its address is unknown,
/// its options cannot be set.
#[test]
fn a_client_that_resets_before_the_accept_costs_its_own_connection_only() {
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
    assert!(kernel::may_open(2 * CROWD as u64 + 100));
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let crowd = CROWD.min(somaxconn.trim().parse().unwrap());
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
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let crowd = 1000.min(somaxconn.trim().parse().unwrap());
    assert!(kernel::may_open(2 * crowd + 100));
    let server = Server::new(Recorder::new());
    let clients: Vec<TcpStream> = (0..crowd).map(|_| connect(server.address)).collect();
    assert_eq!(clients.len() as u64, crowd);
}

#[test]
fn two_reactors_share_a_port_if_both_ask_for_it() {
    let options = ListenOptions::new().reuse_port(true);
    let mut first = Server::with(Recorder::echo(), &options, ReactorLimits::new());
    let mut second = Reactor::new().unwrap();
    let handler = second.add(Recorder::echo());
    let error = second.listen(handler, first.address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&first.address.to_string()), "{error}");

    second.listen_with(handler, first.address, &options).unwrap();
    let clients: Vec<TcpStream> = (0..64).map(|_| first.connect()).collect();
    run_until(&mut first.reactor, "all are accepted by one of them", |first| {
        second.turn(Some(Duration::from_millis(1))).unwrap();
        first.stats().accepts + second.stats().accepts == 64
    });
    // The kernel spreads them by a hash; that one gets none of 64 does not happen.
    assert!(first.reactor.stats().accepts > 0 && second.stats().accepts > 0);
    drop(clients);
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
    server.reactor.listener_address(listener).unwrap()
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
    let error = server.reactor.listen(server.handler, ("0.0.0.0", port)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "it has IPv4 already");
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
        let address = server.reactor.listener_address(*listener).unwrap();
        let mut client = connect(address);
        server.assert_echoes(&mut client);
        assert_eq!(origins.borrow().last(), Some(&Origin::Accepted(*listener)), "{address}");
        clients.push(client);
    }
    let closed = server.reactor.listener_address(listeners[1]).unwrap();
    server.reactor.close_listener(listeners[1]);
    server.assert_idle();
    assert_eq!(try_connect(closed).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(server.reactor.listener_address(listeners[1]).is_err());
    for client in &mut clients {
        server.assert_echoes(client);
    }
    let open = server.reactor.listener_address(listeners[2]).unwrap();
    let mut client = connect(open);
    server.assert_echoes(&mut client);
}

/// A name stands for several addresses; the first that can be had is taken.
#[test]
fn the_first_address_that_can_be_bound_is_taken() {
    let mut server = Server::new(Recorder::echo());
    let elsewhere = "192.0.2.1:1".parse().unwrap(); // no address of this machine (RFC 5737)
    let free = SocketAddr::from(([127, 0, 0, 4], 0));
    let listener = server.reactor.listen(server.handler, &[elsewhere, free][..]).unwrap();
    let address = server.reactor.listener_address(listener).unwrap();
    assert_eq!(address.ip(), free.ip());
    let error = server.reactor.listen(server.handler, elsewhere).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    assert!(error.to_string().contains("192.0.2.1:1"), "{error}");
    let nothing: [SocketAddr; 0] = [];
    let error = server.reactor.listen(server.handler, &nothing[..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
