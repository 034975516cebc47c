//! Fairness: how long a connection can be made to wait by the others.
//!
//! The bound: bytes that are in the kernel when the poll returns are shown in that turn, after at most
//! one budget of each other ready connection; bytes that arrive during a turn, in the next one; and
//! where more sources are ready than a poll reports, within ⌈ready / events⌉ turns. Here it is counted, in
//! budgets; `flood.rs` measures it, in time.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;

use oneloop::{Key, Limits, ListenOptions, ReactorLimits};

use crate::support::*;

const BUDGET: usize = 8 * 1024;
const FLOODERS: usize = 4;

/// What was shown: turn, connection, bytes.
type Shown = Rc<RefCell<Vec<(u64, Key, usize)>>>;

fn server_with(events_per_poll_max: usize, limits: Limits) -> (Server, Shown) {
    let shown = Shown::default();
    let log = Rc::clone(&shown);
    let recorder = Recorder::new().data(move |conn, data| {
        log.borrow_mut().push((conn.stats().turns, conn.key(), data.len()));
        conn.send(data).ignore();
        Ok(data.len())
    });
    let options = ListenOptions::new().limits(limits);
    let limits = ReactorLimits::new().connections_max(64).events_per_poll_max(events_per_poll_max);
    (Server::with(recorder, &options, limits), shown)
}

/// So many clients, whose connections are open and idle.
fn idle_clients(server: &mut Server, count: usize) -> Vec<(TcpStream, Key)> {
    let clients = (0..count).map(|_| server.open()).collect();
    server.assert_idle();
    clients
}

/// Fills what a client's connection has to read, with several budgets.
fn flood(server: &Server, client: &mut TcpStream) {
    client.write_all(&pattern(4 * BUDGET)).unwrap();
    until_received(server.address, client, 4 * BUDGET);
}

#[test]
fn a_ready_connection_is_served_within_the_turn_after_at_most_a_budget_of_each_other_one() {
    let kinds = [
        Limits::new().read_bytes_per_turn_max(BUDGET),
        // The budget of calls.
        Limits::new().input_bytes_max(BUDGET / 4).reads_per_turn_max(4),
        // Where every read is cut short by the room there is.
        Limits::new().read_bytes_per_turn_max(BUDGET).input_bytes_max(1000),
    ];
    for limits in kinds {
        let (mut server, shown) = server_with(1024, limits.clone());
        let mut clients = idle_clients(&mut server, FLOODERS + 1);
        let (mut small, small_key) = clients.pop().unwrap();
        for (client, _) in &mut clients {
            flood(&server, client);
        }
        // The last one to become ready.
        small.write_all(b"ping").unwrap();
        until_received(server.address, &small, 4);

        server.reactor.turn(Some(DEADLINE)).unwrap();
        let log = shown.borrow();
        let turn = server.reactor.stats().turns;
        assert!(log.contains(&(turn, small_key, 4)), "not in its turn: {log:?}");
        for (_, key) in &clients {
            let bytes: usize = log.iter().filter(|(_, k, _)| k == key).map(|(_, _, n)| n).sum();
            assert!(bytes > 0, "{key} had nothing: {log:?}");
            assert!(bytes <= BUDGET, "{key} had {bytes} bytes in one turn: {limits:?}");
        }
        drop(log);
        small.read_exact(&mut [0; 4]).unwrap();
        // And so on, turn by turn, as long as the flood lasts.
        let mut pings = 0;
        while server.reactor.stats().bytes_in < (4 * FLOODERS * BUDGET) as u64 {
            small.write_all(b"ping").unwrap();
            until_received(server.address, &small, 4);
            server.reactor.turn(Some(DEADLINE)).unwrap();
            let turn = server.reactor.stats().turns;
            assert!(shown.borrow().contains(&(turn, small_key, 4)), "not in its turn");
            small.read_exact(&mut [0; 4]).unwrap();
            pings += 1;
        }
        assert!(pings >= 2, "it was no flood");
    }
}

/// It becomes ready while the others are served; their next budgets are ahead of it, one each.
#[test]
fn a_connection_that_becomes_ready_during_a_turn_is_served_in_the_next_one() {
    if !needs_tcp("a Unix socket's client has no address") {
        return;
    }
    let limits = Limits::new().read_bytes_per_turn_max(BUDGET);
    let small: Rc<RefCell<Option<TcpStream>>> = Rc::default();
    let ready_in = Rc::new(Cell::new(0));
    let shown = Shown::default();
    let (log, client, turn) = (Rc::clone(&shown), Rc::clone(&small), Rc::clone(&ready_in));
    let recorder = Recorder::new().data(move |conn, data| {
        if let Some(mut client) = client.borrow_mut().take() {
            client.write_all(b"ping").unwrap();
            until_received(client.peer_addr().unwrap(), &client, 4);
            turn.set(conn.stats().turns);
        }
        log.borrow_mut().push((conn.stats().turns, conn.key(), data.len()));
        Ok(data.len())
    });
    let mut server = Server::with_limits(recorder, limits);
    let mut clients = idle_clients(&mut server, FLOODERS + 1);
    let (client, small_key) = clients.pop().unwrap();
    for (client, _) in &mut clients {
        flood(&server, client);
    }
    *small.borrow_mut() = Some(client.try_clone().unwrap());
    run_until(&mut server.reactor, "it is served", |_| {
        shown.borrow().iter().any(|(_, key, _)| *key == small_key)
    });
    let log = shown.borrow();
    assert!(log.contains(&(ready_in.get() + 1, small_key, 4)), "{log:?}");
    let ahead = log.iter().take_while(|(_, key, _)| *key != small_key);
    let bytes: usize = ahead.map(|(_, _, count)| count).sum();
    assert!(bytes <= 2 * FLOODERS * BUDGET, "{bytes} bytes were ahead of it");
}

/// More are ready than a poll reports: each poll goes on where the last one ended.
#[test]
fn with_more_ready_than_a_poll_reports_each_is_served_within_its_share_of_turns() {
    const QUIET: usize = 13;
    for events in [1, 2, 3, 5, 16] {
        let limits = Limits::new().read_bytes_per_turn_max(BUDGET);
        let (mut server, shown) = server_with(events, limits);
        let mut clients = idle_clients(&mut server, FLOODERS + QUIET);
        let mut small = clients.split_off(FLOODERS);
        for (client, _) in &mut clients {
            flood(&server, client);
        }
        for (client, _) in &mut small {
            client.write_all(b"ping").unwrap();
            until_received(server.address, client, 4);
        }
        let before = server.reactor.stats().turns;
        let within = (FLOODERS + QUIET).div_ceil(events);
        for _ in 0..within {
            server.reactor.turn(Some(DEADLINE)).unwrap();
        }
        let log = shown.borrow();
        for (_, key) in &small {
            let served = log.iter().find(|(_, k, _)| k == key);
            assert!(served.is_some(), "{key} not within {within} turns of {events} events");
        }
        for (turn, key, _) in log.iter() {
            assert!(*turn > before);
            let in_turn = log.iter().filter(|(t, k, _)| (t, k) == (turn, key));
            let bytes: usize = in_turn.map(|(_, _, count)| count).sum();
            assert!(bytes <= BUDGET, "{key} had {bytes} bytes in turn {turn}");
        }
    }
}
