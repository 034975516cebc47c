//! What stands for an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::error::{Result, fail};
use super::{Address, Endpoint, SocketAddress, UnixName};

/// What stands for an [`Address`]: a text in its [grammar](crate::address), a socket address, an IP address or a
/// host's name with a port, or the address itself.
pub trait IntoAddress {
    /// The address. Nothing is looked up.
    ///
    /// # Errors
    ///
    /// A text is no address; a socket has no name.
    fn into_address(self) -> Result<Address>;
}

impl IntoAddress for Address {
    fn into_address(self) -> Result<Address> {
        Ok(self)
    }
}

impl IntoAddress for &Address {
    fn into_address(self) -> Result<Address> {
        Ok(self.clone())
    }
}

impl IntoAddress for &str {
    fn into_address(self) -> Result<Address> {
        self.parse()
    }
}

impl IntoAddress for String {
    fn into_address(self) -> Result<Address> {
        self.parse()
    }
}

impl IntoAddress for &String {
    fn into_address(self) -> Result<Address> {
        self.parse()
    }
}

/// TCP.
impl IntoAddress for SocketAddr {
    fn into_address(self) -> Result<Address> {
        Ok(self.into())
    }
}

/// TCP.
impl IntoAddress for SocketAddrV4 {
    fn into_address(self) -> Result<Address> {
        SocketAddr::from(self).into_address()
    }
}

/// TCP.
impl IntoAddress for SocketAddrV6 {
    fn into_address(self) -> Result<Address> {
        SocketAddr::from(self).into_address()
    }
}

/// TCP.
impl IntoAddress for (IpAddr, u16) {
    fn into_address(self) -> Result<Address> {
        SocketAddr::from(self).into_address()
    }
}

/// TCP.
impl IntoAddress for (Ipv4Addr, u16) {
    fn into_address(self) -> Result<Address> {
        SocketAddr::from(self).into_address()
    }
}

/// TCP.
impl IntoAddress for (Ipv6Addr, u16) {
    fn into_address(self) -> Result<Address> {
        SocketAddr::from(self).into_address()
    }
}

/// TCP: what may stand before the colon of an address, and an IPv6 address without brackets.
impl IntoAddress for (&str, u16) {
    fn into_address(self) -> Result<Address> {
        let (host, port) = self;
        let is_ipv6 = host.contains(':');
        let text = if is_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Endpoint::parse(&text).map(Address::Tcp)
    }
}

/// A Unix stream socket.
impl IntoAddress for UnixName {
    fn into_address(self) -> Result<Address> {
        Ok(Address::Unix(self))
    }
}

/// TCP, or a Unix stream socket.
impl IntoAddress for SocketAddress {
    fn into_address(self) -> Result<Address> {
        match self {
            SocketAddress::Inet(address) => address.into_address(),
            SocketAddress::Unix(name) => name.into_address(),
            SocketAddress::Unnamed => fail("a socket without a name has no address"),
        }
    }
}
