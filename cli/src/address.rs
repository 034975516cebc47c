//! Addresses on the command line: the library's grammar, and the names in it looked up.
//!
//! Looking up blocks. It is done before the loop begins.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Result, bail, ensure};
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use oneloop::Address;
use oneloop::address::{Endpoint, Host, Port};

/// The socket addresses to listen on, of which the first that can be bound is meant.
///
/// # Errors
///
/// A name that cannot be looked up, or a kind of address that is not served.
pub(crate) fn to_listen_on(address: &Address) -> Result<Vec<SocketAddr>> {
    let endpoint = tcp(address)?;
    match endpoint.host() {
        Host::All => Ok(vec![all(port(endpoint.port())?)]),
        _ => look_up(endpoint),
    }
}

/// The socket address to connect to: the first, in the order that the system gives them.
///
/// # Errors
///
/// As [`to_listen_on`]; and all addresses are none to connect to.
pub(crate) fn to_connect_to(address: &Address) -> Result<SocketAddr> {
    let endpoint = tcp(address)?;
    ensure!(*endpoint.host() != Host::All, "'*' stands for all addresses: name one to connect to");
    Ok(look_up(endpoint)?[0])
}

/// The one place that knows what the program can serve.
fn tcp(address: &Address) -> Result<&Endpoint> {
    match address {
        Address::Tcp(endpoint) => Ok(endpoint),
        Address::Udp(_) => bail!("UDP is not served yet, only TCP"),
        Address::Unix(_) => bail!("Unix sockets are not connected to yet, only TCP"),
        Address::UnixDatagram(_) => bail!("Unix datagram sockets are not served yet, only streams"),
        Address::Fd(_) | Address::Systemd(_) => {
            bail!("inherited sockets are not served yet, only TCP addresses")
        }
        _ => bail!("this kind of address is not served yet, only TCP"),
    }
}

/// The unspecified IPv6 address takes IPv4 clients, too. It is not to be had where the kernel has no IPv6.
fn all(port: u16) -> SocketAddr {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
        Err(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
    }
}

fn port(port: &Port) -> Result<u16> {
    match port {
        Port::Number(number) => Ok(*number),
        Port::Service(name) => Ok(info(None, name)?[0].port()),
    }
}

fn look_up(endpoint: &Endpoint) -> Result<Vec<SocketAddr>> {
    match endpoint.socket_addr() {
        Some(address) => Ok(vec![address]),
        None => info(Some(&endpoint.host().to_string()), &endpoint.port().to_string()),
    }
}

/// getaddrinfo(3). At least one address.
fn info(host: Option<&str>, service: &str) -> Result<Vec<SocketAddr>> {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = match getaddrinfo(host, Some(service), Some(hints)) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), LookupErrorKind::Service) => {
            bail!("there is no TCP service \"{service}\" (services(5))")
        }
        Err(error) => bail!(io::Error::from(error)),
    };
    let mut addresses = Vec::new();
    for info in found {
        addresses.push(info?.sockaddr);
    }
    ensure!(!addresses.is_empty(), "the name stands for no address");
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_connect_to(text: &str) -> Result<SocketAddr> {
        super::to_connect_to(&text.parse().unwrap())
    }

    fn to_listen_on(text: &str) -> Result<Vec<SocketAddr>> {
        super::to_listen_on(&text.parse().unwrap())
    }

    #[test]
    fn numbers_are_not_looked_up() {
        for text in ["127.0.0.1:7000", "[::1]:7000", "[fe80::1%3]:7000"] {
            let address = text.parse().unwrap();
            assert_eq!(to_connect_to(text).unwrap(), address);
            assert_eq!(to_listen_on(text).unwrap(), [address]);
        }
    }

    #[test]
    fn names_of_hosts_services_and_interfaces_are_looked_up() {
        let address = to_connect_to("localhost:http").unwrap();
        assert!(address.ip().is_loopback() && address.port() == 80, "{address}");
        assert_eq!(to_connect_to("[::1]:http").unwrap(), "[::1]:80".parse().unwrap());
        assert_eq!(to_listen_on("*:http").unwrap()[0].port(), 80);
        let scoped = to_connect_to("[fe80::1%lo]:7").unwrap();
        assert!(matches!(scoped, SocketAddr::V6(v6) if v6.scope_id() > 0), "{scoped}");
    }

    #[test]
    fn what_has_no_address_is_refused() {
        for (text, part) in [
            ("*:7000", "'*' stands for all addresses"),
            ("udp://127.0.0.1:53", "UDP is not served yet"),
            ("unix:/run/app.sock", "Unix sockets are not connected to yet"),
            ("unixgram:@app", "Unix datagram sockets are not served yet"),
            ("fd:3", "inherited sockets are not served yet"),
            ("systemd:http", "inherited sockets are not served yet"),
            ("127.0.0.1:no-such", "there is no TCP service \"no-such\""),
            ("[fe80::1%none]:80", "failed to lookup"),
        ] {
            let error = to_connect_to(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
