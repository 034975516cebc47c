//! Outbound connections: that they open, that they fail, and that either is told exactly once.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{
    CloseReason, ConnectError, ConnectOptions, Key, Limits, ListenOptions, Origin, ReactorLimits,
    Sent,
};

use crate::support::*;

/// Options with which an attempt ends soon.
fn hasty(timeout: Duration) -> Rc<ConnectOptions> {
    Rc::new(ConnectOptions::new().limits(Limits::new().connect_timeout(timeout)))
}

#[test]
fn a_refused_connection_is_told_once_with_its_key_and_tag() {
    let (_deaf, deaf) = nobody();
    let mut client = Client::new(Recorder::new());
    let keys: Vec<Key> = (0..10).map(|tag| client.cx().connect(deaf, tag)).collect();
    let mut failures = client.failed(10);
    failures.sort_by_key(|(_, tag, _)| *tag);
    for (tag, (key, (of, as_, error))) in keys.into_iter().zip(failures).enumerate() {
        assert_eq!((of, as_, error), (key, tag as u64, ConnectError::Refused));
        assert!(!client.cx().is_open(key));
        assert_eq!(client.cx().send_to(key, b"anybody?"), Sent::Gone);
    }
}

/// It is not open because it is registered, nor because the kernel says something about it before the
/// handshake is through.
#[test]
fn a_connection_that_nobody_answers_does_not_open_and_times_out_on_time() {
    let hole = BlackHole::new();
    let mut client = Client::new(Recorder::new());
    let timeout = Duration::from_millis(300);
    let key = client.cx().connect_with(hole.address, 7, &hasty(timeout));
    let start = Instant::now();
    let busy = client.reactor.stats().busy_turns;
    assert_eq!(client.failed(1), [(key, 7, ConnectError::TimedOut)]);
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    assert!(client.reactor.stats().busy_turns < busy + 10, "it does not spin while it waits");
}

#[test]
fn the_default_limits_of_connecting_can_be_set() {
    let hole = BlackHole::new();
    let mut client = Client::new(Recorder::new());
    let limits = Limits::new().connect_timeout(Duration::from_millis(50));
    client.reactor.set_connect_limits(limits).unwrap();
    let key = client.cx().connect(hole.address, 1);
    assert_eq!(client.failed(1), [(key, 1, ConnectError::TimedOut)]);
}

/// Closed or aborted before its turn has begun it, while it is on its way, and more than once.
#[test]
fn a_close_while_connecting_fails_the_attempt_once_and_nothing_else_comes() {
    let hole = BlackHole::new();
    for is_begun in [false, true] {
        for abort in [false, true] {
            let mut client = Client::new(Recorder::new());
            let key = client.cx().connect(hole.address, 3);
            client.cx().send_to(key, b"hello").ignore();
            if is_begun {
                client.until("it begins", |calls| calls.has(&Call::Start));
                client.reactor.turn(Some(Duration::from_millis(1))).unwrap();
            }
            for _ in 0..3 {
                if abort {
                    client.cx().abort_key(key);
                } else {
                    client.cx().close_key(key);
                }
            }
            assert_eq!(client.failed(1), [(key, 3, ConnectError::Cancelled)]);
        }
    }
}

#[test]
fn an_attempt_that_is_closed_within_the_turn_in_which_it_opens_is_told_once() {
    // Both sides of the race: the reactor hears of the opening in the turn that cancels it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..50 {
        let mut client = Client::new(Recorder::new());
        let key = client.cx().connect(listener.local_addr().unwrap(), 3);
        client.until("it begins", |calls| calls.has(&Call::Start));
        client.cx().close_key(key);
        let calls = client.calls.clone();
        run_until(&mut client.reactor, "it is over", |reactor| {
            reactor.connections() == 0 || !calls.opened().is_empty()
        });
        drop(listener.accept());
        run_until(&mut client.reactor, "it is over", |reactor| reactor.connections() == 0);
        assert_eq!(failures(&calls).len() + calls.opened().len(), 1, "{calls:?}");
        assert_eq!(calls.opened().len(), calls.closed().len(), "{calls:?}");
    }
}

