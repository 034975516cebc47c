//! Calls in the wrong place, names of what is gone or foreign, limits at their extremes: an error or
//! nothing, never somebody else's connection, and never the end of the server.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::support::datagrams::{Bound, Datagrams};
use crate::support::*;
use oneloop::{
    CloseReason, Connection, Context, Datagram, DatagramHandler, DatagramOptions, DatagramSocket,
    Drained, Error, HandlerId, Interest, Key, Limits, ListenOptions, ReactorLimits, SourceHandler,
    StreamHandler,
};

#[test]
fn the_name_of_a_closed_listener_does_not_reach_what_has_its_slot_now() {
    let mut server = Server::new(Recorder::echo());
    let old = server.reactor.listen(server.handler, "127.0.0.1:0").unwrap();
    server.reactor.close_listener(old);
    server.assert_idle();
    let (mut client, key) = server.open();
    assert_eq!(key.to_bits() as u32, 1, "the connection has the listener's slot");
    let error = server.reactor.listener_address(old).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    server.reactor.close_listener(old);
    server.assert_echoes(&mut client);
}

#[test]
fn keys_that_nobody_was_given_find_nothing() {
    let mut server = Server::new(Recorder::echo());
    let (mut client, key) = server.open();
    let mut cx = server.reactor.context(server.handler);
    for bits in [0, 1, u64::MAX, key.to_bits() + 1, key.to_bits() ^ 1 << 32, u64::from(u32::MAX)] {
        let stranger = Key::from_bits(bits);
        cx.send_to(stranger, b"x").ignore();
        cx.close_key(stranger);
        cx.abort_key(stranger);
        cx.shutdown_write_key(stranger);
        cx.pause_key(stranger);
        cx.resume_key(stranger);
        cx.poke(stranger);
        assert!(!cx.is_open(stranger));
    }
    server.assert_idle();
    server.assert_echoes(&mut client);
}

#[test]
fn a_handler_of_another_reactor_is_refused_at_the_call() {
    let mut own = Reactor::with_limits(ReactorLimits::new().connections_max(8)).unwrap();
    let foreign = Server::new(Recorder::echo()).handler;
    let refused = |call: &mut dyn FnMut()| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err()
    };
    // Also if it has one of its own of the same type in that place.
    for handlers in 0..2 {
        assert!(refused(&mut || drop(own.listen(foreign, "127.0.0.1:0"))), "{handlers}");
        assert!(refused(&mut || _ = own.context(foreign).now()), "{handlers}");
        assert!(refused(&mut || _ = own.handler(foreign)), "{handlers}");
        assert!(refused(&mut || _ = own.handler_mut(foreign)), "{handlers}");
        own.add(Recorder::echo());
    }
    let to = SocketAddr::from(([127, 0, 0, 1], 1));
    let handler = own.add(Recorder::echo());
    assert!(refused(&mut || _ = own.context(handler).connect_for(foreign, to, 0)));
    assert_eq!(own.connections(), 0);
    let datagrams = Bound::new(Datagrams::listens()).handler;
    let options = DatagramOptions::new();
    assert!(refused(&mut || _ = own.context(handler).bind_for(datagrams, to, &options)));
    own.turn(Some(Duration::ZERO)).unwrap();
}

/// Serves both, if it is let.
struct Both;

impl StreamHandler for Both {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        Ok(data.len())
    }
}

impl DatagramHandler for Both {
    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: Datagram<'_>) {}
}

#[test]
fn a_handler_that_was_added_for_datagrams_only_gets_no_connections() {
    let refused = |call: &mut dyn FnMut()| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err()
    };
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(8)).unwrap();
    let (serves, only) = (reactor.add(Both), reactor.add_datagram_handler(Both));
    let to = SocketAddr::from(([127, 0, 0, 1], 1));
    assert!(refused(&mut || drop(reactor.listen(only, "127.0.0.1:0"))));
    assert!(refused(&mut || _ = reactor.context(serves).connect_for(only, to, 0)));
    assert_eq!(reactor.connections(), 0);
    reactor.bind(serves, "127.0.0.1:0").expect("the other one may have both");
    reactor.listen(serves, "127.0.0.1:0").unwrap();
}

/// Calls what it is told to when its source is readable.
struct Raw<F>(F);

