//! Events: those of the past, of closed sources, and too many of them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Connection, Key, Limits, ListenOptions, ReactorLimits, Sent};

use crate::support::*;

fn index(key: Key) -> u64 {
    key.to_bits() & u64::from(u32::MAX)
}

/// Two clients are ready in one batch. The callback of the first one closes the second one, and a new
/// connection takes its slot.
#[test]
fn a_connection_that_takes_a_slot_within_the_batch_gets_none_of_its_events() {
    if !needs_tcp("it connects out") {
        return;
    }
    let (one, two) = (Rc::new(Cell::new(None::<Key>)), Rc::new(Cell::new(None::<Key>)));
    let new = Rc::new(Cell::new(None::<Key>));
    let (one_, two_, new_) = (Rc::clone(&one), Rc::clone(&two), Rc::clone(&new));
    let address = Rc::new(Cell::new(None));
    let address_ = Rc::clone(&address);
    let recorder = Recorder::new()
        .data(move |conn, data| {
            let other = if Some(conn.key()) == one.get() { two.get() } else { one.get() };
            conn.abort_key(other.unwrap());
            Ok(data.len())
        })
        .close(move |key, _, cx| {
            // The earliest moment at which the slot is free.
            if new_.get().is_none() {
                let new = cx.connect(address.get().unwrap(), 7);
                assert_eq!(index(new), index(key), "the slot is used again");
                assert_ne!(new, key);
                assert_eq!(cx.send_to(key, b"not for you"), Sent::Gone);
                new_.set(Some(new));
            }
        });
    let mut server = Server::new(recorder);
    address_.set(Some(server.address));
    let (mut first, key) = server.open();
    one_.set(Some(key));
    let (mut second, key) = server.open();
    two_.set(Some(key));
    first.write_all(b"1").unwrap();
    second.write_all(b"2").unwrap();
    until_received(server.address, &first, 1);
    until_received(server.address, &second, 1);

    // Two connections come of it: the new one, and its other end.
    server.until("the new connection is open", |calls| calls.opened().len() == 4);
    server.assert_idle();
    let new = new.get().unwrap();
    let calls = server.calls.all();
    let of_new: Vec<_> =
        calls.iter().filter(|call| format!("{call:?}").contains(&format!("({new})"))).collect();
    assert_eq!(of_new, [&Call::Open(new)], "{calls:?}");
    assert_eq!(server.calls.shown().len(), 1, "the closed one was not shown its data: {calls:?}");
    assert_eq!(server.calls.reasons(), [CloseReason::Aborted]);
}

/// All connections are ready in one batch; the callback of each closes others, itself, or all.
#[test]
fn whoever_is_closed_during_the_dispatch_gets_on_close_once_and_nothing_else() {
    for seed in 1..=60 {
        close_during_dispatch(seed);
    }
}

