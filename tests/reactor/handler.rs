//! What a handler is promised: the order of its calls, and how they end.

use std::cell::RefCell;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

use crate::support::*;
use oneloop::{CloseReason, Connection, Context, Error, Key, Origin, Sent, StreamHandler};

fn strings(shown: &[Vec<u8>]) -> Vec<String> {
    shown.iter().map(|bytes| bytes.escape_ascii().to_string()).collect()
}

// Order

#[test]
fn on_open_is_first_and_on_close_is_last_and_each_comes_once() {
    let mut server = Server::new(Recorder::echo());
    let (mut client, key) = server.open();
    server.assert_echoes(&mut client);
    drop(client);
    server.until_closed(1);
    server.assert_idle();
    let calls: Vec<Call> =
        server.calls.all().into_iter().filter(|call| !matches!(call, Call::Accept(_))).collect();
    let data = Call::Data(key, b"still there?".to_vec());
    let (open, close) = (Call::Open(key), Call::Close(key, CloseReason::PeerClosed));
    assert_eq!(calls, [Call::Start, open, data, Call::PeerClosed(key), close]);
    assert_eq!(server.reactor.connections(), 0);
    assert_eq!(server.reactor.stats().closes(CloseReason::PeerClosed), 1);
    assert_eq!(server.reactor.stats().closes_total(), 1);
}

#[test]
fn a_session_is_lent_to_every_call_and_comes_back_by_value() {
    struct Counter(Rc<RefCell<Vec<String>>>);
    impl StreamHandler for Counter {
        type Session = Vec<u8>;
        fn on_open(&mut self, _: &mut Connection<'_>) -> Vec<u8> {
            b"session:".to_vec()
        }
        fn on_data(
            &mut self,
            session: &mut Vec<u8>,
            _: &mut Connection<'_>,
            data: &[u8],
        ) -> Result<usize, Error> {
            session.extend_from_slice(data);
            Ok(data.len())
        }
        fn on_close(&mut self, session: Vec<u8>, _: Key, _: CloseReason, _: &mut Context<'_>) {
            self.0.borrow_mut().push(String::from_utf8(session).unwrap());
        }
    }
    let sessions = Rc::<RefCell<Vec<String>>>::default();
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Counter(Rc::clone(&sessions)));
    let listener = reactor.listen(handler, "127.0.0.1:0").unwrap();
    let address = reactor.listener_address(listener).unwrap().inet().unwrap();
    for text in ["one", "two", "three"] {
        connect(address).write_all(text.as_bytes()).unwrap();
    }
    run_until(&mut reactor, "three sessions came back", |_| sessions.borrow().len() == 3);
    let mut sessions = sessions.take();
    sessions.sort();
    assert_eq!(sessions, ["session:one", "session:three", "session:two"]);
}

#[test]
fn on_start_comes_once_to_each_handler() {
    let (first, second) = (Recorder::new(), Recorder::new());
    let (first_calls, second_calls) = (first.calls.clone(), second.calls.clone());
    let mut reactor = Reactor::new().unwrap();
    reactor.add(first);
    run_until(&mut reactor, "on_start", |_| first_calls.has(&Call::Start));
    reactor.add(second);
    run_until(&mut reactor, "on_start", |_| second_calls.has(&Call::Start));
    assert_idle(&mut reactor);
    assert_eq!(first_calls.all(), [Call::Start]);
    assert_eq!(second_calls.all(), [Call::Start]);
}

#[test]
fn on_start_comes_before_any_other_call() {
    let mut server = Server::new(Recorder::echo());
    let mut client = server.connect(); // in the backlog before the first turn
    server.assert_echoes(&mut client);
    assert_eq!(server.calls.all()[0], Call::Start);
}

