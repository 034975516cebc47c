//! Events: those of the past, of closed sources, of nobody, and too many of them.

mod child;
mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest as MioInterest, Registry, Token};
use oneloop::{
    CloseReason, ConnectError, Connection, Context, Drained, Interest, Key, Limits, ListenOptions,
    ReactorLimits, Sent, SourceHandler,
};

use child::{Child, is_served};
use support::*;

#[test]
#[ignore = "the server process of the other tests"]
fn child() {
    child::serve();
}

fn index(key: Key) -> u64 {
    key.to_bits() & u64::from(u32::MAX)
}

/// SplitMix64, so that a seed is a test case.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A descriptor as a raw source. A careless one stays registered when it should be taken out.
struct Descriptor {
    fd: OwnedFd,
    is_careless: bool,
}

impl mio::event::Source for Descriptor {
    fn register(&mut self, r: &Registry, token: Token, interest: MioInterest) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).register(r, token, interest)
    }

    fn reregister(&mut self, r: &Registry, token: Token, interest: MioInterest) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).reregister(r, token, interest)
    }

    fn deregister(&mut self, r: &Registry) -> io::Result<()> {
        if self.is_careless {
            return Ok(());
        }
        SourceFd(&self.fd.as_raw_fd()).deregister(r)
    }
}

/// Counts its calls and reads nothing.
#[derive(Clone, Default)]
struct Count(Rc<Cell<u32>>);

impl SourceHandler for Count {
    type Source = Descriptor;

    fn on_readable(&mut self, _: Key, _: &mut Descriptor, _: &mut Context<'_>) -> Drained {
        self.0.set(self.0.get() + 1);
        Drained::Yes
    }
}

/// A raw source that was closed while a duplicate of its descriptor lives; gives what writes to it,
/// and the duplicate.
fn closed_source(reactor: &mut Reactor, is_careless: bool) -> (Key, io::PipeWriter, OwnedFd) {
    let (receiver, sender) = io::pipe().unwrap();
    let duplicate = receiver.as_fd().try_clone_to_owned().unwrap();
    let handler = reactor.add(Recorder::new());
    let source = Descriptor { fd: receiver.into(), is_careless };
    let key = reactor.add_source(Count::default(), source, Interest::Readable).unwrap();
    reactor.context(handler).close_key(key);
    assert_idle(reactor);
    (key, sender, duplicate)
}

#[test]
fn a_stale_event_finds_nobody_although_its_slot_is_in_use_again() {
    let mut reactor = Reactor::new().unwrap();
    let (old, mut old_sender, _duplicate) = closed_source(&mut reactor, true);

    let (receiver, _sender) = io::pipe().unwrap();
    let heir = Count::default();
    let source = Descriptor { fd: receiver.into(), is_careless: false };
    let key = reactor.add_source(heir.clone(), source, Interest::Readable).unwrap();
    assert_eq!(index(key), index(old), "the slot is used again");
    assert_ne!(key, old);

    assert_eq!(reactor.stats().stale_events, 0);
    old_sender.write_all(b"boo").unwrap();
    run_until(&mut reactor, "the event is dropped", |reactor| reactor.stats().stale_events > 0);
    assert_idle(&mut reactor);
    assert_eq!(heir.0.get(), 0, "the new owner of the slot was called for the old one");
}

#[test]
fn a_duplicate_of_a_removed_raw_source_makes_no_ghost_events() {
    let mut reactor = Reactor::new().unwrap();
    let (_, mut sender, _duplicate) = closed_source(&mut reactor, false);
    let events = reactor.stats().events;
    sender.write_all(b"boo").unwrap();
    assert_idle(&mut reactor);
    assert_eq!(reactor.stats().events, events);
}

#[test]
fn a_duplicate_of_a_closed_connection_harms_nobody() {
    let mut server = Server::new(Recorder::echo());
    let (mut bystander, _) = server.open();
    let (mut client, key) = server.open();
    let duplicate = kernel::server_side_of(&client);
    server.reactor.context(server.handler).abort_key(key);
    server.until_closed(1);
    // The duplicate keeps the socket open, and with it the registration of the closed descriptor.
    client.write_all(b"boo").unwrap();
    let (_heir, _) = server.open();
    server.assert_echoes(&mut bystander);
    drop(duplicate);
    server.assert_idle();
    assert_eq!(server.calls.closed(), [(key, CloseReason::Aborted)]);
}

