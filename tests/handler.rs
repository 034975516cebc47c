//! What a handler is promised: the order of its calls, and the bytes that they show.

mod support;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

use oneloop::{
    CloseReason, Connection, Context, Error, Key, Limits, Origin, Reactor, Sent, StreamHandler,
};
use support::*;

/// Consumes whole lines, and answers each.
fn lines() -> Recorder {
    Recorder::new().data(|conn, data| {
        let whole = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        conn.send(&data[..whole]).ignore();
        Ok(whole)
    })
}

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
    let address = reactor.listener_address(listener).unwrap();
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
    let address = |listener| server.reactor.listener_address(listener).unwrap();
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
    type Addresses = Vec<(Origin, SocketAddr, SocketAddr)>;
    let seen = Rc::<RefCell<Addresses>>::default();
    let note = |seen: &Rc<RefCell<Addresses>>| {
        let seen = Rc::clone(seen);
        move |conn: &mut Connection<'_>| {
            let addresses = (conn.local_address().unwrap(), conn.peer_address().unwrap());
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

// Data

#[test]
fn unconsumed_bytes_are_shown_again_with_what_follows() {
    let mut server = Server::new(lines());
    let (mut client, _) = server.open();
    for (count, piece) in ["ab", "c\nde", "f", "\n", "gh\n"].into_iter().enumerate() {
        client.write_all(piece.as_bytes()).unwrap();
        server.until("the piece is shown", |calls| calls.shown().len() == count + 1);
    }
    let expected = ["ab", "abc\\nde", "def", "def\\n", "gh\\n"];
    assert_eq!(strings(&server.calls.shown()), expected);
    assert_eq!(server.read(&mut client, 11), b"abc\ndef\ngh\n");
    server.assert_idle();
    assert_eq!(server.reactor.stats().memory_bytes, 0);
}

#[test]
fn bytes_left_over_are_not_shown_again_for_nothing() {
    let mut server = Server::new(lines());
    let (mut client, _) = server.open();
    client.write_all(b"partial").unwrap();
    server.until("the bytes are shown", |calls| calls.shown().len() == 1);
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 1);
}

#[test]
fn again_shows_what_is_left_in_the_next_turn() {
    let turns = Rc::<RefCell<Vec<u64>>>::default();
    let seen = Rc::clone(&turns);
    let mut server = Server::new(Recorder::new().data(move |conn, _| {
        seen.borrow_mut().push(conn.stats().turns);
        conn.again();
        Ok(1)
    }));
    let (mut client, _) = server.open();
    client.write_all(b"abcd").unwrap();
    server.until("all is consumed", |calls| calls.shown().last().is_some_and(|d| d.len() == 1));
    assert_eq!(strings(&server.calls.shown()), ["abcd", "bcd", "cd", "d"]);
    assert!(turns.borrow().windows(2).all(|pair| pair[1] == pair[0] + 1), "{turns:?}");
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 4, "nothing is left to show");
}

#[test]
fn again_at_the_end_of_file_comes_before_on_peer_closed() {
    let mut server = Server::new(Recorder::new().data(|conn, _| {
        conn.again();
        Ok(1)
    }));
    let (mut client, key) = server.open();
    client.write_all(b"abc").unwrap();
    drop(client);
    server.until_closed(1);
    let calls = server.calls.all();
    assert_eq!(
        calls[calls.len() - 3..],
        [
            Call::Data(key, b"c".to_vec()),
            Call::PeerClosed(key),
            Call::Close(key, CloseReason::PeerClosed)
        ]
    );
}

#[test]
fn a_poke_calls_on_poke_once_and_then_shows_what_is_left() {
    let mut server = Server::new(lines());
    let (mut client, key) = server.open();
    client.write_all(b"partial").unwrap();
    server.until("the bytes are shown", |calls| calls.shown().len() == 1);
    for _ in 0..3 {
        server.reactor.context(server.handler).poke(key);
    }
    server.until("the poke", |calls| calls.shown().len() == 2);
    server.assert_idle();
    let calls = server.calls.all();
    let data = Call::Data(key, b"partial".to_vec());
    assert_eq!(calls[calls.len() - 3..], [data.clone(), Call::Poke(key), data]);
}

