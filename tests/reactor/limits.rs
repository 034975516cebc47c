//! The limits of connections and of a turn, each just within and just over it.

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{
    CloseReason, ConnectError, ConnectOptions, Limits, ListenOptions, ReactorLimits, Sent,
};

/// Consumes nothing.
fn keeps() -> Recorder {
    Recorder::new().data(|_, _| Ok(0))
}

// Reading

#[test]
fn no_more_than_read_bytes_per_turn_max_are_read_in_a_turn() {
    let total = 1 << 20;
    let limits = Limits::new()
        .read_bytes_per_turn_max(16 * 1024)
        .reads_per_turn_max(100)
        .input_bytes_max(2 << 20);
    // Whether the handler consumes everything, a part, or nothing.
    for share in [1, 2, usize::MAX] {
        let mut server = Server::with_limits(
            Recorder::new().data(move |_, data| Ok(data.len() / share)),
            limits.clone(),
        );
        let (mut client, key) = server.open();
        let mut flood = flood(&mut client, total);
        let largest = server.largest_step(
            |stats| stats.bytes_in,
            |stats| {
                flood();
                stats.bytes_in == total as u64
            },
        );
        assert!(largest <= 16 * 1024, "1/{share} consumed: {largest} bytes in a turn");
        assert!(server.reactor.stats().budgets_exhausted > 0);
        server.assert_idle();
        assert!(server.calls.closed().is_empty());
        drop(flood);
        drop(client);
        server.until("the peer closed", |calls| calls.has(&Call::PeerClosed(key)));
    }
}

/// Writes whatever the client's socket takes, whenever it is called, up to so many bytes.
fn flood(client: &mut TcpStream, total: usize) -> impl FnMut() {
    client.set_nonblocking(true).unwrap();
    let bytes = pattern(total);
    let mut written = 0;
    move || {
        while written < total {
            match client.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error} after {written} bytes"),
            }
        }
    }
}

#[test]
fn no_more_than_reads_per_turn_max_are_made_in_a_turn() {
    let total = 200_000;
    let limits = Limits::new().reads_per_turn_max(3).input_bytes_max(1 << 20);
    let reactor_limits = ReactorLimits::new().connections_max(8).read_buffer_bytes(1000);
    for keeps_all in [false, true] {
        let mut server = Server::with(
            Recorder::new().data(move |_, data| Ok(if keeps_all { 0 } else { data.len() })),
            &ListenOptions::new().limits(limits.clone()),
            reactor_limits.clone(),
        );
        let (mut client, _) = server.open();
        let mut flood = flood(&mut client, total);
        let largest = server.largest_step(
            |stats| stats.reads,
            |stats| {
                flood();
                stats.bytes_in == total as u64
            },
        );
        assert!(largest <= 3, "{largest} reads in a turn");
        if !keeps_all {
            assert!(server.calls.shown().iter().all(|data| data.len() <= 1000));
        }
        server.assert_idle();
    }
}

#[test]
fn a_budget_that_is_used_up_loses_nothing_when_the_peer_falls_silent() {
    let limits = Limits::new().read_bytes_per_turn_max(1000).reads_per_turn_max(1);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let (mut client, _) = server.open();
    let sent = pattern(100_000);
    client.write_all(&sent).unwrap();
    assert!(server.read(&mut client, sent.len()) == sent);
    server.assert_idle();
}

#[test]
fn an_endless_line_closes_as_input_too_long() {
    for size in [1, 100, 5_000, 64 * 1024, 300_000] {
        let mut server = Server::with_limits(keeps(), Limits::new().input_bytes_max(size));
        let (mut client, key) = server.open();
        let line = vec![b'x'; size];
        server.write(&mut client, &line[..size - 1]);
        let bytes = size as u64 - 1;
        run_until(&mut server.reactor, "all but one are read", |r| r.stats().bytes_in == bytes);
        server.assert_idle();
        assert!(server.reactor.context(server.handler).is_open(key), "one byte is left: {size}");
        client.write_all(b"x").unwrap();
        assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
        drop(client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::InputTooLong], "{size}");
        assert!(server.calls.shown().iter().all(|data| data.len() <= size));
        assert_eq!(server.reactor.stats().memory_bytes, 0);
    }
}

