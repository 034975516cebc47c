//! Timers that fire once: when, in which order, and when not.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Key, Limits, ListenOptions, ReactorLimits, TimerId};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_timer_fires_once_and_never_early() {
    let times = Rc::<RefCell<Vec<_>>>::default();
    let (set, fired) = (Rc::clone(&times), Rc::clone(&times));
    let mut server = Server::new(
        Recorder::new()
            .open(move |conn| {
                set.borrow_mut().push((conn.now(), Instant::now()));
                conn.set_timer(20 * MS);
            })
            .timer(move |conn, _| fired.borrow_mut().push((conn.now(), Instant::now()))),
    );
    let (_client, _) = server.open();
    run_until(&mut server.reactor, "the timer fires", |_| times.borrow().len() == 2);
    server.assert_idle();
    let times = times.borrow();
    assert_eq!(times.len(), 2);
    assert!(times[1].0 - times[0].0 >= 20 * MS, "{times:?}");
}

#[test]
fn timers_wake_a_reactor_that_waits_for_ever() {
    // `turn(None)` has nothing else that would end its wait.
    let mut server = Server::new(Recorder::new().start(|cx| {
        cx.set_handler_timer(900 * MS / 1000);
        cx.set_handler_timer(5 * MS);
    }));
    let calls = server.calls.clone();
    let fired = || calls.count(|call| matches!(call, Call::HandlerTimer(_)));
    let _watchdog = Watchdog::new("both timers have fired");
    while fired() < 2 {
        server.reactor.turn(None).unwrap();
    }
    let stats = server.reactor.stats();
    assert!(stats.turns <= 6, "a wait that is rounded down spins: {stats:?}");
}

#[test]
fn due_timers_fire_in_the_order_of_their_times() {
    let ids = Rc::<RefCell<Vec<TimerId>>>::default();
    let set = Rc::clone(&ids);
    let mut server = Server::new(Recorder::new().start(move |cx| {
        for after in [3, 1, 2, 1] {
            set.borrow_mut().push(cx.set_handler_timer(after * MS));
        }
    }));
    server.until("four have fired", |calls| calls.all().len() == 5);
    let ids = ids.borrow();
    let expected = [1, 3, 2, 0].map(|i: usize| Call::HandlerTimer(ids[i]));
    assert_eq!(server.calls.all()[1..], expected);
}

#[test]
fn a_cancelled_timer_does_not_fire() {
    let timer = Rc::new(Cell::new(None));
    let set = Rc::clone(&timer);
    let recorder = Recorder::new().open(move |conn| {
        set.set(Some(conn.set_timer(MS)));
        let at_once = conn.set_timer(Duration::ZERO);
        assert!(conn.cancel_timer(at_once));
        assert!(!conn.cancel_timer(at_once));
    });
    let mut server = Server::with_limits(recorder, Limits::new().idle_timeout(Duration::MAX));
    let (_client, _) = server.open();
    // Between the turns, and perhaps after it has become due.
    let is_live = server.reactor.context(server.handler).cancel_timer(timer.get().unwrap());
    let fired = server.calls.count(|call| matches!(call, Call::Timer(..)));
    assert_eq!(usize::from(is_live) + fired, 1);
    server.assert_idle();
    assert_eq!(server.calls.count(|call| matches!(call, Call::Timer(..))), fired);
    assert_eq!(server.reactor.next_wait(), None);
}

#[test]
fn a_timer_can_cancel_another_one_that_is_due_in_the_same_turn() {
    let timers = Rc::<RefCell<Vec<TimerId>>>::default();
    let (set, fired) = (Rc::clone(&timers), Rc::clone(&timers));
    let mut server = Server::new(
        Recorder::new()
            .start(move |cx| {
                *set.borrow_mut() = (0..2).map(|_| cx.set_handler_timer(MS)).collect();
            })
            .handler_timer(move |timer, cx| {
                for other in fired.borrow().iter().filter(|other| **other != timer) {
                    assert!(cx.cancel_timer(*other));
                }
            }),
    );
    server.until("one fires", |calls| calls.all().len() == 2);
    server.assert_idle();
    assert_eq!(server.calls.all().len(), 2);
}

