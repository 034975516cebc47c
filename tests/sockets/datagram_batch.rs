//! Datagrams that leave and come in batches: with the feature `udp-batch`, on Linux.

#![cfg(all(feature = "udp-batch", target_os = "linux"))]

use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::sockopt::UdpGroSegment;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt};
use oneloop::{DatagramLimits, DatagramOptions, Queued, SocketAddress};

use crate::support::datagrams::*;
use crate::support::*;

/// Receives what was sent as one at once (udp(7), `UDP_GRO`): so that it can be seen what was.
fn sees_batches() -> UdpSocket {
    let client = udp();
    setsockopt(&client, UdpGroSegment, &true).unwrap();
    client
}

/// Sends in one run datagrams of these lengths, each full of its number.
fn sends(to: SocketAddr, lengths: &[usize], options: &DatagramOptions) -> Bound {
    let (to, lengths) = (SocketAddress::from(to), lengths.to_vec());
    let datagrams = Datagrams::new(move |socket, call| {
        if *call == DatagramCall::Bound {
            for (number, length) in lengths.iter().enumerate() {
                let data = vec![number as u8; *length];
                assert_eq!(socket.send_to(&to, &data), Queued::Ok);
            }
        }
    });
    Bound::with(datagrams, "[::]:0", options)
}

/// An IPv4 address as a socket for both families has it.
fn mapped(client: &UdpSocket) -> SocketAddr {
    let address = client.local_addr().unwrap();
    (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), address.port()).into()
}

/// How much comes at once, so many times.
fn comes(server: &mut Bound, client: &UdpSocket, times: usize) -> Vec<usize> {
    (0..times).map(|_| server.received(client).0.len()).collect()
}

#[test]
fn neighbours_of_one_length_for_one_receiver_leave_as_one() {
    let client = sees_batches();
    let mut server = sends(mapped(&client), &[100, 100, 100, 7, 7, 100], &DatagramOptions::new());
    assert_eq!(comes(&mut server, &client, 3), [300, 14, 100]);
    assert_eq!(server.reactor.stats().datagrams_out, 6);
    assert_eq!(server.reactor.stats().datagram_bytes_waiting, 0);
    assert_idle(&mut server.reactor);
}

/// A socket that is bound to all addresses answers from the one that was asked.
#[test]
fn a_batch_of_answers_leaves_from_where_it_was_asked() {
    for (bound_to, asked) in
        [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "127.0.0.2"), ("[::]:0", "::1")]
    {
        let datagrams = Datagrams::new(|socket, call| {
            if let DatagramCall::Datagram(data, from, _) = call {
                (0..3).for_each(|_| socket.send_to(from, data).ignore());
            }
        });
        let mut server = Bound::with(datagrams, bound_to, &DatagramOptions::new());
        let port = server.address.port();
        let asked = SocketAddr::new(asked.parse().unwrap(), port);
        let client = udp_at(if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
        setsockopt(&client, UdpGroSegment, &true).unwrap();
        client.send_to(b"hello", asked).unwrap();
        let (answer, from) = server.received(&client);
        assert_eq!((&answer[..], from), (&b"hellohellohello"[..], asked));
    }
}

#[test]
fn who_receives_one_by_one_gets_them_whole_and_in_order() {
    let client = udp();
    let lengths = [100, 100, 0, 0, 1, 100, 60_000, 60_000, 20_000, 20_000, 20_000, 20_000];
    let mut server = sends(mapped(&client), &lengths, &DatagramOptions::new());
    for (number, length) in lengths.into_iter().enumerate() {
        assert_eq!(server.received(&client).0, vec![number as u8; length], "{number}");
    }
    assert_eq!(server.reactor.stats().datagrams_out, lengths.len() as u64);
    assert_idle(&mut server.reactor);
}

/// The last one of a turn may go over the bytes, as ever.
#[test]
fn a_batch_stays_within_the_budget() {
    for (limits, expected, turns) in [
        (DatagramLimits::new().datagrams_per_turn_max(3), vec![300, 300, 200], 3),
        (DatagramLimits::new().bytes_per_turn_max(399), vec![300, 100, 300, 100], 2),
    ] {
        let client = sees_batches();
        let options = DatagramOptions::new().limits(limits);
        let mut server = sends(mapped(&client), &[100; 8], &options);
        assert_eq!(comes(&mut server, &client, expected.len()), expected);
        assert!(server.reactor.stats().turns >= turns);
        assert_eq!(server.reactor.stats().datagrams_out, 8);
    }
}

/// Without checksums the kernel cannot cut them later.
#[test]
fn what_the_kernel_does_not_take_as_one_leaves_one_by_one() {
    mod option {
        use nix::{libc, setsockopt_impl, sockopt_impl};

        sockopt_impl!(NoCheck, SetOnly, libc::SOL_SOCKET, libc::SO_NO_CHECK, bool);
    }

    let client = sees_batches();
    let to = SocketAddress::from(client.local_addr().unwrap());
    let datagrams = Datagrams::new(move |socket, call| {
        if *call == DatagramCall::Bound {
            (0..5).for_each(|number| socket.send_to(&to, &[number; 100]).ignore());
        }
    });
    let mut server = Bound::new(Datagrams::listens());
    let handler = server.reactor.add_datagram_handler(datagrams);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&socket, option::NoCheck, &true).unwrap();
    server.reactor.bind_fd(handler, socket.into(), &DatagramOptions::new()).unwrap();
    for number in 0..5 {
        assert_eq!(server.received(&client).0, [number; 100]);
    }
    assert_eq!(server.reactor.stats().datagrams_out, 5);
    assert_eq!(server.reactor.stats().datagram_errors, 0);
}

