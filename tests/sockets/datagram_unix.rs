//! Unix datagram sockets, whose senders wait for their receivers.

use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::{
    Address, CloseReason, DatagramLimits, DatagramOptions, HandlerId, Key, Queued, SocketAddress,
};

use crate::support::datagrams::*;
use crate::support::*;

/// An abstract name that nobody else has.
fn name() -> UnixName {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    UnixName::from_abstract(format!("oneloop-{}-{number}", std::process::id())).unwrap()
}

/// A client with a name.
fn client() -> (UnixDatagram, UnixName) {
    let name = name();
    let address = SocketAddr::from_abstract_name(name.as_abstract().unwrap()).unwrap();
    let client = UnixDatagram::bind_addr(&address).unwrap();
    client.set_nonblocking(true).unwrap();
    (client, name)
}

struct Server {
    reactor: Reactor,
    handler: HandlerId<Datagrams>,
    key: Key,
    calls: DatagramCalls,
}

impl Server {
    fn new(datagrams: Datagrams, name: Option<&UnixName>, options: &DatagramOptions) -> Server {
        let mut reactor = Reactor::new().unwrap();
        let calls = Rc::clone(&datagrams.calls);
        let handler = reactor.add_datagram_handler(datagrams);
        let key = match name {
            Some(name) => reactor.bind_with(handler, name.clone(), options),
            None => reactor.bind_unnamed(handler, options),
        };
        let key = key.unwrap();
        Server { reactor, handler, key, calls }
    }

    fn send(&mut self, to: Option<&UnixName>, data: &[u8]) -> Queued {
        let to = to.cloned().map(SocketAddress::Unix);
        self.reactor.context(self.handler).send_datagram(self.key, to.as_ref(), data)
    }

    fn until_sent(&mut self, count: u64) {
        run_until(&mut self.reactor, "they are sent", |reactor| {
            reactor.stats().datagrams_out == count
        });
    }

    /// Fills the queue of a receiver: how many it holds.
    fn fill(&mut self, to: Option<&UnixName>) -> u64 {
        while self.reactor.stats().datagram_bytes_waiting == 0 {
            assert_eq!(self.send(to, b"full"), Queued::Ok);
            self.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        self.reactor.stats().datagrams_out
    }
}

fn receive(client: &UnixDatagram) -> Option<Vec<u8>> {
    let mut buffer = [0; 100];
    match client.recv(&mut buffer) {
        Ok(count) => Some(buffer[..count].to_vec()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            None
        }
    }
}

fn to(name: &UnixName) -> SocketAddr {
    SocketAddr::from_abstract_name(name.as_abstract().unwrap()).unwrap()
}

#[test]
fn a_socket_that_cannot_be_connected_leaves_no_path_behind() {
    let path = std::env::temp_dir().join(format!("oneloop-unconnected-{}", std::process::id()));
    let own = UnixName::from_path(&path).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add_datagram_handler(Datagrams::listens());
    let options = DatagramOptions::new().connect(SocketAddress::Unix(name()));
    let error = reactor.bind_with(handler, Address::UnixDatagram(own), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(!path.exists());
}

#[test]
fn who_has_a_name_is_answered_and_who_has_none_cannot_be() {
    let name = name();
    let datagrams = Datagrams::new(|socket, call| {
        if let DatagramCall::Datagram(data, from, _) = call {
            let expected = if *from == SocketAddress::Unnamed { Queued::Gone } else { Queued::Ok };
            assert_eq!(socket.send_to(from, data), expected);
        }
    });
    let mut server = Server::new(datagrams, Some(&name), &DatagramOptions::new());
    assert_eq!(server.reactor.datagram_address(server.key).unwrap().unix(), Some(&name));
    let (client, _) = client();
    client.send_to_addr(b"hello", &to(&name)).unwrap();
    UnixDatagram::unbound().unwrap().send_to_addr(b"who am I", &to(&name)).unwrap();
    server.until_sent(1);
    assert_eq!(receive(&client).unwrap(), b"hello");
    assert_idle(&mut server.reactor);
    assert_eq!(server.calls.borrow().len(), 3);
}

#[test]
fn a_datagram_that_is_larger_than_the_buffer_is_truncated_and_says_so() {
    let name = name();
    let mut server = Server::new(Datagrams::listens(), Some(&name), &DatagramOptions::new());
    let (client, from) = client();
    client.send_to_addr(&pattern(100_000), &to(&name)).unwrap();
    run_until(&mut server.reactor, "it comes", |reactor| reactor.stats().datagrams_truncated == 1);
    let expected = DatagramCall::Datagram(pattern(65_536), SocketAddress::Unix(from), 100_000);
    assert_eq!(server.calls.borrow()[1..], [expected]);
}

/// A directory of a test's own, and a path in it.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("oneloop-datagrams-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        Place(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.join("app.sock")
    }

