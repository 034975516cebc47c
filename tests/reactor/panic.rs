//! A panic in a handler costs its connection, not the server.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Connection, Limits, ListenOptions, ReactorLimits, Sent};

/// The callbacks that belong to a connection that opened.
const PLACES: [&str; 6] =
    ["on_data", "on_data with leftovers", "on_drained", "on_peer_closed", "on_timer", "on_poke"];

/// An echo that panics in one callback of each connection whose first byte is `!`.
fn panics_in(place: &'static str) -> Recorder {
    let mark = Rc::new(RefCell::new(Vec::new()));
    let marked = Rc::clone(&mark);
    let panic_at = move |here: &str, conn: &mut Connection<'_>| {
        if here == place && marked.borrow().contains(&conn.key()) {
            conn.send(b"lost with the panic").ignore();
            panic!("as the test wants: {here}");
        }
    };
    let (a, b, c, d, e) =
        (panic_at.clone(), panic_at.clone(), panic_at.clone(), panic_at.clone(), panic_at);
    Recorder::new()
        .data(move |conn, data| {
            if data[0] != b'!' {
                conn.send(data).ignore();
                return Ok(data.len());
            }
            let is_first = !mark.borrow().contains(&conn.key());
            mark.borrow_mut().push(conn.key());
            match place {
                "on_data" => a(place, conn),
                "on_data with leftovers" => {
                    if !is_first {
                        a(place, conn);
                    }
                    conn.again();
                    return Ok(0);
                }
                "on_drained" => assert_eq!(conn.send(&[b'x'; 101]), Sent::OverHigh),
                "on_timer" => {
                    conn.set_timer(Duration::ZERO);
                }
                "on_poke" => {
                    let key = conn.key();
                    conn.poke(key);
                }
                _ => {}
            }
            Ok(data.len())
        })
        .drained(move |conn| b("on_drained", conn))
        .peer_closed(move |conn| {
            c("on_peer_closed", conn);
            conn.close();
        })
        .timer(move |conn, _| d("on_timer", conn))
        .poke(move |conn| e("on_poke", conn))
}

fn small_marks() -> ListenOptions {
    ListenOptions::new().limits(Limits::new().output_bytes_low(10).output_bytes_high(100))
}

fn provoke(place: &str, address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    client.write_all(b"!").unwrap();
    if place == "on_peer_closed" {
        client.shutdown(Shutdown::Write).unwrap();
    }
    client
}

#[test]
fn a_panic_closes_its_connection_and_the_others_go_on() {
    for place in PLACES {
        let limits = ReactorLimits::new().connections_max(16);
        let mut server = Server::with(panics_in(place), &small_marks(), limits);
        let (mut other, _) = server.open();
        server.assert_echoes(&mut other);
        for count in 1..4 {
            let mut client = provoke(place, server.address);
            let (received, error) = server.read_to_end(&mut client);
            let expected = if place == "on_drained" { 101 } else { 0 };
            assert_eq!((received.len(), error), (expected, None), "{place}");
            drop(client);
            server.until_closed(count);
            assert_eq!(server.calls.closed().len(), count, "{place}");
            server.assert_echoes(&mut other);
        }
        assert_eq!(server.calls.reasons(), [CloseReason::Panicked; 3], "{place}");
        let stats = server.reactor.stats();
        assert_eq!((stats.panics, stats.connections, stats.memory_bytes), (3, 1, 0), "{place}");
        assert_eq!(stats.bytes_undelivered, 3 * b"lost with the panic".len() as u64, "{place}");
        server.assert_idle();
    }
}

#[test]
fn a_panic_after_close_is_the_reason_if_it_cost_output() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        if data != b"silent" {
            conn.send(b"lost with the panic").ignore();
        }
        conn.close();
        panic!("as the test wants");
    }));
    for (data, reason) in [(&b"x"[..], CloseReason::Panicked), (b"silent", CloseReason::Closed)] {
        let (mut client, key) = server.open();
        client.write_all(data).unwrap();
        assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
        drop(client);
        server.until("it has ended", |calls| calls.has(&Call::Close(key, reason)));
    }
    assert_eq!(server.reactor.stats().bytes_undelivered, b"lost with the panic".len() as u64);
}

#[test]
fn a_panic_in_on_open_ends_in_no_call_at_all() {
    let is_first = Cell::new(true);
    let mut server = Server::new(Recorder::echo().open(move |conn| {
        if is_first.replace(false) {
            conn.send(b"lost").ignore();
            panic!("as the test wants");
        }
    }));
    let mut client = server.connect();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    server.assert_idle();
    assert!(server.calls.closed().is_empty());
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
    let stats = server.reactor.stats();
    assert_eq!((stats.panics, stats.connections, stats.closes_total()), (1, 1, 1));
    assert_eq!(stats.closes(CloseReason::Panicked), 1, "counted, although nobody can be told");
}

