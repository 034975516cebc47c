//! The deadlines of a message: it has to end in time, and to come fast enough.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use crate::support::deadline::*;
use crate::support::*;
use oneloop::{CloseReason, Deadline, Time};

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
    let mut cases = vec![(500, false), (20_000, true)];
    let first = Instant::now();
    while let Some((rate, is_too_slow)) = cases.pop() {
        let (recorder, missed) = noting(Recorder::new().data(|_, _| Ok(0)));
        let limits = patient().input_rate_min(rate).input_rate_grace(SHORT / 2);
        let mut server = Server::with_limits(recorder, limits);
        let (mut client, _) = server.open();
        let begun = now(&mut server);
        let mut last = Instant::now();
        let start = last;
        let (mut sent, mut was_held_up) = (50, false);
        client.write_all(&[b'x'; 50]).unwrap();
        run_until(&mut server.reactor, "it ends", |_| {
            was_held_up |= sent < start.elapsed().as_millis(); // 1,000 a second
            if last.elapsed() >= 5 * MS {
                last = Instant::now();
                sent += 10;
                let _ = client.write(&[b'x'; 10]);
            }
            !missed.borrow().is_empty() || start.elapsed() > 5 * SHORT
        });
        if !is_too_slow && was_held_up && first.elapsed() < DEADLINE {
            cases.push((rate, is_too_slow)); // this thread was kept from sending that fast
            continue;
        }
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
