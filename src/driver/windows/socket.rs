//! What a socket is here, and how one is made.

use std::cell::{Ref, RefCell};
use std::io;
use std::net::SocketAddr;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use socket2::{Domain, Type};

use crate::address::SocketAddress;

/// A socket. mio registers what it has exclusively, hence the cell: it is borrowed for a call at a time.
#[derive(Debug)]
pub struct Socket(pub(super) RefCell<Kind>);

#[derive(Debug)]
pub(super) enum Kind {
    Listener(TcpListener),
    Stream(TcpStream),
    Datagram(UdpSocket),
}

impl Kind {
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Kind::Listener(socket) => socket,
            Kind::Stream(socket) => socket,
            Kind::Datagram(socket) => socket,
        }
    }
}

impl From<Kind> for Socket {
    fn from(kind: Kind) -> Socket {
        Socket(RefCell::new(kind))
    }
}

impl Socket {
    pub(super) fn listener(&self) -> Ref<'_, TcpListener> {
        Ref::map(self.0.borrow(), |kind| match kind {
            Kind::Listener(socket) => socket,
            _ => unreachable!("only listeners accept"),
        })
    }

    pub(super) fn stream(&self) -> Ref<'_, TcpStream> {
        Ref::map(self.0.borrow(), |kind| match kind {
            Kind::Stream(socket) => socket,
            _ => unreachable!("only streams are read and written"),
        })
    }

    pub(super) fn datagram(&self) -> Ref<'_, UdpSocket> {
        Ref::map(self.0.borrow(), |kind| match kind {
            Kind::Datagram(socket) => socket,
            _ => unreachable!("only datagram sockets receive and send"),
        })
    }
}

/// Non-blocking, and not inherited by child processes.
pub(super) fn make(address: SocketAddr, kind: Type) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(super) fn inet(address: &SocketAddress) -> io::Result<SocketAddr> {
    address.inet().ok_or_else(|| lacks("a Unix socket"))
}

pub(super) fn lacks(what: &str) -> io::Error {
    let message = format!("{what} is not to be had on this platform");
    io::Error::new(io::ErrorKind::Unsupported, message)
}
