//! Deadlines of connections: what each is about, what puts it off, and how it ends.

mod support;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, Deadline, Limits, Time};
use support::*;

const MS: Duration = Duration::from_millis(1);
/// Long for loopback, short for a person.
const SHORT: Duration = Duration::from_millis(40);

/// Limits under which a connection waits for ever, and one that closes hardly lingers.
fn patient() -> Limits {
    Limits::new()
        .idle_timeout(Duration::MAX)
        .message_timeout(Duration::MAX)
        .write_stall_timeout(Duration::MAX)
        .output_soft_timeout(Duration::MAX)
        .linger_timeout(10 * MS)
}

/// Deadlines that were missed, and when.
type Missed = Rc<RefCell<Vec<(Deadline, Time)>>>;

/// Has the recorder note what it misses.
fn noting(recorder: Recorder) -> (Recorder, Missed) {
    let missed = Missed::default();
    let noted = Rc::clone(&missed);
    let recorder = recorder.deadline(move |conn, deadline| {
        noted.borrow_mut().push((deadline, conn.now()));
        None
    });
    (recorder, missed)
}

/// What the only connection missed, and how long after `since`.
fn only(missed: &Missed, since: Time) -> (Deadline, Duration) {
    let missed = missed.borrow();
    assert_eq!(missed.len(), 1, "{missed:?}");
    (missed[0].0, missed[0].1 - since)
}

/// Turns the reactor for a while.
fn turn_for(server: &mut Server, duration: Duration) {
    let start = Instant::now();
    run_until(&mut server.reactor, "some time passes", |_| start.elapsed() >= duration);
}

fn now(server: &mut Server) -> Time {
    let handler = server.handler;
    server.reactor.context(handler).now()
}

#[test]
fn a_connection_that_says_nothing_and_is_told_nothing_is_idle() {
    let (recorder, missed) = noting(Recorder::echo());
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let opened = now(&mut server);
    let (_client, _) = server.open();
    server.until_closed(1);
    let (deadline, after) = only(&missed, opened);
    assert_eq!(deadline, Deadline::Idle);
    assert!(after >= SHORT, "early: {after:?}");
    assert_eq!(server.calls.reasons(), [CloseReason::IdleTimeout]);
    assert_eq!(server.reactor.stats().closes(CloseReason::IdleTimeout), 1);
}

#[test]
fn bytes_in_either_direction_put_the_idle_deadline_off() {
    for is_client_talking in [true, false] {
        let recorder = Recorder::new().timer(|conn, _| conn.send(b"tick").ignore());
        let recorder = recorder.open(move |conn| {
            if !is_client_talking {
                conn.set_interval(SHORT / 4);
            }
        });
        let (recorder, missed) = noting(recorder);
        let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
        let (mut client, _) = server.open();
        for _ in 0..12 {
            if is_client_talking {
                client.write_all(b"tick").unwrap();
            }
            turn_for(&mut server, SHORT / 4);
        }
        // A machine that stops for so long makes the connection really idle; that is not this test's
        // matter, and on a simulated one it does not happen.
        assert!(missed.borrow().is_empty() || HAS_KERNEL, "{missed:?}");
    }
}

#[test]
fn the_idle_deadline_counts_from_the_last_byte() {
    let last = Rc::new(Cell::new(Time::default()));
    let noted = Rc::clone(&last);
    let (recorder, missed) = noting(Recorder::new().data(move |conn, data| {
        noted.set(conn.now());
        Ok(data.len())
    }));
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (mut client, _) = server.open();
    turn_for(&mut server, SHORT / 2);
    client.write_all(b"x").unwrap();
    server.until_closed(1);
    let (_, after) = only(&missed, last.get());
    assert!(after >= SHORT, "early: {after:?}");
}

#[test]
fn the_idle_deadline_rests_during_a_pause_and_counts_from_its_end() {
    let (recorder, missed) = noting(Recorder::echo().open(|conn| conn.pause()));
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, key) = server.open();
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(*missed.borrow(), []);
    let resumed = now(&mut server);
    server.reactor.context(server.handler).resume_key(key);
    server.until_closed(1);
    let (deadline, after) = only(&missed, resumed);
    assert_eq!(deadline, Deadline::Idle);
    assert!(after >= SHORT, "early: {after:?}");
}

