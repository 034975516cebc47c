//! The simulated driver.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::calls::{Call, errno, os_error};
use super::decisions::Matter;
use super::faults::Kernel;
use super::names::SimNames;
use super::network::{Network, SimSocket};
use super::sim_driver::SimDriver;
use super::socket::Kind;
use super::unix::SimPath;
use crate::address::SocketAddress;
use crate::clock::Time;
use crate::credentials::Credentials;
use crate::datagram::Interface;
use crate::driver::{
    AcceptError, ConnectConfig, Connecting, DatagramConfig, Driver, Event, ListenConfig,
    StreamKind, Wake, Work, sort_accept_error,
};
use crate::key::Key;
use crate::names::Resolver;
use crate::readiness::Readiness;
use crate::signal::Signal;
use crate::socket_options::SocketOptions;

/// Whom a UDP socket sends to.
fn inet(address: &SocketAddress) -> io::Result<SocketAddr> {
    address.inet().ok_or(Errno::AFNOSUPPORT.into())
}

pub(super) fn no_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "nobody can be found without a name")
}

/// What accept(2) fails with, sorted as on real sockets.
fn sorted(error: io::Error) -> AcceptError {
    errno(&error).map_or(AcceptError::Other(error), sort_accept_error)
}

/// What the two that are taken change, nobody here can see: the simulated kernel holds no small write back.
fn check_options(address: &SocketAddress, options: &SocketOptions) -> io::Result<()> {
    match address {
        SocketAddress::Inet(_) => options.only(&["nodelay", "traffic_class"], "in the simulation"),
        SocketAddress::Unix(_) | SocketAddress::Unnamed => options.only(&[], "on a Unix socket"),
    }
}

impl Driver for SimDriver {
    type Socket = SimSocket;
    type Reserve = SimReserve;
    type Guard = SimPath;

    fn short_read_drains(&self) -> bool {
        self.network.net.borrow().kernel == Kernel::Linux
    }

    fn short_write_fills(&self) -> bool {
        self.network.net.borrow().kernel == Kernel::Linux
    }

    fn listeners_are_level(&self) -> bool {
        self.network.net.borrow().kernel == Kernel::Linux
    }

    fn set_events_max(&mut self, events_max: usize) {
        self.events_max = events_max;
    }

