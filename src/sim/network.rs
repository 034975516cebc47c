//! A network by itself, for whoever turns the reactors and plays the clients by hand.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::decisions::Decisions;
use super::faults::{Faults, Kernel};
use super::net::Net;
use super::sim_driver::SimDriver;
use super::socket::Owner;
use crate::address::SocketAddress;
use crate::clock::Time;
use crate::key::Key;

/// A simulated network: hosts, connections, and one virtual clock. Clones are the same network.
///
/// ```
/// use std::io::Write;
/// use std::time::Duration;
///
/// use oneloop::sim::{Faults, Kernel, Network};
/// use oneloop::{Reactor, ReactorLimits};
/// # use oneloop::{Connection, Error, StreamHandler};
/// # struct Echo;
/// # impl StreamHandler for Echo {
/// #     type Session = ();
/// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
/// #     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
/// #         conn.send(data).ignore();
/// #         Ok(data.len())
/// #     }
/// # }
///
/// let network = Network::new(1, Kernel::Linux);
/// let limits = ReactorLimits::new().connections_max(16);
/// let mut reactor = Reactor::with_driver(network.driver(Faults::none()), limits)?;
/// let echo = reactor.add(Echo);
/// let listener = reactor.listen(echo, "10.0.0.1:7000")?;
///
/// let address = reactor.listener_address(listener)?.inet().expect("TCP");
/// let mut client = network.host(Faults::none()).connect(address)?;
/// reactor.turn(Some(Duration::from_millis(1)))?;
/// client.write_all(b"hello")?;
/// while reactor.stats().bytes_out < 5 {
///     reactor.turn(Some(Duration::from_millis(1)))?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) net: Rc<RefCell<Net>>,
}

impl Network {
    /// A network of its own, in which everything that is left to chance follows from `seed`.
    pub fn new(seed: u64, kernel: Kernel) -> Network {
        Network::with_decisions(Decisions::new(seed), kernel)
    }

    pub(crate) fn with_decisions(decisions: Decisions, kernel: Kernel) -> Network {
        Network { net: Rc::new(RefCell::new(Net::new(decisions, kernel))) }
    }

    /// A new host with an address of its own, for a reactor:
    /// [`Reactor::with_driver`](crate::Reactor::with_driver).
    pub fn driver(&self, faults: Faults) -> SimDriver {
        let host = self.net.borrow_mut().add_host(Rc::new(faults), None);
        SimDriver::new(self, host)
    }

    /// A new host, for plain sockets.
    pub fn host(&self, faults: Faults) -> SimHost {
        let host = self.net.borrow_mut().add_host(Rc::new(faults), None);
        SimHost { network: self.clone(), host }
    }

    /// Another host on the machine of `host`.
    pub(super) fn beside(&self, host: u32, faults: Faults) -> u32 {
        self.net.borrow_mut().add_host(Rc::new(faults), Some(host))
    }

    /// A new host that has `ip`: on the machine that has it already, or on a new one.
    pub(super) fn host_at(&self, ip: Option<IpAddr>, faults: Faults) -> SimHost {
        let mut net = self.net.borrow_mut();
        let machine = ip.and_then(|ip| net.addresses.machine(0, ip));
        let host = net.add_host(Rc::new(faults), machine);
        drop(net);
        SimHost { network: self.clone(), host }
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.net.borrow().now
    }

    /// Lets time pass, and what is under way arrive. No reactor has a turn.
    pub fn pass(&self, duration: Duration) {
        let mut net = self.net.borrow_mut();
        let until = net.now + duration;
        net.pass(until);
    }

    /// Has a scripted client hear of a socket's changes.
    pub(crate) fn tell_client(&self, socket: &SimSocket, index: usize) {
        let mut net = self.net.borrow_mut();
        if let Some(sock) = net.sockets.get_mut(socket.key) {
            sock.owner = Owner::Client(index);
        }
        net.clients_due.push_back(index);
    }

    /// How many descriptors a host may open besides those that it has; its number is that of
    /// [`SimDriver::host`].
    pub fn set_descriptors_left(&self, host: u32, descriptors: usize) {
        let mut net = self.net.borrow_mut();
        let host = net.host(host);
        host.descriptors_max = host.descriptors.saturating_add(descriptors);
    }

    /// Descriptors that all hosts together have open.
    pub fn descriptors(&self) -> usize {
        self.net.borrow().hosts.iter().map(|host| host.descriptors).sum()
    }
}

/// A host without a reactor: where plain sockets come from.
#[derive(Clone, Debug)]
pub struct SimHost {
    network: Network,
    host: u32,
}

