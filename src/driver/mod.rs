//! The seam between the reactor and the world: sockets, the clock, randomness.
//!
//! The reactor is written against [`Driver`] and knows nothing else of the machine. `Mio` is the
//! production driver. The loop is compiled for each driver anew, so that the seam costs nothing.

mod common;
#[cfg_attr(windows, path = "windows/mod.rs")]
mod mio;
#[cfg(all(feature = "signals", unix))]
mod signals;

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::address::SocketAddress;
use crate::clock::Time;
use crate::credentials::Credentials;
use crate::datagram::{DatagramOptions, Interface};
use crate::key::Key;
use crate::names::{Resolver, SystemResolver};
use crate::readiness::{Interest, Readiness};
use crate::signal::Signal;
use crate::socket_options::SocketOptions;

pub use self::mio::Mio;
#[cfg(all(feature = "systemd", unix))]
pub(crate) use self::mio::listens;
#[cfg(unix)]
pub(crate) use self::mio::pipe::open_anew;
#[cfg(feature = "sim")]
pub(crate) use self::mio::sort_accept_error;

/// What the driver reports of one source.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The key that the source was registered with.
    pub key: Key,
    /// What became possible.
    pub readiness: Readiness,
}

/// How a listening socket is made.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Where to listen.
    pub address: SocketAddress,
    /// Connections that the kernel completes ahead of accept; it clips the number to its own maximum
    /// (listen(2), `net.core.somaxconn`).
    pub backlog: u32,
    /// Several sockets share the port, and the kernel spreads the connections (socket(7)).
    pub reuse_port: bool,
    /// An IPv6 socket does not take IPv4 clients (ipv6(7), `IPV6_V6ONLY`).
    pub only_v6: bool,
    /// What is set on the socket, and handed down to those that are accepted from it.
    pub options: SocketOptions,
    /// The permissions of a Unix socket's path; `None` leaves them to the umask.
    pub unix_mode: Option<u32>,
    /// A Unix socket's path that nobody listens on any more is taken over.
    pub replace_stale: bool,
}

impl ListenConfig {
    /// As [`ListenOptions`](crate::ListenOptions) has it by default, but for the backlog.
    pub fn new(address: impl Into<SocketAddress>, backlog: u32) -> ListenConfig {
        ListenConfig {
            address: address.into(),
            backlog,
            reuse_port: false,
            only_v6: false,
            options: SocketOptions::new(),
            unix_mode: None,
            replace_stale: true,
        }
    }
}

/// What a connection is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamKind {
    /// A TCP socket.
    Tcp,
    /// A Unix stream socket.
    Unix,
    /// The end of a pipe that is read; or what else is open for reading only.
    PipeIn,
    /// The end of a pipe that is written to.
    PipeOut,
}

/// How an outbound connection is made.
#[derive(Clone, Debug)]
pub struct ConnectConfig<'a> {
    /// Where to.
    pub to: &'a SocketAddress,
    /// Where from, if that is not the kernel's choice; of the same family. With port 0 the port is.
    pub from: Option<SocketAddr>,
    /// What is set on the socket. The reactor does not ask for what only listeners have.
    pub options: &'a SocketOptions,
}

/// How a datagram socket is made.
#[derive(Clone, Copy, Debug)]
pub struct DatagramConfig<'a> {
    /// Where to bind it. A Unix socket need not have a name.
    pub address: &'a SocketAddress,
    /// What else is to be set, and whom to connect it to.
    pub options: &'a DatagramOptions,
}

/// Datagrams of one length, for one receiver and from one address: often one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch<'a> {
    /// Where they leave from, if that is not the kernel's choice.
    pub from: Option<IpAddr>,
    /// Whom they are for; none for whom the socket is connected to.
    pub to: Option<&'a SocketAddress>,
    /// All their bytes, those of one behind those of the other.
    pub data: &'a [u8],
    /// How many bytes each of them has. One alone may have none.
    pub length: usize,
}

impl Batch<'_> {
    /// How many they are.
    #[allow(clippy::len_without_is_empty, reason = "there is one at least")]
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.length).unwrap_or(1)
    }
}

/// What became of a connect so far.
#[derive(Debug)]
pub enum Connecting<S> {
    /// It is connected. No event will tell.
    Done(S),
    /// It is done when the socket is writable or has an error; see
    /// [`connect_result`](Driver::connect_result).
    UnderWay(S),
    /// Nothing was begun, and no event will tell when it can be: the backlog of a Unix listener is full
    /// (connect(2), `EAGAIN`).
    Busy,
}

