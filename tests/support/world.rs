//! The world that tests run in: here the kernel's. `sim.rs` is the simulated one, with the same names.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::{HandlerId, ListenOptions, ListenerId, StreamHandler};

use super::DEADLINE;
use super::kernel;

#[path = "pipe.rs"]
mod pipe;

pub use self::pipe::*;
pub use std::net::{TcpListener, TcpStream, UdpSocket};
pub use std::time::Instant;

pub use super::kernel::until_received;
pub use oneloop::Reactor;

/// Whether sockets, descriptors and time are real.
pub const HAS_KERNEL: bool = true;

/// Whether clients come over TCP.
pub const IS_TCP: bool = true;

/// Has a handler listen where clients of this world connect to.
pub fn listen<H: StreamHandler>(
    reactor: &mut Reactor,
    handler: HandlerId<H>,
    options: &ListenOptions,
) -> (ListenerId, SocketAddr) {
    let listener = reactor.listen_with(handler, "127.0.0.1:0", options).expect("a free port");
    let address = reactor.listener_address(listener).expect("it listens");
    (listener, address.inet().expect("TCP"))
}

/// Whether events, reads and accepts are those of Linux, so that they can be counted.
pub const COUNTS_AS_LINUX: bool = true;

/// Sends this process a signal.
pub fn raise(_: &Reactor, signal: oneloop::Signal) {
    use rustix::process::{Signal, getpid, kill_process};
    let signal = match signal {
        oneloop::Signal::Interrupt => Signal::INT,
        oneloop::Signal::Terminate => Signal::TERM,
        oneloop::Signal::Hangup => Signal::HUP,
        oneloop::Signal::User1 => Signal::USR1,
        oneloop::Signal::User2 => Signal::USR2,
        other => panic!("{other}"),
    };
    kill_process(getpid(), signal).unwrap();
}

/// For a process of its own. A Rust program starts with SIGPIPE ignored; a library may live in one that did not.
pub fn default_sigpipe() {
    use nix::libc::{SIG_DFL, SIG_ERR, SIGPIPE, signal};
    // SAFETY: the default action runs no code of ours.
    let before = unsafe { signal(SIGPIPE, SIG_DFL) };
    assert_ne!(before, SIG_ERR, "signal failed");
}

/// A client that does not block for ever.
pub fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("the server listens");
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// A client of a Unix socket. What the standard library calls a TCP stream takes any stream socket.
pub fn connect_unix(name: &UnixName) -> io::Result<TcpStream> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let name = name.as_abstract().expect("tests that need no file make none");
    let address = SocketAddr::from_abstract_name(name)?;
    let client = TcpStream::from(OwnedFd::from(UnixStream::connect_addr(&address)?));
    client.set_read_timeout(Some(DEADLINE))?;
    client.set_write_timeout(Some(DEADLINE))?;
    Ok(client)
}

/// A client from another address of the loopback network, and with buffers of the given size (the
/// kernel doubles it) where it is not 0: loopback takes megabytes at once otherwise.
pub fn connect_from(from: Ipv4Addr, buffer_bytes: usize, address: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if buffer_bytes > 0 {
        // Before the connect, so that the window is never larger.
        socket.set_recv_buffer_size(buffer_bytes).unwrap();
        socket.set_send_buffer_size(buffer_bytes).unwrap();
    }
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect_timeout(&address.into(), DEADLINE).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.into()
}

/// One end of a pipe, which does not block.
pub type PipeEnd = std::fs::File;

/// Both of them: the one that is read, and the one that is written to.
pub fn pipe_ends() -> (PipeEnd, PipeEnd) {
    let (reader, writer) = io::pipe().unwrap();
    let ends = [OwnedFd::from(reader), OwnedFd::from(writer)];
    ends.iter().for_each(|end| rustix::io::ioctl_fionbio(end, true).unwrap());
    let [reader, writer] = ends.map(PipeEnd::from);
    (reader, writer)
}

/// A UDP socket on loopback, which does not block.
pub fn udp() -> UdpSocket {
    udp_at("127.0.0.1:0")
}

pub fn udp_at(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Closes with a reset.
pub fn reset(client: TcpStream) {
    let socket = socket2::Socket::from(client);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// A listener whose backlog holds so many connections and one more.
pub fn listen_with_backlog(backlog: i32) -> TcpListener {
    let (socket, _) = nobody();
    socket.listen(backlog).unwrap();
    socket.into()
}

/// An address at which nobody listens, as long as the socket lives.
pub fn nobody() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// The same, where another socket may have the address as well (socket(7), `SO_REUSEADDR`). Its port is free at all
/// addresses, so that one can also connect from "any".
pub fn shared_nobody() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// A client that gives up after a while that is short for a person and long for loopback.
pub fn try_connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, Duration::from_millis(300))
}

/// The longest backlog that there can be (listen(2)).
pub fn backlog_max() -> usize {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    somaxconn.trim().parse().unwrap()
}

/// What a datagram socket has for what it receives, with the kernel's bookkeeping (socket(7)).
pub fn datagram_room() -> usize {
    let room = std::fs::read_to_string("/proc/sys/net/core/rmem_default").unwrap();
    room.trim().parse().unwrap()
}

/// Descriptors of this process that are open now.
pub fn descriptors() -> usize {
    // Without the one that reads the directory.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Does something while no reactor can have another descriptor; nor can anybody else in the process.
pub fn without_descriptors<T>(act: impl FnOnce() -> T) -> T {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use std::os::fd::AsRawFd;
    let limit = getrlimit(Resource::Nofile);
    let next = io::pipe().unwrap().0.as_raw_fd() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(next), ..limit }).unwrap();
    let result = act();
    setrlimit(Resource::Nofile, limit).unwrap();
    result
}

/// Lets this process open as many descriptors as it may, and says whether these are enough.
pub fn may_open(descriptors: u64) -> bool {
    kernel::may_open(descriptors)
}

/// The loop does something else for so long.
pub fn stall(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}
