//! How long the loop waits, and how: spinning, and timers between the milliseconds.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{Limits, Wait};

const MS: Duration = Duration::from_millis(1);
const MICROS: Duration = Duration::from_micros(1);

/// What a handler does that holds the loop up.
fn hold(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {}
}

#[test]
fn a_reactor_spins_for_so_long_after_its_last_work_and_then_sleeps() {
    let limits = Limits::new().idle_timeout(Duration::MAX);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let (mut client, _) = server.open();
    server.reactor.set_wait(Wait::Spin(5 * MS));
    for _ in 0..2 {
        let start = Instant::now();
        server.assert_echoes(&mut client);
        let before = server.reactor.stats().clone();
        run_until(&mut server.reactor, "it stops spinning", |reactor| {
            reactor.next_wait() != Some(Duration::ZERO)
        });
        assert!(start.elapsed() >= 5 * MS);
        let after = server.reactor.stats().clone();
        assert!(after.spins > before.spins + 1, "{after:?}");
        if COUNTS_AS_LINUX {
            assert_eq!(after.busy_turns, before.busy_turns, "there was no work left");
        }
        assert_eq!(server.reactor.next_wait(), None);
        let spins = after.spins;
        server.reactor.turn(Some(MS)).unwrap();
        assert_eq!(server.reactor.stats().spins, spins, "it sleeps");
    }
    server.reactor.set_wait(Wait::Block);
    server.assert_echoes(&mut client);
    let spins = server.reactor.stats().spins;
    server.assert_idle();
    assert_eq!(server.reactor.stats().spins, spins);
}

#[test]
fn turns_that_only_spin_are_not_counted_among_the_turn_times() {
    let mut server = Server::new(Recorder::new());
    server.assert_idle();
    server.reactor.set_wait(Wait::Spin(Duration::MAX));
    let before = server.reactor.stats().clone();
    let _watchdog = Watchdog::new("it has spun a while");
    server.reactor.run_until(|reactor| reactor.stats().spins == before.spins + 100).unwrap();
    let after = server.reactor.stats();
    assert_eq!(after.turn_time.count(), before.turn_time.count());
}

/// Sets a timer of 300 µs again and again, and notes when it came.
fn short_timers() -> (Recorder, Rc<RefCell<Vec<Duration>>>) {
    const AFTER: Duration = Duration::from_micros(300);
    let took = Rc::<RefCell<Vec<Duration>>>::default();
    let note = Rc::clone(&took);
    let set = Rc::new(RefCell::new(Instant::now()));
    let start = Rc::clone(&set);
    let recorder = Recorder::new()
        .start(move |cx| {
            *start.borrow_mut() = Instant::now();
            cx.set_handler_timer(AFTER);
        })
        .handler_timer(move |_, cx| {
            let mut set = set.borrow_mut();
            note.borrow_mut().push(set.elapsed());
            // The timer counts from the beginning of the turn, which was before.
            *set = Instant::now();
            cx.set_handler_timer(AFTER);
        });
    (recorder, took)
}

#[test]
fn a_timer_of_300_us_fires_long_before_a_millisecond_has_passed() {
    const WINDOW: usize = 21;
    let (recorder, took) = short_timers();
    let mut server = Server::new(recorder);
    let _watchdog = Watchdog::new("a window of timers is quiet");
    loop {
        let turns = server.reactor.stats().turns;
        took.borrow_mut().clear();
        while took.borrow().len() < WINDOW {
            server.reactor.turn(None).unwrap();
        }
        let turns = server.reactor.stats().turns - turns;
        assert!(turns <= 2 * WINDOW as u64 + 1, "{turns} turns for {WINDOW} timers");
        let mut took = took.borrow_mut();
        took.sort();
        // On a busy machine a window may be late; a wait in whole milliseconds makes every one so.
        if took[WINDOW / 2] < 700 * MICROS {
            break;
        }
    }
}