#[test]
fn a_peer_that_half_closed_and_stays_is_idle_in_the_end() {
    let recorder = Recorder::echo().peer_closed(|_| {});
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (client, _) = server.open();
    client.shutdown(Shutdown::Write).unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::IdleTimeout]);
}

#[test]
fn a_client_has_to_send_a_first_byte_in_time() {
    let (recorder, missed) = noting(Recorder::echo().open(|conn| conn.send(b"hello?").ignore()));
    let mut server = Server::with_limits(recorder, patient().first_byte_timeout(SHORT));
    let opened = now(&mut server);
    let (_silent, _) = server.open();
    let (mut talking, key) = server.open();
    talking.write_all(b"x").unwrap();
    server.until_closed(1);
    let (deadline, after) = only(&missed, opened);
    assert_eq!(deadline, Deadline::FirstByte);
    assert!(after >= SHORT, "early: {after:?}");
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(server.calls.reasons(), [CloseReason::FirstByteTimeout]);
    assert!(server.reactor.context(server.handler).is_open(key), "who spoke stays");
}

#[test]
fn the_deadline_for_the_first_byte_counts_from_the_end_of_an_answer_that_had_to_wait() {
    // As long as the peer takes nothing it is not listened to either.
    let drained = Rc::new(Cell::new(Time::default()));
    let noted = Rc::clone(&drained);
    let size = 12 << 20;
    let recorder = Recorder::echo()
        .open(move |conn| conn.send(&pattern(size)).ignore())
        .drained(move |conn| noted.set(conn.now()));
    let (recorder, missed) = noting(recorder);
    let limits = patient().output_bytes_max(2 * size).first_byte_timeout(SHORT);
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    server.until("it is open", |calls| calls.opened().len() == 1);
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(*missed.borrow(), []);
    server.read(&mut client, size);
    server.until("it misses a deadline", |_| !missed.borrow().is_empty());
    let (deadline, after) = only(&missed, drained.get());
    assert_eq!(deadline, Deadline::FirstByte);
    assert!(after >= SHORT, "early: {after:?}");
}

#[test]
fn a_message_that_drips_in_for_too_long_is_cut_off() {
    let (recorder, missed) = noting(Recorder::new().data(|_, _| Ok(0)));
    let limits = patient().message_timeout(SHORT).idle_timeout(SHORT);
    let mut server = Server::with_limits(recorder, limits);
    let (mut client, key) = server.open();
    let begun = now(&mut server);
    let calls = server.calls.clone();
    let mut last = Instant::now();
    client.write_all(b"x").unwrap();
    run_until(&mut server.reactor, "it is cut off", |_| {
        if last.elapsed() > SHORT / 8 && calls.closed().is_empty() {
            last = Instant::now();
            let _ = client.write(b"x");
        }
        calls.has(&Call::Deadline(key, Deadline::Message))
    });
    let (_, after) = only(&missed, begun);
    assert!(after >= SHORT, "early: {after:?}");
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::MessageTimeout]);
}

#[test]
fn each_message_has_its_own_time() {
    // One byte of each piece is left: the beginning of the next message.
    let (recorder, missed) = noting(Recorder::new().data(|_, data| Ok(data.len() - 1)));
    let mut server = Server::with_limits(recorder, patient().message_timeout(SHORT));
    let (mut client, _) = server.open();
    let start = Instant::now();
    let mut last = start;
    while start.elapsed() < 3 * SHORT && missed.borrow().is_empty() {
        client.write_all(b"abc").unwrap();
        let shown = server.calls.shown().len();
        server.until("it is shown", |calls| calls.shown().len() > shown);
        last = Instant::now();
        turn_for(&mut server, SHORT / 4);
    }
    server.until_closed(1);
    assert_eq!(missed.borrow().len(), 1);
    assert!(last.elapsed() >= SHORT || HAS_KERNEL, "the last one had the whole time");
    assert!(start.elapsed() >= 3 * SHORT || HAS_KERNEL, "those before were none too long");
}

