//! How connections end.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// What a handler may fail with: any error, so that `?` works on it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Why a connection was closed. Every connection that opened ends with exactly one of these: it is
/// counted, logged, and given to [`on_close`](crate::StreamHandler::on_close).
///
/// When several things happen to one connection, the first one is its reason; but a graceful end that
/// loses output on its way has the reason of the loss.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side, and ours followed.
    PeerClosed,
    /// A handler called `close`.
    Closed,
    /// A handler called `abort`.
    Aborted,
    /// The peer reset the connection, or was gone when we wrote (`ECONNRESET`, `EPIPE`). A client that closes
    /// without having read everything that was sent to it resets, too. Also when that happened to the connection
    /// that this one [forwards](crate::Context::forward) to, or is fed by.
    Reset,
    /// The socket reported another error, or the file that was [sent](crate::Connection::send_file): `UnexpectedEof` if it
    /// is too short.
    Io(io::ErrorKind),
    /// `on_data`, or `on_frame`, returned an error.
    HandlerError,
    /// What the peer sent is no frame: `on_data`, or `on_frame`, returned a [`BadFrame`](crate::codec::BadFrame), as
    /// [`for_each_frame`](crate::codec::for_each_frame) gives it for what a decoder refuses.
    BadFrame,
    /// The handler broke the contract: it claimed to have consumed more than it was shown, or took a message of no
    /// bytes ([`for_each_message`](crate::codec::for_each_message)).
    Misuse,
    /// A callback of this connection panicked.
    Panicked,
    /// The input that the handler did not consume reached
    /// [`input_bytes_max`](crate::Limits::input_bytes_max).
    InputTooLong,
    /// The output that the peer did not take went over
    /// [`output_bytes_max`](crate::Limits::output_bytes_max); or, while closing, it took none for
    /// [`linger_timeout`](crate::Limits::linger_timeout), or took it at less than
    /// [`output_rate_min`](crate::Limits::output_rate_min).
    SlowReader,
    /// The peer sent nothing for [`first_byte_timeout`](crate::Limits::first_byte_timeout) after the
    /// connection opened.
    FirstByteTimeout,
    /// Nothing came and nothing went for [`idle_timeout`](crate::Limits::idle_timeout).
    IdleTimeout,
    /// The peer took none of the waiting output for
    /// [`write_stall_timeout`](crate::Limits::write_stall_timeout), or less of it than
    /// [`output_rate_min`](crate::Limits::output_rate_min) asks for in that time.
    WriteStallTimeout,
    /// Too much output waited for too long:
    /// [`output_bytes_soft`](crate::Limits::output_bytes_soft),
    /// [`output_soft_timeout`](crate::Limits::output_soft_timeout).
    OutputSoftTimeout,
    /// A message was not complete within [`message_timeout`](crate::Limits::message_timeout).
    MessageTimeout,
    /// A message came at less than [`input_rate_min`](crate::Limits::input_rate_min).
    InputTooSlow,
    /// What the handler expected, by [`expect_within`](crate::Connection::expect_within), did not happen
    /// in time.
    ExpectTimeout,
    /// The connection that it [forwards](crate::Context::forward) to, or is fed by, has ended in good order,
    /// and its own output was written. (Otherwise it was reset.)
    OtherSide,
    /// The reactor went over [`memory_bytes_max`](crate::ReactorLimits::memory_bytes_max), and this
    /// connection held the most.
    MemoryLimit,
    /// The reactor stopped.
    Stopped,
}

impl CloseReason {
    /// The number of reasons, with every [`Io`](CloseReason::Io) counted as one.
    pub(crate) const COUNT: usize = 21;