/// The error of one that left earlier meets the batch, which is sent all the same.
#[test]
fn an_error_of_an_earlier_datagram_costs_no_batch() {
    let client = udp();
    let to = client.local_addr().unwrap();
    drop(client);
    let mut server =
        Bound::with(Datagrams::listens(), "127.0.0.1:0", &DatagramOptions::new().connect(to));
    server.until("it is bound", |calls| calls.len() == 1);
    for _ in 0..2 {
        for _ in 0..5 {
            server.send(to, b"alike").ignore();
        }
        server.reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    let failures = server.failed();
    assert!(!failures.is_empty() && failures.iter().all(|(to, _)| to.is_none()), "{failures:?}");
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_out, stats.datagrams_dropped), (10, 0));
}

/// Sends these bytes as datagrams of so many each, in one.
fn send_as_one(client: &UdpSocket, to: SocketAddr, data: &[u8], each: u16) {
    let (slices, segments) = ([IoSlice::new(data)], [ControlMessage::UdpGsoSegments(&each)]);
    let to = SockaddrStorage::from(to);
    sendmsg(client.as_raw_fd(), &slices, &segments, MsgFlags::empty(), Some(&to)).unwrap();
}

/// One more than the budget of a turn comes with the first call: so they have come together.
#[test]
fn what_was_gathered_is_shown_one_by_one_with_its_sender() {
    let limits = DatagramLimits::new().datagrams_per_turn_max(1);
    let options = DatagramOptions::new().gather(true).limits(limits);
    for bound_to in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let mut server = Bound::with(Datagrams::echo(), bound_to, &options);
        server.until("it is bound", |calls| calls.len() == 1);
        let client = udp();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address.port()));
        send_as_one(&client, to, &pattern(250), 100);
        server.reactor.turn(Some(DEADLINE)).unwrap();
        let shown = server.shown();
        assert_eq!(shown.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50], "{bound_to}");
        assert_eq!(shown.concat(), pattern(250));
        for part in pattern(250).chunks(100) {
            assert_eq!(server.received(&client), (part.to_vec(), to));
        }
        // Of the others nothing is changed.
        client.send_to(b"", to).unwrap();
        client.send_to(b"alone", to).unwrap();
        assert_eq!(server.received(&client).0, b"");
        assert_eq!(server.received(&client).0, b"alone");
        assert_eq!(server.reactor.stats().datagrams_in, 5);
        assert_idle(&mut server.reactor);
    }
}

#[test]
fn the_largest_that_can_be_gathered_comes_whole() {
    let options = DatagramOptions::new().gather(true);
    let mut server = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    let client = udp();
    send_as_one(&client, server.address, &pattern(64 * 1000), 1000);
    server.until("it comes", |calls| calls.len() == 65);
    assert_eq!(server.shown().concat(), pattern(64 * 1000));
    assert_eq!(server.reactor.stats().datagrams_truncated, 0);
}

#[test]
fn what_was_gathered_with_the_one_that_closes_the_socket_is_not_shown() {
    let datagrams = Datagrams::new(|socket, call| {
        if matches!(call, DatagramCall::Datagram(..)) {
            socket.close();
        }
    });
    let mut server = Bound::with(datagrams, "127.0.0.1:0", &DatagramOptions::new().gather(true));
    send_as_one(&udp(), server.address, &[7; 300], 100);
    server.until("it is closed", |calls| matches!(calls.last(), Some(DatagramCall::Close(..))));
    assert_eq!(server.shown().len(), 1);
}

#[test]
fn a_buffer_that_would_cut_what_is_gathered_is_refused() {
    let mut server =
        Bound::with_buffer(Datagrams::listens(), "127.0.0.1:0", &DatagramOptions::new(), 65_534);
    let options = DatagramOptions::new().gather(true);
    let error = server.reactor.bind_with(server.handler, "127.0.0.1:0", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("read_buffer_bytes"), "{error}");
    let error = server.reactor.bind_fd(server.handler, udp().into(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_buffer_that_would_cut_what_is_gathered_cannot_be_had_later_either() {
    let options = DatagramOptions::new().gather(true);
    let mut server = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    let smaller = server.reactor.limits().clone().read_buffer_bytes(4096);
    let error = server.reactor.set_limits(smaller.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("read_buffer_bytes"), "{error}");
    send_as_one(&udp(), server.address, &pattern(64 * 1000), 1000);
    server.until("it comes", |calls| calls.len() == 65);
    assert_eq!(server.shown().concat(), pattern(64 * 1000));
    let key = server.key;
    server.reactor.context(server.handler).close_key(key);
    server.until("it is closed", |calls| matches!(calls.last(), Some(DatagramCall::Close(..))));
    server.reactor.set_limits(smaller).expect("nobody gathers any more");
}

#[test]
fn an_inherited_socket_gathers_too() {
    let limits = DatagramLimits::new().datagrams_per_turn_max(1);
    let options = DatagramOptions::new().gather(true).limits(limits);
    let mut server = Bound::new(Datagrams::listens());
    let (socket, client) = (udp(), udp());
    let address = socket.local_addr().unwrap();
    server.reactor.bind_fd(server.handler, socket.into(), &options).unwrap();
    server.until("both are bound", |calls| calls.len() == 2);
    send_as_one(&client, address, &[7; 300], 100);
    server.reactor.turn(Some(DEADLINE)).unwrap();
    assert_eq!(server.shown().len(), 3);
}
