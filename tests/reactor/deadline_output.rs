//! The deadlines of output: some of it has to be taken now and then, and not too much may wait for long.

use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use crate::support::deadline::*;
use crate::support::*;
use oneloop::{CloseReason, Deadline, Limits};

#[test]
fn a_peer_that_takes_nothing_is_cut_off() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let (recorder, missed) = noting(Recorder::new().open(|conn| {
        conn.send(&pattern(12 << 20)).ignore();
    }));
    // At the same moment it is idle, of which nobody hears.
    let limits = patient()
        .output_bytes_max(64 << 20)
        .write_stall_timeout(SHORT)
        .idle_timeout(SHORT)
        .linger_timeout(DEADLINE);
    let mut server = Server::with_limits(recorder, limits);
    let begun = now(&mut server);
    let mut client = connect_small(server.address);
    server.until_closed(1);
    let (deadline, after) = only(&missed, begun);
    assert_eq!(deadline, Deadline::WriteStall);
    assert!(after >= SHORT, "early: {after:?}");
    assert_eq!(server.calls.reasons(), [CloseReason::WriteStallTimeout], "and at once");
    let (received, error) = server.read_to_end(&mut client);
    assert!(received.len() < 12 << 20);
    assert!(error.is_some(), "a cut answer does not look complete");
}

#[test]
fn a_peer_that_takes_a_little_now_and_then_is_not_stalled() {
    let (recorder, missed) = noting(Recorder::new().open(|conn| {
        conn.send(&pattern(12 << 20)).ignore();
    }));
    let limits = patient().output_bytes_max(64 << 20).write_stall_timeout(3 * SHORT);
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    client.set_nonblocking(true).unwrap();
    let (start, mut last) = (Instant::now(), Instant::now());
    let mut buffer = vec![0; 256 * 1024];
    run_until(&mut server.reactor, "some time passes", |_| {
        if last.elapsed() > SHORT / 4 {
            last = Instant::now();
            while client.read(&mut buffer).is_ok_and(|count| count > 0) {}
        }
        start.elapsed() > 9 * SHORT
    });
    assert!(missed.borrow().is_empty() || HAS_KERNEL, "{missed:?}");
}

#[test]
fn a_peer_that_reads_slowly_is_not_stalled_however_long_the_kernel_keeps_silent() {
    // In the time of the deadline it makes a hundredth of the room at which the kernel tells of it.
    for closes in [false, true] {
        let (recorder, missed) = noting(Recorder::new().open(move |conn| {
            conn.send(&pattern(12 << 20)).ignore();
            if closes {
                conn.close();
            }
        }));
        let limits = patient()
            .output_bytes_max(64 << 20)
            .write_stall_timeout(2 * SHORT)
            .linger_timeout(2 * SHORT);
        let mut server = Server::with_limits(recorder, limits);
        let mut client = connect_small(server.address);
        client.set_nonblocking(true).unwrap();
        let (start, mut last) = (Instant::now(), Instant::now());
        let mut buffer = vec![0; 2000];
        run_until(&mut server.reactor, "some time passes", |_| {
            if last.elapsed() > SHORT / 8 {
                last = Instant::now();
                let _ = client.read(&mut buffer);
            }
            start.elapsed() > 10 * SHORT
        });
        let is_over = !missed.borrow().is_empty() || !server.calls.closed().is_empty();
        assert!(!is_over || HAS_KERNEL, "{missed:?}, {:?}", server.calls.reasons());
    }
}

/// As long as there is a connection the client reads a little of it, now and then. Gives how much.
fn read_a_little_until_closed(server: &mut Server, client: &mut TcpStream) -> usize {
    client.set_nonblocking(true).unwrap();
    let (mut last, mut received) = (Instant::now(), 0);
    let mut buffer = vec![0; 2000];
    run_until(&mut server.reactor, "it is cut off", |reactor| {
        if last.elapsed() > SHORT / 8 {
            last = Instant::now();
            received += client.read(&mut buffer).unwrap_or(0);
        }
        reactor.stats().closes_total() > 0
    });
    received
}

