//! What a simulated datagram socket does: udp(7), bind(2), recv(2), send(2).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use slab::Slab;

use super::addresses::{covers, is_near, next_port, of_family, specified};
use super::calls::{Call, os_error};
use super::decisions::Matter;
use super::faults::{Faults, Kernel};
use super::multicast::ToGroups;
use super::net::{Event, Net};
use super::packet::Packet;
use super::socket::{Kind, Sock};
use super::trace::{self, Head};
use super::unix_datagram::UnixDatagram;
use crate::datagram::DatagramOptions;
use crate::key::Key;
use crate::readiness::Readiness;

/// What fits into an IP packet (udp(7)): 65,535 bytes less the headers.
fn length_max(to: SocketAddr) -> usize {
    if to.ip().to_canonical().is_ipv4() { 65_507 } else { 65_527 }
}

/// What a datagram takes of its receiver's buffer, with the kernel's bookkeeping. Measured over loopback on Linux 6.18: of
/// one length after the other, how many of them a socket keeps that nobody reads from, for IPv4.
/// (`tests/parity_datagrams.rs` counts them again.)
fn cost(length: usize) -> usize {
    256 + match length + 379 {
        ..=576 => 576,
        block @ ..=16_384 => block.next_power_of_two(),
        pages => pages + 640,
    }
}

/// Whether a socket's family has a way to an address: an IPv4 address is sent to over IPv4, also as IPv6 shows it
/// (ipv6(7)).
fn check_family(local: IpAddr, only_v6: bool, to: IpAddr) -> io::Result<()> {
    let is_v4 = |ip: IpAddr| ip.to_canonical().is_ipv4();
    if local.is_ipv4() && to.is_ipv6() || is_v4(local) && !is_v4(to) {
        return Err(Errno::AFNOSUPPORT.into());
    }
    if local.is_ipv6() && only_v6 && is_v4(to) {
        return Err(os_error(io::ErrorKind::NetworkUnreachable));
    }
    Ok(())
}

/// A datagram that has come.
#[derive(Debug)]
pub(super) struct Received {
    from: SocketAddr,
    /// The machine's address that it was sent to, if the socket is bound to all of them.
    to: Option<IpAddr>,
    data: Vec<u8>,
    /// Whose buffer it fills, of a Unix socket.
    pub(super) sender: Option<Key>,
}

impl Received {
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }
}

/// A datagram socket.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) local: SocketAddr,
    /// Whom it is connected to.
    pub(super) peer: Option<SocketAddr>,
    /// What only a Unix socket has.
    pub(super) unix: Option<UnixDatagram>,
    /// The groups of which it is a member, and through which interface.
    pub(super) groups: Vec<(IpAddr, u32)>,
    /// It has joined one: it does not hear what only others have joined.
    pub(super) hears_own_groups: bool,
    pub(super) to_groups: ToGroups,
    pub(super) only_v6: bool,
    pub(super) received: VecDeque<Received>,
    /// What that takes of its buffer, in bytes,
    received_cost: usize,
    /// ... and what there is of it.
    received_cost_max: usize,
    /// `SO_ERROR`.
    pub(super) error: Option<io::ErrorKind>,
    /// The kernel takes nothing.
    pub(super) is_full: bool,
    /// An error is reported as something to read, too.
    is_error_readable: bool,
}

impl Datagram {
    pub(super) fn new(local: SocketAddr, faults: &Faults, kernel: Kernel) -> Datagram {
        Datagram {
            local,
            peer: None,
            unix: None,
            groups: Vec::new(),
            hears_own_groups: false,
            to_groups: ToGroups::default(),
            only_v6: false,
            received: VecDeque::new(),
            received_cost: 0,
            received_cost_max: faults.receive_buffer_bytes.saturating_mul(2),
            error: None,
            is_full: false,
            is_error_readable: kernel == Kernel::Contract,
        }
    }

    /// Whether it hears a sender: of who is connected, the peer only.
    pub(super) fn hears(&self, from: SocketAddr) -> bool {
        let is_same = |peer: SocketAddr| {
            peer.ip().to_canonical() == from.ip().to_canonical() && peer.port() == from.port()
        };
        self.peer.is_none_or(is_same)
    }

    /// Whether it keeps one more datagram from the network; an empty queue takes one of any length.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.received.is_empty() || self.received_cost + cost(length) <= self.received_cost_max
    }

    pub(super) fn put(
        &mut self,
        from: SocketAddr,
        to: Option<IpAddr>,
        data: Vec<u8>,
        sender: Option<Key>,
    ) {
        self.received_cost += cost(data.len());
        self.received.push_back(Received { from, to, data, sender });
    }

    pub(super) fn readiness(&self) -> Readiness {
        let hint = |hint: Readiness, is_set: bool| if is_set { hint } else { Readiness::EMPTY };
        let is_readable =
            !self.received.is_empty() || self.error.is_some() && self.is_error_readable;
        hint(Readiness::READABLE, is_readable)
            | hint(Readiness::WRITABLE, !self.is_full && self.has_unix_room())
            | hint(Readiness::ERROR, self.error.is_some())
    }
}

