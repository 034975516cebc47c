//! Files that are sent: what arrives, what waits for a slow reader, and how it ends when a file does not hold what was
//! promised.

#![allow(clippy::useless_conversion, reason = "only in simulation an end is what a reactor adopts")]

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use crate::support::deadline::*;
use crate::support::*;
use oneloop::{CloseReason, Connection, Deadline, Limits, Sent};

#[test]
fn a_part_of_a_file_keeps_its_place_between_what_is_sent_before_and_after_it() {
    let bytes = pattern(10_000);
    let sent = file_of(&bytes);
    let mut server = Server::new(Recorder::new().data(move |conn, data| {
        conn.send(b"copied").ignore();
        assert_eq!(conn.send_file(&sent, 100..9_000), Sent::Ok);
        assert_eq!(conn.send_file(&sent, 5..5), Sent::Ok);
        conn.send_shared(Rc::from([b's'; 1000])).ignore();
        conn.send_file(&sent, 0..1).ignore();
        conn.send_file(&sent, 9_999..10_000).ignore();
        conn.send(b"end").ignore();
        assert_eq!(conn.output_len(), 6 + 8_900 + 1000 + 2 + 3);
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    let expected =
        [b"copied", &bytes[100..9_000], &[b's'; 1000], &bytes[..1], &bytes[9_999..], b"end"];
    let expected = expected.concat();
    assert!(server.read(&mut client, expected.len()) == expected);
    server.assert_idle();
    let stats = server.reactor.stats();
    assert_eq!((stats.bytes_out, stats.memory_bytes), (expected.len() as u64, 0));
}

#[test]
fn a_file_that_waits_takes_no_memory_and_no_limit_of_memory_ends_it() {
    let bytes = pattern(20 << 20);
    let sent = file_of(&bytes);
    let limits = Limits::new()
        .output_bytes_max(64 * 1024)
        .output_bytes_soft(64 * 1024)
        .output_soft_timeout(SHORT);
    let recorder = Recorder::new().open(move |conn| {
        assert_eq!(conn.send_file(&sent, 0..20 << 20), Sent::OverHigh);
        assert!(conn.is_over_high());
    });
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    client.write_all(b"not read before the file is sent").unwrap();
    let start = Instant::now();
    run_until(&mut server.reactor, "the soft limit would have ended it", |reactor| {
        assert!(reactor.stats().memory_bytes < 4096, "{:?}", reactor.stats());
        start.elapsed() > 3 * SHORT
    });
    assert_eq!(server.calls.shown(), [[0; 0]; 0]);
    assert!(server.read(&mut client, bytes.len()) == bytes);
    server.until("the rest is read", |calls| calls.shown().len() == 1);
    let key = server.calls.opened()[0];
    assert_eq!(server.calls.count(|call| *call == Call::Drained(key)), 1);
    assert!(server.reactor.stats().memory_bytes_peak < 4096);
}

#[test]
fn a_file_leaves_in_the_budgets_of_its_connection() {
    let bytes = pattern(100_000);
    let sent = file_of(&bytes);
    let limits = Limits::new().write_bytes_per_turn_max(10_000);
    let recorder = Recorder::new().data(move |conn, data| {
        conn.send_file(&sent, 0..100_000).ignore();
        Ok(data.len())
    });
    let mut server = Server::with_limits(recorder, limits);
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    let largest = server.largest_step(|stats| stats.bytes_out, |stats| stats.bytes_out == 100_000);
    assert!(server.read(&mut client, bytes.len()) == bytes);
    // Two phases of a turn may write.
    assert!(largest <= 20_000, "{largest} bytes left in one turn");
}

#[test]
fn a_file_that_is_shorter_than_was_promised_closes_after_all_that_there_is() {
    let bytes = pattern(5_000);
    for closes in [false, true] {
        let sent = file_of(&bytes);
        let mut server = Server::new(Recorder::new().open(move |conn| {
            conn.send(b"head").ignore();
            conn.send_file(&sent, 0..6_000).ignore();
            conn.send(b"not to be taken for a part of it").ignore();
            if closes {
                conn.close();
            }
        }));
        let mut client = server.connect();
        client.write_all(b"not read, for which there is no reset").unwrap();
        let (received, error) = server.read_to_end(&mut client);
        assert!(received == [b"head", &bytes[..]].concat());
        assert_eq!(error, None);
        drop(client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::Io(ErrorKind::UnexpectedEof)]);
        assert_eq!(server.reactor.stats().bytes_undelivered, 32, "of the file nobody knows");
        server.assert_idle();
    }
}

#[test]
fn a_file_that_is_shorter_than_was_promised_hides_no_other_reason() {
    let sent = file_of(b"short");
    let mut server = Server::new(Recorder::new().data(move |conn, _| {
        conn.send_file(&sent, 0..6).ignore();
        Err("on purpose".into())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read_to_end(&mut client), (b"short".to_vec(), None));
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::HandlerError]);
}

/// Each keeps its file open.
#[test]
fn files_that_wait_are_few_however_short_they_are() {
    let sent = file_of(b"0123456789");
    let pieces = Rc::new(Cell::new(0));
    let counted = Rc::clone(&pieces);
    let produce = move |conn: &mut Connection<'_>| {
        for _ in 0..100 - counted.get() {
            counted.set(counted.get() + 1);
            if conn.send_file(&sent, 0..10) == Sent::OverHigh {
                assert!(conn.is_over_high());
                return;
            }
        }
    };
    let (begin, go_on) = (produce.clone(), produce);
    // Only files are over a mark, behind what fills the sockets.
    let limits = Limits::new()
        .output_files_high(3)
        .output_bytes_low(32 << 20)
        .output_bytes_high(64 << 20)
        .output_bytes_max(64 << 20);
    let recorder = Recorder::new()
        .open(move |conn| {
            conn.send(&pattern(8 << 20)).ignore();
            begin(conn);
        })
        .drained(move |conn| go_on(conn));
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    server.until("the sockets are full", |calls| !calls.opened().is_empty());
    server.assert_idle();
    assert_eq!(pieces.get(), 4, "the one over the mark is the last one");
    let received = server.read(&mut client, (8 << 20) + 1000);
    assert!(received[8 << 20..] == b"0123456789".repeat(100));
    server.assert_idle();
}

#[test]
fn a_producer_that_does_not_wait_keeps_no_more_files_open_than_may_wait() {
    let sent = file_of(b"0123456789");
    let recorder = Recorder::new().open(|conn| {
        conn.send(&pattern(8 << 20)).ignore();
        conn.set_interval(MS);
    });
    let recorder = recorder.timer(move |conn, _| conn.send_file(&sent, 0..10).ignore());
    let limits = patient().output_bytes_max(64 << 20).output_files_high(3).output_files_max(20);
    let mut server = Server::with_limits(recorder, limits);
    let _client = connect_small(server.address);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::SlowReader]);
    let timers = server.calls.count(|call| matches!(call, Call::Timer(..)));
    assert_eq!(timers, 21, "the one over the limit is the last one");
}

