//! Datagram sockets: what they can be bound to, and by whom.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use oneloop::{
    Address, CloseReason, DatagramLimits, DatagramOptions, Ended, HandlerId, Key, ListenOptions,
    Queued, SocketAddress,
};

use crate::support::datagrams::*;
use crate::support::*;

/// Binds to an address, and has a datagram sent there and back.
fn assert_echoes(server: &mut Bound, key: Key, ip: IpAddr) {
    let port = server.reactor.datagram_address(key).unwrap().port().unwrap();
    let client = udp_at(if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
    let address = SocketAddr::new(ip, port);
    client.send_to(b"hello", address).unwrap();
    assert_eq!(server.received(&client), (b"hello".to_vec(), address));
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn what_stands_for_an_address_is_bound_for_datagrams() {
    let mut server = Bound::new(Datagrams::echo());
    let handler = server.handler;
    let address: Address = "udp://127.0.0.1:0".parse().unwrap();
    for key in [
        server.reactor.bind(handler, "127.0.0.1:0"),
        server.reactor.bind(handler, address),
        server.reactor.bind(handler, SocketAddr::new(V4, 0)),
        server.reactor.bind(handler, SocketAddress::Inet((V4, 0).into())),
        server.reactor.bind(handler, ("127.0.0.1", 0)),
        server.reactor.bind(handler, (V4, 0)),
    ] {
        assert_echoes(&mut server, key.unwrap(), V4);
    }
    let key = server.reactor.bind(handler, "udp://[::1]:0").unwrap();
    assert_echoes(&mut server, key, V6);
}

#[test]
fn a_star_is_one_socket_for_the_senders_of_both_families() {
    for star in ["*:0", "udp://*:0"] {
        let mut server = Bound::with(Datagrams::echo(), star, &DatagramOptions::new());
        assert_eq!(server.address.ip(), IpAddr::from(Ipv6Addr::UNSPECIFIED));
        let key = server.key;
        assert_echoes(&mut server, key, V4);
        assert_echoes(&mut server, key, V6);
    }
}

#[test]
fn what_cannot_be_bound_is_said_with_its_reason() {
    let mut server = Bound::new(Datagrams::listens());
    let inherited = "an inherited socket is taken with Inherited, and given to bind_fd";
    for (address, reason) in [
        ("127.0.0.1:70000", "bind to an address: port 70000 is over 65535".into()),
        ("fd:3", format!("bind to fd:3: {inherited}")),
        ("systemd:dns", format!("bind to systemd:dns: {inherited}")),
    ] {
        let error = server.reactor.bind(server.handler, address).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidInput, reason));
    }
    let error = server.reactor.bind(server.handler, SocketAddress::Unnamed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(server.reactor.stats().datagram_sockets, 1, "nothing is left of them");
    assert_idle(&mut server.reactor);
}

#[test]
fn a_name_is_looked_up() {
    if !needs_kernel("names") {
        return;
    }
    let mut server = Bound::new(Datagrams::echo());
    for name in ["localhost:0", "udp://localhost:0"] {
        let key = server.reactor.bind(server.handler, name).unwrap();
        let ip = server.reactor.datagram_address(key).unwrap().ip().unwrap();
        assert_echoes(&mut server, key, ip);
    }
    let error = server.reactor.bind(server.handler, "no-such-host.invalid:53").unwrap_err();
    assert!(error.to_string().starts_with("bind to udp://no-such-host.invalid:53: "), "{error}");
}

#[cfg(feature = "names")]
#[test]
fn a_service_is_one_of_udp() {
    let mut server = Bound::new(Datagrams::echo());
    for address in ["127.0.0.1:no-such", "*:no-such"] {
        let error = server.reactor.bind(server.handler, address).unwrap_err();
        let expected =
            format!("bind to udp://{address}: there is no UDP service \"no-such\" (services(5))");
        assert_eq!(error.to_string(), expected);
    }
    // One that TCP does not have. Whether the port may be bound is another matter.
    for address in ["127.0.0.1:tftp", "*:tftp"] {
        match server.reactor.bind(server.handler, address) {
            Ok(key) => assert_eq!(server.reactor.datagram_address(key).unwrap().port(), Some(69)),
            Err(error) => assert!(error.to_string().contains(":69: "), "{error}"),
        }
    }
}

/// A handler which, when its first socket is bound, binds another one to where it is told to; and the key.
fn binds(address: SocketAddress, options: DatagramOptions) -> (Datagrams, Rc<RefCell<Vec<Key>>>) {
    let keys = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&keys);
    let datagrams = Datagrams::new(move |socket, call| {
        if *call == DatagramCall::Bound && noted.borrow().is_empty() {
            noted.borrow_mut().push(socket.bind(address.clone(), &options));
        }
        if let DatagramCall::Datagram(data, from, _) = call {
            socket.send_to(from, data).ignore();
        }
        closes_on_drain(socket, call);
    });
    (datagrams, keys)
}