    pub(crate) fn index(self) -> usize {
        match self {
            CloseReason::PeerClosed => 0,
            CloseReason::Closed => 1,
            CloseReason::Aborted => 2,
            CloseReason::Reset => 3,
            CloseReason::Io(_) => 4,
            CloseReason::HandlerError => 5,
            CloseReason::Misuse => 6,
            CloseReason::Panicked => 7,
            CloseReason::InputTooLong => 8,
            CloseReason::SlowReader => 9,
            CloseReason::MemoryLimit => 10,
            CloseReason::Stopped => 11,
            CloseReason::FirstByteTimeout => 12,
            CloseReason::IdleTimeout => 13,
            CloseReason::WriteStallTimeout => 14,
            CloseReason::OutputSoftTimeout => 15,
            CloseReason::MessageTimeout => 16,
            CloseReason::InputTooSlow => 17,
            CloseReason::ExpectTimeout => 18,
            CloseReason::OtherSide => 19,
            CloseReason::BadFrame => 20,
        }
    }

    /// That of a connection whose whole output is delivered.
    pub(crate) fn has_delivered_all(self) -> bool {
        matches!(self, CloseReason::Closed | CloseReason::PeerClosed | CloseReason::OtherSide)
    }

    /// That of a connection that broke; not of one whose file was too short, which is closed in good order.
    pub(crate) fn is_broken(self) -> bool {
        match self {
            CloseReason::Reset => true,
            CloseReason::Io(kind) => kind != io::ErrorKind::UnexpectedEof,
            _ => false,
        }
    }

    pub(crate) fn of_error(error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::Reset,
            kind => CloseReason::Io(kind),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::PeerClosed => "the peer closed",
            CloseReason::Closed => "closed by the handler",
            CloseReason::Aborted => "aborted by the handler",
            CloseReason::Reset => "reset by the peer",
            CloseReason::Io(kind) => return write!(f, "input/output error: {kind}"),
            CloseReason::HandlerError => "the handler failed",
            CloseReason::BadFrame => "the peer sent what is no frame",
            CloseReason::Misuse => {
                "the handler consumed more than it was shown, or a message of no bytes"
            }
            CloseReason::Panicked => "the handler panicked",
            CloseReason::InputTooLong => "too much input that the handler does not consume",
            CloseReason::SlowReader => "the peer does not take its output",
            CloseReason::FirstByteTimeout => "the peer sent nothing",
            CloseReason::IdleTimeout => "idle for too long",
            CloseReason::WriteStallTimeout => "the peer takes none of its output, or too little",
            CloseReason::OutputSoftTimeout => "too much output waited for too long",
            CloseReason::MessageTimeout => "a message was not complete in time",
            CloseReason::InputTooSlow => "a message came too slowly",
            CloseReason::ExpectTimeout => "what the handler expected did not come in time",
            CloseReason::OtherSide => "the other side of a forwarding ended",
            CloseReason::MemoryLimit => "the reactor is over its memory limit",
            CloseReason::Stopped => "the reactor stopped",
        })
    }
}

/// Why an outbound connection did not open; given to
/// [`on_connect_failed`](crate::StreamHandler::on_connect_failed).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there (`ECONNREFUSED`). Of a Unix path: its listener is gone and has left it behind,
    /// or it is no socket.
    Refused,
    /// No answer within [`connect_timeout`](crate::Limits::connect_timeout), or within the kernel's own; or
    /// the backlog of a Unix listener was full for as long.
    TimedOut,
    /// The network or the host cannot be reached, or the network is down (`ENETUNREACH`, `EHOSTUNREACH`,
    /// `ENETDOWN`).
    Unreachable,
    /// There is no such Unix path (`ENOENT`, `ENOTDIR`).
    NotFound,
    /// The local address is not this machine's, or no port of it is left: all of them are in use, or the
    /// one that was asked for is (`EADDRNOTAVAIL`, `EADDRINUSE`).
    AddressUnavailable,
    /// We may not: the rights of a Unix path, or a rule of the firewall or of the routes (`EACCES`,
    /// `EPERM`).
    Denied,
    /// The socket connected to itself, as it may on an own port that nobody listens on: what was sent would
    /// have come back.
    SelfConnected,
    /// There is no such host or service, or the host has no address. (The standard library does not tell that
    /// from a look-up that failed: where the system is asked, it takes the feature `names`, and is
    /// [`NameLookup`](ConnectError::NameLookup) without it.)
    NameNotFound,
    /// The name could not be looked up. A later try may go better.
    NameLookup,
    /// The name was not looked up, because too many others are
    /// ([`Reactor::set_resolver`](crate::Reactor::set_resolver)).
    ResolverBusy,
    /// A drain has begun while it waited for its [next try](crate::ConnectOptions::retry).
    Draining,
    /// The process or the system has no descriptor left (`EMFILE`, `ENFILE`).
    NoDescriptors,
    /// The reactor is at its limit of connections.
    TooManyConnections,
    /// It was closed or aborted before it opened.
    Cancelled,
    /// The reactor stopped.
    Stopped,
    /// Another error of the system; or the reactor was over its [memory](crate::ReactorLimits::memory_bytes_max), with what
    /// waited for the connection as the largest part of it (`OutOfMemory`).
    Io(io::ErrorKind),
}