#[test]
fn a_message_that_was_consumed_leaves_no_deadline() {
    let is_first = Cell::new(true);
    let (recorder, missed) = noting(
        Recorder::new()
            .data(move |_, data| Ok(if is_first.replace(false) { 0 } else { data.len() })),
    );
    let mut server = Server::with_limits(recorder, patient().message_timeout(SHORT));
    let (mut client, _) = server.open();
    client.write_all(b"a").unwrap();
    server.until("the half is shown", |calls| calls.shown().len() == 1);
    client.write_all(b"b").unwrap();
    server.until("the whole is shown", |calls| calls.shown().len() == 2);
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(*missed.borrow(), []);
}

#[test]
fn the_deadline_of_a_message_rests_while_the_handler_does_not_want_it() {
    let (recorder, missed) = noting(Recorder::new().data(|conn, _| {
        conn.pause();
        Ok(0)
    }));
    let mut server = Server::with_limits(recorder, patient().message_timeout(SHORT));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 1);
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(*missed.borrow(), []);
}

#[test]
fn a_message_that_comes_too_slowly_is_cut_off_and_one_that_is_fast_enough_is_not() {
    // 10 bytes each 5 ms are 2,000 a second.
    for (rate, is_too_slow) in [(20_000, true), (500, false)] {
        let (recorder, missed) = noting(Recorder::new().data(|_, _| Ok(0)));
        let limits = patient().input_rate_min(rate).input_rate_grace(SHORT / 2);
        let mut server = Server::with_limits(recorder, limits);
        let (mut client, _) = server.open();
        let begun = now(&mut server);
        let mut last = Instant::now();
        let start = last;
        client.write_all(&[b'x'; 50]).unwrap();
        run_until(&mut server.reactor, "it ends", |_| {
            if last.elapsed() >= 5 * MS {
                last = Instant::now();
                let _ = client.write(&[b'x'; 10]);
            }
            !missed.borrow().is_empty() || start.elapsed() > 5 * SHORT
        });
        if is_too_slow {
            let (deadline, after) = only(&missed, begun);
            assert_eq!(deadline, Deadline::InputRate);
            assert!(after >= SHORT / 2, "early: {after:?}");
            drop(client);
            server.until_closed(1);
            assert_eq!(server.calls.reasons(), [CloseReason::InputTooSlow]);
        } else {
            assert_eq!(*missed.borrow(), []);
        }
    }
}

