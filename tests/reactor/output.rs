//! What handlers send: how it leaves, and what they are told about it.

use std::cell::{Cell, RefCell};
use std::io::{IoSlice, Write};
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Limits, Sent};

/// Limits with which megabytes may wait.
fn roomy() -> Limits {
    Limits::new().output_bytes_max(64 << 20)
}

#[test]
fn what_one_run_sends_leaves_in_one_write() {
    let mut server = Server::new(
        Recorder::new()
            .data(|conn, data| {
                for byte in data {
                    conn.send(&[*byte]).ignore();
                }
                let key = conn.key();
                assert_eq!(conn.send_to(key, b"!"), Sent::Ok);
                assert_eq!(
                    conn.send_vectored(&[
                        IoSlice::new(b"a"),
                        IoSlice::new(b""),
                        IoSlice::new(b"b")
                    ]),
                    Sent::Ok
                );
                Ok(data.len())
            })
            .timer(|conn, _| {
                conn.send(b"ti").ignore();
                conn.send(b"mer").ignore();
            })
            .poke(|conn| {
                conn.send(b"po").ignore();
                conn.send(b"ke").ignore();
                conn.set_timer(Duration::ZERO);
            }),
    );
    let (mut client, key) = server.open();
    client.write_all(b"hello").unwrap();
    assert_eq!(server.read(&mut client, 8), b"hello!ab");
    assert_eq!(server.reactor.stats().writes, 1);
    server.reactor.context(server.handler).poke(key);
    assert_eq!(server.read(&mut client, 9), b"poketimer");
    assert_eq!(server.reactor.stats().writes, 3);
}

#[test]
fn what_several_connections_send_to_one_leaves_in_one_write() {
    let mut server = Server::new(Recorder::new());
    let (mut client, key) = server.open();
    let mut cx = server.reactor.context(server.handler);
    for _ in 0..10 {
        assert_eq!(cx.send_to(key, b"0123456789"), Sent::Ok);
    }
    assert_eq!(server.read(&mut client, 100), b"0123456789".repeat(10));
    assert_eq!(server.reactor.stats().writes, 1);
}

#[test]
fn copies_and_shared_pieces_keep_their_order() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.send(b"1").ignore();
        assert_eq!(conn.send_shared(Rc::from(*b"2")), Sent::Ok);
        conn.send(b"3").ignore();
        assert_eq!(conn.send_shared(Rc::from([])), Sent::Ok);
        let key = conn.key();
        assert_eq!(conn.send_shared_to(key, Rc::from(*b"4")), Sent::Ok);
        assert_eq!(conn.send_to(key, b"5"), Sent::Ok);
        assert_eq!(conn.output_len(), 5);
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut client, 5), b"12345");
    assert_eq!(server.reactor.stats().writes, 1, "in one vectored write");
    server.assert_idle();
    assert_eq!(server.reactor.stats().memory_bytes, 0);
}

#[test]
fn sending_nothing_does_nothing() {
    let mut server = Server::new(Recorder::new().open(|conn| {
        assert_eq!(conn.send(b""), Sent::Ok);
        assert_eq!(conn.send_shared(Rc::from([])), Sent::Ok);
        assert_eq!(conn.send_vectored(&[]), Sent::Ok);
    }));
    let (_client, key) = server.open();
    assert_eq!(server.reactor.context(server.handler).send_to(key, b""), Sent::Ok);
    server.assert_idle();
    assert_eq!(server.reactor.stats().writes, 0);
    assert_eq!(server.reactor.stats().memory_bytes, 0);
}

#[test]
fn thousands_of_tiny_pieces_arrive_in_order() {
    // More than one vectored write takes.
    let sent = pattern(5000);
    let pieces: Vec<Rc<[u8]>> = sent.iter().map(|byte| Rc::from([*byte])).collect();
    let mut server = Server::new(Recorder::new().open(move |conn| {
        for piece in &pieces {
            let _ = conn.send_shared(Rc::clone(piece));
        }
    }));
    let (mut client, _) = server.open();
    assert_eq!(server.read(&mut client, 5000), sent);
    server.assert_idle();
}

