//! What close means, seen from the peer.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Limits, Sent};

const MIB: usize = 1 << 20;

/// Limits with which megabytes may wait.
fn roomy() -> Limits {
    Limits::new().output_bytes_max(64 * MIB)
}

/// Says `reply` to the first bytes, and closes.
fn replies_and_closes(reply: Vec<u8>) -> Recorder {
    Recorder::new().data(move |conn, data| {
        conn.send(&reply).ignore();
        conn.close();
        Ok(data.len())
    })
}

fn turn_for(server: &mut Server, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        server.reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

// The peer gets everything

#[test]
fn a_peer_that_half_closes_gets_the_whole_reply() {
    let reply = pattern(8 * MIB);
    let expected = reply.clone();
    let mut server = Server::with_limits(
        Recorder::new().data(move |conn, data| {
            conn.send(&reply).ignore();
            Ok(data.len())
        }),
        roomy(),
    );
    let mut client = connect_small(server.address);
    client.write_all(b"x\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received.len(), error), (expected.len(), None));
    assert!(received == expected);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed]);
    assert_eq!(server.reactor.stats().lingers_cut, 0);
}

#[test]
fn a_half_close_under_a_full_send_buffer_does_not_spin() {
    let mut server = Server::with_limits(
        Recorder::new().data(|conn, data| {
            conn.send(&pattern(8 * MIB)).ignore();
            Ok(data.len())
        }),
        roomy().linger_timeout(DEADLINE),
    );
    let mut client = connect_small(server.address);
    client.write_all(b"x").unwrap();
    server.until("the request is shown", |calls| calls.shown().len() == 1);
    client.shutdown(Shutdown::Write).unwrap();
    server.assert_idle();
    assert_eq!(server.read_to_end(&mut client).0.len(), 8 * MIB);
    server.until_closed(1);
    server.assert_idle();
}

#[test]
fn a_reset_does_not_eat_the_tail_of_the_reply_when_input_is_unread() {
    // The peer sends megabytes that nobody reads, and reads only when it has sent them.
    let reply = pattern(4 * MIB);
    let mut server = Server::with_limits(replies_and_closes(reply.clone()), roomy());
    let mut client = connect_small(server.address);
    assert_eq!(server.write(&mut client, &pattern(4 * MIB)), None);
    assert_eq!(server.reactor.connections(), 1);
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received.len(), error), (reply.len(), None));
    assert!(received == reply);
    assert_eq!(server.write(&mut client, &pattern(MIB)), None, "and still nobody minds");
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
    let stats = server.reactor.stats();
    let shown: usize = server.calls.shown().iter().map(Vec::len).sum();
    assert_eq!(stats.bytes_in, 5 * MIB as u64);
    assert_eq!(stats.bytes_discarded, 5 * MIB as u64 - shown as u64);
    assert_eq!(stats.lingers_cut, 0);
}

#[test]
fn a_paused_connection_with_unread_input_closes_without_a_reset() {
    let mut server = Server::new(Recorder::new().open(|conn| conn.pause()));
    let (mut client, key) = server.open();
    client.write_all(&pattern(100_000)).unwrap();
    server.assert_idle();
    let mut cx = server.reactor.context(server.handler);
    assert_eq!(cx.send_to(key, b"last"), Sent::Ok);
    cx.close_key(key);
    assert_eq!(server.read_to_end(&mut client), (b"last".to_vec(), None));
    drop(client);
    server.until_closed(1);
    assert_eq!(server.reactor.stats().bytes_discarded, 100_000);
}

#[test]
fn a_connection_over_its_watermark_closes_with_all_its_output() {
    let mut server = Server::with_limits(
        Recorder::new().open(|conn| {
            assert_eq!(conn.send(&pattern(8 * MIB)), Sent::OverHigh);
        }),
        roomy(),
    );
    let mut client = connect_small(server.address);
    client.write_all(b"not read").unwrap();
    server.until("it opens", |calls| calls.opened().len() == 1);
    server.assert_idle();
    let key = server.calls.opened()[0];
    server.reactor.context(server.handler).close_key(key);
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received.len(), error), (8 * MIB, None));
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Drained(_) | Call::Data(..))), 0);
    assert_eq!(server.reactor.stats().bytes_discarded, 8);
}

// Lingering