impl ConnectError {
    pub(crate) fn of_error(error: &io::Error) -> ConnectError {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused,
            io::ErrorKind::TimedOut => ConnectError::TimedOut,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => ConnectError::Unreachable,
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ConnectError::NotFound,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => {
                ConnectError::AddressUnavailable
            }
            io::ErrorKind::PermissionDenied => ConnectError::Denied,
            _ if lacks_descriptors(error) => ConnectError::NoDescriptors,
            kind => ConnectError::Io(kind),
        }
    }
}

/// It has no [`io::ErrorKind`].
fn lacks_descriptors(error: &io::Error) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => true,
        #[cfg(unix)]
        Some(Errno::NFILE) => true,
        _ => false,
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectError::Refused => "connection refused",
            ConnectError::TimedOut => "timed out",
            ConnectError::Unreachable => "host or network unreachable",
            ConnectError::NotFound => "no such path",
            ConnectError::AddressUnavailable => "no local address or port to connect from",
            ConnectError::Denied => "not permitted",
            ConnectError::SelfConnected => "connected to itself",
            ConnectError::NameNotFound => "no such host or service",
            ConnectError::NameLookup => "the name could not be looked up",
            ConnectError::ResolverBusy => "too many names are being looked up",
            ConnectError::Draining => "the reactor drains",
            ConnectError::NoDescriptors => "no descriptor left",
            ConnectError::TooManyConnections => "the reactor is at its limit of connections",
            ConnectError::Cancelled => "cancelled",
            ConnectError::Stopped => "the reactor stopped",
            ConnectError::Io(kind) => return write!(f, "{kind}"),
        })
    }
}

impl std::error::Error for ConnectError {}

/// What became of bytes given to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a producer that ignores OverHigh is bounded only by the hard caps, which end the connection"]
pub enum Sent {
    /// Taken.
    Ok,
    /// Taken, and the connection's output is over its high watermark: stop producing until
    /// [`on_drained`](crate::StreamHandler::on_drained).
    OverHigh,
    /// Not taken: the connection is closing, has sent its end of file, or is no more.
    Gone,
}

impl Sent {
    /// For producers that answer what the peer sent and no more: their output is bounded by the
    /// reactor, which stops reading from a connection that is over its high watermark. And for
    /// fan-out, where the one who talks should not wait for the slowest of those who listen: whose
    /// output goes over the cap is dropped as [`SlowReader`](CloseReason::SlowReader).
    ///
    /// Not for one answer that may be longer than [`output_bytes_max`](crate::Limits::output_bytes_max): what the kernel
    /// does not take of that at once may be over the cap, however fast the peer reads. It is given bit by bit, in
    /// [`on_drained`](crate::StreamHandler::on_drained), or the limit has room for it.
    pub fn ignore(self) {}
}
