//! Reaching other connections by key, from every callback, across handlers of different types.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::support::*;
use oneloop::{
    CloseReason, Connection, Context, Error, HandlerId, Key, Limits, ListenOptions, Origin,
    ReactorLimits, Sent, StreamHandler,
};

/// A handler of another type than the recorder, which stands for the other side of every action.
#[derive(Default)]
struct Target {
    keys: Vec<Key>,
    received: Vec<u8>,
    pokes: u32,
    closed: Vec<(Key, CloseReason)>,
}

impl StreamHandler for Target {
    type Session = u64;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> u64 {
        self.keys.push(conn.key());
        7
    }

    fn on_data(
        &mut self,
        _: &mut u64,
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.received.extend_from_slice(data);
        Ok(data.len())
    }

    fn on_poke(&mut self, session: &mut u64, _: &mut Connection<'_>) {
        assert_eq!(*session, 7);
        self.pokes += 1;
    }

    fn on_close(&mut self, session: u64, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        assert_eq!(session, 7);
        self.closed.push((key, reason));
    }
}

/// What to do, knowing the connection that the callback is about if it is about one.
type Action = Rc<RefCell<dyn FnMut(&mut Context<'_>, Option<Key>)>>;

const PLACES: [&str; 11] = [
    "on_start",
    "accept",
    "on_open",
    "on_data",
    "on_drained",
    "on_peer_closed",
    "on_timer",
    "on_poke",
    "on_close",
    "on_connect_failed",
    "on_handler_timer",
];

/// A handler that acts once, in one of its callbacks, on its way through all of them.
fn acts_in(place: &'static str, action: Action, nobody: SocketAddr) -> Recorder {
    let has_acted = Rc::new(Cell::new(false));
    let act = move |here: &str, cx: &mut Context<'_>, own: Option<Key>| {
        if here == place && !has_acted.replace(true) {
            (action.borrow_mut())(cx, own);
        }
    };
    let act_on = {
        let act = act.clone();
        move |here: &str, conn: &mut Connection<'_>| {
            let own = conn.key();
            act(here, conn, Some(own));
        }
    };
    let [a, b, i, j, k] = std::array::from_fn(|_| act.clone());
    let [c, d, e, f, g, h] = std::array::from_fn(|_| act_on.clone());
    Recorder::new()
        .start(move |cx| {
            a("on_start", cx, None);
            cx.connect(nobody, 0);
            cx.set_handler_timer(Duration::ZERO);
        })
        .accept(move |_, cx| {
            b("accept", cx, None);
            true
        })
        .open(move |conn| {
            c("on_open", conn);
            conn.set_timer(Duration::ZERO);
            let key = conn.key();
            conn.poke(key);
            if matches!(conn.origin(), Origin::Accepted(_)) {
                assert_ne!(conn.send(&[0; 101]), Sent::Ok);
            }
        })
        .data(move |conn, data| {
            d("on_data", conn);
            Ok(data.len())
        })
        .drained(move |conn| e("on_drained", conn))
        .peer_closed(move |conn| {
            f("on_peer_closed", conn);
            conn.close();
        })
        .timer(move |conn, _| g("on_timer", conn))
        .poke(move |conn| h("on_poke", conn))
        .close(move |_, _, cx| i("on_close", cx, None))
        .connect_failed(move |_, _, _, cx| j("on_connect_failed", cx, None))
        .handler_timer(move |_, cx| k("on_handler_timer", cx, None))
}

/// Does `action` to an open connection from each callback in turn, and then `check`s its effect.
fn from_every_callback(
    action: fn(&mut Context<'_>, Key),
    check: fn(&str, &mut Server, HandlerId<Target>, Key, TcpStream),
) {
    let (_socket, nobody) = nobody();
    for place in PLACES {
        let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(64)).unwrap();
        let target = reactor.add(Target::default());
        let listener = reactor.listen(target, "127.0.0.1:0").unwrap();
        let other = connect(reactor.listener_address(listener).unwrap().inet().unwrap());
        run_until(&mut reactor, "the target opens", |r| r.handler(target).keys.len() == 1);
        let key = reactor.handler(target).keys[0];

        let has_acted = Rc::new(Cell::new(false));
        let acted = Rc::clone(&has_acted);
        let action: Action = Rc::new(RefCell::new(move |cx: &mut Context<'_>, _| {
            acted.set(true);
            action(cx, key);
        }));
        let actor = acts_in(place, action, nobody);
        let calls = actor.calls.clone();
        let handler = reactor.add(actor);
        let options =
            ListenOptions::new().limits(Limits::new().output_bytes_low(10).output_bytes_high(100));
        let listener = reactor.listen_with(handler, "127.0.0.1:0", &options).unwrap();
        let address = reactor.listener_address(listener).unwrap().inet().unwrap();
        let mut server = Server { reactor, handler, listener, address, calls };
        let (mut client, _) = server.open();
        client.write_all(b"data").unwrap();
        server.until("the data is shown", |calls| calls.shown().len() == 1);
        client.shutdown(Shutdown::Write).unwrap();
        run_until(&mut server.reactor, &format!("{place} has acted"), |_| has_acted.get());
        check(place, &mut server, target, key, other);
        server.until_closed(1);
        assert_eq!(server.calls.reasons(), [CloseReason::PeerClosed], "{place}: the actor itself");
        server.assert_idle();
    }
}

