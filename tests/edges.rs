//! Edges: an edge is reported once, so whatever is left undone has to be remembered.

mod support;

use std::cell::{Cell, RefCell};
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Connection, Limits, ListenOptions, ReactorLimits, Sent};

use support::*;

/// FNV-1a, which is enough to see a byte lost, doubled or swapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hash {
    value: u64,
    count: usize,
}

impl Hash {
    fn new() -> Hash {
        Hash { value: 0xcbf2_9ce4_8422_2325, count: 0 }
    }

    fn add(&mut self, data: &[u8]) {
        for byte in data {
            self.value = (self.value ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.count += data.len();
    }

    fn of(data: &[u8]) -> Hash {
        let mut hash = Hash::new();
        hash.add(data);
        hash
    }
}

/// Hashes what the client receives until the end of file, in reads of the given size, while the
/// reactor turns; then the client closes.
fn hash_aside(
    reactor: &mut Reactor,
    mut client: TcpStream,
    read_bytes: usize,
) -> std::io::Result<Hash> {
    client.set_nonblocking(true)?;
    let mut buffer = vec![0; read_bytes];
    let mut hash = Hash::new();
    let mut result = Ok(());
    run_until(reactor, "the client has read everything", |_| {
        loop {
            match client.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => hash.add(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    result = Err(error);
                    return true;
                }
            }
        }
    });
    result.map(|()| hash)
}

/// Limits of output that let a test queue what it likes.
fn large_output() -> Limits {
    Limits::new().output_bytes_max(64 << 20)
}

/// Ten budgets and then silence, with the budget counted in bytes, in reads, and cut by every other
/// limit of a read; around every boundary.
#[test]
fn what_a_budget_leaves_is_read_without_another_event() {
    const BUDGET: usize = 1000;
    let plain = || Limits::new().read_bytes_per_turn_max(BUDGET);
    let cases = [
        (plain(), 64 * 1024),
        (plain().reads_per_turn_max(1), 64 * 1024),
        (plain().input_bytes_max(300), 64 * 1024),
        (plain().input_bytes_max(300).reads_per_turn_max(2), 64 * 1024),
        (plain(), 300),
        (plain(), 1),
    ];
    for (limits, read_buffer_bytes) in cases {
        for extra in [0, 1] {
            let sent = pattern(10 * BUDGET + extra);
            let in_turn: Rc<RefCell<Vec<(u64, usize)>>> = Rc::default();
            let log = Rc::clone(&in_turn);
            let recorder = Recorder::new().data(move |conn, data| {
                log.borrow_mut().push((conn.stats().turns, data.len()));
                Ok(data.len())
            });
            let options = ListenOptions::new().limits(limits.clone());
            let reactor_limits =
                ReactorLimits::new().connections_max(8).read_buffer_bytes(read_buffer_bytes);
            let mut server = Server::with(recorder, &options, reactor_limits);
            let (mut client, _) = server.open();
            client.write_all(&sent).unwrap();
            until_received(server.address, &client, sent.len());
            let events = server.reactor.stats().events;
            run_until(&mut server.reactor, "all of it is read", |reactor| {
                reactor.stats().bytes_in == sent.len() as u64
            });
            assert_eq!(server.calls.shown().concat(), sent);
            if needs_linux("events that are counted") {
                assert!(server.reactor.stats().events <= events + 1, "one event for all of it");
            }
            assert!(server.reactor.stats().budgets_exhausted >= 10);
            server.assert_idle();
            let log = in_turn.borrow();
            for turn in log.iter().map(|(turn, _)| *turn) {
                let bytes: usize =
                    log.iter().filter(|(other, _)| *other == turn).map(|(_, count)| *count).sum();
                assert!(bytes <= BUDGET, "{bytes} bytes in turn {turn}: {limits:?}");
            }
        }
    }
}

/// What is kept of a partial message, however large, makes the next read neither larger than the
/// budget nor what is shown larger than the limit.
#[test]
fn a_partial_message_is_read_within_the_budget_and_shown_within_the_limit() {
    const BUDGET: usize = 1000;
    for input_bytes_max in [1500, 15_000] {
        let recorder = Recorder::new().data(move |conn, data| {
            assert!(data.len() <= input_bytes_max);
            if data.len() < input_bytes_max {
                conn.need(input_bytes_max);
                return Ok(0);
            }
            // The most room that a later read could mistake for its own.
            Ok(input_bytes_max - 1)
        });
        let limits = Limits::new().read_bytes_per_turn_max(BUDGET).input_bytes_max(input_bytes_max);
        let mut server = Server::with_limits(recorder, limits);
        let (mut client, _) = server.open();
        let total = 3 * input_bytes_max;
        client.write_all(&pattern(total)).unwrap();
        until_received(server.address, &client, total);
        let mut before = 0;
        run_until(&mut server.reactor, "all of it is read", |reactor| {
            let now = reactor.stats().bytes_in;
            assert!(now - before <= BUDGET as u64, "{} bytes in one turn", now - before);
            before = now;
            now == total as u64
        });
        let full =
            |call: &Call| matches!(call, Call::Data(_, data) if data.len() == input_bytes_max);
        assert_eq!(server.calls.count(full), 3);
        assert_eq!(server.calls.closed(), []);
    }
}

/// Data and the end of file that come together are one event, so a read that does not fill its
/// buffer must not count as the last one.
#[test]
fn a_short_read_does_not_hide_the_end_of_file_that_came_with_it() {
    const READ: usize = 100;
    for count in [1, 3, READ - 1, READ, READ + 1, 2 * READ, 2 * READ + 1, 10 * READ] {
        for is_open_before in [false, true] {
            let reactor_limits = ReactorLimits::new().connections_max(8).read_buffer_bytes(READ);
            let mut server = Server::with(Recorder::new(), &ListenOptions::new(), reactor_limits);
            let mut client = if is_open_before {
                let (client, _) = server.open();
                server.assert_idle();
                client
            } else {
                server.connect()
            };
            let sent = pattern(count);
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            until_received(server.address, &client, count + 1);
            server.until_closed(1);
            assert_eq!(server.calls.shown().concat(), sent);
            assert_eq!(server.calls.count(|call| matches!(call, Call::PeerClosed(_))), 1);
            assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
        }
    }
}

#[test]
fn an_end_of_file_after_the_data_was_read_is_seen() {
    let mut server = Server::new(Recorder::new());
    let (mut client, _) = server.open();
    client.write_all(b"abc").unwrap();
    server.until("the data", |calls| calls.shown() == [b"abc"]);
    server.assert_idle();
    client.shutdown(Shutdown::Write).unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
}

/// An edge after a write is reported only if the kernel had refused something.
#[test]
fn eight_megabytes_reach_a_slow_reader_in_many_partial_writes() {
    let all = pattern(8 << 20);
    let expected = Hash::of(&all);
    for in_one_send in [true, false] {
        let all = all.clone();
        let sent = Rc::new(Cell::new(0));
        let produce = move |conn: &mut Connection<'_>| {
            if in_one_send {
                conn.send(&all).ignore();
                return conn.close();
            }
            loop {
                let from = sent.get();
                // Sizes that fit nothing.
                let to = (from + 10_007).min(all.len());
                if from == to {
                    return conn.close();
                }
                sent.set(to);
                if conn.send(&all[from..to]) == Sent::OverHigh {
                    return;
                }
            }
        };
        let recorder = Recorder::new().open(produce.clone()).drained(produce);
        let mut server = Server::with_limits(recorder, large_output());
        let client = connect_small(server.address);
        server.until("it opens", |calls| calls.opened().len() == 1);
        run_until(&mut server.reactor, "the output is stuck", |reactor| {
            reactor.stats().memory_bytes > 0 && reactor.next_wait() != Some(Duration::ZERO)
        });
        let received = hash_aside(&mut server.reactor, client, 3001).unwrap();
        assert_eq!(received, expected);
        server.until_closed(1);
        let stats = server.reactor.stats();
        assert!(stats.write_would_blocks > 0 && stats.writes > 4, "{stats:?}");
        assert_eq!(stats.bytes_out, 8 << 20);
        assert_eq!(stats.memory_bytes, 0);
        if !in_one_send {
            let drained = server.calls.count(|call| matches!(call, Call::Drained(_)));
            assert!(drained > 4, "{drained} calls of on_drained");
        }
    }
}