#[test]
fn on_drained_comes_after_over_high_also_when_the_kernel_took_all_at_once() {
    let sent = Rc::<RefCell<Vec<Sent>>>::default();
    let seen = Rc::clone(&sent);
    let limits = Limits::new().output_bytes_low(10).output_bytes_high(100);
    let mut server = Server::with_limits(
        Recorder::new().data(move |conn, data| {
            for _ in 0..3 {
                let sent = conn.send(&[b'x'; 50]);
                seen.borrow_mut().push(sent);
            }
            assert_eq!(conn.output_len(), 150);
            Ok(data.len())
        }),
        limits,
    );
    let (mut client, key) = server.open();
    client.write_all(b"x").unwrap();
    server.until("on_drained", |calls| calls.has(&Call::Drained(key)));
    assert_eq!(*sent.borrow(), [Sent::Ok, Sent::Ok, Sent::OverHigh]);
    server.assert_idle();
    assert_eq!(server.calls.count(|call| matches!(call, Call::Drained(_))), 1);
    assert_eq!(server.read(&mut client, 150).len(), 150);
    assert_eq!(server.reactor.stats().writes, 1);
}

#[test]
fn on_drained_comes_also_to_a_connection_that_others_sent_to() {
    let limits = Limits::new().output_bytes_low(10).output_bytes_high(100);
    let mut server = Server::with_limits(Recorder::new(), limits);
    let (_client, key) = server.open();
    let mut cx = server.reactor.context(server.handler);
    assert_eq!(cx.send_to(key, &[0; 100]), Sent::Ok);
    assert_eq!(cx.send_shared_to(key, Rc::from([0])), Sent::OverHigh);
    server.until("on_drained", |calls| calls.has(&Call::Drained(key)));
    server.assert_idle();
}

#[test]
fn a_producer_that_stops_at_over_high_and_goes_on_at_drained_sends_everything() {
    // Through a client that holds a few kilobytes, and a kernel that holds some megabytes.
    let total = 24 << 20;
    let sent = Rc::new(Cell::new(0));
    let produce = move |conn: &mut oneloop::Connection<'_>| {
        while sent.get() < total {
            let piece = &pattern_at(sent.get(), 10_000.min(total - sent.get()));
            sent.set(sent.get() + piece.len());
            if conn.send(piece) == Sent::OverHigh {
                return;
            }
        }
        conn.close();
    };
    let again = produce.clone();
    let mut server = Server::new(Recorder::new().open(produce).drained(again));
    let mut client = connect_small(server.address);
    // Until nobody takes any more.
    run_until(&mut server.reactor, "a write would block", |r| r.stats().write_would_blocks > 0);
    server.assert_idle();
    let mut is_right = true;
    let mut received = 0;
    let _watchdog = Watchdog::new("all is received");
    loop {
        let bytes = server.read_some(&mut client);
        is_right &= bytes == pattern_at(received, bytes.len());
        received += bytes.len();
        assert!(server.reactor.stats().memory_bytes < 1 << 20, "what waits is bounded");
        if bytes.is_empty() {
            break;
        }
    }
    assert!(is_right && received == total, "{received} bytes");
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
    assert!(server.calls.count(|call| matches!(call, Call::Drained(_))) > 1);
}

/// What stands at `from..from + count` of an endless pattern.
fn pattern_at(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|i| (i ^ (i >> 8) ^ (i >> 16).wrapping_mul(7)) as u8).collect()
}

#[test]
fn a_partial_write_is_resumed_where_it_stopped() {
    // Copied, shared and vectored pieces, all at once, to a client that reads slowly.
    let expected: Vec<u8> = (0..8).flat_map(|i| vec![i; 1 << 20]).collect();
    let mut server = Server::with_limits(
        Recorder::new().open(|conn| {
            for i in (0..8).step_by(2) {
                let _ = conn.send(&vec![i; 1 << 20]);
                let _ = conn.send_shared(Rc::from(vec![i + 1; 1 << 20]));
            }
        }),
        roomy(),
    );
    let mut client = connect_small(server.address);
    server.until("it opens", |calls| calls.opened().len() == 1);
    let memory = server.reactor.stats().memory_bytes;
    assert!((4 << 20..12 << 20).contains(&memory), "{memory}");
    assert!(server.read(&mut client, expected.len()) == expected);
    server.assert_idle();
    assert_eq!(server.reactor.stats().memory_bytes, 0);
    assert_eq!(server.reactor.stats().bytes_out, expected.len() as u64);
}