fn close_during_dispatch(seed: u64) {
    const CLIENTS: usize = 12;
    let keys = Rc::new(RefCell::new(Vec::new()));
    let doomed = Rc::new(RefCell::new(HashSet::new()));
    let mut state = seed;
    let (all, doomed_) = (Rc::clone(&keys), Rc::clone(&doomed));
    let recorder = Recorder::new().data(move |conn, data| {
        let all = all.borrow();
        let mut doomed = doomed_.borrow_mut();
        assert!(!doomed.contains(&conn.key()), "seed {seed}: data after the close");
        let roll = random(&mut state);
        let other: Key = all[roll as usize / 64 % all.len()];
        match roll % 8 {
            0 => {
                conn.close();
                doomed.insert(conn.key());
            }
            1 => {
                conn.abort();
                doomed.insert(conn.key());
            }
            2 | 3 => {
                conn.close_key(other);
                doomed.insert(other);
            }
            4 | 5 => {
                conn.abort_key(other);
                doomed.insert(other);
            }
            6 if roll & 0x18 == 0 => {
                for key in all.iter() {
                    if roll & 0x20 == 0 {
                        conn.close_key(*key)
                    } else {
                        conn.abort_key(*key)
                    }
                    doomed.insert(*key);
                }
            }
            _ => {}
        }
        if conn.send_to(other, b"to another one") == Sent::Gone {
            assert!(doomed.contains(&other), "seed {seed}");
        }
        Ok(data.len())
    });
    let mut server = Server::new(recorder);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.open().0).collect();
    *keys.borrow_mut() = server.calls.opened();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    server.reactor.turn(Some(DEADLINE)).unwrap();
    for client in &mut clients {
        // Somebody may have closed it.
        let _ = client.write_all(b"y");
    }
    server.reactor.turn(Some(Duration::from_millis(1))).unwrap();
    drop(clients);
    server.until_closed(CLIENTS);
    let closed: HashSet<Key> = server.calls.closed().into_iter().map(|(key, _)| key).collect();
    assert_eq!(closed.len(), CLIENTS, "seed {seed}");
    for (key, reason) in server.calls.closed() {
        let by_us = matches!(reason, CloseReason::Closed | CloseReason::Aborted);
        assert_eq!(by_us, doomed.borrow().contains(&key), "seed {seed}: {key} {reason}");
    }
    assert_eq!(server.reactor.connections(), 0);
}

/// A connection whose output is stuck, with a byte to read as well: the next event says both.
fn stuck_and_readable(recorder: Recorder) -> (Server, TcpStream) {
    let limits = Limits::new().output_bytes_max(64 << 20);
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    server.until("it opens", |calls| calls.opened().len() == 1);
    server.assert_idle();
    assert!(server.reactor.stats().memory_bytes > 0, "its output is stuck");
    client.write_all(b"x").unwrap();
    (server, client)
}

/// Reads to the end while the reactor turns, and then closes; gives how many bytes came.
fn read_aside(reactor: &mut Reactor, mut client: TcpStream) -> usize {
    client.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    run_until(reactor, "the client has read everything", |_| {
        loop {
            match client.read(&mut buffer) {
                Ok(count @ 1..) => total += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(0) | Err(_) => return true,
            }
        }
    });
    total
}

fn fill(conn: &mut Connection<'_>) {
    conn.send(&vec![0; 16 << 20]).ignore();
}

#[test]
fn a_close_in_the_write_half_of_an_event_is_the_last_call_although_it_said_readable_too() {
    for abort in [false, true] {
        let recorder = Recorder::new()
            .open(fill)
            .drained(move |conn| if abort { conn.abort() } else { conn.close() });
        let (mut server, client) = stuck_and_readable(recorder);
        read_aside(&mut server.reactor, client);
        server.until_closed(1);
        assert_eq!(server.calls.count(|call| matches!(call, Call::Drained(_))), 1);
        assert!(server.calls.shown().is_empty(), "{:?}", server.calls.shown());
    }
}

#[test]
fn a_close_in_on_data_is_the_last_call_although_the_event_said_writable_too() {
    for abort in [false, true] {
        let recorder = Recorder::new().data(move |conn, data| {
            fill(conn);
            if abort {
                conn.abort()
            } else {
                conn.close()
            }
            Ok(data.len())
        });
        let limits = Limits::new().output_bytes_max(64 << 20);
        let mut server = Server::with_limits(recorder, limits);
        let mut client = connect_small(server.address);
        server.until("it opens", |calls| calls.opened().len() == 1);
        client.write_all(b"x").unwrap();
        let bytes = read_aside(&mut server.reactor, client);
        assert_eq!(bytes == 16 << 20, !abort, "a close flushes, an abort does not");
        server.until_closed(1);
        assert_eq!(server.calls.shown().len(), 1);
        assert_eq!(server.calls.count(|call| matches!(call, Call::Drained(_))), 0);
    }
}

