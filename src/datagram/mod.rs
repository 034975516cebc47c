//! Datagrams: UDP and Unix datagram sockets, beside the connections in the same table.

pub(crate) mod any;
mod options;
mod outbox;
mod run;

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use log::info;

use crate::address::{SocketAddress, UnixName};
use crate::context::Context;
use crate::core::{Core, Host, Source};
use crate::driver::{DatagramConfig, Driver};
use crate::error::CloseReason;
use crate::handler::DatagramHandler;
use crate::key::Key;
use crate::limits::DatagramLimits;
use crate::reactor::{HandlerId, Reactor};
use crate::readiness::Readiness;
use crate::timer::{Purpose, TimerId};
use crate::watchdog::Lent;
use any::{AnyDatagram, Calls};
use outbox::Outbox;

pub use self::options::{DatagramOptions, Interface};

/// A datagram that was received: all of it, or what fitted.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its bytes; it may have none, and is a datagram all the same.
    pub data: &'a [u8],
    /// Who sent it: where an answer goes, unless that is [`SocketAddress::Unnamed`].
    pub from: &'a SocketAddress,
    /// How many bytes were sent. It is more than `data` has if the datagram was larger than
    /// [`read_buffer_bytes`](crate::ReactorLimits::read_buffer_bytes); the rest is lost. Only Linux tells how many were
    /// sent then; elsewhere it is one more than `data` has, and on Windows nobody has sent it.
    pub length: usize,
}

impl Datagram<'_> {
    /// Whether bytes at its end are missing.
    pub fn is_truncated(&self) -> bool {
        self.length > self.data.len()
    }
}

/// What became of a datagram that was given to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a datagram that is not queued is lost, and nothing else tells of it"]
pub enum Queued {
    /// It leaves at the end of the socket's run, or when the kernel has room.
    Ok,
    /// Dropped, because too many wait already: see
    /// [`queue_len_max`](DatagramLimits::queue_len_max). [`on_room`](DatagramHandler::on_room) tells when
    /// half of them have gone.
    Full,
    /// Dropped, because there is nobody to send it to ([`SocketAddress::Unnamed`]), or the socket is closed.
    Gone,
}

impl Queued {
    /// For who answers one datagram with one, which the other side has to be able to lose anyhow.
    pub fn ignore(self) {}
}

/// The driver-free half of a datagram socket.
#[derive(Debug)]
pub(crate) struct DatagramState {
    handler: u16,
    /// The handler as its callbacks' contexts have it: none if it serves no connections.
    context: u16,
    calls: &'static dyn AnyDatagram,
    limits: DatagramLimits,
    /// Whom it is connected to.
    peer: Option<SocketAddress>,
    /// An unconnected Unix socket: that its receiver has room again, no event tells.
    is_told_of_room: bool,
    outbox: Outbox,
    /// What events told since the last run.
    pub(crate) readiness: Readiness,
    /// There may be datagrams to receive.
    is_readable: bool,
    /// The kernel took no more; an event or a timer tells when to go on.
    is_waiting: bool,
    asks_writable: bool,
    /// The timer by which it goes on, if it waits for that.
    retry: Option<TimerId>,
    pub(crate) queued: bool,
    flushing: bool,
    owes_bound: bool,
    owes_room: bool,
    /// Somebody was told that the queue is full.
    is_full: bool,
    /// A drain has begun: so many datagrams may have been there.
    drain_left: Option<usize>,
    has_timers: bool,
    /// Errors of receiving, one after the other.
    errors: u32,
    /// How many datagrams, and bytes, the run may still send.
    len_left: usize,
    bytes_left: usize,
    /// Set when it is over.
    pub(crate) reason: Option<CloseReason>,
}

impl DatagramState {
    /// What holds of it between turns.
    pub(crate) fn verify(&self, key: Key) {
        let is_over = self.reason.is_some();
        assert!(
            is_over
                || self.queued
                || self.flushing
                || (self.outbox.is_empty() || self.is_waiting)
                    && !self.is_readable
                    && !self.owes_bound
                    && !self.owes_room,
            "{key}: work that nobody will do: {self:?}"
        );
        assert!(
            is_over || !self.is_waiting || self.asks_writable != self.retry.is_some(),
            "{key}: waits for nothing: {self:?}"
        );
        assert!(is_over || !self.is_waiting || !self.outbox.is_empty(), "{key}: nothing waits");
        assert!(!self.outbox.is_empty() || !self.asks_writable, "{key}: woken for nothing");
        self.outbox.verify();
    }

    /// Whether it is on the flush list.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// Bytes of datagrams that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Whether datagrams wait for the kernel.
    #[cfg(feature = "sim")]
    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }
}

impl Core {
    pub(crate) fn datagram_mut(&mut self, key: Key) -> Option<&mut DatagramState> {
        match self.sources.get_mut(key) {
            Some(Source::Datagram(state)) => Some(state),
            _ => None,
        }
    }

