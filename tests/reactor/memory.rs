//! The memory of a reactor: what is held, and what is given back.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Write};
use std::rc::Rc;

use crate::support::*;
use oneloop::{CloseReason, Limits, ListenOptions, ReactorLimits};

/// Consumes nothing.
fn keeps() -> Recorder {
    Recorder::new().data(|_, _| Ok(0))
}

#[test]
fn over_memory_bytes_max_the_connection_that_holds_the_most_is_shed() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let limits = ReactorLimits::new().connections_max(16).memory_bytes_max(100_000);
    let options = ListenOptions::new().limits(Limits::new().input_bytes_max(80_000));
    let mut server = Server::with(keeps(), &options, limits);
    let mut clients = Vec::new();
    for (number, size) in [5_000, 40_000, 20_000].into_iter().enumerate() {
        let (mut client, _) = server.open();
        client.write_all(&vec![0; size]).unwrap();
        server.until("it is kept", |calls| {
            let key = calls.opened()[number];
            let is_last =
                |call: &Call| matches!(call, Call::Data(k, data) if *k == key && data.len() == size);
            calls.count(is_last) > 0
        });
        clients.push(client);
    }
    assert!(server.calls.closed().is_empty());
    assert!((65_000..100_000).contains(&server.reactor.stats().memory_bytes));
    let (mut last, _) = server.open();
    last.write_all(&[0; 39_000]).unwrap();
    server.until_closed(1);
    server.assert_idle();
    assert_eq!(server.calls.closed(), [(server.calls.opened()[1], CloseReason::MemoryLimit)]);
    let (_, error) = server.read_to_end(&mut clients[1]);
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    assert!(server.reactor.stats().memory_bytes <= 100_000);
    drop(clients);
    drop(last);
    server.until_closed(4);
    assert_eq!(server.reactor.stats().memory_bytes, 0);
}

#[test]
fn memory_counts_output_too_and_what_is_sent_while_shedding() {
    // Everybody is told of everybody's end, which makes more output than there is room for.
    let keys = Rc::<RefCell<Vec<oneloop::Key>>>::default();
    let (opened, all) = (Rc::clone(&keys), Rc::clone(&keys));
    let options = ListenOptions::new().limits(Limits::new().output_bytes_max(16 << 20));
    let limits = ReactorLimits::new().connections_max(16).memory_bytes_max(1 << 20);
    let recorder = Recorder::new().open(move |conn| opened.borrow_mut().push(conn.key())).close(
        move |_, _, cx| {
            for key in all.borrow().iter() {
                let _ = cx.send_to(*key, &vec![0; 600_000]);
            }
        },
    );
    let mut server = Server::with(recorder, &options, limits);
    let mut clients = Vec::new();
    for count in 1..6 {
        clients.push(connect_small(server.address));
        server.until("it opens", |calls| calls.opened().len() == count);
    }
    // Nobody reads: the kernels' buffers fill up, then ours.
    let all = keys.borrow().clone();
    for key in &all[..2] {
        let _ = server.reactor.context(server.handler).send_to(*key, &vec![0; 8 << 20]);
    }
    server.until("both are shed", |calls| calls.closed().len() >= 2);
    server.assert_idle();
    assert!(server.reactor.stats().memory_bytes <= 1 << 20);
    assert!(server.calls.reasons().iter().all(|reason| *reason == CloseReason::MemoryLimit));
    server.calls.check();
}

#[test]
fn the_memory_limit_holds_within_a_turn_whoever_is_answered() {
    let (limit, answer) = (16 << 20, 4 << 20);
    let options = ListenOptions::new().limits(Limits::new().output_bytes_max(64 << 20));
    let limits = ReactorLimits::new().connections_max(64).memory_bytes_max(limit);
    let recorder = Recorder::new().data(move |conn, data| {
        let _ = conn.send(&vec![0; answer]);
        Ok(data.len())
    });
    let mut server = Server::with(recorder, &options, limits);
    let mut clients: Vec<_> = (0..48).map(|_| connect_small(server.address)).collect();
    server.until("all are open", |calls| calls.opened().len() == 48);
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    server.until_closed(1);
    server.assert_idle();
    assert!(server.calls.reasons().iter().all(|reason| *reason == CloseReason::MemoryLimit));
    let stats = server.reactor.stats();
    assert!(stats.memory_bytes_peak > limit, "it was reached");
    assert!(stats.memory_bytes_peak <= limit + 2 * answer, "{}", stats.memory_bytes_peak);
}

#[test]
fn fan_out_is_written_before_anybody_is_shed_for_it() {
    if !needs_tcp("a Unix socket holds less") {
        return;
    }
    let (members, piece) = (10, Rc::<[u8]>::from(vec![7; 64 * 1024]));
    let limit = 1 << 20;
    let keys = Rc::<RefCell<Vec<oneloop::Key>>>::default();
    let (opened, all) = (Rc::clone(&keys), Rc::clone(&keys));
    let recorder = Recorder::new().open(move |conn| opened.borrow_mut().push(conn.key())).data(
        move |conn, data| {
            let own = conn.key();
            for key in all.borrow().iter().filter(|key| **key != own) {
                let _ = conn.send_shared_to(*key, Rc::clone(&piece));
            }
            Ok(data.len())
        },
    );
    let limits = ReactorLimits::new().connections_max(16).memory_bytes_max(limit);
    let mut server = Server::with(recorder, &ListenOptions::new(), limits);
    let mut clients: Vec<_> = (0..members).map(|_| server.open().0).collect();
    // All of them talk in one turn, which makes some six times of what may be held.
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    for client in &mut clients {
        server.read(client, (members - 1) * 64 * 1024);
    }
    assert_eq!(server.calls.closed(), []);
    let peak = server.reactor.stats().memory_bytes_peak;
    assert!(peak > limit && peak <= limit + members * 66 * 1024, "{peak}");
}

