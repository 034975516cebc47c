//! Groups in the simulated network, in which all machines are neighbours: ip(7), ipv6(7).
//!
//! Each machine has two interfaces: loopback, which is number 1, and the one to the network, number 2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::addresses::covers;
use super::calls::{self, os_error};
use super::faults::Kernel;
use super::net::Net;
use super::packet::Packet;
use super::socket::Kind;
use crate::datagram::options::{no_address_for_v6, no_group_of_v4};
use crate::datagram::{DatagramOptions, Interface};
use crate::key::Key;

const LOOPBACK: u32 = 1;
const NETWORK: u32 = 2;

/// How a socket sends to groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToGroups {
    /// How many routers may pass it on, and one; with none it does not leave the machine.
    hops: u8,
    /// Whether members on its own machine hear it.
    is_looped: bool,
    interface: Option<u32>,
}

impl Default for ToGroups {
    fn default() -> ToGroups {
        ToGroups { hops: 1, is_looped: true, interface: None }
    }
}

impl ToGroups {
    /// Through which interface it sends from an address: if nothing is said about it, the one that has the address.
    fn interface(&self, from: Option<IpAddr>) -> u32 {
        let own = if from.is_some_and(is_loopback_v4) { LOOPBACK } else { NETWORK };
        self.interface.unwrap_or(own)
    }
}

fn is_loopback_v4(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv4() && ip.to_canonical().is_loopback()
}

impl Net {
    pub(super) fn to_groups(
        &self,
        machine: u32,
        address: SocketAddr,
        options: &DatagramOptions,
    ) -> io::Result<ToGroups> {
        let default = ToGroups::default();
        let interface = match &options.multicast_interface {
            Interface::Any => None,
            named => Some(self.interface(machine, named, address.is_ipv6())?),
        };
        Ok(ToGroups {
            hops: options.multicast_ttl.unwrap_or(default.hops),
            is_looped: options.multicast_loop.unwrap_or(default.is_looped),
            interface,
        })
    }

    fn interface(&self, machine: u32, interface: &Interface, is_v6: bool) -> io::Result<u32> {
        match interface {
            Interface::Any => Ok(NETWORK),
            Interface::Index(index @ (LOOPBACK | NETWORK)) => Ok(*index),
            Interface::Address(_) if is_v6 => Err(no_address_for_v6()),
            Interface::Address(ip) if ip.is_loopback() => Ok(LOOPBACK),
            Interface::Address(ip)
                if self.addresses.machine(machine, IpAddr::V4(*ip)) == Some(machine) =>
            {
                Ok(NETWORK)
            }
            Interface::Address(_) => Err(os_error(io::ErrorKind::AddrNotAvailable)),
            Interface::Index(_) => Err(calls::NODEV.into()),
        }
    }

    pub(super) fn set_membership(
        &mut self,
        key: Key,
        group: IpAddr,
        interface: &Interface,
        is_member: bool,
    ) -> io::Result<()> {
        let machine = self.machine(self.host_of(key));
        let Some(datagram) = self.datagram(key).filter(|datagram| datagram.unix.is_none()) else {
            return Err(Errno::OPNOTSUPP.into());
        };
        match group {
            IpAddr::V4(_) if datagram.only_v6 && datagram.local.is_ipv6() => {
                return Err(no_group_of_v4());
            }
            IpAddr::V6(_) if datagram.local.is_ipv4() => return Err(Errno::NOPROTOOPT.into()),
            _ => {}
        }
        if !group.is_multicast() {
            return Err(os_error(io::ErrorKind::InvalidInput));
        }
        let place = (group, self.interface(machine, interface, group.is_ipv6())?);
        let Some(datagram) = self.datagram(key) else { return Ok(()) };
        match (datagram.groups.iter().position(|other| *other == place), is_member) {
            (None, true) => {
                datagram.groups.push(place);
                datagram.hears_own_groups = true;
            }
            (Some(index), false) => {
                datagram.groups.remove(index);
            }
            (Some(_), true) => return Err(os_error(io::ErrorKind::AddrInUse)),
            (None, false) => return Err(os_error(io::ErrorKind::AddrNotAvailable)),
        }
        Ok(())
    }

    /// Whether a socket may send to groups from an address.
    pub(super) fn check_way_to_groups(&mut self, key: Key, from: IpAddr) -> io::Result<()> {
        let is_loopback = is_loopback_v4(from);
        match self.datagram(key) {
            Some(sender) if is_loopback && sender.to_groups.interface(Some(from)) != LOOPBACK => {
                Err(os_error(io::ErrorKind::InvalidInput))
            }
            _ => Ok(()),
        }
    }

    /// Sends a datagram on its way to each machine that has members.
    pub(super) fn carry_to_group(
        &mut self,
        key: Key,
        data: &[u8],
        from: Option<IpAddr>,
        to: SocketAddr,
    ) {
        let host = self.host_of(key);
        let machine = self.machine(host);
        let Some(sender) = self.datagram(key) else { return };
        let (local, to_groups) = (sender.local, sender.to_groups);
        let is_own_address = !local.ip().is_unspecified() && !local.ip().is_multicast();
        let from = from.or(is_own_address.then_some(local.ip()));
        let interface = to_groups.interface(from);
        let from = from.unwrap_or_else(|| match (interface, to.ip().to_canonical()) {
            (LOOPBACK, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (LOOPBACK, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
            (_, ip) => self.addresses.source(machine, ip),
        });
        let from = SocketAddr::new(from, local.port());
        let machines = (0..self.hosts.len() as u32).filter(|host| self.machine(*host) == *host);
        for target in machines.collect::<Vec<_>>() {
            let is_own = target == machine;
            // Loopback brings it back in any case.
            let comes = match interface {
                LOOPBACK => is_own,
                // Nobody takes from the network what says that it is from loopback.
                _ if from.ip().is_loopback() => false,
                _ if is_own => to_groups.is_looped,
                _ => to_groups.hops > 0,
            };
            let Some(hearer) = self.hearers(target, interface, to).first().copied() else {
                continue;
            };
            if comes {
                let to_host = self.host_of(hearer);
                let group_at = Some((target, interface));
                let data = data.to_vec();
                let packet = Packet { sender: key, host, from, to, group_at, data };
                self.carry_packet(&packet, to_host, is_own);
            }
        }
    }

    /// The sockets of a machine that hear a group which comes through an interface.
    pub(super) fn hearers(&self, machine: u32, interface: u32, to: SocketAddr) -> Vec<Key> {
        let ip = to.ip().to_canonical();
        let find = |key: Key| match self.sockets.get(key).map(|sock| &sock.kind) {
            Some(Kind::Datagram(datagram)) => Some(datagram),
            _ => None,
        };
        let is_member = |key| find(key).is_some_and(|one| one.groups.contains(&(ip, interface)));
        let hears_all = |key| find(key).is_some_and(|one| !one.hears_own_groups);
        let here = || self.datagrams.bound.iter().filter(|bound| bound.machine == machine);
        if !here().any(|bound| is_member(bound.key)) {
            return Vec::new();
        }
        // With one member the machine is one, and Linux gives it to all who are bound so that they could hear it, and
        // have not joined any group themselves (IP_MULTICAST_ALL).
        let hears = here().filter(|bound| {
            bound.address.port() == to.port()
                && covers(bound.address.ip().to_canonical(), bound.only_v6, ip)
                && (self.kernel == Kernel::Linux && hears_all(bound.key) || is_member(bound.key))
        });
        hears.map(|bound| bound.key).collect()
    }
}
