//! Whose an address is, who listens there, and who is connected: ip(7), ipv6(7), bind(2).

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use super::calls::os_error;
use crate::key::Key;

/// The ports that are given out (ip(7), `ip_local_port_range`).
const PORTS: Range<u16> = 32_768..61_000;

/// The addresses of all machines, of which each has a number.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// The machine that has an address. Loopback is each machine's own.
    machines: BTreeMap<IpAddr, u32>,
    /// Listeners of a machine, by port and address; several with `SO_REUSEPORT`.
    listeners: BTreeMap<(u32, u16, IpAddr), Vec<Bound>>,
    /// The two addresses of each connection, seen from who connected: no two of a machine have the
    /// same. Nothing walks over the set, so its order tells nothing.
    pairs: HashSet<(u32, SocketAddr, SocketAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    listener: Key,
    reuse_port: bool,
    only_v6: bool,
}

/// The addresses that a new machine has: 10.x.y.z, and the same behind fd00::.
pub(crate) fn numbered(machine: u32) -> (Ipv4Addr, Ipv6Addr) {
    let v4 = Ipv4Addr::from_bits(0x0a00_0001 + machine);
    let v6 = Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(1 + machine));
    (v4, v6)
}

/// Whether an address is in the network that all machines are in.
pub(crate) fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.segments()[..4] == [0xfd00, 0, 0, 0],
    }
}

/// An IPv4 address as an IPv6 socket shows it.
pub(crate) fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// An address as a socket that has this one shows it: all of IPv6, or of IPv4.
pub(crate) fn of_family(local: SocketAddr, address: SocketAddr) -> SocketAddr {
    match local {
        SocketAddr::V6(_) => mapped(address),
        SocketAddr::V4(_) => SocketAddr::new(address.ip().to_canonical(), address.port()),
    }
}