#[test]
fn on_data_is_never_shown_more_than_input_bytes_max() {
    // One listener lets input grow large, the other one does not; buffers go from one to the other.
    let mut server = Server::with_limits(
        Recorder::new().data(|_, data| {
            Ok(if data.ends_with(b"!") { data.len() } else { data.len().saturating_sub(70) })
        }),
        Limits::new().input_bytes_max(16 * 1024),
    );
    let small = ListenOptions::new().limits(Limits::new().input_bytes_max(100));
    let small = server.reactor.listen_with(server.handler, "127.0.0.1:0", &small).unwrap();
    let small = server.reactor.listener_address(small).unwrap().inet().unwrap();
    let (mut client, _) = server.open();
    for _ in 0..3 {
        client.write_all(&[b'x'; 10_000]).unwrap();
        server.until("it is shown", |calls| calls.shown().concat().len() >= 10_000);
    }
    client.write_all(b"!").unwrap();
    server.until("all is consumed", |calls| {
        calls.shown().last().is_some_and(|data| data.ends_with(b"!"))
    });
    server.calls.clear();

    let mut client = connect(small);
    client.write_all(&[b'y'; 60]).unwrap();
    server.until("it is shown", |calls| calls.shown().len() == 1);
    client.write_all(&[b'y'; 5000]).unwrap();
    run_until(&mut server.reactor, "all is read", |r| r.stats().bytes_in == 35_061);
    server.assert_idle();
    let lengths: Vec<usize> = server.calls.shown().iter().map(Vec::len).collect();
    assert!(lengths.iter().all(|length| *length <= 100), "{lengths:?}");
    assert!(server.calls.closed().is_empty());
}

#[test]
fn a_handler_that_pauses_or_asks_again_with_full_input_is_not_cut_off() {
    let is_second = Rc::new(Cell::new(false));
    let second = Rc::clone(&is_second);
    let mut server = Server::with_limits(
        Recorder::new().data(move |conn, data| {
            if data.len() < 100 {
                return Ok(0);
            }
            if !second.replace(true) {
                conn.again();
                return Ok(0);
            }
            conn.pause();
            Ok(0)
        }),
        Limits::new().input_bytes_max(100),
    );
    let (mut client, key) = server.open();
    client.write_all(&[b'x'; 150]).unwrap();
    server.until("it is shown again", |_| is_second.get());
    server.assert_idle();
    server.reactor.context(server.handler).resume_key(key);
    server.assert_idle();
    assert!(server.calls.closed().is_empty());
    assert!(server.calls.shown().iter().all(|data| data.len() <= 100));
    // And one that is shown the same again and neither pauses nor asks again has had its chance.
    *server.reactor.handler_mut(server.handler) = {
        let mut recorder = keeps();
        recorder.calls = server.calls.clone();
        recorder
    };
    server.reactor.context(server.handler).resume_key(key);
    drop(client);
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::InputTooLong]);
}

#[test]
fn a_need_of_more_than_input_bytes_max_is_shown_what_there_can_be() {
    let mut server = Server::with_limits(
        Recorder::new().open(|conn| conn.need(1_000_000)),
        Limits::new().input_bytes_max(100),
    );
    let (mut client, _) = server.open();
    client.write_all(&[b'x'; 99]).unwrap();
    server.assert_idle();
    assert_eq!(server.calls.shown().len(), 0);
    client.write_all(b"x").unwrap();
    server.until("it is shown", |calls| calls.shown() == [[b'x'; 100]]);
}

// Writing

#[test]
fn a_connection_over_its_high_watermark_is_not_read_from_until_the_low_one() {
    // An echo whose peer only writes: both sides are full, and then it reads everything.
    let limits = Limits::new().output_bytes_low(16 * 1024).output_bytes_high(64 * 1024);
    let mut server = Server::with_limits(Recorder::echo(), limits);
    let mut client = connect_small(server.address);
    client.set_nonblocking(true).unwrap();
    let piece = pattern(64 * 1024);
    let mut written = 0;
    let mut quiet_turns = 0;
    let _watchdog = Watchdog::new("both sides are full");
    // Nothing may be taken for a while only because an acknowledgement is delayed.
    while quiet_turns < 20 || server.reactor.stats().bytes_in as usize == written {
        match client.write(&piece[written % piece.len()..]) {
            Ok(count) => {
                written += count;
                quiet_turns = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                quiet_turns += 1;
            }
        }
        server.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        // What waits is bounded by the mark and one turn's reading.
        assert!(server.reactor.stats().memory_bytes <= 192 * 1024, "{:?}", server.reactor.stats());
    }
    server.assert_idle();
    let received = server.read(&mut client, written);
    for (position, block) in received.chunks(piece.len()).enumerate() {
        assert!(block == &piece[..block.len()], "block {position}");
    }
    let key = server.calls.opened()[0];
    assert!(server.calls.has(&Call::Drained(key)));
    server.assert_idle();
    assert_eq!(server.reactor.stats().memory_bytes, 0);
}

