//! Unix stream sockets of a simulated machine: their names, and what unix(7) does differently from tcp(7).
//!
//! They have no wire: what one side writes is the other side's to read at once, and no fault of the network happens to
//! it. Where the network's code wants a `SocketAddr`, a name has a stand-in that nobody else can have.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::calls::{Call, os_error};
use super::net::Net;
use super::network::Network;
use super::socket::{Kind, Listener, Sock};
use crate::address::{SocketAddress, UnixName};
use crate::credentials::Credentials;
use crate::driver::StreamKind;
use crate::key::Key;

/// The prefix of the stand-ins, to which nothing is ever routed (RFC 6666).
const PREFIX: u128 = 0x0100 << 112;

/// The stand-in of a socket without a name.
pub(super) const UNNAMED: u64 = 0;

/// Everybody in a simulation is the same user.
const USER: u32 = 1000;

/// The names of all machines' Unix sockets.
#[derive(Debug, Default)]
pub(crate) struct UnixNames {
    /// The name that has the stand-in 1, 2, ...
    names: Vec<UnixName>,
    /// Who is at a machine's name, or was so when its path was left behind. What is told never depends on the
    /// order of the map.
    places: HashMap<PlaceOf, Place>,
    inodes: u64,
}

/// A machine's name. Sockets of another type have abstract names of their own; paths are shared.
type PlaceOf = (u32, UnixName, Option<Type>);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Type {
    Stream,
    Datagram,
}

fn place_of(machine: u32, name: &UnixName, of: Type) -> PlaceOf {
    (machine, name.clone(), name.as_abstract().map(|_| of))
}

#[derive(Debug)]
struct Place {
    socket: Key,
    host: u32,
    inode: u64,
}

impl UnixNames {
    /// A name as the network's code has it.
    pub(super) fn stand_in(&mut self, name: &UnixName) -> SocketAddr {
        let known = self.names.iter().position(|other| other == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name.clone());
            self.names.len() - 1
        });
        numbered(1 + index as u64)
    }

    /// An address as programs have it.
    pub(crate) fn shown(&self, address: SocketAddr) -> SocketAddress {
        let IpAddr::V6(ip) = address.ip() else { return address.into() };
        if ip.to_bits() >> 64 != PREFIX >> 64 {
            return address.into();
        }
        match ip.to_bits() as u64 {
            UNNAMED => SocketAddress::Unnamed,
            number => SocketAddress::Unix(self.names[number as usize - 1].clone()),
        }
    }

    /// The paths of a process stay when nobody is there to remove them any more.
    pub(crate) fn outlive(&mut self, host: u32) {
        for place in self.places.values_mut().filter(|place| place.host == host) {
            place.inode = 0; // which is no guard's
        }
    }
}

pub(super) fn numbered(number: u64) -> SocketAddr {
    (Ipv6Addr::from_bits(PREFIX | u128::from(number)), 0).into()
}

/// A path in a simulated file system. Dropping it removes the path, unless that is another file by now.
#[derive(Debug)]
pub struct SimPath {
    network: Network,
    machine: u32,
    name: UnixName,
    inode: u64,
}

impl SimPath {
    pub(super) fn new(network: &Network, host: u32, name: &UnixName, inode: u64) -> SimPath {
        let machine = network.net.borrow().machine(host);
        SimPath { network: network.clone(), machine, name: name.clone(), inode }
    }
}

impl Drop for SimPath {
    fn drop(&mut self) {
        // While a panic goes through the network's own code it is borrowed, and nobody will look.
        if let Ok(mut net) = self.network.net.try_borrow_mut() {
            let place = (self.machine, self.name.clone(), None);
            if net.unix.places.get(&place).is_some_and(|place| place.inode == self.inode) {
                net.unix.places.remove(&place);
            }
        }
    }
}