/// Loopback, if the address is the unspecified one: that is where a connect to it goes.
pub(crate) fn specified(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Whether a listener at `bound` hears what is for `ip`.
pub(super) fn covers(bound: IpAddr, only_v6: bool, ip: IpAddr) -> bool {
    match bound {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.is_ipv4(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => ip.is_ipv6() || !only_v6,
        bound => bound == ip,
    }
}

impl Addresses {
    /// Gives an address to a machine.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if another one has it, or every one.
    pub(crate) fn claim(&mut self, machine: u32, ip: IpAddr) -> io::Result<()> {
        if ip.is_unspecified() {
            return Err(os_error(io::ErrorKind::AddrNotAvailable));
        }
        if ip.is_loopback() || *self.machines.entry(ip).or_insert(machine) == machine {
            return Ok(());
        }
        Err(os_error(io::ErrorKind::AddrNotAvailable))
    }

    /// The machine that `ip` is, as seen from one.
    pub(crate) fn machine(&self, from: u32, ip: IpAddr) -> Option<u32> {
        let ip = ip.to_canonical();
        if ip.is_loopback() { Some(from) } else { self.machines.get(&ip).copied() }
    }

    /// The address that a machine connects from, if nothing is said about it.
    pub(crate) fn source(&self, machine: u32, to: IpAddr) -> IpAddr {
        let (v4, v6) = numbered(machine);
        match to.to_canonical() {
            IpAddr::V4(to) if to.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            to if self.machine(machine, to) == Some(machine) => to,
            IpAddr::V4(_) => v4.into(),
            IpAddr::V6(_) => v6.into(),
        }
    }

    fn at_port(&self, machine: u32, port: u16) -> impl Iterator<Item = (IpAddr, &Bound)> {
        let first = (machine, port, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let last = (machine, port, IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)));
        let all = self.listeners.range(first..=last);
        all.flat_map(|((_, _, ip), bounds)| bounds.iter().map(|bound| (*ip, bound)))
    }

    /// Whether a listener may be bound there: to an address of the machine, which none has that does
    /// not share it. (`SO_REUSEADDR` does not help against one that listens.)
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable`, `AddrInUse`.
    pub(crate) fn check(
        &self,
        machine: u32,
        address: SocketAddr,
        reuse_port: bool,
        only_v6: bool,
    ) -> io::Result<()> {
        let ip = address.ip().to_canonical();
        if !ip.is_unspecified() && self.machine(machine, ip) != Some(machine) {
            return Err(os_error(io::ErrorKind::AddrNotAvailable));
        }
        let is_taken = self.at_port(machine, address.port()).any(|(other, bound)| {
            let overlap = covers(ip, only_v6, other) || covers(other, bound.only_v6, ip);
            overlap && !(reuse_port && bound.reuse_port)
        });
        if is_taken { Err(os_error(io::ErrorKind::AddrInUse)) } else { Ok(()) }
    }

    /// Enters a listener for which [`check`](Self::check) found nothing.
    pub(crate) fn bind(
        &mut self,
        machine: u32,
        address: SocketAddr,
        listener: Key,
        reuse_port: bool,
        only_v6: bool,
    ) {
        let place = (machine, address.port(), address.ip().to_canonical());
        self.listeners.entry(place).or_default().push(Bound { listener, reuse_port, only_v6 });
    }

    pub(crate) fn unbind(&mut self, machine: u32, address: SocketAddr, listener: Key) {
        let place = (machine, address.port(), address.ip().to_canonical());
        if let Some(bounds) = self.listeners.get_mut(&place) {
            bounds.retain(|bound| bound.listener != listener);
            if bounds.is_empty() {
                self.listeners.remove(&place);
            }
        }
    }

    /// The listener of a machine that a connection to `address` reaches: the one whose address says the
    /// most. Among those that share it, `hash` chooses.
    pub(crate) fn listener(
        &self,
        machine: u32,
        address: SocketAddr,
        hash: impl FnOnce() -> u64,
    ) -> Option<Key> {
        let ip = address.ip().to_canonical();
        let any = [ip, Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for bound in any {
            let Some(bounds) = self.listeners.get(&(machine, address.port(), bound)) else {
                continue;
            };
            let mut fit = bounds.iter().filter(|one| covers(bound, one.only_v6, ip));
            let count = fit.clone().count();
            if count > 0 {
                let chosen = if count > 1 { hash() as usize % count } else { 0 };
                return fit.nth(chosen).map(|one| one.listener);
            }
        }
        None
    }

    /// A port for a listener, the next one after `last` that is free.
    pub(crate) fn port_for_listener(
        &self,
        machine: u32,
        mut address: SocketAddr,
        last: &mut u16,
        only_v6: bool,
    ) -> io::Result<u16> {
        next_port(last, |port| {
            address.set_port(port);
            let bounds = self.at_port(machine, port);
            bounds.count() == 0 && self.check(machine, address, false, only_v6).is_ok()
        })
    }

    /// Enters a connection, and gives where it comes from: if that has port 0, with the next one after
    /// `last` that is free. No port that is bound is chosen, nor the one that would connect to itself: on
    /// Linux that is one in 28,232, and who counts upwards would meet it far more often.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if there is none, or such a connection already.
    pub(crate) fn connect(
        &mut self,
        machine: u32,
        mut local: SocketAddr,
        remote: SocketAddr,
        last: &mut u16,
    ) -> io::Result<SocketAddr> {
        if local.port() == 0 {
            let port = next_port(last, |port| {
                local.set_port(port);
                local != remote
                    && self.at_port(machine, port).next().is_none()
                    && !self.pairs.contains(&(machine, local, remote))
            })?;
            local.set_port(port);
        }
        if !self.pairs.insert((machine, local, remote)) {
            return Err(os_error(io::ErrorKind::AddrNotAvailable));
        }
        Ok(local)
    }

    pub(crate) fn disconnect(&mut self, machine: u32, local: SocketAddr, remote: SocketAddr) {
        self.pairs.remove(&(machine, local, remote));
    }
}

pub(super) fn next_port(last: &mut u16, mut is_free: impl FnMut(u16) -> bool) -> io::Result<u16> {
    for _ in PORTS {
        *last = if PORTS.contains(&(*last + 1)) { *last + 1 } else { PORTS.start };
        if is_free(*last) {
            return Ok(*last);
        }
    }
    Err(os_error(io::ErrorKind::AddrNotAvailable))
}
