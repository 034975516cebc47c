//! Outbound connections from an address of one's choice, and one that meets itself.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use oneloop::{ConnectError, ConnectOptions, Sent};

use crate::support::*;

fn from(address: impl Into<SocketAddr>) -> Rc<ConnectOptions> {
    Rc::new(ConnectOptions::new().from(address.into()))
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Why attempts fail, each alone.
fn error_of(to: SocketAddr, options: &Rc<ConnectOptions>) -> ConnectError {
    let mut client = Client::new(Recorder::new());
    client.cx().connect_with(to, 1, options);
    client.failed(1)[0].2
}

#[test]
fn a_connection_comes_from_the_address_that_it_was_given() {
    let (listener, to) = listener();
    let (_socket, port) = shared_nobody();
    for own in [SocketAddr::from(([127, 0, 0, 2], 0)), port] {
        let (seen, log) = noted();
        let mut client = Client::new(Recorder::new().open(move |conn| {
            log.borrow_mut().push(conn.local_address().unwrap().inet().unwrap());
        }));
        client.cx().connect_with(to, 1, &from(own));
        client.until("it opens", |calls| calls.opened().len() == 1);
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(*seen.borrow(), [peer]);
        assert_eq!(peer.ip(), own.ip());
        assert!(own.port() == 0 || peer == own, "{peer}");
        // Who is reset leaves no port behind (tcp(7), TIME_WAIT).
        let key = client.calls.opened()[0];
        client.cx().abort_key(key);
        client.until("it closes", |calls| calls.closed().len() == 1);
    }
}

#[test]
fn a_connection_that_says_only_its_port_comes_from_that_and_any_address() {
    let (listener, to) = listener();
    let (_socket, port) = shared_nobody();
    let mut client = Client::new(Recorder::new());
    client.cx().connect_with(to, 1, &from((Ipv4Addr::UNSPECIFIED, port.port())));
    client.until("it opens", |calls| calls.opened().len() == 1);
    assert_eq!(listener.accept().unwrap().1, port);
    let key = client.calls.opened()[0];
    client.cx().abort_key(key);
    client.until("it closes", |calls| calls.closed().len() == 1);
}

#[test]
fn an_address_that_is_not_ours_is_unavailable() {
    let (_listener, to) = listener();
    let elsewhere = from((Ipv4Addr::new(203, 0, 113, 1), 0));
    assert_eq!(error_of(to, &elsewhere), ConnectError::AddressUnavailable);
}

#[test]
fn a_port_that_somebody_listens_on_is_unavailable() {
    let (_listener, to) = listener();
    let (_other, taken) = listener();
    assert_eq!(error_of(to, &from(taken)), ConnectError::AddressUnavailable);
}

/// As when all ports are in use: there is a connection with these two addresses.
#[test]
fn a_port_is_unavailable_for_the_peer_that_it_has_and_free_for_others() {
    let (_listener, to) = listener();
    let (_other, other) = listener();
    let (_socket, port) = shared_nobody();
    let options = from(port);
    let mut client = Client::new(Recorder::new());
    client.cx().connect_with(to, 1, &options);
    client.until("the first opens", |calls| calls.opened().len() == 1);
    let second = client.cx().connect_with(to, 2, &options);
    client.until("the second fails", |calls| failures(calls).len() == 1);
    assert_eq!(failures(&client.calls), [(second, 2, ConnectError::AddressUnavailable)]);
    client.cx().connect_with(other, 3, &options);
    client.until("the third opens", |calls| calls.opened().len() == 2);
    for key in client.calls.opened() {
        client.cx().abort_key(key);
    }
    client.until("they close", |calls| calls.closed().len() == 2);
    client.calls.check();
}

#[test]
fn an_address_of_another_family_is_no_way_to_the_peer() {
    let (_listener, v4) = listener();
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, v4.port()));
    for (to, own) in [(v4, (Ipv6Addr::LOCALHOST, 0).into()), (v6, ([127, 0, 0, 1], 0).into())] {
        let own: SocketAddr = own;
        assert_eq!(error_of(to, &from(own)), ConnectError::Io(ErrorKind::InvalidInput), "{own}");
    }
}

#[test]
fn a_connection_that_meets_itself_is_closed_and_told_so_and_nothing_comes_back() {
    let (_socket, address) = shared_nobody();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    for to in [address, any, address] {
        let mut client = Client::new(Recorder::new());
        let key = client.cx().connect_with(to, 7, &from(address));
        assert_eq!(client.cx().send_to(key, b"who is there?"), Sent::Ok);
        assert_eq!(client.failed(1), [(key, 7, ConnectError::SelfConnected)]);
        let stats = client.reactor.stats();
        assert_eq!((stats.connects, stats.bytes_out, stats.memory_bytes), (0, 0, 0));
    }
}

/// It would be in nobody's way but the very server's that it was meant for.
#[test]
fn a_connection_that_met_itself_leaves_its_port_free_at_once() {
    if !needs_kernel("TIME_WAIT") {
        return;
    }
    let address = {
        let (_socket, address) = shared_nobody();
        assert_eq!(error_of(address, &from(address)), ConnectError::SelfConnected);
        address
    };
    // Without SO_REUSEADDR, which overlooks what is in TIME_WAIT.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).expect("it is free");
}

/// One that has the port of its peer, but not its address, has a peer.
#[test]
fn a_connection_between_equal_ports_of_two_addresses_is_none_to_itself() {
    let (listener, to) = listener();
    let own = SocketAddr::from(([127, 0, 0, 2], to.port()));
    let opened: Rc<RefCell<Vec<SocketAddr>>> = Rc::default();
    let log = Rc::clone(&opened);
    let mut client = Client::new(Recorder::new().open(move |conn| {
        log.borrow_mut().push(conn.local_address().unwrap().inet().unwrap());
        conn.send(b"hello").ignore();
    }));
    client.cx().connect_with(to, 1, &from(own));
    client.until("it opens", |calls| calls.opened().len() == 1);
    assert_eq!(*opened.borrow(), [own]);
    let (mut peer, _) = listener.accept().unwrap();
    let mut hello = [0; 5];
    peer.read_exact(&mut hello).unwrap();
    peer.write_all(&hello).unwrap();
    client.until("the answer", |calls| calls.shown() == [b"hello"]);
}
