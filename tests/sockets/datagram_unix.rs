//! Unix datagram sockets: names, paths, and what comes and goes.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use oneloop::address::UnixName;
use oneloop::{Address, DatagramOptions, Queued, SocketAddress};

use crate::support::datagrams::*;
use crate::support::unix_datagrams::*;
use crate::support::*;

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
    let mut server = UnixServer::new(datagrams, Some(&name), &DatagramOptions::new());
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
    let mut server = UnixServer::new(Datagrams::listens(), Some(&name), &DatagramOptions::new());
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
    let mut server =
        UnixServer::new(Datagrams::echo(), Some(&place.name()), &DatagramOptions::new());
    let (client, _) = client();
    client.send_to(b"hello", place.path()).unwrap();
    server.until_sent(1);
    assert_eq!(receive(&client).unwrap(), b"hello");
    // Nobody else can have it as long as it is there.
    let error = server.reactor.bind(server.handler, place.name()).unwrap_err();
    let expected = format!("bind to unixgram:{}: somebody listens there", place.path().display());
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
    let mut server = UnixServer::new(Datagrams::echo(), None, &options);
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
    let mut server = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
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
        let _server = UnixServer::new(Datagrams::listens(), Some(&place.name()), &options);
        let file = fs::metadata(place.path()).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_send_to_a_name_that_nobody_has_is_told() {
    let mut server = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
    let nobody = name();
    server.send(Some(&nobody), b"anybody?").ignore();
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is told", |_| calls.borrow().len() == 2);
    let about = Some(SocketAddress::Unix(nobody));
    let failed = DatagramCall::Failed(about, ErrorKind::ConnectionRefused);
    assert_eq!(server.calls.borrow()[1..], [failed]);
    assert_idle(&mut server.reactor);
}