#[test]
fn on_peer_closed_comes_after_all_data_was_shown() {
    let mut server = Server::new(Recorder::echo());
    let mut client = server.connect();
    let sent = pattern(300_000);
    assert_eq!(server.write(&mut client, &sent), None);
    client.shutdown(Shutdown::Write).unwrap();
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received.len(), error), (sent.len(), None));
    server.until_closed(1);
    assert_eq!(server.calls.shown().concat(), sent);
    let calls = server.calls.all();
    assert!(matches!(calls[calls.len() - 2..], [Call::PeerClosed(_), Call::Close(..)]));
}

#[test]
fn several_listeners_and_handlers_of_different_types_live_in_one_reactor() {
    struct Upper;
    impl StreamHandler for Upper {
        type Session = ();
        fn on_open(&mut self, _: &mut Connection<'_>) {}
        fn on_data(
            &mut self,
            _: &mut (),
            conn: &mut Connection<'_>,
            data: &[u8],
        ) -> Result<usize, Error> {
            conn.send(&data.to_ascii_uppercase()).ignore();
            Ok(data.len())
        }
    }
    let origins = Rc::<RefCell<Vec<Origin>>>::default();
    let seen = Rc::clone(&origins);
    let mut server =
        Server::new(Recorder::echo().open(move |conn| seen.borrow_mut().push(conn.origin())));
    let second = server.reactor.listen(server.handler, "127.0.0.1:0").unwrap();
    let upper = server.reactor.add(Upper);
    let third = server.reactor.listen(upper, "127.0.0.1:0").unwrap();
    let address = |listener| server.reactor.listener_address(listener).unwrap().inet().unwrap();
    let (second_address, third_address) = (address(second), address(third));

    server.open();
    let mut at_second = connect(second_address);
    server.assert_echoes(&mut at_second);
    assert_eq!(*origins.borrow(), [Origin::Accepted(server.listener), Origin::Accepted(second)]);
    let mut at_third = connect(third_address);
    at_third.write_all(b"loud").unwrap();
    assert_eq!(server.read(&mut at_third, 4), b"LOUD");
}

#[test]
fn an_outbound_connection_tells_its_tag_and_the_addresses_of_both_sides() {
    if !needs_tcp("it connects out") {
        return;
    }
    type Addresses = Vec<(Origin, SocketAddr, SocketAddr)>;
    let seen = Rc::<RefCell<Addresses>>::default();
    let note = |seen: &Rc<RefCell<Addresses>>| {
        let seen = Rc::clone(seen);
        move |conn: &mut Connection<'_>| {
            let addresses = (
                conn.local_address().unwrap().inet().unwrap(),
                conn.peer_address().unwrap().inet().unwrap(),
            );
            seen.borrow_mut().push((conn.origin(), addresses.0, addresses.1));
        }
    };
    let mut server = Server::new(Recorder::new().open(note(&seen)));
    let out_seen = Rc::<RefCell<Addresses>>::default();
    let out = Recorder::new().open(note(&out_seen));
    let out = server.reactor.add(out);
    let address = server.address;
    server.reactor.context(out).connect(address, 77);
    run_until(&mut server.reactor, "both sides are open", |_| {
        seen.borrow().len() == 1 && out_seen.borrow().len() == 1
    });
    let (inner, outer) = (seen.borrow()[0], out_seen.borrow()[0]);
    assert_eq!(inner.0, Origin::Accepted(server.listener));
    assert_eq!(outer.0, Origin::Connected(77));
    assert_eq!((inner.1, inner.2), (outer.2, outer.1));
    assert_eq!(inner.1, address);
    assert_eq!(server.reactor.stats().connects, 1);
    let accepted = server.calls.all().into_iter().find(|call| matches!(call, Call::Accept(_)));
    assert_eq!(accepted, Some(Call::Accept(outer.1)));
}

#[test]
fn a_handler_can_be_reached_between_turns() {
    let mut server = Server::new(Recorder::echo());
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
    let handler = server.reactor.handler_mut(server.handler);
    *handler = Recorder::new().data(|conn, data| {
        conn.send(b"changed").ignore();
        Ok(data.len())
    });
    client.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut client, 7), b"changed");
    assert_eq!(server.reactor.handler(server.handler).calls.shown(), [b"x"]);
}

