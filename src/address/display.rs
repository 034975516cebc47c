//! Addresses written as they are read.

use std::fmt;

use super::parse::is_kind;
use super::unix::Name;
use super::{Address, Endpoint, Host, Port, SocketName, UnixName};

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(endpoint) => match &endpoint.host {
                Host::Name(name) if is_kind(name) => write!(f, "tcp://{endpoint}"),
                _ => write!(f, "{endpoint}"),
            },
            Address::Udp(endpoint) => write!(f, "udp://{endpoint}"),
            Address::Unix(name) => write!(f, "unix:{name}"),
            Address::UnixDatagram(name) => write!(f, "unixgram:{name}"),
            Address::Fd(descriptor) => write!(f, "fd:{descriptor}"),
            Address::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            host @ (Host::Ip(std::net::IpAddr::V6(_)) | Host::Scoped(..)) => write!(f, "[{host}]")?,
            host => write!(f, "{host}")?,
        }
        write!(f, ":{}", self.port)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::All => f.write_str("*"),
            Host::Ip(ip) => write!(f, "{ip}"),
            Host::Scoped(ip, scope) => write!(f, "{ip}%{scope}"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(port) => write!(f, "{port}"),
            Port::Service(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As the grammar has it: an abstract name with `@`, and as `%` and two digits what would not be seen, what is
/// no UTF-8, and what would mean something else.
impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Name::Abstract(name) => {
                f.write_str("@")?;
                encode(name, f)
            }
            Name::Path(path) => {
                let mut bytes = path.as_os_str().as_encoded_bytes();
                // However many there are, they are one (path_resolution(7)).
                while bytes.starts_with(b"//") {
                    bytes = &bytes[1..];
                }
                if let Some(rest) = bytes.strip_prefix(b"@") {
                    f.write_str("%40")?;
                    bytes = rest;
                }
                encode(bytes, f)
            }
        }
    }
}

fn encode(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_whitespace() || c.is_control() {
                let mut buffer = [0; 4];
                encode_all(c.encode_utf8(&mut buffer).as_bytes(), f)?;
            } else {
                write!(f, "{c}")?;
            }
        }
        encode_all(chunk.invalid(), f)?;
    }
    Ok(())
}

fn encode_all(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "%{byte:02x}"))
}