/// Why an accept gave no connection, by what is to be done about it.
#[derive(Debug)]
pub enum AcceptError {
    /// The backlog is empty.
    WouldBlock,
    /// The connection that was to be accepted is gone; the next one may be fine.
    Connection(io::Error),
    /// Descriptors ran out, of the process or of the system.
    Descriptors(io::Error),
    /// Memory ran out, or anything else that time may mend.
    Other(io::Error),
}

/// What a reactor needs of the world.
///
/// Only waiting changes the driver as Rust sees it; what the other calls change is the kernel's, so
/// that a socket can be borrowed from beside the driver for the length of a run.
///
/// # Contract
///
/// - No call blocks, except [`poll`](Driver::poll) for at most its time-out.
/// - Events are edges: after a call answered `WouldBlock`, a change is reported once. Only those of
///   listeners may be levels, see [`listeners_are_level`](Driver::listeners_are_level). Registering
///   reports what is possible already. Events may be spurious, merged, split, in any order.
/// - An interrupted call is made again inside, but for [`poll`](Driver::poll), which then returns early and
///   without events; `Interrupted` is never an answer.
/// - Writing to a connection whose peer is gone is an error, never a signal.
/// - Dropping a socket closes its descriptor.
pub trait Driver: Sized {
    /// A listening or a connected socket.
    type Socket;
    /// A descriptor kept for the day on which there are no more.
    type Reserve;
    /// What a listener or a datagram socket leaves in the file system: the path of a Unix socket. Dropping it
    /// removes the path, if it is still the socket's own.
    type Guard;

    /// Whether a read that fills less than its buffer means that nothing is left, as long as
    /// neither `READ_CLOSED` nor `PRIORITY` was reported for the source.
    fn short_read_drains(&self) -> bool;

    /// Whether a write to a TCP socket that takes less than it was given means that nothing more is taken, and that the
    /// socket is reported once something is: as if the next write had answered `WouldBlock`. By default not.
    fn short_write_fills(&self) -> bool {
        false
    }

    /// Whether a listener is reported by every poll while its backlog holds a connection (level), and
    /// not only when one comes in (edge). A level saves the call of accept that finds nothing.
    fn listeners_are_level(&self) -> bool;

    /// Prepares to report at most so many events a poll.
    fn set_events_max(&mut self, events_max: usize);
    /// Waits for events, at most `timeout` (for ever if `None`), and no less than that.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()>;
    /// Waits for events until the moment `until`, and no longer than the machine can help, which is
    /// not to be rounded to anything; `now` is a reading of the clock, and earlier. By default as
    /// precise as [`poll`](Driver::poll).
    fn poll_until(&mut self, now: Time, until: Time) -> io::Result<()> {
        self.poll(Some(until - now))
    }
    /// What the last poll reported.
    fn events(&self) -> impl Iterator<Item = Event>;

    /// The monotonic clock.
    fn now(&self) -> Time;
    /// The calendar's clock.
    fn wall_clock(&self) -> SystemTime;
    /// A number that nobody guesses, to seed the reactor's generator.
    fn random_seed(&self) -> u64;