#[test]
fn small_shared_pieces_cost_what_they_are() {
    let limits = Limits::new().output_bytes_max(16 << 20);
    let mut server = Server::with_limits(Recorder::new(), limits);
    let mut client = connect_small(server.address);
    server.until("it opens", |calls| calls.opened().len() == 1);
    let key = server.calls.opened()[0];
    let piece = Rc::<[u8]>::from(*b"x\n");
    let mut cx = server.reactor.context(server.handler);
    for _ in 0..100_000 {
        let _ = cx.send_shared_to(key, Rc::clone(&piece));
    }
    let held = server.reactor.stats().memory_bytes;
    assert!(held < 300_000, "{held} bytes for 200,000");
    assert!(server.read(&mut client, 200_000).chunks(2).all(|chunk| chunk == b"x\n"));
}

#[test]
fn buffers_are_given_back_after_a_burst() {
    if !needs_kernel("resident memory") || !alone("buffers_are_given_back_after_a_burst") {
        return;
    }
    let (connections, size) = (1000, 256 * 1024);
    let done = Rc::new(Cell::new(0));
    let count = Rc::clone(&done);
    // Unlike a recorder, which would remember all of it.
    struct Kept(Rc<Cell<usize>>);
    impl oneloop::StreamHandler for Kept {
        type Session = ();
        fn on_open(&mut self, _: &mut oneloop::Connection<'_>) {}
        fn on_data(
            &mut self,
            _: &mut (),
            conn: &mut oneloop::Connection<'_>,
            data: &[u8],
        ) -> Result<usize, oneloop::Error> {
            if data.len() < 256 * 1024 {
                return Ok(0);
            }
            self.0.set(self.0.get() + 1);
            conn.send(&data[..10]).ignore();
            Ok(data.len())
        }
    }
    let mut reactor = Reactor::with_limits(
        ReactorLimits::new().connections_max(connections + 1).memory_bytes_max(1 << 30),
    )
    .unwrap();
    let handler = reactor.add(Kept(count));
    let options = ListenOptions::new().limits(Limits::new().input_bytes_max(size));
    let listener = reactor.listen_with(handler, "127.0.0.1:0", &options).unwrap();
    let address = reactor.listener_address(listener).unwrap().inet().unwrap();
    let mut clients: Vec<_> = (0..connections).map(|_| connect(address)).collect();
    run_until(&mut reactor, "all are open", |r| r.connections() == connections);
    let before = resident_bytes();
    let piece = vec![b'x'; size - 1];
    for (number, client) in clients.iter_mut().enumerate() {
        client.set_nonblocking(true).unwrap();
        let expected = ((number + 1) * piece.len()) as u64;
        let mut rest = &piece[..];
        run_until(&mut reactor, "the server holds it", |r| {
            if let Ok(count) = client.write(rest) {
                rest = &rest[count..];
            }
            r.stats().bytes_in == expected
        });
    }
    let held = reactor.stats().memory_bytes;
    assert!(held >= connections * size, "{held}");
    assert!(resident_bytes() - before > connections * size / 2);
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    run_until(&mut reactor, "all are consumed", |_| done.get() == connections);
    assert_idle(&mut reactor);
    assert_eq!(reactor.stats().memory_bytes, 0);
    let kept = resident_bytes().saturating_sub(before);
    assert!(kept < connections * size / 20, "{kept} bytes are still resident");
}

#[test]
fn hundreds_of_thousands_of_shared_pieces_leave_nothing_behind() {
    if !needs_kernel("resident memory")
        || !alone("hundreds_of_thousands_of_shared_pieces_leave_nothing_behind")
    {
        return;
    }
    let limits = Limits::new().output_bytes_max(64 << 20).input_bytes_max(1 << 20);
    let options = ListenOptions::new().limits(limits);
    let limits = ReactorLimits::new().memory_bytes_max(1 << 30);
    let mut server = Server::with(Recorder::new(), &options, limits);
    let mut clients = Vec::new();
    for count in 1..9 {
        let client = connect_small(server.address);
        server.until("it opens", |calls| calls.opened().len() == count);
        // The kernel is full, so that what follows waits here.
        let key = server.calls.opened()[count - 1];
        let _ = server.reactor.context(server.handler).send_to(key, &vec![0; 8 << 20]);
        server.assert_idle();
        clients.push((client, key));
    }
    let before = resident_bytes();
    let piece: Rc<[u8]> = Rc::from([7; 600]);
    for (_, key) in &clients {
        let mut cx = server.reactor.context(server.handler);
        for _ in 0..50_000 {
            let _ = cx.send_shared_to(*key, Rc::clone(&piece));
        }
    }
    // Each counts in full, though only its place in the queue is taken.
    let held = 8 * 50_000 * size_of::<Rc<[u8]>>();
    assert!(server.reactor.stats().memory_bytes > held, "the pieces count");
    assert!(resident_bytes() - before > held);
    for (client, _) in &mut clients {
        server.read(client, (8 << 20) + 50_000 * 600);
    }
    server.assert_idle();
    assert_eq!(server.reactor.stats().memory_bytes, 0);
    let kept = resident_bytes().saturating_sub(before);
    assert!(kept < held / 8, "{kept} bytes are still resident");
}
