//! How a reactor drains: who had sent something is answered, told and closed, within a deadline.

use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Connection, Ended, Limits, ListenOptions, ReactorLimits, Report, Sent};

/// Longer than any of these drains takes.
const LONG: Duration = Duration::from_secs(3600);

/// Turns until the drain is over.
fn until_drained(server: &mut Server) -> Report {
    run_until(&mut server.reactor, "the drain is over", |reactor| !reactor.is_draining());
    server.calls.check();
    assert_eq!(server.reactor.connections(), 0);
    assert_eq!(server.reactor.stats().memory_bytes, 0);
    assert!(try_connect(server.address).is_err(), "a new connect is refused");
    server.reactor.report().expect("it has ended").clone()
}

/// Turns until so many connections were told of the drain.
fn until_told(server: &mut Server, count: usize) {
    let is_drain = |call: &Call| matches!(call, Call::Drain(_));
    server.until("they are told", |calls| calls.count(is_drain) >= count);
}

#[test]
fn what_was_readable_when_the_drain_began_is_answered() {
    let mut server = Server::new(Recorder::echo());
    let (mut idle, idle_key) = server.open();
    let (mut busy, busy_key) = server.open();
    busy.write_all(b"request").unwrap();
    until_received(server.address, &busy, 7);
    server.reactor.drain(LONG);
    assert!(server.reactor.is_draining());
    assert_eq!(server.read_to_end(&mut busy), (b"request".to_vec(), None));
    assert_eq!(server.read_to_end(&mut idle), (vec![], None));
    drop((idle, busy));
    let report = until_drained(&mut server);
    assert_eq!(report.end, Ended::Drained);
    assert_eq!((report.connections_finished, report.connections_cut), (2, 0));
    assert_eq!((report.bytes_undelivered, report.bytes_unaccepted), (0, 0));
    let calls = server.calls.all();
    let place = |call: Call| calls.iter().position(|c| *c == call).expect("it is called");
    assert!(place(Call::Data(busy_key, b"request".to_vec())) < place(Call::Drain(busy_key)));
    assert_eq!(server.calls.count(|call| *call == Call::Drain(idle_key)), 1);
    assert_eq!(server.calls.reasons(), [CloseReason::Closed; 2]);
}

#[test]
fn what_comes_after_the_drain_began_is_not_shown_and_is_counted() {
    // So many turns to read it that something can come meanwhile.
    let limits = Limits::new().reads_per_turn_max(1).read_bytes_per_turn_max(9);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let (mut client, key) = server.open();
    client.write_all(&pattern(100)).unwrap();
    until_received(server.address, &client, 100);
    server.reactor.drain(LONG);
    server.until("some is shown", |calls| calls.shown().len() >= 3);
    client.write_all(&[0; 55]).unwrap();
    assert_eq!(server.read_to_end(&mut client), (pattern(100), None));
    client.write_all(b"more").unwrap();
    drop(client);
    let report = until_drained(&mut server);
    assert_eq!(server.calls.shown().concat(), pattern(100));
    assert!(server.calls.has(&Call::Drain(key)));
    assert_eq!(report.bytes_unaccepted, 59);
    assert_eq!((report.end, report.connections_finished), (Ended::Drained, 1));
}

#[test]
fn who_waits_at_the_door_is_still_served() {
    // More than are accepted in a turn.
    let limits = Limits::new().accepts_per_turn_max(4);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let mut clients: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"request").unwrap();
        until_received(server.address, client, 7);
    }
    server.reactor.drain(LONG);
    for client in &mut clients {
        assert_eq!(server.read_to_end(client), (b"request".to_vec(), None));
    }
    drop(clients);
    let report = until_drained(&mut server);
    assert_eq!((report.connections_finished, report.connections_refused), (30, 0));
}

