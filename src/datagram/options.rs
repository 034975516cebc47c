//! How a datagram socket is made.

use std::io;
use std::net::Ipv4Addr;

use crate::address::SocketAddress;
use crate::limits::DatagramLimits;
#[cfg(feature = "sim")]
use crate::socket_options::SocketOptions;
use crate::socket_options::check_buffer;

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

/// An interface that was named by an address of IPv4, for IPv6.
pub(crate) fn no_address_for_v6() -> io::Error {
    let message = "for IPv6 an interface is named by its number";
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// A socket for IPv6 only can join such a group on Linux, and then never hears it.
pub(crate) fn no_group_of_v4() -> io::Error {
    let message = "a socket for IPv6 only hears no group of IPv4";
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// How to bind a datagram socket. An option that cannot have its effect is an error when the socket is bound, and never
/// ignored: `Unsupported`, or `InvalidInput` if its value makes no sense.
///
/// ```
/// use oneloop::{DatagramLimits, DatagramOptions};
///
/// let options = DatagramOptions::new()
///     .connect("127.0.0.1:53".parse::<std::net::SocketAddr>()?)
///     .limits(DatagramLimits::new().queue_len_max(16));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DatagramOptions {
    pub(crate) connect: Option<SocketAddress>,
    pub(crate) broadcast: bool,
    pub(crate) multicast_ttl: Option<u8>,
    pub(crate) multicast_loop: Option<bool>,
    pub(crate) multicast_interface: Interface,
    pub(crate) receive_buffer_bytes: Option<usize>,
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) gather: bool,
    pub(crate) only_v6: bool,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) unix_mode: Option<u32>,
    pub(crate) replace_stale: bool,
    pub(crate) limits: DatagramLimits,
}

impl Default for DatagramOptions {
    fn default() -> DatagramOptions {
        DatagramOptions::new()
    }
}

impl DatagramOptions {
    /// The defaults.
    pub fn new() -> DatagramOptions {
        DatagramOptions {
            connect: None,
            broadcast: false,
            multicast_ttl: None,
            multicast_loop: None,
            multicast_interface: Interface::Any,
            receive_buffer_bytes: None,
            send_buffer_bytes: None,
            gather: false,
            only_v6: false,
            reuse_address: false,
            reuse_port: false,
            unix_mode: None,
            replace_stale: true,
            limits: DatagramLimits::new(),
        }
    }