/// The edge for them came during the pause, and no other one will.
#[test]
fn resume_finds_the_bytes_that_came_during_the_pause() {
    for is_seen_before in [false, true] {
        let mut server = Server::new(Recorder::new().open(|conn| conn.pause()));
        let (mut client, key) = server.open();
        client.write_all(b"while you were away").unwrap();
        until_received(server.address, &client, 19);
        if is_seen_before {
            server.assert_idle();
        }
        assert_eq!(server.calls.shown().len(), 0);
        let events = server.reactor.stats().events;
        server.reactor.context(server.handler).resume_key(key);
        server.until("it is shown", |calls| calls.shown() == [b"while you were away"]);
        let more = server.reactor.stats().events - events;
        if needs_linux("events that are counted") {
            assert_eq!(more, u64::from(!is_seen_before), "events");
        }
        server.assert_idle();
    }
}

#[test]
fn resume_finds_an_end_of_file_that_came_during_the_pause() {
    for data in [&b""[..], b"the last words"] {
        let mut server = Server::new(Recorder::new().open(|conn| conn.pause()));
        let (mut client, key) = server.open();
        client.write_all(data).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        until_received(server.address, &client, data.len() + 1);
        server.assert_idle();
        assert_eq!(server.calls.all().len(), 3, "accept, open, start: {:?}", server.calls);
        server.reactor.context(server.handler).resume_key(key);
        server.until_closed(1);
        assert_eq!(server.calls.shown().concat(), data);
        assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
    }
}