/// A reset sets every bit there is. Whatever state it meets, it ends the connection once.
#[test]
fn a_reset_ends_a_connection_once_whatever_its_interest() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    // Idle; paused; output stuck; paused with output stuck; our side shut down.
    type Set = fn(&mut Connection<'_>);
    let states: [Set; 5] = [
        |_| {},
        |conn| conn.pause(),
        fill,
        |conn| {
            fill(conn);
            conn.pause();
        },
        |conn| conn.shutdown_write(),
    ];
    for (number, set) in states.into_iter().enumerate() {
        // The event need not say that it is more than something to read.
        if number > 0 && !needs_linux("an event that tells a reset from data") {
            continue;
        }
        let limits = Limits::new().output_bytes_max(64 << 20);
        let mut server = Server::with_limits(Recorder::new().open(set), limits);
        let client = connect_small(server.address);
        server.until("it opens", |calls| calls.opened().len() == 1);
        for _ in 0..3 {
            server.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
        reset(client);
        server.until_closed(1);
        server.assert_idle();
        assert_eq!(server.calls.reasons(), [CloseReason::Reset], "state {number}");
        assert_eq!(server.calls.shown().len(), 0);
    }
}

#[test]
fn one_event_a_poll_serves_a_thousand_ready_connections() {
    const CLIENTS: usize = 1000;
    assert!(may_open(3 * CLIENTS as u64));
    let limits = ReactorLimits::new().connections_max(CLIENTS).events_per_poll_max(1);
    let mut server = Server::with(Recorder::echo(), &ListenOptions::new(), limits);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.until("all are open", |calls| calls.opened().len() == CLIENTS);
    for client in &mut clients {
        client.write_all(b"ready").unwrap();
    }
    server.until("all are served", |calls| calls.count(|c| matches!(c, Call::Data(..))) >= CLIENTS);
    for client in &mut clients {
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ready");
    }
    assert_eq!(server.reactor.stats().closes_total(), 0);
}

/// Turned away by the handler, by a limit, ended by a panic in each place, aborted, closed: nothing
/// stays behind.
#[test]
fn no_way_to_end_a_connection_leaks_a_descriptor() {
    if !alone("no_way_to_end_a_connection_leaks_a_descriptor") {
        return;
    }
    let turn = Rc::new(Cell::new(0_u32));
    let (accept, open, data) = (Rc::clone(&turn), Rc::clone(&turn), Rc::clone(&turn));
    let recorder = Recorder::new()
        .accept(move |_, _| {
            accept.set(accept.get() + 1);
            accept.get() % 8 != 0
        })
        .open(move |conn| match open.get() % 8 {
            1 => panic!("on purpose, in on_open"),
            2 => conn.abort(),
            3 => conn.close(),
            _ => {}
        })
        .data(move |_, bytes| match data.get() % 8 {
            4 => panic!("on purpose, in on_data"),
            5 => Err("on purpose".into()),
            6 => Ok(bytes.len() + 1),
            _ => Ok(bytes.len()),
        });
    let mut server = Server::new(recorder);
    std::panic::set_hook(Box::new(|_| {}));
    server.assert_idle();
    let before = descriptors();
    let cycles = if cfg!(debug_assertions) { 1000 } else { 10_000 };
    for cycle in 0..cycles {
        let mut client = server.connect();
        let _ = client.write_all(b"x");
        let ended = |reactor: &Reactor| {
            let stats = reactor.stats();
            stats.refusals + stats.closes_total() + stats.panics
        };
        let before = ended(&server.reactor);
        if turn.get() % 8 == 6 {
            // The next one lives until its client goes.
            run_until(&mut server.reactor, "it is open", |reactor| reactor.connections() == 1);
        }
        if cycle % 2 == 0 {
            drop(client);
        } else {
            reset(client);
        }
        let mut is_counted = false;
        run_until(&mut server.reactor, "it is gone", |reactor| {
            is_counted |= ended(reactor) > before;
            is_counted && reactor.connections() == 0
        });
    }
    let _ = std::panic::take_hook();
    server.assert_idle();
    assert_eq!(descriptors(), before);
}