#[test]
fn who_keeps_connecting_does_not_keep_the_door_open() {
    let limits = Limits::new().accepts_per_turn_max(1);
    let options = ListenOptions::new().backlog(4).limits(limits);
    let limits = ReactorLimits::new().connections_max(512);
    let mut server = Server::with(Recorder::echo(), &options, limits);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    server.reactor.drain(LONG);
    // Whoever is accepted makes room for another one.
    for turn in 0.. {
        assert!(turn < 100, "the door stays open");
        match try_connect(server.address) {
            Ok(client) => clients.push(client),
            Err(_) => break,
        }
        server.reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    drop(clients);
    until_drained(&mut server);
}

#[test]
fn limits_of_connections_hold_in_a_drain_and_who_finds_no_room_is_told() {
    let limits = Limits::new().connections_max(2);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let served = [server.open().0, server.open().0];
    let mut waiting: Vec<_> = (0..3).map(|_| server.connect()).collect();
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    server.reactor.drain(LONG);
    for client in &mut waiting {
        assert_eq!(server.read_to_end(client), (vec![], None));
    }
    drop(served);
    let report = until_drained(&mut server);
    assert_eq!((report.connections_finished, report.connections_refused), (2, 3));
}

#[test]
fn unconsumed_bytes_are_thrown_away_and_counted() {
    let mut server = Server::new(Recorder::new().data(|_, _| Ok(0)));
    let (mut client, _) = server.open();
    client.write_all(b"half a mess").unwrap();
    server.until("it is shown", |calls| !calls.shown().is_empty());
    server.reactor.drain(LONG);
    assert_eq!(server.read_to_end(&mut client), (vec![], None));
    drop(client);
    assert_eq!(until_drained(&mut server).bytes_unaccepted, 11);
}

#[test]
fn unconsumed_bytes_of_a_connection_that_is_aborted_in_a_drain_are_counted() {
    let recorder = Recorder::new().data(|_, _| Ok(0)).drain(|conn| conn.abort());
    let mut server = Server::new(recorder);
    let (mut client, _) = server.open();
    client.write_all(b"half a mess").unwrap();
    server.until("it is shown", |calls| !calls.shown().is_empty());
    server.reactor.drain(LONG);
    let report = until_drained(&mut server);
    assert_eq!((report.connections_failed, report.bytes_unaccepted), (1, 11));
    assert_eq!(server.reactor.stats().bytes_discarded, 11);
}

#[test]
fn unconsumed_bytes_of_a_connection_that_is_cut_off_are_counted_once() {
    let mut server = Server::new(Recorder::new().data(|_, _| Ok(0)).drain(|_| {}));
    let (mut client, _) = server.open();
    client.write_all(b"half a mess").unwrap();
    server.until("it is shown", |calls| !calls.shown().is_empty());
    server.reactor.drain(Duration::ZERO);
    let report = until_drained(&mut server);
    assert_eq!((report.connections_cut, report.bytes_unaccepted), (1, 11));
}

#[test]
fn a_panic_at_its_end_does_not_lose_its_report() {
    let is_first = Cell::new(true);
    let recorder = Recorder::echo()
        .drain(|conn| {
            if conn.bytes_in() > 0 {
                conn.abort(); // the others are cut off in the end
            }
        })
        .close(move |_, reason, _| {
            let is_cut = reason == CloseReason::Stopped;
            assert!(!is_cut || !is_first.replace(false), "as the test wants");
        });
    let mut server = Server::new(recorder);
    let _cut = [server.open().0, server.open().0, server.open().0];
    let (mut failed, _) = server.open();
    server.assert_echoes(&mut failed);
    server.reactor.drain(Duration::from_millis(20));
    let _watchdog = Watchdog::new("run returns");
    let panic = catch_unwind(AssertUnwindSafe(|| server.reactor.run())).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"as the test wants"));
    assert!(server.reactor.is_draining(), "it has not come to its end");
    let report = server.reactor.run().unwrap();
    assert_eq!(report.end, Ended::TimedOut);
    assert_eq!((report.connections_failed, report.connections_cut), (1, 3));
    assert!(report.duration >= Duration::from_millis(20));
    assert!(!server.reactor.is_draining());
    assert_eq!(server.reactor.connections(), 0);
}