#[test]
fn send_to_reaches_another_connection_from_every_callback() {
    from_every_callback(
        |cx, key| {
            assert!(cx.is_open(key));
            assert_eq!(cx.send_to(key, b"copied, "), Sent::Ok);
            assert_eq!(cx.send_shared_to(key, Rc::from(*b"shared")), Sent::Ok);
        },
        |place, server, target, _, mut other| {
            assert_eq!(server.read(&mut other, 14), b"copied, shared", "{place}");
            drop(other);
            run_until(&mut server.reactor, "the target closes", |r| {
                r.handler(target).closed.len() == 1
            });
        },
    );
}

#[test]
fn close_key_closes_another_connection_from_every_callback() {
    from_every_callback(
        |cx, key| {
            assert_eq!(cx.send_to(key, b"last"), Sent::Ok);
            cx.close_key(key);
            assert!(!cx.is_open(key));
            assert_eq!(cx.send_to(key, b"too late"), Sent::Gone);
            cx.poke(key);
        },
        |place, server, target, key, mut other| {
            let received = server.read_to_end(&mut other);
            assert_eq!(received, (b"last".to_vec(), None), "{place}");
            other.write_all(b"ignored").unwrap();
            drop(other);
            run_until(&mut server.reactor, "the target closes", |r| {
                r.handler(target).closed == [(key, CloseReason::Closed)]
            });
            let target = server.reactor.handler(target);
            assert_eq!((target.received.len(), target.pokes), (0, 0), "{place}");
        },
    );
}

#[test]
fn abort_key_resets_another_connection_from_every_callback() {
    from_every_callback(
        |cx, key| {
            assert_eq!(cx.send_to(key, b"dropped"), Sent::Ok);
            cx.abort_key(key);
            assert!(!cx.is_open(key));
            assert_eq!(cx.send_to(key, b"too late"), Sent::Gone);
        },
        |place, server, target, key, mut other| {
            let received = server.read_to_end(&mut other);
            assert_eq!(received, (Vec::new(), Some(ErrorKind::ConnectionReset)), "{place}");
            run_until(&mut server.reactor, "the target closes", |r| {
                r.handler(target).closed == [(key, CloseReason::Aborted)]
            });
        },
    );
}

#[test]
fn pause_key_and_resume_key_hold_another_connection_from_every_callback() {
    from_every_callback(
        |cx, key| cx.pause_key(key),
        |place, server, target, key, mut other| {
            other.write_all(b"held back").unwrap();
            server.assert_idle();
            assert_eq!(server.reactor.handler(target).received.len(), 0, "{place}");
            server.reactor.context(target).resume_key(key);
            run_until(&mut server.reactor, "it is shown", |r| {
                r.handler(target).received == b"held back"
            });
        },
    );
    from_every_callback(
        |cx, key| {
            cx.pause_key(key);
            cx.resume_key(key);
        },
        |place, server, target, _, mut other| {
            other.write_all(b"let through").unwrap();
            run_until(&mut server.reactor, "it is shown", |r| {
                r.handler(target).received.len() == 11
            });
            assert_eq!(server.reactor.handler(target).received, b"let through", "{place}");
        },
    );
}

#[test]
fn a_poke_reaches_another_connection_from_every_callback() {
    from_every_callback(
        |cx, key| {
            cx.poke(key);
            cx.poke(key);
        },
        |place, server, target, _, _| {
            run_until(&mut server.reactor, place, |r| r.handler(target).pokes == 1);
            server.assert_idle();
            assert_eq!(server.reactor.handler(target).pokes, 1, "{place}: two pokes are one call");
        },
    );
}

