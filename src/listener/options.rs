//! How to listen.

use std::io;

use crate::address::SocketAddress;
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
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Unless it was said, an inherited socket keeps the one that it has.
    pub(crate) backlog: Option<u32>,
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    pub(crate) unix_mode: Option<u32>,
    pub(crate) replace_stale: bool,
    pub(crate) socket: SocketOptions,
    pub(crate) limits: Limits,
}

const BACKLOG: u32 = 4096;

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions::new()
    }
}

impl ListenOptions {
    /// The defaults.
    pub fn new() -> ListenOptions {
        ListenOptions {
            backlog: None,
            reuse_port: false,
            only_v6: false,
            unix_mode: None,
            replace_stale: true,
            socket: SocketOptions::new(),
            limits: Limits::new(),
        }
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
    /// them (socket(7), `SO_REUSEPORT`). Default no. Closing one of them resets what is in its queue. Not on macOS, whose
    /// kernel has one of them take all, and not on Windows.
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

    /// The permissions of a Unix socket's path, at most 0o777: who may write to it may connect (unix(7)). By
    /// default those that the umask leaves. The path has them as soon as anybody can connect. For an
    /// abstract name, which has none, it is an error: everybody in the network namespace may connect there, and
    /// [`Peer::credentials`](crate::Peer::credentials) tells who does.
    #[must_use]
    pub fn unix_mode(mut self, mode: u32) -> ListenOptions {
        self.unix_mode = Some(mode);
        self
    }

    /// Whether a Unix socket's path that nobody listens on any more, because a process was killed, is taken over.
    /// Default yes. Whether somebody listens is found out by connecting; and against others that start at the same
    /// moment a file beside the path is locked as long as the listener is open, `/run/app.sock.lock` for
    /// `/run/app.sock`, which stays. It is the user's who listened first, and nobody else's (mode 0600), so that no
    /// stranger can hold the lock: for a server that gets another user, remove it. No: such a path is `AddrInUse`, and
    /// there is no lock.
    ///
    /// Elsewhere than on Linux who listens and has a full backlog looks like nobody: there a path is taken from another
    /// program that knows nothing of the lock.
    #[must_use]
    pub fn replace_stale(mut self, yes: bool) -> ListenOptions {
        self.replace_stale = yes;
        self
    }

    /// The limits of the listener's connections.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> ListenOptions {
        self.limits = limits;
        self
    }

    /// That each option can have its effect on a socket of such an address.
    pub(crate) fn check(&self, address: &SocketAddress) -> io::Result<()> {
        let is_unix = address.inet().is_none();
        let is_path = address.unix().is_some_and(|name| name.as_path().is_some());
        for (is_asked, name, fits) in [
            (self.reuse_port, "reuse_port", !is_unix),
            (self.only_v6, "only_v6", !is_unix),
            (self.unix_mode.is_some(), "unix_mode", is_path),
        ] {
            if is_asked && !fits {
                let message = format!("{name} means nothing for {address}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        }
        Ok(())
    }

    pub(crate) fn backlog_or_default(&self) -> u32 {
        self.backlog.unwrap_or(BACKLOG)
    }
}