#[test]
fn who_asked_to_be_called_again_is_shown_everything_before_it_is_told() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        // One byte a call.
        conn.send(&data[..1]).ignore();
        if data.len() > 1 {
            conn.again();
        }
        Ok(1)
    }));
    let (mut client, _) = server.open();
    client.write_all(b"0123456789").unwrap();
    until_received(server.address, &client, 10);
    server.reactor.drain(LONG);
    assert_eq!(server.read_to_end(&mut client), (b"0123456789".to_vec(), None));
    drop(client);
    assert_eq!(until_drained(&mut server).bytes_unaccepted, 0);
}

#[test]
fn output_that_waits_is_flushed() {
    let size = 3 << 20;
    let mut server = Server::with_limits(
        Recorder::new().open(move |conn| {
            let _ = conn.send(&pattern(size));
        }),
        Limits::new().output_bytes_max(2 * size),
    );
    let mut client = connect_small(server.address);
    server.until("it is open", |calls| calls.opened().len() == 1);
    assert!(server.reactor.stats().memory_bytes > 0);
    server.reactor.drain(LONG);
    let (bytes, error) = server.read_to_end(&mut client);
    assert_eq!(error, None);
    assert!(bytes == pattern(size));
    drop(client);
    let report = until_drained(&mut server);
    assert_eq!((report.connections_finished, report.bytes_undelivered), (1, 0));
}

#[test]
fn a_paused_connection_is_told_at_once_and_again_when_all_was_shown() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.send(data).ignore();
        conn.pause(); // as if the answer to each request took some time
        Ok(data.len())
    }));
    let (mut client, key) = server.open();
    client.write_all(b"first").unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 1);
    client.write_all(b"second").unwrap();
    until_received(server.address, &client, 6);
    server.reactor.drain(LONG);
    until_told(&mut server, 1);
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 1);
    let handler = server.handler;
    server.reactor.context(handler).resume_key(key);
    server.until("the rest is shown", |calls| calls.shown().len() == 2);
    assert!(server.calls.closed().is_empty());
    server.reactor.context(handler).resume_key(key);
    assert_eq!(server.read_to_end(&mut client), (b"firstsecond".to_vec(), None));
    drop(client);
    assert_eq!(until_drained(&mut server).connections_finished, 1);
    assert_eq!(server.calls.count(|call| *call == Call::Drain(key)), 2);
}

/// It goes on in `on_drained`, as `OverHigh` asks for.
#[test]
fn an_answer_that_is_given_bit_by_bit_is_finished_in_a_drain() {
    const ANSWER: usize = 12_000_000;
    let left = Rc::new(Cell::new(0));
    let owed = Rc::clone(&left);
    let go_on = move |conn: &mut Connection<'_>| {
        while left.get() > 0 {
            left.set(left.get() - 10_000);
            if conn.send(&[b'x'; 10_000]) == Sent::OverHigh {
                return;
            }
        }
    };
    let begin = go_on.clone();
    let recorder = Recorder::new().drained(go_on).data(move |conn, data| {
        owed.set(owed.get() + data.len() * ANSWER);
        begin(conn);
        Ok(data.len())
    });
    let mut server = Server::new(recorder);
    let mut client = connect_small(server.address);
    client.write_all(b"?").unwrap();
    server.until("it is asked", |calls| calls.shown() == [b"?"]);
    server.reactor.drain(LONG);
    until_told(&mut server, 1);
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received.len(), error), (ANSWER, None));
    drop(client);
    assert_eq!(until_drained(&mut server).connections_finished, 1);
    assert_eq!(server.calls.count(|call| matches!(call, Call::Drain(_))), 2);
}

/// As one that is closing.
#[test]
fn a_peer_that_takes_none_of_an_answer_does_not_hold_up_a_drain() {
    let recorder = Recorder::new().open(|conn| conn.send(&pattern(12 << 20)).ignore());
    let linger = Duration::from_millis(50);
    let limits = Limits::new().output_bytes_max(64 << 20).linger_timeout(linger);
    let mut server = Server::with_limits(recorder, limits);
    let _client = connect_small(server.address);
    server.until("it is open", |calls| calls.opened().len() == 1);
    server.reactor.drain(LONG);
    let report = until_drained(&mut server);
    assert_eq!((report.end, report.connections_failed), (Ended::Drained, 1));
    assert_eq!(server.calls.reasons(), [CloseReason::WriteStallTimeout]);
}

