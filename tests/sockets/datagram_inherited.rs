//! Datagram sockets that others have bound.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4OrigDstAddr, Ipv4RecvErr, Ipv4RecvTtl};
use oneloop::{DatagramOptions, HandlerId, Interface, Key, SocketAddress};
use rustix::net::sockopt;

use crate::support::datagrams::*;
use crate::support::{Reactor, TcpListener, assert_idle, run_until, udp};

struct Server {
    reactor: Reactor,
    handler: HandlerId<Datagrams>,
    calls: DatagramCalls,
}

impl Server {
    fn new(datagrams: Datagrams) -> Server {
        let mut reactor = Reactor::new().unwrap();
        let calls = Rc::clone(&datagrams.calls);
        let handler = reactor.add_datagram_handler(datagrams);
        Server { reactor, handler, calls }
    }

    fn take(&mut self, socket: impl Into<OwnedFd>) -> Key {
        let options = DatagramOptions::new();
        self.reactor.bind_fd(self.handler, socket.into(), &options).unwrap()
    }

    fn close(&mut self, key: Key) {
        self.reactor.context(self.handler).close_key(key);
        run_until(&mut self.reactor, "it is closed", |reactor| {
            reactor.stats().datagram_sockets == 0
        });
    }

    fn until_out(&mut self, count: u64) {
        run_until(&mut self.reactor, "they are sent", |reactor| {
            reactor.stats().datagrams_out == count
        });
    }
}

/// As std makes them, which waits.
fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn a_bound_socket_serves_who_sent_before_and_who_sends_after() {
    let mut server = Server::new(Datagrams::echo());
    let (socket, address) = bound();
    let client = udp();
    client.send_to(b"before", address).unwrap();
    let key = server.take(socket);
    assert_eq!(server.reactor.datagram_address(key).unwrap(), address);
    server.until_out(1);
    client.send_to(b"after", address).unwrap();
    server.until_out(2);
    let mut buffer = [0; 10];
    assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    assert_eq!(client.recv(&mut buffer).unwrap(), 5);
    assert_idle(&mut server.reactor);
}

