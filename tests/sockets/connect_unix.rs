//! Outbound connections to Unix sockets: open at once, or told to try again.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use oneloop::address::UnixName;
use oneloop::driver::{ConnectConfig, Connecting, Driver, Mio};
use oneloop::{
    Backoff, CloseReason, ConnectError, ConnectOptions, Limits, Sent, SocketAddress, SocketOptions,
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::*;

/// A directory of the test's own, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("oneloop-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unix(path: &Path) -> SocketAddress {
    SocketAddress::Unix(UnixName::from_path(path).unwrap())
}

/// A listener whose backlog is full.
struct Full {
    listener: UnixListener,
    filler: UnixStream,
    path: PathBuf,
    _directory: Directory,
}

impl Full {
    fn new(name: &str) -> Full {
        let directory = Directory::new(name);
        let path = directory.path("full");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let filler = UnixStream::connect(&path).unwrap();
        let listener = UnixListener::from(OwnedFd::from(socket));
        Full { listener, filler, path, _directory: directory }
    }

    fn address(&self) -> SocketAddress {
        unix(&self.path)
    }
}

/// A client that has tried to connect there at least once, in vain.
fn waiting(full: &Full, options: &Rc<ConnectOptions>) -> (Client, oneloop::Key) {
    let mut client = Client::new(Recorder::new());
    let key = client.cx().connect_with(full.address(), 7, options);
    client.until("it begins", |calls| calls.has(&Call::Start));
    assert_eq!(client.calls.all(), [Call::Start]);
    (client, key)
}

fn patient() -> Rc<ConnectOptions> {
    Rc::new(ConnectOptions::new().limits(Limits::new().connect_timeout(DEADLINE)))
}

#[test]
fn a_unix_connection_opens_in_the_next_turn_once_and_without_an_event() {
    let directory = Directory::new("opens");
    let path = directory.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = Client::new(Recorder::new().open(|conn| conn.send(b"hello").ignore()));
    let key = client.cx().connect(unix(&path), 1);
    assert_eq!(client.cx().send_to(key, b"early, "), Sent::Ok);
    client.reactor.turn(Some(Duration::ZERO)).unwrap(); // begins it
    assert_eq!(client.reactor.next_wait(), Some(Duration::ZERO), "nothing is waited for");
    client.reactor.turn(Some(DEADLINE)).unwrap();
    assert_eq!(client.calls.all(), [Call::Start, Call::Open(key)]);
    let stats = client.reactor.stats();
    assert_eq!((stats.connects, stats.connect_failures, stats.events), (1, 0, 0));
    let (mut peer, _) = listener.accept().unwrap();
    let mut received = [0; 12];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(received.escape_ascii().to_string(), "early, hello");
    assert_idle(&mut client.reactor);
    drop(peer);
    client.until("it ends", |calls| calls.closed() == [(key, CloseReason::PeerClosed)]);
    client.calls.check();
}

#[test]
fn an_abstract_name_is_connected_to_like_a_path() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr as UnixAddress;
    let name = format!("oneloop-{}-abstract", std::process::id());
    let listener =
        UnixListener::bind_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
    let mut client = Client::new(Recorder::new());
    let address = SocketAddress::Unix(UnixName::from_abstract(name.as_bytes()).unwrap());
    client.cx().connect(address, 1);
    client.until("it opens", |calls| calls.opened().len() == 1);
    drop(listener);
}

/// What the kernel says to each path that no connection comes of.
#[test]
fn a_path_that_cannot_be_connected_to_has_its_reason() {
    let directory = Directory::new("reasons");
    let path = |name| directory.path(name);
    drop(UnixListener::bind(path("stale")).unwrap());
    fs::write(path("file"), "").unwrap();
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    let expected = [
        (path("nothing"), ConnectError::NotFound),
        (path("file").join("nothing"), ConnectError::NotFound),
        (path("stale"), ConnectError::Refused),
        (path("file"), ConnectError::Refused),
    ];
    for (path, reason) in expected {
        let mut client = Client::new(Recorder::new());
        let key = client.cx().connect(unix(&path), 1);
        assert_eq!(client.failed(1), [(key, 1, reason)], "{}", path.display());
    }
    let mut client = Client::new(Recorder::new());
    client.cx().connect(unix(&path("datagram")), 1);
    let failures = client.failed(1);
    assert!(matches!(failures[..], [(_, 1, ConnectError::Io(_))]), "{failures:?}");
}

#[test]
fn a_path_whose_mode_forbids_it_is_denied() {
    if rustix::process::geteuid().is_root() {
        // Root may connect whatever the mode: somebody else tries.
        const NAME: &str = "a_path_whose_mode_forbids_it_is_denied";
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args(["--exact", &full_name_of(NAME)]).uid(65534).gid(65534);
        match apart(|| other.output()) {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) => println!("left out: nobody else may run this program: {error}"),
        }
        return;
    }
    let directory = Directory::new("denied");
    let path = directory.path("forbidden");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let mut client = Client::new(Recorder::new());
    let key = client.cx().connect(unix(&path), 1);
    assert_eq!(client.failed(1), [(key, 1, ConnectError::Denied)]);
}