    /// Queues a datagram of a socket, to whom it is connected if `to` says nothing.
    pub(crate) fn send_datagram(
        &mut self,
        key: Key,
        to: Option<&SocketAddress>,
        data: &[u8],
    ) -> Queued {
        let is_running = key == self.running;
        let Some(Source::Datagram(state)) = self.sources.get_mut(key) else { return Queued::Gone };
        if state.reason.is_some() || to == Some(&SocketAddress::Unnamed) {
            return Queued::Gone;
        }
        let limits = &state.limits;
        if !state.outbox.has_room(data.len(), limits.queue_len_max, limits.queue_bytes_max) {
            state.is_full = true;
            self.stats.datagrams_dropped += 1;
            return Queued::Full;
        }
        state.outbox.push(to, data);
        self.stats.datagram_bytes_waiting += data.len();
        // The end of its run sends, or the event that it waits for.
        if !is_running && !state.is_waiting && !std::mem::replace(&mut state.flushing, true) {
            self.flush.push(key);
        }
        Queued::Ok
    }
}

/// The socket that a callback is about.
///
/// It is a [`Context`] that also knows which socket is meant, so all of the context's methods can be called
/// on it. One has the same name: for [`Context::send_to`], which sends to a connection, write
/// `Context::send_to(socket, key, data)`.
pub struct DatagramSocket<'a> {
    context: Context<'a>,
    key: Key,
}

impl<'a> Deref for DatagramSocket<'a> {
    type Target = Context<'a>;

    fn deref(&self) -> &Context<'a> {
        &self.context
    }
}

impl<'a> DerefMut for DatagramSocket<'a> {
    fn deref_mut(&mut self) -> &mut Context<'a> {
        &mut self.context
    }
}

impl Lent for DatagramSocket<'_> {
    fn parts(&mut self) -> (&mut Core, &dyn Host) {
        self.context.parts()
    }
}

impl DatagramSocket<'_> {
    /// Its name, for [`Context::send_datagram`], from any callback of any handler.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The address that it is bound to, with the port that the kernel chose if it was to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Cost
    ///
    /// A system call.
    pub fn local_address(&self) -> io::Result<SocketAddress> {
        self.context.host.local_address(self.key)
    }

    /// Sends one datagram to `to`, which may be empty. It leaves at the end of this run; what the kernel does
    /// not take is queued. What goes wrong on the way to the network,
    /// [`on_send_failed`](DatagramHandler::on_send_failed) tells; what happens to it there, nobody does.
    ///
    /// # Cost
    ///
    /// A copy; sendto(2), when it leaves.
    pub fn send_to(&mut self, to: &SocketAddress, data: &[u8]) -> Queued {
        self.context.core.send_datagram(self.key, Some(to), data)
    }

    /// Sends one datagram to whom the socket is [connected](DatagramOptions::connect); otherwise as
    /// [`send_to`](Self::send_to). Of a socket that is not connected it fails (`EDESTADDRREQ`), of which
    /// `on_send_failed` tells.
    pub fn send(&mut self, data: &[u8]) -> Queued {
        self.context.core.send_datagram(self.key, None, data)
    }

    /// Receives from now on what is sent to a multicast group, through this interface. What the socket
    /// is bound to still holds: to hear a group, bind to its address or to all.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2) with `IP_ADD_MEMBERSHIP` (ip(7)) or `IPV6_JOIN_GROUP` (ipv6(7)): no multicast
    /// address, no such interface, joined already, too many groups (20 in all by default).
    pub fn join(&mut self, group: IpAddr, interface: &Interface) -> io::Result<()> {
        self.context.host.set_membership(self.key, group, interface, true)
    }

    /// Takes [`join`](Self::join) back.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2) with `IP_DROP_MEMBERSHIP` or `IPV6_LEAVE_GROUP`: it was not joined.
    pub fn leave(&mut self, group: IpAddr, interface: &Interface) -> io::Result<()> {
        self.context.host.set_membership(self.key, group, interface, false)
    }

    /// Sets a timer that ends with the socket: calls [`on_timer`](DatagramHandler::on_timer) once, when
    /// `after` has passed since [`now`](Context::now), never earlier.
    ///
    /// # Cost
    ///
    /// O(1), however many timers there are.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.set(after, Duration::ZERO)
    }

    /// Sets an interval that ends with the socket: calls [`on_timer`](DatagramHandler::on_timer) whenever
    /// another `period` has passed, until it is cancelled. Beats that were missed are left out.
    ///
    /// # Panics
    ///
    /// If the period is zero.
    pub fn set_interval(&mut self, period: Duration) -> TimerId {
        assert_ne!(period, Duration::ZERO, "an interval takes some time");
        self.set(period, period)
    }

    fn set(&mut self, after: Duration, period: Duration) -> TimerId {
        let core = &mut *self.context.core;
        if let Some(state) = core.datagram_mut(self.key) {
            state.has_timers = true;
        }
        core.timers.set(core.now + after, period, Purpose::Datagram(self.key))
    }

    /// Closes the socket at the end of this turn. What was given to send is handed to the kernel then, as
    /// far as it has room; the rest is dropped and counted.
    pub fn close(&mut self) {
        self.context.core.close(self.key, CloseReason::Closed);
    }
}