    fn name(&self) -> UnixName {
        UnixName::from_path(self.path()).unwrap()
    }

    /// The names of all files.
    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_path_ends_with_its_socket() {
    let place = Place::new();
    let mut server = Server::new(Datagrams::echo(), Some(&place.name()), &DatagramOptions::new());
    let (client, _) = client();
    client.send_to(b"hello", place.path()).unwrap();
    server.until_sent(1);
    assert_eq!(receive(&client).unwrap(), b"hello");
    // Nobody else can have it as long as it is there.
    let error = server.reactor.bind(server.handler, place.name()).unwrap_err();
    let expected = format!("bind to unix:{}: somebody listens there", place.path().display());
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::AddrInUse, expected));
    server.reactor.context(server.handler).close_key(server.key);
    run_until(&mut server.reactor, "it is closed", |reactor| reactor.stats().datagram_sockets == 0);
    assert_eq!(place.files(), ["app.sock.lock"]);
    server.reactor.bind(server.handler, place.name()).unwrap();
    server.reactor.stop();
    assert_eq!(place.files(), ["app.sock.lock"]);
}

#[test]
fn a_path_that_nobody_is_bound_to_any_more_is_taken_over() {
    let place = Place::new();
    drop(UnixDatagram::bind(place.path()).unwrap());
    let options = DatagramOptions::new().replace_stale(false);
    let mut server = Server::new(Datagrams::echo(), None, &options);
    let error = server.reactor.bind_with(server.handler, place.name(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(place.files(), ["app.sock"], "no lock, as asked for");
    let address = format!("unixgram:{}", place.path().display());
    server.reactor.bind(server.handler, address).unwrap();
    let (client, _) = client();
    client.send_to(b"hello", place.path()).unwrap();
    server.until_sent(1);
    assert_eq!(receive(&client).unwrap(), b"hello");
}

/// Of a socket in use, however it is used; each of them without a lock, as others make them.
#[test]
fn a_path_that_somebody_is_bound_to_is_not_taken_over() {
    let mut server = Server::new(Datagrams::listens(), None, &DatagramOptions::new());
    let mut refused = |place: &Place, text: &str| {
        let error = server.reactor.bind(server.handler, place.name()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(text), "{error}");
        assert!(place.path().exists());
    };
    let place = Place::new();
    let other = UnixDatagram::bind(place.path()).unwrap();
    refused(&place, "somebody listens there");
    // It hears its peer only, and so not even the question whether it is there.
    let (_peer, peer) = client();
    other.connect_addr(&to(&peer)).unwrap();
    refused(&place, "somebody listens there");
    let place = Place::new();
    let _other = UnixListener::bind(place.path()).unwrap();
    refused(&place, "is a socket of another type, in use");
    let place = Place::new();
    fs::write(place.path(), "precious").unwrap();
    refused(&place, "is not a socket");
}

#[test]
fn the_permissions_of_a_path_are_those_that_were_asked_for() {
    for mode in [0o600, 0o666] {
        let place = Place::new();
        let options = DatagramOptions::new().unix_mode(mode);
        let _server = Server::new(Datagrams::listens(), Some(&place.name()), &options);
        let file = fs::metadata(place.path()).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_send_to_a_name_that_nobody_has_is_told() {
    let mut server = Server::new(Datagrams::listens(), None, &DatagramOptions::new());
    let nobody = name();
    server.send(Some(&nobody), b"anybody?").ignore();
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is told", |_| calls.borrow().len() == 2);
    let about = Some(SocketAddress::Unix(nobody));
    let failed = DatagramCall::Failed(about, ErrorKind::ConnectionRefused);
    assert_eq!(server.calls.borrow()[1..], [failed]);
    assert_idle(&mut server.reactor);
}

/// A socket that is connected is told of room by an event, for which it asks no longer than it waits.
#[test]
fn a_connected_socket_waits_for_room_and_sends_all_in_order() {
    let (receiver, name) = client();
    let options = DatagramOptions::new().connect(name.clone());
    let mut server = Server::new(Datagrams::listens(), None, &options);
    let full = server.fill(None);
    for number in 0..100_u8 {
        assert_eq!(server.send(None, &[number]), Queued::Ok);
    }
    assert_idle(&mut server.reactor);
    assert_eq!(server.reactor.next_wait(), None, "it waits for an event");
    let mut came = Vec::new();
    run_until(&mut server.reactor, "all have come", |_| {
        came.extend(receive(&receiver));
        came.len() as u64 == full + 101
    });
    assert!(came[..=full as usize].iter().all(|data| data == b"full"));
    assert!((0..100_u8).eq(came[full as usize + 1..].iter().map(|data| data[0])));
    assert_idle(&mut server.reactor);
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_dropped, stats.datagram_bytes_waiting), (0, 0));
    assert_eq!(server.calls.borrow().len(), 1, "nothing failed");
}

/// Others have filled the receiver's queue: this socket is writable all the while, and no event tells it when
/// there is room.
#[test]
fn an_unconnected_socket_tries_again_by_itself() {
    let (receiver, name) = client();
    let mut other = Server::new(Datagrams::listens(), None, &DatagramOptions::new());
    other.fill(Some(&name));
    let mut server = Server::new(Datagrams::listens(), None, &DatagramOptions::new());
    server.send(Some(&name), b"patience").ignore();
    // One turn: it may be tried for the last time in any other.
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.reactor.stats().datagram_bytes_waiting, b"patience".len());
    assert!(receive(&receiver).is_some());
    server.until_sent(1);
    assert_eq!(server.calls.borrow().len(), 1, "nothing failed");
    assert_idle(&mut server.reactor);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
}

/// Even if it is connected to somebody else, whose room an event would tell of.
#[test]
fn a_connected_socket_tries_again_by_itself_whom_it_names() {
    let ((_peer, peer), (receiver, name)) = (client(), client());
    let mut other = Server::new(Datagrams::listens(), None, &DatagramOptions::new());
    other.fill(Some(&name));
    let options = DatagramOptions::new().connect(peer);
    let mut server = Server::new(Datagrams::listens(), None, &options);
    server.send(Some(&name), b"patience").ignore();
    // One turn: it may be tried for the last time in any other.
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.reactor.stats().datagram_bytes_waiting, b"patience".len());
    assert!(receive(&receiver).is_some());
    server.until_sent(1);
    assert_eq!(server.calls.borrow().len(), 1, "nothing failed");
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
}

