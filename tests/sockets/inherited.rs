//! Sockets that others made: that listen already, or are connected.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use oneloop::{CloseReason, Limits, ListenOptions, Origin, SocketOptions};
use rustix::net::sockopt;

use crate::support::deadline::SHORT;
use crate::support::*;

fn address_of(listener: &TcpListener) -> std::net::SocketAddr {
    listener.local_addr().unwrap()
}

#[test]
fn a_socket_that_listens_serves_who_came_before_and_who_comes_after() {
    let mut server = Server::new(Recorder::echo());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = address_of(&listener);
    let mut before = connect(address);
    let id =
        server.reactor.listen_fd(server.handler, listener.into(), &ListenOptions::new()).unwrap();
    assert_eq!(server.reactor.listener_address(id).unwrap(), address);
    server.assert_echoes(&mut before);
    let mut after = connect(address);
    server.assert_echoes(&mut after);
    drop((before, after));
    server.assert_idle();
}

/// As one is that a process without an event loop waits on. Another who shares it may take the client first, and
/// the accept would wait for the next.
#[test]
fn an_accept_never_waits() {
    let (mut reactor, handler) = raw::reactor();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let duplicate = listener.try_clone().unwrap();
    let is_nonblocking = || {
        let info = format!("/proc/self/fdinfo/{}", duplicate.as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        u32::from_str_radix(flags.trim(), 8).unwrap() & 0o4000 != 0
    };
    assert!(!is_nonblocking());
    reactor.listen_fd(handler, listener.into(), &ListenOptions::new()).unwrap();
    assert!(is_nonblocking());
}

#[test]
fn what_does_not_listen_for_streams_is_refused_with_its_reason() {
    let (mut reactor, handler) = raw::reactor();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(address_of(&listener)).unwrap();
    let bound = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    let packets = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    );
    let does_not_listen = "the descriptor is a socket that does not listen";
    let datagrams = "the descriptor is a datagram socket, which has no connections to accept";
    let cases: [(OwnedFd, &str); 7] = [
        (client.into(), does_not_listen),
        (bound.into(), does_not_listen),
        (UnixStream::pair().unwrap().0.into(), does_not_listen),
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), datagrams),
        (UnixDatagram::unbound().unwrap().into(), datagrams),
        (packets.unwrap(), "the descriptor is no stream socket"),
        (File::open("/dev/null").unwrap().into(), "the descriptor is no socket"),
    ];
    for (socket, reason) in cases {
        let error = reactor.listen_fd(handler, socket, &ListenOptions::new()).unwrap_err();
        assert_eq!((error.kind(), &error.to_string()[..]), (ErrorKind::InvalidInput, reason));
    }
}

#[test]
fn options_are_set_on_it_and_handed_down() {
    let mut server = Server::new(Recorder::echo());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = address_of(&listener);
    let options = ListenOptions::new().socket(SocketOptions::new().traffic_class(0x20));
    server.reactor.listen_fd(server.handler, listener.into(), &options).unwrap();
    let mut client = connect(address);
    server.assert_echoes(&mut client);
    let accepted = kernel::server_side_of(&client);
    assert_eq!(sockopt::ip_tos(&accepted).unwrap(), 0x20);
    assert!(sockopt::tcp_nodelay(&accepted).unwrap(), "as with the reactor's own sockets");
}