#[test]
fn a_timer_that_a_timer_sets_for_now_fires_in_the_next_turn() {
    let turns = Rc::<RefCell<Vec<u64>>>::default();
    let fired = Rc::clone(&turns);
    let mut server = Server::new(
        Recorder::new()
            .open(|conn| {
                conn.set_timer(Duration::ZERO);
            })
            .timer(move |conn, _| {
                fired.borrow_mut().push(conn.stats().turns);
                if fired.borrow().len() < 4 {
                    conn.set_timer(Duration::ZERO);
                }
            }),
    );
    let (_client, _) = server.open();
    run_until(&mut server.reactor, "four have fired", |_| turns.borrow().len() == 4);
    assert!(turns.borrow().windows(2).all(|pair| pair[1] == pair[0] + 1), "{turns:?}");
    server.assert_idle();
}

#[test]
fn a_timer_of_a_connection_that_ended_never_fires() {
    let timer = Rc::new(Cell::new(None));
    let set = Rc::clone(&timer);
    let mut server = Server::new(Recorder::new().open(move |conn| {
        set.set(Some(conn.set_timer(30 * MS)));
    }));
    let (client, key) = server.open();
    let of_the_first = timer.get().unwrap();
    drop(client);
    server.until_closed(1);
    let mut cx = server.reactor.context(server.handler);
    assert!(!cx.rearm_timer(of_the_first, MS), "it ended with its connection");
    assert!(!cx.cancel_timer(of_the_first));
    // Another connection takes the slot before the moment comes.
    let (_client, other) = server.open();
    assert_ne!(key, other);
    let its_own = timer.get().unwrap();
    server.until("the other one's fires", |calls| calls.has(&Call::Timer(other, its_own)));
    server.assert_idle();
    assert_eq!(server.calls.count(|call| matches!(call, Call::Timer(..))), 1);
}

#[test]
fn a_timer_of_a_closing_connection_never_fires() {
    let mut server = Server::new(Recorder::new().open(|conn| {
        conn.set_timer(Duration::ZERO);
        conn.set_timer(2 * MS);
        conn.close();
    }));
    let (client, _) = server.open();
    for _ in 0..4 {
        server.reactor.turn(Some(2 * MS)).unwrap();
    }
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Timer(..))), 0);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed]);
}

#[test]
fn a_timer_for_never_does_not_fire_and_is_no_deadline() {
    let mut server = Server::new(Recorder::new().start(|cx| {
        cx.set_handler_timer(Duration::MAX);
        cx.set_handler_timer(Duration::from_nanos(u64::MAX));
    }));
    server.assert_idle();
    assert_eq!(server.calls.all(), [Call::Start]);
    assert_eq!(server.reactor.next_wait(), None);
}

#[test]
fn the_time_stands_still_within_a_turn() {
    // Through the phases, however slow the callbacks are.
    let times = Rc::<RefCell<Vec<_>>>::default();
    let [on_data, on_timer, on_poke] = std::array::from_fn(|_| {
        let times = Rc::clone(&times);
        move |cx: &oneloop::Context<'_>| {
            times.borrow_mut().push((cx.stats().turns, cx.now()));
            let start = Instant::now();
            while start.elapsed() < 2 * MS {}
        }
    });
    let mut server = Server::new(
        Recorder::new()
            .data(move |conn, data| {
                on_data(conn);
                conn.set_timer(Duration::ZERO);
                conn.set_timer(MS);
                let key = conn.key();
                conn.poke(key);
                Ok(data.len())
            })
            .timer(move |conn, _| on_timer(conn))
            .poke(move |conn| on_poke(conn)),
    );
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    run_until(&mut server.reactor, "all four calls", |_| times.borrow().len() == 4);
    let times = times.borrow();
    assert!(times[..3].iter().all(|time| *time == times[0]), "{times:?}");
    assert!(times[3].0 > times[0].0 && times[3].1 - times[0].1 >= MS, "{times:?}");
}

