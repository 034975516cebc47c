//! The production driver: epoll or kqueue through mio, sockets through rustix.
//!
//! mio polls; the socket calls themselves go straight to the system, which saves instructions a
//! message and gives what mio does not offer: a backlog, options, writes without `SIGPIPE`. What the platforms do
//! each in its own way is in `platform`, a file for each of them.

#[cfg(all(feature = "udp-batch", target_os = "linux"))]
mod batches;
mod datagrams;
#[cfg(target_os = "linux")]
mod destination;
mod inherited;
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
mod kqueue;
mod options;
pub(super) mod pipe;
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(target_os = "macos", path = "macos.rs")]
#[cfg_attr(target_os = "freebsd", path = "freebsd.rs")]
mod platform;
mod poll;
#[cfg(target_os = "linux")]
mod send_file;
pub(super) mod sockets;
mod unix;

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::IpAddr;
#[cfg(target_os = "linux")]
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Poll, Waker};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, Shutdown, SocketType, sockopt};

#[cfg(feature = "systemd")]
pub(crate) use self::platform::listens;
use self::poll::interest_of;
#[cfg(feature = "sim")]
pub(crate) use self::sockets::sort_accept_error;
use super::common::{self, token};
#[cfg(feature = "signals")]
use super::signals::Caught;
use super::{
    AcceptError, ConnectConfig, Connecting, DatagramConfig, Driver, Event, ListenConfig,
    StreamKind, Wake, Work,
};
#[cfg(all(feature = "udp-batch", target_os = "linux"))]
use super::{Batch, send_each};
use crate::address::SocketAddress;
use crate::clock::{Clock, Time};
use crate::credentials::Credentials;
use crate::datagram::Interface;
use crate::descriptors::descriptors_max;
use crate::key::Key;
use crate::readiness::Readiness;
use crate::signal::Signal;

/// The driver of real sockets.
#[derive(Debug)]
pub struct Mio {
    pub(super) poll: Poll,
    events: Events,
    clock: Clock,
    #[cfg(feature = "signals")]
    signals: Option<Caught>,
}

impl Mio {
    /// Opens an epoll instance (elsewhere than on Linux a kqueue), close-on-exec like every descriptor
    /// of this driver. A process must not fork without exec while it uses one: parent and child would share it.
    ///
    /// # Errors
    ///
    /// Those of epoll_create1(2), kqueue(2).
    pub fn new() -> io::Result<Mio> {
        Ok(Mio {
            poll: Poll::new()?,
            events: Events::with_capacity(1),
            clock: Clock::start(),
            #[cfg(feature = "signals")]
            signals: None,
        })
    }
}

