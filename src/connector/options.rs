//! How to connect.

use std::net::SocketAddr;
use std::rc::Rc;

use super::backoff::Backoff;
use crate::limits::Limits;
use crate::socket_options::SocketOptions;

/// How to connect, for [`Context::connect_with`](crate::Context::connect_with). Made once, it is shared by as
/// many connections as there are.
///
/// ```
/// use std::net::SocketAddr;
/// use std::rc::Rc;
/// use std::time::Duration;
///
/// use oneloop::{Backoff, ConnectOptions, Limits, SocketOptions};
///
/// let from = SocketAddr::from(([127, 0, 0, 1], 0)); // any port of this address
/// let options = ConnectOptions::new()
///     .limits(Limits::new().connect_timeout(Duration::from_secs(2)))
///     .from(from)
///     .socket(SocketOptions::new().user_timeout(Duration::from_secs(20)))
///     .retry(5, Backoff::new(Duration::from_millis(100), Duration::from_secs(5)));
/// let options = Rc::new(options);
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) limits: Rc<Limits>,
    pub(crate) from: Option<SocketAddr>,
    pub(crate) socket: SocketOptions,
    /// How often, and after which waits.
    pub(crate) retry: Option<(u32, Backoff)>,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions::new()
    }
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> ConnectOptions {
        ConnectOptions {
            limits: Rc::default(),
            from: None,
            socket: SocketOptions::new(),
            retry: None,
        }
    }

    /// The limits of the connection; [`connect_timeout`](Limits::connect_timeout) holds until it is open.
    #[must_use]
    pub fn limits(mut self, limits: impl Into<Rc<Limits>>) -> ConnectOptions {
        self.limits = limits.into();
        self
    }

    /// The local address to connect from (bind(2)). By default the kernel chooses it by the way to the peer.
    ///
    /// With port 0 the kernel chooses the port: before it knows the peer, so that all connections from one
    /// address share the range of ports (ip(7), `ip_local_port_range`), whoever they are to. With another
    /// port there is one connection to each peer at a time, and those to other peers are not in its way:
    /// `SO_REUSEADDR` is set (socket(7)).
    ///
    /// Of several addresses, or those of a name, it is connected to those of its family only.
    ///
    /// An address that this machine does not have and a port that is taken are
    /// [`AddressUnavailable`](crate::ConnectError::AddressUnavailable); an address of another family than
    /// the peer's, as any is for a Unix socket, is
    /// [`Io`](crate::ConnectError::Io)`(`[`InvalidInput`](std::io::ErrorKind::InvalidInput)`)`.
    ///
    /// # Cost
    ///
    /// One bind(2) a connection; with a port of one's choice one setsockopt(2) more.
    #[must_use]
    pub fn from(mut self, address: SocketAddr) -> ConnectOptions {
        self.from = Some(address);
        self
    }

    /// After a try that failed, to try again up to so many times, each after a wait of `backoff`. By default
    /// there is one try.
    ///
    /// It is one connection all the while: its key stays, what was sent to it waits,
    /// [`connect_timeout`](Limits::connect_timeout) is for each try, and
    /// [`on_connect_failed`](crate::StreamHandler::on_connect_failed) tells how the last one failed. It counts
    /// among the reactor's connections also while it waits. What the reactor itself refuses (too many
    /// connections, an address of another family, a socket option that is not to be had) is not tried again;
    /// nor is anything while the reactor [drains](crate::Reactor::drain), and who waits when that begins fails as
    /// [`Draining`](crate::ConnectError::Draining).
    ///
    /// For tries without end, or other addresses, see [`Backoff`].
    ///
    /// # Cost
    ///
    /// Each try is a connect of its own, with a look-up of its own of a name; in between it owns no descriptor.
    #[must_use]
    pub fn retry(mut self, times: u32, backoff: Backoff) -> ConnectOptions {
        self.retry = Some((times, backoff));
        self
    }

    /// What the kernel does with the connection's socket; set before it is bound and connected, so that the
    /// window, the device and the packets of the handshake itself follow it.
    ///
    /// An option that cannot have its effect fails the attempt, and the log has its name: a value that makes no
    /// sense, and those of listeners only ([`defer_accept`](SocketOptions::defer_accept),
    /// [`fast_open`](SocketOptions::fast_open)), before anything is tried, as
    /// [`Io`](crate::ConnectError::Io)`(`[`InvalidInput`](std::io::ErrorKind::InvalidInput)`)`; what the socket or
    /// the platform does not have, as any option on a Unix socket, as
    /// [`Io`](crate::ConnectError::Io)`(`[`Unsupported`](std::io::ErrorKind::Unsupported)`)`.
    ///
    /// # Cost
    ///
    /// One setsockopt(2) for each option and each address that is tried (keep-alive four, a traffic class on
    /// IPv6 two, a buffer size a getsockopt(2) more). A listener's connections have theirs for nothing.
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> ConnectOptions {
        self.socket = options;
        self
    }
}