#[test]
fn a_panic_in_accept_turns_the_peer_away_and_nobody_else() {
    let is_first = Cell::new(true);
    let recorder = Recorder::echo().accept(move |_, _| {
        assert!(!is_first.replace(false), "as the test wants");
        true
    });
    let mut server = Server::new(recorder);
    let mut client = server.connect();
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
    let stats = server.reactor.stats();
    assert_eq!((stats.panics, stats.refusals, stats.accepts, stats.connections), (1, 1, 1, 1));
    server.assert_idle();
}

#[test]
fn a_panic_in_accept_goes_through_if_panics_do() {
    let is_first = Cell::new(true);
    let mut server = Server::new(Recorder::echo().accept(move |_, _| {
        assert!(!is_first.replace(false), "as the test wants");
        true
    }));
    server.reactor.let_panics_through(true);
    let mut client = server.connect();
    let turns = AssertUnwindSafe(|| run_until(&mut server.reactor, "the panic", |_| false));
    let panic = catch_unwind(turns).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"as the test wants"));
    assert_eq!(server.read_to_end(&mut client), (Vec::new(), None));
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
}

#[test]
fn a_panic_while_accepting_does_not_strand_the_clients_behind_it() {
    let count = Cell::new(0);
    let mut server = Server::new(Recorder::echo().open(move |_| {
        count.set(count.get() + 1);
        assert!(count.get() % 2 == 0, "as the test wants");
    }));
    // All in the backlog before the first turn.
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    server.until("all are accepted", |calls| calls.opened().len() == 20);
    for pair in clients.chunks_mut(2) {
        assert_eq!(server.read_to_end(&mut pair[0]), (Vec::new(), None));
        server.assert_echoes(&mut pair[1]);
    }
}

#[test]
fn a_panic_in_on_open_of_an_outbound_connection_ends_it() {
    let mut server = Server::new(Recorder::new());
    let address = server.address;
    let client = Recorder::new().open(|_| panic!("as the test wants"));
    let calls = client.calls.clone();
    let client = server.reactor.add(client);
    server.reactor.context(client).connect(address, 1);
    server.until_closed(1);
    server.assert_idle();
    assert_eq!(calls.all().len(), 2, "on_start and on_open: {calls:?}");
    assert_eq!(server.reactor.connections(), 0);
}

#[test]
fn descriptors_and_memory_are_given_back_after_panics() {
    if !alone("descriptors_and_memory_are_given_back_after_panics") {
        return;
    }
    for place in PLACES {
        let limits = ReactorLimits::new().connections_max(16);
        let mut server = Server::with(panics_in(place), &small_marks(), limits);
        server.reactor.turn(Some(Duration::ZERO)).unwrap();
        let before = descriptors();
        for count in 1..20 {
            let mut client = provoke(place, server.address);
            server.read_to_end(&mut client);
            drop(client);
            server.until_closed(count);
        }
        assert_eq!(descriptors(), before, "{place}");
        assert_eq!(server.reactor.stats().memory_bytes, 0, "{place}");
    }
}

#[test]
fn a_panic_goes_through_where_it_is_let_and_the_reactor_stays_usable() {
    for place in PLACES {
        let limits = ReactorLimits::new().connections_max(16);
        let mut server = Server::with(panics_in(place), &small_marks(), limits);
        server.reactor.let_panics_through(true);
        let (mut other, _) = server.open();
        server.assert_echoes(&mut other);
        let mut client = provoke(place, server.address);
        let panic = catch_unwind(AssertUnwindSafe(|| server.read_to_end(&mut client))).unwrap_err();
        let message = panic.downcast_ref::<String>().expect("a formatted message");
        assert!(message.contains("as the test wants"), "{message}");
        server.read_to_end(&mut client);
        drop(client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::Panicked], "{place}");
        server.assert_echoes(&mut other);
        server.assert_idle();
    }
}

#[test]
fn a_panic_that_goes_through_loses_no_event_of_its_batch() {
    let mut server = Server::new(Recorder::new().data(|conn, data| {
        assert!(!data.starts_with(b"!"), "as the test wants");
        conn.send(data).ignore();
        Ok(data.len())
    }));
    server.reactor.let_panics_through(true);
    let mut clients: Vec<_> = (0..6).map(|_| server.open().0).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(if number % 3 == 1 { b"!" } else { b"x" }).unwrap();
    }
    for _ in 0..2 {
        let turns = AssertUnwindSafe(|| {
            run_until(&mut server.reactor, "the panic", |_| false);
        });
        let panic = catch_unwind(turns).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"as the test wants"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        if number % 3 == 1 {
            assert_eq!(server.read_to_end(client), (Vec::new(), None));
        } else {
            assert_eq!(server.read(client, 1), b"x");
        }
    }
    server.assert_idle();
}