#[test]
fn a_peer_that_takes_nothing_is_cut_off() {
    let (recorder, missed) = noting(Recorder::new().open(|conn| {
        conn.send(&pattern(12 << 20)).ignore();
    }));
    let limits =
        patient().output_bytes_max(64 << 20).write_stall_timeout(SHORT).linger_timeout(DEADLINE);
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
fn more_time_is_what_the_handler_says_also_when_it_says_something_to_the_peer() {
    let times = Rc::<RefCell<Vec<Time>>>::default();
    let noted = Rc::clone(&times);
    let recorder = Recorder::echo().deadline(move |conn, _| {
        noted.borrow_mut().push(conn.now());
        conn.send(b"still there?").ignore();
        (noted.borrow().len() == 1).then_some(SHORT / 4)
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(2 * SHORT));
    let (_client, _) = server.open();
    server.until_closed(1);
    let (asked, ended) = (times.borrow()[0], times.borrow()[1]);
    assert!(ended - asked >= SHORT / 4);
    assert!(ended - asked < 2 * SHORT || HAS_KERNEL, "{:?}", ended - asked);
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
fn a_handler_may_give_more_time_and_is_asked_again() {
    let asked = Rc::<RefCell<Vec<Time>>>::default();
    let noted = Rc::clone(&asked);
    let recorder = Recorder::echo().deadline(move |conn, _| {
        noted.borrow_mut().push(conn.now());
        (noted.borrow().len() < 3).then_some(SHORT / 2)
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, _) = server.open();
    server.until_closed(1);
    let asked = asked.borrow();
    assert_eq!(asked.len(), 3);
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= SHORT / 2), "{asked:?}");
    assert_eq!(server.calls.reasons(), [CloseReason::IdleTimeout]);
}

#[test]
fn more_time_holds_for_every_deadline() {
    let patience = patient()
        .idle_timeout(SHORT)
        .first_byte_timeout(SHORT)
        .message_timeout(SHORT)
        .write_stall_timeout(SHORT)
        .output_soft_timeout(SHORT)
        .output_bytes_soft(1 << 20)
        .output_bytes_max(64 << 20)
        .input_rate_min(1_000_000)
        .input_rate_grace(SHORT / 2);
    let missed = Missed::default();
    let noted = Rc::clone(&missed);
    let recorder = Recorder::new()
        .open(|conn| conn.expect_within(SHORT))
        .data(|conn, _| {
            conn.send(&pattern(12 << 20)).ignore();
            Ok(0)
        })
        .deadline(move |conn, deadline| {
            noted.borrow_mut().push((deadline, conn.now()));
            Some(100 * DEADLINE)
        });
    let mut server = Server::with_limits(recorder, patience);
    let (_silent, _) = server.open();
    let mut client = connect_small(server.address);
    client.write_all(b"x").unwrap();
    server.until("all are missed", |_| missed.borrow().len() >= 6);
    turn_for(&mut server, 2 * SHORT);
    assert!(server.calls.closed().is_empty());
    let mut kinds: Vec<_> = missed.borrow().iter().map(|(deadline, _)| *deadline).collect();
    kinds.sort_by_key(|deadline| format!("{deadline:?}"));
    use Deadline::*;
    // What the other one has to say rests, because its output is over the high watermark. Who is given
    // more time to be idle has it until something moves, which a little output may.
    kinds.retain(|deadline| *deadline != Idle);
    assert_eq!(kinds, [Expect, Expect, OutputSoft, WriteStall], "once each");
}

#[test]
fn no_more_time_is_none() {
    let recorder = Recorder::echo().deadline(|_, _| Some(Duration::ZERO));
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, _) = server.open();
    server.until_closed(1);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Deadline(..))), 1);
}

#[test]
fn a_last_word_reaches_the_peer() {
    let recorder = Recorder::echo().deadline(|conn, deadline| {
        conn.send(format!("bye: {deadline}").as_bytes()).ignore();
        None
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (mut client, _) = server.open();
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received.as_slice(), error), (b"bye: idle for too long".as_slice(), None));
}

#[test]
fn a_handler_that_closes_at_a_deadline_has_its_own_reason() {
    for reason in [CloseReason::Closed, CloseReason::Aborted] {
        let recorder = Recorder::echo().deadline(move |conn, _| {
            if reason == CloseReason::Closed {
                conn.close()
            } else {
                conn.abort()
            }
            None
        });
        let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
        let (_client, _) = server.open();
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [reason]);
    }
}

#[test]
fn a_panic_at_a_deadline_ends_its_connection_only() {
    let first = Rc::new(Cell::new(None));
    let panics = Rc::clone(&first);
    let recorder = Recorder::echo().deadline(move |conn, _| {
        assert_ne!(Some(conn.key()), panics.get(), "no patience");
        Some(DEADLINE)
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, key) = server.open();
    first.set(Some(key));
    let (mut other, _) = server.open();
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::Panicked]);
    server.assert_echoes(&mut other);
}