#[test]
fn an_echo_of_8_mib_through_small_buffers_is_exact() {
    let mut server = Server::new(Recorder::echo());
    let mut client = connect_small(server.address);
    let sent = pattern(8 << 20);
    let expected = sent.clone();
    let mut writer = client.try_clone().unwrap();
    writer.set_nonblocking(true).unwrap();
    // Written and read in turns: a peer that only writes is held by its own unread output.
    let (mut written, mut received) = (0, Vec::new());
    let _watchdog = Watchdog::new("all came back");
    while received.len() < expected.len() {
        match writer.write(&sent[written..]) {
            Ok(count) => written += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        received.extend(server.try_read(&mut client));
    }
    assert!(received == expected);
    server.assert_idle();
    assert_eq!(server.reactor.stats().memory_bytes, 0);
}

#[test]
fn sent_is_gone_after_shutdown_write_and_close() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        let key = conn.key();
        match data {
            b"shutdown" => conn.shutdown_write(),
            _ => conn.close(),
        }
        assert_eq!(conn.send(b"x"), Sent::Gone);
        assert_eq!(conn.send_to(key, b"x"), Sent::Gone);
        assert_eq!(conn.send_shared(Rc::from(*b"x")), Sent::Gone);
        assert_eq!(conn.send_vectored(&[IoSlice::new(b"x")]), Sent::Gone);
        Ok(data.len())
    }));
    for text in ["shutdown", "close"] {
        let (mut client, key) = server.open();
        client.write_all(text.as_bytes()).unwrap();
        assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
        assert_eq!(server.reactor.context(server.handler).send_to(key, b"x"), Sent::Gone);
        drop(client);
    }
    server.until_closed(2);
}

#[test]
fn what_was_sent_before_shutdown_write_and_close_is_delivered() {
    let mut server = Server::with_limits(
        Recorder::new().data(|conn, data| {
            conn.send(&pattern(4 << 20)).ignore();
            match data {
                b"shutdown" => conn.shutdown_write(),
                _ => conn.close(),
            }
            Ok(data.len())
        }),
        roomy(),
    );
    for text in ["shutdown", "close"] {
        let mut client = connect_small(server.address);
        client.write_all(text.as_bytes()).unwrap();
        let (received, error) = server.read_to_end(&mut client);
        assert_eq!((received.len(), error), (4 << 20, None), "{text}");
        assert!(received == pattern(4 << 20));
    }
    server.until_closed(2);
}

#[test]
fn leftovers_at_over_high_are_shown_when_the_handler_asks_for_it_in_on_drained() {
    let limits = Limits::new().output_bytes_low(10).output_bytes_high(100);
    let mut server = Server::with_limits(
        Recorder::new()
            .data(|conn, data| {
                // One answer a byte, and no further once it is over the mark.
                for (count, byte) in data.iter().enumerate() {
                    if conn.send(&[*byte; 60]) == Sent::OverHigh {
                        return Ok(count + 1);
                    }
                }
                Ok(data.len())
            })
            .drained(|conn| conn.again()),
        limits,
    );
    let (mut client, _) = server.open();
    client.write_all(b"abcdefg").unwrap();
    let expected: Vec<u8> = b"abcdefg".iter().flat_map(|byte| [*byte; 60]).collect();
    assert_eq!(server.read(&mut client, 7 * 60), expected);
    server.assert_idle();
    let lengths: Vec<usize> = server.calls.shown().iter().map(Vec::len).collect();
    assert_eq!(lengths, [7, 5, 3, 1]);
}

/// The natural way to write a server: stop at the mark, and leave the requests where they are.
#[test]
fn requests_left_because_the_output_was_over_its_mark_are_shown_when_it_has_drained() {
    let mut server = Server::with_limits(
        Recorder::new().data(|conn, data| {
            let mut consumed = 0;
            for _ in data {
                consumed += 1;
                if conn.send(&[b'r'; 1000]) != Sent::Ok {
                    break;
                }
            }
            Ok(consumed)
        }),
        Limits::new().output_bytes_low(1000).output_bytes_high(5000),
    );
    let (mut client, _) = server.open();
    client.write_all(&[b'q'; 100]).unwrap();
    assert_eq!(server.read(&mut client, 100_000), vec![b'r'; 100_000]);
    server.assert_idle();
}

#[test]
fn one_phase_writes_no_more_than_the_write_budget() {
    let answer = pattern(4 << 20);
    let expected = answer.clone();
    let mut server = Server::with_limits(
        Recorder::new().data(move |conn, data| {
            conn.send(&answer).ignore();
            Ok(data.len())
        }),
        Limits::new().output_bytes_max(8 << 20).write_bytes_per_turn_max(10_000),
    );
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    server.until("it is answered", |calls| calls.shown().len() == 1);
    let mut before = server.reactor.stats().bytes_out;
    assert!(before <= 10_000);
    for _ in 0..50 {
        server.reactor.turn(Some(Duration::from_millis(5))).unwrap();
        let now = server.reactor.stats().bytes_out;
        assert!(now - before <= 10_000, "{} bytes in a turn", now - before);
        before = now;
    }
    assert!(before > 100_000, "it goes on without an event");
    assert!(server.read(&mut client, expected.len()) == expected);
}