/// Another who shares it may take the datagram first, and the call would wait for the next.
#[test]
fn a_receive_never_waits() {
    let mut server = Server::new(Datagrams::echo());
    let (socket, _) = bound();
    let duplicate = socket.try_clone().unwrap();
    server.take(socket);
    let info = format!("/proc/self/fdinfo/{}", duplicate.as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    assert_ne!(u32::from_str_radix(flags.trim(), 8).unwrap() & 0o4000, 0);
}

#[test]
fn one_that_is_connected_stays_so() {
    let (peer, stranger) = (udp(), udp());
    let (socket, address) = bound();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    let mut server = Server::new(Datagrams::new(|socket, call| {
        if let DatagramCall::Datagram(data, ..) = call {
            socket.send(data).ignore();
        }
    }));
    let key = server.take(socket);
    stranger.send_to(b"stranger", address).unwrap();
    peer.send_to(b"peer", address).unwrap();
    server.until_out(1);
    assert_eq!(peer.recv(&mut [0; 10]).unwrap(), 4);
    assert_eq!(server.calls.borrow().len(), 2);
    // Its errors are those of a connected one: what meets one is sent all the same.
    drop(peer);
    for _ in 0..10 {
        let mut cx = server.reactor.context(server.handler);
        cx.send_datagram(key, None, b"anybody?").ignore();
    }
    server.until_out(11);
    assert_eq!(server.reactor.stats().datagrams_dropped, 0);
}

#[test]
fn a_pair_without_names_talks() {
    let (one, other) = UnixDatagram::pair().unwrap();
    let mut server = Server::new(Datagrams::new(|socket, call| {
        if let DatagramCall::Datagram(data, from, _) = call {
            assert_eq!(*from, SocketAddress::Unnamed);
            socket.send(data).ignore();
        }
    }));
    server.take(one);
    other.send(b"hello").unwrap();
    server.until_out(1);
    let mut buffer = [0; 10];
    assert_eq!(other.recv(&mut buffer).unwrap(), 5);
    assert_idle(&mut server.reactor);
}

/// Who answers the sender need not know that it has no name.
#[test]
fn the_other_end_of_a_pair_is_answered_as_any_sender() {
    let (one, other) = UnixDatagram::pair().unwrap();
    let mut server = Server::new(Datagrams::echo());
    server.take(one);
    other.send(b"hello").unwrap();
    server.until_out(1);
    let mut buffer = [0; 10];
    assert_eq!(other.recv(&mut buffer).unwrap(), 5);
    assert_eq!(server.reactor.stats().datagrams_dropped, 0);
}

#[test]
fn options_are_set_on_it_and_it_is_connected_if_that_is_asked_for() {
    let mut server = Server::new(Datagrams::echo());
    let peer = udp();
    let socket = UdpSocket::bind("[::]:0").unwrap();
    let duplicate = socket.try_clone().unwrap();
    let options = DatagramOptions::new()
        .broadcast(true)
        .multicast_ttl(7)
        .multicast_interface(Interface::Index(1));
    server.reactor.bind_fd(server.handler, socket.into(), &options).unwrap();
    assert!(sockopt::socket_broadcast(&duplicate).unwrap());
    assert_eq!(sockopt::ipv6_multicast_hops(&duplicate).unwrap(), 7);
    assert_eq!(sockopt::ip_multicast_ttl(&duplicate).unwrap(), 7);
    let (socket, _) = bound();
    let duplicate = socket.try_clone().unwrap();
    let options = DatagramOptions::new().connect(peer.local_addr().unwrap());
    server.reactor.bind_fd(server.handler, socket.into(), &options).unwrap();
    assert_eq!(duplicate.peer_addr().unwrap(), peer.local_addr().unwrap());
}

#[test]
fn what_is_no_socket_for_datagrams_is_refused_with_its_reason() {
    let mut server = Server::new(Datagrams::echo());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = std::env::temp_dir();
    let path = directory.join(format!("oneloop-inherited-{}", std::process::id()));
    let unix = UnixListener::bind(&path).unwrap();
    let _ = std::fs::remove_file(&path);
    let netlink = rustix::net::socket_with(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    );
    let cases: [(OwnedFd, &str); 4] = [
        (listener.into(), "the descriptor is no datagram socket"),
        (unix.into(), "the descriptor is no datagram socket"),
        (netlink.unwrap(), "the descriptor is neither a UDP nor a Unix socket"),
        (File::open("/dev/null").unwrap().into(), "the descriptor is no socket"),
    ];
    for (socket, reason) in cases {
        let options = DatagramOptions::new();
        let error = server.reactor.bind_fd(server.handler, socket, &options).unwrap_err();
        assert_eq!((error.kind(), &error.to_string()[..]), (ErrorKind::InvalidInput, reason));
    }
    assert_eq!(server.reactor.stats().datagram_sockets, 0);
}

#[test]
fn an_option_that_comes_too_late_or_means_nothing_is_an_error() {
    let mut server = Server::new(Datagrams::echo());
    for (options, name) in [
        (DatagramOptions::new().reuse_address(true), "reuse_address"),
        (DatagramOptions::new().reuse_port(true), "reuse_port"),
        (DatagramOptions::new().only_v6(true), "only_v6"),
        (DatagramOptions::new().unix_mode(0o600), "unix_mode"),
    ] {
        let (socket, _) = bound();
        let error = server.reactor.bind_fd(server.handler, socket.into(), &options).unwrap_err();
        let expected = format!("{name} is to be set before a socket is bound, and this one is");
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidInput, expected));
    }
    let options = DatagramOptions::new().broadcast(true);
    let socket = UnixDatagram::unbound().unwrap();
    let error = server.reactor.bind_fd(server.handler, socket.into(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    for any in ["0.0.0.0:0", "[::]:0"] {
        let mut server = Server::new(Datagrams::echo());
        let socket = UdpSocket::bind(any).unwrap();
        let port = socket.local_addr().unwrap().port();
        server.take(socket);
        let (client, address) = (udp(), SocketAddr::from(([127, 0, 0, 2], port)));
        client.send_to(b"hello", address).unwrap();
        server.until_out(1);
        assert_eq!(client.recv_from(&mut [0; 10]).unwrap(), (5, address), "{any}");
    }
}

/// What the kernel tells beside a datagram is more then than is read.
#[test]
fn who_has_asked_for_much_beside_its_datagrams_is_served() {
    let mut server = Server::new(Datagrams::echo());
    let socket = UdpSocket::bind("[::]:0").unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], socket.local_addr().unwrap().port()));
    sockopt::set_ip_recvtos(&socket, true).unwrap();
    setsockopt(&socket, Ipv4RecvTtl, &true).unwrap();
    setsockopt(&socket, Ipv4OrigDstAddr, &true).unwrap();
    server.take(socket);
    let client = udp();
    client.send_to(b"hello", address).unwrap();
    server.until_out(1);
    assert_eq!(client.recv(&mut [0; 10]).unwrap(), 5);
}