// At the door

#[test]
fn a_peer_that_accept_turns_away_is_closed_and_never_opens() {
    if !needs_tcp("a Unix socket's client has no address") {
        return;
    }
    let mut server = Server::new(Recorder::new().accept(|_, _| false));
    let mut client = server.connect();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    let peer = client.local_addr().unwrap();
    assert_eq!(server.calls.all(), [Call::Start, Call::Accept(peer)]);
    let stats = server.reactor.stats();
    assert_eq!((stats.refusals, stats.accepts, stats.connections), (1, 0, 0));
}

#[test]
fn a_greeting_is_sent_before_the_peer_says_anything() {
    let mut server = Server::new(Recorder::echo().open(|conn| {
        assert_eq!(conn.send(b"hello\n"), Sent::Ok);
        assert_eq!(conn.output_len(), 6);
    }));
    let mut client = server.connect();
    assert_eq!(server.read(&mut client, 6), b"hello\n");
    assert_eq!(server.reactor.stats().writes, 1);
}

#[test]
fn a_connection_can_be_closed_while_it_opens() {
    let mut server = Server::new(Recorder::new().open(|conn| {
        conn.send(b"full\n").ignore();
        conn.close();
        assert_eq!(conn.send(b"more"), Sent::Gone);
        conn.set_timer(std::time::Duration::ZERO);
        let key = conn.key();
        conn.poke(key);
    }));
    let mut client = server.connect();
    client.write_all(b"never shown").unwrap();
    assert_eq!(server.read_to_end(&mut client), (b"full\n".to_vec(), None));
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
    assert_eq!(server.calls.all().len(), 4, "start, accept, open, close");
    assert_eq!(server.reactor.stats().bytes_discarded, 11);
}

#[test]
fn a_connection_can_be_aborted_while_it_opens() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let mut server = Server::new(Recorder::new().open(|conn| {
        conn.send(b"dropped").ignore();
        conn.abort();
        assert_eq!(conn.send(b"more"), Sent::Gone);
    }));
    let mut client = server.connect();
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received, error), (Vec::new(), Some(std::io::ErrorKind::ConnectionReset)));
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Aborted]);
}

// Closing

#[test]
fn on_data_is_never_called_after_close_and_later_bytes_are_counted() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.close();
        conn.again();
        conn.pause();
        conn.resume();
        let key = conn.key();
        conn.poke(key);
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"one").unwrap();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    client.write_all(b"and more").unwrap();
    run_until(&mut server.reactor, "it was discarded", |r| r.stats().bytes_discarded == 8);
    drop(client);
    server.until_closed(1);
    assert_eq!(strings(&server.calls.shown()), ["one"]);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Poke(_) | Call::PeerClosed(_))), 0);
    assert_eq!(server.reactor.stats().bytes_in, 11);
}

#[test]
fn bytes_left_over_when_closing_are_counted_as_discarded() {
    // Closed in the call that leaves them, of fresh bytes and of kept ones, and later from outside.
    for close_at in 1..4 {
        let mut server = Server::new(Recorder::new().data(move |conn, data| {
            if data.len() == 4 * close_at {
                conn.close();
            }
            Ok(0)
        }));
        let (mut client, key) = server.open();
        for count in 1..3.min(close_at + 1) {
            client.write_all(b"left").unwrap();
            server.until("the bytes are shown", |calls| calls.shown().len() == count);
        }
        if close_at == 3 {
            server.reactor.context(server.handler).close_key(key);
        }
        assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
        drop(client);
        server.until_closed(1);
        let expected = 4 * close_at.min(2) as u64;
        assert_eq!(server.reactor.stats().bytes_discarded, expected, "closed at {close_at}");
        assert_eq!(server.reactor.stats().memory_bytes, 0);
    }
}

