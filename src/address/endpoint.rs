//! A host and a port.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::error::{Result, excerpt, fail};
use super::names::{ends_in_a_number, fault_of_host, fault_of_service, parse_scope};

/// The host and the port of a TCP or UDP address.
///
/// It comes out of an [`Address`](crate::Address) that was read, or from a [`SocketAddr`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    pub(super) host: Host,
    pub(super) port: Port,
}

/// Which host. Its [`Display`](std::fmt::Display) is what getaddrinfo(3) takes, except for [`All`](Host::All).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// `*`: all addresses of this machine, IPv6 and IPv4. There is nothing to connect to.
    All,
    /// An IP address.
    Ip(IpAddr),
    /// An IPv6 address, and the interface that it is to be reached through: its name (netdevice(7)) or, in
    /// decimal digits, its index.
    Scoped(Ipv6Addr, String),
    /// A name, to be looked up.
    Name(String),
}

/// Which port. Its [`Display`](std::fmt::Display) is what getaddrinfo(3) takes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Port {
    /// A port; 0 lets the kernel choose one to listen on.
    Number(u16),
    /// A service's name, to be looked up.
    Service(String),
}

impl Endpoint {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The one socket address that this is, if nothing is left to look up or to choose: neither for names,
    /// be it that of an interface, nor for `*`.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let Port::Number(port) = self.port else { return None };
        match &self.host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, port)),
            Host::Scoped(ip, scope) => {
                let index = scope.parse().ok()?;
                Some(SocketAddrV6::new(*ip, port, 0, index).into())
            }
            Host::All | Host::Name(_) => None,
        }
    }

    /// What is an address, or stands behind `udp://`.
    pub(super) fn parse(text: &str) -> Result<Endpoint> {
        if text.contains(',') {
            return fail("there is a ',': give several addresses one by one");
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => bracketed(rest)?,
            None => {
                let Some((name, port)) = text.rsplit_once(':') else { return colon_missing(text) };
                if name.contains(':') {
                    return too_many_colons(text, name, port);
                }
                (parse_host(name)?, port)
            }
        };
        Ok(Endpoint { host, port: parse_port(port)? })
    }
}

/// An IPv6 flow label is not part of the grammar, and lost.
impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                Host::Scoped(*v6.ip(), v6.scope_id().to_string())
            }
            _ => Host::Ip(address.ip()),
        };
        Endpoint { host, port: Port::Number(address.port()) }
    }
}

/// An IPv6 address and what stands behind its brackets, from behind the first one.
fn bracketed(rest: &str) -> Result<(Host, &str)> {
    let Some((inside, after)) = rest.split_once(']') else {
        return fail("']' is missing after the IPv6 address: [::1]:PORT");
    };
    let host = parse_ipv6(inside)?;
    match after.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if after.is_empty() => colon_missing(&format!("[{inside}]")),
        None => fail(format!("':' is missing between ']' and the port \"{}\"", excerpt(after))),
    }
}

fn colon_missing<T>(text: &str) -> Result<T> {
    if text.is_empty() {
        return fail(
            "host and port are missing: write HOST:PORT, such as 127.0.0.1:7000 or *:7000",
        );
    }
    let shown = excerpt(text);
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return fail(format!(
            "the host is missing: for port {shown} of all addresses write *:{shown}"
        ));
    }
    fail(format!("':' is missing between host and port: {shown}:PORT"))
}

/// Two colons or more, and no brackets.
fn too_many_colons<T>(text: &str, before: &str, port: &str) -> Result<T> {
    let is_ipv6 = |text: &str| {
        let (ip, _) = text.split_once('%').unwrap_or((text, ""));
        ip.parse::<Ipv6Addr>().is_ok()
    };
    if is_ipv6(before) {
        let (before, port) =
            (excerpt(before), excerpt(if port.is_empty() { "PORT" } else { port }));
        fail(format!("an IPv6 address needs brackets: [{before}]:{port}"))
    } else if is_ipv6(text) {
        fail(format!("an IPv6 address needs brackets: [{}]:PORT", excerpt(text)))
    } else {
        let shown = excerpt(before);
        fail(format!("the host \"{shown}\" has a ':': IPv6 addresses go into brackets, [::1]:PORT"))
    }
}

fn parse_ipv6(text: &str) -> Result<Host> {
    let (ip, scope) = match text.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope)),
        None => (text, None),
    };
    let Ok(ip) = ip.parse::<Ipv6Addr>() else {
        return fail(format!("\"{}\" in the brackets is no IPv6 address", excerpt(ip)));
    };
    match scope {
        Some(scope) => Ok(Host::Scoped(ip, parse_scope(scope)?)),
        None => Ok(Host::Ip(ip.into())),
    }
}

fn parse_host(text: &str) -> Result<Host> {
    if text.is_empty() {
        return fail("the host before ':' is missing: for all addresses write *");
    }
    if text == "*" {
        return Ok(Host::All);
    }
    if let Ok(ip) = text.parse() {
        return Ok(Host::Ip(ip));
    }
    if ends_in_a_number(text) {
        let shown = excerpt(text);
        return fail(format!(
            "the host \"{shown}\" is no IPv4 address: that is four numbers from 0 to 255 without leading zeros"
        ));
    }
    if let Some(fault) = fault_of_host(text) {
        return fail(format!("the host \"{}\" {fault}", excerpt(text)));
    }
    Ok(Host::Name(text.into()))
}

fn parse_port(text: &str) -> Result<Port> {
    if text.is_empty() {
        return fail("the port after ':' is missing");
    }
    let shown = excerpt(text);
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse() {
            Ok(port) => Ok(Port::Number(port)),
            Err(_) => fail(format!("port {shown} is over {}", u16::MAX)),
        };
    }
    match fault_of_service(text) {
        Some(fault) => fail(format!(
            "port \"{shown}\" is neither a number nor the name of a service, because it {fault}"
        )),
        None => Ok(Port::Service(text.into())),
    }
}
