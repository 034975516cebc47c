//! Unix stream sockets: names that are taken, left and taken over; who may connect, and who did.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::rc::Rc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::{
    Connection, Context, Credentials, DatagramOptions, Ended, Error, HandlerId, Limits,
    ListenOptions, ListenerId, Peer, ReactorLimits, SocketAddress, StreamHandler,
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::support::datagrams::*;
use crate::support::unix_datagrams::*;
use crate::support::*;

/// A directory of a test's own.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("oneloop-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("app.sock")
    }

    /// What is in it, but for locks.
    fn files(&self) -> usize {
        let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| !name.to_string_lossy().ends_with(".lock")).count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn reactor() -> (Reactor, HandlerId<Recorder>) {
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(64)).unwrap();
    let handler = reactor.add(Recorder::echo());
    (reactor, handler)
}

fn listen_with(
    (reactor, handler): &mut (Reactor, HandlerId<Recorder>),
    path: &Path,
    options: &ListenOptions,
) -> io::Result<ListenerId> {
    reactor.listen_with(*handler, UnixName::from_path(path).unwrap(), options)
}

fn listen_on(server: &mut (Reactor, HandlerId<Recorder>), path: &Path) -> io::Result<ListenerId> {
    listen_with(server, path, &ListenOptions::new())
}