impl Net {
    fn unix_listener(&self, key: Key) -> Option<&Listener> {
        match self.sockets.get(key).map(|sock| &sock.kind) {
            Some(Kind::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    /// Binds and listens; gives the number of the path's file, too, if the name is one.
    pub(crate) fn listen_unix(
        &mut self,
        host: u32,
        name: &UnixName,
        backlog: u32,
        replace_stale: bool,
    ) -> io::Result<(Key, Option<u64>)> {
        self.call(host, Call::Listen)?;
        self.check_place(host, name, Type::Stream, replace_stale)?;
        let address = self.unix.stand_in(name);
        let listener = Listener::new(address, backlog);
        let key = self.sockets.insert(Sock::new(host, Kind::Listener(Box::new(listener))));
        self.log(host, "listen", key, 0);
        Ok((key, self.enter_place(host, name, Type::Stream, key)))
    }

    /// Whether a name is free: nobody is there, or nobody any more.
    pub(super) fn check_place(
        &self,
        host: u32,
        name: &UnixName,
        of: Type,
        replace_stale: bool,
    ) -> io::Result<()> {
        let is_path = name.as_path().is_some();
        match self.at_place(host, name, of) {
            Some(socket) if self.has_name(socket) || is_path && !replace_stale => {
                Err(os_error(io::ErrorKind::AddrInUse))
            }
            _ => Ok(()),
        }
    }

    /// Enters who is at a name; gives the number of the path's file, if it is one.
    pub(super) fn enter_place(
        &mut self,
        host: u32,
        name: &UnixName,
        of: Type,
        socket: Key,
    ) -> Option<u64> {
        let place = place_of(self.machine(host), name, of);
        self.unix.inodes += 1;
        let inode = self.unix.inodes;
        self.unix.places.insert(place, Place { socket, host, inode });
        name.as_path().is_some().then_some(inode)
    }

    /// Who is at a name, or was when its path was left behind.
    pub(super) fn at_place(&self, host: u32, name: &UnixName, of: Type) -> Option<Key> {
        let place = place_of(self.machine(host), name, of);
        self.unix.places.get(&place).map(|place| place.socket)
    }

    fn has_name(&self, socket: Key) -> bool {
        let kind = self.sockets.get(socket).map(|sock| &sock.kind);
        matches!(kind, Some(Kind::Listener(_) | Kind::Datagram(_)))
    }

    /// Connects, which is done when the call returns.
    pub(crate) fn connect_unix(&mut self, host: u32, name: &UnixName) -> io::Result<Key> {
        self.call(host, Call::Connect)?;
        let listener_key = self.at_place(host, name, Type::Stream);
        if listener_key.is_some_and(|key| self.datagram(key).is_some()) {
            return Err(Errno::PROTOTYPE.into());
        }
        let listener = listener_key.and_then(|key| self.unix_listener(key));
        let (Some(listener_key), Some(listener)) = (listener_key, listener) else {
            let is_missing = listener_key.is_none() && name.as_path().is_some();
            return Err(os_error(match is_missing {
                true => io::ErrorKind::NotFound,
                false => io::ErrorKind::ConnectionRefused,
            }));
        };
        if listener.is_full() {
            self.log(host, "backlog full", listener_key, 0);
            return Err(os_error(io::ErrorKind::WouldBlock));
        }
        let target = self.host_of(listener_key);
        let (here, there) = (numbered(UNNAMED), listener.address);
        let faults = self.faults(host);
        let client =
            self.sockets.insert(Sock::local(host, here, there, Key::NONE, target, &faults));
        let faults = self.faults(target);
        let server = self.sockets.insert(Sock::local(target, there, here, client, host, &faults));
        if let Some(stream) = self.stream(client) {
            stream.peer = server;
        }
        if let Some(listener) = self.listener_mut(listener_key) {
            listener.queue.push_back(server);
        }
        self.log(host, "connect", client, 0);
        self.wake(listener_key);
        Ok(client)
    }

    /// Makes a pipe: the end that is read, and the one that is written to.
    pub(crate) fn pipe(&mut self, host: u32) -> (Key, Key) {
        let (nobody, faults) = (numbered(UNNAMED), self.faults(host));
        let reader =
            self.sockets.insert(Sock::local(host, nobody, nobody, Key::NONE, host, &faults));
        let writer = self.sockets.insert(Sock::local(host, nobody, nobody, reader, host, &faults));
        if let Some(stream) = self.stream(reader) {
            stream.peer = writer;
            stream.is_shut = true;
            stream.pipe = Some(StreamKind::PipeIn);
        }
        if let Some(stream) = self.stream(writer) {
            stream.is_ended = true;
            stream.pipe = Some(StreamKind::PipeOut);
        }
        self.log(host, "pipe", reader, 0);
        (reader, writer)
    }

    /// Passes a stream that is open on to a host of the same machine, and tells what it is.
    pub(crate) fn adopt(&mut self, host: u32, key: Key) -> io::Result<StreamKind> {
        let is_here = self.machine(self.host_of(key)) == self.machine(host);
        let Some(stream) = self.stream(key).filter(|stream| !stream.is_connecting) else {
            return Err(os_error(io::ErrorKind::InvalidInput));
        };
        // A descriptor cannot be passed to another machine. (What is local was made for whom it concerns.)
        if !is_here && !stream.is_local {
            return Err(os_error(io::ErrorKind::InvalidInput));
        }
        let peer = stream.peer;
        let kind = match stream.pipe {
            Some(end) => end,
            None if stream.is_local => StreamKind::Unix,
            None => StreamKind::Tcp,
        };
        if let Some(sock) = self.sockets.get_mut(key) {
            sock.host = host;
        }
        if let Some(peer) = self.stream(peer) {
            peer.remote_host = host;
        }
        self.log(host, "adopt", key, 0);
        Ok(kind)
    }

    /// Hands what was written to the other side.
    pub(super) fn deliver(&mut self, from: Key) {
        let Some(sender) = self.stream(from) else { return };
        let (peer, mut unsent) = (sender.peer, std::mem::take(&mut sender.unsent));
        let count = unsent.len();
        sender.unread += count;
        if let Some(receiver) = self.stream(peer) {
            receiver.received.append(&mut unsent);
        }
        self.log(self.host_of(peer), "receive", peer, count as u64);
        self.wake(peer);
    }

    /// What the other side has read makes room.
    pub(super) fn make_room(&mut self, sender_key: Key, count: usize) {
        let Some(sender) = self.stream(sender_key) else { return };
        sender.unread -= count;
        if sender.has_room() {
            sender.is_short_of_room = false;
            // Of this alone nobody hears who does not wait to write.
            self.wake_writable(sender_key);
        }
    }

    pub(super) fn shutdown_unix(&mut self, key: Key) {
        let Some(stream) = self.stream(key) else { return };
        stream.is_shut = true;
        let peer = stream.peer;
        self.end_unix(peer);
    }

    fn end_unix(&mut self, key: Key) {
        let Some(stream) = self.stream(key) else { return };
        if !std::mem::replace(&mut stream.is_ended, true) {
            self.log(self.host_of(key), "end", key, 0);
        }
        self.wake(key);
    }

    /// Closes a descriptor, or a connection that nobody accepted. There is no reset, unless something was not read.
    pub(super) fn close_unix(&mut self, key: Key, is_accepted: bool) {
        let Some(stream) = self.stream(key) else { return };
        let peer_key = stream.peer;
        let is_lost = !is_accepted || !stream.received.is_empty();
        self.forget(key);
        let Some(peer) = self.stream(peer_key) else { return };
        peer.is_shut = true;
        peer.unread = 0;
        if peer.pipe == Some(StreamKind::PipeOut) {
            peer.error = Some(io::ErrorKind::BrokenPipe); // also if nothing was lost
        } else if is_lost {
            peer.error = Some(io::ErrorKind::ConnectionReset);
        }
        self.end_unix(peer_key);
    }

    /// Who is at the other end. A process has the number of its host and one.
    pub(crate) fn credentials(&mut self, key: Key) -> io::Result<Credentials> {
        match self.stream(key) {
            Some(stream) if stream.is_local => {
                Ok(Credentials { pid: Some(1 + stream.remote_host), uid: USER, gid: USER })
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
