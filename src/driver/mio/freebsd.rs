//! What FreeBSD does in its own way. The other platforms have the same names.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Result;
use rustix::net::{AddressFamily, SendFlags, SocketAddrAny, SocketFlags, SocketType, sockopt};

pub(super) use super::kqueue::*;

pub(super) const NOSIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// [`NOSIGNAL`] does it with each send.
pub(super) fn prevent_sigpipe(_: &OwnedFd) -> Result<()> {
    Ok(())
}

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

pub(super) fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd> {
    rustix::net::socket_with(family, kind, FLAGS, None)
}

pub(super) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
    rustix::net::acceptfrom_with(listener, FLAGS)
}

/// With `SO_REUSEPORT` the kernel would not spread the connections (setsockopt(2)).
pub(super) fn set_reuse_port(socket: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseport_lb(socket, true)?)
}

pub(crate) fn listens(socket: impl AsFd) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(socket)?)
}
