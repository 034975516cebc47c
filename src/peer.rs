//! Who is at the door.

use std::fmt;
use std::io;

use crate::address::SocketAddress;
use crate::credentials::Credentials;
use crate::driver::Driver;
use crate::listener::ListenerId;

/// A client that [`StreamHandler::accept`](crate::StreamHandler::accept) is asked about. Its socket is accepted, and
/// is not a connection of the reactor's yet.
pub struct Peer<'a> {
    address: &'a SocketAddress,
    listener: ListenerId,
    socket: &'a dyn Facts,
}

/// What a socket is asked on demand.
pub(crate) trait Facts {
    fn local_address(&self) -> io::Result<SocketAddress>;
    fn credentials(&self) -> io::Result<Credentials>;
}

/// A socket that has no key yet.
pub(crate) struct Accepted<'a, D: Driver> {
    pub(crate) driver: &'a D,
    pub(crate) socket: &'a D::Socket,
}

impl<D: Driver> Facts for Accepted<'_, D> {
    fn local_address(&self) -> io::Result<SocketAddress> {
        self.driver.local_address(self.socket)
    }

    fn credentials(&self) -> io::Result<Credentials> {
        self.driver.peer_credentials(self.socket)
    }
}

impl<'a> Peer<'a> {
    pub(crate) fn new(
        address: &'a SocketAddress,
        listener: ListenerId,
        socket: &'a dyn Facts,
    ) -> Peer<'a> {
        Peer { address, listener, socket }
    }

    /// Its address, which accept(2) has told already. A client on a Unix socket is
    /// [`Unnamed`](SocketAddress::Unnamed), unless it bound its socket.
    pub fn address(&self) -> &SocketAddress {
        self.address
    }

    /// The listener that it came to.
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// The address of our side: which of several addresses of this machine it came to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Cost
    ///
    /// A system call.
    pub fn local_address(&self) -> io::Result<SocketAddress> {
        self.socket.local_address()
    }

    /// Its process and user, if it is on a Unix socket.
    ///
    /// # Errors
    ///
    /// `Unsupported` on TCP, and on Windows; those of getsockopt(2).
    ///
    /// # Cost
    ///
    /// A system call.
    pub fn credentials(&self) -> io::Result<Credentials> {
        self.socket.credentials()
    }
}

impl fmt::Debug for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", self.address)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
