//! Connecting to names and to several addresses, on real sockets and threads. In virtual time it is `sim/names.rs`
//! and `sim/race.rs`.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use oneloop::address::{Endpoint, Host};
use oneloop::{
    Address, Backoff, ConnectError, ConnectOptions, Key, Limits, NameError, ReactorLimits,
    Resolver, Sent,
};

use crate::support::*;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn named(host: &str, port: u16) -> Address {
    format!("{host}:{port}").parse().unwrap()
}

fn within(timeout: Duration) -> Rc<ConnectOptions> {
    Rc::new(ConnectOptions::new().limits(Limits::new().connect_timeout(timeout)))
}

/// Answers with what stands for a name here: `server`, `panic`, `fail`, `none`; all others are not found.
struct Book {
    server: Vec<SocketAddr>,
    asked: Arc<AtomicUsize>,
}

impl Resolver for Book {
    fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NameError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Host::Name(name) = endpoint.host() else { panic!("{endpoint} is no name") };
        match name.as_str() {
            "server" => Ok(self.server.clone()),
            "none" => Ok(Vec::new()),
            "fail" => Err(NameError::Failed("the line is cut".into())),
            "panic" => panic!("one that is meant"),
            _ => Err(NameError::NotFound),
        }
    }
}

/// A client whose names are in a book, and how often that was asked.
fn client(server: Vec<SocketAddr>) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let mut client = Client::new(Recorder::new());
    client.reactor.set_resolver(Book { server, asked: Arc::clone(&asked) }, 2, 16);
    (client, asked)
}

/// Answers when it is let, one look-up after the other.
struct Slow {
    server: SocketAddr,
    may_answer: Mutex<mpsc::Receiver<()>>,
}

impl Resolver for Slow {
    fn addresses(&self, _: &Endpoint) -> Result<Vec<SocketAddr>, NameError> {
        // An error is the end of the test.
        let _ = self.may_answer.lock().unwrap().recv();
        Ok(vec![self.server])
    }
}

fn slow_client(server: SocketAddr, look_ups_max: usize) -> (Client, mpsc::Sender<()>) {
    let (let_answer, may_answer) = mpsc::channel();
    let mut client = Client::new(Recorder::new());
    let slow = Slow { server, may_answer: Mutex::new(may_answer) };
    client.reactor.set_resolver(slow, 1, look_ups_max);
    (client, let_answer)
}

/// Each look-up waits for a word of its own: the first one for a failure, the second for an address.
struct InTurn {
    server: SocketAddr,
    asked: Arc<AtomicUsize>,
    may_answer: [Mutex<mpsc::Receiver<()>>; 2],
}

impl Resolver for InTurn {
    fn addresses(&self, _: &Endpoint) -> Result<Vec<SocketAddr>, NameError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        // An error is the end of the test.
        let _ = self.may_answer[number].lock().unwrap().recv();
        match number {
            0 => Err(NameError::Failed("too late to matter".into())),
            _ => Ok(vec![self.server]),
        }
    }
}

fn client_in_turn(server: SocketAddr) -> (Client, [mpsc::Sender<()>; 2], Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let ((let_fail, may_fail), (let_find, may_find)) = (mpsc::channel(), mpsc::channel());
    let may_answer = [Mutex::new(may_fail), Mutex::new(may_find)];
    let mut client = Client::new(Recorder::new());
    client.reactor.set_resolver(InTurn { server, asked: Arc::clone(&asked), may_answer }, 2, 8);
    (client, [let_fail, let_find], asked)
}

#[test]
fn a_name_is_looked_up_and_connected_to() {
    let (listener, address) = listener();
    let (mut client, asked) = client(vec![address]);
    let key = client.cx().connect(named("server", 9), 1);
    assert_eq!(client.cx().send_to(key, b"early"), Sent::Ok);
    client.until("it opens", |calls| calls.opened() == [key]);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"welcome").unwrap();
    client.until("the greeting", |calls| calls.shown().concat() == b"welcome");
    let mut early = [0; 5];
    peer.read_exact(&mut early).unwrap();
    assert_eq!((&early, asked.load(Ordering::Relaxed)), (b"early", 1));
    assert_idle(&mut client.reactor);
}

