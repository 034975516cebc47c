//! Sockets and pipes that others made.

use std::io;
use std::os::fd::OwnedFd;

use log::Level;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::{Mio, datagrams, options, pipe, platform, sockets};
use crate::address::SocketAddress;
use crate::datagram::DatagramOptions;
use crate::driver::StreamKind;
use crate::socket_options::SocketOptions;

impl Mio {
    /// Takes in a socket that listens: sets what the driver's own have.
    pub(crate) fn adopt_listener(
        socket: &OwnedFd,
        backlog: Option<u32>,
        wanted: &SocketOptions,
    ) -> io::Result<()> {
        check(socket)?;
        // Of the open file, and so of everybody who shares it (open(2)): without it an accept would wait for a
        // client that another process has taken.
        rustix::io::ioctl_fionbio(socket, true)?;
        options::set(socket, &sockets::local_address(socket)?, wanted, Level::Warn)?;
        if let Some(backlog) = backlog {
            sockets::set_backlog(socket, backlog)?;
        }
        Ok(())
    }

    /// Takes in a datagram socket: its address, and whom it is connected to.
    pub(crate) fn adopt_datagrams(
        socket: &OwnedFd,
        options: &DatagramOptions,
    ) -> io::Result<(SocketAddress, Option<SocketAddress>)> {
        datagrams::adopt(socket, options)
    }
}

/// Takes in a stream that is open: tells what it is, and sets what the driver's own have.
pub(super) fn adopt_stream(descriptor: &OwnedFd) -> io::Result<StreamKind> {
    let kind = match sockopt::socket_type(descriptor) {
        Ok(SocketType::STREAM) => kind_of_connected(descriptor)?,
        Ok(SocketType::DGRAM) => return refuse("the descriptor is a datagram socket"),
        Ok(_) => return refuse("the descriptor is no stream socket"),
        Err(Errno::NOTSOCK) => pipe::kind_of(descriptor)?,
        Err(error) => return Err(error.into()),
    };
    rustix::io::ioctl_fionbio(descriptor, true)?;
    Ok(kind)
}

fn kind_of_connected(socket: &OwnedFd) -> io::Result<StreamKind> {
    if platform::listens(socket)? {
        return refuse("the descriptor is a socket that listens, which has no peer");
    }
    platform::prevent_sigpipe(socket)?;
    let peer = match rustix::net::getpeername(socket) {
        Ok(peer) => peer.map(|peer| peer.address_family()),
        Err(Errno::NOTCONN) => return refuse("the descriptor is a socket that is not connected"),
        Err(error) => return Err(error.into()),
    };
    match peer {
        Some(AddressFamily::UNIX) | None => Ok(StreamKind::Unix),
        Some(AddressFamily::INET | AddressFamily::INET6) => {
            sockopt::set_tcp_nodelay(socket, true)?;
            Ok(StreamKind::Tcp)
        }
        Some(_) => refuse("the descriptor is neither a TCP nor a Unix socket"),
    }
}

fn refuse<T>(message: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn check(socket: &OwnedFd) -> io::Result<()> {
    match sockopt::socket_type(socket) {
        Ok(SocketType::STREAM) => {}
        Ok(SocketType::DGRAM) => {
            return refuse(
                "the descriptor is a datagram socket, which has no connections to accept",
            );
        }
        Ok(_) => return refuse("the descriptor is no stream socket"),
        Err(Errno::NOTSOCK) => return refuse("the descriptor is no socket"),
        Err(error) => return Err(error.into()),
    }
    let address = rustix::net::getsockname(socket)?;
    let families = [AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX];
    if !families.contains(&address.address_family()) {
        return refuse("the descriptor is neither a TCP nor a Unix socket");
    }
    if !platform::listens(socket)? {
        return refuse("the descriptor is a socket that does not listen");
    }
    Ok(())
}