impl<F: FnMut(&mut Context<'_>) + 'static> SourceHandler for Raw<F> {
    type Source = PipeReceiver;

    fn on_readable(&mut self, _: Key, _: &mut PipeReceiver, cx: &mut Context<'_>) -> Drained {
        (self.0)(cx);
        Drained::Yes
    }
}

fn when_readable(server: &mut Server, call: impl FnMut(&mut Context<'_>) + 'static) -> PipeSender {
    let (signal, source) = signal();
    server.reactor.add_source(Raw(call), source, Interest::Readable).unwrap();
    signal
}

#[test]
fn a_raw_source_connects_for_a_handler_that_it_names() {
    let mut server = Server::new(Recorder::echo());
    let (address, handler): (SocketAddr, HandlerId<Recorder>) = (server.address, server.handler);
    let _signal = when_readable(&mut server, move |cx| {
        cx.connect_for(handler, address, 7);
    });
    server.until("both ends are open", |calls| calls.opened().len() == 2);
    assert_eq!(server.reactor.stats().connects, 1);
}

#[test]
fn a_raw_source_that_asks_for_what_only_stream_handlers_have_is_removed_alone() {
    let calls: [fn(&mut Context<'_>); 2] = [
        |cx| _ = cx.connect(SocketAddr::from(([127, 0, 0, 1], 1)), 0),
        |cx| _ = cx.set_handler_timer(Duration::ZERO),
    ];
    for call in calls {
        let mut server = Server::new(Recorder::echo());
        let (mut client, _) = server.open();
        let _signal = when_readable(&mut server, call);
        run_until(&mut server.reactor, "it panicked", |reactor| reactor.stats().panics == 1);
        server.assert_idle();
        server.assert_echoes(&mut client);
    }
}

#[test]
fn limits_as_large_as_they_go_serve_as_usual() {
    let limits = Limits::new()
        .accepts_per_turn_max(usize::MAX)
        .connections_max(usize::MAX)
        .connections_per_address_max(usize::MAX - 1)
        .read_bytes_per_turn_max(usize::MAX)
        .reads_per_turn_max(usize::MAX)
        .write_bytes_per_turn_max(usize::MAX)
        .input_bytes_max(usize::MAX)
        .output_bytes_low(usize::MAX - 2)
        .output_bytes_high(usize::MAX - 1)
        .output_bytes_max(usize::MAX)
        .linger_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX);
    let mut server = Server::with_limits(
        Recorder::new().data(|conn, data| {
            if data.len() < 6 {
                return Ok(0);
            }
            conn.send(data).ignore();
            Ok(data.len())
        }),
        limits,
    );
    // More clients, each reported in a turn of its own, than doublings fit into a number.
    for _ in 0..70 {
        let (mut client, _) = server.open();
        for piece in ["a", "bc", "def"] {
            client.write_all(piece.as_bytes()).unwrap();
            while server.reactor.next_wait() == Some(Duration::ZERO) {
                server.reactor.turn(None).unwrap();
            }
        }
        assert_eq!(server.read(&mut client, 6), b"abcdef");
    }
}

#[test]
fn what_cannot_be_reserved_is_refused_by_name() {
    let cases = [
        ("events_per_poll_max", ReactorLimits::new().events_per_poll_max(usize::MAX)),
        ("connections_max", ReactorLimits::new().connections_max(1 << 40)),
        ("read_buffer_bytes", ReactorLimits::new().read_buffer_bytes(usize::MAX)),
    ];
    for (name, limits) in cases {
        let error = Reactor::with_limits(limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_full_listener_is_not_woken_by_the_end_of_connections_of_another_one() {
    let options = ListenOptions::new().limits(Limits::new().connections_max(2));
    let mut server = Server::with(Recorder::echo(), &options, ReactorLimits::new());
    let other = server.reactor.listen(server.handler, "127.0.0.1:0").unwrap();
    let other = server.reactor.listener_address(other).unwrap().inet().unwrap();
    let _full = [server.open(), server.open()];
    let _waits = server.connect();
    run_until(&mut server.reactor, "it pauses", |r| r.stats().accept_pauses == 1);
    for closed in 1..=20 {
        drop(connect(other));
        server.until_closed(closed);
    }
    assert_eq!(server.reactor.stats().accept_pauses, 1);
    assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed; 20]);
}

#[test]
fn sending_nothing_is_no_way_to_tell_that_a_connection_closes() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        conn.close();
        assert_eq!(conn.send(b""), oneloop::Sent::Gone);
        assert_eq!(conn.send(b"x"), oneloop::Sent::Gone);
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
}

#[test]
fn a_timer_that_is_set_between_turns_counts_from_then() {
    let mut server = Server::new(Recorder::echo());
    server.assert_idle();
    let before = server.reactor.context(server.handler).now();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    let now = server.reactor.context(server.handler).now();
    assert!(now - before >= Duration::from_millis(2));
}

#[test]
fn the_calendar_is_that_of_the_machine() {
    if !needs_kernel("the calendar of the machine") {
        return;
    }
    let mut server = Server::new(Recorder::echo());
    let cx = server.reactor.context(server.handler);
    let wall = cx.wall_clock().duration_since(std::time::SystemTime::now());
    assert!(wall.unwrap_or_else(|e| e.duration()) < Duration::from_secs(60));
}

#[test]
fn chance_gives_another_number_each_time_and_to_each_reactor() {
    let mut numbers = std::collections::HashSet::new();
    for _ in 0..2 {
        let mut server = Server::new(Recorder::echo());
        let mut cx = server.reactor.context(server.handler);
        numbers.extend((0..1000).map(|_| cx.random()));
    }
    assert_eq!(numbers.len(), 2000);
}
