//! The simulated world, with the names of `world.rs`: sockets, descriptors and time are those of a
//! network in memory, one for each thread and so for each test.
//!
//! A call of a client that blocks lets the time pass in which it waits; looking at the clock takes a
//! microsecond, so that whoever waits for it does not wait for ever.

#![allow(dead_code, unused_imports, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, ToSocketAddrs};
use std::ops::Sub;
use std::rc::Rc;
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::driver::{AcceptError, DatagramConfig, Driver, ListenConfig};
use oneloop::sim::{Faults, Kernel, Network, SimDriver, SimHost, SimSocket};
use oneloop::{
    DatagramOptions, HandlerId, ListenOptions, ListenerId, ReactorLimits, StreamHandler, Time,
};

use super::KERNEL;

#[path = "sim_pipe.rs"]
mod pipe;

pub use self::pipe::*;

/// As long as nothing takes on the kernel's side of these tests.
const DEADLINE: Duration = Duration::from_secs(20);

pub const HAS_KERNEL: bool = false;

pub const IS_TCP: bool = true;

pub fn listen<H: StreamHandler>(
    reactor: &mut Reactor,
    handler: HandlerId<H>,
    options: &ListenOptions,
) -> (ListenerId, SocketAddr) {
    let listener = reactor.listen_with(handler, "127.0.0.1:0", options).expect("a free port");
    let address = reactor.listener_address(listener).expect("it listens");
    (listener, address.inet().expect("TCP"))
}

pub const COUNTS_AS_LINUX: bool = matches!(KERNEL, Kernel::Linux);

pub type Reactor = oneloop::Reactor<SimDriver>;

thread_local! {
    static NETWORK: Network = Network::new(seed(), KERNEL);
    /// All is on one machine, as it is over loopback.
    static HOST: SimHost = network().host(healthy());
    /// Of all reactors.
    static HOSTS: RefCell<Vec<u32>> = RefCell::default();
}

/// `ONELOOP_SEED`, or always the same.
fn seed() -> u64 {
    let seed = std::env::var("ONELOOP_SEED").ok();
    seed.map_or(1, |seed| seed.parse().expect("ONELOOP_SEED is a number"))
}

/// A host without faults, whose sockets hold megabytes, as those of loopback do.
fn healthy() -> Faults {
    Faults::none().send_buffer_bytes(2 << 20).receive_buffer_bytes(1 << 20)
}

pub fn network() -> Network {
    NETWORK.with(Network::clone)
}

/// Lets what is due arrive.
fn settle() {
    // There is none any more while the thread ends.
    let _ = NETWORK.try_with(|network| network.pass(Duration::ZERO));
}

/// Tries until it does not block any more, while time passes.
fn wait<T>(call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    wait_for(DEADLINE, call)
}

fn wait_for<T>(patience: Duration, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let network = network();
    let start = network.now();
    let mut step = Duration::ZERO;
    loop {
        network.pass(step);
        step = (2 * step).clamp(Duration::from_micros(1), Duration::from_millis(1));
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
        if network.now() - start > patience {
            return Err(ErrorKind::WouldBlock.into());
        }
    }
}

/// What makes a reactor, as [`oneloop::Reactor`] has it for the kernel's world.
pub trait NewReactor: Sized {
    fn new() -> io::Result<Self>;
    fn with_limits(limits: ReactorLimits) -> io::Result<Self>;
}

impl NewReactor for Reactor {
    fn new() -> io::Result<Reactor> {
        Reactor::with_limits(ReactorLimits::new())
    }

    fn with_limits(limits: ReactorLimits) -> io::Result<Reactor> {
        let driver = HOST.with(|host| host.driver(healthy()));
        HOSTS.with_borrow_mut(|hosts| hosts.push(driver.host()));
        Reactor::with_driver(driver, limits)
    }
}

/// A moment of the virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Instant(Time);

impl Instant {
    pub fn now() -> Instant {
        let network = network();
        network.pass(Duration::from_micros(1));
        Instant(network.now())
    }

    pub fn elapsed(self) -> Duration {
        Instant::now() - self
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.0 - earlier.0
    }
}

/// A client, which blocks until it is told not to; clones are the same socket.
#[derive(Clone, Debug)]
pub struct TcpStream {
    socket: Rc<RefCell<SimSocket>>,
    peer: SocketAddr,
    is_nonblocking: Rc<Cell<bool>>,
}

impl TcpStream {
    fn new(socket: SimSocket, peer: SocketAddr) -> TcpStream {
        let socket = Rc::new(RefCell::new(socket));
        TcpStream { socket, peer, is_nonblocking: Rc::default() }
    }

    fn call<T>(&self, mut call: impl FnMut(&mut SimSocket) -> io::Result<T>) -> io::Result<T> {
        if self.is_nonblocking.get() {
            settle();
            return call(&mut self.socket.borrow_mut());
        }
        wait(|| call(&mut self.socket.borrow_mut()))
    }

    pub fn set_nonblocking(&self, is_nonblocking: bool) -> io::Result<()> {
        self.is_nonblocking.set(is_nonblocking);
        Ok(())
    }