#[test]
fn output_over_its_cap_closes_as_slow_reader() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let limits = Limits::new().output_bytes_high(64 * 1024).output_bytes_max(128 * 1024);
    let mut server = Server::with_limits(Recorder::new(), limits);
    let mut client = connect_small(server.address);
    server.until("it opens", |calls| calls.opened().len() == 1);
    let key = server.calls.opened()[0];
    // A producer that does not care, to a client that does not read.
    run_until(&mut server.reactor, "it is closed", |reactor| {
        reactor.context(server.handler).send_to(key, &[0; 50_000]) == Sent::Gone
    });
    server.until_closed(1);
    assert_eq!(server.calls.reasons(), [CloseReason::SlowReader]);
    assert_eq!(server.reactor.stats().memory_bytes, 0);
    let (_, error) = server.read_to_end(&mut client);
    assert_eq!(error, Some(ErrorKind::ConnectionReset), "a cut stream does not look complete");
}

#[test]
fn the_output_cap_judges_what_the_kernel_refused_and_not_what_was_sent() {
    // Twenty times the cap, which the kernel takes at once.
    let limits =
        Limits::new().output_bytes_low(1000).output_bytes_high(5000).output_bytes_max(10_000);
    let mut server = Server::with_limits(
        Recorder::new().data(|conn, data| {
            assert_eq!(conn.send(&[b'x'; 200_000]), Sent::OverHigh);
            Ok(data.len())
        }),
        limits,
    );
    let (mut client, key) = server.open();
    client.write_all(b"x").unwrap();
    server.until("on_drained", |calls| calls.has(&Call::Drained(key)));
    assert_eq!(server.read(&mut client, 200_000).len(), 200_000);
    assert!(server.calls.closed().is_empty());
    let _ = server.reactor.context(server.handler).send_to(key, &[b'x'; 200_000]);
    assert_eq!(server.read(&mut client, 200_000).len(), 200_000);
    assert!(server.calls.closed().is_empty());
}

#[test]
fn a_slow_reader_does_not_delay_the_others() {
    let mut server = Server::new(Recorder::echo());
    let _slow = {
        let slow = connect_small(server.address);
        server.until("it opens", |calls| calls.opened().len() == 1);
        slow
    };
    let slow_key = server.calls.opened()[0];
    let (mut client, _) = server.open();
    let _watchdog = Watchdog::new("the slow reader is closed");
    loop {
        let sent = server.reactor.context(server.handler).send_to(slow_key, &[0; 100_000]);
        server.assert_echoes(&mut client);
        if sent == Sent::Gone {
            break;
        }
    }
    server.assert_echoes(&mut client);
}

// Time

#[test]
fn a_connect_that_gets_no_answer_times_out_after_connect_timeout() {
    // A backlog that is full drops the SYN.
    let full = listen_with_backlog(0);
    let address = full.local_addr().unwrap();
    let _in_the_queue = connect(address);

    let timeout = Duration::from_millis(80);
    let recorder = Recorder::new();
    let calls = recorder.calls.clone();
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(recorder);
    reactor.set_connect_limits(Limits::new().connect_timeout(DEADLINE)).unwrap();
    let patient = reactor.context(handler).connect(address, 1);
    let options = ConnectOptions::new().limits(Limits::new().connect_timeout(timeout));
    let start = Instant::now();
    let key = reactor.context(handler).connect_with(address, 2, &Rc::new(options));
    run_until(&mut reactor, "it timed out", |_| calls.all().len() == 2);
    assert!(start.elapsed() >= timeout);
    assert_eq!(calls.all()[1], Call::ConnectFailed(key, 2, ConnectError::TimedOut));
    assert_eq!(reactor.connections(), 1, "the other one has more time");
    reactor.context(handler).close_key(patient);
    run_until(&mut reactor, "it is cancelled", |_| calls.all().len() == 3);
    assert_eq!(calls.all()[2], Call::ConnectFailed(patient, 1, ConnectError::Cancelled));
    assert_idle(&mut reactor);
    assert_eq!(reactor.next_wait(), None, "no timer is left behind");
}

