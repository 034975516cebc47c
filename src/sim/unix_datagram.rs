//! Unix datagram sockets of a simulated machine: unix(7).
//!
//! They have no wire: what is sent is the receiver's to read at once, and no fault of the network happens to it. A
//! receiver that has no room makes its senders wait.

use std::io;

use rustix::io::Errno;

use super::calls::{self, Call, os_error};
use super::datagram::Datagram;
use super::driver::no_name;
use super::net::Net;
use super::socket::{Kind, Sock};
use super::unix::{Type, UNNAMED, numbered};
use crate::address::{SocketAddress, UnixName};
use crate::datagram::DatagramOptions;
use crate::key::Key;
use crate::readiness::Readiness;

/// A receiver with more than that has no room (`net.unix.max_dgram_qlen`).
const QUEUE_LEN_MAX: usize = 10;

/// What the kernel's usual send buffer holds of one datagram.
const LENGTH_MAX: usize = 212_992 - 32;

/// That buffer (`net.core.wmem_default`).
const SEND_BUFFER_BYTES: usize = 212_992;

/// What a datagram takes of it as long as nobody has read it, with the kernel's bookkeeping (measured on Linux 6.18).
fn cost(length: usize) -> usize {
    (length + 320).next_power_of_two() + 256
}

/// What a Unix datagram socket has besides.
#[derive(Debug, Default)]
pub(crate) struct UnixDatagram {
    /// The socket that it is connected to.
    peer: Option<Key>,
    /// That has no room: a change is to be told.
    is_peer_full: bool,
    /// Sockets that are connected to this one, and found no room.
    waiters: Vec<Key>,
    /// What its receivers have not read takes so much of its buffer.
    unread_bytes: usize,
}

impl Datagram {
    /// As far as a Unix socket has anything to say to it: whether it is writable (unix(7); a quarter of the buffer, as
    /// in the kernel).
    pub(super) fn has_unix_room(&self) -> bool {
        let unix = self.unix.as_ref();
        unix.is_none_or(|unix| !unix.is_peer_full && 4 * unix.unread_bytes <= SEND_BUFFER_BYTES)
    }

    pub(super) fn take_waiters(&mut self) -> Vec<Key> {
        self.unix.as_mut().map(|unix| std::mem::take(&mut unix.waiters)).unwrap_or_default()
    }
}

impl Net {
    pub(super) fn is_unix_datagram(&mut self, key: Key) -> bool {
        self.unix_datagram(key).is_some()
    }

    fn unix_datagram(&mut self, key: Key) -> Option<&mut UnixDatagram> {
        self.datagram(key)?.unix.as_mut()
    }

    /// Makes a socket, with a name if there is one; gives the number of the path's file, too, if the name is one.
    pub(super) fn bind_unix_datagram(
        &mut self,
        host: u32,
        name: Option<&UnixName>,
        options: &DatagramOptions,
    ) -> io::Result<(Key, Option<u64>)> {
        self.call(host, Call::Bind)?;
        let peer = match &options.connect {
            None => None,
            Some(SocketAddress::Unix(peer)) => Some(self.receiver_at(host, peer, None)?),
            Some(SocketAddress::Unnamed) => return Err(no_name()),
            Some(SocketAddress::Inet(_)) => return Err(os_error(io::ErrorKind::InvalidInput)),
        };
        if let Some(name) = name {
            self.check_place(host, name, Type::Datagram, options.replace_stale)?;
        }
        let local = name.map_or(numbered(UNNAMED), |name| self.unix.stand_in(name));
        let mut datagram = Datagram::new(local, &self.faults(host), self.kernel);
        datagram.unix = Some(UnixDatagram { peer, ..UnixDatagram::default() });
        let key = self.sockets.insert(Sock::new(host, Kind::Datagram(Box::new(datagram))));
        self.log(host, "bind", key, 0);
        Ok((key, name.and_then(|name| self.enter_place(host, name, Type::Datagram, key))))
    }

    /// Who is at a name, and hears a sender: one that is connected hears only its peer.
    fn receiver_at(&mut self, host: u32, name: &UnixName, sender: Option<Key>) -> io::Result<Key> {
        let Some(key) = self.at_place(host, name, Type::Datagram) else {
            return Err(os_error(match name.as_path() {
                Some(_) => io::ErrorKind::NotFound,
                None => io::ErrorKind::ConnectionRefused,
            }));
        };
        match self.sockets.get(key).map(|sock| &sock.kind) {
            Some(Kind::Datagram(_)) => {}
            Some(_) => return Err(Errno::PROTOTYPE.into()),
            None => return Err(os_error(io::ErrorKind::ConnectionRefused)), // a path that was left
        }
        let peer = self.unix_datagram(key).and_then(|unix| unix.peer);
        if peer.is_some() && peer != sender {
            return Err(calls::PERM.into());
        }
        Ok(key)
    }

