//! Where servers are: on the command line, and in what they say of themselves.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};
use oneloop::{Address, SocketAddress};

/// A server's address, and what it takes there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Stream(SocketAddress),
    Datagram(SocketAddress),
}

impl Place {
    /// The place to connect to: of a name the first address that accepts a connection, in the order that the system
    /// gives them, or the first one if none does. Looking up blocks, and so does trying.
    ///
    /// # Errors
    ///
    /// A name that cannot be looked up, all addresses, or a socket that was passed on.
    pub(crate) fn to_connect_to(address: &Address) -> Result<Place> {
        match address {
            Address::Tcp(_) => Ok(Place::Stream(first_that_accepts(&address.look_up()?).into())),
            Address::Udp(_) => Ok(Place::Datagram(address.look_up()?[0].into())),
            Address::Unix(name) => Ok(Place::Stream(name.clone().into())),
            Address::UnixDatagram(name) => Ok(Place::Datagram(name.clone().into())),
            _ => bail!("a socket that was passed on is no place to connect to"),
        }
    }

    /// The place in a word of a server, with loopback for "any address"; `None` if it is something else, or
    /// would have to be looked up.
    pub(crate) fn parse_said(word: &str) -> Option<Place> {
        let address: Address = word.parse().ok()?;
        match &address {
            Address::Tcp(endpoint) => {
                Some(Place::Stream(with_loopback(endpoint.socket_addr()?).into()))
            }
            Address::Udp(endpoint) => {
                Some(Place::Datagram(with_loopback(endpoint.socket_addr()?).into()))
            }
            _ => Place::to_connect_to(&address).ok(),
        }
    }

    pub(crate) fn is_datagram(&self) -> bool {
        matches!(self, Place::Datagram(_))
    }

    pub(crate) fn address(&self) -> &SocketAddress {
        match self {
            Place::Stream(address) | Place::Datagram(address) => address,
        }
    }
}

fn first_that_accepts(addresses: &[SocketAddr]) -> SocketAddr {
    const PATIENCE: Duration = Duration::from_secs(1);
    let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, PATIENCE).is_ok();
    match addresses {
        [only] => *only,
        several => *several.iter().find(accepts).unwrap_or(&several[0]),
    }
}

fn with_loopback(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// As [`Address`] is written.
impl Display for Place {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Place::Datagram(SocketAddress::Inet(address)) => write!(formatter, "udp://{address}"),
            Place::Datagram(SocketAddress::Unix(name)) => write!(formatter, "unixgram:{name}"),
            Place::Stream(address) | Place::Datagram(address) => address.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn to_connect_to(text: &str) -> Result<Place> {
        Place::to_connect_to(&text.parse().unwrap())
    }

    #[test]
    fn a_name_is_looked_up() {
        let place = to_connect_to("localhost:http").unwrap();
        let address = place.address().inet().unwrap();
        assert!(address.ip().is_loopback() && address.port() == 80, "{address}");
    }

    #[test]
    fn of_several_addresses_it_is_the_first_that_accepts() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        // Nobody listens at the same port of another address of this machine, but for all of them.
        let nobody = SocketAddr::from(([127, 0, 0, 2], address.port()));
        assert_eq!(first_that_accepts(&[nobody, address]), address);
        assert_eq!(first_that_accepts(&[nobody, nobody]), nobody);
    }

    #[test]
    fn a_place_is_written_as_it_is_read() {
        for text in
            ["127.0.0.1:7000", "udp://[::1]:53", "unix:/run/app.sock", "unix:@app", "unixgram:@app"]
        {
            assert_eq!(to_connect_to(text).unwrap().to_string(), text);
            assert_eq!(Place::parse_said(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for (text, part) in [
            ("*:7000", "'*' stands for all addresses"),
            ("fd:3", "a socket that was passed on is no place to connect to"),
            ("systemd:echo", "a socket that was passed on is no place to connect to"),
            ("127.0.0.1:no-such", "there is no TCP service \"no-such\""),
        ] {
            let error = to_connect_to(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_a_server_says_is_not_looked_up() {
        for word in ["localhost:80", "127.0.0.1:http", "fd:3", "port:7000", "hello"] {
            assert_eq!(Place::parse_said(word), None, "{word}");
        }
        assert_eq!(Place::parse_said("udp://0.0.0.0:9").unwrap().to_string(), "udp://127.0.0.1:9");
        assert_eq!(Place::parse_said("[::]:9").unwrap().to_string(), "[::1]:9");
    }
}
