//! The names in an address, looked up: getaddrinfo(3).

use std::io;
use std::net::SocketAddr;

use super::{Address, Endpoint, Host, Port};

/// Whose names of services are meant: `domain` is one of both, `http` of TCP.
#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp,
    Udp,
}

impl Address {
    /// The socket addresses that a TCP or UDP address stands for, at least one, in the order in which the system
    /// has them: the first is the best to connect to.
    ///
    /// ```
    /// use oneloop::Address;
    ///
    /// let address: Address = "[::1]:7000".parse()?;
    /// assert_eq!(address.look_up()?, ["[::1]:7000".parse()?]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of getaddrinfo(3); with the feature `names` it is `NotFound` that there is no such host or service, and in any
    /// case that there is no such interface.
    /// `InvalidInput` for `*`, which is no single host, and for what is neither TCP nor
    /// UDP; `Unsupported` for the name of a service, without the feature `names`.
    ///
    /// # Cost
    ///
    /// Names, also those of interfaces, are looked up, which blocks for as long as the system takes: nothing for
    /// a callback. Numbers ask nobody.
    pub fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Address::Tcp(endpoint) => look_up(endpoint, Transport::Tcp),
            Address::Udp(endpoint) => look_up(endpoint, Transport::Udp),
            _ => Err(invalid("it has no host to look up")),
        }
    }
}

impl Endpoint {
    /// The port, by itself, as TCP has it.
    pub(crate) fn look_up_tcp_port(&self) -> io::Result<u16> {
        self.look_up_port(Transport::Tcp)
    }

    /// ... and as UDP has it.
    pub(crate) fn look_up_udp_port(&self) -> io::Result<u16> {
        self.look_up_port(Transport::Udp)
    }

    fn look_up_port(&self, transport: Transport) -> io::Result<u16> {
        match &self.port {
            Port::Number(port) => Ok(*port),
            Port::Service(_) => {
                let found = system::look_up(None, &self.port, transport)?;
                found.first().map(SocketAddr::port).ok_or_else(nothing)
            }
        }
    }
}

fn look_up(endpoint: &Endpoint, transport: Transport) -> io::Result<Vec<SocketAddr>> {
    if let Some(address) = endpoint.socket_addr() {
        return Ok(vec![address]);
    }
    if endpoint.host == Host::All {
        return Err(invalid("'*' stands for all addresses, and not for one"));
    }
    let host = endpoint.host.to_string();
    let found = system::look_up(Some(&host), &endpoint.port, transport).map_err(|error| {
        let is_there = || system::look_up(Some(&host), &Port::Number(0), transport).is_ok();
        match &endpoint.host {
            Host::Scoped(_, interface) if !is_there() => no_interface(interface),
            _ => error,
        }
    })?;
    if found.is_empty() { Err(nothing()) } else { Ok(found) }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The only thing that such an address has to be looked up for.
fn no_interface(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("this machine has no interface \"{name}\""))
}

fn nothing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name stands for no address")
}

#[cfg(feature = "names")]
mod system {
    use std::io;
    use std::net::SocketAddr;

    use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};

    use super::Transport;
    use crate::address::Port;

    pub(super) fn look_up(
        host: Option<&str>,
        port: &Port,
        transport: Transport,
    ) -> io::Result<Vec<SocketAddr>> {
        let (socktype, protocol) = match transport {
            Transport::Tcp => (SockType::Stream, "TCP"),
            Transport::Udp => (SockType::DGram, "UDP"),
        };
        let hints = AddrInfoHints { socktype: socktype.into(), ..AddrInfoHints::default() };
        let port = port.to_string();
        match getaddrinfo(host, Some(&port), Some(hints)) {
            Ok(found) => found.map(|info| info.map(|info| info.sockaddr)).collect(),
            Err(error) if matches!(error.kind(), LookupErrorKind::Service) => {
                let message = format!("there is no {protocol} service \"{port}\" (services(5))");
                Err(io::Error::new(io::ErrorKind::NotFound, message))
            }
            Err(error)
                if matches!(error.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData) =>
            {
                Err(io::Error::new(io::ErrorKind::NotFound, error))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The standard library looks up hosts, and no services.
#[cfg(not(feature = "names"))]
mod system {
    use std::io;
    use std::net::{SocketAddr, ToSocketAddrs};

    use super::Transport;
    use crate::address::Port;

    pub(super) fn look_up(
        host: Option<&str>,
        port: &Port,
        _: Transport,
    ) -> io::Result<Vec<SocketAddr>> {
        match (host, port) {
            (Some(host), Port::Number(port)) => Ok((host, *port).to_socket_addrs()?.collect()),
            _ => {
                let message = format!(
                    "the name of a service, \"{port}\", needs oneloop's feature \"names\", or write its number"
                );
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }
}