#[test]
fn a_stop_while_connecting_fails_the_attempt_as_stopped() {
    let hole = BlackHole::new();
    let mut client = Client::new(Recorder::new());
    let begun = client.cx().connect(hole.address, 1);
    client.until("it begins", |calls| calls.has(&Call::Start));
    let asked = client.cx().connect(hole.address, 2);
    client.reactor.stop();
    assert_eq!(
        client.failed(2),
        [(begun, 1, ConnectError::Stopped), (asked, 2, ConnectError::Stopped)]
    );
}

#[test]
fn over_the_reactors_limit_an_attempt_fails_and_under_it_one_succeeds_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = Client::with(Recorder::new(), ReactorLimits::new().connections_max(2));
    let keys: Vec<Key> = (0..3).map(|tag| client.cx().connect(address, tag)).collect();
    client.until("two open", |calls| calls.opened().len() == 2);
    client.until("one fails", |calls| failures(calls).len() == 1);
    assert_eq!(failures(&client.calls), [(keys[2], 2, ConnectError::TooManyConnections)]);
    client.cx().abort_key(keys[0]);
    client.until("one closes", |calls| calls.closed().len() == 1);
    let key = client.cx().connect(address, 4);
    client.until("the next opens", |calls| calls.has(&Call::Open(key)));
    client.calls.check();
}

/// From on_start, from outside, from on_close, and again from on_connect_failed.
#[test]
fn a_connection_can_be_made_from_everywhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (_deaf, deaf) = nobody();
    let origins: Rc<RefCell<Vec<Origin>>> = Rc::default();
    let log = Rc::clone(&origins);
    let again = Rc::new(Cell::new(false));
    let recorder = Recorder::new()
        .start(move |cx| {
            cx.connect(address, 1);
        })
        .open(move |conn| {
            log.borrow_mut().push(conn.origin());
            if conn.origin() == Origin::Connected(3) {
                conn.connect(deaf, 4);
            }
        })
        .close(move |_, _, cx| {
            if !again.replace(true) {
                cx.connect(address, 3);
            }
        })
        .connect_failed(move |_, tag, error, cx| {
            assert_eq!((tag, error), (4, ConnectError::Refused));
            cx.connect(address, 5);
        });
    let mut client = Client::new(recorder);
    client.until("from on_start", |calls| calls.opened().len() == 1);
    let key = client.cx().connect(address, 2);
    client.until("from outside", |calls| calls.opened().len() == 2);
    client.cx().close_key(key);
    // The client's end waits for the peer's: all of them are in the listener's backlog.
    drop((listener.accept().unwrap(), listener.accept().unwrap()));
    client.until("from on_close and on_connect_failed", |calls| calls.opened().len() == 4);
    let tags = [1, 2, 3, 5].map(Origin::Connected);
    assert_eq!(*origins.borrow(), tags);
    client.calls.check();
}

/// What is sent before there is anybody to send it to waits, in order, and is accounted for.
#[test]
fn what_is_sent_while_connecting_is_delivered_after_opening() {
    let hole = BlackHole::new();
    let mut client = Client::new(Recorder::new().open(|conn| {
        conn.send(b" from on_open").ignore();
    }));
    let key = client.cx().connect(hole.address, 1);
    assert_eq!(client.cx().send_to(key, b"before it begins,"), Sent::Ok);
    client.until("it begins", |calls| calls.has(&Call::Start));
    assert_eq!(client.cx().send_to(key, b" on its way,"), Sent::Ok);
    assert_eq!(client.cx().send_shared_to(key, Rc::from(&b" shared,"[..])), Sent::Ok);
    client.reactor.turn(Some(Duration::from_millis(1))).unwrap();
    assert!(!client.cx().is_open(key));
    assert!(client.reactor.stats().memory_bytes > 0);
    assert_eq!(client.calls.opened(), []);

    let (listener, _accepted, _filler) = hole.open();
    client.until("the next SYN is answered", |calls| calls.opened() == [key]);
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    run_until(&mut client.reactor, "it is sent", |reactor| reactor.stats().bytes_out == 50);
    let mut received = [0; 50];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(
        received.escape_ascii().to_string(),
        "before it begins, on its way, shared, from on_open"
    );
    assert_eq!(client.reactor.stats().memory_bytes, 0);
}