#[test]
fn a_poke_without_anything_left_shows_nothing() {
    let mut server = Server::new(Recorder::echo());
    let (mut client, key) = server.open();
    server.assert_echoes(&mut client);
    server.reactor.context(server.handler).poke(key);
    server.until("the poke", |calls| calls.has(&Call::Poke(key)));
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 1);
}

#[test]
fn a_poke_from_a_poke_comes_in_the_next_turn() {
    let turns = Rc::<RefCell<Vec<u64>>>::default();
    let seen = Rc::clone(&turns);
    let mut server = Server::new(Recorder::new().poke(move |conn| {
        seen.borrow_mut().push(conn.stats().turns);
        if seen.borrow().len() < 3 {
            let key = conn.key();
            conn.poke(key);
        }
    }));
    let (_client, key) = server.open();
    server.reactor.context(server.handler).poke(key);
    run_until(&mut server.reactor, "three pokes", |_| turns.borrow().len() == 3);
    let first = turns.borrow()[0];
    assert_eq!(*turns.borrow(), [first, first + 1, first + 2]);
    server.assert_idle();
}

#[test]
fn a_poke_of_a_paused_connection_shows_no_data() {
    let mut server = Server::new(Recorder::new().data(|conn, _| {
        conn.pause();
        Ok(0)
    }));
    let (mut client, key) = server.open();
    client.write_all(b"kept").unwrap();
    server.until("the bytes are shown", |calls| calls.shown().len() == 1);
    server.reactor.context(server.handler).poke(key);
    server.until("the poke", |calls| calls.has(&Call::Poke(key)));
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 1);
}

#[test]
fn a_poke_while_the_output_is_over_its_mark_shows_what_is_left_when_it_has_drained() {
    let is_poked = Rc::new(Cell::new(false));
    let poked = Rc::clone(&is_poked);
    let mut server = Server::with_limits(
        Recorder::new()
            .data(|_, data| if data.ends_with(b"!") { Ok(data.len()) } else { Ok(0) })
            .poke(move |conn| {
                if !poked.replace(true) {
                    // Over the mark within this very run.
                    assert_eq!(conn.send(&[b'x'; 100]), Sent::OverHigh);
                }
            }),
        Limits::new().output_bytes_low(10).output_bytes_high(50),
    );
    let (mut client, key) = server.open();
    client.write_all(b"left").unwrap();
    server.until("the bytes are shown", |calls| calls.shown().len() == 1);
    server.reactor.context(server.handler).poke(key);
    server.until("on_drained", |calls| calls.has(&Call::Drained(key)));
    server.until("the bytes are shown again", |calls| calls.shown().len() == 2);
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 2);
}

// Pausing

#[test]
fn a_paused_connection_is_shown_nothing_until_it_is_resumed() {
    let mut server = Server::new(Recorder::new().data(|conn, _| {
        conn.pause();
        assert!(conn.is_paused());
        Ok(1)
    }));
    let (mut client, key) = server.open();
    client.write_all(b"abc").unwrap();
    server.until("the bytes are shown", |calls| calls.shown().len() == 1);
    client.write_all(b"def").unwrap();
    server.assert_idle();
    assert_eq!(strings(&server.calls.shown()), ["abc"]);
    server.reactor.context(server.handler).resume_key(key);
    server.until("the rest is shown", |calls| calls.shown().len() == 2);
    assert_eq!(strings(&server.calls.shown()), ["abc", "bc"], "paused again by the second call");
    server.reactor.context(server.handler).resume_key(key);
    server.until("what follows is shown", |calls| calls.shown().len() == 3);
    server.assert_idle();
    assert_eq!(strings(&server.calls.shown()), ["abc", "bc", "c"]);
    server.reactor.context(server.handler).resume_key(key);
    server.until("nothing is left", |calls| calls.shown().len() == 4);
    assert_eq!(strings(&server.calls.shown())[3], "def");
}