#[test]
fn a_timer_between_the_milliseconds_is_never_early() {
    let late = Rc::<RefCell<Vec<Duration>>>::default();
    let fired = Rc::clone(&late);
    let mut server = Server::new(
        Recorder::new()
            .start(|cx| {
                for micros in [1, 50, 300, 999, 1000, 1001, 1500, 2999, 5300] {
                    cx.set_handler_timer(micros * MICROS);
                }
            })
            .handler_timer(move |_, cx| {
                assert_eq!(cx.stats().timer_lag.count() as usize, fired.borrow().len() + 1);
                fired.borrow_mut().push(cx.stats().timer_lag.max());
            }),
    );
    let start = Instant::now();
    let _watchdog = Watchdog::new("all timers have fired");
    while late.borrow().len() < 9 {
        server.reactor.turn(None).unwrap();
    }
    assert!(start.elapsed() >= 5300 * MICROS);
    let stats = server.reactor.stats();
    assert!(stats.turns <= 2 * 9 + 1, "two polls for a timer at the most: {stats:?}");
}

#[test]
fn events_are_seen_while_a_timer_is_waited_for_exactly() {
    let (timers, took) = short_timers();
    let mut server = Server::new(timers.data(|conn, data| {
        conn.send(data).ignore();
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    let fired = || took.borrow().len() as u64;
    let before = (server.reactor.stats().turns, fired());
    client.set_nonblocking(true).unwrap();
    const ROUNDS: u64 = 50;
    for _ in 0..ROUNDS {
        client.write_all(b"x").unwrap();
        let mut answer = [0];
        while std::io::Read::read(&mut client, &mut answer).is_err() {
            server.reactor.turn(None).unwrap();
        }
    }
    let turns = server.reactor.stats().turns - before.0;
    let timers = fired() - before.1;
    // In simulation time passes turn by turn until the bytes have arrived.
    assert!(turns <= 2 * timers + 3 * ROUNDS || !HAS_KERNEL, "{turns} turns, {timers} timers");
}

#[test]
fn a_time_out_between_the_milliseconds_ends_in_time() {
    let mut server = Server::new(Recorder::new());
    server.assert_idle();
    let mut best = Duration::MAX;
    for _ in 0..1000 {
        let start = Instant::now();
        server.reactor.turn(Some(300 * MICROS)).unwrap();
        let took = start.elapsed();
        assert!(took >= 300 * MICROS, "{took:?}");
        best = best.min(took);
        if best < 900 * MICROS {
            return;
        }
    }
    panic!("a time-out of 300 µs took {best:?} at best");
}

#[test]
fn how_long_turns_take_and_how_late_timers_are_is_counted() {
    let mut server = Server::new(Recorder::new().start(|cx| {
        cx.set_handler_timer(MS);
        hold(20 * MS);
    }));
    server.until("the timer fires", |calls| calls.all().len() == 2);
    let stats = server.reactor.stats();
    assert!(stats.turn_time.max() >= 20 * MS, "{stats:?}");
    assert_eq!(stats.timer_lag.count(), 1);
    assert!(stats.timer_lag.max() >= 19 * MS, "{stats:?}");
    assert!((2..=stats.turns).contains(&stats.turn_time.count()), "{stats:?}");
    server.assert_idle();
    let stats = server.reactor.stats();
    assert!(stats.turn_time.count() < stats.turns, "idle turns are not counted: {stats:?}");
}

#[test]
fn what_happens_between_turns_is_not_their_time() {
    if HAS_KERNEL {
        return; // where a turn can take long by itself
    }
    let mut server = Server::new(Recorder::echo());
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    hold(20 * MS);
    server.read(&mut client, 1);
    assert!(server.reactor.stats().turn_time.max() < MS);
    // In a run it is: whoever holds the loop up between two turns does hold it up.
    let mut held = 0;
    client.write_all(b"x").unwrap();
    server
        .reactor
        .run_until(|_| {
            hold(5 * MS);
            held += 1;
            held > 3
        })
        .unwrap();
    assert!(server.reactor.stats().turn_time.max() >= 5 * MS);
}