#[test]
fn what_was_sent_to_an_attempt_that_failed_is_given_back() {
    let (_deaf, deaf) = nobody();
    let mut client = Client::new(Recorder::new());
    let key = client.cx().connect(deaf, 1);
    let sent = client.cx().send_to(key, &vec![0; 1 << 20]);
    assert_eq!(sent, Sent::OverHigh);
    client.failed(1);
    assert_eq!(client.reactor.stats().memory_bytes, 0);
}

/// Bytes that are there when it opens, and an end of file right after them.
#[test]
fn what_the_peer_sent_at_once_is_shown_after_on_open() {
    for is_closed_too in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::new(Recorder::new());
        let key = client.cx().connect(listener.local_addr().unwrap(), 1);
        // The first turn begins it; then the peer acts before the second one looks.
        client.until("it begins", |calls| calls.has(&Call::Start));
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"welcome").unwrap();
        if is_closed_too {
            drop(peer);
        }
        client.until("the greeting", |calls| calls.shown().concat() == b"welcome");
        if is_closed_too {
            client.until("its end", |calls| calls.closed() == [(key, CloseReason::PeerClosed)]);
        }
        client.calls.check();
    }
}

#[test]
fn an_address_that_cannot_be_reached_fails_at_once() {
    let mut client = Client::new(Recorder::new());
    // No listener can have port 0, and TCP has no broadcast.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
    let broadcast = SocketAddr::from(([255, 255, 255, 255], 9));
    client.cx().connect(nobody, 1);
    client.cx().connect(broadcast, 2);
    let mut failures = client.failed(2);
    failures.sort_by_key(|(_, tag, _)| *tag);
    let errors: Vec<ConnectError> = failures.iter().map(|(_, _, error)| *error).collect();
    assert_eq!(errors, [ConnectError::Refused, ConnectError::Unreachable]);
}

#[test]
fn ipv6_is_connected_to_as_well() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        println!("skipped: this machine has no ::1");
        return;
    };
    let peers: Rc<RefCell<Vec<SocketAddr>>> = Rc::default();
    let log = Rc::clone(&peers);
    let mut client = Client::new(
        Recorder::new()
            .open(move |conn| log.borrow_mut().push(conn.peer_address().unwrap().inet().unwrap())),
    );
    client.cx().connect(listener.local_addr().unwrap(), 1);
    client.until("it opens", |calls| calls.opened().len() == 1);
    assert_eq!(*peers.borrow(), [listener.local_addr().unwrap()]);
}

/// Both ends of all of them in one reactor, each with a message there and back.
#[test]
fn two_thousand_connections_are_made_at_once() {
    const MANY: usize = 2000;
    assert!(may_open(2 * MANY as u64 + 100));
    let answered = Rc::new(Cell::new(0));
    let count = Rc::clone(&answered);
    let tags: Rc<RefCell<Vec<bool>>> = Rc::new(RefCell::new(vec![false; MANY]));
    let seen = Rc::clone(&tags);
    let recorder = Recorder::new()
        .open(move |conn| {
            if let Origin::Connected(tag) = conn.origin() {
                conn.send(&tag.to_le_bytes()).ignore();
            }
        })
        .data(move |conn, data| {
            let Ok(message) = <[u8; 8]>::try_from(data) else { return Ok(0) };
            match conn.origin() {
                Origin::Accepted(_) => conn.send(data).ignore(),
                Origin::Adopted(_) => unreachable!("nothing is adopted here"),
                Origin::Connected(tag) => {
                    assert_eq!(u64::from_le_bytes(message), tag);
                    assert!(!std::mem::replace(&mut seen.borrow_mut()[tag as usize], true));
                    count.set(count.get() + 1);
                }
            }
            Ok(8)
        });
    let limits = ReactorLimits::new().connections_max(2 * MANY);
    let mut server = Server::with(recorder, &ListenOptions::new(), limits);
    let address = server.address;
    for tag in 0..MANY as u64 {
        server.reactor.context(server.handler).connect(address, tag);
    }
    run_until(&mut server.reactor, "all are answered", |_| answered.get() == MANY);
    let stats = server.reactor.stats();
    assert_eq!((stats.connects, stats.accepts), (MANY as u64, MANY as u64));
    assert_eq!((stats.connect_failures, stats.closes_total()), (0, 0));
    server.assert_idle();
    server.reactor.stop();
    server.calls.check();
    assert_eq!(server.calls.closed().len(), 2 * MANY);
}