    /// Waits in virtual time, which costs none.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.begin_jobs(self.host);
        net.begin_turn(self.host);
        if let Err(error) = net.call(self.host, Call::Poll) {
            self.events.clear();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
            return Ok(());
        }
        let mut goes_on = net.collect(self.host, self.events_max, &mut self.events);
        let end = timeout.map(|timeout| net.now + timeout);
        while goes_on && end.is_none_or(|end| net.now < end) {
            let next = match (net.next_arrival(), end) {
                (Some(arrival), Some(end)) => arrival.min(end),
                (Some(arrival), None) => arrival,
                (None, Some(end)) => end,
                (None, None) => return Err(io::Error::other("nothing will ever happen here")),
            };
            net.pass(next);
            goes_on = net.collect(self.host, self.events_max, &mut self.events);
        }
        Ok(())
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        self.events.iter().copied()
    }

    fn now(&self) -> Time {
        let mut net = self.network.net.borrow_mut();
        net.now + net.host(self.host).ahead
    }

    fn wall_clock(&self) -> SystemTime {
        // The first of January 2000, and what has passed since.
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800);
        start + self.now().since(Time::from_nanos(0))
    }

    fn random_seed(&self) -> u64 {
        self.network.net.borrow().decisions.number(u64::from(self.host))
    }

    /// Nobody is kept from a path.
    fn listen(&self, config: &ListenConfig) -> io::Result<(SimSocket, Option<SimPath>)> {
        let ListenConfig { backlog, reuse_port, only_v6, replace_stale, .. } = *config;
        check_options(&config.address, &config.options)?;
        if !self.has_descriptor() {
            return Err(SimDriver::no_descriptor());
        }
        let (net, host) = (&self.network.net, self.host);
        let (key, guard) = match &config.address {
            SocketAddress::Inet(address) => {
                let address = *address;
                (net.borrow_mut().listen(host, address, backlog, reuse_port, only_v6)?, None)
            }
            SocketAddress::Unix(name) => {
                let listening = net.borrow_mut().listen_unix(host, name, backlog, replace_stale);
                let (key, inode) = listening?;
                (key, inode.map(|inode| SimPath::new(&self.network, host, name, inode)))
            }
            SocketAddress::Unnamed => return Err(no_name()),
        };
        Ok((SimSocket::new(&self.network, host, key), guard))
    }

    fn accept(&self, listener: &SimSocket) -> Result<(SimSocket, SocketAddress), AcceptError> {
        let has_descriptor = self.has_descriptor();
        let (key, peer) = {
            let mut net = self.network.net.borrow_mut();
            let faults = net.faults(self.host);
            let is_waited_for = net
                .sockets
                .get(listener.key)
                .is_some_and(|sock| sock.readiness() != Readiness::EMPTY);
            net.call(self.host, Call::Accept).map_err(sorted)?;
            if is_waited_for || !has_descriptor {
                let (of, out) = (listener.key.index(), faults.descriptors_out);
                // Linux takes the descriptor first, also if nobody is at the door.
                if !has_descriptor
                    || net.decisions.chance(Matter::DescriptorsOut, of, out).is_some()
                {
                    net.log_error(self.host, "accept", listener.key, "EMFILE");
                    return Err(AcceptError::Descriptors(SimDriver::no_descriptor()));
                }
                if net.decisions.chance(Matter::MemoryOut, of, faults.memory_out).is_some() {
                    net.log_error(self.host, "accept", listener.key, "OutOfMemory");
                    return Err(AcceptError::Other(Errno::NOBUFS.into()));
                }
            }
            let (key, peer) = match net.accept(listener.key) {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return Err(AcceptError::WouldBlock),
                Err(error) => return Err(AcceptError::Other(error)),
            };
            let (of, aborted) = (key.index(), faults.aborted_accepts);
            if net.decisions.chance(Matter::AbortedAccept, of, aborted).is_some() {
                net.close(key, true);
                let error = os_error(io::ErrorKind::ConnectionAborted);
                return Err(AcceptError::Connection(error));
            }
            (key, net.unix.shown(peer))
        };
        Ok((SimSocket::new(&self.network, self.host, key), peer))
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::<SimNames>::clone(&self.network.net.borrow().names)
    }

    fn connect(&self, config: &ConnectConfig<'_>) -> io::Result<Connecting<SimSocket>> {
        check_options(config.to, config.options)?;
        if !self.has_descriptor() {
            return Err(SimDriver::no_descriptor());
        }
        let mut net = self.network.net.borrow_mut();
        let (of, busy) = (self.host as usize, net.faults(self.host).busy_connects);
        if net.decisions.chance(Matter::BusyConnect, of, busy).is_some() {
            net.log_error(self.host, "connect", Key::NONE, "WouldBlock");
            net.hold_up_rest();
            return Ok(Connecting::Busy);
        }
        let result = match config.to {
            SocketAddress::Inet(address) => {
                let bound =
                    config.from.map_or(Ok(()), |from| net.check_from(self.host, from, *address));
                bound.and_then(|()| net.connect(self.host, config.from, *address))
            }
            SocketAddress::Unix(name) => net.connect_unix(self.host, name),
            SocketAddress::Unnamed => Err(no_name()),
        };
        drop(net);
        match result {
            Ok(key) => {
                let socket = SimSocket::new(&self.network, self.host, key);
                Ok(match config.to {
                    SocketAddress::Inet(_) => Connecting::UnderWay(socket),
                    _ => Connecting::Done(socket),
                })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.network.net.borrow_mut().hold_up_rest();
                Ok(Connecting::Busy)
            }
            Err(error) => Err(error),
        }
    }

    fn connect_result(&self, socket: &SimSocket) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::ConnectResult)?;
        net.connect_result(socket.key)
    }

    fn take_error(&self, socket: &SimSocket) -> io::Result<Option<io::Error>> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::TakeError)?;
        Ok(net.take_error(socket.key).map(os_error))
    }

    fn adopt(&self, socket: &SimSocket) -> io::Result<StreamKind> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Adopt)?;
        let kind = net.adopt(self.host, socket.key)?;
        drop(net);
        socket.pass_on(self.host);
        Ok(kind)
    }

    fn register_listener(&self, socket: &SimSocket, key: Key) -> io::Result<()> {
        self.register_stream(socket, key, StreamKind::Tcp)
    }

    fn set_listening(&self, socket: &SimSocket, _: Key, on: bool) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::SetListening)?;
        net.set_listening(socket.key, on);
        Ok(())
    }

    fn register_stream(&self, socket: &SimSocket, key: Key, kind: StreamKind) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Register)?;
        let is_listener =
            net.sockets.get(socket.key).is_some_and(|sock| matches!(sock.kind, Kind::Listener(_)));
        let faults = net.faults(self.host);
        let fails = if is_listener { 0.0 } else { faults.failed_registrations };
        let of = socket.key.index();
        if net.decisions.chance(Matter::FailedRegistration, of, fails).is_some() {
            net.log_error(self.host, "register", socket.key, "StorageFull");
            return Err(os_error(io::ErrorKind::StorageFull));
        }
        net.register(socket.key, key, kind);
        Ok(())
    }

    fn rename_stream(&self, socket: &SimSocket, key: Key) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Rename)?;
        net.register(socket.key, key, StreamKind::Tcp);
        Ok(())
    }

    fn ask_writable(&self, socket: &SimSocket, _: Key, yes: bool) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::AskWritable)?;
        net.ask_writable(socket.key, yes);
        Ok(())
    }

    fn watch_signals(&mut self, signals: &[Signal]) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::WatchSignals)?;
        signals.iter().for_each(|signal| net.host(self.host).watched.insert(*signal));
        Ok(())
    }

    fn take_signals(&mut self, take: &mut dyn FnMut(Signal)) {
        let mut net = self.network.net.borrow_mut();
        std::mem::take(&mut net.host(self.host).signals).iter().for_each(take);
    }

    fn read(&self, socket: &SimSocket, buffer: &mut [u8]) -> io::Result<usize> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Read)?;
        net.read(socket.key, buffer)
    }

    fn readable_bytes(&self, socket: &SimSocket) -> io::Result<usize> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Readable)?;
        Ok(net.stream(socket.key).map_or(0, |stream| stream.readable_bytes()))
    }

    fn write(&self, socket: &SimSocket, data: &[u8]) -> io::Result<usize> {
        self.write_vectored(socket, &[IoSlice::new(data)])
    }

    fn write_vectored(&self, socket: &SimSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Write)?;
        net.write(socket.key, slices)
    }

    fn shutdown_write(&self, socket: &SimSocket) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Shutdown)?;
        net.shutdown_write(socket.key)
    }

    fn abort(&self, socket: SimSocket) {
        socket.reset();
    }

    fn bind(&self, config: &DatagramConfig<'_>) -> io::Result<(SimSocket, Option<SimPath>)> {
        if !self.has_descriptor() {
            return Err(SimDriver::no_descriptor());
        }
        let DatagramConfig { address, options } = *config;
        options.no_buffers("in the simulation")?;
        options.no_gathering("in the simulation")?;
        let (net, host) = (&self.network.net, self.host);
        let (key, guard) = match address {
            SocketAddress::Inet(address) => {
                let peer = options.connect.as_ref().map(inet).transpose()?;
                (net.borrow_mut().bind_datagram(host, *address, peer, options)?, None)
            }
            SocketAddress::Unix(name) => {
                let bound = net.borrow_mut().bind_unix_datagram(host, Some(name), options);
                let (key, inode) = bound?;
                (key, inode.map(|inode| SimPath::new(&self.network, host, name, inode)))
            }
            SocketAddress::Unnamed => {
                (net.borrow_mut().bind_unix_datagram(host, None, options)?.0, None)
            }
        };
        Ok((SimSocket::new(&self.network, host, key), guard))
    }

    fn register_datagram(&self, socket: &SimSocket, key: Key) -> io::Result<()> {
        self.register_stream(socket, key, StreamKind::Unix)
    }

    fn receive(&self, socket: &SimSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddress)> {
        self.receive_addressed(socket, buffer).map(|(length, from, _)| (length, from))
    }

    fn receive_addressed(
        &self,
        socket: &SimSocket,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddress, Option<IpAddr>)> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Receive)?;
        let (length, from, to) = net.receive_datagram(socket.key, buffer)?;
        Ok((length, net.unix.shown(from), to))
    }

    fn send_datagram(
        &self,
        socket: &SimSocket,
        data: &[u8],
        to: Option<&SocketAddress>,
    ) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::SendDatagram)?;
        match net.is_unix_datagram(socket.key) {
            true => net.send_unix_datagram(socket.key, data, to),
            false => net.send_datagram(socket.key, data, None, to.map(inet).transpose()?),
        }
    }

    fn send_from(
        &self,
        socket: &SimSocket,
        data: &[u8],
        from: IpAddr,
        to: &SocketAddress,
    ) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::SendDatagram)?;
        net.send_datagram(socket.key, data, Some(from), Some(inet(to)?))
    }

    fn is_writable(&self, socket: &SimSocket) -> bool {
        self.network.net.borrow().is_writable(socket.key)
    }

    fn set_membership(
        &self,
        socket: &SimSocket,
        group: IpAddr,
        interface: &Interface,
        is_member: bool,
    ) -> io::Result<()> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::Membership)?;
        net.set_membership(socket.key, group, interface, is_member)
    }

    fn local_address(&self, socket: &SimSocket) -> io::Result<SocketAddress> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::LocalAddress)?;
        let local = match net.sockets.get_mut(socket.key).map(|sock| &sock.kind) {
            Some(Kind::Listener(listener)) => listener.address,
            Some(Kind::Stream(stream)) => stream.local,
            Some(Kind::Datagram(datagram)) => datagram.local,
            _ => return Err(os_error(io::ErrorKind::NotConnected)),
        };
        Ok(net.unix.shown(local))
    }

    fn peer_address(&self, socket: &SimSocket) -> io::Result<SocketAddress> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::PeerAddress)?;
        let peer = net.peer_address(socket.key)?;
        Ok(net.unix.shown(peer))
    }

    fn peer_credentials(&self, socket: &SimSocket) -> io::Result<Credentials> {
        let mut net = self.network.net.borrow_mut();
        net.call(self.host, Call::PeerCredentials)?;
        net.credentials(socket.key)
    }

    fn reserve(&self) -> io::Result<SimReserve> {
        if !self.has_descriptor() {
            return Err(SimDriver::no_descriptor());
        }
        self.network.net.borrow_mut().host(self.host).descriptors += 1;
        Ok(SimReserve { network: self.network.clone(), host: self.host })
    }

    fn waker(&mut self) -> io::Result<Arc<dyn Wake>> {
        Ok(self.network.net.borrow_mut().host(self.host).mail.waker())
    }

    fn start_workers(&mut self, work: &Arc<dyn Work>, threads: usize) -> io::Result<()> {
        self.network.net.borrow_mut().host(self.host).mail.add_workers(work, threads);
        Ok(())
    }
}

/// A descriptor that stands for nothing.
#[derive(Debug)]
pub struct SimReserve {
    network: Network,
    host: u32,
}

impl Drop for SimReserve {
    fn drop(&mut self) {
        if let Ok(mut net) = self.network.net.try_borrow_mut() {
            net.host(self.host).descriptors -= 1;
        }
    }
}