#[test]
fn bytes_that_came_before_the_accept_are_read() {
    let mut server = Server::new(Recorder::echo());
    let mut client = server.connect();
    client.write_all(b"early bird").unwrap();
    until_received(server.address, &client, 10);
    assert_eq!(server.read(&mut client, 10), b"early bird");
    server.assert_idle();
}

/// A half-close says nothing about the other direction: neither is the output dropped, nor is its end
/// of file, which stays readable for ever, a reason to run.
#[test]
fn a_half_close_with_a_full_send_buffer_does_not_spin_and_loses_nothing() {
    type Answer = fn(&mut Connection<'_>, &[u8]);
    let answer: Answer = |conn, all| conn.send(all).ignore();
    let nothing: Answer = |_, _| {};
    // Before the end of file is read, which then waits behind the output; and because of it.
    for (on_data, on_end) in [(answer, nothing), (nothing, answer)] {
        let all: Rc<[u8]> = Rc::from(pattern(16 << 20));
        let expected = Hash::of(&all);
        let (to_data, to_end) = (Rc::clone(&all), all);
        let recorder = Recorder::new()
            .data(move |conn, data| {
                on_data(conn, &to_data);
                Ok(data.len())
            })
            .peer_closed(move |conn| {
                on_end(conn, &to_end);
                conn.close();
            });
        let mut server = Server::with_limits(recorder, large_output());
        let mut client = connect_small(server.address);
        client.write_all(b"everything, please").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let stats = |server: &Server| server.reactor.stats().clone();
        run_until(&mut server.reactor, "the output is stuck", |reactor| {
            // A write budget after the other.
            reactor.stats().memory_bytes > 1 << 20 && reactor.next_wait() != Some(Duration::ZERO)
        });
        let before = stats(&server);
        for _ in 0..20 {
            server.reactor.turn(Some(Duration::from_millis(10))).unwrap();
        }
        let after = stats(&server);
        assert!(after.busy_turns <= before.busy_turns + 1, "{before:?} {after:?}");
        assert!(after.reads <= before.reads + 1, "{before:?} {after:?}");
        assert!(after.writes <= before.writes + 2, "{before:?} {after:?}");
        assert_eq!(after.closes_total(), 0);
        let received = hash_aside(&mut server.reactor, client, 64 * 1024).unwrap();
        assert_eq!(received, expected);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
    }
}

/// A peer that sends without reading fills both directions. Then the server waits, and when the peer
/// reads at last, everything flows again.
#[test]
fn an_echo_to_a_peer_that_first_writes_and_then_reads_neither_deadlocks_nor_piles_up() {
    let limits = Limits::new().output_bytes_high(64 * 1024).output_bytes_low(16 * 1024);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let mut client = connect_small(server.address);
    client.set_nonblocking(true).unwrap();
    let piece = pattern(1 << 16);
    let mut sent = Hash::new();
    let mut is_over_before = false;
    let mut quiet = 0;
    // Until the peer can write no more, and that for a while.
    run_until(&mut server.reactor, "both directions are full", |reactor| {
        let from = sent.count % piece.len();
        match client.write(&piece[from..]) {
            Ok(count) => {
                sent.add(&piece[from..from + count]);
                quiet = 0;
            }
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock);
                quiet += 1;
            }
        }
        let memory = reactor.stats().memory_bytes;
        assert!(memory <= 64 * 1024 + 3 * 64 * 1024, "{memory} bytes are held");
        is_over_before |= memory > 0;
        quiet == 50
    });
    assert!(is_over_before, "the output was stuck");
    server.assert_idle();
    client.set_nonblocking(false).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let received = hash_aside(&mut server.reactor, client, 1 << 16).unwrap();
    assert_eq!(received, sent);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
}