/// How long a file is may not be known.
#[test]
fn a_part_may_be_said_to_have_no_end() {
    let bytes = pattern(2_000_000);
    let sent = file_of(&bytes);
    let recorder = Recorder::new()
        .open(move |conn| {
            conn.send_file(&sent, 0..u64::MAX).ignore();
            conn.send(b"nothing comes behind it").ignore();
        })
        .poke(|conn| {
            conn.send(b"this neither").ignore();
            conn.abort();
        });
    let mut server = Server::with_limits(recorder, patient());
    for ended in 1..=3 {
        let mut client = server.connect();
        let (received, error) = server.read_to_end(&mut client);
        assert!(received == bytes && error.is_none());
        drop(client);
        server.until_closed(ended);
    }
    assert_eq!(server.calls.reasons(), [CloseReason::Io(ErrorKind::UnexpectedEof); 3]);
    assert_eq!(server.reactor.stats().bytes_undelivered, 3 * 23);
    // And of what is cut off nobody knows how long it was.
    for ended in 4..=6 {
        let _client = connect_small(server.address);
        server.until("it is open", |calls| calls.opened().len() == ended);
        let key = server.calls.opened()[ended - 1];
        server.reactor.context(server.handler).poke(key);
        server.until_closed(ended);
    }
    assert_eq!(server.reactor.stats().bytes_undelivered, u64::MAX);
}

#[test]
fn a_part_behind_the_end_of_its_file_closes_in_good_order_however_far_that_is() {
    for start in [5_000, 5_001, 1 << 40, 1 << 50, i64::MAX as u64, u64::MAX - 1] {
        let sent = file_of(&pattern(5_000));
        let mut server = Server::new(Recorder::new().open(move |conn| {
            conn.send(b"head").ignore();
            conn.send_file(&sent, start..start + 1).ignore();
        }));
        let mut client = server.connect();
        let received = server.read_to_end(&mut client);
        assert_eq!(received, (b"head".to_vec(), None), "from {start}");
        drop(client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::Io(ErrorKind::UnexpectedEof)]);
    }
}

#[test]
fn a_file_that_cannot_be_sent_without_a_copy_is_copied() {
    if !needs_linux("files of the kernel") {
        return;
    }
    let expected = std::fs::read("/proc/version").unwrap();
    let sent = Arc::new(std::fs::File::open("/proc/version").unwrap());
    let length = expected.len() as u64;
    oneloop::read_ahead(&sent, 0..length).unwrap();
    let mut server = Server::new(Recorder::new().open(move |conn| {
        conn.send(b"head").ignore();
        conn.send_file(&sent, 0..length).ignore();
    }));
    let mut client = server.connect();
    assert!(server.read(&mut client, 4 + expected.len()) == [b"head", &expected[..]].concat());
}

#[test]
fn what_cannot_be_read_ends_the_connection_with_that_error() {
    use std::fs::File;
    // A directory can be opened, and not be read (read(2), EISDIR).
    let directory = Arc::new(File::open(std::env::temp_dir()).unwrap());
    let mut server = Server::new(Recorder::new().open(move |conn| {
        conn.send_file(&directory, 0..1).ignore();
    }));
    let _client = server.connect();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Io(ErrorKind::IsADirectory)]);
    server.assert_idle();
}