#[test]
fn a_connection_whose_peer_closed_first_closes_at_once() {
    let mut server = Server::with_limits(
        replies_and_closes(b"bye".to_vec()),
        Limits::new().linger_timeout(DEADLINE),
    );
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let start = Instant::now();
    server.until_closed(1);
    assert!(start.elapsed() < DEADLINE / 4);
    assert_eq!(server.read_to_end(&mut client), (b"bye".to_vec(), None));
    assert_eq!(server.reactor.stats().lingers_cut, 0);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left behind");
}

#[test]
fn a_connection_whose_peer_closes_afterwards_ends_with_that() {
    let mut server = Server::with_limits(
        replies_and_closes(b"bye".to_vec()),
        Limits::new().linger_timeout(DEADLINE),
    );
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read_to_end(&mut client), (b"bye".to_vec(), None));
    server.assert_idle();
    assert_eq!(server.reactor.connections(), 1, "it waits for the peer");
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
    assert_eq!(server.reactor.stats().lingers_cut, 0);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left behind");
}

#[test]
fn the_linger_deadline_ends_a_peer_that_never_closes() {
    let linger = Duration::from_millis(50);
    let mut server = Server::with_limits(
        replies_and_closes(b"bye".to_vec()),
        Limits::new().linger_timeout(linger),
    );
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    let start = Instant::now();
    server.until_closed(1);
    assert!(start.elapsed() >= linger, "{:?}", start.elapsed());
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
    assert_eq!(server.reactor.stats().lingers_cut, 1);
    assert_eq!(server.read_to_end(&mut client), (b"bye".to_vec(), None));
}

#[test]
fn the_linger_deadline_ends_a_peer_that_never_stops_sending() {
    let mut server = Server::with_limits(
        replies_and_closes(b"bye".to_vec()),
        // A millisecond of a simulation is hundreds of turns, each of which floods.
        Limits::new().linger_timeout(Duration::from_millis(10)),
    );
    let mut client = server.connect();
    client.set_nonblocking(true).unwrap();
    let piece = vec![0; 64 * 1024];
    let mut error = None;
    run_until(&mut server.reactor, "the flood ends", |_| {
        error = client.write(&piece).err().map(|error| error.kind());
        error.is_some_and(|error| error != ErrorKind::WouldBlock)
    });
    let is_cut = matches!(error, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    assert!(is_cut, "{error:?}");
    server.until_closed(1);
    assert_eq!(server.reactor.stats().lingers_cut, 1);
    assert!(server.reactor.stats().bytes_discarded > 0);
}

#[test]
fn a_closing_connection_whose_peer_takes_nothing_ends_at_the_linger_deadline() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let linger = Duration::from_millis(50);
    let mut server =
        Server::with_limits(replies_and_closes(pattern(16 * MIB)), roomy().linger_timeout(linger));
    let mut client = connect_small(server.address);
    client.write_all(b"x").unwrap();
    let start = Instant::now();
    server.until_closed(1);
    assert!(start.elapsed() >= linger);
    assert_eq!(server.calls.reasons(), [CloseReason::SlowReader]);
    assert_eq!(server.reactor.stats().lingers_cut, 1);
    assert_eq!(server.reactor.stats().memory_bytes, 0);
    let (received, error) = server.read_to_end(&mut client);
    assert!(received.len() < 16 * MIB);
    assert_eq!(error, Some(ErrorKind::ConnectionReset), "a cut reply does not look complete");
}

#[test]
fn a_closing_connection_lives_as_long_as_its_peer_takes_output() {
    let linger = Duration::from_millis(600);
    let total = 32 * MIB;
    let mut server =
        Server::with_limits(replies_and_closes(pattern(total)), roomy().linger_timeout(linger));
    let mut client = connect_small(server.address);
    client.write_all(b"x").unwrap();
    // At a pace at which the whole takes four times the linger time.
    let start = Instant::now();
    let (mut received, mut buffer) = (0, vec![0; 64 * 1024]);
    client.set_nonblocking(true).unwrap();
    run_until(&mut server.reactor, "all is received", |_| {
        let pace = start.elapsed().as_secs_f64() / (4.0 * linger.as_secs_f64());
        while (received as f64) < pace * total as f64 {
            match client.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => received += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error} after {received} bytes"),
            }
        }
        false
    });
    assert_eq!(received, total);
    assert!(start.elapsed() > 3 * linger);
    drop(client);
    server.until_closed(1);
    assert_eq!(server.reactor.stats().lingers_cut, 0);
}