/// A read into no room gives 0 bytes, which looks like an end of file; here everything is filled to
/// the last byte.
#[test]
fn input_that_fills_its_room_exactly_is_no_end_of_file() {
    const MAX: usize = 4096;
    // What the handler consumes of each full buffer: all; most, by need; half.
    for consume in [MAX, MAX - 1, MAX / 2, 1] {
        for piece in [MAX, MAX / 2, 1024, 1000] {
            let recorder = Recorder::new().data(move |conn, data| {
                if data.len() < MAX {
                    conn.need(MAX);
                    return Ok(0);
                }
                Ok(consume)
            });
            let limits = Limits::new().input_bytes_max(MAX);
            let mut server = Server::with_limits(recorder, limits);
            let (mut client, _) = server.open();
            let total = 4 * MAX;
            for part in pattern(total).chunks(piece) {
                client.write_all(part).unwrap();
                server.reactor.turn(Some(Duration::ZERO)).unwrap();
            }
            run_until(&mut server.reactor, "all of it is read", |reactor| {
                reactor.stats().bytes_in == total as u64
            });
            server.assert_idle();
            assert_eq!(server.calls.closed(), [], "consume {consume}, piece {piece}");
            client.shutdown(Shutdown::Write).unwrap();
            server.until_closed(1);
            assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
        }
    }
}