#[test]
fn each_way_to_have_no_address_has_its_reason() {
    let (mut client, _) = client(Vec::new());
    for (name, error) in [
        ("nobody", ConnectError::NameNotFound),
        ("none", ConnectError::NameNotFound),
        ("fail", ConnectError::NameLookup),
    ] {
        let before = failures(&client.calls).len();
        let key = client.cx().connect(named(name, 9), 1);
        client.until("it fails", |calls| failures(calls).len() > before);
        assert_eq!(failures(&client.calls)[before..], [(key, 1, error)], "{name}");
    }
    assert_idle(&mut client.reactor);
    assert_eq!(client.reactor.connections(), 0);
}

#[test]
fn a_look_up_that_panics_is_one_that_failed_and_the_next_one_is_made() {
    let (_listener, address) = listener();
    let (mut client, _) = client(vec![address]);
    let keys: Vec<Key> = (0..5).map(|tag| client.cx().connect(named("panic", 9), tag)).collect();
    client.until("they fail", |calls| failures(calls).len() == keys.len());
    let is_told = |(_, _, error): &(_, _, ConnectError)| *error == ConnectError::NameLookup;
    assert!(failures(&client.calls).iter().all(is_told));
    assert_eq!(client.reactor.stats().job_panics, 5);
    client.cx().connect(named("server", 9), 9);
    client.until("it opens", |calls| calls.opened().len() == 1);
}

