//! Addresses as people write them: one grammar for the library, the program and configuration files.
//!
//! | text | is |
//! |---|---|
//! | `127.0.0.1:7000` | TCP over IPv4 |
//! | `[::1]:7000` | TCP over IPv6 |
//! | `[fe80::1%eth0]:7000` | the same through one interface, which has a name or a number (RFC 4007) |
//! | `*:7000` | TCP on all addresses of this machine, IPv6 and IPv4 |
//! | `localhost:7000` | TCP, with a host's name |
//! | `localhost:http` | the same, with a service's name (services(5)); names of services go with every host |
//! | `tcp://HOST:PORT` | TCP, said aloud: for a host whose name is that of a kind, `tcp://unix:7000` |
//! | `udp://HOST:PORT` | UDP, with all that TCP may have: `udp://127.0.0.1:53`, `udp://*:domain` |
//! | `unix:/run/app.sock` | a Unix stream socket with a path, absolute or relative |
//! | `unix:@app` | one with an abstract name (Linux, unix(7)) |
//! | `unixgram:/dev/log` | a Unix datagram socket; `unixgram:@name` too |
//! | `fd:3` | a socket that the process inherited, by its descriptor |
//! | `systemd:http` | one of systemd's, by its name (`FileDescriptorName=` in systemd.socket(5)) |
//!
//! The kind before the colon may be in capitals or not; hosts, services and names are kept as they are written.
//! A host's name is one of RFC 1123, and a service's has letters, digits and hyphens as in RFC 6335; `_` is tolerated
//! in both, because networks and services(5) files have such names. What ends like an IPv4 address must be one:
//! `127.1` and `0x7f.0.0.1` are refused, although getaddrinfo(3) takes them.
//!
//! In paths and abstract names `%` and two hexadecimal digits are a byte, so that every name of up to 107 bytes can be
//! written that the kernel takes: `%25` is the percent sign, `%00` a NUL in an abstract name, `%ff` a byte that is no UTF-8.
//! [`Display`](std::fmt::Display) writes blanks, control characters and what is no UTF-8 in that way.
//!
//! There are no lists: several addresses are several values. A comma is refused with that advice, except in paths
//! and names, where it may stand for itself.
//!
//! Reading an address asks the system nothing. Whether a host's name exists, or a descriptor is open, is seen when
//! the address is used.
//!
//! ```
//! use oneloop::Address;
//!
//! let address: Address = "[::1]:http".parse()?;
//! let Address::Tcp(endpoint) = &address else { unreachable!() };
//! assert_eq!(endpoint.socket_addr(), None); // the service must be looked up
//! assert_eq!(address.to_string(), "[::1]:http");
//!
//! let error = "127.0.0.1:70000".parse::<Address>().unwrap_err();
//! assert_eq!(error.to_string(), "port 70000 is over 65535");
//! # Ok::<(), oneloop::address::AddressError>(())
//! ```

mod display;
mod endpoint;
mod error;
mod into;
mod look_up;
mod names;
mod parse;
mod socket;
mod unix;

use std::net::SocketAddr;

pub use self::endpoint::{Endpoint, Host, Port};
pub use self::error::AddressError;
pub use self::into::IntoAddress;
pub use self::socket::SocketAddress;
pub use self::unix::UnixName;

/// Where to listen, or what to connect to.
///
/// It is read with [`FromStr`](std::str::FromStr) and written with [`Display`](std::fmt::Display); what is
/// written is read as an equal address, whatever it is. The [module](self) has the grammar.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Address {
    /// A TCP socket: `127.0.0.1:7000`, `*:7000`, `localhost:http`.
    Tcp(Endpoint),
    /// A UDP socket: `udp://127.0.0.1:53`.
    Udp(Endpoint),
    /// A Unix stream socket: `unix:/run/app.sock`, `unix:@app`.
    Unix(UnixName),
    /// A Unix datagram socket: `unixgram:/dev/log`.
    UnixDatagram(UnixName),
    /// The inherited descriptor of that number, `fd:3`. What kind of socket it is, the socket knows.
    Fd(u32),
    /// The inherited socket that systemd calls so, `systemd:http`.
    Systemd(SocketName),
}

/// TCP. An IPv6 flow label is not part of the grammar, and lost.
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address.into())
    }
}

/// A name by which systemd passes a socket on (sd_listen_fds_with_names(3)): at most 255 printable ASCII
/// characters without a colon.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SocketName(String);

impl SocketName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