#[test]
fn a_connect_can_be_begun_from_every_callback() {
    if !needs_tcp("it connects out") {
        return;
    }
    thread_local!(static TO: Cell<Option<SocketAddr>> = const { Cell::new(None) });
    let mut elsewhere = Server::new(Recorder::new());
    TO.set(Some(elsewhere.address));
    from_every_callback(
        |cx, _| {
            let key = cx.connect(TO.get().unwrap(), 99);
            // It keeps what is sent until it is open.
            assert_eq!(cx.send_to(key, b"early"), Sent::Ok);
            assert!(!cx.is_open(key));
        },
        |place, server, _, _, _| {
            server.until("two are open", |calls| calls.opened().len() == 2);
            let key = server.calls.opened()[1];
            run_until(&mut server.reactor, "it is sent", |r| r.stats().bytes_out == 101 + 5);
            assert!(server.reactor.context(server.handler).is_open(key), "{place}");
            server.reactor.context(server.handler).abort_key(key);
            server
                .until("it is aborted", |calls| calls.has(&Call::Close(key, CloseReason::Aborted)));
            server.until_closed(2);
            server.calls.clear();
            let (mut client, key) = server.open();
            server.read(&mut client, 101);
            drop(client);
            server.until("that one closes", |calls| calls.closed().len() == 1);
            assert_eq!(server.calls.closed()[0].0, key);
        },
    );
    elsewhere.until_closed(PLACES.len());
}

#[test]
fn a_poke_and_a_timer_that_were_on_their_way_find_a_closing_connection_closed() {
    let target = Rc::new(Cell::new(None));
    let closed = Rc::clone(&target);
    let mut server = Server::new(
        Recorder::new()
            .open(|conn| {
                conn.set_timer(Duration::from_millis(30));
            })
            .handler_timer(move |_, cx| cx.close_key(closed.get().expect("it is open"))),
    );
    // A poke in the mail.
    let (client, key) = server.open();
    let mut cx = server.reactor.context(server.handler);
    cx.poke(key);
    cx.close_key(key);
    server.assert_idle();
    drop(client);
    server.until_closed(1);
    assert!(!server.calls.has(&Call::Poke(key)));
    // A timer that is due in the turn in which an earlier one closes its connection.
    let (client, key) = server.open();
    target.set(Some(key));
    let mut cx = server.reactor.context(server.handler);
    cx.set_handler_timer(Duration::from_millis(10));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(60) {} // both are due when the next turn begins
    server.assert_idle();
    drop(client);
    server.until_closed(2);
    let timers = server.calls.count(|call| matches!(call, Call::HandlerTimer(_)));
    assert_eq!((timers, server.calls.count(|call| matches!(call, Call::Timer(..)))), (1, 0));
}