#[test]
fn consuming_more_than_was_shown_closes_as_misuse() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.send(b"sent before").ignore();
        Ok(data.len() + 1)
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read_to_end(&mut client), (b"sent before".to_vec(), None));
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Misuse]);
    assert_eq!(server.reactor.stats().closes(CloseReason::Misuse), 1);
}

#[test]
fn consuming_more_than_was_kept_closes_as_misuse() {
    let mut server = Server::new(Recorder::new().data(|_, data| match data.len() {
        1 => Ok(0),
        shown => Ok(shown + 1),
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    server.until("the byte is shown", |calls| calls.shown().len() == 1);
    client.write_all(b"y").unwrap();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Misuse]);
}

#[test]
fn an_error_closes_after_what_was_sent() {
    let mut server = Server::new(Recorder::new().data(|conn, _| {
        conn.send(b"what I had to say").ignore();
        Err("no such command".into())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read_to_end(&mut client), (b"what I had to say".to_vec(), None));
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::HandlerError]);
}

#[test]
fn the_first_reason_of_a_close_is_the_one_that_is_told() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.close();
        Ok(data.len() + 1)
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read_to_end(&mut client).1, None);
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
}

// Half-close

#[test]
fn after_shutdown_write_the_peer_gets_its_end_of_file_and_can_go_on_sending() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        if data == b"bye" {
            conn.send(b"last").ignore();
            conn.shutdown_write();
        }
        assert_eq!(conn.send(b"too late"), Sent::Gone);
        Ok(data.len())
    }));
    let (mut client, key) = server.open();
    client.write_all(b"bye").unwrap();
    assert_eq!(server.read_to_end(&mut client), (b"last".to_vec(), None));
    for text in ["I", "go", "on"] {
        let before = server.calls.shown().len();
        client.write_all(text.as_bytes()).unwrap();
        server.until("it is shown", |calls| calls.shown().len() > before);
    }
    server.assert_idle();
    assert!(server.reactor.context(server.handler).is_open(key));
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.shown().concat(), b"byeIgoon");
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
}

#[test]
fn a_peer_that_half_closed_still_gets_what_is_sent_later() {
    let mut server = Server::new(
        Recorder::new()
            .peer_closed(|conn| {
                conn.set_timer(std::time::Duration::from_millis(10));
            })
            .timer(|conn, _| {
                conn.send(b"late answer").ignore();
                conn.close();
            }),
    );
    let (mut client, _) = server.open();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read_to_end(&mut client), (b"late answer".to_vec(), None));
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
}

#[test]
fn both_sides_can_half_close_in_either_order_and_it_ends_as_peer_closed() {
    let mut server = Server::new(Recorder::new().peer_closed(|conn| conn.shutdown_write()));
    let (mut client, _) = server.open();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    server.until_closed(1);

    let mut server = Server::new(Recorder::new().open(|conn| conn.shutdown_write()));
    let (mut client, _) = server.open();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    client.write_all(b"more").unwrap();
    server.until("more is shown", |calls| calls.shown().len() == 1);
    client.shutdown(Shutdown::Write).unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
}

// Counters

#[test]
fn bytes_in_and_out_are_counted_for_a_connection_and_for_all() {
    let counts = Rc::<RefCell<Vec<(u64, u64)>>>::default();
    let seen = Rc::clone(&counts);
    let mut server = Server::new(Recorder::new().data(move |conn, data| {
        seen.borrow_mut().push((conn.bytes_in(), conn.bytes_out()));
        conn.send(data).ignore();
        conn.send(data).ignore();
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    for _ in 0..3 {
        client.write_all(b"abc").unwrap();
        server.read(&mut client, 6);
    }
    assert_eq!(*counts.borrow(), [(3, 0), (6, 6), (9, 12)]);
    let stats = server.reactor.stats();
    assert_eq!((stats.bytes_in, stats.bytes_out), (9, 18));
}