/// The datagram sockets of all machines by their addresses, and the datagrams that are under way.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    pub(super) bound: Vec<Bound>,
    pub(super) under_way: Slab<Packet>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) key: Key,
    pub(super) machine: u32,
    pub(super) address: SocketAddr,
    pub(super) only_v6: bool,
    shares_address: bool,
    pub(super) shares_port: bool,
}

impl Datagrams {
    pub(super) fn unbind(&mut self, key: Key) {
        self.bound.retain(|bound| bound.key != key);
    }

    /// Whether one more may be bound there.
    fn is_free(&self, one: &Bound) -> bool {
        let ip = one.address.ip().to_canonical();
        !self.bound.iter().any(|other| {
            let other_ip = other.address.ip().to_canonical();
            let overlap = covers(ip, one.only_v6, other_ip) || covers(other_ip, other.only_v6, ip);
            let is_shared =
                one.shares_address && other.shares_address || one.shares_port && other.shares_port;
            let is_same =
                other.machine == one.machine && other.address.port() == one.address.port();
            is_same && overlap && !is_shared
        })
    }
}

impl Net {
    pub(super) fn datagram(&mut self, key: Key) -> Option<&mut Datagram> {
        match self.sockets.get_mut(key).map(|sock| &mut sock.kind) {
            Some(Kind::Datagram(datagram)) => Some(datagram),
            _ => None,
        }
    }

    pub(super) fn bind_datagram(
        &mut self,
        host: u32,
        mut address: SocketAddr,
        peer: Option<SocketAddr>,
        options: &DatagramOptions,
    ) -> io::Result<Key> {
        self.call(host, Call::Bind)?;
        let machine = self.machine(host);
        let ip = address.ip().to_canonical();
        let is_own = self.addresses.machine(machine, ip) == Some(machine);
        if !ip.is_unspecified() && !ip.is_multicast() && !is_own {
            return Err(os_error(io::ErrorKind::AddrNotAvailable));
        }
        let to_groups = self.to_groups(machine, address, options)?;
        let mut bound = Bound {
            key: Key::NONE,
            machine,
            address,
            only_v6: options.only_v6,
            shares_address: options.reuse_address,
            shares_port: options.reuse_port,
        };
        if address.port() == 0 {
            let datagrams = &self.datagrams;
            let alone = Bound { shares_address: false, shares_port: false, ..bound };
            let port = next_port(&mut self.hosts[host as usize].last_port, |port| {
                address.set_port(port);
                datagrams.is_free(&Bound { address, ..alone })
            })?;
            address.set_port(port);
            bound.address = address;
        }
        if !self.datagrams.is_free(&bound) {
            return Err(os_error(io::ErrorKind::AddrInUse));
        }
        // As Linux: bound to one address, it is of that one's family.
        let only_v6 = options.only_v6 || ip.is_ipv6() && !ip.is_unspecified();
        let peer = peer.map(specified);
        if let Some(peer) = peer {
            check_family(address.ip(), only_v6, peer.ip())?;
            self.check_way(machine, address.ip(), peer.ip())?;
        }
        // Connected, it has the address that it sends from (connect(2)).
        let local = match peer {
            Some(peer) if ip.is_unspecified() => {
                let source = self.addresses.source(machine, peer.ip());
                of_family(address, SocketAddr::new(source, address.port()))
            }
            _ => address,
        };
        bound.address = local;
        let datagram = Datagram {
            peer,
            to_groups,
            only_v6,
            ..Datagram::new(local, &self.faults(host), self.kernel)
        };
        let key = self.sockets.insert(Sock::new(host, Kind::Datagram(Box::new(datagram))));
        self.datagrams.bound.push(Bound { key, ..bound });
        self.log(host, "bind", key, u64::from(local.port()));
        Ok(key)
    }

    pub(super) fn receive_datagram(
        &mut self,
        key: Key,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
        let host = self.host_of(key);
        let Some(datagram) = self.datagram(key) else {
            return Err(os_error(io::ErrorKind::NotConnected));
        };
        if let Some(error) = datagram.error.take() {
            self.log_error(host, "receive", key, trace::error_name(error));
            return Err(os_error(error));
        }
        let Some(Received { from, to, data, sender }) = datagram.received.pop_front() else {
            self.arm(key, Readiness::READABLE);
            return Err(os_error(io::ErrorKind::WouldBlock));
        };
        datagram.received_cost -= cost(data.len());
        let count = data.len().min(buffer.len());
        buffer[..count].copy_from_slice(&data[..count]);
        let mut head = Head::default();
        head.push(&data);
        self.log_bytes(host, "receive", key, data.len() as u64, (head, 0));
        self.tell_of_room(key);
        self.give_back(sender, data.len());
        Ok((data.len(), from, to))
    }