/// An address at which nobody is. No test is given such a port, as one whose socket is gone might be.
fn nobody_there() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// Whoever asks for errors in full (ip(7), `IP_RECVERR`) has a queue of them, and a socket that is in error until it is
/// read. The reactor does not ask; who passed a socket on may have done so.
#[test]
fn a_queue_of_icmp_errors_that_nobody_reads_does_not_spin() {
    const SENT: usize = 20;
    for (asks, is_connected) in [(true, false), (true, true), (false, true), (false, false)] {
        let mut server = Server::new(Datagrams::listens());
        let (socket, address) = bound();
        let nobody = nobody_there();
        setsockopt(&socket, Ipv4RecvErr, &asks).unwrap();
        if is_connected {
            socket.connect(nobody).unwrap();
        }
        let key = server.take(socket.try_clone().unwrap());
        for number in 1..=SENT {
            let cx = &mut server.reactor.context(server.handler);
            cx.send_datagram(key, Some(&nobody.into()), b"anybody?").ignore();
            run_until(&mut server.reactor, "its error is there, or none", |reactor| {
                let stats = reactor.stats();
                stats.datagram_errors == if asks || is_connected { number as u64 } else { 0 }
                    && stats.datagrams_out == number as u64
            });
        }
        let case = format!("asks: {asks}, is connected: {is_connected}");
        assert_idle(&mut server.reactor);
        let counts = |reactor: &Reactor| {
            let stats = reactor.stats();
            (stats.events, stats.busy_turns, stats.datagram_errors)
        };
        let before = counts(&server.reactor);
        for _ in 0..5 {
            server.reactor.turn(Some(Duration::from_millis(2))).unwrap();
        }
        assert_eq!(counts(&server.reactor), before, "{case}");
        // It is still of use.
        if !is_connected {
            udp().send_to(b"hello", address).unwrap();
            run_until(&mut server.reactor, &case, |reactor| reactor.stats().datagrams_in == 1);
            assert_idle(&mut server.reactor);
        }
    }
}

/// Closing it does not take it out of epoll then (epoll(7), questions and answers).
#[test]
fn what_is_closed_and_shared_wakes_nobody() {
    let mut server = Server::new(Datagrams::listens());
    let (socket, address) = bound();
    let shared = socket.try_clone().unwrap();
    let key = server.take(socket);
    server.close(key);
    udp().send_to(b"for the other", address).unwrap();
    assert_idle(&mut server.reactor);
    assert_eq!(server.reactor.stats().stale_events, 0);
    assert_eq!(shared.recv(&mut [0; 20]).unwrap(), 13);
}

#[test]
fn what_was_closed_can_be_taken_in_again() {
    let mut server = Server::new(Datagrams::echo());
    let (socket, address) = bound();
    for number in 1..=3 {
        let key = server.take(socket.try_clone().unwrap());
        udp().send_to(b"hello", address).unwrap();
        server.until_out(number);
        server.close(key);
    }
}

/// A path is whose who made it.
#[test]
fn its_path_stays() {
    let directory = std::env::temp_dir();
    let path = directory.join(format!("oneloop-datagram-inherited-{}", std::process::id()));
    let mut server = Server::new(Datagrams::echo());
    server.take(UnixDatagram::bind(&path).unwrap());
    server.reactor.stop();
    assert!(path.exists());
    std::fs::remove_file(path).unwrap();
}

/// A socket unit with `ListenDatagram=`: this test is its own service.
#[cfg(feature = "systemd")]
#[test]
fn a_socket_unit_of_datagrams_is_taken_by_its_name() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use crate::support::{apart, full_name_of};

    const SERVICE: &str = "ONELOOP_TEST_SERVICE";
    if std::env::var_os(SERVICE).is_some() {
        let mut inherited = oneloop::Inherited::from_env();
        let sockets = inherited.take(&"systemd:dns".parse().unwrap()).unwrap();
        let mut server = Server::new(Datagrams::echo());
        for socket in sockets {
            server.take(socket);
        }
        return server.until_out(1);
    }
    let this = std::env::current_exe().unwrap();
    let name = full_name_of("a_socket_unit_of_datagrams_is_taken_by_its_name");
    let run = format!(
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=dns \
         exec '{}' --exact {name} --test-threads=1",
        this.display()
    );
    apart(|| {
        let (socket, address) = bound();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.send_to(b"hello", address).unwrap(); // the socket is there before its service
        let mut service = Command::new("sh")
            .args(["-c", &run])
            .env(SERVICE, "1")
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut buffer = [0; 10];
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (5, address));
        assert!(service.wait().unwrap().success());
    });
}