/// Two clients are ready in one batch. The callback of the first one closes the second one, and a new
/// connection takes its slot.
#[test]
fn a_connection_that_takes_a_slot_within_the_batch_gets_none_of_its_events() {
    let (one, two) = (Rc::new(Cell::new(None::<Key>)), Rc::new(Cell::new(None::<Key>)));
    let new = Rc::new(Cell::new(None::<Key>));
    let (one_, two_, new_) = (Rc::clone(&one), Rc::clone(&two), Rc::clone(&new));
    let address = Rc::new(Cell::new(None));
    let address_ = Rc::clone(&address);
    let recorder = Recorder::new()
        .data(move |conn, data| {
            let other = if Some(conn.key()) == one.get() { two.get() } else { one.get() };
            conn.abort_key(other.unwrap());
            Ok(data.len())
        })
        .close(move |key, _, cx| {
            // The earliest moment at which the slot is free.
            if new_.get().is_none() {
                let new = cx.connect(address.get().unwrap(), 7);
                assert_eq!(index(new), index(key), "the slot is used again");
                assert_ne!(new, key);
                assert_eq!(cx.send_to(key, b"not for you"), Sent::Gone);
                new_.set(Some(new));
            }
        });
    let mut server = Server::new(recorder);
    address_.set(Some(server.address));
    let (mut first, key) = server.open();
    one_.set(Some(key));
    let (mut second, key) = server.open();
    two_.set(Some(key));
    first.write_all(b"1").unwrap();
    second.write_all(b"2").unwrap();
    until_received(server.address, &first, 1);
    until_received(server.address, &second, 1);

    // Two connections come of it: the new one, and its other end.
    server.until("the new connection is open", |calls| calls.opened().len() == 4);
    server.assert_idle();
    let new = new.get().unwrap();
    let calls = server.calls.all();
    let of_new: Vec<_> =
        calls.iter().filter(|call| format!("{call:?}").contains(&format!("({new})"))).collect();
    assert_eq!(of_new, [&Call::Open(new)], "{calls:?}");
    assert_eq!(server.calls.shown().len(), 1, "the closed one was not shown its data: {calls:?}");
    assert_eq!(server.calls.reasons(), [CloseReason::Aborted]);
}

/// All connections are ready in one batch; the callback of each closes others, itself, or all.
#[test]
fn whoever_is_closed_during_the_dispatch_gets_on_close_once_and_nothing_else() {
    for seed in 1..=60 {
        close_during_dispatch(seed);
    }
}

fn close_during_dispatch(seed: u64) {
    const CLIENTS: usize = 12;
    let keys = Rc::new(RefCell::new(Vec::new()));
    let doomed = Rc::new(RefCell::new(HashSet::new()));
    let mut state = seed;
    let (all, doomed_) = (Rc::clone(&keys), Rc::clone(&doomed));
    let recorder = Recorder::new().data(move |conn, data| {
        let all = all.borrow();
        let mut doomed = doomed_.borrow_mut();
        assert!(!doomed.contains(&conn.key()), "seed {seed}: data after the close");
        let roll = random(&mut state);
        let other: Key = all[roll as usize / 64 % all.len()];
        match roll % 8 {
            0 => {
                conn.close();
                doomed.insert(conn.key());
            }
            1 => {
                conn.abort();
                doomed.insert(conn.key());
            }
            2 | 3 => {
                conn.close_key(other);
                doomed.insert(other);
            }
            4 | 5 => {
                conn.abort_key(other);
                doomed.insert(other);
            }
            6 if roll & 0x18 == 0 => {
                for key in all.iter() {
                    if roll & 0x20 == 0 {
                        conn.close_key(*key)
                    } else {
                        conn.abort_key(*key)
                    }
                    doomed.insert(*key);
                }
            }
            _ => {}
        }
        if conn.send_to(other, b"to another one") == Sent::Gone {
            assert!(doomed.contains(&other), "seed {seed}");
        }
        Ok(data.len())
    });
    let mut server = Server::new(recorder);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.open().0).collect();
    *keys.borrow_mut() = server.calls.opened();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    server.reactor.turn(Some(DEADLINE)).unwrap();
    for client in &mut clients {
        // Somebody may have closed it.
        let _ = client.write_all(b"y");
    }
    server.reactor.turn(Some(Duration::from_millis(1))).unwrap();
    drop(clients);
    server.until_closed(CLIENTS);
    let closed: HashSet<Key> = server.calls.closed().into_iter().map(|(key, _)| key).collect();
    assert_eq!(closed.len(), CLIENTS, "seed {seed}");
    for (key, reason) in server.calls.closed() {
        let by_us = matches!(reason, CloseReason::Closed | CloseReason::Aborted);
        assert_eq!(by_us, doomed.borrow().contains(&key), "seed {seed}: {key} {reason}");
    }
    assert_eq!(server.reactor.connections(), 0);
}