    pub(super) fn send_unix_datagram(
        &mut self,
        key: Key,
        data: &[u8],
        to: Option<&SocketAddress>,
    ) -> io::Result<()> {
        let host = self.host_of(key);
        let peer = self.unix_datagram(key).and_then(|unix| unix.peer);
        let receiver = match to {
            None if peer.is_none() => return Err(os_error(io::ErrorKind::NotConnected)),
            Some(SocketAddress::Inet(_)) => return Err(os_error(io::ErrorKind::InvalidInput)),
            Some(SocketAddress::Unnamed) => return Err(no_name()),
            _ if data.len() > LENGTH_MAX => return Err(Errno::MSGSIZE.into()),
            _ if self.is_buffer_full(key) => {
                self.arm(key, Readiness::WRITABLE);
                self.log_error(host, "send", key, "WouldBlock");
                return Err(os_error(io::ErrorKind::WouldBlock));
            }
            Some(SocketAddress::Unix(name)) => self.receiver_at(host, name, Some(key)),
            None => self.living_peer(key),
        };
        let receiver_key = receiver.inspect_err(|error| {
            self.log_error(host, "send", key, super::trace::error_name(error.kind()));
        })?;
        self.take_room(key)?;
        let is_peer = peer == Some(receiver_key);
        let Some(receiver) = self.datagram(receiver_key) else { return Ok(()) };
        let is_full = receiver.received.len() > QUEUE_LEN_MAX;
        let Some(unix) = &mut receiver.unix else { return Ok(()) };
        // Who is connected to the sender takes as much as it sends.
        if is_full && unix.peer != Some(key) {
            if is_peer {
                unix.waiters.push(key);
                if let Some(sender) = self.unix_datagram(key) {
                    sender.is_peer_full = true;
                }
            }
            self.arm(key, Readiness::WRITABLE);
            self.log_error(host, "send", key, "WouldBlock");
            return Err(os_error(io::ErrorKind::WouldBlock));
        }
        self.log_sent(key, data);
        let Some(from) = self.datagram(key).map(|sender| sender.local) else { return Ok(()) };
        if let Some(receiver) = self.datagram(receiver_key) {
            receiver.put(from, None, data.to_vec(), Some(key));
        }
        if let Some(unix) = self.unix_datagram(key) {
            unix.unread_bytes += cost(data.len());
        }
        self.wake(receiver_key);
        Ok(())
    }

    fn is_buffer_full(&mut self, key: Key) -> bool {
        self.unix_datagram(key).is_some_and(|unix| unix.unread_bytes >= SEND_BUFFER_BYTES)
    }

    /// A datagram of so many bytes fills its sender's buffer no longer, because it was read, or never will be.
    pub(super) fn give_back(&mut self, sender: Option<Key>, length: usize) {
        let Some(sender) = sender else { return };
        let Some(unix) = self.unix_datagram(sender) else { return };
        unix.unread_bytes -= cost(length);
        if 4 * unix.unread_bytes <= SEND_BUFFER_BYTES {
            self.wake_writable(sender);
        }
    }

    /// Whether a socket would be reported as writable.
    pub(super) fn is_writable(&self, key: Key) -> bool {
        self.sockets.get(key).is_some_and(|sock| sock.readiness().contains(Readiness::WRITABLE))
    }

    /// Whom a socket is connected to; it is told once that it is gone.
    fn living_peer(&mut self, key: Key) -> io::Result<Key> {
        let peer = self.unix_datagram(key).and_then(|unix| unix.peer);
        if let Some(peer) = peer
            && self.unix_datagram(peer).is_some()
        {
            return Ok(peer);
        }
        if let Some(unix) = self.unix_datagram(key) {
            unix.peer = None;
        }
        Err(os_error(io::ErrorKind::ConnectionRefused))
    }

    /// Something was read: those who wait for that hear of it, once there is room.
    pub(super) fn tell_of_room(&mut self, receiver: Key) {
        let Some(datagram) = self.datagram(receiver) else { return };
        if datagram.received.len() <= QUEUE_LEN_MAX {
            let waiters = datagram.take_waiters();
            self.tell_waiters(waiters);
        }
    }

    pub(super) fn tell_waiters(&mut self, waiters: Vec<Key>) {
        for waiter in waiters {
            if let Some(unix) = self.unix_datagram(waiter) {
                unix.is_peer_full = false;
                self.wake_writable(waiter);
            }
        }
    }
}
