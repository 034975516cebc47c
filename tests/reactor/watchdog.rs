//! Who holds the loop up is found out.

use std::io::Write;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::datagrams::*;
use crate::support::*;
use oneloop::{ConnectOptions, Limits, TimerId};

const MS: Duration = Duration::from_millis(1);

/// What a handler does that holds the loop up.
fn hold(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {}
}

/// A server that takes a while for every message, and its slow turns and slow callbacks after some.
fn slow_after(messages: usize, arrange: impl FnOnce(&mut Reactor)) -> Vec<(u64, u64)> {
    let mut server = Server::new(Recorder::echo().data(|conn, data| {
        hold(200 * MS);
        conn.send(data).ignore();
        Ok(data.len())
    }));
    arrange(&mut server.reactor);
    let (mut client, _) = server.open();
    let round = |_| {
        server.assert_echoes(&mut client);
        let stats = server.reactor.stats();
        (stats.slow_turns, stats.slow_callbacks)
    };
    (0..messages).map(round).collect()
}

#[test]
fn a_slow_turn_is_counted_and_from_then_on_slow_callbacks_are_too() {
    let slow = slow_after(3, |reactor| reactor.set_watchdog(Some(150 * MS)));
    assert_eq!(slow, [(1, 0), (2, 1), (3, 2)]);
}

#[test]
fn two_hundred_milliseconds_are_slow_by_default() {
    let [(turns, _)] = slow_after(1, |_| {})[..] else { unreachable!() };
    assert!(turns >= 1);
}

#[test]
fn callbacks_can_be_timed_before_any_was_slow() {
    let slow = slow_after(1, |reactor| {
        reactor.set_watchdog(Some(150 * MS));
        reactor.time_callbacks(true);
    });
    assert_eq!(slow, [(1, 1)]);
}

#[test]
fn the_watchdog_can_be_off() {
    let slow = slow_after(1, |reactor| {
        reactor.set_watchdog(None);
        reactor.time_callbacks(true);
    });
    assert_eq!(slow, [(0, 0)]);
}