/// A connection whose output is stuck, with a byte to read as well: the next event says both.
fn stuck_and_readable(recorder: Recorder) -> (Server, TcpStream) {
    let limits = Limits::new().output_bytes_max(64 << 20);
    let mut server = Server::with_limits(recorder, limits);
    let mut client = connect_small(server.address);
    server.until("it opens", |calls| calls.opened().len() == 1);
    server.assert_idle();
    assert!(server.reactor.stats().memory_bytes > 0, "its output is stuck");
    client.write_all(b"x").unwrap();
    (server, client)
}

/// Reads to the end on another thread, and then closes; gives how many bytes came.
fn read_aside(reactor: &mut Reactor, mut client: TcpStream) -> usize {
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            total += count;
        }
        total
    });
    run_until(reactor, "the client has read everything", |_| reader.is_finished());
    reader.join().unwrap()
}

fn fill(conn: &mut Connection<'_>) {
    conn.send(&vec![0; 16 << 20]).ignore();
}

#[test]
fn a_close_in_the_write_half_of_an_event_is_the_last_call_although_it_said_readable_too() {
    for abort in [false, true] {
        let recorder = Recorder::new()
            .open(fill)
            .drained(move |conn| if abort { conn.abort() } else { conn.close() });
        let (mut server, client) = stuck_and_readable(recorder);
        read_aside(&mut server.reactor, client);
        server.until_closed(1);
        assert_eq!(server.calls.count(|call| matches!(call, Call::Drained(_))), 1);
        assert!(server.calls.shown().is_empty(), "{:?}", server.calls.shown());
    }
}

#[test]
fn a_close_in_on_data_is_the_last_call_although_the_event_said_writable_too() {
    for abort in [false, true] {
        let recorder = Recorder::new().data(move |conn, data| {
            fill(conn);
            if abort {
                conn.abort()
            } else {
                conn.close()
            }
            Ok(data.len())
        });
        let limits = Limits::new().output_bytes_max(64 << 20);
        let mut server = Server::with_limits(recorder, limits);
        let mut client = connect_small(server.address);
        server.until("it opens", |calls| calls.opened().len() == 1);
        client.write_all(b"x").unwrap();
        let bytes = read_aside(&mut server.reactor, client);
        assert_eq!(bytes == 16 << 20, !abort, "a close flushes, an abort does not");
        server.until_closed(1);
        assert_eq!(server.calls.shown().len(), 1);
        assert_eq!(server.calls.count(|call| matches!(call, Call::Drained(_))), 0);
    }
}

