//! Sockets by their addresses: made, bound, connected, accepted.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use log::Level;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketType, sockopt};

use super::{options, platform};
use crate::address::{SocketAddress, UnixName};
use crate::driver::{AcceptError, ConnectConfig, Connecting, ListenConfig};

use super::unix::{self, BoundPath};

/// `sizeof (struct sockaddr_un)` on Linux, of which other systems' are no longer.
const UNIX_ADDRESS_BYTES_MAX: u32 = 2 + 108;

pub(super) fn stream_socket(address: &SocketAddress) -> io::Result<OwnedFd> {
    socket(address, SocketType::STREAM)
}

pub(super) fn socket(address: &SocketAddress, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddress::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
        SocketAddress::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
        SocketAddress::Unix(_) | SocketAddress::Unnamed => AddressFamily::UNIX,
    };
    Ok(platform::socket(family, kind)?)
}

pub(super) fn unix_address(name: &UnixName) -> io::Result<SocketAddrUnix> {
    match (name.as_path(), name.as_abstract()) {
        (Some(path), _) => Ok(SocketAddrUnix::new(path)?),
        (None, Some(name)) => platform::abstract_address(name),
        (None, None) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

pub(super) fn no_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "nobody can be found without a name")
}

/// A kernel that was built or booted without IPv6 has no such sockets (socket(2), `EAFNOSUPPORT`).
pub(super) fn has_ipv6() -> bool {
    let socket = platform::socket(AddressFamily::INET6, SocketType::STREAM);
    !matches!(socket, Err(Errno::AFNOSUPPORT))
}

pub(super) fn listen(config: &ListenConfig) -> io::Result<(OwnedFd, Option<BoundPath>)> {
    let socket = stream_socket(&config.address)?;
    options::set(&socket, &config.address, &config.options, Level::Warn)?;
    match &config.address {
        SocketAddress::Inet(address) => {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            if config.reuse_port {
                platform::set_reuse_port(&socket)?;
            }
            if address.is_ipv6() {
                sockopt::set_ipv6_v6only(&socket, config.only_v6)?;
            }
            rustix::net::bind(&socket, address)?;
        }
        SocketAddress::Unix(name) => return unix::listen(socket, name, config),
        SocketAddress::Unnamed => return Err(no_name()),
    }
    set_backlog(&socket, config.backlog)?;
    Ok((socket, None))
}

/// Also of a socket that listens already (listen(2)).
pub(super) fn set_backlog(socket: &OwnedFd, connections: u32) -> io::Result<()> {
    Ok(rustix::net::listen(socket, i32::try_from(connections).unwrap_or(i32::MAX))?)
}

pub(super) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, SocketAddress), AcceptError> {
    let (socket, peer) = loop {
        match platform::accept(listener) {
            Ok(accepted) => break accepted,
            Err(Errno::INTR) => {}
            Err(error) => return Err(sort_accept_error(error)),
        }
    };
    // A peer that reset the connection before the accept may be reported without its address.
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Ok((socket, peer.and_then(|peer| from_kernel(peer).ok()).unwrap_or(nowhere.into())))
}

/// accept(2): Linux passes pending network errors of the new socket on, and advises to treat them
/// like `EAGAIN` by retrying.
pub(crate) fn sort_accept_error(error: Errno) -> AcceptError {
    match error {
        Errno::AGAIN => AcceptError::WouldBlock,
        Errno::MFILE | Errno::NFILE => AcceptError::Descriptors(error.into()),
        Errno::CONNABORTED
        | Errno::CONNRESET
        | Errno::PERM
        | Errno::PROTO
        | Errno::NOPROTOOPT
        | Errno::OPNOTSUPP
        | Errno::TIMEDOUT
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH => AcceptError::Connection(error.into()),
        #[cfg(target_os = "linux")]
        Errno::NONET => AcceptError::Connection(error.into()),
        _ => AcceptError::Other(error.into()),
    }
}

pub(super) fn connect(config: &ConnectConfig<'_>) -> io::Result<Connecting<OwnedFd>> {
    let socket = stream_socket(config.to)?;
    options::set(&socket, config.to, config.options, Level::Debug)?;
    let result = match config.to {
        SocketAddress::Inet(address) => {
            if let Some(from) = &config.from {
                // A port of the kernel's choice would be one that others have already.
                if from.port() != 0 {
                    sockopt::set_socket_reuseaddr(&socket, true)?;
                }
                rustix::net::bind(&socket, from)?;
            }
            rustix::net::connect(&socket, address)
        }
        SocketAddress::Unix(name) => rustix::net::connect(&socket, &unix_address(name)?),
        SocketAddress::Unnamed => return Err(no_name()),
    };
    match result {
        Ok(()) => Ok(Connecting::Done(socket)),
        // An interrupted connect goes on in the background (connect(2)).
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Connecting::UnderWay(socket)),
        Err(Errno::AGAIN) => Ok(Connecting::Busy),
        Err(error) => Err(error.into()),
    }
}

/// Whether the connect is through: its error, or `WouldBlock` while it goes on.
pub(super) fn connect_result(socket: &OwnedFd) -> io::Result<()> {
    sockopt::socket_error(socket)??;
    match rustix::net::getpeername(socket) {
        Ok(_) => Ok(()),
        Err(Errno::NOTCONN) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn local_address(socket: &OwnedFd) -> io::Result<SocketAddress> {
    from_kernel(rustix::net::getsockname(socket)?)
}

pub(super) fn peer_address(socket: &OwnedFd) -> io::Result<SocketAddress> {
    from_kernel(rustix::net::getpeername(socket)?.ok_or(Errno::NOTCONN)?)
}

pub(super) fn from_kernel(address: SocketAddrAny) -> io::Result<SocketAddress> {
    if address.address_family() != AddressFamily::UNIX {
        return Ok(SocketAddress::Inet(SocketAddr::try_from(address)?));
    }
    // Of a path that fills all the room Linux counts a NUL that has none (unix(7), BUGS), and reading it panics.
    if address.addr_len() > UNIX_ADDRESS_BYTES_MAX {
        return Ok(SocketAddress::Unnamed);
    }
    let address = SocketAddrUnix::try_from(address)?;
    let name = match (address.path_bytes(), platform::abstract_name(&address)) {
        (Some(path), _) => UnixName::from_path(OsStr::from_bytes(path)),
        (None, Some(name)) => UnixName::from_abstract(name),
        (None, None) => return Ok(SocketAddress::Unnamed),
    };
    // A name that the grammar does not have, as the empty abstract one, is still no reason to fail.
    Ok(name.map_or(SocketAddress::Unnamed, SocketAddress::Unix))
}