    pub fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(self.clone())
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.socket.borrow().local_address().inet().expect("TCP"))
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        assert_eq!(how, Shutdown::Write, "no test needs another one");
        settle();
        self.socket.borrow().shutdown_write()
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(|socket| socket.read(buffer))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.call(|socket| socket.write(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A listener that a test accepts from by hand.
#[derive(Debug)]
pub struct TcpListener {
    driver: SimDriver,
    socket: SimSocket,
}

impl TcpListener {
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let address = address.to_socket_addrs()?.next().expect("an address");
        TcpListener::with_backlog(address, 128)
    }

    fn with_backlog(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
        let driver = HOST.with(|host| host.driver(healthy()));
        let config = ListenConfig { only_v6: true, ..ListenConfig::new(address, backlog) };
        let (socket, _) = driver.listen(&config)?;
        Ok(TcpListener { driver, socket })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.driver.local_address(&self.socket)?.inet().expect("TCP"))
    }

    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        wait(|| match self.driver.accept(&self.socket) {
            Ok((socket, peer)) => {
                let peer = peer.inet().expect("TCP");
                Ok((TcpStream::new(socket, peer), peer))
            }
            Err(AcceptError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => panic!("{error:?}"),
        })
    }
}

/// As long as a client waits for an answer to its connect where there may be none.
const ANSWER: Duration = Duration::from_millis(300);

fn connect_by(
    host: &SimHost,
    from: Option<Ipv4Addr>,
    address: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    let socket = match from {
        Some(from) => host.connect_from(from.into(), address)?,
        None => host.connect(address)?,
    };
    match wait_for(patience, || socket.connect_result()) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
        Err(error) => Err(error),
        Ok(()) => Ok(TcpStream::new(socket, address)),
    }
}

pub fn try_connect(address: SocketAddr) -> io::Result<TcpStream> {
    HOST.with(|host| connect_by(host, None, address, ANSWER))
}

pub fn connect(address: SocketAddr) -> TcpStream {
    HOST.with(|host| connect_by(host, None, address, DEADLINE)).expect("the server listens")
}

pub fn connect_unix(name: &UnixName) -> io::Result<TcpStream> {
    let socket = HOST.with(|host| host.connect(name.clone()))?;
    Ok(TcpStream::new(socket, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
}

pub fn connect_from(from: Ipv4Addr, buffer_bytes: usize, address: SocketAddr) -> TcpStream {
    let faults = match buffer_bytes {
        0 => healthy(),
        _ => Faults::none()
            .send_buffer_bytes(2 * buffer_bytes)
            .receive_buffer_bytes(2 * buffer_bytes),
    };
    let host = HOST.with(|host| host.beside(faults));
    connect_by(&host, Some(from), address, DEADLINE).expect("the server listens")
}

/// One end of a pipe, which does not block.
pub type PipeEnd = SimSocket;

pub fn pipe_ends() -> (PipeEnd, PipeEnd) {
    HOST.with(SimHost::pipe)
}

/// A UDP socket, which does not block.
#[derive(Debug)]
pub struct UdpSocket {
    driver: SimDriver,
    socket: SimSocket,
}

impl UdpSocket {
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.driver.local_address(&self.socket)?.inet().expect("UDP"))
    }

    pub fn send_to(&self, data: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.driver.send_datagram(&self.socket, data, Some(&to.into()))?;
        settle();
        Ok(data.len())
    }

    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        settle();
        let (length, from) = self.driver.receive(&self.socket, buffer)?;
        Ok((length.min(buffer.len()), from.inet().expect("UDP")))
    }
}

pub fn udp() -> UdpSocket {
    udp_at("127.0.0.1:0")
}

pub fn udp_at(address: &str) -> UdpSocket {
    let driver = HOST.with(|host| host.driver(healthy()));
    let address = address.parse::<SocketAddr>().unwrap().into();
    let config = DatagramConfig { address: &address, options: &DatagramOptions::new() };
    let (socket, _) = driver.bind(&config).unwrap();
    UdpSocket { driver, socket }
}

pub fn reset(client: TcpStream) {
    // The last one closes; a reset of a socket that others share is what no test does.
    let socket = Rc::clone(&client.socket);
    drop(client);
    Rc::into_inner(socket).expect("nobody else has it").into_inner().reset();
}

pub fn listen_with_backlog(backlog: i32) -> TcpListener {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    TcpListener::with_backlog(address, backlog as u32).unwrap()
}

pub fn nobody() -> ((), SocketAddr) {
    ((), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
}

pub fn default_sigpipe() {
    unreachable!("there are no such signals");
}

pub fn shared_nobody() -> ((), SocketAddr) {
    nobody()
}

pub fn until_received(_: SocketAddr, _: &TcpStream, _: usize) {
    settle();
}

pub fn descriptors() -> usize {
    // Those of clients are no process's, so that they count as well.
    network().descriptors()
}

pub fn backlog_max() -> usize {
    usize::MAX
}

pub fn datagram_room() -> usize {
    2 << 20
}

pub fn without_descriptors<T>(act: impl FnOnce() -> T) -> T {
    let set_all_left = |descriptors| {
        for host in HOSTS.with_borrow(Vec::clone) {
            network().set_descriptors_left(host, descriptors);
        }
    };
    set_all_left(0);
    let result = act();
    set_all_left(usize::MAX);
    result
}

pub fn may_open(_: u64) -> bool {
    true
}

pub fn stall(duration: Duration) {
    network().pass(duration);
}
