//! What the network does to datagrams: it loses, doubles and delays them, and finds who hears them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::addresses::{covers, of_family};
use super::decisions::Matter;
use super::net::{Event, Net};
use super::socket::Kind;
use crate::key::Key;

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

impl Net {
    /// Sends a datagram on its way.
    pub(super) fn carry_datagram(
        &mut self,
        key: Key,
        data: &[u8],
        from: Option<IpAddr>,
        to: SocketAddr,
    ) {
        let host = self.host_of(key);
        let machine = self.machine(host);
        let Some(local) = self.datagram(key).map(|datagram| datagram.local) else { return };
        let from = match (from, local.ip().is_unspecified() || local.ip().is_multicast()) {
            (Some(from), _) => SocketAddr::new(from, local.port()),
            (None, true) => SocketAddr::new(self.addresses.source(machine, to.ip()), local.port()),
            (None, false) => local,
        };
        let target = self.addresses.machine(machine, to.ip());
        if from.ip().is_loopback() && target != Some(machine) {
            // Its receiver drops it (RFC 4291, 2.5.3).
            return self.log(host, "lost", key, data.len() as u64);
        }
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
        let Packet { sender, host, from, to, .. } = packet;
        let Some(target) = self.addresses.machine(self.machine(host), to.ip()) else { return };
        let receiver = self.receiver(target, from, to);
        let to_host = receiver.map_or(target, |key| self.host_of(key));
        if self.is_severed(host, to_host) {
            return;
        }
        let Some(receiver) = receiver else {
            if !self.is_severed(to_host, host) {
                let faults = self.link(to_host, host);
                let at = self.now + self.latency(&faults, Matter::AnswerLatency, sender);
                let number = self.datagrams.under_way.insert(packet);
                if at == self.now && target == self.machine(host) {
                    self.arrive_refusal(number);
                } else {
                    self.send(at, Event::Refused { number });
                }
            }
            return;
        };
        let data = packet.data;
        self.take_in(receiver, from, Some(to.ip()), data);
    }

    /// A datagram comes to a socket, which drops it if it has no room.
    fn take_in(&mut self, receiver: Key, from: SocketAddr, to: Option<IpAddr>, data: Vec<u8>) {
        let Some(datagram) = self.datagram(receiver) else { return };
        if !datagram.has_room(data.len()) {
            return self.log(self.host_of(receiver), "dropped", receiver, data.len() as u64);
        }
        let shown = |it| of_family(datagram.local, it);
        let (from, to) = (shown(from), to.map(|to| shown(SocketAddr::new(to, 0)).ip()));
        let to = to.filter(|_| datagram.local.ip().is_unspecified());
        datagram.put(from, to, data, None);
        self.wake(receiver);
    }

    /// A datagram for a group comes to a machine, for all who hear it there.
    fn arrive_at_group(&mut self, machine: u32, interface: u32, packet: &Packet) {
        let Packet { host, from, to, .. } = *packet;
        for receiver in self.hearers(machine, interface, to) {
            let hears = self.datagram(receiver).is_some_and(|datagram| datagram.hears(from));
            if hears && !self.is_severed(host, self.host_of(receiver)) {
                self.take_in(receiver, from, None, packet.data.clone());
            }
        }
    }

    /// The answer that nobody was there: it is for the socket that has both addresses, whoever sent, and only one that
    /// is connected is told (icmp(7)).
    pub(super) fn arrive_refusal(&mut self, number: usize) {
        let Packet { host, from, to, .. } = self.datagrams.under_way.remove(number);
        let Some(told) = self.receiver(self.machine(host), to, from) else { return };
        let host = self.host_of(told);
        if let Some(datagram) = self.datagram(told)
            && datagram.peer.is_some()
        {
            datagram.error = Some(io::ErrorKind::ConnectionRefused);
            self.log_error(host, "refused", told, "ConnectionRefused");
            self.wake(told);
        }
    }

    pub(super) fn arrive_room(&mut self, of: Key) {
        if let Some(datagram) = self.datagram(of) {
            datagram.is_full = false;
            self.wake(of);
        }
    }
}