fn any_port() -> SocketAddress {
    SocketAddr::new(V4, 0).into()
}

/// What was told of a socket that never was: its key, and why.
fn bind_failures(calls: &[DatagramCall]) -> Vec<(Key, ErrorKind, String)> {
    let failures = calls.iter().filter_map(|call| match call {
        DatagramCall::BindFailed(key, kind, text) => Some((*key, *kind, text.clone())),
        _ => None,
    });
    failures.collect()
}

#[test]
fn a_callback_can_bind_another_socket_for_its_handler() {
    let (datagrams, keys) = binds(any_port(), DatagramOptions::new());
    let mut server = Bound::new(datagrams);
    server.until("both are bound", |calls| calls.len() == 2);
    assert_eq!(*server.calls.borrow(), [DatagramCall::Bound, DatagramCall::Bound]);
    let key = keys.borrow()[0];
    assert_ne!(key, server.key);
    assert_echoes(&mut server, key, V4);
    assert_eq!(server.reactor.stats().datagram_sockets, 2);
    server.reactor.context(server.handler).close_key(key);
    server.until("it is closed", |calls| {
        calls.contains(&DatagramCall::Close(key, CloseReason::Closed))
    });
    assert_idle(&mut server.reactor);
}

#[test]
fn a_socket_that_a_callback_cannot_have_is_told_with_its_error() {
    let mut other = Bound::new(Datagrams::listens());
    let (datagrams, keys) = binds(other.address.into(), DatagramOptions::new());
    let taken = other.reactor.add_datagram_handler(datagrams);
    let calls = Rc::clone(&other.reactor.handler(taken).calls);
    other.reactor.bind(taken, "127.0.0.1:0").unwrap();
    run_until(&mut other.reactor, "it is told", |_| !bind_failures(&calls.borrow()).is_empty());
    let failures = bind_failures(&calls.borrow());
    let [(key, kind, text)] = &failures[..] else { panic!("told once: {failures:?}") };
    assert_eq!((*key, *kind), (keys.borrow()[0], ErrorKind::AddrInUse));
    assert!(text.starts_with(&format!("bind to udp://{}: ", other.address)), "{text}");
    assert_eq!(calls.borrow().len(), 2, "no other call comes for it");
    assert_eq!(other.reactor.stats().datagram_sockets, 2);
    assert!(other.reactor.datagram_address(*key).is_err());
    assert_idle(&mut other.reactor);
}

#[test]
fn limits_and_options_that_make_no_sense_are_told_to_a_callback() {
    let limits = DatagramLimits::new().queue_len_max(0);
    for (options, reason) in [
        (DatagramOptions::new().limits(limits), "queue_len_max is 0"),
        (DatagramOptions::new().unix_mode(0o600), "unix_mode means nothing for 127.0.0.1:0"),
    ] {
        let (datagrams, _) = binds(any_port(), options);
        let mut server = Bound::new(datagrams);
        server.until("it is told", |calls| !bind_failures(calls).is_empty());
        let failures = bind_failures(&server.calls.borrow());
        assert!(failures[0].2.contains(reason), "{failures:?}");
    }
}

/// Between turns, for a handler that serves connections, too, or only datagrams.
#[test]
fn a_context_binds_for_any_handler() {
    let mut server = Bound::new(Datagrams::echo());
    let options = DatagramOptions::new();
    let handler = server.handler;
    let streams = server.reactor.add(Recorder::echo());
    let key = server.reactor.context(streams).bind_for(handler, SocketAddr::new(V4, 0), &options);
    assert!(server.reactor.datagram_address(key).is_err(), "not yet");
    server.until("both are bound", |calls| calls.len() == 2);
    assert_echoes(&mut server, key, V4);
}

/// Its key is good from the call on.
#[test]
fn what_is_sent_before_a_socket_is_bound_leaves_then() {
    let client = udp();
    let to = client.local_addr().unwrap().into();
    let mut server = Bound::new(Datagrams::echo());
    let (handler, options) = (server.handler, DatagramOptions::new());
    let mut cx = server.reactor.context(handler);
    let key = cx.bind_for(handler, SocketAddr::new(V4, 0), &options);
    assert_eq!(cx.send_datagram(key, Some(&to), b"early"), Queued::Ok);
    let (data, from) = server.received(&client);
    assert_eq!(data, b"early");
    assert_eq!(server.reactor.datagram_address(key).unwrap(), from);
    assert_idle(&mut server.reactor);
}