#[test]
fn callbacks_are_timed_for_ten_seconds_after_a_slow_turn() {
    if HAS_KERNEL {
        return; // ten seconds of it
    }
    let mut server = Server::new(Recorder::echo().data(|conn, data| {
        hold(60 * MS);
        conn.send(data).ignore();
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    let mut slow = Vec::new();
    for pause in [0, 9_800, 10_100, 0] {
        hold(pause * MS);
        server.assert_echoes(&mut client);
        let stats = server.reactor.stats();
        slow.push((stats.slow_turns, stats.slow_callbacks));
    }
    assert_eq!(slow, [(1, 0), (2, 1), (3, 1), (4, 2)]);
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Notebook;

impl log::Log for Notebook {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "oneloop::watchdog"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// A datagram socket that is sent something, and closes at its timer: its key.
fn every_callback_of_datagrams(reactor: &mut Reactor) -> oneloop::Key {
    let datagrams = Datagrams::new(|socket, call| match call {
        DatagramCall::Bound => {
            let own = socket.local_address().unwrap();
            socket.send_to(&own, b"to myself").ignore();
            socket.send_to(&own, &[0; 65_508]).ignore();
            socket.set_timer(MS);
        }
        DatagramCall::Timer(_) => socket.close(),
        _ => {}
    });
    let calls = datagrams.calls.clone();
    let handler = reactor.add_datagram_handler(datagrams);
    let key = reactor.bind(handler, "127.0.0.1:0").unwrap();
    let closed = DatagramCall::Close(key, oneloop::CloseReason::Closed);
    run_until(reactor, "it is closed", |_| calls.borrow().contains(&closed));
    key
}

#[test]
fn every_callback_is_logged_with_handler_connection_and_time() {
    // A process has one logger.
    const NAME: &str = "every_callback_is_logged_with_handler_connection_and_time";
    if !alone_also_in_simulation(NAME) {
        return;
    }
    log::set_logger(&Notebook).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let recorder = Recorder::new()
        .start(|cx| {
            cx.set_handler_timer(MS);
            let limits = Limits::new().connect_timeout(Duration::from_nanos(1));
            let options = ConnectOptions::new().limits(limits);
            cx.connect_with(SocketAddr::from(([192, 0, 2, 1], 9)), 0, &options.into());
        })
        .open(|conn| {
            conn.set_timer(MS);
            conn.expect_within(2 * MS);
            let key = conn.key();
            conn.poke(key);
        })
        .data(|conn, data| {
            conn.send(data).ignore();
            Ok(data.len())
        })
        .timer(|_, _: TimerId| hold(5 * MS))
        .deadline(|_, _| Some(Duration::from_secs(100)))
        .peer_closed(|conn| conn.close());
    let mut server = Server::new(recorder);
    server.reactor.time_callbacks(true);
    server.reactor.set_watchdog(Some(Duration::ZERO));
    let (mut client, key) = server.open();
    client.write_all(b"x").unwrap();
    server.read(&mut client, 1);
    server.until("all timers and deadlines", |calls| {
        calls.has(&Call::Deadline(key, oneloop::Deadline::Expect))
    });
    drop(client);
    server.until_closed(1);
    let socket = every_callback_of_datagrams(&mut server.reactor);
    let lines = LINES.lock().unwrap().clone();
    for callback in ["on_bound", "on_datagram", "on_send_failed", "on_timer", "on_close"] {
        let type_name = std::any::type_name::<Datagrams>();
        let line = format!("WARN {socket}: {callback} of {type_name} took ");
        assert!(lines.iter().any(|logged| logged.starts_with(&line)), "{line}: {lines:#?}");
    }
    let type_name = std::any::type_name::<Recorder>();
    for callback in ["on_start", "on_connect_failed", "accept", "on_handler_timer"] {
        let line = format!("{callback} of {type_name} took ");
        assert!(lines.iter().any(|logged| logged.contains(&line)), "{callback}: {lines:#?}");
    }
    let own =
        ["on_open", "on_data", "on_poke", "on_timer", "on_deadline", "on_peer_closed", "on_close"];
    for callback in own {
        let line = format!("WARN {key}: {callback} of {type_name} took ");
        assert!(lines.iter().any(|logged| logged.starts_with(&line)), "{line}: {lines:#?}");
    }
    let longest = format!("; the longest callback: {key}: on_timer of {type_name} took ");
    assert!(lines.iter().any(|line| line.contains(&longest)), "{lines:#?}");
    let took = lines.iter().find(|line| line.contains("on_timer of")).unwrap();
    let millis = took.rsplit_once("took ").unwrap().1.strip_suffix("ms").expect("over 5 ms");
    assert!(millis.parse::<f64>().unwrap() >= 5.0, "{took}");
}

#[test]
fn a_turn_that_a_panic_left_lends_its_callbacks_to_no_other() {
    // A process has one logger.
    const NAME: &str = "a_turn_that_a_panic_left_lends_its_callbacks_to_no_other";
    if !alone_also_in_simulation(NAME) {
        return;
    }
    log::set_logger(&Notebook).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let recorder = Recorder::new()
        .data(|conn, data| {
            if data == b"!" {
                hold(100 * MS);
                conn.abort();
            } else {
                hold(20 * MS);
            }
            Ok(data.len())
        })
        .close(|_, _, _| panic!("as the test wants"));
    let mut server = Server::new(recorder);
    server.reactor.time_callbacks(true);
    server.reactor.set_watchdog(Some(20 * MS));
    let (mut bad, _) = server.open();
    let (mut good, key) = server.open();
    bad.write_all(b"!").unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| server.until_closed(1)));
    assert!(panic.is_err());
    good.write_all(b"x").unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 2);
    let lines = LINES.lock().unwrap().clone();
    let turns: Vec<_> = lines.iter().filter(|line| line.contains("longest")).collect();
    let [turn] = turns[..] else { panic!("{lines:#?}") };
    assert!(turn.contains(&format!("; the longest callback: {key}: on_data of ")), "{turn}");
}