impl<D: Driver> Reactor<D> {
    /// Binds a UDP socket to the first of the addresses that can be had, for `handler`, with the default
    /// options. The handler is one that was [added](Self::add_datagram_handler) for datagrams, or for
    /// connections if it implements both traits. Call it again for more addresses.
    ///
    /// # Errors
    ///
    /// Those of resolving, socket(2), bind(2), connect(2) and epoll_ctl(2): `AddrInUse`, `PermissionDenied`,
    /// `AddrNotAvailable`, ...
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor.
    ///
    /// # Cost
    ///
    /// A host name is looked up, which may block.
    pub fn bind<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: impl ToSocketAddrs,
    ) -> io::Result<Key> {
        self.bind_with(handler, address, &DatagramOptions::new())
    }

    /// Binds a UDP socket with options. To send only, or from any port, bind to port 0.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind), and those of setsockopt(2) for the options; `InvalidInput` for limits that
    /// make no sense.
    ///
    /// # Panics
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_with<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: impl ToSocketAddrs,
        options: &DatagramOptions,
    ) -> io::Result<Key> {
        let nothing = "the address stands for no socket address";
        let mut result = Err(io::Error::new(io::ErrorKind::InvalidInput, nothing));
        for address in address.to_socket_addrs()? {
            result = self.bind_to(handler, &address.into(), options);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Binds a Unix datagram socket. Without a name nobody can send to it, not even an answer; it is for who
    /// only sends. A path must not exist yet, and stays when the socket is closed (unix(7)): who binds to it
    /// again removes it first. An abstract name ends with its socket.
    ///
    /// # Errors
    ///
    /// As [`bind_with`](Self::bind_with).
    ///
    /// # Panics
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_unix<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        name: Option<&UnixName>,
        options: &DatagramOptions,
    ) -> io::Result<Key> {
        let address = name.cloned().map_or(SocketAddress::Unnamed, SocketAddress::Unix);
        self.bind_to(handler, &address, options)
    }

    fn bind_to<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: &SocketAddress,
        options: &DatagramOptions,
    ) -> io::Result<Key> {
        options.limits.check()?;
        options.check(address)?;
        let context = self.context_of(handler);
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
        let config = DatagramConfig { address, options };
        let socket = self.sockets.driver.bind(&config).map_err(told)?;
        let is_unix = !matches!(address, SocketAddress::Inet(_));
        let has_begun_draining = self.core.drain.as_ref().is_some_and(|drain| drain.has_begun);
        let state = DatagramState {
            handler: handler.index,
            context,
            calls: Calls::<H>::OBJECT,
            limits: options.limits.clone(),
            peer: options.connect.clone(),
            is_told_of_room: !is_unix || options.connect.is_some(),
            outbox: Outbox::default(),
            readiness: Readiness::EMPTY,
            is_readable: false,
            is_waiting: false,
            asks_writable: false,
            retry: None,
            queued: false,
            flushing: false,
            owes_bound: true,
            owes_room: false,
            is_full: false,
            drain_left: has_begun_draining.then_some(0),
            has_timers: false,
            errors: 0,
            len_left: 0,
            bytes_left: 0,
            reason: None,
        };
        let key = self.core.sources.insert(Source::Datagram(Box::new(state)));
        if let Err(error) = self.sockets.driver.register_datagram(&socket, key) {
            self.core.sources.remove(key);
            return Err(told(error));
        }
        self.sockets.put(key, socket);
        self.core.stats.datagram_sockets += 1;
        self.core.queue(key);
        match self.sockets.local_address(key) {
            Ok(address) => info!("{key}: datagrams, listening on {address}"),
            Err(error) => info!("{key}: datagrams, listening on {address}: {error}"),
        }
        Ok(key)
    }

    /// The address that a datagram socket is bound to: the port, when it was asked to bind to port 0.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2); `NotConnected` if the socket was closed.
    pub fn datagram_address(&self, socket: Key) -> io::Result<SocketAddress> {
        match self.core.sources.get(socket) {
            Some(Source::Datagram(_)) => self.sockets.local_address(socket),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Serves `handler` on a UDP socket bound to `address`, until it calls [`Context::stop`] or
/// [`Context::drain`].
///
/// # Errors
///
/// As [`Reactor::new`], [`Reactor::bind`] and [`Reactor::run`].
pub fn serve_datagrams(
    address: impl ToSocketAddrs,
    handler: impl DatagramHandler,
) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let handler = reactor.add_datagram_handler(handler);
    reactor.bind(handler, address)?;
    reactor.run()?;
    Ok(())
}