#[test]
fn after_our_end_of_file_the_peer_has_the_whole_linger_time_to_close() {
    let linger = Duration::from_millis(400);
    let mut server =
        Server::with_limits(replies_and_closes(pattern(16 * MIB)), roomy().linger_timeout(linger));
    let mut client = connect_small(server.address);
    client.write_all(b"x").unwrap();
    // It takes its time before it reads, but less than the deadline; and it never closes.
    turn_for(&mut server, linger * 3 / 4);
    client.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let (mut before_turn, mut flushed) = (Instant::now(), None);
    run_until(&mut server.reactor, "it is closed", |reactor| {
        while client.read(&mut buffer).is_ok_and(|count| count > 0) {}
        if flushed.is_none() && reactor.stats().bytes_out == 16 * MIB as u64 {
            flushed = Some(before_turn); // or a little later
        }
        before_turn = Instant::now();
        reactor.connections() == 0
    });
    let had = flushed.expect("all output was taken").elapsed();
    assert!(had >= linger, "{had:?}");
    assert_eq!(server.reactor.stats().lingers_cut, 1);
}

#[test]
fn a_reset_while_lingering_ends_it_for_its_own_reason() {
    let mut server = Server::with_limits(
        replies_and_closes(b"bye".to_vec()),
        Limits::new().linger_timeout(DEADLINE),
    );
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read_to_end(&mut client).0, b"bye");
    reset(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
    assert_eq!(server.reactor.stats().lingers_cut, 0);
}

#[test]
fn an_abort_ends_a_lingering_connection_at_once() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let mut server = Server::with_limits(
        replies_and_closes(pattern(16 * MIB)),
        roomy().linger_timeout(DEADLINE),
    );
    let mut client = connect_small(server.address);
    client.write_all(b"x").unwrap();
    server.until("it is closing", |calls| calls.shown().len() == 1);
    let key = server.calls.opened()[0];
    server.reactor.context(server.handler).close_key(key); // changes nothing
    server.reactor.context(server.handler).abort_key(key);
    server.until_closed(1);
    assert_eq!(server.read_to_end(&mut client).1, Some(ErrorKind::ConnectionReset));
    assert_eq!(server.reactor.stats().memory_bytes, 0);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left behind");
}

// Resets

#[test]
fn abort_sends_a_reset_and_drops_the_output() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.send(b"dropped").ignore();
        conn.abort();
        assert_eq!(conn.send(b"gone"), Sent::Gone);
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), Some(ErrorKind::ConnectionReset)));
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Aborted]);
    assert_eq!(server.reactor.stats().writes, 0);
}

#[test]
fn a_reset_by_the_peer_is_one_close_with_one_reason() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    // Idle, with input kept, with output waiting, paused.
    type Prepare = (&'static str, fn(&mut Server, oneloop::Key));
    let prepares: [Prepare; 4] = [
        ("idle", |_, _| {}),
        ("poked", |server, key| server.reactor.context(server.handler).poke(key)),
        ("with output", |server, key| {
            let output = Rc::from(pattern(16 * MIB));
            let _ = server.reactor.context(server.handler).send_shared_to(key, output);
            server.assert_idle();
        }),
        ("paused", |server, key| server.reactor.context(server.handler).pause_key(key)),
    ];
    for (state, prepare) in prepares {
        // The event need not say that it is more than something to read.
        if state == "paused" && !needs_linux("an event that tells a reset from data") {
            continue;
        }
        let mut server = Server::with_limits(Recorder::new().data(|_, _| Ok(0)), roomy());
        let (mut client, key) = server.open();
        client.write_all(b"kept").unwrap();
        server.until("it is shown", |calls| calls.shown().len() == 1);
        prepare(&mut server, key);
        reset(client);
        server.until_closed(1);
        server.assert_idle();
        assert_eq!(server.calls.closed(), [(key, CloseReason::Reset)], "{state}");
        assert_eq!(server.reactor.stats().memory_bytes, 0, "{state}");
        assert_eq!(server.reactor.stats().closes_total(), 1, "{state}");
    }
}

