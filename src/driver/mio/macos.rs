//! What macOS does in its own way. The other platforms have the same names.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt::LocalPeerPid};
use rustix::io::{Errno, FdFlags, Result};
use rustix::net::{AddressFamily, SendFlags, SocketAddrAny, SocketType, sockopt};

use super::kqueue;
use crate::credentials::Credentials;

pub(super) use super::kqueue::{
    LISTENERS_ARE_LEVEL, SHORT_READ_DRAINS, STREAM, abstract_address, abstract_name,
    hear_own_groups, receive, register_listener, set_listening,
};

/// There is no such flag of a send: `SO_NOSIGPIPE` is set on the socket.
pub(super) const NOSIGNAL: SendFlags = SendFlags::empty();

/// Neither socket(2) nor accept(2) takes flags.
fn prepare(socket: &OwnedFd) -> Result<()> {
    rustix::io::fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(socket, true)?;
    prevent_sigpipe(socket)
}

/// Also of one that others made.
pub(super) fn prevent_sigpipe(socket: &OwnedFd) -> Result<()> {
    sockopt::set_socket_nosigpipe(socket, true)
}

pub(super) fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd> {
    let socket = rustix::net::socket(family, kind, None)?;
    prepare(&socket)?;
    Ok(socket)
}

pub(super) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (socket, peer) = rustix::net::acceptfrom(listener)?;
    // setsockopt(2) is refused when the peer has reset the connection meanwhile.
    prepare(&socket).map_err(|_| Errno::CONNABORTED)?;
    Ok((socket, peer))
}

/// `SO_REUSEPORT` would have one of the sockets take all connections.
pub(super) fn set_reuse_port(_: &OwnedFd) -> io::Result<()> {
    Err(kqueue::lacks("reuse_port"))
}

/// `SO_ACCEPTCONN` is declared and does not work; what is connected does not listen.
pub(crate) fn listens(socket: impl AsFd) -> io::Result<bool> {
    match rustix::net::getpeername(socket) {
        Err(Errno::NOTCONN) | Ok(None) => Ok(true),
        Ok(Some(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn peer_credentials(socket: &OwnedFd) -> io::Result<Credentials> {
    let credentials = kqueue::peer_credentials(socket)?;
    let pid = getsockopt(socket, LocalPeerPid).ok().and_then(|pid| u32::try_from(pid).ok());
    Ok(Credentials { pid: pid.filter(|pid| *pid != 0), ..credentials })
}