#[test]
fn a_peer_that_takes_too_little_is_cut_off_although_it_takes_some_also_while_closing() {
    for closes in [false, true] {
        let (recorder, missed) = noting(Recorder::new().open(move |conn| {
            conn.send(&pattern(12 << 20)).ignore();
            if closes {
                conn.close();
            }
        }));
        // More than the kernel takes for itself, and far less than the client reads in that time.
        let limits = patient()
            .output_bytes_max(64 << 20)
            .write_stall_timeout(2 * SHORT)
            .linger_timeout(DEADLINE)
            .output_rate_min(100 << 20);
        let mut server = Server::with_limits(recorder, limits);
        let begun = now(&mut server);
        let mut client = connect_small(server.address);
        let received = read_a_little_until_closed(&mut server, &mut client);
        let after = now(&mut server) - begun;
        assert!(after >= 2 * SHORT, "early: {after:?}");
        let (reason, asked) = match closes {
            false => (CloseReason::WriteStallTimeout, vec![Deadline::WriteStall]),
            true => (CloseReason::SlowReader, vec![]),
        };
        assert_eq!(server.calls.reasons(), [reason]);
        assert!(missed.borrow().iter().map(|(deadline, _)| *deadline).eq(asked), "{missed:?}");
        assert!(received > 0 || HAS_KERNEL);
    }
}

#[test]
fn more_time_for_output_is_more_time_for_as_many_bytes() {
    let recorder = Recorder::new().open(|conn| conn.send(&pattern(12 << 20)).ignore());
    let missed = Missed::default();
    let noted = Rc::clone(&missed);
    let recorder = recorder.deadline(move |conn, deadline| {
        noted.borrow_mut().push((deadline, conn.now()));
        (noted.borrow().len() < 3).then_some(SHORT)
    });
    let limits = patient()
        .output_bytes_max(64 << 20)
        .write_stall_timeout(2 * SHORT)
        .output_rate_min(100 << 20);
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    read_a_little_until_closed(&mut server, &mut client);
    let missed = missed.borrow();
    assert!(missed.iter().all(|(deadline, _)| *deadline == Deadline::WriteStall), "{missed:?}");
    assert_eq!(missed.len(), 3);
    assert!(missed.windows(2).all(|pair| pair[1].1 - pair[0].1 >= SHORT), "{missed:?}");
}

#[test]
fn more_time_for_output_has_nothing_to_do_with_whose_input_was_in_the_buffers_before() {
    let recorder = Recorder::new().data(|conn, data| {
        if data == b"flood" {
            conn.send(&pattern(12 << 20)).ignore();
        }
        Ok(if data == b"half" { 2 } else { data.len() })
    });
    let missed = Missed::default();
    let noted = Rc::clone(&missed);
    let recorder = recorder.deadline(move |conn, deadline| {
        noted.borrow_mut().push((deadline, conn.now()));
        (noted.borrow().len() == 1).then_some(SHORT)
    });
    let limits = patient().output_bytes_max(64 << 20).write_stall_timeout(SHORT).input_rate_min(1);
    let mut server = Server::with_limits(recorder, limits);
    let (mut first, _) = server.open();
    first.write_all(&[b'x'; 100]).unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 1);
    first.write_all(b"half").unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 2);
    first.write_all(b"more").unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 3);
    let mut client = connect_small(server.address);
    client.write_all(b"flood").unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::WriteStallTimeout]);
    assert_eq!(missed.borrow().len(), 2);
}

