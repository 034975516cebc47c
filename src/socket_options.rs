//! What the kernel is asked to do with a socket.

use std::fmt::Display;
use std::io;
use std::time::Duration;

/// What the kernel is asked to do with the sockets of connections. What is not set is left as the system
/// has it, but for [`nodelay`](Self::nodelay).
///
/// Given to [`ListenOptions::socket`](crate::ListenOptions::socket) they are set on the listening socket, before
/// it is bound. Linux hands them down to every socket that is accepted from it, so that a connection costs no
/// call more. Given to [`ConnectOptions::socket`](crate::ConnectOptions::socket) they are set on the socket of an
/// outbound connection, before it is bound and connected. What was [adopted](crate::Reactor::adopt) keeps what whoever
/// made it has set, and only has `TCP_NODELAY` set as well.
///
/// An option that cannot have its effect is an error when the listener is made, or of the connect, and never
/// ignored:
///
/// - `InvalidInput`: its value makes no sense, or the kernel refuses it; of a connect, what is of listeners only.
/// - `Unsupported`: on a Unix socket, to which the kernel would hand none of them down; in the
///   simulation, all but `nodelay` and `traffic_class`, which nobody there could see the effect
///   of; elsewhere than on Linux, all but `nodelay`.
///
/// There is no `SO_LINGER`: with it close(2) waits, also on a non-blocking socket, and the loop with it.
/// [`Limits::linger_timeout`](crate::Limits::linger_timeout) is the reactor's own, and
/// [`Connection::abort`](crate::Connection::abort) resets.
///
/// ```
/// use std::time::Duration;
///
/// use oneloop::{ListenOptions, SocketOptions};
///
/// // A peer whose machine is gone is noticed after 60 + 3 * 10 seconds without traffic, and after 30 with.
/// let socket = SocketOptions::new()
///     .keepalive(Duration::from_secs(60), Duration::from_secs(10), 3)
///     .user_timeout(Duration::from_secs(30));
/// let options = ListenOptions::new().socket(socket);
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SocketOptions {
    pub(crate) nodelay: Option<bool>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) receive_buffer_bytes: Option<usize>,
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) traffic_class: Option<u8>,
    pub(crate) unsent_low_bytes: Option<usize>,
    pub(crate) device: Option<String>,
    pub(crate) freebind: bool,
    pub(crate) defer_accept: Option<Duration>,
    pub(crate) fast_open: Option<u32>,
}

/// What the kernel's integers hold.
const INT_MAX: usize = i32::MAX as usize;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Keepalive {
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) count: u32,
}

impl SocketOptions {
    /// Nothing but what the system does anyhow.
    pub fn new() -> SocketOptions {
        SocketOptions::default()
    }

    /// Whether small writes leave at once instead of waiting for an acknowledgement (tcp(7),
    /// `TCP_NODELAY`). Default yes on TCP, because the reactor already gathers a run's output.
    #[must_use]
    pub fn nodelay(mut self, yes: bool) -> SocketOptions {
        self.nodelay = Some(yes);
        self
    }

    /// Asks a peer that has been silent for `idle` whether it is still there, and then every `interval`; after
    /// `count` questions without an answer the connection ends, as
    /// [`TimedOut`](std::io::ErrorKind::TimedOut) (tcp(7), `SO_KEEPALIVE`, `TCP_KEEPIDLE`, `TCP_KEEPINTVL`,
    /// `TCP_KEEPCNT`). The kernels do that among themselves; nobody's handler hears of it, and the idle deadline
    /// goes on. Whole seconds from 1 to 32,767, and a count from 1 to 127.
    #[must_use]
    pub fn keepalive(mut self, idle: Duration, interval: Duration, count: u32) -> SocketOptions {
        self.keepalive = Some(Keepalive { idle, interval, count });
        self
    }

