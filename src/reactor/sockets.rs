//! The driver and its sockets.

use std::io;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::address::SocketAddress;
use crate::clock::Time;
use crate::command::Host;
use crate::credentials::Credentials;
use crate::datagram::Interface;
use crate::driver::Driver;
use crate::key::Key;

/// The driver and the sockets, in a table parallel to that of the sources.
pub(crate) struct Sockets<D: Driver> {
    pub(crate) driver: D,
    pub(crate) sockets: Vec<Option<D::Socket>>,
}

impl<D: Driver> Sockets<D> {
    pub(crate) fn put(&mut self, key: Key, socket: D::Socket) {
        if self.sockets.len() <= key.index() {
            self.sockets.resize_with(key.index() + 1, || None);
        }
        debug_assert!(self.sockets[key.index()].is_none());
        self.sockets[key.index()] = Some(socket);
    }

    #[inline]
    pub(crate) fn of(&self, key: Key) -> Option<&D::Socket> {
        self.sockets.get(key.index())?.as_ref()
    }

    /// The driver, together with the socket that it is to do something to.
    #[inline]
    pub(crate) fn with(&self, key: Key) -> Option<(&D, &D::Socket)> {
        let socket = self.sockets.get(key.index())?.as_ref()?;
        Some((&self.driver, socket))
    }

    pub(crate) fn take(&mut self, key: Key) -> Option<D::Socket> {
        self.sockets.get_mut(key.index())?.take()
    }
}

impl<D: Driver> Host for Sockets<D> {
    fn local_address(&self, key: Key) -> io::Result<SocketAddress> {
        self.driver.local_address(self.of(key).ok_or(io::ErrorKind::NotConnected)?)
    }

    fn peer_address(&self, key: Key) -> io::Result<SocketAddress> {
        self.driver.peer_address(self.of(key).ok_or(io::ErrorKind::NotConnected)?)
    }

    fn set_membership(
        &self,
        key: Key,
        group: IpAddr,
        interface: &Interface,
        is_member: bool,
    ) -> io::Result<()> {
        let socket = self.of(key).ok_or(io::ErrorKind::NotConnected)?;
        self.driver.set_membership(socket, group, interface, is_member)
    }

    fn peer_credentials(&self, key: Key) -> io::Result<Credentials> {
        self.driver.peer_credentials(self.of(key).ok_or(io::ErrorKind::NotConnected)?)
    }

    fn now(&self) -> Time {
        self.driver.now()
    }

    fn wall_clock(&self) -> SystemTime {
        self.driver.wall_clock()
    }
}