#[test]
fn an_answer_for_which_no_write_budget_is_left_waits_for_the_next_turn() {
    // One turn reads 2,000 bytes and writes 1,000: in the second one what waited uses up the budget,
    // and then there is more to answer.
    let limits = Limits::new()
        .read_bytes_per_turn_max(2000)
        .reads_per_turn_max(1)
        .write_bytes_per_turn_max(1000);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let (mut client, _) = server.open();
    let sent = pattern(20_000);
    client.write_all(&sent).unwrap();
    assert!(server.read(&mut client, sent.len()) == sent);
    server.assert_idle();
    assert_eq!(server.calls.closed(), []);
}

#[test]
fn what_a_run_has_sent_is_written_at_once_up_to_the_watermark() {
    if !needs_kernel("its sockets take that much") || !needs_tcp("likewise") {
        return;
    }
    let answer = pattern(90_000);
    let expected = answer.clone();
    let limits = Limits::new().output_bytes_high(100_000).write_bytes_per_turn_max(10_000);
    let mut server = Server::with_limits(
        Recorder::new().data(move |conn, data| {
            for part in answer.chunks(3_000) {
                assert_eq!(conn.send(part), Sent::Ok);
            }
            Ok(data.len())
        }),
        limits.output_bytes_max(8 << 20),
    );
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    server.until("it is answered", |calls| calls.shown().len() == 1);
    assert_eq!(server.reactor.stats().bytes_out, 90_000);
    assert!(server.read(&mut client, expected.len()) == expected);
    server.assert_idle();
}

/// The kernel took a part, and tells when it takes more: a write in between would find no room.
#[test]
fn after_a_write_that_was_taken_in_part_comes_none_before_there_is_room() {
    if !needs_linux("it counts the writes") || !needs_tcp("others are asked about") {
        return;
    }
    let answer = pattern(8 << 20);
    let expected = answer.clone();
    let mut server = Server::with_limits(
        Recorder::new().data(move |conn, data| {
            conn.send(&answer).ignore();
            Ok(data.len())
        }),
        Limits::new().output_bytes_max(16 << 20).write_bytes_per_turn_max(16 << 20),
    );
    let mut client = connect_small(server.address);
    server.until("it opens", |calls| calls.opened().len() == 1);
    client.write_all(b"x").unwrap();
    server.until("it is answered", |calls| calls.shown().len() == 1);
    let stats = server.reactor.stats();
    assert_eq!((stats.writes, stats.write_would_blocks), (1, 1));
    assert!(stats.bytes_out > 0, "a part of it was taken");
    assert!(server.read(&mut client, expected.len()) == expected);
    let stats = server.reactor.stats();
    assert_eq!(stats.writes, stats.write_would_blocks + 1, "each of them took something");
    server.assert_idle();
}

#[test]
fn what_is_given_away_is_sent_in_its_place_and_not_copied_unless_it_is_short() {
    let parts = [10, 511, 512, 70_000, 0, 3].map(pattern);
    let expected = parts.concat();
    let given = parts.clone();
    let mut server = Server::new(Recorder::new().data(move |conn, data| {
        let (before, key) = (conn.output_len(), conn.key());
        for (number, part) in given.iter().enumerate() {
            match number % 2 {
                0 => conn.send_owned(part.clone()).ignore(),
                _ => conn.send_owned_to(key, part.clone()).ignore(),
            }
        }
        assert_eq!(conn.output_len() - before, given.concat().len());
        Ok(data.len())
    }));
    let (mut client, key) = server.open();
    client.write_all(b"x").unwrap();
    assert!(server.read(&mut client, expected.len()) == expected);
    assert_eq!(server.reactor.stats().writes, 1, "all of it in one");
    assert_eq!(server.reactor.stats().memory_bytes, 0);
    let mut cx = server.reactor.context(server.handler);
    cx.close_key(key);
    server.until_closed(1);
    let gone = server.reactor.context(server.handler).send_owned_to(key, pattern(1000));
    assert_eq!(gone, Sent::Gone);
}