#[test]
fn a_resume_finds_bytes_that_came_during_the_pause() {
    let mut server = Server::new(Recorder::echo().open(|conn| conn.pause()));
    let (mut client, key) = server.open();
    client.write_all(b"early").unwrap();
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 0);
    server.reactor.context(server.handler).resume_key(key);
    assert_eq!(server.read(&mut client, 5), b"early");
}

#[test]
fn a_pause_that_is_undone_in_the_same_call_shows_what_is_left() {
    let is_first = Cell::new(true);
    let mut server = Server::new(Recorder::new().data(move |conn, data| {
        conn.pause();
        conn.resume();
        Ok(if is_first.replace(false) { 1 } else { data.len() })
    }));
    let (mut client, _) = server.open();
    client.write_all(b"abc").unwrap();
    server.until("the rest is shown", |calls| calls.shown().len() == 2);
    server.assert_idle();
    assert_eq!(strings(&server.calls.shown()), ["abc", "bc"]);
}

#[test]
fn a_resume_of_a_connection_that_is_not_paused_shows_nothing() {
    let mut server = Server::new(lines());
    let (mut client, key) = server.open();
    client.write_all(b"partial").unwrap();
    server.until("the bytes are shown", |calls| calls.shown().len() == 1);
    server.reactor.context(server.handler).resume_key(key);
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 1);
}

#[test]
fn the_end_of_file_waits_for_a_paused_connection() {
    let mut server = Server::new(Recorder::echo().open(|conn| conn.pause()));
    let (mut client, key) = server.open();
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.assert_idle();
    assert!(!server.calls.has(&Call::PeerClosed(key)));
    server.reactor.context(server.handler).resume_key(key);
    assert_eq!(server.read_to_end(&mut client), (b"last words".to_vec(), None));
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
}

#[test]
fn a_reset_ends_a_paused_connection() {
    let mut server = Server::new(Recorder::echo().open(|conn| conn.pause()));
    let (mut client, _) = server.open();
    client.write_all(b"unread").unwrap();
    reset(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Reset]);
    assert_eq!(server.calls.shown().len(), 0);
}

#[test]
fn pausing_in_on_peer_closed_harms_nothing() {
    let mut server = Server::new(Recorder::new().peer_closed(|conn| conn.pause()));
    let (client, key) = server.open();
    client.shutdown(Shutdown::Write).unwrap();
    server.until("the peer closed", |calls| calls.has(&Call::PeerClosed(key)));
    server.assert_idle();
    server.reactor.context(server.handler).resume_key(key);
    server.assert_idle();
    assert_eq!(server.calls.count(|call| matches!(call, Call::PeerClosed(_))), 1);
    server.reactor.context(server.handler).close_key(key);
    server.until_closed(1);
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

// Need

/// One byte of length, then so many bytes; each part is consumed on its own.
fn header_and_body() -> Recorder {
    let body = Cell::new(None);
    Recorder::new().data(move |conn, data| match body.take() {
        None => {
            body.set(Some(data[0] as usize));
            conn.need(data[0] as usize);
            if data.len() > 1 {
                conn.again();
            }
            Ok(1)
        }
        Some(length) => {
            assert!(data.len() >= length, "{} of {length} bytes", data.len());
            conn.send(&data[..length]).ignore();
            if data.len() > length {
                conn.again();
            }
            Ok(length)
        }
    })
}

#[test]
fn a_handler_is_not_called_before_the_bytes_it_needs_are_there() {
    let mut server = Server::new(header_and_body());
    let (mut client, _) = server.open();
    client.write_all(b"\x05ab").unwrap();
    server.until("the header is shown", |calls| calls.shown().len() == 1);
    server.assert_idle();
    client.write_all(b"cd").unwrap();
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 1);
    client.write_all(b"e\x02").unwrap();
    assert_eq!(server.read(&mut client, 5), b"abcde");
    client.write_all(b"fg").unwrap();
    assert_eq!(server.read(&mut client, 2), b"fg");
}