/// A reset sets every bit there is. Whatever state it meets, it ends the connection once.
#[test]
fn a_reset_ends_a_connection_once_whatever_its_interest() {
    // Idle; paused; output stuck; paused with output stuck; our side shut down.
    type Set = fn(&mut Connection<'_>);
    let states: [Set; 5] = [
        |_| {},
        |conn| conn.pause(),
        fill,
        |conn| {
            fill(conn);
            conn.pause();
        },
        |conn| conn.shutdown_write(),
    ];
    for (number, set) in states.into_iter().enumerate() {
        let limits = Limits::new().output_bytes_max(64 << 20);
        let mut server = Server::with_limits(Recorder::new().open(set), limits);
        let client = connect_small(server.address);
        server.until("it opens", |calls| calls.opened().len() == 1);
        for _ in 0..3 {
            server.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
        reset(client);
        server.until_closed(1);
        server.assert_idle();
        assert_eq!(server.calls.reasons(), [CloseReason::Reset], "state {number}");
        assert_eq!(server.calls.shown().len(), 0);
    }
}

/// The callback of one connection takes the bytes of another one that is in the same batch.
#[test]
fn a_spurious_event_is_a_read_that_would_block_and_no_more() {
    let other: Rc<RefCell<Option<TcpStream>>> = Rc::default();
    let thief = Rc::clone(&other);
    let mut server = Server::new(Recorder::new().data(move |_, data| {
        if let Some(mut other) = thief.borrow_mut().take() {
            assert_eq!(other.read(&mut [0; 100]).unwrap(), 6);
        }
        Ok(data.len())
    }));
    let (mut first, _) = server.open();
    let (mut second, _) = server.open();
    server.assert_idle();
    first.write_all(b"first").unwrap();
    until_received(server.address, &first, 5);
    second.write_all(b"second").unwrap();
    until_received(server.address, &second, 6);
    *other.borrow_mut() = Some(kernel::server_side_of(&second).into());
    server.reactor.turn(Some(DEADLINE)).unwrap();
    assert_eq!(server.calls.shown(), [b"first"]);
    assert_eq!(server.reactor.stats().read_would_blocks, 1);
    server.assert_idle();
    assert_eq!(server.calls.closed(), []);
    second.write_all(b"again").unwrap();
    server.until("the next event", |calls| calls.shown().len() == 2);
    assert_eq!(server.calls.shown()[1], b"again");
}

#[test]
fn one_event_a_poll_serves_a_thousand_ready_connections() {
    const CLIENTS: usize = 1000;
    assert!(kernel::may_open(3 * CLIENTS as u64));
    let limits = ReactorLimits::new().connections_max(CLIENTS).events_per_poll_max(1);
    let mut server = Server::with(Recorder::echo(), &ListenOptions::new(), limits);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.until("all are open", |calls| calls.opened().len() == CLIENTS);
    for client in &mut clients {
        client.write_all(b"ready").unwrap();
    }
    server.until("all are served", |calls| calls.count(|c| matches!(c, Call::Data(..))) >= CLIENTS);
    for client in &mut clients {
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ready");
    }
    assert_eq!(server.reactor.stats().closes_total(), 0);
}

/// A program that a handler starts inherits none of the reactor's descriptors.
#[test]
fn a_program_that_a_handler_starts_inherits_no_descriptor() {
    // Whoever started the tests may have left some open.
    fn inherited() -> String {
        let output = Command::new("ls").arg("/proc/self/fd").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
    if !alone("a_program_that_a_handler_starts_inherits_no_descriptor") {
        return;
    }
    let before = inherited();
    let within: Rc<RefCell<String>> = Rc::default();
    let within_ = Rc::clone(&within);
    let mut server = Server::new(Recorder::new().data(move |_, data| {
        *within_.borrow_mut() = inherited();
        Ok(data.len())
    }));
    // A listener, accepted connections, an outbound one, the epoll instance and the reserve.
    let (mut client, _) = server.open();
    let address = server.address;
    server.reactor.context(server.handler).connect(address, 0);
    server.until("both ends are open", |calls| calls.opened().len() == 3);
    // The test's own descriptors are the standard library's, which closes them on exec, too.
    client.write_all(b"go").unwrap();
    server.until("the program has run", |calls| calls.shown().len() == 1);
    assert_eq!(*within.borrow(), before);
}

/// Every second registration of a connection fails with ENOSPC (epoll_ctl(2): max_user_watches).
#[test]
fn a_connection_that_cannot_be_registered_is_closed_and_leaks_nothing_and_the_others_are_served() {
    // The first two are the listener and the connection to the parent.
    let mut child = Child::start_with_failing("epoll_ctl", "error=ENOSPC:when=4+2");
    let baseline = kernel::descriptors_of(child.pid);
    const CLIENTS: usize = 40;
    for round in 0..3 {
        let mut served = 0;
        let clients: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| {
                let mut client = connect(child.address);
                served += usize::from(is_served(&mut client));
                client
            })
            .collect();
        assert_eq!(served, CLIENTS / 2, "round {round}");
        assert_eq!(kernel::descriptors_of(child.pid), baseline + CLIENTS / 2);
        drop(clients);
        child.until("all are closed", |report| report.get("connections") == 0);
        assert_eq!(kernel::descriptors_of(child.pid), baseline, "round {round}");
    }
    let report = child.report();
    assert_eq!(report.get("refusals"), 3 * CLIENTS as u64 / 2);
}

#[test]
fn an_outbound_connection_without_a_descriptor_fails_and_leaks_nothing() {
    if !alone("an_outbound_connection_without_a_descriptor_fails_and_leaks_nothing") {
        return;
    }
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let mut server = Server::new(Recorder::new());
    let before = descriptors();
    let limit = getrlimit(Resource::Nofile);
    let next = io::pipe().unwrap().0.as_raw_fd() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(next), ..limit }).unwrap();
    let address = server.address;
    for tag in 0..3 {
        server.reactor.context(server.handler).connect(address, tag);
    }
    server.until("they failed", |calls| {
        calls.count(|call| matches!(call, Call::ConnectFailed(_, _, ConnectError::Io(_)))) == 3
    });
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(descriptors(), before);
    server.reactor.context(server.handler).connect(address, 9);
    server.until("it works again", |calls| calls.opened().len() == 2);
}

