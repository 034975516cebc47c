//! Much in one connection: large, in tiny pieces, both ways at once; and what it leaves behind.

use std::cell::Cell;
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Connection, Limits, Sent};

use crate::support::*;

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