    pub(super) fn send_datagram(
        &mut self,
        key: Key,
        data: &[u8],
        from: Option<IpAddr>,
        to: Option<SocketAddr>,
    ) -> io::Result<()> {
        let host = self.host_of(key);
        let from = from.map(|from| from.to_canonical());
        let to = self.way(key, data.len(), from, to).inspect_err(|error| {
            self.log_error(host, "send", key, trace::error_name(error.kind()));
        })?;
        self.take_room(key)?;
        self.log_sent(key, data);
        match to.ip().to_canonical().is_multicast() {
            true => self.carry_to_group(key, data, from, to),
            false => self.carry_datagram(key, data, from, to),
        }
        Ok(())
    }

    /// Where a datagram goes, if it may; the error of an earlier one is told last, as by Linux.
    fn way(
        &mut self,
        key: Key,
        length: usize,
        from: Option<IpAddr>,
        to: Option<SocketAddr>,
    ) -> io::Result<SocketAddr> {
        let machine = self.machine(self.host_of(key));
        let Some(datagram) = self.datagram(key) else {
            return Err(os_error(io::ErrorKind::NotConnected));
        };
        let (local, only_v6, peer) = (datagram.local.ip(), datagram.only_v6, datagram.peer);
        let to = match to.map(specified) {
            Some(to) => {
                check_family(local, only_v6, to.ip())?;
                if to.port() == 0 {
                    return Err(os_error(io::ErrorKind::InvalidInput));
                }
                to
            }
            None => peer.ok_or(Errno::DESTADDRREQ)?,
        };
        match to.ip().to_canonical().is_multicast() {
            true => self.check_way_to_groups(key, from.unwrap_or(local))?,
            false => self.check_way(machine, from.unwrap_or(local), to.ip())?,
        }
        if from.is_some_and(|from| from.is_ipv4() != to.ip().to_canonical().is_ipv4()) {
            return Err(os_error(io::ErrorKind::InvalidInput));
        }
        if let Some(from) = from
            && self.addresses.machine(machine, from) != Some(machine)
        {
            // As Linux: each family has an error of its own.
            return Err(os_error(match from {
                IpAddr::V4(_) => io::ErrorKind::NetworkUnreachable,
                IpAddr::V6(_) => io::ErrorKind::InvalidInput,
            }));
        }
        if length > length_max(to) {
            return Err(Errno::MSGSIZE.into());
        }
        match self.datagram(key).and_then(|datagram| datagram.error.take()) {
            Some(error) => Err(os_error(error)),
            None => Ok(to),
        }
    }

    /// Whether there is a way from one address to another.
    fn check_way(&self, machine: u32, from: IpAddr, to: IpAddr) -> io::Result<()> {
        if to.to_canonical().is_multicast() {
            return Ok(());
        }
        let reached = self.addresses.machine(machine, to);
        if reached.is_none() && !is_near(to) {
            return Err(os_error(io::ErrorKind::NetworkUnreachable));
        }
        // Of IPv6 it is sent, and lost.
        let from = from.to_canonical();
        if from.is_ipv4() && from.is_loopback() && reached != Some(machine) {
            return Err(os_error(io::ErrorKind::InvalidInput));
        }
        Ok(())
    }

    pub(super) fn log_sent(&mut self, key: Key, data: &[u8]) {
        let (mut head, digest) = (Head::default(), trace::digest(0, data));
        head.push(data);
        self.log_bytes(self.host_of(key), "send", key, data.len() as u64, (head, digest));
    }

    /// A fault: the kernel takes nothing for a while.
    pub(super) fn take_room(&mut self, key: Key) -> io::Result<()> {
        let host = self.host_of(key);
        let is_full = self.datagram(key).is_some_and(|datagram| datagram.is_full);
        let full = if is_full { 0.0 } else { self.faults(host).full_sends };
        let mut filled = self.decisions.chance(Matter::FullSend, key.index(), full);
        if let Some(how) = &mut filled {
            let at = self.now + Duration::from_nanos(how.below(1_000_000));
            self.send(at, Event::Room { of: key });
            if let Some(datagram) = self.datagram(key) {
                datagram.is_full = true;
            }
        }
        if is_full || filled.is_some() {
            self.arm(key, Readiness::WRITABLE);
            self.log_error(host, "send", key, "WouldBlock");
            return Err(os_error(io::ErrorKind::WouldBlock));
        }
        Ok(())
    }
}
