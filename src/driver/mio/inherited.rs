//! Sockets that others made.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::{Mio, datagrams, options, sockets};
use crate::address::SocketAddress;
use crate::datagram::DatagramOptions;
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
        options::set(socket, &sockets::local_address(socket)?, wanted)?;
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

fn check(socket: &OwnedFd) -> io::Result<()> {
    let refuse = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
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
    if !sockopt::socket_acceptconn(socket)? {
        return refuse("the descriptor is a socket that does not listen");
    }
    Ok(())
}