#[test]
fn a_need_holds_also_when_everything_before_it_was_consumed() {
    let mut server = Server::new(header_and_body());
    let (mut client, _) = server.open();
    for _ in 0..2 {
        client.write_all(b"\x05").unwrap();
        let before = server.calls.shown().len();
        server.until("the header is shown", |calls| calls.shown().len() == before + 1);
        server.assert_idle();
        for piece in [b"ab", b"cd"] {
            client.write_all(piece).unwrap();
            server.assert_idle();
        }
        assert_eq!(server.calls.shown().len(), before + 1);
        client.write_all(b"e").unwrap();
        assert_eq!(server.read(&mut client, 5), b"abcde");
        server.assert_idle();
        assert_eq!(server.calls.shown().len(), before + 2);
    }
}

#[test]
fn a_need_stated_while_opening_holds_for_the_first_call() {
    let mut server = Server::new(Recorder::echo().open(|conn| conn.need(4)));
    let (mut client, _) = server.open();
    client.write_all(b"abc").unwrap();
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 0);
    client.write_all(b"d").unwrap();
    assert_eq!(server.read(&mut client, 4), b"abcd");
    client.write_all(b"e").unwrap();
    assert_eq!(server.read(&mut client, 1), b"e", "for the first call only");
}

#[test]
fn at_the_end_of_file_less_than_needed_is_shown() {
    for is_kept in [false, true] {
        let mut server = Server::new(Recorder::new().data(move |conn, data| {
            conn.need(100);
            Ok(if is_kept { 0 } else { data.len() })
        }));
        let (mut client, key) = server.open();
        client.write_all(b"abc").unwrap();
        server.until("the bytes are shown", |calls| calls.shown().len() == 1);
        client.write_all(b"def").unwrap();
        server.assert_idle();
        assert_eq!(server.calls.shown().len(), 1);
        drop(client);
        server.until_closed(1);
        let last: &[u8] = if is_kept { b"abcdef" } else { b"def" };
        let calls = server.calls.all();
        assert_eq!(
            calls[calls.len() - 3..],
            [
                Call::Data(key, last.to_vec()),
                Call::PeerClosed(key),
                Call::Close(key, CloseReason::PeerClosed)
            ]
        );
    }
}

#[test]
fn again_with_less_than_needed_at_the_end_of_file_comes_before_on_peer_closed() {
    let is_first = Cell::new(true);
    let mut server =
        Server::new(Recorder::new().open(|conn| conn.need(100)).data(move |conn, data| {
            if is_first.replace(false) {
                conn.again();
                return Ok(1);
            }
            Ok(data.len())
        }));
    let (mut client, key) = server.open();
    client.write_all(b"abc").unwrap();
    server.assert_idle();
    drop(client);
    server.until_closed(1);
    let calls = server.calls.all();
    assert_eq!(
        calls[calls.len() - 4..],
        [
            Call::Data(key, b"abc".to_vec()),
            Call::Data(key, b"bc".to_vec()),
            Call::PeerClosed(key),
            Call::Close(key, CloseReason::PeerClosed)
        ]
    );
}

#[test]
fn a_need_that_is_met_by_what_is_left_waits_for_the_next_occasion() {
    // Lowered from another callback: a poke shows what is there.
    let mut server = Server::new(
        Recorder::new()
            .data(|conn, data| {
                conn.need(10);
                Ok(if data.len() == 6 { 6 } else { 0 })
            })
            .poke(|conn| conn.need(0)),
    );
    let (mut client, key) = server.open();
    client.write_all(b"abc").unwrap();
    server.until("the bytes are shown", |calls| calls.shown().len() == 1);
    client.write_all(b"def").unwrap();
    server.assert_idle();
    server.reactor.context(server.handler).poke(key);
    server.until("all is shown", |calls| calls.shown().len() == 2);
    assert_eq!(strings(&server.calls.shown()), ["abc", "abcdef"]);
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
