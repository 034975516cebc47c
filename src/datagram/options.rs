//! How a datagram socket is made.

use std::io;
use std::net::Ipv4Addr;

use crate::address::SocketAddress;
use crate::limits::DatagramLimits;

/// A network interface, for multicast.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Interface {
    /// The one that the kernel chooses by its routes.
    #[default]
    Any,
    /// The one that has this address; for IPv4 groups only.
    Address(Ipv4Addr),
    /// The one of this number (if_nametoindex(3), `ip link`).
    Index(u32),
}

/// How to bind a datagram socket.
///
/// ```
/// use oneloop::{DatagramLimits, DatagramOptions};
///
/// let options = DatagramOptions::new()
///     .connect("127.0.0.1:53".parse::<std::net::SocketAddr>()?)
///     .limits(DatagramLimits::new().queue_len_max(16));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct DatagramOptions {
    pub(crate) connect: Option<SocketAddress>,
    pub(crate) broadcast: bool,
    pub(crate) multicast_ttl: Option<u8>,
    pub(crate) multicast_loop: Option<bool>,
    pub(crate) multicast_interface: Interface,
    pub(crate) only_v6: bool,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) limits: DatagramLimits,
}

impl DatagramOptions {
    /// The defaults.
    pub fn new() -> DatagramOptions {
        DatagramOptions::default()
    }

    /// That each option can have its effect on a socket of such an address.
    pub(crate) fn check(&self, address: &SocketAddress) -> io::Result<()> {
        if address.inet().is_some() {
            return Ok(());
        }
        for (is_asked, name) in [
            (self.broadcast, "broadcast"),
            (self.multicast_ttl.is_some(), "multicast_ttl"),
            (self.multicast_loop.is_some(), "multicast_loop"),
            (self.only_v6, "only_v6"),
            (self.reuse_address, "reuse_address"),
            (self.reuse_port, "reuse_port"),
        ] {
            if is_asked {
                let message = format!("{name} means nothing for {address}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        }
        Ok(())
    }

    /// Connects the socket: it receives from this address only, [`send`](crate::DatagramSocket::send) goes
    /// there, and it is told when nobody is there (udp(7), unix(7)). No datagram is sent for that.
    #[must_use]
    pub fn connect(mut self, peer: impl Into<SocketAddress>) -> DatagramOptions {
        self.connect = Some(peer.into());
        self
    }

    /// Whether it may send to broadcast addresses (socket(7), `SO_BROADCAST`). Default no: it fails as
    /// `PermissionDenied`.
    #[must_use]
    pub fn broadcast(mut self, yes: bool) -> DatagramOptions {
        self.broadcast = yes;
        self
    }

    /// How many routers may pass on what it sends to multicast groups (ip(7), `IP_MULTICAST_TTL`; ipv6(7),
    /// `IPV6_MULTICAST_HOPS`). The system's default is 1: none, it stays in the local network.
    #[must_use]
    pub fn multicast_ttl(mut self, hops: u8) -> DatagramOptions {
        self.multicast_ttl = Some(hops);
        self
    }

    /// Whether what it sends to multicast groups comes to members on this machine, too
    /// (`IP_MULTICAST_LOOP`). The system's default is yes.
    #[must_use]
    pub fn multicast_loop(mut self, yes: bool) -> DatagramOptions {
        self.multicast_loop = Some(yes);
        self
    }

    /// Through which interface it sends to multicast groups (`IP_MULTICAST_IF`). Default: as the routes say.
    #[must_use]
    pub fn multicast_interface(mut self, interface: Interface) -> DatagramOptions {
        self.multicast_interface = interface;
        self
    }

    /// Whether an IPv6 address takes IPv6 only (ipv6(7), `IPV6_V6ONLY`). Default no: a socket on `[::]`
    /// takes both, and IPv4 senders show as `::ffff:a.b.c.d`.
    #[must_use]
    pub fn only_v6(mut self, yes: bool) -> DatagramOptions {
        self.only_v6 = yes;
        self
    }

    /// Whether several sockets may be bound to the same address and port, each of which says so (socket(7),
    /// `SO_REUSEADDR`): all of them get what is sent to a multicast group, the last one what is sent to
    /// it alone. Default no.
    #[must_use]
    pub fn reuse_address(mut self, yes: bool) -> DatagramOptions {
        self.reuse_address = yes;
        self
    }

    /// Whether several sockets share the port, and the kernel spreads the senders over them (socket(7),
    /// `SO_REUSEPORT`). Default no. Not on macOS, whose kernel has one of them take all, and not on Windows.
    #[must_use]
    pub fn reuse_port(mut self, yes: bool) -> DatagramOptions {
        self.reuse_port = yes;
        self
    }

    /// The limits of the socket.
    #[must_use]
    pub fn limits(mut self, limits: DatagramLimits) -> DatagramOptions {
        self.limits = limits;
        self
    }
}