#[test]
fn a_panic_in_a_call_that_belongs_to_no_connection_goes_through() {
    type Place = (&'static str, fn(Recorder) -> Recorder);
    let places: [Place; 4] = [
        ("on_start", |r| r.start(|_| panic!("as the test wants"))),
        ("on_handler_timer", |r| {
            r.start(|cx| {
                cx.set_handler_timer(Duration::ZERO);
            })
            .handler_timer(|_, _| panic!("as the test wants"))
        }),
        ("on_connect_failed", |r| {
            r.start(|cx| {
                let key = cx.connect(SocketAddr::from(([127, 0, 0, 1], 1)), 0);
                cx.close_key(key);
            })
            .connect_failed(|_, _, _, _| panic!("as the test wants"))
        }),
        ("on_close", |r| {
            let is_first = Cell::new(true);
            r.close(move |_, _, _| assert!(!is_first.replace(false), "as the test wants"))
        }),
    ];
    for (place, make) in places {
        let options = ListenOptions::new().limits(Limits::new().connections_per_address_max(1));
        let limits = ReactorLimits::new().connections_max(16);
        let mut server = Server::with(make(Recorder::echo()), &options, limits);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let (client, _) = server.open();
            drop(client);
            server.until_closed(2);
        }))
        .unwrap_err();
        let is_wanted = |message: &str| message.contains("as the test wants");
        assert!(
            panic.downcast_ref::<&str>().is_some_and(|message| is_wanted(message))
                || panic.downcast_ref::<String>().is_some_and(|message| is_wanted(message)),
            "{place}"
        );
        // It can be used as before; the one place that a source may have is free.
        server.assert_idle();
        assert_eq!(server.reactor.connections(), 0, "{place}");
        let (mut client, _) = server.open();
        server.assert_echoes(&mut client);
        server.assert_idle();
    }
}

#[test]
fn a_panic_that_goes_through_leaves_the_rest_of_its_phase_to_the_next_turn() {
    let is_first = Cell::new(true);
    let mut server = Server::new(
        Recorder::new()
            .start(|cx| {
                // So that no timer has the number of the listener.
                let first = cx.set_handler_timer(Duration::ZERO);
                cx.cancel_timer(first);
                for _ in 0..3 {
                    cx.set_handler_timer(Duration::ZERO);
                }
            })
            .handler_timer(move |_, _| assert!(!is_first.replace(false), "as the test wants")),
    );
    let calls = server.calls.clone();
    let fired = || calls.count(|call| matches!(call, Call::HandlerTimer(_)));
    let _watchdog = Watchdog::new("the timers fire");
    catch_unwind(AssertUnwindSafe(|| {
        while fired() == 0 {
            server.reactor.turn(None).unwrap();
        }
    }))
    .unwrap_err();
    assert_eq!(server.reactor.next_wait(), Some(Duration::ZERO));
    server.reactor.turn(None).unwrap();
    assert_eq!(fired(), 3);
    server.assert_idle();
}

#[test]
fn a_panic_in_on_start_loses_no_event_of_its_turn() {
    let mut server = Server::new(Recorder::echo());
    let (mut client, _) = server.open();
    client.write_all(b"edge").unwrap();
    server.reactor.add(Recorder::new().start(|_| panic!("as the test wants")));
    catch_unwind(AssertUnwindSafe(|| server.reactor.turn(Some(Duration::ZERO)))).unwrap_err();
    assert_eq!(server.read(&mut client, 4), b"edge");
}

#[test]
fn a_panic_in_on_start_leaves_the_starts_and_connects_behind_it_alone() {
    let mut server = Server::new(Recorder::new());
    let address = server.address;
    let first = Recorder::new().start(move |cx| {
        cx.connect(address, 5);
        panic!("as the test wants");
    });
    let first_calls = first.calls.clone();
    let second = Recorder::new();
    let second_calls = second.calls.clone();
    server.reactor.add(first);
    server.reactor.add(second);
    let _watchdog = Watchdog::new("there was something to do");
    catch_unwind(AssertUnwindSafe(|| server.reactor.turn(None).unwrap())).unwrap_err();
    server.reactor.turn(None).unwrap();
    assert_eq!(second_calls.all(), [Call::Start]);
    run_until(&mut server.reactor, "the connect", |_| first_calls.opened().len() == 1);
}

/// A run that ends by a panic did not come to its own end, which writes and goes on closing.
#[test]
fn a_connection_whose_handler_panics_after_it_ended_its_output_still_ends() {
    type End = fn(&mut Connection<'_>);
    let ends: [(&str, End, CloseReason); 5] = [
        ("close", |conn| conn.close(), CloseReason::Closed),
        ("abort", |conn| conn.abort(), CloseReason::Aborted),
        ("shutdown_write", |conn| conn.shutdown_write(), CloseReason::Panicked),
        (
            "send_shared and close",
            |conn| {
                conn.send_shared(Rc::from([7; 600])).ignore();
                conn.close();
            },
            CloseReason::Closed,
        ),
        (
            "send_shared",
            |conn| conn.send_shared(Rc::from([7; 600])).ignore(),
            CloseReason::Panicked,
        ),
    ];
    for (name, end, reason) in ends {
        let mut server = Server::new(Recorder::new().data(move |conn, _| {
            end(conn);
            panic!("as the test wants");
        }));
        let (mut client, _) = server.open();
        client.write_all(b"x").unwrap();
        let (received, _) = server.read_to_end(&mut client);
        assert_eq!(received.is_empty(), !name.contains("send_shared"), "{name}");
        drop(client);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [reason], "{name}");
        server.assert_idle();
    }
}