#[test]
fn what_the_handler_expects_has_to_happen_in_time() {
    let recorder = Recorder::new().open(|conn| conn.expect_within(SHORT));
    let (recorder, missed) = noting(recorder.data(|conn, data| {
        match data[0] {
            b'n' => conn.expect_nothing(),
            b'l' => conn.expect_within(4 * SHORT),
            b'e' => conn.expect_within(SHORT / 4),
            _ => {}
        }
        Ok(data.len())
    }));
    let mut server = Server::with_limits(recorder, patient());
    for (word, least) in
        [("", SHORT), ("other", SHORT), ("later", 4 * SHORT), ("earlier", SHORT / 4)]
    {
        let opened = now(&mut server);
        let (mut client, _) = server.open();
        client.write_all(word.as_bytes()).unwrap();
        server.until("it is missed", |_| !missed.borrow().is_empty());
        let (deadline, after) = only(&missed, opened);
        assert_eq!(deadline, Deadline::Expect);
        assert!(after >= least, "{word}: early: {after:?}");
        assert!(word != "earlier" || after < SHORT || HAS_KERNEL, "late: {after:?}");
        missed.borrow_mut().clear();
    }
    let (mut client, _) = server.open();
    client.write_all(b"nothing").unwrap();
    turn_for(&mut server, 3 * SHORT);
    assert!(missed.borrow().is_empty() || HAS_KERNEL);
    assert!(server.calls.reasons().iter().all(|reason| *reason == CloseReason::ExpectTimeout));
}

#[test]
fn other_limits_hold_from_when_they_are_set() {
    let shorter = Rc::new(patient().idle_timeout(SHORT));
    let (recorder, missed) = noting(Recorder::new().data(move |conn, data| {
        conn.set_limits(&shorter);
        assert_eq!(conn.limits(), &shorter);
        Ok(data.len())
    }));
    let mut server = Server::with_limits(recorder, patient());
    let (mut client, _) = server.open();
    turn_for(&mut server, SHORT / 2);
    client.write_all(b"x").unwrap();
    server.until_closed(1);
    assert_eq!(missed.borrow()[0].0, Deadline::Idle);
}

#[test]
fn a_deadline_for_ever_is_none() {
    for ever in [Duration::MAX, Duration::MAX / 2, Duration::from_nanos(u64::MAX)] {
        let limits = patient().idle_timeout(ever).first_byte_timeout(ever);
        let mut server = Server::with_limits(Recorder::echo(), limits);
        let (mut client, _) = server.open();
        server.assert_echoes(&mut client);
        server.assert_idle();
        assert_eq!(server.reactor.next_wait(), None);
    }
}

#[test]
fn a_connection_that_ends_takes_its_deadlines_along() {
    let mut server = Server::with_limits(Recorder::echo(), patient().idle_timeout(SHORT));
    for _ in 0..3 {
        let (client, _) = server.open();
        drop(client);
    }
    server.until_closed(3);
    server.assert_idle();
    assert_eq!(server.reactor.next_wait(), None);
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Deadline(..))), 0);
}

#[test]
fn more_time_for_ever_ends_with_the_traffic_that_follows_it() {
    // Which goes the short way, that looks at no deadline.
    for more in [Duration::MAX, Duration::MAX / 2, 1000 * DEADLINE] {
        let is_first = Cell::new(true);
        let recorder =
            Recorder::echo().deadline(move |_, _| is_first.replace(false).then_some(more));
        let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
        let (mut client, key) = server.open();
        server.until("more time is given", |calls| calls.has(&Call::Deadline(key, Deadline::Idle)));
        turn_for(&mut server, 2 * SHORT);
        server.assert_echoes(&mut client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::IdleTimeout]);
    }
}

#[test]
fn more_time_is_kept_without_looking_at_the_clock_all_the_while() {
    // However short the timeout is.
    for timeout in [Duration::from_nanos(1), Duration::from_micros(100)] {
        let (asked, noted) = (Rc::<Cell<Option<Time>>>::default(), Rc::<Cell<_>>::default());
        let first = Rc::clone(&noted);
        let noting = Rc::clone(&asked);
        let recorder = Recorder::new().deadline(move |conn, _| {
            if noting.replace(Some(conn.now())).is_some() {
                return None;
            }
            first.set(Some(conn.now()));
            Some(SHORT)
        });
        let mut server = Server::with_limits(recorder, patient().idle_timeout(timeout));
        let _client = server.connect();
        server.until("it is asked", |_| noted.get().is_some());
        let turns = server.reactor.stats().turns;
        server.until_closed(1);
        assert!(asked.get().unwrap() - noted.get().unwrap() >= SHORT, "early");
        let turns = server.reactor.stats().turns - turns;
        assert!(turns < 100, "{turns} turns in {SHORT:?}, of 2 ms at the most");
    }
}