    /// How much a socket may have received that nobody has read (socket(7), `SO_RCVBUF`), with the kernel's
    /// own bookkeeping on top; the window that is advertised follows from it. Setting it turns off what the kernel
    /// does by itself, to let the window grow with need. The kernel takes at most `net.core.rmem_max` and
    /// says nothing; the reactor logs it then: for a listener as a warning, for each connect at debug level.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> SocketOptions {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// How much may have been written to a socket and not been acknowledged (socket(7), `SO_SNDBUF`); as
    /// [`receive_buffer_bytes`](Self::receive_buffer_bytes), with `net.core.wmem_max`. What does not fit stays
    /// in the connection's output, and counts for its limits.
    #[must_use]
    pub fn send_buffer_bytes(mut self, bytes: usize) -> SocketOptions {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// How long written data may go unacknowledged, or wait for a window that stays shut, before the connection
    /// ends as [`TimedOut`](std::io::ErrorKind::TimedOut) (tcp(7), `TCP_USER_TIMEOUT`). It takes the place of the
    /// keep-alive's count, too. Whole milliseconds, at least one.
    #[must_use]
    pub fn user_timeout(mut self, timeout: Duration) -> SocketOptions {
        self.user_timeout = Some(timeout);
        self
    }

    /// The DSCP in the upper six bits of the byte that every packet has for it (RFC 2474; ip(7), `IP_TOS`, and
    /// ipv6(7), `IPV6_TCLASS`; on an IPv6 socket both). The lower two are TCP's own (RFC 3168), and have to be 0.
    #[must_use]
    pub fn traffic_class(mut self, class: u8) -> SocketOptions {
        self.traffic_class = Some(class);
        self
    }

    /// How much may have been written and not yet been sent before the socket counts as full (tcp(7),
    /// `TCP_NOTSENT_LOWAT`). What is written later is fresher then, because it does not queue behind as much;
    /// each connection costs the kernel less memory, and more calls of send. At least 1; kernels have no limit
    /// by default.
    #[must_use]
    pub fn unsent_low_bytes(mut self, bytes: usize) -> SocketOptions {
        self.unsent_low_bytes = Some(bytes);
        self
    }

    /// Takes only what comes in through that interface, and sends only through it (socket(7),
    /// `SO_BINDTODEVICE`). Needs no privilege since Linux 5.7, unless the socket has a device already. An interface
    /// that is not there is an error.
    #[must_use]
    pub fn device(mut self, name: impl Into<String>) -> SocketOptions {
        self.device = Some(name.into());
        self
    }

    /// Whether an address may be bound that this machine does not have, or does not have yet (ip(7),
    /// `IP_FREEBIND`; `IPV6_FREEBIND`): for addresses that move between machines. Default no.
    #[must_use]
    pub fn freebind(mut self, yes: bool) -> SocketOptions {
        self.freebind = yes;
        self
    }

    /// Lets a connection wait in the kernel until its first bytes are there, for about so long: nothing of it costs the
    /// reactor anything before that (tcp(7), `TCP_DEFER_ACCEPT`). Of listeners only, and nothing for a protocol in which
    /// the server speaks first. The time ends when the kernel repeats its answer to the client (after 1, 3, 7, 15, ...
    /// seconds) the next time; then who has said nothing is accepted all the same. Whole seconds, at least
    /// one.
    #[must_use]
    pub fn defer_accept(mut self, time: Duration) -> SocketOptions {
        self.defer_accept = Some(time);
        self
    }

    /// Takes the first bytes of a client that has been here before together with its SYN, which spares a round
    /// trip (RFC 7413; tcp(7), `TCP_FASTOPEN`): of at most `queue` clients at a time whose address is not
    /// confirmed yet. Of listeners only. A network that repeats such a SYN can make the bytes come twice, as two
    /// connections: so only for a protocol in which a first request does no harm the second time.
    ///
    /// `Unsupported` where the kernel would take the option and do nothing: unless 2 is among the bits of
    /// `net.ipv4.tcp_fastopen` (a sysctl; 1, as it is by default, is for clients only).
    #[must_use]
    pub fn fast_open(mut self, queue: u32) -> SocketOptions {
        self.fast_open = Some(queue);
        self
    }

    /// What was asked for, by name.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.nodelay.is_some(), "nodelay"),
            (self.keepalive.is_some(), "keepalive"),
            (self.receive_buffer_bytes.is_some(), "receive_buffer_bytes"),
            (self.send_buffer_bytes.is_some(), "send_buffer_bytes"),
            (self.user_timeout.is_some(), "user_timeout"),
            (self.traffic_class.is_some(), "traffic_class"),
            (self.unsent_low_bytes.is_some(), "unsent_low_bytes"),
            (self.device.is_some(), "device"),
            (self.freebind, "freebind"),
            (self.defer_accept.is_some(), "defer_accept"),
            (self.fast_open.is_some(), "fast_open"),
        ]
        .into_iter()
        .filter_map(|(is_asked, name)| is_asked.then_some(name))
    }

    /// `Unsupported` if anything was asked for that is not in `offered`; `place` says where that is so.
    pub(crate) fn only(&self, offered: &[&str], place: &str) -> io::Result<()> {
        match self.asked().find(|name| !offered.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let message = format!("the socket option {name} is not to be had {place}");
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }

    /// As [`check`](Self::check), for an outbound connection.
    pub(crate) fn check_outbound(&self) -> io::Result<()> {
        match self.asked().find(|name| ["defer_accept", "fast_open"].contains(name)) {
            None => self.check(),
            Some(name) => {
                let message = format!("the socket option {name} is of listeners only");
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }

    /// The kernel would round, clip or ignore what this refuses.
    pub(crate) fn check(&self) -> io::Result<()> {
        if let Some(Keepalive { idle, interval, count }) = self.keepalive {
            for (part, time) in [("idle", idle), ("interval", interval)] {
                if time.subsec_nanos() != 0 || !(1..=32_767).contains(&time.as_secs()) {
                    let message = format!("has {part} {time:?}: whole seconds from 1 to 32767");
                    return fail("keepalive", message);
                }
            }
            if !(1..=127).contains(&count) {
                return fail("keepalive", format!("has count {count}: from 1 to 127"));
            }
        }
        check_buffer("receive_buffer_bytes", self.receive_buffer_bytes)?;
        check_buffer("send_buffer_bytes", self.send_buffer_bytes)?;
        check_bytes("unsent_low_bytes", self.unsent_low_bytes, INT_MAX)?;
        if let Some(time) = self.user_timeout
            && (time.subsec_nanos() % 1_000_000 != 0
                || !(1..=INT_MAX as u128).contains(&time.as_millis()))
        {
            let message = format!("is {time:?}: whole milliseconds from 1 to {INT_MAX}");
            return fail("user_timeout", message);
        }
        if let Some(time) = self.defer_accept
            && (time.subsec_nanos() != 0 || !(1..=INT_MAX as u64).contains(&time.as_secs()))
        {
            let message = format!("is {time:?}: whole seconds from 1 to {INT_MAX}");
            return fail("defer_accept", message);
        }
        if let Some(queue) = self.fast_open
            && !(1..=INT_MAX).contains(&(queue as usize))
        {
            return fail("fast_open", format!("is {queue}: from 1 to {INT_MAX}"));
        }
        if let Some(class) = self.traffic_class
            && class & 3 != 0
        {
            return fail("traffic_class", format!("is {class:#04x}: the lower two bits are TCP's"));
        }
        if let Some(name) = &self.device
            && (name.is_empty() || name.len() > 15 || name.contains(['/', '\0']))
        {
            return fail("device", format!("is {name:?}, which is no interface's name"));
        }
        Ok(())
    }
}

fn fail(name: &str, message: impl Display) -> io::Result<()> {
    let message = format!("the socket option {name} {message}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn check_bytes(name: &str, bytes: Option<usize>, max: usize) -> io::Result<()> {
    match bytes {
        Some(bytes) if !(1..=max).contains(&bytes) => {
            fail(name, format_args!("is {bytes}: from 1 to {max}"))
        }
        _ => Ok(()),
    }
}

/// That the size of a buffer makes sense: Linux doubles it.
pub(crate) fn check_buffer(name: &str, bytes: Option<usize>) -> io::Result<()> {
    check_bytes(name, bytes, INT_MAX / 2)
}
