//! The driver on Windows: TCP and UDP, by the completion ports that mio polls with.
//!
//! mio asks there for the next event when one of its own sockets answers `WouldBlock` to it. So sockets are of its types
//! and read and write by them, unlike on Unix, where mio only polls. What is missing: Unix sockets, signals,
//! descriptors from elsewhere, and all options but no-delay; asking for one is an error.

mod datagrams;
mod socket;

use std::convert::Infallible;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Poll, Waker};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Type};

use super::common::{self, token};
use super::{
    AcceptError, ConnectConfig, Connecting, DatagramConfig, Driver, Event, ListenConfig,
    StreamKind, Wake, Work,
};
use crate::address::SocketAddress;
use crate::clock::{Clock, Time};
use crate::credentials::Credentials;
use crate::datagram::Interface;
use crate::key::Key;
use crate::readiness::Readiness;

use self::socket::{Kind, Socket, inet, lacks, make};

/// The driver of real sockets.
#[derive(Debug)]
pub struct Mio {
    pub(super) poll: Poll,
    events: Events,
    clock: Clock,
}

impl Mio {
    /// Opens a completion port.
    ///
    /// # Errors
    ///
    /// Those of CreateIoCompletionPort.
    pub fn new() -> io::Result<Mio> {
        Ok(Mio { poll: Poll::new()?, events: Events::with_capacity(1), clock: Clock::start() })
    }

    fn register(&self, socket: &Socket, key: Key, interest: mio::Interest) -> io::Result<()> {
        self.poll.registry().register(socket.0.borrow_mut().source(), token(key), interest)
    }
}

/// By what is to be done about it.
pub(crate) fn sort_accept_error(error: Errno) -> AcceptError {
    match error {
        Errno::WOULDBLOCK => AcceptError::WouldBlock,
        Errno::MFILE => AcceptError::Descriptors(error.into()),
        Errno::CONNABORTED | Errno::CONNRESET => AcceptError::Connection(error.into()),
        _ => AcceptError::Other(error.into()),
    }
}

impl Driver for Mio {
    type Socket = Socket;
    type Reserve = socket2::Socket;
    type Guard = Infallible; // no paths

    fn short_read_drains(&self) -> bool {
        false // only a call that would block has mio ask for the next event
    }

    fn listeners_are_level(&self) -> bool {
        false
    }