#[test]
fn numbers_are_not_looked_up() {
    let (_listener, address) = listener();
    let (mut client, asked) = client(Vec::new());
    client.cx().connect(Address::from(address), 1);
    client.cx().connect(vec![address], 2);
    client.cx().connect(&[address, address][..], 3);
    client.until("they open", |calls| calls.opened().len() == 3);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn more_look_ups_than_there_is_room_for_are_refused_and_the_others_are_made() {
    if !needs_kernel("a thread that waits") {
        return;
    }
    let (_listener, address) = listener();
    let (mut client, let_answer) = slow_client(address, 3);
    let keys: Vec<Key> = (0..5).map(|tag| client.cx().connect(named("server", 9), tag)).collect();
    client.until("two fail", |calls| failures(calls).len() == 2);
    let busy = ConnectError::ResolverBusy;
    assert_eq!(failures(&client.calls), [(keys[3], 3, busy), (keys[4], 4, busy)]);
    for _ in 0..3 {
        let_answer.send(()).unwrap();
    }
    client.until("three open", |calls| calls.opened().len() == 3);
    let_answer.send(()).unwrap();
    client.cx().connect(named("server", 9), 5);
    client.until("there is room again", |calls| calls.opened().len() == 4);
}

/// What it was for is told at once that it has ended, and the answer finds nobody.
#[test]
fn the_answer_to_a_look_up_that_nobody_waits_for_finds_nobody() {
    if !needs_kernel("a thread that waits") {
        return;
    }
    let (_listener, address) = listener();
    let (mut client, may_answer, asked) = client_in_turn(address);
    let closed = client.cx().connect(named("server", 9), 1);
    let late = client.cx().connect_with(named("server", 9), 2, &within(Duration::from_secs(1)));
    client.until("both are made", |_| asked.load(Ordering::SeqCst) == 2);
    client.cx().close_key(closed);
    client.until("both fail", |calls| failures(calls).len() == 2);
    let mut failures = failures(&client.calls);
    failures.sort_by_key(|(_, tag, _)| *tag);
    let reasons = [(closed, 1, ConnectError::Cancelled), (late, 2, ConnectError::TimedOut)];
    assert_eq!(failures, reasons);
    assert_eq!(client.reactor.connections(), 0);
    let messages = client.reactor.stats().messages;
    may_answer.iter().for_each(|let_answer| let_answer.send(()).unwrap());
    run_until(&mut client.reactor, "the answers have come", |reactor| {
        reactor.stats().messages == messages + 2
    });
    assert_idle(&mut client.reactor);
    assert_eq!(client.calls.opened(), []);
    assert_eq!(failures.len() as u64, client.reactor.stats().connect_failures);
}

/// One thread, which is busy with the first, and answers no more often than it is let.
#[test]
fn a_look_up_that_nobody_waits_for_is_not_made() {
    if !needs_kernel("a thread that waits") {
        return;
    }
    let (_listener, address) = listener();
    let (mut client, let_answer) = slow_client(address, 8);
    let keys: Vec<Key> = (0..6).map(|tag| client.cx().connect(named("server", 9), tag)).collect();
    client.until("it begins", |calls| calls.has(&Call::Start));
    keys[1..].iter().for_each(|key| client.cx().close_key(*key));
    client.until("they fail", |calls| failures(calls).len() == 5);
    client.cx().connect(named("server", 9), 6);
    let_answer.send(()).unwrap();
    let_answer.send(()).unwrap();
    client.until("the first and the last open", |calls| calls.opened().len() == 2);
}

#[test]
fn a_look_up_that_nobody_waits_for_leaves_its_place_to_another() {
    if !needs_kernel("a thread that waits") {
        return;
    }
    let (_listener, address) = listener();
    let (mut client, let_answer) = slow_client(address, 3);
    let keys: Vec<Key> = (0..3).map(|tag| client.cx().connect(named("server", 9), tag)).collect();
    client.until("it begins", |calls| calls.has(&Call::Start));
    client.cx().close_key(keys[1]);
    client.cx().abort_key(keys[2]);
    // In the same turn as the ends that make room for them.
    let late: Vec<Key> = (3..6).map(|tag| client.cx().connect(named("server", 9), tag)).collect();
    client.until("three fail", |calls| failures(calls).len() == 3);
    assert!(failures(&client.calls).contains(&(late[2], 5, ConnectError::ResolverBusy)));
    for _ in 0..3 {
        let_answer.send(()).unwrap();
    }
    client.until("the others open", |calls| calls.opened().len() == 3);
}

#[test]
fn the_failure_of_an_earlier_look_up_is_none_of_the_current_try() {
    if !needs_kernel("a thread that waits") {
        return;
    }
    let (_listener, server) = listener();
    let (mut client, [let_fail, let_find], asked) = client_in_turn(server);
    let at_once = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
    let limits = Limits::new().connect_timeout(Duration::from_secs(1));
    let options = Rc::new(ConnectOptions::new().limits(limits).retry(1, at_once));
    let key = client.cx().connect_with(named("server", 9), 1, &options);
    client.until("the second try begins", |_| asked.load(Ordering::SeqCst) == 2);
    let messages = client.reactor.stats().messages;
    let_fail.send(()).unwrap();
    run_until(&mut client.reactor, "the first answer comes", |reactor| {
        reactor.stats().messages == messages + 1
    });
    let_find.send(()).unwrap();
    client.until("it opens or fails", |calls| calls.opened().len() + failures(calls).len() > 0);
    assert_eq!((client.calls.opened(), failures(&client.calls)), (vec![key], vec![]));
}

#[test]
fn a_stop_does_not_wait_for_a_look_up_and_the_next_run_looks_up_again() {
    if !needs_kernel("a thread that waits") {
        return;
    }
    let (_listener, address) = listener();
    let (mut client, let_answer) = slow_client(address, 8);
    let key = client.cx().connect(named("server", 9), 1);
    client.until("it begins", |calls| calls.has(&Call::Start));
    client.reactor.stop();
    assert_eq!(failures(&client.calls), [(key, 1, ConnectError::Stopped)]);
    let_answer.send(()).unwrap();
    let_answer.send(()).unwrap();
    client.cx().connect(named("server", 9), 2);
    client.until("it opens", |calls| calls.opened().len() == 1);
}

#[test]
fn a_resolver_can_be_changed_while_it_is_asked() {
    if !needs_kernel("a thread that waits") {
        return;
    }
    let ((one, first), (other, second)) = (listener(), listener());
    let (mut client, let_answer) = slow_client(first, 8);
    client.cx().connect(named("server", 9), 1);
    client.until("it begins", |calls| calls.has(&Call::Start));
    client.reactor.set_resolver(Book { server: vec![second], asked: Arc::default() }, 1, 8);
    client.cx().connect(named("server", 9), 2);
    client.until("the second opens", |calls| calls.opened().len() == 1);
    let_answer.send(()).unwrap();
    client.until("and the first", |calls| calls.opened().len() == 2);
    drop((one.accept().unwrap(), other.accept().unwrap()));
}

/// Whatever the system has for it; nobody listens on ::1.
#[test]
fn localhost_is_connected_to() {
    if !needs_kernel("the system's names") {
        return;
    }
    let (listener, address) = listener();
    let mut client = Client::new(Recorder::new());
    client.cx().connect(named("localhost", address.port()), 1);
    client.until("it opens", |calls| calls.opened().len() == 1);
    drop(listener.accept().unwrap());
    assert_idle(&mut client.reactor);
    client.calls.check();
}

#[cfg(feature = "names")]
#[test]
fn the_system_says_which_names_there_are_not() {
    if !needs_kernel("the system's names") {
        return;
    }
    let mut client = Client::new(Recorder::new());
    let key = client.cx().connect("127.0.0.1:no-such".parse::<Address>().unwrap(), 1);
    assert_eq!(client.failed(1), [(key, 1, ConnectError::NameNotFound)]);
    let resolver = client.reactor.resolver();
    let localhost = "127.0.0.1".parse().unwrap();
    assert_eq!(resolver.host_name(localhost).unwrap(), "localhost");
}

#[test]
fn of_several_addresses_one_is_connected_and_no_socket_of_the_others_is_left() {
    if !alone("of_several_addresses_one_is_connected_and_no_socket_of_the_others_is_left") {
        return;
    }
    let hole = BlackHole::new();
    let ((_deaf, deaf), (listener, address)) = (nobody(), listener());
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, deaf.port()));
    let mut client = Client::new(Recorder::new());
    let before = descriptors();
    let key = client.cx().connect(vec![hole.address, v6, deaf, address], 7);
    assert_eq!(client.cx().send_to(key, b"early"), Sent::Ok);
    let start = Instant::now();
    client.until("it opens", |calls| calls.opened() == [key]);
    assert!(start.elapsed() >= Duration::from_millis(250), "the hole has its time");
    assert_eq!(client.reactor.connections(), 1);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"welcome").unwrap();
    client.until("the greeting", |calls| calls.shown().concat() == b"welcome");
    let mut early = [0; 5];
    peer.read_exact(&mut early).unwrap();
    assert_eq!(&early, b"early");
    assert_idle(&mut client.reactor);
    assert_eq!(descriptors(), before + 2, "the connection's two ends");
    client.cx().abort_key(key);
    client.until("it closes", |calls| calls.closed().len() == 1);
    client.calls.check();
}

