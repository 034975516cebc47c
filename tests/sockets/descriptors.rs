//! What descriptors of the process do: duplicates, options, urgent data, and none that is left over.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use oneloop::{CloseReason, ListenOptions, ReactorLimits, SocketOptions};
use rustix::process::{Resource, getrlimit};

use crate::child::{Child, is_served};
use crate::support::*;

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

/// Every second registration of a connection fails with ENOSPC (epoll_ctl(2): max_user_watches). Then accepting pauses: the
/// next one could not be registered either.
#[test]
fn a_connection_that_cannot_be_registered_is_closed_and_leaks_nothing_and_the_others_are_served() {
    // The first two are the listener and the connection to the parent. One is registered, one is not, the listener is
    // taken out and put in again, and so on.
    let mut child = Child::start_with_failing("epoll_ctl", "error=ENOSPC:when=4+4");
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
    let failed = 3 * CLIENTS as u64 / 2;
    assert_eq!((report.get("refusals"), report.get("accept_errors")), (failed, failed));
}

/// Set once on the listener, and handed down by the kernel.
#[test]
fn accepted_sockets_inherit_nodelay() {
    for nodelay in [true, false] {
        let options = ListenOptions::new().socket(SocketOptions::new().nodelay(nodelay));
        let mut server = Server::with(Recorder::new(), &options, ReactorLimits::new());
        let (client, _) = server.open();
        let accepted = kernel::server_side_of(&client);
        assert_eq!(rustix::net::sockopt::tcp_nodelay(&accepted).unwrap(), nodelay);
    }
}

#[test]
fn nodelay_is_the_default_for_outbound_connections_too() {
    let mut server = Server::new(Recorder::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    server.reactor.context(server.handler).connect(listener.local_addr().unwrap(), 0);
    server.until("it opens", |calls| calls.opened().len() == 1);
    let (client, _) = listener.accept().unwrap();
    let outbound = kernel::server_side_of(&client);
    assert!(rustix::net::sockopt::tcp_nodelay(&outbound).unwrap());
}

/// `abc`, a byte of urgent data, `defghi`: a read stops at the urgent mark, which looks like the end of
/// what is there (tcp(7), `SIOCATMARK`).
#[test]
fn out_of_band_data_neither_stalls_nor_spins_and_is_left_out() {
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

/// Nobody reads it, so that it stays: a level for who has asked for `EPOLLPRI` (epoll_ctl(2)).
#[test]
fn out_of_band_data_that_stays_unread_costs_a_turn_and_no_more() {
    let mut server = Server::new(Recorder::echo());
    let (client, _) = server.open();
    server.assert_idle();
    let counts = |server: &Server| {
        let stats = server.reactor.stats();
        (stats.events, stats.reads, stats.busy_turns, stats.turns)
    };
    let (before, ..) = counts(&server);
    let urgent = socket2::Socket::from(client.try_clone().unwrap());
    urgent.send_out_of_band(b"!").unwrap();
    until_received(server.address, &client, 1);
    server.reactor.turn(Some(Duration::from_millis(2))).unwrap();
    let (events, reads, busy_turns, turns) = counts(&server);
    assert!(events <= before + 1, "{events} events, after {before}");
    for _ in 0..5 {
        server.reactor.turn(Some(Duration::from_millis(2))).unwrap();
    }
    assert_eq!(counts(&server), (events, reads, busy_turns, turns + 5));
    assert_eq!(server.calls.shown().concat(), b"");
}

#[test]
fn out_of_band_data_before_the_end_of_file_does_not_hide_it() {
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

/// So that a reactor can be a part of another loop.
#[test]
fn the_epoll_descriptor_is_readable_when_a_turn_would_find_events() {
    let mut server = Server::new(Recorder::new());
    server.assert_idle();
    let mut outer = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(1);
    let fd = server.reactor.as_raw_fd();
    assert_eq!(server.reactor.as_fd().as_raw_fd(), fd);
    let mut source = mio::unix::SourceFd(&fd);
    outer.registry().register(&mut source, mio::Token(0), mio::Interest::READABLE).unwrap();
    outer.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "nobody came");
    let _client = server.connect();
    outer.poll(&mut events, Some(DEADLINE)).unwrap();
    assert!(!events.is_empty());
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.calls.opened().len(), 1);
}

#[test]
fn the_limit_of_descriptors_is_raised_as_far_as_the_process_may_and_until_then_one_is_warned() {
    let mut raising = Command::new("prlimit");
    raising.arg("--nofile=100:300").arg(std::env::current_exe().unwrap()).args([
        "--exact",
        "descriptors::raises_its_limit",
        "--ignored",
        "--nocapture",
    ]);
    let printed = apart(|| raising.output()).unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let (before, after) = printed.split_once("raised to 300, and is 300").expect(&printed);
    let warning = "100 descriptors, which end before the limit connections_max (200)";
    assert!(before.contains(warning), "{printed}");
    assert!(!after.contains("WARN"), "{printed}");
}

#[test]
#[ignore = "a process of its own, that another test starts with a low limit"]
fn raises_its_limit() {
    let stdout = env_logger::Target::Stdout;
    env_logger::builder().filter_level(log::LevelFilter::Warn).target(stdout).init();
    let listen = || {
        let limits = ReactorLimits::new().connections_max(200);
        let _server = Server::with(Recorder::new(), &ListenOptions::new(), limits);
    };
    listen();
    let told = oneloop::raise_descriptor_limit();
    let is = getrlimit(Resource::Nofile).current.unwrap();
    println!("raised to {told}, and is {is}");
    listen();
}