#[test]
fn a_receiver_without_room_holds_nobody_up() {
    let ((_stuck, stuck), (receiver, name)) = (client(), client());
    let mut server = Server::new(Datagrams::listens(), None, &DatagramOptions::new());
    server.fill(Some(&stuck));
    server.send(Some(&stuck), b"never").ignore();
    server.send(Some(&name), b"behind it").ignore();
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(receive(&receiver).unwrap(), b"behind it");
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "both are given up", |_| calls.borrow().len() == 3);
    let about = Some(SocketAddress::Unix(stuck));
    let failed = DatagramCall::Failed(about, ErrorKind::WouldBlock);
    assert_eq!(server.calls.borrow()[1..], [failed.clone(), failed]);
    assert_eq!(server.reactor.stats().datagrams_dropped, 2);
    assert_idle(&mut server.reactor);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
}

/// Each of them costs a call, although nothing leaves.
#[test]
fn tries_on_receivers_without_room_are_within_the_budget_of_a_turn() {
    let full: Vec<_> = (0..5).map(|_| client()).collect();
    for (_, name) in &full {
        Server::new(Datagrams::listens(), None, &DatagramOptions::new()).fill(Some(name));
    }
    let options = DatagramOptions::new().limits(DatagramLimits::new().datagrams_per_turn_max(2));
    let mut server = Server::new(Datagrams::listens(), None, &options);
    for (_, name) in &full {
        assert_eq!(server.send(Some(name), b"x"), Queued::Ok);
    }
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.reactor.next_wait(), Some(Duration::ZERO), "the rest is the next turn's");
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "all are given up", |_| calls.borrow().len() == 6);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
}