/// Asked for when the sockets of its turn have been made, and before its turn's output is written; also if a drain
/// begins in between.
#[test]
fn what_is_sent_before_a_socket_is_bound_waits_for_the_next_turn_too() {
    for drains in [false, true] {
        let client = udp();
        let to: SocketAddress = client.local_addr().unwrap().into();
        let mut server = Bound::new(Datagrams::echo());
        let handler = server.handler;
        let door = Recorder::echo()
            .start(move |cx| {
                cx.listen(SocketAddr::new(V4, 0), &ListenOptions::new());
                if drains {
                    cx.drain(DEADLINE);
                }
            })
            .listening(move |_, _, cx| {
                let key = cx.bind_for(handler, SocketAddr::new(V4, 0), &DatagramOptions::new());
                cx.send_datagram(key, Some(&to), b"early").ignore();
            });
        server.reactor.add(door);
        assert_eq!(server.received(&client).0, b"early");
        assert_idle(&mut server.reactor);
    }
}

#[test]
fn a_socket_that_is_closed_before_it_is_bound_is_told_and_what_it_was_to_send_is_dropped() {
    let mut server = Bound::new(Datagrams::echo());
    let (handler, options) = (server.handler, DatagramOptions::new());
    let to = udp().local_addr().unwrap().into();
    let mut cx = server.reactor.context(handler);
    let key = cx.bind_for(handler, SocketAddr::new(V4, 0), &options);
    cx.send_datagram(key, Some(&to), b"never").ignore();
    cx.close_key(key);
    assert_eq!(cx.send_datagram(key, Some(&to), b"too late"), Queued::Gone);
    server.until("it is told", |calls| calls.len() == 2);
    let why = "it was closed before it was bound".to_owned();
    assert_eq!(bind_failures(&server.calls.borrow()), [(key, ErrorKind::NotConnected, why)]);
    let stats = server.reactor.stats();
    assert_eq!((stats.datagram_sockets, stats.datagrams_dropped), (1, 1));
    assert_eq!(stats.datagram_bytes_waiting, 0);
    assert_idle(&mut server.reactor);
}

#[test]
fn a_socket_that_a_stop_keeps_from_being_bound_is_told() {
    let mut server = Bound::new(Datagrams::echo());
    let (handler, options) = (server.handler, DatagramOptions::new());
    let key = server.reactor.context(handler).bind_for(handler, SocketAddr::new(V4, 0), &options);
    server.reactor.stop();
    let why = "the reactor stopped before it was bound".to_owned();
    assert_eq!(bind_failures(&server.calls.borrow()), [(key, ErrorKind::NotConnected, why)]);
    // While it stops nothing begins.
    let mut cx = server.reactor.context(handler);
    cx.stop();
    let key = cx.bind_for(handler, SocketAddr::new(V4, 0), &options);
    assert_eq!(cx.send_datagram(key, None, b"to nobody"), Queued::Gone);
    server.reactor.stop();
    assert_eq!(bind_failures(&server.calls.borrow()).len(), 1);
}

#[test]
fn a_drain_waits_for_a_socket_that_is_being_bound_and_tells_it() {
    let mut server = Bound::new(Datagrams::echo());
    let (handler, options) = (server.handler, DatagramOptions::new());
    server.until("it is bound", |calls| calls.len() == 1);
    let key = server.reactor.context(handler).bind_for(handler, SocketAddr::new(V4, 0), &options);
    server.reactor.drain(DEADLINE);
    assert_eq!(server.reactor.run().unwrap().end, Ended::Drained);
    let calls = server.calls.borrow();
    let count = |call: &DatagramCall| calls.iter().filter(|other| *other == call).count();
    assert_eq!((count(&DatagramCall::Bound), count(&DatagramCall::Drain)), (2, 2));
    assert_eq!(count(&DatagramCall::Close(key, CloseReason::Closed)), 1);
}

/// Who is asked for at the end of one turn is there in the next one.
#[test]
fn the_last_call_of_a_socket_can_bind_the_next_one() {
    struct Successive {
        id: Option<HandlerId<Successive>>,
        bound: usize,
    }

    impl oneloop::DatagramHandler for Successive {
        fn on_bound(&mut self, socket: &mut oneloop::DatagramSocket<'_>) {
            self.bound += 1;
            if self.bound < 3 {
                socket.close();
            }
        }

        fn on_datagram(&mut self, _: &mut oneloop::DatagramSocket<'_>, _: oneloop::Datagram<'_>) {}

        fn on_close(&mut self, _: Key, _: CloseReason, cx: &mut oneloop::Context<'_>) {
            cx.bind_for(self.id.unwrap(), SocketAddr::new(V4, 0), &DatagramOptions::new());
        }
    }

    let mut reactor = Reactor::new().unwrap();
    let id = reactor.add_datagram_handler(Successive { id: None, bound: 0 });
    reactor.handler_mut(id).id = Some(id);
    reactor.bind(id, "127.0.0.1:0").unwrap();
    run_until(&mut reactor, "the third one is bound", |reactor| reactor.handler(id).bound == 3);
    assert_eq!(reactor.stats().datagram_sockets, 1);
    assert_idle(&mut reactor);
}