#[test]
fn more_time_counts_from_now_also_under_limits_that_were_set_with_it() {
    let (asked, noted) = (Missed::default(), Rc::new(patient().idle_timeout(SHORT / 4)));
    let noting = Rc::clone(&asked);
    let recorder = Recorder::new().deadline(move |conn, deadline| {
        noting.borrow_mut().push((deadline, conn.now()));
        conn.set_limits(&noted);
        (noting.borrow().len() == 1).then_some(SHORT)
    });
    let mut server = Server::with_limits(recorder, patient().idle_timeout(SHORT));
    let (_client, _) = server.open();
    server.until_closed(1);
    let asked = asked.borrow();
    assert!(asked[1].1 - asked[0].1 >= SHORT, "early: {asked:?}");
}

#[test]
fn what_is_expected_no_longer_is_not_given_more_time() {
    let recorder = Recorder::new().open(|conn| conn.expect_within(SHORT));
    let recorder = recorder.deadline(|conn, _| {
        conn.expect_nothing();
        Some(SHORT / 2)
    });
    let mut server = Server::with_limits(recorder, patient());
    let (_client, _) = server.open();
    turn_for(&mut server, 3 * SHORT);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Deadline(..))), 1);
    assert_eq!(server.calls.closed(), []);
}

#[test]
fn a_pause_takes_nothing_from_the_time_of_a_peer() {
    // For its first byte, or for the rest of what it has begun to say.
    for (begins, deadline) in [("", Deadline::FirstByte), ("x", Deadline::Message)] {
        let is_first = Cell::new(true);
        let (recorder, missed) = noting(
            Recorder::new()
                .open(move |conn| {
                    if begins.is_empty() {
                        conn.pause();
                    }
                })
                .data(move |conn, _| {
                    if is_first.replace(false) {
                        conn.pause();
                    }
                    Ok(0)
                }),
        );
        let limits = patient().first_byte_timeout(SHORT).message_timeout(SHORT);
        let mut server = Server::with_limits(recorder, limits);
        let (mut client, key) = server.open();
        client.write_all(begins.as_bytes()).unwrap();
        turn_for(&mut server, 2 * SHORT);
        assert_eq!(*missed.borrow(), []);
        let resumed = now(&mut server);
        server.reactor.context(server.handler).resume_key(key);
        server.until_closed(1);
        let (missed, after) = only(&missed, resumed);
        assert_eq!(missed, deadline);
        // The message had a little of its time before.
        let rest = if begins.is_empty() { SHORT } else { SHORT / 2 };
        assert!(after >= rest, "early: {after:?}");
    }
}

#[test]
fn output_that_is_not_taken_takes_nothing_from_the_time_of_a_message() {
    // It is not read from meanwhile.
    let (recorder, missed) = noting(Recorder::new().data(|conn, data| {
        if conn.bytes_out() == 0 {
            conn.send(&pattern(12 << 20)).ignore();
        }
        Ok(data.len() - 1)
    }));
    let drained = Rc::new(Cell::new(Time::default()));
    let noted = Rc::clone(&drained);
    let recorder = recorder.drained(move |conn| noted.set(conn.now()));
    let limits = patient().output_bytes_max(64 << 20).message_timeout(SHORT);
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    client.write_all(b"ab").unwrap();
    server.until("it is shown", |calls| !calls.shown().is_empty());
    turn_for(&mut server, 2 * SHORT);
    assert_eq!(*missed.borrow(), []);
    server.read(&mut client, 12 << 20);
    server.until_closed(1);
    let (missed, after) = only(&missed, drained.get());
    assert_eq!(missed, Deadline::Message);
    assert!(after >= SHORT / 2, "early: {after:?}");
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
