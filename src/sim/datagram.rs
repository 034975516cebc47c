//! What a simulated datagram socket does, and what the network does to datagrams: udp(7), recv(2), send(2).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use slab::Slab;

use super::addresses::{covers, is_near, mapped, next_port, specified};
use super::calls::{Call, os_error};
use super::decisions::Matter;
use super::faults::{Faults, Kernel};
use super::multicast::ToGroups;
use super::net::{Event, Net};
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

/// A datagram socket.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) local: SocketAddr,
    /// Whom it is connected to.
    peer: Option<SocketAddr>,
    /// What only a Unix socket has.
    pub(super) unix: Option<UnixDatagram>,
    /// The groups of which it is a member, and through which interface.
    pub(super) groups: Vec<(IpAddr, u32)>,
    /// It has joined one: it does not hear what only others have joined.
    pub(super) hears_own_groups: bool,
    pub(super) to_groups: ToGroups,
    pub(super) only_v6: bool,
    pub(super) received: VecDeque<(SocketAddr, Vec<u8>)>,
    received_bytes: usize,
    received_max: usize,
    /// `SO_ERROR`.
    error: Option<io::ErrorKind>,
    /// The kernel takes nothing.
    is_full: bool,
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
            received_bytes: 0,
            received_max: faults.receive_buffer_bytes,
            error: None,
            is_full: false,
            is_error_readable: kernel == Kernel::Contract,
        }
    }

    /// Whether it hears a sender: of who is connected, the peer only.
    fn hears(&self, from: SocketAddr) -> bool {
        let is_same = |peer: SocketAddr| {
            peer.ip().to_canonical() == from.ip().to_canonical() && peer.port() == from.port()
        };
        self.peer.is_none_or(is_same)
    }

    pub(super) fn put(&mut self, from: SocketAddr, data: Vec<u8>) {
        self.received_bytes += data.len();
        self.received.push_back((from, data));
    }

    pub(super) fn readiness(&self) -> Readiness {
        let hint = |hint: Readiness, is_set: bool| if is_set { hint } else { Readiness::EMPTY };
        let is_readable =
            !self.received.is_empty() || self.error.is_some() && self.is_error_readable;
        hint(Readiness::READABLE, is_readable)
            | hint(Readiness::WRITABLE, !self.is_full && !self.is_peer_full())
            | hint(Readiness::ERROR, self.error.is_some())
    }
}