#[test]
fn a_reader_that_takes_nothing_of_a_file_is_cut_off() {
    let sent = file_of(&pattern(12 << 20));
    let (recorder, missed) = noting(Recorder::new().open(move |conn| {
        conn.send_file(&sent, 0..12 << 20).ignore();
    }));
    let mut server = Server::with_limits(recorder, patient().write_stall_timeout(SHORT));
    let _client = connect_small(server.address);
    server.until_closed(1);
    assert_eq!(missed.borrow()[0].0, Deadline::WriteStall);
    assert_eq!(server.calls.reasons(), [CloseReason::WriteStallTimeout]);
    assert_ne!(server.reactor.stats().bytes_undelivered, 0);
}

#[test]
fn a_closed_connection_sends_its_file_first() {
    let bytes = pattern(3 << 20);
    let sent = file_of(&bytes);
    let mut server = Server::new(Recorder::new().open(move |conn| {
        conn.send_file(&sent, 0..3 << 20).ignore();
        conn.close();
    }));
    let (mut client, _) = server.open();
    let (received, error) = server.read_to_end(&mut client);
    assert!(received == bytes && error.is_none());
}

#[test]
fn a_file_goes_into_a_pipe() {
    let bytes = pattern(300_000);
    let sent = file_of(&bytes);
    let mut server = Server::new(Recorder::new().open(move |conn| {
        conn.send(b"head").ignore();
        conn.send_file(&sent, 0..300_000).ignore();
    }));
    let (mut reader, writer) = pipe_ends();
    server.reactor.adopt(server.handler, writer.into(), 1).unwrap();
    let mut received = Vec::new();
    run_until(&mut server.reactor, "all is there", |_| {
        let mut buffer = [0; 65536];
        let count = reader.read(&mut buffer).unwrap_or(0);
        received.extend_from_slice(&buffer[..count]);
        received.len() == 300_004
    });
    assert!(received == [b"head", &bytes[..]].concat());
}

/// The first write, of as many pieces as fit into one, provokes the peer's reset, the second one meets it.
fn send_a_file_to_a_peer_that_is_gone() {
    let sent = file_of(&pattern(100_000));
    let mut server = Server::new(Recorder::new().peer_closed(|_| {}).poke(move |conn| {
        for _ in 0..64 {
            conn.send_shared(Rc::from([b'x'; 512])).ignore();
        }
        conn.send_file(&sent, 0..100_000).ignore();
    }));
    let (client, key) = server.open();
    drop(client);
    server.until("the peer closed", |calls| calls.has(&Call::PeerClosed(key)));
    server.reactor.context(server.handler).poke(key);
    server.until_closed(1);
    assert_eq!(server.calls.closed(), [(key, CloseReason::Reset)]);
    assert!(server.reactor.stats().writes >= 2, "the second one met a closed connection");
}

#[test]
fn a_file_for_a_peer_that_is_gone_ends_as_reset() {
    if needs_tcp("a Unix socket has no reset")
        && needs_linux("an event for whoever did not hear that a call would block")
    {
        send_a_file_to_a_peer_that_is_gone();
    }
}

#[test]
fn sending_a_file_to_a_peer_that_is_gone_raises_no_sigpipe() {
    const NAME: &str = "sending_a_file_to_a_peer_that_is_gone_raises_no_sigpipe";
    if needs_tcp("a Unix socket has no reset") && needs_kernel("signals") && alone(NAME) {
        default_sigpipe();
        send_a_file_to_a_peer_that_is_gone();
    }
}

#[test]
fn what_is_read_ahead_is_in_the_systems_memory() {
    use rustix::fs::{Advice, fadvise};
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    use std::io::IoSliceMut;
    if !needs_kernel("a disk") {
        return;
    }
    const LENGTH: usize = 300_000;
    let kept = file_of(&pattern(LENGTH));
    let read_now = |place: u64| {
        let buffer = &mut [0; 100];
        preadv2(&kept, &mut [IoSliceMut::new(buffer)], place, ReadWriteFlags::NOWAIT)
    };
    let forget = || {
        kept.sync_all().unwrap();
        fadvise(&kept, 0, None, Advice::DontNeed).unwrap();
    };
    forget();
    if read_now(0) != Err(Errno::AGAIN) {
        return println!("left out: this file system is in memory itself");
    }
    oneloop::read_ahead(&kept, 0..LENGTH as u64).unwrap();
    for place in (0..LENGTH as u64 - 100).step_by(4096) {
        assert_eq!(read_now(place), Ok(100), "at {place}");
    }
}

#[test]
fn what_a_file_does_not_have_cannot_be_read_ahead() {
    let short = file_of(&pattern(5_000));
    oneloop::read_ahead(&short, 0..5_000).unwrap();
    oneloop::read_ahead(&short, 7_000..7_000).unwrap();
    for range in [0..5_001, 5_000..5_001, 1 << 40..1 << 41, 1 << 50..1 << 51] {
        let error = oneloop::read_ahead(&short, range.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{range:?}");
    }
}