impl SimHost {
    /// A driver for a reactor on the same machine: it has the same addresses, loopback too. Faults,
    /// descriptors and clock are its own.
    pub fn driver(&self, faults: Faults) -> SimDriver {
        SimDriver::new(&self.network, self.beside(faults).host)
    }

    /// The same for plain sockets: another process of this machine.
    pub fn beside(&self, faults: Faults) -> SimHost {
        let host = self.network.beside(self.host, faults);
        SimHost { network: self.network.clone(), host }
    }

    pub(super) fn number(&self) -> u32 {
        self.host
    }

    /// Begins to connect; it goes on while time passes.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if all ports are in use, `NetworkUnreachable` if the address is neither
    /// somebody's nor in the hosts' network. Of a Unix socket, which is connected at once: `NotFound` if there is no
    /// such path on the machine, `ConnectionRefused` if nobody listens, `WouldBlock` if the backlog is full.
    ///
    /// # Panics
    ///
    /// If it is the address of a Unix socket without a name.
    pub fn connect(&self, address: impl Into<SocketAddress>) -> io::Result<SimSocket> {
        let key = match address.into() {
            SocketAddress::Inet(address) => {
                self.network.net.borrow_mut().connect(self.host, None, address)?
            }
            SocketAddress::Unix(name) => {
                self.network.net.borrow_mut().connect_unix(self.host, &name)?
            }
            SocketAddress::Unnamed => panic!("nobody can be found without a name"),
        };
        Ok(SimSocket::new(&self.network, self.host, key))
    }

    /// Makes a pipe, the end that is read and the one that is written to: to be
    /// [adopted](crate::Reactor::adopt) by a reactor, which takes it over to its host, or read and written by hand.
    pub fn pipe(&self) -> (SimSocket, SimSocket) {
        let (reader, writer) = self.network.net.borrow_mut().pipe(self.host);
        (
            SimSocket::new(&self.network, self.host, reader),
            SimSocket::new(&self.network, self.host, writer),
        )
    }

    /// As [`connect`](Self::connect), from an address of one's choice, which is the host's from now on, unless another one has
    /// it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and `AddrNotAvailable` if another host has it.
    pub fn connect_from(&self, ip: IpAddr, address: SocketAddr) -> io::Result<SimSocket> {
        let key =
            self.network.net.borrow_mut().connect(self.host, Some((ip, 0).into()), address)?;
        Ok(SimSocket::new(&self.network, self.host, key))
    }
}

/// A simulated socket, non-blocking. Dropping it closes it.
#[derive(Debug)]
pub struct SimSocket {
    network: Network,
    /// In whose process it is.
    host: Cell<u32>,
    pub(crate) key: Key,
}

impl SimSocket {
    pub(crate) fn new(network: &Network, host: u32, key: Key) -> SimSocket {
        network.net.borrow_mut().host(host).descriptors += 1;
        SimSocket { network: network.clone(), host: Cell::new(host), key }
    }

    /// Whether it is connected: `Ok`, `WouldBlock` while it is not, or why it failed.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused`, `TimedOut`, `HostUnreachable`.
    pub fn connect_result(&self) -> io::Result<()> {
        self.network.net.borrow_mut().connect_result(self.key)
    }

    /// Passes it on to another process.
    pub(super) fn pass_on(&self, host: u32) {
        let mut net = self.network.net.borrow_mut();
        net.host(self.host.replace(host)).descriptors -= 1;
        net.host(host).descriptors += 1;
    }

    /// Sends the end of file.
    ///
    /// # Errors
    ///
    /// `NotConnected`.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.network.net.borrow_mut().shutdown_write(self.key)
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.network.net.borrow_mut().close(self.key, true);
    }

    /// From now on nothing reaches the other side of this connection, in either direction, unless it is a Unix socket or a
    /// pipe, which no network can cut.
    pub fn vanish(&self) {
        self.network.net.borrow_mut().vanish(self.key);
    }

    /// The address of this side.
    ///
    /// # Panics
    ///
    /// If its machine has [crashed](crate::sim::Simulation::crash).
    pub fn local_address(&self) -> SocketAddress {
        let mut net = self.network.net.borrow_mut();
        let local = net.stream(self.key).expect("its machine has not crashed").local;
        net.unix.shown(local)
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        // While a panic goes through the network's own code it is borrowed, and nobody will look.
        if let Ok(mut net) = self.network.net.try_borrow_mut() {
            net.host(self.host.get()).descriptors -= 1;
            if net.sockets.get(self.key).is_some() {
                net.close(self.key, false);
            }
        }
    }
}

impl Read for SimSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.network.net.borrow_mut().read(self.key, buffer)
    }
}

impl Write for SimSocket {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.network.net.borrow_mut().write(self.key, &[IoSlice::new(data)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
