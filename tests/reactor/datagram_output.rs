//! Datagram sockets: what is sent, and what comes of it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use oneloop::{DatagramLimits, DatagramOptions, Key, Queued, SocketAddress};

use crate::support::datagrams::*;
use crate::support::*;

/// An address at which nobody is. No test is given such a port, as one whose socket is gone might be.
fn nobody_there() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

fn counts(server: &Bound) -> (u64, u64, u64) {
    let stats = server.reactor.stats();
    (stats.datagrams_out, stats.datagrams_dropped, stats.datagram_errors)
}

#[test]
fn what_is_sent_from_outside_of_a_callback_leaves_in_the_next_turn() {
    let mut server = Bound::new(Datagrams::listens());
    let client = udp();
    assert_eq!(server.send(client.local_addr().unwrap(), b"hello"), Queued::Ok);
    assert_eq!(server.received(&client).0, b"hello");
    assert_idle(&mut server.reactor);
}

#[test]
fn a_queue_that_is_full_drops_and_tells_when_there_is_room() {
    let client = udp();
    let to: SocketAddress = client.local_addr().unwrap().into();
    let limits = DatagramLimits::new().queue_len_max(4).datagrams_per_turn_max(1);
    let options = DatagramOptions::new().limits(limits);
    let datagrams = Datagrams::new(move |socket, call| {
        if *call == DatagramCall::Bound {
            let queued = [1, 2, 3, 4, 5, 6].map(|number| socket.send_to(&to, &[number]));
            assert_eq!(queued, [[Queued::Ok; 4].as_slice(), &[Queued::Full; 2]].concat()[..]);
        }
        if *call == DatagramCall::Room {
            assert_eq!(socket.stats().datagrams_out, 2, "half of them have gone");
            assert_eq!(socket.send_to(&to, &[7]), Queued::Ok);
        }
    });
    let mut server = Bound::with(datagrams, "127.0.0.1:0", &options);
    let came: Vec<_> = (0..5).map(|_| server.received(&client).0[0]).collect();
    assert_eq!(came, [1, 2, 3, 4, 7]);
    assert_idle(&mut server.reactor);
    assert_eq!(*server.calls.borrow(), [DatagramCall::Bound, DatagramCall::Room], "told once");
    assert_eq!(counts(&server), (5, 2, 0));
}

#[test]
fn a_queue_is_full_by_bytes_too() {
    let limits = DatagramLimits::new().queue_bytes_max(10);
    let options = DatagramOptions::new().limits(limits);
    let mut server = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    let client = udp();
    let to = client.local_addr().unwrap();
    assert_eq!(server.send(to, b"123456"), Queued::Ok);
    assert_eq!(server.send(to, b"12345"), Queued::Full);
    assert_eq!(server.send(to, b"1234"), Queued::Ok);
    assert_eq!(server.reactor.stats().datagram_bytes_waiting, 10);
    server.until("it is told", |calls| calls.contains(&DatagramCall::Room));
    assert_eq!(counts(&server), (2, 1, 0));
}

#[test]
fn what_is_too_large_is_told_and_survived() {
    let mut server = Bound::new(Datagrams::echo());
    let client = udp();
    let to = client.local_addr().unwrap();
    assert_eq!(server.send(to, &pattern(65_508)), Queued::Ok);
    assert_eq!(server.send(to, b"small"), Queued::Ok);
    assert_eq!(server.received(&client).0, b"small");
    let failed = server.calls.borrow()[1..].to_vec();
    assert!(
        matches!(&failed[..], [DatagramCall::Failed(Some(about), _)] if *about == to),
        "{failed:?}"
    );
    assert_eq!(counts(&server), (1, 1, 1));
    assert_idle(&mut server.reactor);
}

/// Where nobody is, only a sender that is connected is told.
#[test]
fn an_unconnected_socket_is_not_told_that_nobody_is_there() {
    let mut server = Bound::new(Datagrams::listens());
    server.send(nobody_there(), b"anybody?").ignore();
    assert_idle(&mut server.reactor);
    assert_eq!((server.failed(), counts(&server)), (vec![], (1, 0, 0)));
}

#[test]
fn a_connected_socket_is_told_that_nobody_is_there_and_goes_on() {
    let address = nobody_there();
    let options = DatagramOptions::new().connect(address);
    let mut client = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    for round in 1..=3 {
        client.send(address, b"anybody?").ignore();
        client.until("it is told", |calls| calls.len() == 1 + round);
        assert_idle(&mut client.reactor);
    }
    assert_eq!(client.failed(), vec![(None, ErrorKind::ConnectionRefused); 3]);
    assert_eq!(counts(&client), (3, 0, 3), "all of them have left");
    assert_eq!(client.reactor.stats().datagram_sockets, 1);
}