    /// That each option can have its effect on a socket of such an address.
    pub(crate) fn check(&self, address: &SocketAddress) -> io::Result<()> {
        let is_unix = address.inet().is_none();
        let is_path = address.unix().is_some_and(|name| name.as_path().is_some());
        for (is_asked, name, fits) in [
            (self.broadcast, "broadcast", !is_unix),
            (self.multicast_ttl.is_some(), "multicast_ttl", !is_unix),
            (self.multicast_loop.is_some(), "multicast_loop", !is_unix),
            (self.multicast_interface != Interface::Any, "multicast_interface", !is_unix),
            // unix(7): it has none of its own, what waits counts for the sender.
            (self.receive_buffer_bytes.is_some(), "receive_buffer_bytes", !is_unix),
            (self.gather, "gather", !is_unix),
            (self.only_v6, "only_v6", !is_unix),
            (self.reuse_address, "reuse_address", !is_unix),
            (self.reuse_port, "reuse_port", !is_unix),
            (self.unix_mode.is_some(), "unix_mode", is_path),
        ] {
            if is_asked && !fits {
                let message = format!("{name} means nothing for {address}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        }
        check_buffer("receive_buffer_bytes", self.receive_buffer_bytes)?;
        check_buffer("send_buffer_bytes", self.send_buffer_bytes)
    }

    /// `Unsupported` if it was asked to gather.
    #[cfg(any(feature = "sim", not(all(feature = "udp-batch", target_os = "linux"))))]
    pub(crate) fn no_gathering(&self, place: &str) -> io::Result<()> {
        if self.gather {
            let message = format!("gather is not to be had {place}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    /// `Unsupported` if sizes of buffers were asked for.
    #[cfg(feature = "sim")]
    pub(crate) fn no_buffers(&self, place: &str) -> io::Result<()> {
        SocketOptions {
            receive_buffer_bytes: self.receive_buffer_bytes,
            send_buffer_bytes: self.send_buffer_bytes,
            ..SocketOptions::new()
        }
        .only(&[], place)
    }

    /// Connects the socket: it receives from this address only, [`send`](crate::DatagramSocket::send) goes
    /// there, and it is told when nobody is there (udp(7), unix(7)). No datagram is sent for that. What came before it was
    /// connected, in a moment after it was bound, is shown, from whomever.
    ///
    /// A Unix socket is connected to a socket, not to a name: when that is gone Linux throws away what has come from it and
    /// was not read yet, at the next send, which fails as `ConnectionRefused`; from then on the socket is not connected.
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
    /// `IPV6_MULTICAST_HOPS`). The system's default is 1: none, it stays in the local network. This and the next two
    /// hold for groups of both families, if the socket takes both.
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

    /// Through which interface it sends to multicast groups (`IP_MULTICAST_IF`). Default: as the routes say. An
    /// IPv6 socket, also one that takes both families, is to be given its number.
    #[must_use]
    pub fn multicast_interface(mut self, interface: Interface) -> DatagramOptions {
        self.multicast_interface = interface;
        self
    }

    /// How much may have come that nobody has received (socket(7), `SO_RCVBUF`), with the kernel's own bookkeeping on
    /// top, which for small datagrams is more than they are; what comes when that is full is lost, and nobody is
    /// told. The default, some 200 KiB on Linux, holds a few hundred small ones: raise it where bursts come. Linux takes
    /// at most `net.core.rmem_max` and says nothing; the reactor logs a warning then. `Unsupported` on a Unix socket,
    /// which has none of its own (unix(7)), and in the simulation, whose faults say how much fits.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> DatagramOptions {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// How much may have been sent that the network, or the receiver on a Unix socket, has not taken yet (socket(7),
    /// `SO_SNDBUF`); as [`receive_buffer_bytes`](Self::receive_buffer_bytes), with `net.core.wmem_max`. What does
    /// not fit waits in the socket's queue, and counts for its limits. On Linux it also bounds how large a datagram of a
    /// Unix socket may be. `Unsupported` in the simulation.
    ///
    /// What the receivers of a Unix socket have not read fills *its* buffer, each datagram with some 600 bytes on top: ten
    /// of each receiver (`net.unix.max_dgram_qlen`), but of one that is connected to this socket, as clients mostly
    /// are, as much as the buffer holds. When it is full nobody is sent anything, until somebody reads: what waits stands
    /// aside for [`send_timeout`](DatagramLimits::send_timeout), and is then dropped and told. So receivers that are slow
    /// delay others, and a few that never read, or a single one that is connected, can leave no room for them; nothing
    /// tells whose datagrams they are. A server for strangers uses streams, where each connection has a buffer of its own.
    #[must_use]
    pub fn send_buffer_bytes(mut self, bytes: usize) -> DatagramOptions {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// Whether the kernel hands over together what has come from one sender as neighbours of one length (GRO; udp(7),
    /// `UDP_GRO`): the handler is shown one datagram after the other, as ever, but up to 64 of them cost one call, and one
    /// way through the kernel. For sockets to which much comes from few, as in a transfer or a tunnel: a flow that was sent
    /// in batches took a tenth to two fifths of the processor time for each datagram to receive, and one that was sent one
    /// by one, where there is nothing to gather, up to a seventh more. Default no.
    ///
    /// `Unsupported` without the feature `udp-batch`, elsewhere than on Linux, and in the simulation. `InvalidInput` if
    /// [`read_buffer_bytes`](crate::ReactorLimits::read_buffer_bytes) is under 65,535: what is gathered would be cut.
    #[must_use]
    pub fn gather(mut self, yes: bool) -> DatagramOptions {
        self.gather = yes;
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

    /// The permissions of a Unix socket's path, at most 0o777: who may write to it may send to it (unix(7)). By
    /// default those that the umask leaves. The path has them as soon as anybody can send. For a socket without a path it
    /// is an error.
    #[must_use]
    pub fn unix_mode(mut self, mode: u32) -> DatagramOptions {
        self.unix_mode = Some(mode);
        self
    }

    /// Whether a Unix socket's path that no socket is bound to any more, because a process was killed, is taken over.
    /// Default yes, as for a listener: [`ListenOptions::replace_stale`](crate::ListenOptions::replace_stale) tells
    /// how that is found out, and of the file `.lock` beside the path, which stays. No: such a path is
    /// `AddrInUse`, and there is no lock; that is for clients which bind to a path of their own, so as to be
    /// answered.
    #[must_use]
    pub fn replace_stale(mut self, yes: bool) -> DatagramOptions {
        self.replace_stale = yes;
        self
    }

    /// The limits of the socket.
    #[must_use]
    pub fn limits(mut self, limits: DatagramLimits) -> DatagramOptions {
        self.limits = limits;
        self
    }
}