#[test]
fn an_outbound_connection_without_a_descriptor_fails_and_leaks_nothing() {
    if !alone("an_outbound_connection_without_a_descriptor_fails_and_leaks_nothing") {
        return;
    }
    let mut server = Server::new(Recorder::new());
    let (address, before) = (server.address, descriptors());
    without_descriptors(|| {
        for tag in 0..3 {
            server.reactor.context(server.handler).connect(address, tag);
        }
        server.until("they failed", |calls| {
            calls.count(|call| {
                matches!(call, Call::ConnectFailed(_, _, ConnectError::NoDescriptors))
            }) == 3
        });
    });
    assert_eq!(descriptors(), before);
    server.reactor.context(server.handler).connect(address, 9);
    server.until("it works again", |calls| calls.opened().len() == 2);
}

// What is done to one by its key, before it is connected

#[test]
fn a_connecting_key_can_be_paused_poked_and_shut() {
    let mut server = Server::new(Recorder::new().open(|conn| conn.send(b"greeting").ignore()));
    let address = server.address;
    let recorder = Recorder::new();
    let calls = recorder.calls.clone();
    let client = server.reactor.add(recorder);
    let mut cx = server.reactor.context(client);
    let key = cx.connect(address, 1);
    cx.pause_key(key);
    cx.poke(key);
    assert_eq!(cx.send_to(key, b"early"), Sent::Ok);
    server.until("the bytes arrive", |calls| calls.shown() == [b"early"]);
    server.assert_idle();
    assert_eq!(calls.opened(), [key]);
    assert_eq!(calls.shown().len(), 0, "it was paused before it opened");
    server.reactor.context(client).resume_key(key);
    run_until(&mut server.reactor, "the greeting is shown", |_| calls.shown() == [b"greeting"]);
}

#[test]
fn a_connecting_key_that_is_closed_or_aborted_fails_as_cancelled_and_never_opens() {
    let server = Server::new(Recorder::new());
    for (is_begun, is_abort) in [(false, false), (false, true), (true, false), (true, true)] {
        let recorder = Recorder::new();
        let calls = recorder.calls.clone();
        let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(8)).unwrap();
        let handler = reactor.add(recorder);
        let key = reactor.context(handler).connect(server.address, 3);
        let _ = reactor.context(handler).send_to(key, &[1; 1000]);
        if is_begun {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            if calls.opened().len() == 1 {
                continue;
            }
        }
        let mut cx = reactor.context(handler);
        if is_abort {
            cx.abort_key(key);
        }
        cx.close_key(key);
        run_until(&mut reactor, "it failed", |_| calls.all().len() == 2);
        assert_eq!(
            calls.all(),
            [Call::Start, Call::ConnectFailed(key, 3, ConnectError::Cancelled)]
        );
        assert_idle(&mut reactor);
        assert_eq!((reactor.connections(), reactor.stats().memory_bytes), (0, 0));
    }
}

#[test]
fn a_refused_connect_is_told_once_with_its_tag() {
    let (_socket, nobody) = nobody();
    let recorder = Recorder::new();
    let calls = recorder.calls.clone();
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(recorder);
    let key = reactor.context(handler).connect(nobody, 42);
    let _ = reactor.context(handler).send_to(key, b"never sent");
    run_until(&mut reactor, "it failed", |_| calls.all().len() == 2);
    assert_eq!(calls.all()[1], Call::ConnectFailed(key, 42, ConnectError::Refused));
    assert_idle(&mut reactor);
    assert_eq!(reactor.stats().connect_failures, 1);
    assert_eq!((reactor.connections(), reactor.stats().memory_bytes), (0, 0));
}