/// A socket whose queue of two is full of datagrams that stand aside, one of whom was dropped.
fn full(to: &UnixName) -> Server {
    let options = DatagramOptions::new().limits(DatagramLimits::new().queue_len_max(2));
    let mut server = Server::new(Datagrams::listens(), None, &options);
    server.fill(Some(to));
    assert_eq!(server.send(Some(to), b"the second"), Queued::Ok);
    assert_eq!(server.send(Some(to), b"too many"), Queued::Full);
    server
}

#[test]
fn who_was_told_that_the_queue_is_full_is_told_of_room_when_the_last_leave_from_standing_aside() {
    let (receiver, name) = client();
    let mut server = full(&name);
    // One turn: they may be tried for the last time in any other.
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    while receive(&receiver).is_some() {}
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is told of room", |_| {
        calls.borrow().contains(&DatagramCall::Room)
    });
    assert_eq!(calls.borrow().len(), 2, "once, and nothing failed");
    assert_idle(&mut server.reactor);
}

#[test]
fn who_was_told_that_the_queue_is_full_is_told_of_room_when_the_last_are_given_up() {
    let (_stuck, stuck) = client();
    let mut server = full(&stuck);
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is told of room", |_| {
        calls.borrow().contains(&DatagramCall::Room)
    });
    let failed = DatagramCall::Failed(Some(SocketAddress::Unix(stuck)), ErrorKind::WouldBlock);
    assert_eq!(calls.borrow()[1..], [failed.clone(), failed, DatagramCall::Room]);
    assert_idle(&mut server.reactor);
}

/// Not even as long as it takes for those who are closed: each gets what it has room for.
#[test]
fn a_socket_that_is_closed_hands_over_what_others_have_room_for() {
    let ((_stuck, stuck), (receiver, name)) = (client(), client());
    let mut server = Server::new(Datagrams::listens(), None, &DatagramOptions::new());
    let full = server.fill(Some(&stuck));
    server.send(Some(&stuck), b"never").ignore();
    server.send(Some(&name), b"last words").ignore();
    server.reactor.context(server.handler).close_key(server.key);
    run_until(&mut server.reactor, "it is closed", |reactor| reactor.stats().datagram_sockets == 0);
    assert_eq!(receive(&receiver).unwrap(), b"last words");
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_out, stats.datagrams_dropped), (full + 1, 2));
}

#[test]
fn a_socket_that_waits_ends_with_what_waits_and_its_timer() {
    let (_stuck, stuck) = client();
    let mut server = Server::new(Datagrams::listens(), None, &DatagramOptions::new());
    server.fill(Some(&stuck));
    server.reactor.context(server.handler).close_key(server.key);
    let closed = DatagramCall::Close(server.key, CloseReason::Closed);
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is closed", |_| calls.borrow().contains(&closed));
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_dropped, stats.datagram_bytes_waiting), (1, 0));
}