#[test]
fn a_connection_can_end_itself_from_each_of_its_callbacks() {
    if !needs_tcp("a Unix socket has no reset") {
        return;
    }
    let places = ["on_open", "on_data", "on_drained", "on_peer_closed", "on_timer", "on_poke"];
    type End = (fn(&mut Context<'_>, Key), CloseReason);
    let ends: [End; 2] = [
        (|cx, key| cx.close_key(key), CloseReason::Closed),
        (|cx, key| cx.abort_key(key), CloseReason::Aborted),
    ];
    let (_socket, nobody) = nobody();
    for place in places {
        for (end, reason) in ends {
            let action: Action = Rc::new(RefCell::new(move |cx: &mut Context<'_>, own| {
                end(cx, Option::expect(own, "it is about a connection"));
            }));
            let recorder = acts_in(place, action, nobody);
            let options = ListenOptions::new()
                .limits(Limits::new().output_bytes_low(10).output_bytes_high(100));
            let limits = ReactorLimits::new().connections_max(4);
            let mut server = Server::with(recorder, &options, limits);
            let mut client = server.connect();
            client.write_all(b"data").unwrap();
            server.until("it opens", |calls| calls.opened().len() == 1);
            if place == "on_peer_closed" {
                client.shutdown(Shutdown::Write).unwrap();
            }
            let (_, error) = server.read_to_end(&mut client);
            assert_eq!(error.is_some(), reason == CloseReason::Aborted, "{place}");
            drop(client);
            server.until_closed(1);
            let reason = match (place, reason) {
                ("on_peer_closed", CloseReason::Closed) => CloseReason::PeerClosed,
                _ => reason,
            };
            assert_eq!(server.calls.reasons(), [reason], "{place}");
            server.assert_idle();
        }
    }
}

#[test]
fn a_key_that_is_out_of_date_reaches_nobody() {
    let mut server = Server::new(Recorder::echo());
    let (client, old) = server.open();
    drop(client);
    server.until_closed(1);
    let (mut client, new) = server.open();
    assert_eq!(new.to_bits() as u32, old.to_bits() as u32, "the slot is used again");
    assert_ne!(new, old);
    for key in [old, Key::from_bits(0), Key::from_bits(u64::MAX), Key::from_bits(1 << 32 | 5000)] {
        let mut cx = server.reactor.context(server.handler);
        assert!(!cx.is_open(key));
        assert_eq!(cx.send_to(key, b"to nobody"), Sent::Gone);
        assert_eq!(cx.send_shared_to(key, Rc::from(*b"to nobody")), Sent::Gone);
        cx.close_key(key);
        cx.abort_key(key);
        cx.pause_key(key);
        cx.resume_key(key);
        cx.poke(key);
    }
    server.assert_echoes(&mut client);
    server.assert_idle();
    assert_eq!(server.calls.count(|call| matches!(call, Call::Poke(_))), 0);
    assert_eq!(server.calls.closed().len(), 1);
}

#[test]
fn a_connection_that_ends_while_others_of_its_batch_are_ready_is_not_called_again() {
    // Whoever comes first in the turn aborts all others, which are readable, too.
    let keys = Rc::<RefCell<Vec<Key>>>::default();
    let all = Rc::clone(&keys);
    let mut server = Server::new(Recorder::new().data(move |conn, data| {
        let own = conn.key();
        for key in all.borrow().iter().filter(|key| **key != own) {
            conn.abort_key(*key);
        }
        Ok(data.len())
    }));
    for _ in 0..10 {
        server.calls.clear();
        let opened: Vec<_> = (0..8).map(|_| server.open()).collect();
        *keys.borrow_mut() = opened.iter().map(|(_, key)| *key).collect();
        let mut clients: Vec<_> = opened.into_iter().map(|(client, _)| client).collect();
        for client in &mut clients {
            client.write_all(b"x").unwrap();
        }
        server.until_closed(7);
        assert_eq!(server.calls.reasons(), [CloseReason::Aborted; 7]);
        assert_eq!(server.calls.shown().len(), 1);
        drop(clients);
        server.until_closed(8);
    }
}

#[test]
fn a_resume_by_another_connection_of_the_same_turn_shows_what_is_left() {
    // Both are readable in one turn, in either order: the second byte of `b` wakes `a`.
    let first = Rc::new(Cell::new(None::<Key>));
    let paused = Rc::clone(&first);
    let mut server = Server::new(Recorder::new().data(move |conn, data| match data {
        b"hold" => {
            conn.pause();
            paused.set(Some(conn.key()));
            Ok(0)
        }
        b"free" => {
            conn.resume_key(paused.get().expect("one holds"));
            Ok(4)
        }
        _ => Ok(data.len()),
    }));
    let (mut a, a_key) = server.open();
    let (mut b, _) = server.open();
    a.write_all(b"hold").unwrap();
    server.until("it holds", |calls| calls.shown().len() == 1);
    a.write_all(b"more").unwrap();
    b.write_all(b"free").unwrap();
    let shown = |text: &[u8]| Call::Data(a_key, text.to_vec());
    server.until("it is shown again", |calls| calls.count(|c| *c == shown(b"hold")) == 2);
    // It pauses again; the new bytes are not lost on the way.
    b.write_all(b"free").unwrap();
    server.until("it is shown again", |calls| calls.count(|c| *c == shown(b"hold")) == 3);
    server.reactor.context(server.handler).resume_key(a_key);
    *server.reactor.handler_mut(server.handler) = {
        let mut recorder = Recorder::new();
        recorder.calls = server.calls.clone();
        recorder
    };
    server.until("all is shown", |calls| calls.shown().concat().ends_with(b"holdmore"));
    server.assert_idle();
}

#[test]
fn a_broadcast_shares_one_piece_between_all() {
    let keys = Rc::<RefCell<Vec<Key>>>::default();
    let (opened, all) = (Rc::clone(&keys), Rc::clone(&keys));
    let mut server =
        Server::new(Recorder::new().open(move |conn| opened.borrow_mut().push(conn.key())).data(
            move |conn, data| {
                let piece: Rc<[u8]> = Rc::from(data);
                for key in all.borrow().iter() {
                    assert_eq!(conn.send_shared_to(*key, Rc::clone(&piece)), Sent::Ok);
                }
                Ok(data.len())
            },
        ));
    let mut clients: Vec<_> = (0..20).map(|_| server.open().0).collect();
    clients[7].write_all(b"to all").unwrap();
    for client in &mut clients {
        assert_eq!(server.read(client, 6), b"to all");
    }
    server.assert_idle();
    assert_eq!(server.reactor.stats().writes, 20);
    assert_eq!(server.reactor.stats().memory_bytes, 0);
}