// Events

#[test]
fn one_event_per_poll_is_enough_to_serve_a_thousand_ready_connections() {
    let limits = ReactorLimits::new().connections_max(1000).events_per_poll_max(1);
    let mut server = Server::with(Recorder::echo(), &ListenOptions::new(), limits);
    let mut clients: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    server.until("all are open", |calls| calls.opened().len() == 1000);
    for client in &mut clients {
        client.write_all(b"ready").unwrap();
    }
    for client in &mut clients {
        assert_eq!(server.read(client, 5), b"ready");
    }
}

// Validation

#[test]
fn a_limit_that_makes_no_sense_is_refused_by_name() {
    type Bad = (Limits, &'static str);
    let bad: [Bad; 10] = [
        (Limits::new().accepts_per_turn_max(0), "accepts_per_turn_max"),
        (Limits::new().connections_max(0), "connections_max"),
        (Limits::new().connections_per_address_max(0), "connections_per_address_max"),
        (Limits::new().read_bytes_per_turn_max(0), "read_bytes_per_turn_max"),
        (Limits::new().reads_per_turn_max(0), "reads_per_turn_max"),
        (Limits::new().frames_per_turn_max(0), "frames_per_turn_max"),
        (Limits::new().input_bytes_max(0), "input_bytes_max"),
        (Limits::new().output_bytes_low(0).output_bytes_high(0), "output_bytes_high"),
        (Limits::new().output_bytes_low(5).output_bytes_high(5), "output_bytes_low"),
        (Limits::new().output_bytes_high(100_000).output_bytes_max(99_999), "output_bytes_max"),
    ];
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Recorder::new());
    for (limits, name) in bad {
        let options = ListenOptions::new().limits(limits.clone());
        let refused = [
            reactor.listen_with(handler, "127.0.0.1:0", &options).unwrap_err(),
            reactor.set_connect_limits(limits.clone()).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(name), "{name}: {error}");
        }
        let options = Rc::new(ConnectOptions::new().limits(limits));
        let connect = std::panic::AssertUnwindSafe(|| {
            let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
            reactor.context(handler).connect_with(nobody, 0, &options)
        });
        let panic = std::panic::catch_unwind(connect).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().contains(name), "{name}");
    }
    assert_eq!(reactor.connections(), 0);
    let bad = [
        (ReactorLimits::new().events_per_poll_max(0), "events_per_poll_max"),
        (ReactorLimits::new().connections_max(0), "connections_max"),
        (ReactorLimits::new().connections_max(usize::MAX), "connections_max"),
        (ReactorLimits::new().memory_bytes_max(0), "memory_bytes_max"),
        (ReactorLimits::new().read_buffer_bytes(0), "read_buffer_bytes"),
    ];
    for (limits, name) in bad {
        let error = Reactor::with_limits(limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
}

#[test]
fn the_smallest_limits_work() {
    let limits = Limits::new()
        .accepts_per_turn_max(1)
        .connections_max(1)
        .connections_per_address_max(1)
        .read_bytes_per_turn_max(1)
        .reads_per_turn_max(1)
        .input_bytes_max(1)
        .output_bytes_low(0)
        .output_bytes_high(1)
        .output_bytes_max(1 << 20)
        .linger_timeout(Duration::ZERO);
    let reactor_limits = ReactorLimits::new()
        .events_per_poll_max(1)
        .connections_max(1)
        .read_buffer_bytes(1)
        .memory_bytes_max(1 << 20);
    let mut server =
        Server::with(Recorder::echo(), &ListenOptions::new().limits(limits), reactor_limits);
    for count in 1..4 {
        let (mut client, _) = server.open();
        let sent = pattern(5000);
        client.write_all(&sent).unwrap();
        assert!(server.read(&mut client, 5000) == sent);
        server.assert_idle();
        drop(client);
        server.until_closed(count);
    }
}

#[test]
fn more_connections_than_there_is_memory_for_are_refused() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const NAME: &str = "more_connections_than_there_is_memory_for_are_refused";
    if !needs_kernel("the memory of the process") || !alone(NAME) {
        return;
    }
    let address_space = Rlimit { current: Some(4 << 30), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, address_space).unwrap();
    let error = Reactor::with_limits(ReactorLimits::new().connections_max(1 << 26)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("connections_max"), "{error}");
    Reactor::with_limits(ReactorLimits::new().connections_max(1 << 16)).unwrap();
}