    fn set_events_max(&mut self, events_max: usize) {
        self.events = Events::with_capacity(events_max);
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.poll.poll(&mut self.events, timeout)
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        self.events.iter().map(|event| {
            let hint = |hint: Readiness, is_set: bool| Readiness(hint.0 * u8::from(is_set));
            let readiness = hint(Readiness::READABLE, event.is_readable())
                | hint(Readiness::WRITABLE, event.is_writable())
                | hint(Readiness::READ_CLOSED, event.is_read_closed())
                | hint(Readiness::ERROR, event.is_error());
            Event { key: Key::from_bits(event.token().0 as u64), readiness }
        })
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn wall_clock(&self) -> SystemTime {
        self.clock.wall()
    }

    fn random_seed(&self) -> u64 {
        common::random_seed(&self.clock)
    }

    /// Without `SO_REUSEADDR`: it would let others take the port from under this listener, and is not needed to
    /// bind a port whose last connections are still known.
    fn listen(&self, config: &ListenConfig) -> io::Result<(Socket, Option<Infallible>)> {
        let address = inet(&config.address)?;
        let ListenConfig { options, .. } = config;
        options.only(&["nodelay"], "on this platform")?;
        if config.reuse_port {
            return Err(lacks("reuse_port"));
        }
        let socket = make(address, Type::STREAM)?;
        socket.set_tcp_nodelay(options.nodelay.unwrap_or(true))?;
        if address.is_ipv6() {
            socket.set_only_v6(config.only_v6)?;
        }
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
        Ok((Kind::Listener(TcpListener::from_std(socket.into())).into(), None))
    }

    fn accept(&self, listener: &Socket) -> Result<(Socket, SocketAddress), AcceptError> {
        let listener = listener.listener();
        let (stream, peer) = listener.accept().map_err(|error| match error.raw_os_error() {
            Some(number) => sort_accept_error(Errno::from_raw_os_error(number)),
            None => AcceptError::Other(error),
        })?;
        // Nowhere does Windows promise to hand it down.
        let nodelay = SockRef::from(&*listener).tcp_nodelay();
        nodelay.and_then(|yes| stream.set_nodelay(yes)).map_err(AcceptError::Connection)?;
        Ok((Kind::Stream(stream).into(), peer.into()))
    }

    fn connect(&self, config: &ConnectConfig<'_>) -> io::Result<Connecting<Socket>> {
        let to = inet(config.to)?;
        config.options.only(&["nodelay"], "on this platform")?;
        let socket = make(to, Type::STREAM)?;
        socket.set_tcp_nodelay(config.options.nodelay.unwrap_or(true))?;
        if let Some(from) = config.from {
            // Its port may be one from which another connection goes somewhere else.
            if from.port() != 0 {
                socket.set_reuse_address(true)?;
            }
            socket.bind(&from.into())?;
        }
        let result = socket.connect(&to.into());
        let socket = Kind::Stream(TcpStream::from_std(socket.into())).into();
        match result {
            Ok(()) => Ok(Connecting::Done(socket)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Connecting::UnderWay(socket)),
            Err(error) => Err(error),
        }
    }

    fn connect_result(&self, socket: &Socket) -> io::Result<()> {
        let stream = socket.stream();
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotConnected => {
                Err(ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error),
        }
    }

    fn take_error(&self, socket: &Socket) -> io::Result<Option<io::Error>> {
        match &*socket.0.borrow() {
            Kind::Listener(socket) => socket.take_error(),
            Kind::Stream(socket) => socket.take_error(),
            Kind::Datagram(socket) => socket.take_error(),
        }
    }

    fn register_listener(&self, socket: &Socket, key: Key) -> io::Result<()> {
        self.register(socket, key, mio::Interest::READABLE)
    }

    fn set_listening(&self, _: &Socket, _: Key, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn register_stream(&self, socket: &Socket, key: Key, _: StreamKind) -> io::Result<()> {
        self.register(socket, key, mio::Interest::READABLE | mio::Interest::WRITABLE)
    }

    fn rename_stream(&self, socket: &Socket, key: Key) -> io::Result<()> {
        self.ask_writable(socket, key, true)
    }

    fn ask_writable(&self, socket: &Socket, key: Key, yes: bool) -> io::Result<()> {
        let readable = mio::Interest::READABLE;
        let interest = if yes { readable | mio::Interest::WRITABLE } else { readable };
        self.poll.registry().reregister(socket.0.borrow_mut().source(), token(key), interest)
    }

    fn read(&self, socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
        debug_assert!(!buffer.is_empty(), "an empty read looks like an end of file");
        (&*socket.stream()).read(buffer)
    }

    fn readable_bytes(&self, socket: &Socket) -> io::Result<usize> {
        let bytes = match &*socket.0.borrow() {
            Kind::Listener(_) => 0,
            Kind::Stream(socket) => rustix::io::ioctl_fionread(socket)?,
            Kind::Datagram(socket) => rustix::io::ioctl_fionread(socket)?,
        };
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn write(&self, socket: &Socket, data: &[u8]) -> io::Result<usize> {
        (&*socket.stream()).write(data)
    }

    fn write_vectored(&self, socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*socket.stream()).write_vectored(slices)
    }

    fn shutdown_write(&self, socket: &Socket) -> io::Result<()> {
        socket.stream().shutdown(Shutdown::Write)
    }

    fn abort(&self, socket: Socket) {
        // Lingering for no time is how a reset is asked for.
        let result = SockRef::from(&*socket.stream()).set_linger(Some(Duration::ZERO));
        if let Err(error) = result {
            log::debug!("a connection is closed without a reset: {error}");
        }
    }

    fn bind(&self, config: &DatagramConfig<'_>) -> io::Result<(Socket, Option<Infallible>)> {
        Ok((datagrams::bind(config)?, None))
    }

    fn register_datagram(&self, socket: &Socket, key: Key) -> io::Result<()> {
        self.register(socket, key, mio::Interest::READABLE)
    }

    fn receive(&self, socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddress)> {
        datagrams::receive(socket, buffer)
    }

    fn send_datagram(
        &self,
        socket: &Socket,
        data: &[u8],
        to: Option<&SocketAddress>,
    ) -> io::Result<()> {
        datagrams::send(socket, data, to)
    }

    fn set_membership(
        &self,
        socket: &Socket,
        group: IpAddr,
        interface: &Interface,
        is_member: bool,
    ) -> io::Result<()> {
        datagrams::set_membership(socket, group, interface, is_member)
    }

    fn local_address(&self, socket: &Socket) -> io::Result<SocketAddress> {
        let address = match &*socket.0.borrow() {
            Kind::Listener(socket) => socket.local_addr(),
            Kind::Stream(socket) => socket.local_addr(),
            Kind::Datagram(socket) => socket.local_addr(),
        };
        Ok(address?.into())
    }

    fn peer_address(&self, socket: &Socket) -> io::Result<SocketAddress> {
        let address = match &*socket.0.borrow() {
            Kind::Listener(_) => Err(ErrorKind::NotConnected.into()),
            Kind::Stream(socket) => socket.peer_addr(),
            Kind::Datagram(socket) => socket.peer_addr(),
        };
        Ok(address?.into())
    }

    fn peer_credentials(&self, _: &Socket) -> io::Result<Credentials> {
        Err(lacks("who is at the other end"))
    }

    fn reserve(&self) -> io::Result<socket2::Socket> {
        socket2::Socket::new(Domain::IPV4, Type::DGRAM, None)
    }

    fn waker(&mut self) -> io::Result<Arc<dyn Wake>> {
        Ok(Arc::new(Waker::new(self.poll.registry(), token(Key::WAKER))?))
    }

    fn start_workers(&mut self, work: &Arc<dyn Work>, threads: usize) -> io::Result<()> {
        common::start_workers(work, threads)
    }
}