/// The second send is told of what happened to the first one, and is not made.
#[test]
fn a_datagram_that_gets_the_error_of_another_one_is_sent_again() {
    let address = nobody_there();
    let options = DatagramOptions::new().connect(address);
    let mut client = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    for _ in 0..10 {
        client.send(address, b"anybody?").ignore();
    }
    client.until("it is told", |calls| calls.len() > 1);
    assert_idle(&mut client.reactor);
    let failed = client.failed();
    assert!(
        failed.iter().all(|failed| *failed == (None, ErrorKind::ConnectionRefused)),
        "{failed:?}"
    );
    let (out, dropped, errors) = counts(&client);
    assert_eq!((out, dropped, errors), (10, 0, failed.len() as u64));
}

/// ... and what is its own fault is not tried for ever.
#[test]
fn what_is_too_large_for_a_connected_socket_is_dropped_and_the_next_one_is_sent() {
    let peer = udp();
    let address = peer.local_addr().unwrap();
    let options = DatagramOptions::new().connect(address);
    let mut client = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    let mut cx = client.reactor.context(client.handler);
    cx.send_datagram(client.key, None, &pattern(65_508)).ignore();
    cx.send_datagram(client.key, None, b"small").ignore();
    assert_eq!(client.received(&peer).0, b"small");
    let failed = client.failed();
    assert!(matches!(&failed[..], [(Some(to), _)] if *to == address), "{failed:?}");
    assert_eq!(counts(&client), (1, 1, 1));
}

#[test]
fn a_send_to_nobody_by_an_unconnected_socket_is_told() {
    let mut server = Bound::new(Datagrams::listens());
    let mut cx = server.reactor.context(server.handler);
    cx.send_datagram(server.key, None, b"where to?").ignore();
    server.until("it is told", |calls| calls.len() == 2);
    assert_eq!((server.failed().len(), server.failed()[0].0.clone()), (1, None));
    assert_eq!(counts(&server), (0, 1, 1));
}

#[test]
fn to_whom_has_no_name_and_with_what_is_gone_nothing_is_sent() {
    let mut server = Bound::new(Datagrams::listens());
    let (key, to) = (server.key, SocketAddress::from(udp().local_addr().unwrap()));
    let mut cx = server.reactor.context(server.handler);
    assert_eq!(cx.send_datagram(key, Some(&SocketAddress::Unnamed), b"x"), Queued::Gone);
    assert_eq!(cx.send_datagram(Key::from_bits(0), Some(&to), b"x"), Queued::Gone);
    cx.close_key(key);
    assert_eq!(cx.send_datagram(key, Some(&to), b"x"), Queued::Gone);
}

#[test]
fn a_timer_of_the_socket_comes_and_one_that_is_cancelled_does_not() {
    let client = udp();
    let to: SocketAddress = client.local_addr().unwrap().into();
    let datagrams = Datagrams::new(move |socket, call| match call {
        DatagramCall::Bound => {
            socket.set_timer(Duration::from_millis(2));
            let cancelled = socket.set_timer(Duration::from_millis(1));
            assert!(socket.cancel_timer(cancelled));
        }
        DatagramCall::Timer(_) => socket.send_to(&to, b"tick").ignore(),
        _ => {}
    });
    let mut server = Bound::new(datagrams);
    assert_eq!(server.received(&client).0, b"tick");
    let calls = server.calls.borrow().clone();
    assert!(matches!(calls[..], [DatagramCall::Bound, DatagramCall::Timer(_)]), "{calls:?}");
}

#[test]
fn an_interval_of_the_socket_ends_with_it() {
    let datagrams = Datagrams::new(|socket, call| match call {
        DatagramCall::Bound => {
            socket.set_interval(Duration::from_millis(1));
        }
        DatagramCall::Timer(_) if socket.stats().timer_lag.count() == 3 => socket.close(),
        _ => {}
    });
    let mut server = Bound::new(datagrams);
    server.until("it closes", |calls| matches!(calls.last(), Some(DatagramCall::Close(..))));
    for _ in 0..5 {
        server.reactor.turn(Some(Duration::from_millis(2))).unwrap();
    }
    assert_eq!(server.calls.borrow().len(), 5, "{:?}", server.calls);
}