/// More pieces than one vectored write may have (IOV_MAX), some of them empty, in front of a socket
/// that is full and of one that is not.
#[test]
fn five_thousand_tiny_segments_arrive_in_order() {
    for is_stuck_first in [false, true] {
        let mut expected = Hash::new();
        if is_stuck_first {
            expected.add(&vec![0; 16 << 20]);
        }
        let pieces: Vec<Rc<[u8]>> =
            (0..5000_u32).map(|i| Rc::from(&i.to_le_bytes()[..i as usize % 4])).collect();
        for piece in &pieces {
            expected.add(piece);
        }
        let slices = pieces.clone();
        for piece in &pieces {
            expected.add(piece);
        }
        let recorder = Recorder::new().open(move |conn| {
            if is_stuck_first {
                conn.send(&vec![0; 16 << 20]).ignore();
            }
            for piece in &pieces {
                conn.send_shared(Rc::clone(piece)).ignore();
            }
            let slices: Vec<IoSlice<'_>> = slices.iter().map(|s| IoSlice::new(s)).collect();
            conn.send_vectored(&slices).ignore();
            conn.close();
        });
        let mut server = Server::with_limits(recorder, large_output());
        let client = connect_small(server.address);
        server.until("it opens", |calls| calls.opened().len() == 1);
        server.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        assert!(server.reactor.stats().memory_bytes > 0 || !is_stuck_first);
        assert_eq!(hash_aside(&mut server.reactor, client, 64 * 1024).unwrap(), expected);
        server.until_closed(1);
        assert!(server.reactor.stats().writes < 400, "{:?}", server.reactor.stats());
    }
}

#[test]
fn sending_nothing_writes_nothing() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.send(b"").ignore();
        conn.send_shared(Rc::from([])).ignore();
        conn.send_vectored(&[]).ignore();
        conn.send_vectored(&[IoSlice::new(b""), IoSlice::new(b"")]).ignore();
        let key = conn.key();
        conn.send_to(key, b"").ignore();
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 1);
    server.assert_idle();
    let stats = server.reactor.stats();
    assert_eq!((stats.writes, stats.memory_bytes, stats.closes_total()), (0, 0, 0));
}

/// A burst on every connection, and then silence, again and again.
#[test]
fn buffers_that_a_burst_grew_are_given_back() {
    if !needs_kernel("resident memory") || !alone("buffers_that_a_burst_grew_are_given_back") {
        return;
    }
    const CLIENTS: usize = 16;
    // More than a socket takes at once.
    const ANSWERS: usize = 8;
    const BYTES: usize = 1 << 20;
    const BURST: u64 = (CLIENTS * BYTES) as u64;
    // The first half of each message is kept as input, until the second one completes it; then the
    // answer is kept as output, until the client reads it.
    let recorder = Recorder::new().data(|conn, data| {
        if data.len() < BYTES {
            conn.need(BYTES);
            return Ok(0);
        }
        for _ in 0..ANSWERS {
            conn.send(&data[..BYTES]).ignore();
        }
        Ok(BYTES)
    });
    let limits = large_output().input_bytes_max(BYTES);
    let mut server = Server::with_limits(recorder, limits);
    let connect = |_| connect_from(Ipv4Addr::LOCALHOST, 128 * 1024, server.address);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(connect).collect();
    server.until("all are open", |calls| calls.opened().len() == CLIENTS);
    let mut resident = Vec::new();
    for round in 0..4 {
        for client in &mut clients {
            assert_eq!(server.write(client, &[1; BYTES / 2]), None);
        }
        run_until(&mut server.reactor, "the first half is kept", |reactor| {
            reactor.stats().bytes_in == round * BURST + BURST / 2
        });
        let kept = server.reactor.stats().memory_bytes;
        assert!(kept as u64 >= BURST / 2, "{kept} bytes are kept");
        for client in &mut clients {
            assert_eq!(server.write(client, &[2; BYTES / 2]), None);
        }
        run_until(&mut server.reactor, "the second half has come", |reactor| {
            reactor.stats().bytes_in == (round + 1) * BURST
        });
        let kept = server.reactor.stats().memory_bytes;
        assert!(kept as u64 >= BURST, "{kept} bytes are kept");
        for client in &mut clients {
            server.read(client, ANSWERS * BYTES);
        }
        server.assert_idle();
        assert_eq!(server.reactor.stats().memory_bytes, 0);
        server.calls.clear();
        resident.push(resident_bytes());
    }
    // The allocator keeps what it likes, but no more after each burst.
    println!("resident after each burst: {resident:?}");
    assert!(resident[3] <= resident[0] + BURST as usize, "{resident:?}");
}