#[test]
fn limits_that_are_lowered_with_the_last_answer_do_not_keep_a_connection() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        if data[0] == b'd' {
            conn.drain(LONG);
            conn.again(); // and the rest comes when it has begun
        } else {
            let lower = Limits::new().output_bytes_high(2_000).output_bytes_low(1_000);
            conn.send(&pattern(30_000)).ignore();
            conn.set_limits(&Rc::new(lower));
        }
        Ok(1)
    }));
    let (mut client, _) = server.open();
    client.write_all(b"d?").unwrap();
    let (received, error) = server.read_to_end(&mut client);
    assert_eq!((received.len(), error), (30_000, None));
    drop(client);
    assert_eq!(until_drained(&mut server).connections_finished, 1);
}

#[test]
fn who_stays_goes_on_receiving_until_it_closes() {
    // The end of a message comes after the drain began.
    let mut server = Server::new(
        Recorder::new()
            .data(|conn, data| {
                if !data.ends_with(b"\n") {
                    return Ok(0);
                }
                conn.send(data).ignore();
                if conn.is_draining() {
                    conn.close();
                }
                Ok(data.len())
            })
            .drain(|_| {}),
    );
    let (mut client, _) = server.open();
    client.write_all(b"half").unwrap();
    server.until("it is shown", |calls| !calls.shown().is_empty());
    server.reactor.drain(LONG);
    until_told(&mut server, 1);
    client.write_all(b" and half\n").unwrap();
    assert_eq!(server.read_to_end(&mut client), (b"half and half\n".to_vec(), None));
    drop(client);
    let report = until_drained(&mut server);
    assert_eq!((report.connections_finished, report.bytes_unaccepted), (1, 0));
}

#[test]
fn the_deadline_cuts_off_who_stays_and_counts_what_is_lost() {
    let mut server = Server::with_limits(
        Recorder::new()
            .open(|conn| {
                let _ = conn.send(&vec![0; 8 << 20]);
            })
            .drain(|conn| conn.pause()),
        Limits::new().output_bytes_max(16 << 20),
    );
    let mut client = connect_small(server.address);
    server.until("it is open", |calls| calls.opened().len() == 1);
    let lost = server.reactor.stats().memory_bytes;
    server.reactor.drain(Duration::from_millis(20));
    client.write_all(b"late").unwrap();
    let report = until_drained(&mut server);
    assert_eq!(server.calls.reasons(), [CloseReason::Stopped]);
    assert_eq!(report.end, Ended::TimedOut);
    assert_eq!((report.connections_finished, report.connections_cut), (0, 1));
    assert!(report.duration >= Duration::from_millis(20), "{report}");
    // The kernel took some more of it, and the buffer has some room left.
    assert!(report.bytes_undelivered > 0 && report.bytes_undelivered <= lost as u64, "{report}");
    assert_eq!(report.bytes_unaccepted, 4);
    assert!(report.to_string().contains("1 cut off"), "{report}");
}

#[test]
fn a_drain_without_any_time_and_with_nobody_connected_is_no_time_out() {
    let mut server = Server::new(Recorder::echo());
    server.open();
    server.until_closed(1);
    server.reactor.drain(Duration::ZERO);
    assert_eq!(until_drained(&mut server).end, Ended::Drained);
}

#[test]
fn a_drain_goes_on_while_it_ends_who_stayed() {
    let mut server =
        Server::new(Recorder::new().drain(|_| {}).close(|_, _, cx| assert!(cx.is_draining())));
    let clients = [server.open(), server.open()];
    server.reactor.drain(Duration::from_millis(5));
    let report = until_drained(&mut server);
    assert_eq!((report.end, report.connections_cut), (Ended::TimedOut, 2));
    assert_eq!(server.calls.reasons(), [CloseReason::Stopped; 2]);
    drop(clients);
}

