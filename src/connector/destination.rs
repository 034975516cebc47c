//! Where to connect to.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::address::{Address, Endpoint, Host, SocketAddress, UnixName};

/// Where to connect to, for [`Context::connect`](crate::Context::connect). It is made from:
///
/// | of | connects to |
/// |---|---|
/// | a `SocketAddr`, a [`SocketAddress`], a [`UnixName`] | that |
/// | an [`Address`] with numbers only | that |
/// | an [`Address`] with a name, of a host, service or interface | whatever of that name answers first: it is looked up off the loop |
/// | several `SocketAddr`s, the best one first | whichever answers first |
///
/// Of several addresses the first one is tried first, and whenever 250 ms have passed without an answer, or one has
/// failed, the next one as well; IPv6 and IPv4 take turns (RFC 8305, "Happy Eyeballs"). The first that is
/// connected is the connection, and the others are closed. At most 8 are under way at once, and at most 64
/// are tried. If all fail, the reason is the most telling one: that one refused rather than that there is no
/// way to another. (The 50 ms for which RFC 8305 waits for a second answer of the DNS have no place here:
/// getaddrinfo(3) gives the addresses of both families together.)
///
/// What is nothing to connect to (`*:7000`, a datagram socket, an inherited one, no address at all) fails as
/// [`Io`](crate::ConnectError::Io)`(`[`InvalidInput`](std::io::ErrorKind::InvalidInput)`)`.
#[derive(Clone, Debug)]
pub struct Destination(pub(super) Place);

#[derive(Clone, Debug)]
pub(super) enum Place {
    One(SocketAddress),
    Several(Rc<[SocketAddr]>),
    /// It goes to another thread.
    Name(Arc<Endpoint>),
    /// There is nothing to connect to.
    Nowhere(Rc<Address>),
}

impl From<SocketAddress> for Destination {
    fn from(address: SocketAddress) -> Destination {
        Destination(Place::One(address))
    }
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Destination {
        SocketAddress::from(address).into()
    }
}

impl From<UnixName> for Destination {
    fn from(name: UnixName) -> Destination {
        SocketAddress::from(name).into()
    }
}

impl From<Address> for Destination {
    fn from(address: Address) -> Destination {
        Destination(match address {
            Address::Tcp(endpoint) if *endpoint.host() != Host::All => {
                match endpoint.socket_addr() {
                    Some(address) => Place::One(address.into()),
                    None => Place::Name(Arc::new(endpoint)),
                }
            }
            Address::Unix(name) => Place::One(name.into()),
            address => Place::Nowhere(Rc::new(address)),
        })
    }
}

impl From<&Address> for Destination {
    fn from(address: &Address) -> Destination {
        address.clone().into()
    }
}

impl From<&[SocketAddr]> for Destination {
    fn from(addresses: &[SocketAddr]) -> Destination {
        Destination(Place::Several(addresses.into()))
    }
}

impl From<Vec<SocketAddr>> for Destination {
    fn from(addresses: Vec<SocketAddr>) -> Destination {
        Destination(Place::Several(addresses.into()))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::One(address) => write!(f, "{address}"),
            Place::Several(addresses) => write!(f, "any of {addresses:?}"),
            Place::Name(endpoint) => write!(f, "{endpoint}"),
            Place::Nowhere(address) => write!(f, "{address}"),
        }
    }
}