/// With it a reactor can be a part of another loop.
#[test]
fn next_wait_is_how_long_a_turn_may_wait() {
    let mut reactor = Reactor::new().unwrap();
    assert_eq!(reactor.next_wait(), None, "nothing to wait for");
    let handler = reactor.add(Recorder::new());
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO), "on_start is due");
    let _watchdog = Watchdog::new("on_start has come");
    reactor.turn(None).unwrap();
    let hour = Duration::from_secs(3600);
    reactor.context(handler).set_handler_timer(hour);
    let wait = reactor.next_wait().unwrap();
    assert!(wait > hour - Duration::from_secs(10) && wait <= hour, "{wait:?}");
}

#[test]
fn a_thousand_timers_of_one_moment_fire_in_the_order_of_setting() {
    let (timers, set) = noted::<TimerId>();
    let recorder = Recorder::new().start(move |cx| {
        *set.borrow_mut() = (0..1000).map(|_| cx.set_handler_timer(3 * MS)).collect();
    });
    // More than fire in one turn.
    let limits = ReactorLimits::new().connections_max(16).timers_per_turn_max(300);
    let mut server = Server::with(recorder, &ListenOptions::new(), limits);
    server.until("all have fired", |calls| calls.all().len() == 1001);
    let expected =
        timers.borrow().iter().map(|timer| Call::HandlerTimer(*timer)).collect::<Vec<_>>();
    assert!(server.calls.all()[1..] == expected);
}

#[test]
fn durations_at_the_end_of_time_are_no_moments() {
    let ever = [Duration::MAX, Duration::MAX / 2, Duration::from_nanos(u64::MAX)];
    let recorder = Recorder::new().open(move |conn| {
        for ever in ever {
            conn.set_timer(ever);
            conn.set_interval(ever);
            conn.set_handler_timer(ever);
            conn.set_handler_interval(ever);
            let timer = conn.set_timer(ever);
            assert!(conn.rearm_timer(timer, ever));
            // Put off when it comes up, for ever.
            let timer = conn.set_timer(MS);
            assert!(conn.rearm_timer(timer, ever));
            // Due at once, and then never again.
            let timer = conn.set_interval(ever);
            assert!(conn.rearm_timer(timer, Duration::ZERO));
        }
    });
    let mut server = Server::with_limits(recorder, Limits::new().idle_timeout(Duration::MAX));
    let (_client, _) = server.open();
    server.until("those that are moved to now have fired", |calls| {
        calls.count(|call| matches!(call, Call::Timer(..))) == 3
    });
    run_until(&mut server.reactor, "nothing is to come", |reactor| reactor.next_wait().is_none());
    server.assert_idle();
    assert_eq!(
        server.calls.count(|call| matches!(call, Call::Timer(..) | Call::HandlerTimer(_))),
        3
    );
}

#[test]
fn a_timer_of_a_connection_that_is_closed_in_the_same_batch_does_not_fire() {
    for is_abort in [true, false] {
        let (keys, opened) = noted::<Key>();
        let others = Rc::clone(&keys);
        let recorder = Recorder::new()
            .open(move |conn| {
                opened.borrow_mut().push(conn.key());
                conn.set_timer(2 * MS);
                conn.set_interval(2 * MS);
                if opened.borrow().len() == 2 {
                    stall(5 * MS); // all four are due in the next turn
                }
            })
            .timer(move |conn, _| {
                for key in others.borrow().iter() {
                    if is_abort { conn.abort_key(*key) } else { conn.close_key(*key) }
                }
            });
        let mut server = Server::new(recorder);
        let _clients = [server.connect(), server.connect()];
        server.until("one has fired", |calls| {
            calls.count(|call| matches!(call, Call::Timer(..))) == 1
        });
        assert_eq!(keys.borrow().len(), 2);
        for _ in 0..5 {
            server.reactor.turn(Some(2 * MS)).unwrap();
        }
        assert_eq!(server.calls.count(|call| matches!(call, Call::Timer(..))), 1);
        server.calls.check();
    }
}