/// The datagram sockets of all machines by their addresses, and the datagrams that are under way.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    pub(super) bound: Vec<Bound>,
    under_way: Slab<Packet>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) key: Key,
    pub(super) machine: u32,
    pub(super) address: SocketAddr,
    pub(super) only_v6: bool,
    shares_address: bool,
    shares_port: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) sender: Key,
    /// The sender's host.
    pub(super) host: u32,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// If it is for a group: to which machine it goes, and through which interface it comes there.
    pub(super) group_at: Option<(u32, u32)>,
    pub(super) data: Vec<u8>,
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
        let peer = peer.map(specified);
        // Connected, it has the address that it sends from (connect(2)).
        let local = match peer {
            Some(peer) if ip.is_unspecified() => {
                let source = self.addresses.source(machine, peer.ip());
                SocketAddr::new(source, address.port())
            }
            _ => address,
        };
        bound.address = local;
        let datagram = Datagram {
            peer,
            to_groups,
            only_v6: options.only_v6,
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
    ) -> io::Result<(usize, SocketAddr)> {
        let host = self.host_of(key);
        let Some(datagram) = self.datagram(key) else {
            return Err(os_error(io::ErrorKind::NotConnected));
        };
        if let Some(error) = datagram.error.take() {
            self.log_error(host, "receive", key, trace::error_name(error));
            return Err(os_error(error));
        }
        let Some((from, data)) = datagram.received.pop_front() else {
            self.arm(key, Readiness::READABLE);
            return Err(os_error(io::ErrorKind::WouldBlock));
        };
        datagram.received_bytes -= data.len();
        let count = data.len().min(buffer.len());
        buffer[..count].copy_from_slice(&data[..count]);
        let mut head = Head::default();
        head.push(&data);
        self.log_bytes(host, "receive", key, data.len() as u64, (head, 0));
        self.tell_of_room(key);
        Ok((data.len(), from))
    }

    pub(super) fn send_datagram(
        &mut self,
        key: Key,
        data: &[u8],
        to: Option<SocketAddr>,
    ) -> io::Result<()> {
        let (host, machine) = (self.host_of(key), self.machine(self.host_of(key)));
        let Some(datagram) = self.datagram(key) else {
            return Err(os_error(io::ErrorKind::NotConnected));
        };
        if let Some(error) = datagram.error.take() {
            self.log_error(host, "send", key, trace::error_name(error));
            return Err(os_error(error));
        }
        let Some(to) = to.or(datagram.peer).map(specified) else {
            return Err(Errno::DESTADDRREQ.into());
        };
        if data.len() > length_max(to) {
            return Err(Errno::MSGSIZE.into());
        }
        let is_routed = is_near(to.ip()) || to.ip().to_canonical().is_multicast();
        if self.addresses.machine(machine, to.ip()).is_none() && !is_routed {
            self.log_error(host, "send", key, "NetworkUnreachable");
            return Err(os_error(io::ErrorKind::NetworkUnreachable));
        }
        self.take_room(key)?;
        self.log_sent(key, data);
        match to.ip().to_canonical().is_multicast() {
            true => self.carry_to_group(key, data, to),
            false => self.carry_datagram(key, data, to),
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

    /// Sends a datagram on its way.
    fn carry_datagram(&mut self, key: Key, data: &[u8], to: SocketAddr) {
        let host = self.host_of(key);
        let machine = self.machine(host);
        let Some(local) = self.datagram(key).map(|datagram| datagram.local) else { return };
        let from = match local.ip().is_unspecified() || local.ip().is_multicast() {
            true => SocketAddr::new(self.addresses.source(machine, to.ip()), local.port()),
            false => local,
        };
        let target = self.addresses.machine(machine, to.ip());
        let receiver = target.and_then(|target| self.receiver(target, from, to));
        let to_host = receiver.map(|key| self.host_of(key)).or(target).unwrap_or(host);
        let data = data.to_vec();
        let packet = Packet { sender: key, host, from, to, group_at: None, data };
        self.carry_packet(&packet, to_host, target == Some(machine));
    }

    /// Sends a datagram on its way to a host, or loses it.
    pub(super) fn carry_packet(&mut self, packet: &Packet, to_host: u32, is_same_machine: bool) {
        let (key, host, of) = (packet.sender, packet.host, packet.sender.index());
        let faults = self.link(host, to_host);
        if self.decisions.chance(Matter::LostDatagram, of, faults.lost_datagrams).is_some() {
            return self.log(host, "lost", key, packet.data.len() as u64);
        }
        let twice =
            self.decisions.chance(Matter::DuplicatedDatagram, of, faults.duplicated_datagrams);
        for _ in 0..1 + u32::from(twice.is_some()) {
            let late = self.decisions.chance(Matter::LateDatagram, of, faults.late_datagrams);
            let late = late.map_or(0, |mut how| how.below(100_000_000));
            let at = self.now + self.latency(&faults, Matter::Latency, key);
            let number = self.datagrams.under_way.insert(packet.clone());
            let at = at + Duration::from_nanos(late);
            if at == self.now && is_same_machine {
                // Over loopback it is there when the call returns, and so is the answer that nobody is.
                self.arrive_datagram(number);
            } else {
                self.send(at, Event::Datagram { number });
            }
        }
    }

    /// The socket of a machine that a datagram reaches: one that is connected to its sender before those that
    /// hear everybody, the one whose address says the most, among equals the one that was bound last. Who
    /// shares a port has the senders spread over it.
    fn receiver(&self, machine: u32, from: SocketAddr, to: SocketAddr) -> Option<Key> {
        let ip = to.ip().to_canonical();
        let fit = self.datagrams.bound.iter().filter_map(|bound| {
            let bound_ip = bound.address.ip().to_canonical();
            let hears = bound.machine == machine
                && bound.address.port() == to.port()
                && covers(bound_ip, bound.only_v6, ip);
            let Some(Kind::Datagram(datagram)) = self.sockets.get(bound.key).map(|sock| &sock.kind)
            else {
                return None;
            };
            let is_open = datagram.hears(from);
            let rank = (
                datagram.peer.is_some(),
                bound_ip == ip,
                bound_ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            );
            (hears && is_open).then_some((rank, bound))
        });
        let best = fit.clone().map(|(rank, _)| rank).max()?;
        let mut best = fit.filter(|(rank, _)| *rank == best).map(|(_, bound)| bound);
        let count = best.clone().count();
        let last = best.clone().next_back()?;
        if !last.shares_port {
            return Some(last.key);
        }
        let hash = self.decisions.number(u64::from(from.port()));
        best.nth(hash as usize % count).map(|bound| bound.key)
    }

    pub(super) fn arrive_datagram(&mut self, number: usize) {
        let packet = self.datagrams.under_way.remove(number);
        if let Some((machine, interface)) = packet.group_at {
            return self.arrive_at_group(machine, interface, &packet);
        }
        let Packet { sender, host, from, to, data, .. } = packet;
        let Some(target) = self.addresses.machine(self.machine(host), to.ip()) else { return };
        let receiver = self.receiver(target, from, to);
        let to_host = receiver.map_or(target, |key| self.host_of(key));
        if self.is_severed(host, to_host) {
            return;
        }
        let Some(receiver) = receiver else {
            // Nobody is there, which only a sender that is connected is told (icmp(7)).
            if !self.is_severed(to_host, host) {
                let faults = self.link(to_host, host);
                let at = self.now + self.latency(&faults, Matter::AnswerLatency, sender);
                if at == self.now && target == self.machine(host) {
                    self.arrive_refusal(sender);
                } else {
                    self.send(at, Event::Refused { to: sender });
                }
            }
            return;
        };
        self.take_in(receiver, from, data);
    }

    /// A datagram comes to a socket, which drops it if it has no room.
    fn take_in(&mut self, receiver: Key, from: SocketAddr, data: Vec<u8>) {
        let Some(datagram) = self.datagram(receiver) else { return };
        if datagram.received_bytes >= datagram.received_max {
            return self.log(self.host_of(receiver), "dropped", receiver, data.len() as u64);
        }
        // An IPv6 socket shows IPv4 addresses as its own.
        let from = if datagram.local.is_ipv6() { mapped(from) } else { from };
        datagram.put(from, data);
        self.wake(receiver);
    }

    /// A datagram for a group comes to a machine, for all who hear it there.
    fn arrive_at_group(&mut self, machine: u32, interface: u32, packet: &Packet) {
        let Packet { host, from, to, .. } = *packet;
        for receiver in self.hearers(machine, interface, to) {
            let hears = self.datagram(receiver).is_some_and(|datagram| datagram.hears(from));
            if hears && !self.is_severed(host, self.host_of(receiver)) {
                self.take_in(receiver, from, packet.data.clone());
            }
        }
    }

    pub(super) fn arrive_refusal(&mut self, to: Key) {
        let host = self.host_of(to);
        if let Some(datagram) = self.datagram(to)
            && datagram.peer.is_some()
        {
            datagram.error = Some(io::ErrorKind::ConnectionRefused);
            self.log_error(host, "refused", to, "ConnectionRefused");
            self.wake(to);
        }
    }

    pub(super) fn arrive_room(&mut self, of: Key) {
        if let Some(datagram) = self.datagram(of) {
            datagram.is_full = false;
            self.wake(of);
        }
    }
}