/// Makes the call again while a signal interrupts it.
#[inline]
fn retrying<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Driver for Mio {
    type Socket = OwnedFd;
    type Reserve = OwnedFd;
    type Guard = unix::BoundPath;

    #[inline(always)]
    fn short_read_drains(&self) -> bool {
        platform::SHORT_READ_DRAINS
    }

    /// Of writing, too, epoll(7) says so; elsewhere mio promises no more than an edge after `WouldBlock`.
    #[inline(always)]
    fn short_write_fills(&self) -> bool {
        cfg!(target_os = "linux")
    }

    #[inline(always)]
    fn listeners_are_level(&self) -> bool {
        platform::LISTENERS_ARE_LEVEL
    }

    fn set_events_max(&mut self, events_max: usize) {
        self.events = Events::with_capacity(events_max);
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.wait(timeout)
    }

    #[cfg(target_os = "linux")]
    fn poll_until(&mut self, now: Time, until: Time) -> io::Result<()> {
        self.wait_until(now, until)
    }

    #[inline]
    fn events(&self) -> impl Iterator<Item = Event> {
        self.events.iter().map(|event| {
            let hint = |hint: Readiness, is_set: bool| Readiness(hint.0 * u8::from(is_set));
            let readiness = hint(Readiness::READABLE, event.is_readable())
                | hint(Readiness::WRITABLE, event.is_writable())
                | hint(Readiness::READ_CLOSED, event.is_read_closed())
                | hint(Readiness::PRIORITY, event.is_priority())
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

    fn has_ipv6(&self) -> bool {
        sockets::has_ipv6()
    }

    fn listen(&self, config: &ListenConfig) -> io::Result<(OwnedFd, Option<unix::BoundPath>)> {
        sockets::listen(config)
    }

    fn accept(&self, listener: &OwnedFd) -> Result<(OwnedFd, SocketAddress), AcceptError> {
        sockets::accept(listener)
    }

    fn connect(&self, config: &ConnectConfig<'_>) -> io::Result<Connecting<OwnedFd>> {
        sockets::connect(config)
    }

    fn connect_result(&self, socket: &OwnedFd) -> io::Result<()> {
        sockets::connect_result(socket)
    }

    fn take_error(&self, socket: &OwnedFd) -> io::Result<Option<io::Error>> {
        match sockopt::socket_error(socket) {
            Ok(result) => Ok(result.err().map(io::Error::from)),
            Err(Errno::NOTSOCK) => pipe::take_error(socket),
            Err(error) => Err(error.into()),
        }
    }

    fn adopt(&self, socket: &OwnedFd) -> io::Result<StreamKind> {
        inherited::adopt_stream(socket)
    }

    fn deregister(&self, socket: &OwnedFd) -> io::Result<()> {
        self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()))
    }

    fn register_listener(&self, socket: &OwnedFd, key: Key) -> io::Result<()> {
        platform::register_listener(self.poll.registry(), socket, key)
    }

    fn set_listening(&self, socket: &OwnedFd, key: Key, on: bool) -> io::Result<()> {
        platform::set_listening(self.poll.registry(), socket, key, on)
    }

    fn register_stream(&self, socket: &OwnedFd, key: Key, kind: StreamKind) -> io::Result<()> {
        let interest = interest_of(kind);
        self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token(key), interest)
    }

    fn rename_stream(&self, socket: &OwnedFd, key: Key) -> io::Result<()> {
        let interest = interest_of(StreamKind::Tcp);
        self.poll.registry().reregister(&mut SourceFd(&socket.as_raw_fd()), token(key), interest)
    }

    fn ask_writable(&self, socket: &OwnedFd, key: Key, yes: bool) -> io::Result<()> {
        let interest =
            if yes { platform::STREAM | mio::Interest::WRITABLE } else { platform::STREAM };
        self.poll.registry().reregister(&mut SourceFd(&socket.as_raw_fd()), token(key), interest)
    }

    #[inline(always)]
    fn read(&self, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        debug_assert!(!buffer.is_empty(), "an empty read looks like an end of file");
        retrying(|| {
            rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count)
        })
    }

    fn read_any(&self, stream: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(stream, buffer).or_else(|error| pipe::read(error, stream, buffer))
    }

    fn readable_bytes(&self, socket: &OwnedFd) -> io::Result<usize> {
        Ok(usize::try_from(rustix::io::ioctl_fionread(socket)?).unwrap_or(usize::MAX))
    }

    #[inline(always)]
    fn write(&self, socket: &OwnedFd, data: &[u8]) -> io::Result<usize> {
        retrying(|| rustix::net::send(socket, data, platform::NOSIGNAL))
    }

    fn write_any(&self, stream: &OwnedFd, data: &[u8]) -> io::Result<usize> {
        self.write(stream, data).or_else(|error| pipe::write(error, stream, data))
    }

    fn write_vectored(&self, socket: &OwnedFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = retrying(|| {
            let mut control = SendAncillaryBuffer::default();
            rustix::net::sendmsg(socket, slices, &mut control, platform::NOSIGNAL)
        });
        result.or_else(|error| pipe::write_vectored(error, socket, slices))
    }

    #[cfg(target_os = "linux")]
    fn write_file(
        &self,
        stream: &OwnedFd,
        slices: &[IoSlice<'_>],
        file: &File,
        range: &Range<u64>,
    ) -> io::Result<usize> {
        send_file::write_file(self, stream, slices, file, range)
    }

    fn shutdown_write(&self, socket: &OwnedFd) -> io::Result<()> {
        Ok(rustix::net::shutdown(socket, Shutdown::Write)?)
    }

    fn abort(&self, socket: OwnedFd) {
        // Lingering for no time is how a reset is asked for (socket(7), SO_LINGER).
        if let Err(error) = sockopt::set_socket_linger(&socket, Some(Duration::ZERO)) {
            log::debug!("a connection is closed without a reset: {error}");
        }
    }

    fn bind(&self, config: &DatagramConfig<'_>) -> io::Result<(OwnedFd, Option<unix::BoundPath>)> {
        datagrams::bind(config)
    }

    fn register_datagram(&self, socket: &OwnedFd, key: Key) -> io::Result<()> {
        let interest = mio::Interest::READABLE;
        self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token(key), interest)
    }

    fn receive(&self, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddress)> {
        datagrams::receive(socket, buffer)
    }

    fn send_datagram(
        &self,
        socket: &OwnedFd,
        data: &[u8],
        to: Option<&SocketAddress>,
    ) -> io::Result<()> {
        datagrams::send(socket, data, to)
    }

    #[cfg(target_os = "linux")]
    fn receive_addressed(
        &self,
        socket: &OwnedFd,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddress, Option<IpAddr>)> {
        destination::receive(socket, buffer).map(|(length, from, to, _)| (length, from, to))
    }

    #[cfg(target_os = "linux")]
    fn receive_gathered(
        &self,
        socket: &OwnedFd,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddress, Option<IpAddr>, usize)> {
        destination::receive(socket, buffer)
    }

    #[cfg(target_os = "linux")]
    fn send_from(
        &self,
        socket: &OwnedFd,
        data: &[u8],
        from: IpAddr,
        to: &SocketAddress,
    ) -> io::Result<()> {
        destination::send(socket, data, from, to)
    }

    #[cfg(all(feature = "udp-batch", target_os = "linux"))]
    fn send_batch(&self, socket: &OwnedFd, batch: Batch<'_>) -> io::Result<usize> {
        match batches::send(socket, batch) {
            Some(result) => result.map(|()| batch.len()),
            None => send_each(self, socket, batch),
        }
    }

    fn is_writable(&self, socket: &OwnedFd) -> bool {
        datagrams::is_writable(socket)
    }

    fn set_membership(
        &self,
        socket: &OwnedFd,
        group: IpAddr,
        interface: &Interface,
        is_member: bool,
    ) -> io::Result<()> {
        datagrams::set_membership(socket, group, interface, is_member)
    }

    fn local_address(&self, socket: &OwnedFd) -> io::Result<SocketAddress> {
        sockets::local_address(socket)
    }

    fn peer_address(&self, socket: &OwnedFd) -> io::Result<SocketAddress> {
        sockets::peer_address(socket)
    }

    fn peer_credentials(&self, socket: &OwnedFd) -> io::Result<Credentials> {
        platform::peer_credentials(socket)
    }

    #[cfg(feature = "signals")]
    fn watch_signals(&mut self, signals: &[Signal]) -> io::Result<()> {
        if self.signals.is_none() {
            let caught = Caught::new()?;
            let (registry, descriptor) = (self.poll.registry(), caught.as_raw_fd());
            let interest = mio::Interest::READABLE;
            registry.register(&mut SourceFd(&descriptor), token(Key::SIGNALS), interest)?;
            self.signals = Some(caught);
        }
        if let Some(caught) = &mut self.signals {
            signals.iter().try_for_each(|signal| caught.watch(*signal))?;
        }
        Ok(())
    }

    #[cfg(not(feature = "signals"))]
    fn watch_signals(&mut self, _: &[Signal]) -> io::Result<()> {
        let message = "oneloop was built without its feature \"signals\"";
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    #[cfg(feature = "signals")]
    fn take_signals(&mut self, take: &mut dyn FnMut(Signal)) {
        if let Some(signals) = &mut self.signals {
            signals.take(take);
        }
    }

    fn descriptors_max(&self) -> usize {
        descriptors_max()
    }

    fn reserve(&self) -> io::Result<OwnedFd> {
        // Any descriptor will do; this kind needs no path, and no right.
        Ok(platform::socket(AddressFamily::UNIX, SocketType::DGRAM)?)
    }

    fn waker(&mut self) -> io::Result<Arc<dyn Wake>> {
        Ok(Arc::new(Waker::new(self.poll.registry(), token(Key::WAKER))?))
    }

    fn start_workers(&mut self, work: &Arc<dyn Work>, threads: usize) -> io::Result<()> {
        common::start_workers(work, threads)
    }
}