#[test]
fn a_second_drain_brings_the_end_forward_and_does_not_put_it_off() {
    for (first, second) in [(LONG, Duration::from_millis(5)), (Duration::from_millis(5), LONG)] {
        let mut server = Server::new(Recorder::new().drain(|_| {}));
        let (_client, _) = server.open();
        server.reactor.drain(first);
        until_told(&mut server, 1);
        server.reactor.drain(second);
        assert_eq!(until_drained(&mut server).end, Ended::TimedOut);
    }
}

#[test]
fn a_stop_ends_a_drain_at_once() {
    let mut server = Server::new(Recorder::new().drain(|conn| conn.stop()));
    let (_client, _) = server.open();
    server.reactor.drain(LONG);
    let report = until_drained(&mut server);
    assert_eq!((report.end, report.connections_cut), (Ended::Stopped, 1));
}

#[test]
fn a_callback_can_drain_and_run_returns_the_report() {
    let mut server = Server::new(Recorder::echo().peer_closed(|conn| {
        conn.drain(LONG);
        assert!(conn.is_draining());
        conn.close();
    }));
    let (mut client, _) = server.open();
    client.write_all(b"last words").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let _watchdog = Watchdog::new("run returns");
    let report = server.reactor.run().unwrap();
    assert_eq!((report.end, report.connections_finished), (Ended::Drained, 1));
    assert_eq!(server.read_to_end(&mut client), (b"last words".to_vec(), None));
}

#[test]
fn a_drained_reactor_can_be_used_again() {
    let mut server = Server::new(Recorder::echo());
    server.reactor.drain(LONG);
    until_drained(&mut server);
    server.assert_idle();
    let listener = server.reactor.listen(server.handler, "127.0.0.1:0").unwrap();
    server.address = server.reactor.listener_address(listener).unwrap().inet().unwrap();
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
    assert!(!server.reactor.is_draining());
}

#[test]
fn who_was_sent_everything_and_does_not_close_holds_up_a_drain_for_a_short_time() {
    let short = Duration::from_millis(20);
    let limits = Limits::new().linger_timeout(LONG).drain_linger_timeout(short);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let (mut client, _) = server.open();
    let start = Instant::now();
    server.reactor.drain(LONG);
    let report = until_drained(&mut server);
    assert!(start.elapsed() >= short, "{:?}", start.elapsed());
    assert_eq!((report.end, report.connections_finished), (Ended::Drained, 1));
    assert_eq!(server.reactor.stats().lingers_cut, 1);
    assert_eq!(server.read_to_end(&mut client), (vec![], None));
}

#[test]
fn who_sends_on_is_not_cut_short_in_a_drain() {
    // A close would be a reset, which might destroy what it has not taken yet.
    let short = Duration::from_millis(20);
    let limits = Limits::new().linger_timeout(LONG).drain_linger_timeout(short);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let (mut client, _) = server.open();
    server.reactor.drain(LONG);
    assert_eq!(server.read_to_end(&mut client), (vec![], None));
    let start = Instant::now();
    while start.elapsed() < 10 * short {
        client.write_all(b"x").unwrap();
        server.reactor.turn(Some(short / 10)).unwrap();
    }
    assert_eq!(server.reactor.connections(), 1);
    until_drained(&mut server);
}

#[test]
fn who_was_closed_before_a_drain_began_does_not_hold_it_up_either() {
    let short = Duration::from_millis(20);
    let limits = Limits::new().linger_timeout(LONG).drain_linger_timeout(short);
    let closes = Recorder::new().open(|conn| conn.close());
    let mut server = Server::with_limits(closes, limits);
    let mut client = server.connect();
    assert_eq!(server.read_to_end(&mut client), (vec![], None));
    server.reactor.drain(LONG);
    let report = until_drained(&mut server);
    assert_eq!((report.end, report.connections_finished), (Ended::Drained, 1));
}

