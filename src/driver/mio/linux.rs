//! What Linux does in its own way. The other platforms have the same names.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mio::{Interest, Registry};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::epoll;
use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};

use super::unix::no_credentials;
use crate::credentials::Credentials;
use crate::key::Key;

/// See [`Driver::short_read_drains`](crate::driver::Driver::short_read_drains): of TCP under epoll (epoll(7),
/// questions and answers).
pub(super) const SHORT_READ_DRAINS: bool = true;

/// See [`Driver::listeners_are_level`](crate::driver::Driver::listeners_are_level).
pub(super) const LISTENERS_ARE_LEVEL: bool = true;

/// What a stream is registered for, besides writing. Priority is asked for because a read stops at the urgent
/// mark: it says that a short read does not mean drained.
pub(super) const STREAM: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// How to send without `SIGPIPE`.
pub(super) const NOSIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// Of a socket that others made; [`NOSIGNAL`] does it with each send.
pub(super) fn prevent_sigpipe(_: &OwnedFd) -> Result<()> {
    Ok(())
}

/// Non-blocking, and closed on exec.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

pub(super) fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd> {
    rustix::net::socket_with(family, kind, FLAGS, None)
}

pub(super) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
    rustix::net::acceptfrom_with(listener, FLAGS)
}

/// With `MSG_TRUNC` the length is that of the whole datagram (recv(2)).
pub(super) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
) -> Result<(usize, Option<SocketAddrAny>)> {
    let (_, length, from) = rustix::net::recvfrom(socket, buffer, RecvFlags::TRUNC)?;
    Ok((length, from))
}

/// mio registers for edges only. A level can be had from the epoll instance itself.
pub(super) fn register_listener(registry: &Registry, socket: &OwnedFd, key: Key) -> io::Result<()> {
    let data = epoll::EventData::new_u64(key.to_bits());
    Ok(epoll::add(registry, socket, data, epoll::EventFlags::IN | epoll::EventFlags::RDHUP)?)
}

pub(super) fn set_listening(
    registry: &Registry,
    socket: &OwnedFd,
    key: Key,
    on: bool,
) -> io::Result<()> {
    if on {
        return match register_listener(registry, socket, key) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        };
    }
    // Out of the instance, and not registered for nothing: EPOLLHUP is reported all the same (epoll_ctl(2)), and a socket
    // that somebody else has shut down has it for ever.
    match epoll::delete(registry, socket) {
        Err(Errno::NOENT) => Ok(()), // muted already
        result => Ok(result?),
    }
}

pub(super) fn set_reuse_port(socket: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseport(socket, true)?)
}

/// Before Linux 4.20 there is no such option for IPv6.
const NOPROTOOPT: i32 = Errno::NOPROTOOPT.raw_os_error();

/// A socket that is bound to all addresses would hear every group that anybody on the machine has joined (ip(7),
/// `IP_MULTICAST_ALL`).
pub(super) fn hear_own_groups(socket: &OwnedFd, is_v6: bool) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_multicast_all_v4(false)?;
    match is_v6.then(|| socket.set_multicast_all_v6(false)) {
        Some(Err(error)) if error.raw_os_error() != Some(NOPROTOOPT) => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn listens(socket: impl AsFd) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(socket)?)
}

pub(super) fn abstract_address(name: &[u8]) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name)?)
}

pub(super) fn abstract_name(address: &SocketAddrUnix) -> Option<&[u8]> {
    address.abstract_name()
}

/// Not by rustix, whose process number cannot be 0: that is what a process of another PID namespace has.
pub(super) fn peer_credentials(socket: &OwnedFd) -> io::Result<Credentials> {
    let peer = getsockopt(socket, PeerCredentials)?;
    if peer.uid() == u32::MAX {
        return Err(no_credentials());
    }
    let pid = u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0);
    Ok(Credentials { pid, uid: peer.uid(), gid: peer.gid() })
}
