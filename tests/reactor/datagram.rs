//! Datagram sockets: what is received, and from whom.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;

use oneloop::{
    Connection, Datagram, DatagramHandler, DatagramLimits, DatagramOptions, DatagramSocket, Error,
    StreamHandler,
};

use crate::support::datagrams::*;
use crate::support::*;

#[test]
fn a_datagram_is_shown_whole_and_an_answer_goes_back() {
    let mut server = Bound::new(Datagrams::echo());
    let (client, other) = (udp(), udp());
    client.send_to(b"from one", server.address).unwrap();
    other.send_to(b"from the other", server.address).unwrap();
    assert_eq!(server.received(&client), (b"from one".to_vec(), server.address));
    assert_eq!(server.received(&other), (b"from the other".to_vec(), server.address));
    assert_idle(&mut server.reactor);
    let from = client.local_addr().unwrap().into();
    let first = DatagramCall::Datagram(b"from one".to_vec(), from, 8);
    assert_eq!(server.calls.borrow()[..2], [DatagramCall::Bound, first], "on_bound comes first");
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_in, stats.datagrams_out, stats.datagrams_dropped), (2, 2, 0));
    assert_eq!((stats.datagram_sockets, stats.datagram_bytes_waiting), (1, 0));
}

/// A stream socket that gives nothing is at its end; a datagram socket is not.
#[test]
fn an_empty_datagram_is_a_datagram() {
    let mut server = Bound::new(Datagrams::echo());
    let client = udp();
    for data in [&b""[..], b"x", b""] {
        client.send_to(data, server.address).unwrap();
    }
    for data in [&b""[..], b"x", b""] {
        assert_eq!(server.received(&client).0, data);
    }
    assert_eq!(server.shown(), [&b""[..], b"x", b""]);
}

#[test]
fn a_datagram_of_the_largest_size_is_whole() {
    let mut server = Bound::new(Datagrams::echo());
    let client = udp();
    let sent = pattern(65_507);
    client.send_to(&sent, server.address).unwrap();
    assert!(server.received(&client).0 == sent);
    assert_eq!(server.reactor.stats().datagrams_truncated, 0);
}

#[test]
fn a_datagram_that_is_larger_than_the_buffer_is_truncated_and_says_so() {
    let options = DatagramOptions::new();
    let mut server = Bound::with_buffer(Datagrams::listens(), "127.0.0.1:0", &options, 1000);
    let client = udp();
    let sent = pattern(1001);
    client.send_to(&sent, server.address).unwrap();
    client.send_to(&sent[..1000], server.address).unwrap();
    server.until("both are shown", |calls| calls.len() == 3);
    let from = client.local_addr().unwrap();
    let of_length = |length| DatagramCall::Datagram(sent[..1000].to_vec(), from.into(), length);
    assert_eq!(server.calls.borrow()[1..], [of_length(1001), of_length(1000)]);
    assert_eq!(server.reactor.stats().datagrams_truncated, 1);
}

/// Two datagrams may be one event, and nothing tells of the second one any more.
#[test]
fn what_came_together_is_received_together() {
    let mut server = Bound::new(Datagrams::listens());
    let client = udp();
    server.until("it is bound", |calls| calls.len() == 1);
    for number in 0..10 {
        client.send_to(&[number], server.address).unwrap();
    }
    server.until("all are shown", |calls| calls.len() == 11);
    assert_eq!(server.shown(), (0..10).map(|number| vec![number]).collect::<Vec<_>>());
    assert_idle(&mut server.reactor);
}

#[test]
fn a_budget_of_datagrams_bounds_a_turn_and_the_rest_comes_in_the_next() {
    let limits = DatagramLimits::new().datagrams_per_turn_max(3);
    within_budget(limits, &[3, 6, 9, 10]);
}

#[test]
fn a_budget_of_bytes_bounds_a_turn_and_the_last_datagram_may_go_over_it() {
    let limits = DatagramLimits::new().bytes_per_turn_max(101);
    within_budget(limits, &[2, 4, 6, 8, 10]);
}

/// Ten datagrams of a hundred bytes wait: how many were shown after each turn.
fn within_budget(limits: DatagramLimits, expected: &[usize]) {
    let options = DatagramOptions::new().limits(limits);
    let mut server = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    server.until("it is bound", |calls| calls.len() == 1);
    assert_idle(&mut server.reactor);
    let client = udp();
    for _ in 0..10 {
        client.send_to(&[7; 100], server.address).unwrap();
    }
    let before = server.reactor.stats().budgets_exhausted;
    for count in expected {
        server.reactor.turn(Some(DEADLINE)).unwrap();
        assert_eq!(server.shown().len(), *count);
    }
    assert_idle(&mut server.reactor);
    assert!(server.reactor.stats().budgets_exhausted - before >= expected.len() as u64 - 1);
}