#[test]
fn who_was_half_closed_before_lingers_shortly_when_it_is_closed_in_a_drain() {
    let short = Duration::from_millis(20);
    let limits = Limits::new().linger_timeout(LONG).drain_linger_timeout(short);
    let half_closes = Recorder::new().open(|conn| conn.shutdown_write());
    let mut server = Server::with_limits(half_closes, limits);
    let mut client = server.connect();
    assert_eq!(server.read_to_end(&mut client), (vec![], None));
    let start = Instant::now();
    server.reactor.drain(LONG);
    let report = until_drained(&mut server);
    assert!(start.elapsed() >= short, "{:?}", start.elapsed());
    assert_eq!((report.end, report.connections_finished), (Ended::Drained, 1));
}

#[test]
fn who_is_still_owed_output_has_its_time_in_a_drain() {
    let linger = Duration::from_millis(50);
    let sends_and_closes = Recorder::new().open(|conn| {
        conn.send(&vec![0; 16 << 20]).ignore();
        conn.close();
    });
    let limits = Limits::new().output_bytes_max(32 << 20);
    let limits = limits.linger_timeout(linger).drain_linger_timeout(Duration::from_nanos(1));
    let mut server = Server::with_limits(sends_and_closes, limits);
    let start = Instant::now();
    let client = connect_small(server.address);
    server.until("it is open", |calls| calls.opened().len() == 1);
    server.reactor.drain(LONG);
    let report = until_drained(&mut server);
    assert!(start.elapsed() >= linger, "{:?}", start.elapsed());
    assert_eq!((report.end, report.connections_failed), (Ended::Drained, 1));
    drop(client);
}

#[test]
fn timers_do_not_hold_up_a_drain() {
    let mut server = Server::new(Recorder::new().start(|cx| {
        cx.set_handler_timer(Duration::from_secs(3600));
    }));
    server.open();
    server.reactor.drain(LONG);
    assert_eq!(until_drained(&mut server).end, Ended::Drained);
    assert_eq!(server.reactor.next_wait(), None);
}

#[test]
fn a_panic_in_on_drain_ends_that_connection_and_not_the_drain() {
    let mut first = true;
    let mut server = Server::new(Recorder::new().drain(move |conn| {
        if std::mem::replace(&mut first, false) {
            panic!("told at a bad moment");
        }
        conn.close();
    }));
    let clients = [server.open().0, server.open().0];
    server.reactor.drain(LONG);
    until_told(&mut server, 2);
    drop(clients);
    let report = until_drained(&mut server);
    assert_eq!((report.connections_finished, report.connections_failed), (1, 1));
    assert_eq!(server.reactor.stats().closes(CloseReason::Panicked), 1);
}

#[test]
fn outbound_connections_are_told_also_those_that_open_later() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap();
    let mut server = Server::new(Recorder::new().drain(move |conn| {
        if conn.origin() == oneloop::Origin::Connected(1) {
            conn.connect(address, 2);
        }
        conn.close();
    }));
    let handler = server.handler;
    server.reactor.context(handler).connect(address, 1);
    server.until("it is open", |calls| calls.opened().len() == 1);
    let first = upstream.accept().unwrap();
    server.reactor.drain(LONG);
    server.until("the other one is open", |calls| calls.opened().len() == 2);
    let second = upstream.accept().unwrap();
    until_told(&mut server, 2);
    drop((first, second));
    assert_eq!(until_drained(&mut server).connections_finished, 2);
}

#[test]
fn who_is_over_its_high_watermark_is_shown_the_rest_when_that_came_down() {
    let mut server = Server::with_limits(
        Recorder::new().data(|conn, data| {
            // One request a call, and each has a large answer.
            assert_eq!(conn.send(&vec![data[0]; 2 << 20]), Sent::OverHigh);
            Ok(1)
        }),
        Limits::new().output_bytes_max(16 << 20),
    );
    let mut client = connect_small(server.address);
    client.write_all(b"abc").unwrap();
    until_received(server.address, &client, 3);
    server.reactor.drain(LONG);
    let (bytes, _) = server.read_to_end(&mut client);
    assert_eq!(bytes.len(), 3 * (2 << 20));
    drop(client);
    assert_eq!(until_drained(&mut server).bytes_unaccepted, 0);
}
