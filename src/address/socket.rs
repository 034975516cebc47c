//! What a socket is bound or connected to.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::UnixName;

/// The address of one end of a connection, as the kernel has it (getsockname(2), getpeername(2)): nothing in it has
/// to be looked up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SocketAddress {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A Unix socket that has a name.
    Unix(UnixName),
    /// A Unix socket without one, as most clients' are, or a pipe.
    Unnamed,
}

impl SocketAddress {
    /// The IP address and the port, if it has them.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            SocketAddress::Inet(address) => Some(*address),
            _ => None,
        }
    }

    /// The IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.inet().map(|address| address.ip())
    }

    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        self.inet().map(|address| address.port())
    }

    /// The Unix socket's name, if it has one.
    pub fn unix(&self) -> Option<&UnixName> {
        match self {
            SocketAddress::Unix(name) => Some(name),
            _ => None,
        }
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> SocketAddress {
        SocketAddress::Inet(address)
    }
}

impl From<UnixName> for SocketAddress {
    fn from(name: UnixName) -> SocketAddress {
        SocketAddress::Unix(name)
    }
}

impl PartialEq<SocketAddr> for SocketAddress {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.inet() == Some(*other)
    }
}

/// For what the standard library connects to: `TcpStream::connect(reactor.listener_address(listener)?)`.
///
/// # Errors
///
/// `InvalidInput` if it is a Unix socket's.
impl ToSocketAddrs for SocketAddress {
    type Iter = std::option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let message = || format!("{self} is not an IP address and a port");
        let error = || io::Error::new(io::ErrorKind::InvalidInput, message());
        Ok(Some(self.inet().ok_or_else(error)?).into_iter())
    }
}

/// As [`Address`](super::Address) has it, but for what has no name.
impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketAddress::Inet(address) => write!(f, "{address}"),
            SocketAddress::Unix(name) => write!(f, "unix:{name}"),
            SocketAddress::Unnamed => f.write_str("an unnamed Unix socket"),
        }
    }
}