/// It is one that failed, and its port is free for the server that belongs there.
#[test]
fn a_candidate_that_met_itself_is_reset() {
    if !needs_kernel("TIME_WAIT") {
        return;
    }
    let address = {
        let ((_socket, address), (_other, other)) = (shared_nobody(), nobody());
        let mut client = Client::new(Recorder::new());
        let options = Rc::new(ConnectOptions::new().from(address));
        let key = client.cx().connect_with(vec![address, other], 7, &options);
        assert_eq!(client.failed(1), [(key, 7, ConnectError::Refused)]);
        address
    };
    // Without SO_REUSEADDR, which overlooks what is in TIME_WAIT.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).expect("it is free");
}

/// Bytes, and an end of file right behind them, that are there before the winner is known.
#[test]
fn what_the_winner_said_first_is_shown() {
    for is_closed_too in [false, true] {
        let ((listener, address), (_other, other)) = (listener(), listener());
        let mut client = Client::new(Recorder::new());
        let key = client.cx().connect(vec![address, other], 7);
        client.until("it begins", |calls| calls.has(&Call::Start));
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"welcome").unwrap();
        if is_closed_too {
            drop(peer);
        }
        client.until("the greeting", |calls| calls.shown().concat() == b"welcome");
        if is_closed_too {
            client.until("its end", |calls| calls.closed().len() == 1);
        }
        assert_eq!(client.calls.opened(), [key]);
        client.calls.check();
    }
}

#[test]
fn when_all_addresses_fail_it_is_told_once() {
    let ((_one, one), (_other, other)) = (nobody(), nobody());
    let mut client = Client::with(Recorder::new(), ReactorLimits::new().connections_max(1));
    let key = client.cx().connect(vec![one, other], 7);
    assert_eq!(client.failed(1), [(key, 7, ConnectError::Refused)]);
    assert_eq!(client.reactor.next_wait(), None, "no timer is left behind");
}