/// Fairness: a flooded socket does its share of a turn, and everybody else theirs.
#[test]
fn a_flood_on_one_socket_holds_another_up_for_one_budget() {
    let limits = DatagramLimits::new().datagrams_per_turn_max(4);
    let options = DatagramOptions::new().limits(limits);
    let mut server = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    let quiet = server.reactor.bind_with(server.handler, "127.0.0.1:0", &options).unwrap();
    let quiet = server.reactor.datagram_address(quiet).unwrap().inet().unwrap();
    server.until("both are bound", |calls| calls.len() == 2);
    assert_idle(&mut server.reactor);
    let client = udp();
    for _ in 0..100 {
        client.send_to(b"flood", server.address).unwrap();
    }
    client.send_to(b"quiet", quiet).unwrap();
    server.until("it is shown", |calls| {
        calls
            .iter()
            .any(|call| matches!(call, DatagramCall::Datagram(data, ..) if data == b"quiet"))
    });
    let before = server.shown().iter().filter(|data| *data == b"flood").count();
    assert!(before <= 4, "{before} datagrams of the flood came first");
}

#[test]
fn a_dual_stack_socket_hears_both_and_answers_both() {
    let mut server = Bound::with(Datagrams::echo(), "[::]:0", &DatagramOptions::new());
    let port = server.address.port();
    for (client, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let client = udp_at(client);
        let to = SocketAddr::new(to.parse().unwrap(), port);
        client.send_to(b"hello", to).unwrap();
        assert_eq!(server.received(&client), (b"hello".to_vec(), to));
    }
    let calls = server.calls.borrow();
    let DatagramCall::Datagram(_, from, _) = &calls[1] else { panic!("{calls:?}") };
    assert_eq!(from.ip().unwrap().to_string(), "::ffff:127.0.0.1");
}

#[test]
fn a_socket_for_ipv6_only_leaves_the_port_to_ipv4() {
    let options = DatagramOptions::new().only_v6(true);
    let mut server = Bound::with(Datagrams::listens(), "[::]:0", &options);
    let address = ("0.0.0.0", server.address.port());
    server.reactor.bind(server.handler, address).unwrap();
    // ... and one that takes both does not.
    let mut server = Bound::with(Datagrams::listens(), "[::]:0", &DatagramOptions::new());
    let address = ("0.0.0.0", server.address.port());
    let error = server.reactor.bind(server.handler, address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with("bind to udp://0.0.0.0:"), "{error}");
}

#[test]
fn a_connected_socket_hears_its_peer_only_and_sends_without_an_address() {
    let (peer, stranger) = (udp(), udp());
    let options = DatagramOptions::new().connect(peer.local_addr().unwrap());
    let datagrams = Datagrams::new(|socket, call| {
        if matches!(call, DatagramCall::Bound | DatagramCall::Datagram(..)) {
            socket.send(b"to the peer").ignore();
        }
    });
    let mut client = Bound::with(datagrams, "127.0.0.1:0", &options);
    assert_eq!(client.received(&peer), (b"to the peer".to_vec(), client.address));
    stranger.send_to(b"from a stranger", client.address).unwrap();
    peer.send_to(b"from the peer", client.address).unwrap();
    client.received(&peer);
    assert_eq!(client.shown(), [b"from the peer"]);
}

#[test]
fn an_address_that_is_taken_is_an_error_with_the_address() {
    let mut server = Bound::new(Datagrams::listens());
    let error = server.reactor.bind(server.handler, server.address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(
        error.to_string().starts_with(&format!("bind to udp://{}: ", server.address)),
        "{error}"
    );
    assert_eq!(server.reactor.stats().datagram_sockets, 1);
}

/// One value, with one state: connections and datagrams.
#[test]
fn a_handler_serves_connections_and_datagrams() {
    #[derive(Default)]
    struct Both {
        bytes: usize,
    }

    impl StreamHandler for Both {
        type Session = ();

        fn on_open(&mut self, _: &mut Connection<'_>) {}

        fn on_data(
            &mut self,
            _: &mut (),
            _: &mut Connection<'_>,
            data: &[u8],
        ) -> Result<usize, Error> {
            self.bytes += data.len();
            Ok(data.len())
        }
    }

    impl DatagramHandler for Both {
        fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
            self.bytes += datagram.data.len();
        }
    }

    let mut reactor = Reactor::new().unwrap();
    let both = reactor.add(Both::default());
    let listener = reactor.listen(both, "127.0.0.1:0").unwrap();
    let address = reactor.listener_address(listener).unwrap().inet().unwrap();
    let socket = reactor.bind(both, address).unwrap(); // TCP and UDP have ports of their own
    assert_eq!(reactor.datagram_address(socket).unwrap(), address);
    use std::io::Write;
    connect(address).write_all(b"stream").unwrap();
    udp().send_to(b"datagram", address).unwrap();
    run_until(&mut reactor, "both came", |reactor| reactor.handler(both).bytes == 14);
}

#[test]
fn a_handler_of_datagrams_can_be_lent_between_turns() {
    let mut server = Bound::new(Datagrams::listens());
    let calls = Rc::clone(&server.calls);
    assert!(Rc::ptr_eq(&server.reactor.handler(server.handler).calls, &calls));
    assert!(Rc::ptr_eq(&server.reactor.handler_mut(server.handler).calls, &calls));
}