#[test]
fn an_ip_address_is_no_way_to_a_unix_socket() {
    let full = Full::new("family");
    let options = ConnectOptions::new().from(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut client = Client::new(Recorder::new());
    let key = client.cx().connect_with(full.address(), 1, &Rc::new(options));
    let error = ConnectError::Io(ErrorKind::InvalidInput);
    assert_eq!(client.failed(1), [(key, 1, error)]);
}

/// Nothing is queued in the kernel, and no event tells of the room: it is tried again.
#[test]
fn a_connection_to_a_full_backlog_opens_when_there_is_room() {
    let full = Full::new("room");
    let (mut client, key) = waiting(&full, &patient());
    assert_eq!(client.cx().send_to(key, b"waits"), Sent::Ok);
    let (start, before) = (Instant::now(), client.reactor.stats().busy_turns);
    run_until(&mut client.reactor, "it has been tried some times", |_| {
        start.elapsed() > Duration::from_millis(100)
    });
    let tries = client.reactor.stats().busy_turns - before;
    // With 1 ms, or half of that, at first: not more than 17 in the first 100 ms.
    assert!((1..=20).contains(&tries), "{tries} busy turns");
    assert_eq!(client.calls.all(), [Call::Start], "it neither opens nor fails");
    drop(full.listener.accept().unwrap());
    client.until("it opens", |calls| calls.opened() == [key]);
    let (mut peer, _) = full.listener.accept().unwrap();
    let mut received = [0; 5];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"waits");
    assert_idle(&mut client.reactor);
    drop(full.filler);
}

#[test]
fn all_who_wait_for_a_backlog_come_in_one_after_the_other() {
    const MANY: u64 = 20;
    let full = Full::new("many");
    let options = patient();
    let mut client = Client::new(Recorder::new());
    for tag in 0..MANY {
        client.cx().connect_with(full.address(), tag, &options);
    }
    full.listener.set_nonblocking(true).unwrap();
    let mut accepted = Vec::new();
    let calls = client.calls.clone();
    run_until(&mut client.reactor, "all are open", |_| {
        accepted.extend(full.listener.accept());
        calls.opened().len() == MANY as usize
    });
    assert_eq!(client.reactor.stats().connects, MANY);
    drop((accepted, full.listener));
    client.until("all are closed", |calls| calls.closed().len() == MANY as usize);
    client.calls.check();
    assert_eq!(client.reactor.next_wait(), None, "no timer is left behind");
}

#[test]
fn a_backlog_that_stays_full_times_out_on_time() {
    let full = Full::new("timeout");
    let timeout = Duration::from_millis(150);
    let options = ConnectOptions::new().limits(Limits::new().connect_timeout(timeout));
    let start = Instant::now();
    let (mut client, key) = waiting(&full, &Rc::new(options));
    let sent = client.cx().send_to(key, &[0; 1000]);
    assert_eq!(sent, Sent::Ok);
    assert_eq!(client.failed(1), [(key, 7, ConnectError::TimedOut)]);
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    assert_eq!(client.reactor.next_wait(), None, "no timer is left behind");
    assert_eq!(client.reactor.stats().memory_bytes, 0);
}

/// In each try it begins anew, with short waits.
#[test]
fn a_backlog_that_was_full_for_a_whole_try_is_tried_again() {
    let full = Full::new("again");
    let limits = Limits::new().connect_timeout(Duration::from_millis(50));
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(10));
    let options = ConnectOptions::new().limits(limits).retry(1000, backoff);
    let (mut client, key) = waiting(&full, &Rc::new(options));
    let start = Instant::now();
    run_until(&mut client.reactor, "some tries have failed", |_| {
        start.elapsed() > Duration::from_millis(150)
    });
    assert_eq!(client.calls.all(), [Call::Start]);
    drop(full.listener.accept().unwrap());
    client.until("it opens", |calls| calls.opened() == [key]);
    assert_eq!(client.reactor.stats().connect_failures, 0);
}

#[test]
fn an_attempt_that_waits_to_be_tried_again_can_be_cancelled_and_stopped() {
    let full = Full::new("cancelled");
    for (end, reason) in [
        ("close", ConnectError::Cancelled),
        ("abort", ConnectError::Cancelled),
        ("stop", ConnectError::Stopped),
    ] {
        let (mut client, key) = waiting(&full, &patient());
        match end {
            "close" => client.cx().close_key(key),
            "abort" => client.cx().abort_key(key),
            _ => client.reactor.stop(),
        }
        assert_eq!(client.failed(1), [(key, 7, reason)], "{end}");
        assert_eq!(client.reactor.next_wait(), None, "{end}: no timer is left behind");
    }
}

#[test]
fn small_writes_leave_at_once_unless_that_is_not_wanted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = SocketAddress::Inet(listener.local_addr().unwrap());
    let driver = Mio::new().unwrap();
    for nodelay in [false, true] {
        let options = SocketOptions::new().nodelay(nodelay);
        let config = ConnectConfig { to: &to, from: None, options: &options };
        let connecting = driver.connect(&config).unwrap();
        let (Connecting::Done(socket) | Connecting::UnderWay(socket)) = connecting else {
            panic!("{connecting:?}")
        };
        assert_eq!(rustix::net::sockopt::tcp_nodelay(&socket).unwrap(), nodelay);
    }
}