    /// Whether there is IPv6 at all, so that `[::]` takes the clients of both families. By default there is.
    fn has_ipv6(&self) -> bool {
        true
    }
    /// Binds and listens. `SO_REUSEADDR` is set. An option that cannot have its effect is an error: see
    /// [`SocketOptions`].
    fn listen(&self, config: &ListenConfig) -> io::Result<(Self::Socket, Option<Self::Guard>)>;
    /// Takes one connection out of the backlog.
    fn accept(&self, listener: &Self::Socket)
    -> Result<(Self::Socket, SocketAddress), AcceptError>;
    /// Who knows what names stand for, if the reactor is not given another one. By default the system.
    fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::new(SystemResolver)
    }
    /// Begins to connect. An option that cannot have its effect is an error, as of [`listen`](Self::listen).
    fn connect(&self, config: &ConnectConfig<'_>) -> io::Result<Connecting<Self::Socket>>;
    /// How the connect ended: `Ok`, its error, or `WouldBlock` while it has not.
    fn connect_result(&self, socket: &Self::Socket) -> io::Result<()>;
    /// The error that is pending on the socket, which clears it (socket(7), `SO_ERROR`).
    fn take_error(&self, socket: &Self::Socket) -> io::Result<Option<io::Error>>;

    /// Takes in what was made elsewhere, a connected stream socket or one end of a pipe: tells which, and
    /// makes it such as the others are. By default `Unsupported`.
    fn adopt(&self, socket: &Self::Socket) -> io::Result<StreamKind> {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Takes out what somebody else may have open as well, so that closing it here would not (epoll(7), questions
    /// and answers). By default nothing has to be done.
    fn deregister(&self, socket: &Self::Socket) -> io::Result<()> {
        let _ = socket;
        Ok(())
    }

    /// Registers a listening socket for `READABLE`.
    fn register_listener(&self, socket: &Self::Socket, key: Key) -> io::Result<()>;
    /// Stops reporting a listening socket, or starts again. Needed only where listeners are level.
    fn set_listening(&self, socket: &Self::Socket, key: Key, on: bool) -> io::Result<()>;
    /// Registers a connected or connecting socket, once for its whole life: TCP for `READABLE` and
    /// `WRITABLE`, what else there is for `READABLE` only.
    fn register_stream(&self, socket: &Self::Socket, key: Key, kind: StreamKind) -> io::Result<()>;
    /// Has the events of a TCP socket, which is registered, carry another key from now on. What is possible
    /// already is reported again.
    fn rename_stream(&self, socket: &Self::Socket, key: Key) -> io::Result<()>;
    /// Has a socket that is not TCP reported as `WRITABLE` from now on, or no more. It is reported at once if
    /// it is writable already.
    fn ask_writable(&self, socket: &Self::Socket, key: Key, yes: bool) -> io::Result<()>;

    /// Reads into `buffer`, which is not empty, from a TCP socket. `Ok(0)` is the end of file.
    fn read(&self, socket: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;
    /// The same, from a stream of any kind.
    fn read_any(&self, stream: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(stream, buffer)
    }
    /// How many bytes a read would find now, at least (tcp(7), `SIOCINQ`).
    fn readable_bytes(&self, socket: &Self::Socket) -> io::Result<usize>;
    /// Writes the front of `data`, which is not empty, to a TCP socket.
    fn write(&self, socket: &Self::Socket, data: &[u8]) -> io::Result<usize>;
    /// The same, to a stream of any kind.
    fn write_any(&self, stream: &Self::Socket, data: &[u8]) -> io::Result<usize> {
        self.write(stream, data)
    }
    /// Writes the front of all slices together, to a stream of any kind; none of them is empty.
    fn write_vectored(&self, stream: &Self::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Writes the front of all slices and, behind them, of a part of a file, which is not empty, to a stream of any
    /// kind: how many bytes that were; where there are slices, it may leave the file to the next call. Fails only if
    /// nothing was written: as `UnexpectedEof` where the file ends before its part does. By default the file is read
    /// into memory first.
    fn write_file(
        &self,
        stream: &Self::Socket,
        slices: &[IoSlice<'_>],
        file: &File,
        range: &Range<u64>,
    ) -> io::Result<usize> {
        common::write_file_by_copy(self, stream, slices, file, range)
    }
    /// Sends the end of file (shutdown(2), `SHUT_WR`).
    fn shutdown_write(&self, socket: &Self::Socket) -> io::Result<()>;
    /// Closes with a reset: what was not delivered is dropped.
    fn abort(&self, socket: Self::Socket);

    /// Makes a datagram socket, and binds and connects it.
    fn bind(&self, config: &DatagramConfig<'_>) -> io::Result<(Self::Socket, Option<Self::Guard>)>;
    /// Registers a datagram socket for `READABLE` only.
    fn register_datagram(&self, socket: &Self::Socket, key: Key) -> io::Result<()>;
    /// Receives one datagram into `buffer`: how many bytes it has, also if these are more than fit, and who
    /// sent it.
    fn receive(
        &self,
        socket: &Self::Socket,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddress)>;
    /// The same of a UDP socket that is bound to all addresses: also to which address of this machine it was sent,
    /// if [`send_from`](Self::send_from) can answer from there. By default that is not known.
    fn receive_addressed(
        &self,
        socket: &Self::Socket,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddress, Option<IpAddr>)> {
        self.receive(socket, buffer).map(|(length, from)| (length, from, None))
    }
    /// The same of a UDP socket that [gathers](crate::DatagramOptions::gather): several datagrams of one sender to one
    /// address, one behind the other. The last number is how many bytes each of them has; the last one may have fewer.
    fn receive_gathered(
        &self,
        socket: &Self::Socket,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddress, Option<IpAddr>, usize)> {
        let (length, from, to) = self.receive_addressed(socket, buffer)?;
        Ok((length, from, to, length))
    }
    /// Sends one datagram, to whom the socket is connected if `to` says nothing.
    fn send_datagram(
        &self,
        socket: &Self::Socket,
        data: &[u8],
        to: Option<&SocketAddress>,
    ) -> io::Result<()>;
    /// Sends one datagram of a UDP socket that is bound to all addresses, and has it leave from one of them. By
    /// default `Unsupported`.
    fn send_from(
        &self,
        socket: &Self::Socket,
        data: &[u8],
        from: IpAddr,
        to: &SocketAddress,
    ) -> io::Result<()> {
        let _ = (socket, data, from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Sends datagrams that are alike: how many left, which are the first ones. An error is that of the first.
    fn send_batch(&self, socket: &Self::Socket, batch: Batch<'_>) -> io::Result<usize> {
        send_each(self, socket, batch)
    }
    /// Whether a Unix datagram socket, of which a send to somebody who was named would have blocked, would be reported as
    /// writable: then the receiver had no room. Otherwise it may have been the socket itself. By default the receiver.
    fn is_writable(&self, socket: &Self::Socket) -> bool {
        let _ = socket;
        true
    }
    /// Joins a multicast group or leaves it.
    fn set_membership(
        &self,
        socket: &Self::Socket,
        group: IpAddr,
        interface: &Interface,
        is_member: bool,
    ) -> io::Result<()>;

    /// The address of our side.
    fn local_address(&self, socket: &Self::Socket) -> io::Result<SocketAddress>;
    /// The address of the other side.
    fn peer_address(&self, socket: &Self::Socket) -> io::Result<SocketAddress>;
    /// The process at the other end (unix(7), `SO_PEERCRED`); `Unsupported` where that is not known.
    fn peer_credentials(&self, socket: &Self::Socket) -> io::Result<Credentials>;

    /// Has these signals reported, besides those watched already: an event with a key of the reactor's
    /// own, and then [`take_signals`](Driver::take_signals) tells which. By default `Unsupported`.
    fn watch_signals(&mut self, signals: &[Signal]) -> io::Result<()> {
        let _ = signals;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Gives each watched signal that came since the last call, once.
    fn take_signals(&mut self, take: &mut dyn FnMut(Signal)) {
        let _ = take;
    }

    /// How many descriptors there may be. By default as many as one likes.
    fn descriptors_max(&self) -> usize {
        usize::MAX
    }

    /// Takes a descriptor to give up when an accept fails for want of one.
    fn reserve(&self) -> io::Result<Self::Reserve>;

    /// Makes what other threads end a poll with. Asked for once, by the first that needs it; a reactor
    /// without mail has none. The wake-up is reported as an event with the key [`WAKER_KEY`].
    fn waker(&mut self) -> io::Result<Arc<dyn Wake>>;
    /// Has the jobs of `work` done, by at most so many threads at a time, until it says that there
    /// will be no more.
    fn start_workers(&mut self, work: &Arc<dyn Work>, threads: usize) -> io::Result<()>;
}

/// The key of the event that [`Wake::wake`] makes.
pub const WAKER_KEY: Key = Key::WAKER;

/// Ends a poll from another thread.
pub trait Wake: Send + Sync {
    /// The poll that waits, or else the next one, reports the wake-up and does not wait. Several
    /// before that may be reported as one.
    fn wake(&self);
}

/// Jobs that block, in the order in which they are to begin. None of the calls panics, whatever the
/// jobs do.
pub trait Work: Send + Sync {
    /// For a thread of its own: does jobs, and waits for them, until there will be no more.
    fn run(&self);
    /// For a world without threads: does the job that waits behind `number` others, or else the
    /// newest one; whether there was any.
    fn run_one(&self, number: usize) -> bool;
    /// How many jobs there have been so far.
    fn submitted(&self) -> u64;
}

/// A source of a user's own that the driver `D` can register: with the mio driver, everything that is
/// a `mio::event::Source`.
pub trait RawSource<D>: 'static {
    /// Registers the source.
    fn register(&mut self, driver: &mut D, key: Key, interest: Interest) -> io::Result<()>;
    /// Takes it out again. A raw source is always deregistered, because its user may hold a duplicate
    /// of the descriptor, which would keep reporting events (epoll(7), questions and answers).
    fn deregister(&mut self, driver: &mut D) -> io::Result<()>;
}

/// A call for each.
fn send_each<D: Driver>(driver: &D, socket: &D::Socket, batch: Batch<'_>) -> io::Result<usize> {
    let send = |datagram| match (batch.from, batch.to) {
        (Some(from), Some(to)) => driver.send_from(socket, datagram, from, to),
        (_, to) => driver.send_datagram(socket, datagram, to),
    };
    if batch.len() == 1 {
        return send(batch.data).map(|()| 1); // which may be empty
    }
    for (count, datagram) in batch.data.chunks(batch.length).enumerate() {
        match send(datagram) {
            Err(error) if count == 0 => return Err(error),
            Err(_) => return Ok(count),
            Ok(()) => {}
        }
    }
    Ok(batch.len())
}