/// Turned away by the handler, by a limit, ended by a panic in each place, aborted, closed: nothing
/// stays behind.
#[test]
fn no_way_to_end_a_connection_leaks_a_descriptor() {
    if !alone("no_way_to_end_a_connection_leaks_a_descriptor") {
        return;
    }
    let turn = Rc::new(Cell::new(0_u32));
    let (accept, open, data) = (Rc::clone(&turn), Rc::clone(&turn), Rc::clone(&turn));
    let recorder = Recorder::new()
        .accept(move |_, _| {
            accept.set(accept.get() + 1);
            accept.get() % 8 != 0
        })
        .open(move |conn| match open.get() % 8 {
            1 => panic!("on purpose, in on_open"),
            2 => conn.abort(),
            3 => conn.close(),
            _ => {}
        })
        .data(move |_, bytes| match data.get() % 8 {
            4 => panic!("on purpose, in on_data"),
            5 => Err("on purpose".into()),
            6 => Ok(bytes.len() + 1),
            _ => Ok(bytes.len()),
        });
    let mut server = Server::new(recorder);
    std::panic::set_hook(Box::new(|_| {}));
    server.assert_idle();
    let before = descriptors();
    let cycles = if cfg!(debug_assertions) { 1000 } else { 10_000 };
    for cycle in 0..cycles {
        let mut client = server.connect();
        let _ = client.write_all(b"x");
        let ended = |reactor: &Reactor| {
            let stats = reactor.stats();
            stats.refusals + stats.closes_total() + stats.panics
        };
        let before = ended(&server.reactor);
        if turn.get() % 8 == 6 {
            // The next one lives until its client goes.
            run_until(&mut server.reactor, "it is open", |reactor| reactor.connections() == 1);
        }
        if cycle % 2 == 0 {
            drop(client);
        } else {
            reset(client);
        }
        let mut is_counted = false;
        run_until(&mut server.reactor, "it is gone", |reactor| {
            is_counted |= ended(reactor) > before;
            is_counted && reactor.connections() == 0
        });
    }
    let _ = std::panic::take_hook();
    server.assert_idle();
    assert_eq!(descriptors(), before);
}

/// `abc`, a byte of urgent data, `defghi`: a read stops at the urgent mark, which looks like the end of
/// what is there (tcp(7), `SIOCATMARK`).
#[test]
fn urgent_data_neither_stalls_nor_spins_and_is_left_out() {
    for read_between in [false, true] {
        let mut server = Server::new(Recorder::echo());
        let (client, _) = server.open();
        let mut urgent = socket2::Socket::from(client.try_clone().unwrap());
        urgent.write_all(b"abc").unwrap();
        if read_between {
            server.until("the first part", |calls| calls.shown().concat() == b"abc");
        }
        urgent.send_out_of_band(b"!").unwrap();
        urgent.write_all(b"defghi").unwrap();
        until_received(server.address, &client, if read_between { 7 } else { 10 });
        server.until("all of it", |calls| calls.shown().concat() == b"abcdefghi");
        server.assert_idle();
        // Again and again. An urgent byte that the next one overtakes becomes an ordinary one.
        for _ in 0..20 {
            urgent.send_out_of_band(b"!").unwrap();
            urgent.write_all(b"jk").unwrap();
        }
        let all = [&b"abcdefghi"[..], &b"jk".repeat(20)].concat();
        let ordinary = |calls: &Calls| {
            let mut bytes = calls.shown().concat();
            bytes.retain(|byte| *byte != b'!');
            bytes
        };
        server.until("the rest", |calls| ordinary(calls) == all);
        server.assert_idle();
    }
}

#[test]
fn urgent_data_before_the_end_of_file_does_not_hide_it() {
    let mut server = Server::new(Recorder::new());
    let (client, key) = server.open();
    let mut urgent = socket2::Socket::from(client);
    urgent.write_all(b"abc").unwrap();
    urgent.send_out_of_band(b"!").unwrap();
    urgent.write_all(b"defghi").unwrap();
    urgent.shutdown(std::net::Shutdown::Write).unwrap();
    server.until_closed(1);
    assert_eq!(server.calls.shown().concat(), b"abcdefghi");
    assert_eq!(server.calls.closed(), [(key, CloseReason::PeerClosed)]);
}
