//! How to listen.

use crate::limits::Limits;
use crate::socket_options::SocketOptions;

/// How to listen.
///
/// ```
/// use oneloop::{Limits, ListenOptions};
///
/// let options = ListenOptions::new()
///     .backlog(1024)
///     .limits(Limits::new().connections_max(500).connections_per_address_max(20));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ListenOptions {
    /// Unless it was said, an inherited socket keeps the one that it has.
    pub(crate) backlog: Option<u32>,
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    pub(crate) socket: SocketOptions,
    pub(crate) limits: Limits,
}

const BACKLOG: u32 = 4096;

impl ListenOptions {
    /// The defaults.
    pub fn new() -> ListenOptions {
        ListenOptions::default()
    }

    /// Connections that the kernel completes ahead of accept. Default 4096, clipped by the kernel to
    /// `net.core.somaxconn` (listen(2)). Beyond it a SYN is dropped, and its client waits a second
    /// before it tries again. An inherited socket keeps its own if nothing is said here.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> ListenOptions {
        self.backlog = Some(connections);
        self
    }

    /// Whether other sockets may listen on the same port, the kernel spreading the connections over
    /// them (socket(7), `SO_REUSEPORT`). Default no. Closing one of them resets what is in its queue.
    #[must_use]
    pub fn reuse_port(mut self, yes: bool) -> ListenOptions {
        self.reuse_port = yes;
        self
    }

    /// Whether an IPv6 address takes IPv6 clients only (ipv6(7), `IPV6_V6ONLY`). Default no: a
    /// listener on `[::]` takes both, and IPv4 peers show as `::ffff:a.b.c.d`.
    #[must_use]
    pub fn only_v6(mut self, yes: bool) -> ListenOptions {
        self.only_v6 = yes;
        self
    }

    /// What the kernel does with the sockets of the connections. Set once on the listening socket,
    /// from which Linux hands it down.
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> ListenOptions {
        self.socket = options;
        self
    }

    /// The limits of the listener's connections.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> ListenOptions {
        self.limits = limits;
        self
    }

    pub(crate) fn backlog_or_default(&self) -> u32 {
        self.backlog.unwrap_or(BACKLOG)
    }
}