#[test]
fn data_that_came_before_a_reset_is_shown() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    // Often, because the event may tell of either of them first.
    for _ in 0..50 {
        let mut server = Server::new(Recorder::new());
        let (mut client, _) = server.open();
        client.write_all(b"data before the reset").unwrap();
        reset(client);
        server.until_closed(1);
        assert_eq!(server.calls.shown(), [b"data before the reset"]);
        assert_eq!(server.calls.reasons(), [CloseReason::Reset]);
    }
}

#[test]
fn an_orderly_end_that_loses_its_last_words_to_a_reset_is_a_reset() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let mut lost = 0;
    // Often, because where the network takes its time the reply is gone before the reset is there.
    for _ in 0..50 {
        let mut server = Server::new(replies_and_closes(b"bye".to_vec()));
        let (mut client, _) = server.open();
        client.write_all(b"x").unwrap();
        reset(client);
        server.until_closed(1);
        let stats = server.reactor.stats();
        assert_eq!(stats.bytes_out + stats.bytes_undelivered, 3);
        let is_lost = stats.bytes_undelivered > 0;
        let reason = if is_lost { CloseReason::Reset } else { CloseReason::Closed };
        assert_eq!(server.calls.reasons(), [reason]);
        lost += u32::from(is_lost);
    }
    assert!(lost > 0);
}

#[test]
fn an_abort_after_close_is_an_abort_if_it_cost_output() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        if data != b"silent" {
            conn.send(b"dropped").ignore();
        }
        conn.close();
        conn.abort();
        Ok(data.len())
    }));
    for (data, reason) in [(&b"x"[..], CloseReason::Aborted), (b"silent", CloseReason::Closed)] {
        let (mut client, key) = server.open();
        client.write_all(data).unwrap();
        server.until("it has ended", |calls| calls.has(&Call::Close(key, reason)));
    }
}

#[test]
fn a_client_that_resets_before_it_is_accepted_harms_nobody() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    for _ in 0..10 {
        reset(server.connect());
    }
    let mut client = server.connect();
    server.assert_echoes(&mut client);
    server.until_closed(10);
    assert_eq!(server.calls.reasons(), [CloseReason::Reset; 10]);
    server.assert_echoes(&mut client);
}

/// Writes to a peer that is gone, twice in one turn: the first write provokes the peer's reset, the
/// second one meets it. `pieces` is how many the second one is made of.
fn write_to_a_peer_that_is_gone(pieces: usize) {
    let gone = Rc::new(Cell::new(None));
    let peer = Rc::clone(&gone);
    let mut server = Server::new(Recorder::new().peer_closed(|_| {}).poke(move |conn| {
        let gone = peer.get().expect("set before the poke");
        if conn.key() == gone {
            conn.send(b"into the void").ignore(); // in the mail phase
        } else {
            for _ in 0..pieces {
                let _ = conn.send_shared_to(gone, Rc::from(*b"and after it")); // in the flush phase
            }
        }
    }));
    let (mut other, other_key) = server.open();
    let (client, key) = server.open();
    gone.set(Some(key));
    drop(client);
    server.until("the peer closed", |calls| calls.has(&Call::PeerClosed(key)));
    let writes = server.reactor.stats().writes;
    server.reactor.context(server.handler).poke(key);
    server.reactor.context(server.handler).poke(other_key);
    server.until_closed(1);
    assert_eq!(server.calls.closed(), [(key, CloseReason::Reset)]);
    assert_eq!(server.reactor.stats().writes, writes + 2, "the second one met a closed connection");
    server.assert_idle();
    other.write_all(b"x").unwrap();
    server.until("the other one goes on", |calls| calls.shown().len() == 1);
}

#[test]
fn writing_to_a_peer_that_is_gone_ends_as_reset() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    if !needs_linux("an event for whoever did not hear that a call would block") {
        return;
    }
    write_to_a_peer_that_is_gone(1);
    write_to_a_peer_that_is_gone(3);
}

#[test]
fn writing_to_a_peer_that_is_gone_raises_no_sigpipe() {
    const NAME: &str = "writing_to_a_peer_that_is_gone_raises_no_sigpipe";
    if !needs_kernel("signals") || !alone(NAME) {
        return;
    }
    default_sigpipe();
    write_to_a_peer_that_is_gone(1);
    write_to_a_peer_that_is_gone(3);
}
