//! The bytes that a handler is shown, and when.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;

use crate::support::*;
use oneloop::{CloseReason, Limits, Sent};

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
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    if !needs_linux("an event that tells a reset from data") {
        return;
    }
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