#[test]
fn an_option_that_comes_too_late_is_an_error() {
    let (mut reactor, handler) = raw::reactor();
    for (options, name) in [
        (ListenOptions::new().reuse_port(true), "reuse_port"),
        (ListenOptions::new().only_v6(true), "only_v6"),
        (ListenOptions::new().socket(SocketOptions::new().device("lo")), "device"),
        (ListenOptions::new().socket(SocketOptions::new().freebind(true)), "freebind"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = reactor.listen_fd(handler, listener.into(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let expected = format!("{name} is to be set before a socket is bound, and this one is");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn its_backlog_is_its_own_unless_another_is_asked_for() {
    use socket2::{Domain, Socket, Type};
    for (options, backlog) in [(ListenOptions::new(), 5), (ListenOptions::new().backlog(2), 2)] {
        let (mut reactor, handler) = raw::reactor();
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(5).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        reactor.listen_fd(handler, listener.into(), &options).unwrap();
        // The kernel takes one more than it was told, and drops the SYN of whoever comes then.
        let clients: Vec<TcpStream> =
            (0..=backlog).map(|_| try_connect(address).expect("there is room")).collect();
        let error = try_connect(address).expect_err("there is no room");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "backlog {backlog}");
        drop(clients);
    }
}

/// Its descriptor is closed here, and open there: the poll must not tell of it for ever.
#[test]
fn a_socket_that_somebody_else_has_open_wakes_nobody_when_it_was_closed_here() {
    let (mut reactor, handler) = raw::reactor();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.try_clone().unwrap();
    let id = reactor.listen_fd(handler, listener.into(), &ListenOptions::new()).unwrap();
    reactor.close_listener(id);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let _waits = connect(address_of(&shared));
    let events = reactor.stats().events;
    assert_idle(&mut reactor);
    assert_eq!(reactor.stats().events, events);
}

/// How many turns the loop makes in a short time, when nothing waits but what it sees itself.
fn turns_in_a_while(reactor: &mut Reactor) -> u64 {
    let (before, start) = (reactor.stats().turns, Instant::now());
    while start.elapsed() < SHORT {
        reactor.turn(Some(SHORT)).unwrap();
    }
    reactor.stats().turns - before
}

/// The kernel reports such a one for ever, whatever it was asked for (epoll_ctl(2), `EPOLLHUP`).
#[test]
fn a_listener_that_somebody_else_shuts_down_does_not_keep_the_loop_busy() {
    let unix = |name: &str| {
        let name = format!("oneloop-{name}-{}", std::process::id());
        let name = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        OwnedFd::from(UnixListener::bind_addr(&name).unwrap())
    };
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    for (own, how) in [
        (tcp.into(), Shutdown::Both),
        (unix("shut-down"), Shutdown::Both),
        (unix("shut-half"), Shutdown::Read),
    ] {
        let other = socket2::Socket::from(own.try_clone().unwrap());
        let (mut reactor, handler) = raw::reactor();
        reactor.listen_fd(handler, own, &ListenOptions::new()).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        other.shutdown(how).unwrap();
        let turns = turns_in_a_while(&mut reactor);
        assert!(turns < 30, "{turns} turns in {SHORT:?}, after {how:?}");
        assert!(reactor.stats().accept_errors > 0, "it was seen");
        reactor.drain(DEADLINE);
        let start = Instant::now();
        reactor.run().unwrap();
        assert!(start.elapsed() < DEADLINE / 2, "a drain waits for nobody there");
    }
}

/// As it is paused by some, and resumed (listen(2)).
#[test]
fn a_listener_that_listens_again_is_found_to() {
    let mut server = Server::new(Recorder::echo());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = socket2::Socket::from(listener.try_clone().unwrap());
    server.reactor.listen_fd(server.handler, listener.into(), &ListenOptions::new()).unwrap();
    other.shutdown(Shutdown::Both).unwrap();
    run_until(&mut server.reactor, "it is seen", |r| r.stats().accept_errors > 0);
    other.listen(5).unwrap();
    // A port of the kernel's choice is given back meanwhile.
    let port = other.local_addr().unwrap().as_socket().unwrap().port();
    let mut client = connect((Ipv4Addr::LOCALHOST, port).into());
    server.assert_echoes(&mut client);
}

#[test]
fn a_connected_socket_is_served_as_any_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = (connect(address_of(&listener)), listener.accept().unwrap().0);
    let (one, other) = UnixStream::pair().unwrap();
    let unix = (TcpStream::from(OwnedFd::from(one)), TcpStream::from(OwnedFd::from(other)));
    for (mut client, socket) in [tcp, unix] {
        let (origins, notes) = noted();
        let recorder = Recorder::echo().open(move |conn| notes.borrow_mut().push(conn.origin()));
        let mut server = Server::new(recorder);
        server.reactor.adopt(server.handler, socket.into(), 5).unwrap();
        server.assert_echoes(&mut client);
        assert_eq!(*origins.borrow(), [Origin::Adopted(5)]);
        let much = pattern(100_000);
        assert_eq!(server.write(&mut client, &much), None);
        assert!(server.read(&mut client, much.len()) == much);
        drop(client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
        server.assert_idle();
    }
}

/// As inetd's nowait services have it: the standard descriptors stay open.
#[test]
fn a_connected_socket_that_stays_open_elsewhere_is_heard_of_no_more() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.abort();
        Ok(data.len())
    }));
    let (mut client, socket) = UnixStream::pair().unwrap();
    let _shared = socket.try_clone().unwrap();
    server.reactor.adopt(server.handler, socket.into(), 0).unwrap();
    client.write_all(b"x").unwrap();
    server.until_closed(1);
    client.write_all(b"y").unwrap();
    server.assert_idle();
    assert_eq!(server.reactor.stats().stale_events, 0);
}

#[test]
fn an_adopted_connection_has_the_limits_of_those_that_are_made_here() {
    let (mut reactor, handler) = raw::reactor();
    let limit = Duration::from_millis(30);
    let limits = Limits::new().idle_timeout(limit).linger_timeout(limit);
    reactor.set_connect_limits(limits).unwrap();
    let (_client, socket) = UnixStream::pair().unwrap();
    reactor.adopt(handler, socket.into(), 0).unwrap();
    run_until(&mut reactor, "it is idle", |reactor| reactor.connections() == 0);
}

#[test]
fn what_is_no_open_stream_is_not_adopted_and_says_why() {
    let (mut reactor, handler) = raw::reactor();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    let both = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    let cases: [(OwnedFd, ErrorKind, &str); 5] = [
        (listener.into(), ErrorKind::InvalidInput, "the descriptor is a socket that listens"),
        (bound.into(), ErrorKind::InvalidInput, "the descriptor is a socket that is not connected"),
        (
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            ErrorKind::InvalidInput,
            "the descriptor is a datagram socket",
        ),
        (both.into(), ErrorKind::InvalidInput, "open for both directions"),
        (
            File::open("/dev/null").unwrap().into(),
            ErrorKind::PermissionDenied,
            "the poll does not take such a file",
        ),
    ];
    for (descriptor, kind, reason) in cases {
        let error = reactor.adopt(handler, descriptor, 0).unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(reason), "{kind}: {error}");
    }
    assert_eq!(reactor.connections(), 0);
    reactor.verify();
}