/// Sends a little, and waits for it to come back.
fn assert_echoes(reactor: &mut Reactor, mut client: &UnixStream) {
    client.write_all(b"hello").unwrap();
    client.set_nonblocking(true).unwrap();
    let mut answer = Vec::new();
    run_until(reactor, "it came back", |_| {
        let mut buffer = [0; 16];
        match client.read(&mut buffer) {
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        answer.len() >= 5
    });
    assert_eq!(answer, b"hello");
}

#[test]
fn a_path_is_listened_on_and_removed_when_the_listener_closes() {
    let directory = Directory::new("closes");
    let mut server = reactor();
    let listener = listen_on(&mut server, &directory.socket()).unwrap();
    let (mut reactor, _) = server;
    let name = UnixName::from_path(directory.socket()).unwrap();
    assert_eq!(reactor.listener_address(listener).unwrap(), SocketAddress::Unix(name));
    assert!(fs::symlink_metadata(directory.socket()).unwrap().file_type().is_socket());
    let client = UnixStream::connect(directory.socket()).unwrap();
    assert_echoes(&mut reactor, &client);
    reactor.close_listener(listener);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(directory.files(), 0);
    assert_echoes(&mut reactor, &client);
}

#[test]
fn a_path_is_removed_by_a_stop_and_by_the_end_of_the_reactor() {
    let directory = Directory::new("ends");
    let mut server = reactor();
    listen_on(&mut server, &directory.socket()).unwrap();
    server.0.stop();
    assert_eq!(directory.files(), 0);
    listen_on(&mut server, &directory.socket()).unwrap();
    assert_eq!(directory.files(), 1);
    drop(server);
    assert_eq!(directory.files(), 0);
}

/// The path goes first, so that nobody new comes, and nobody who came is turned away.
#[test]
fn a_drain_removes_the_path_and_serves_who_was_at_the_door() {
    let directory = Directory::new("drain");
    let mut server = reactor();
    // One that is accepted at a time leaves the others at the door for a few turns.
    let options = ListenOptions::new().limits(Limits::new().accepts_per_turn_max(1));
    listen_with(&mut server, &directory.socket(), &options).unwrap();
    let mut clients: Vec<UnixStream> =
        (0..5).map(|_| UnixStream::connect(directory.socket()).unwrap()).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
    let (mut reactor, _) = server;
    reactor.drain(DEADLINE);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(reactor.stats().accepts < 5, "they wait");
    let error = UnixStream::connect(directory.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for client in &mut clients {
        client.set_nonblocking(true).unwrap();
    }
    let mut received = vec![Vec::new(); clients.len()];
    run_until(&mut reactor, "all are served and gone", |reactor| {
        for (client, received) in clients.iter_mut().zip(&mut received) {
            let mut buffer = [0; 8];
            match client.read(&mut buffer) {
                Ok(0) => client.shutdown(std::net::Shutdown::Write).unwrap(),
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        reactor.report().is_some()
    });
    assert_eq!(received, [b"x"; 5]);
    assert_eq!(reactor.report().unwrap().end, Ended::Drained);
}

/// As after `kill -9`: the standard library's listeners never remove their paths.
#[test]
fn a_stale_path_is_taken_over() {
    let directory = Directory::new("stale");
    drop(UnixListener::bind(directory.socket()).unwrap());
    assert_eq!(directory.files(), 1, "it is stale");
    let mut server = reactor();
    listen_on(&mut server, &directory.socket()).unwrap();
    let client = UnixStream::connect(directory.socket()).unwrap();
    assert_echoes(&mut server.0, &client);
}

#[test]
fn a_stale_path_is_in_use_for_who_does_not_want_it() {
    let directory = Directory::new("kept");
    drop(UnixListener::bind(directory.socket()).unwrap());
    let options = ListenOptions::new().replace_stale(false);
    let error = listen_with(&mut reactor(), &directory.socket(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "there is no lock");
}

#[test]
fn a_path_on_which_somebody_listens_is_left_alone() {
    let directory = Directory::new("taken");
    let path = directory.socket();
    let other = UnixListener::bind(&path).unwrap();
    let inode = fs::symlink_metadata(&path).unwrap().ino();
    let error = listen_on(&mut reactor(), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let expected = format!("listen on unix:{}: somebody listens there", path.display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);
    // The probe has come and gone.
    let (mut probe, _) = other.accept().unwrap();
    assert_eq!(probe.read(&mut [0]).unwrap(), 0);
}

/// A full backlog answers a connect with `EAGAIN`, and not with success.
#[test]
fn a_listener_with_a_full_backlog_listens() {
    let directory = Directory::new("full");
    let (other, _clients) = full_backlog(&directory.socket());
    let error = listen_on(&mut reactor(), &directory.socket()).unwrap_err();
    assert!(error.to_string().contains("somebody listens"), "{error}");
    drop(other);
}

fn full_backlog(path: &Path) -> (socket2::Socket, Vec<socket2::Socket>) {
    use socket2::{Domain, SockAddr, Socket, Type};
    let other = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    other.bind(&SockAddr::unix(path).unwrap()).unwrap();
    other.listen(0).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        match client.connect(&SockAddr::unix(path).unwrap()) {
            Ok(()) => clients.push(client),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (other, clients),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Of two that start at once the second one finds the lock, and not the moment between the other's bind and listen.
#[test]
fn a_second_starter_touches_nothing() {
    let directory = Directory::new("second");
    let mut first = reactor();
    listen_on(&mut first, &directory.socket()).unwrap();
    let inode = fs::symlink_metadata(directory.socket()).unwrap().ino();
    let mut second = reactor();
    let error = listen_on(&mut second, &directory.socket()).unwrap_err();
    assert!(error.to_string().contains("somebody listens"), "{error}");
    assert_eq!(fs::symlink_metadata(directory.socket()).unwrap().ino(), inode);
    first.0.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(first.0.stats().accepts, 0, "nobody probed");
    drop(first);
    listen_on(&mut second, &directory.socket()).unwrap();
}

/// Whether it has won against others that start at the same moment, on a path that all find stale. Who has won is who
/// the path leads to.
fn wins_a_start(path: &Path, all: &Barrier) -> bool {
    let mut server = reactor();
    all.wait();
    let result = listen_on(&mut server, path);
    all.wait(); // the others have tried, too
    match result {
        Ok(_) => assert_echoes(&mut server.0, &UnixStream::connect(path).unwrap()),
        Err(ref error) => assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}"),
    }
    result.is_ok()
}

#[test]
fn of_starters_at_once_on_a_stale_path_one_wins_and_the_path_is_its() {
    const STARTERS: usize = 8;
    let directory = Directory::new("starters");
    let path = directory.socket();
    for round in 0..50 {
        drop(UnixListener::bind(&path).unwrap());
        let all = Barrier::new(STARTERS);
        let winners = thread::scope(|scope| {
            let starters: Vec<_> =
                (0..STARTERS).map(|_| scope.spawn(|| wins_a_start(&path, &all))).collect();
            starters.into_iter().filter_map(|starter| starter.join().unwrap().then_some(())).count()
        });
        assert_eq!(winners, 1, "round {round}");
        assert_eq!(directory.files(), 0, "round {round}: the path has gone with who had won");
    }
}

/// The lock alone keeps a path from being taken: its socket is bound, and does not listen yet.
#[test]
fn a_path_that_is_locked_is_not_taken_over() {
    use rustix::fs::{FlockOperation, flock};
    let directory = Directory::new("locked");
    drop(UnixListener::bind(directory.socket()).unwrap());
    let lock = File::create(directory.0.join("app.sock.lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let error = listen_on(&mut reactor(), &directory.socket()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(directory.files(), 1);
    drop(lock);
    listen_on(&mut reactor(), &directory.socket()).unwrap();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let directory = Directory::new("file");
    let path = directory.socket();
    fs::write(&path, "precious").unwrap();
    let error = listen_on(&mut reactor(), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let expected = format!("listen on unix:{0}: {0} is not a socket", path.display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "there is no lock");
    // Nor is what a link points to.
    let (link, target) = (directory.0.join("link.sock"), directory.0.join("target.sock"));
    drop(UnixListener::bind(&target).unwrap());
    symlink(&target, &link).unwrap();
    let error = listen_on(&mut reactor(), &link).unwrap_err();
    assert!(error.to_string().ends_with("is not a socket"), "{error}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && target.exists());
}

#[test]
fn a_datagram_socket_in_use_is_left_alone() {
    let directory = Directory::new("datagram");
    let _other = UnixDatagram::bind(directory.socket()).unwrap();
    let error = listen_on(&mut reactor(), &directory.socket()).unwrap_err();
    assert!(error.to_string().ends_with("is a socket of another type, in use"), "{error}");
}

#[test]
fn a_path_that_is_somebody_elses_by_now_is_left_alone() {
    let directory = Directory::new("replaced");
    let mut server = reactor();
    listen_on(&mut server, &directory.socket()).unwrap();
    fs::remove_file(directory.socket()).unwrap();
    let _other = UnixListener::bind(directory.socket()).unwrap();
    drop(server);
    UnixStream::connect(directory.socket()).unwrap();
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let path = Path::new("/nowhere/app.sock");
    let error = listen_on(&mut reactor(), path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/nowhere/app.sock"), "{error}");
}

#[test]
fn a_path_has_exactly_the_mode_that_was_asked_for() {
    let directory = Directory::new("mode");
    for mode in [0o600, 0o660, 0o666, 0o777, 0o000] {
        let mut server = reactor();
        let options = ListenOptions::new().unix_mode(mode);
        listen_with(&mut server, &directory.socket(), &options).unwrap();
        let permissions = fs::symlink_metadata(directory.socket()).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o7777, mode, "0o{mode:o}");
    }
    let options = ListenOptions::new().unix_mode(0o1777);
    let error = listen_with(&mut reactor(), &directory.socket(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(directory.files(), 0);
}

#[test]
fn an_abstract_name_is_no_file_and_free_when_its_listener_has_ended() {
    let name = format!("oneloop-abstract-{}", process::id());
    let unix = UnixName::from_abstract(name.clone()).unwrap();
    let (mut first, handler) = reactor();
    first.listen_with(handler, unix.clone(), &ListenOptions::new()).unwrap();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let client = UnixStream::connect_addr(&address).unwrap();
    assert_echoes(&mut first, &client);
    let (mut second, handler) = reactor();
    let error = second.listen_with(handler, unix.clone(), &ListenOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(first);
    second.listen_with(handler, unix, &ListenOptions::new()).unwrap();
}

/// Admits whom `admits` says, and notes who knocked.
struct Door {
    knocked: Rc<RefCell<Vec<(Credentials, SocketAddress, ListenerId)>>>,
    admits: bool,
    seen: Rc<RefCell<Vec<Credentials>>>,
}

impl StreamHandler for Door {
    type Session = ();

    fn accept(&mut self, peer: &Peer<'_>, _: &mut Context<'_>) -> bool {
        assert_eq!(*peer.address(), SocketAddress::Unnamed);
        let knocked = (peer.credentials().unwrap(), peer.local_address().unwrap(), peer.listener());
        self.knocked.borrow_mut().push(knocked);
        self.admits
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        assert_eq!(conn.peer_address().unwrap(), SocketAddress::Unnamed);
        self.seen.borrow_mut().push(conn.peer_credentials().unwrap());
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

fn own_credentials() -> Credentials {
    let owner = fs::metadata("/proc/self").unwrap();
    Credentials { pid: Some(process::id()), uid: owner.uid(), gid: owner.gid() }
}

#[test]
fn who_knocks_is_known_before_the_door_is_opened_and_after() {
    let directory = Directory::new("credentials");
    let name = UnixName::from_path(directory.socket()).unwrap();
    for admits in [false, true] {
        let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(4)).unwrap();
        let (knocked, seen) = (Rc::default(), Rc::default());
        let door = Door { knocked: Rc::clone(&knocked), admits, seen: Rc::clone(&seen) };
        let handler = reactor.add(door);
        let listener = reactor.listen_with(handler, name.clone(), &ListenOptions::new()).unwrap();
        let _client = UnixStream::connect(directory.socket()).unwrap();
        run_until(&mut reactor, "somebody knocked", |_| !knocked.borrow().is_empty());
        let expected = (own_credentials(), SocketAddress::Unix(name.clone()), listener);
        assert_eq!(*knocked.borrow(), [expected]);
        assert_eq!(seen.borrow().len(), usize::from(admits));
        assert!(seen.borrow().iter().all(|seen| *seen == own_credentials()));
        assert_eq!(reactor.stats().refusals, u64::from(!admits));
    }
}

#[test]
fn a_server_over_tcp_knows_no_credentials() {
    let (notes, seen) = noted();
    let mut server = Server::new(Recorder::echo().open(move |conn| {
        seen.borrow_mut().push(conn.peer_credentials().unwrap_err().kind());
    }));
    let _client = server.open();
    assert_eq!(*notes.borrow(), [ErrorKind::Unsupported]);
}

#[test]
fn clients_of_a_path_are_counted_by_their_user() {
    let directory = Directory::new("user");
    let mut server = reactor();
    let limits = Limits::new().connections_per_address_max(2);
    let options = ListenOptions::new().limits(limits);
    listen_with(&mut server, &directory.socket(), &options).unwrap();
    let connect = || UnixStream::connect(directory.socket()).unwrap();
    let (first, second, mut third) = (connect(), connect(), connect());
    let (mut reactor, _) = server;
    assert_echoes(&mut reactor, &first);
    assert_echoes(&mut reactor, &second);
    run_until(&mut reactor, "one is turned away", |reactor| reactor.stats().refusals == 1);
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
    drop(first);
    run_until(&mut reactor, "one has left", |reactor| reactor.connections() == 1);
    assert_echoes(&mut reactor, &connect());
}

/// What a read drops is not left open (unix(7): descriptors that are not asked for are discarded).
#[test]
fn descriptors_that_a_peer_passes_are_closed() {
    if !alone("descriptors_that_a_peer_passes_are_closed") {
        return;
    }
    let directory = Directory::new("passed");
    let mut server = reactor();
    listen_on(&mut server, &directory.socket()).unwrap();
    let client = UnixStream::connect(directory.socket()).unwrap();
    let (mut reactor, _) = server;
    assert_echoes(&mut reactor, &client);
    let before = descriptors();
    let mut expected = 0;
    for _ in 0..20 {
        pass(&client, b"with a descriptor");
        expected += 17;
        // Right behind it, so that a read stops at the message above (unix(7)) and more is there.
        (&client).write_all(b"without").unwrap();
        expected += 7;
        run_until(&mut reactor, "all of it came", |reactor| {
            reactor.stats().bytes_in == 5 + expected
        });
    }
    assert_eq!(descriptors(), before);
}

/// Sends `data`, and this process's standard error with it.
fn pass(client: &UnixStream, data: &[u8]) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let stderr = io::stderr();
    let descriptors = [stderr.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(client, &[io::IoSlice::new(data)], &mut control, SendFlags::empty());
    assert_eq!(sent.unwrap(), data.len());
}

/// A socket that is bound to the longest path that Linux takes, which leaves no room for its NUL.
fn bound_to_the_longest_path(kind: SocketType) -> (OwnedFd, PathBuf) {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let own = format!("{}/oneloop-{}-{number}-", std::env::temp_dir().display(), process::id());
    let path = PathBuf::from(format!("{own:q<108}"));
    let socket = rustix::net::socket(AddressFamily::UNIX, kind, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    (socket, path)
}

fn abstract_address(name: &UnixName) -> SocketAddrUnix {
    SocketAddrUnix::new_abstract_name(name.as_abstract().unwrap()).unwrap()
}

#[test]
fn a_peer_with_the_longest_path_that_linux_takes_harms_nobody() {
    let name = UnixName::from_abstract(format!("oneloop-longest-{}", process::id())).unwrap();
    let peers = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&peers);
    let recorder =
        Recorder::echo().open(move |conn| seen.borrow_mut().push(conn.peer_address().unwrap()));
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(recorder);
    reactor.listen(handler, name.clone()).unwrap();
    let (socket, path) = bound_to_the_longest_path(SocketType::STREAM);
    rustix::net::connect(&socket, &abstract_address(&name)).unwrap();
    rustix::io::write(&socket, b"x").unwrap();
    run_until(&mut reactor, "it is served", |reactor| reactor.stats().bytes_out == 1);
    assert_eq!(*peers.borrow(), [SocketAddress::Unnamed]);
    fs::remove_file(path).unwrap();
}

#[test]
fn a_datagram_from_the_longest_path_that_linux_takes_has_no_sender() {
    let name = UnixName::from_abstract(format!("oneloop-longest-d-{}", process::id())).unwrap();
    let mut server = UnixServer::new(Datagrams::listens(), Some(&name), &DatagramOptions::new());
    let (socket, path) = bound_to_the_longest_path(SocketType::DGRAM);
    rustix::net::connect(&socket, &abstract_address(&name)).unwrap();
    rustix::io::write(&socket, b"x").unwrap();
    run_until(&mut server.reactor, "it comes", |reactor| reactor.stats().datagrams_in == 1);
    let expected = DatagramCall::Datagram(b"x".to_vec(), SocketAddress::Unnamed, 1);
    assert_eq!(server.calls.borrow()[1..], [expected]);
    fs::remove_file(path).unwrap();
}
