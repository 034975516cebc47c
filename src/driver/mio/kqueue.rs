//! What macOS and FreeBSD have in common and Linux has not: kqueue(2) for epoll.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::io::Result;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketAddrAny, SocketAddrUnix};

use super::{sockets, token, unix};
use crate::address::SocketAddress;
use crate::credentials::Credentials;
use crate::key::Key;

/// mio promises no more than an edge after `WouldBlock`.
pub(super) const SHORT_READ_DRAINS: bool = false;

pub(super) const LISTENERS_ARE_LEVEL: bool = false;

pub(super) const STREAM: Interest = Interest::READABLE;

/// Only whether a datagram was cut is told: it counts as one byte longer than what fits.
pub(super) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
) -> Result<(usize, Option<SocketAddrAny>)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = RecvAncillaryBuffer::default();
    let message = rustix::net::recvmsg(socket, &mut slices, &mut control, RecvFlags::empty())?;
    let is_cut = message.flags.contains(ReturnFlags::TRUNC);
    Ok((message.bytes + usize::from(is_cut), message.address))
}

pub(super) fn register_listener(registry: &Registry, socket: &OwnedFd, key: Key) -> io::Result<()> {
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token(key), Interest::READABLE)
}

/// An edge is reported once, whether it is wanted or not.
pub(super) fn set_listening(_: &Registry, _: &OwnedFd, _: Key, _: bool) -> io::Result<()> {
    Ok(())
}

pub(super) fn abstract_address(_: &[u8]) -> io::Result<SocketAddrUnix> {
    Err(lacks("the abstract name of a Unix socket"))
}

pub(super) fn abstract_name(_: &SocketAddrUnix) -> Option<&[u8]> {
    None
}

/// getpeereid(3), which does not know the process.
pub(super) fn peer_credentials(socket: &OwnedFd) -> io::Result<Credentials> {
    if let SocketAddress::Inet(_) = sockets::local_address(socket)? {
        return Err(unix::no_credentials());
    }
    let (uid, gid) = nix::unistd::getpeereid(socket)?;
    Ok(Credentials { pid: None, uid: uid.as_raw(), gid: gid.as_raw() })
}

pub(super) fn lacks(what: &str) -> io::Error {
    let message = format!("{what} is not to be had on this platform");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// They hear no others here.
pub(super) fn hear_own_groups(_: &OwnedFd, _: bool) -> io::Result<()> {
    Ok(())
}