#[test]
fn a_peer_that_takes_a_byte_now_and_then_does_not_stay_by_default() {
    if HAS_KERNEL {
        return; // it takes its minutes
    }
    for closes in [false, true] {
        let recorder = Recorder::new().open(move |conn| {
            conn.send(&pattern(12 << 20)).ignore();
            if closes {
                conn.close();
            }
        });
        let limits = Limits::new().output_bytes_max(64 << 20).output_bytes_soft(64 << 20);
        let mut server = Server::with_limits(recorder, limits);
        let mut client = connect_small(server.address);
        client.set_nonblocking(true).unwrap();
        let begun = now(&mut server);
        let mut last = Instant::now();
        let until = begun + Duration::from_secs(150);
        while server.reactor.stats().closes_total() == 0 {
            assert!(now(&mut server) < until, "it is still there");
            server.reactor.turn(Some(100 * MS)).unwrap();
            if last.elapsed() > Duration::from_secs(1) {
                last = Instant::now();
                let _ = client.read(&mut [0; 10]);
            }
        }
    }
}

#[test]
fn bytes_for_which_a_turn_had_no_time_count_as_sent() {
    let (recorder, missed) =
        noting(Recorder::new().data(|_, data| Ok(if data.len() < 1000 { 0 } else { data.len() })));
    let limits = patient().message_timeout(SHORT).read_bytes_per_turn_max(100);
    let mut server = Server::with_limits(recorder, limits);
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 1);
    client.write_all(&[b'x'; 999]).unwrap();
    stall(2 * SHORT);
    server.until("all is shown", |calls| calls.shown().iter().any(|shown| shown.len() == 1000));
    assert_eq!(*missed.borrow(), []);
}

#[test]
fn too_much_output_may_wait_for_a_while_and_not_for_longer() {
    for recovers in [true, false] {
        if recovers && HAS_KERNEL {
            continue; // the machine may well take longer than that to read so much
        }
        let (recorder, missed) = noting(Recorder::new().open(|conn| {
            conn.send(&pattern(12 << 20)).ignore();
        }));
        let limits = patient()
            .output_bytes_max(64 << 20)
            .output_bytes_soft(6 << 20)
            .output_soft_timeout(4 * SHORT);
        let mut server = Server::with_limits(recorder, limits);
        let begun = now(&mut server);
        let mut client = connect_small(server.address);
        if recovers {
            // Down to half of the soft limit, and no further.
            server.read(&mut client, 9 << 20);
            turn_for(&mut server, 8 * SHORT);
            assert_eq!(*missed.borrow(), []);
        } else {
            server.until_closed(1);
            let (deadline, after) = only(&missed, begun);
            assert_eq!(deadline, Deadline::OutputSoft);
            assert!(after >= 4 * SHORT, "early: {after:?}");
            assert_eq!(server.calls.reasons(), [CloseReason::OutputSoftTimeout]);
        }
    }
}

#[test]
fn a_producer_that_fills_up_at_once_what_has_drained_has_the_time_of_its_output_anew() {
    // What is written and what is sent are in balance: after every turn as much waits as before it.
    const WRITTEN: usize = 100_000;
    const WAITS: usize = 105_000;
    // A simulated turn takes no time, and a machine's may take some.
    let time = if HAS_KERNEL { SHORT } else { Duration::from_micros(50) };
    let (recorder, missed) =
        noting(Recorder::new().open(|conn| conn.send(&pattern(WRITTEN + WAITS)).ignore()));
    let recorder = recorder.drained(|conn| conn.send(&pattern(WRITTEN)).ignore());
    let limits = patient()
        .write_bytes_per_turn_max(WRITTEN)
        .output_bytes_soft(64 * 1024)
        .output_soft_timeout(time);
    let mut server = Server::with_limits(recorder, limits);
    let mut client = server.connect();
    client.set_nonblocking(true).unwrap();
    let start = Instant::now();
    let mut buffer = vec![0; 256 * 1024];
    run_until(&mut server.reactor, "some time passes", |_| {
        while client.read(&mut buffer).is_ok_and(|count| count > 0) {}
        start.elapsed() > 4 * time
    });
    assert_eq!(*missed.borrow(), []);
}
