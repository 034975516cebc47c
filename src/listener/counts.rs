//! Connections counted by client address.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use slab::Slab;

use crate::peer::Peer;

/// What counts as one client address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Prefix {
    V4(u32),
    V6(u64),
    /// Of a Unix socket.
    User(u32),
}

/// The number of a client address that is not counted.
pub(crate) const NO_NUMBER: u32 = u32::MAX;

/// Connections counted by client address. Nothing walks over the map, so its order tells nothing.
#[derive(Debug, Default)]
pub(crate) struct AddressCounts {
    numbers: HashMap<Prefix, usize>,
    counts: Slab<(Prefix, usize)>,
}

impl AddressCounts {
    /// An IPv4 address, also one mapped into IPv6; of an IPv6 address the first 64 bits, the least
    /// that a site is given (RFC 6177), within which a client can choose at will.
    fn prefix_of(peer: IpAddr) -> Prefix {
        match peer.to_canonical() {
            IpAddr::V4(address) => Prefix::V4(u32::from(address)),
            IpAddr::V6(address) => Prefix::V6((u128::from(address) >> 64) as u64),
        }
    }

    /// A client on a Unix socket has no address, and counts by its user.
    pub(super) fn of_peer(peer: &Peer<'_>) -> io::Result<Prefix> {
        match peer.address().ip() {
            Some(ip) => Ok(AddressCounts::prefix_of(ip)),
            None => Ok(Prefix::User(peer.credentials()?.uid)),
        }
    }

    /// Counts a connection; its address's number, or `None` if the address is at the limit.
    pub(super) fn enter(&mut self, prefix: Prefix, max: usize) -> Option<u32> {
        let number = *self.numbers.entry(prefix).or_insert_with(|| self.counts.insert((prefix, 0)));
        let (_, count) = &mut self.counts[number];
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(number as u32)
    }

    pub(crate) fn leave(&mut self, number: u32) {
        let (prefix, count) = &mut self.counts[number as usize];
        *count -= 1;
        if *count == 0 {
            self.numbers.remove(prefix);
            self.counts.remove(number as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Prefix {
        AddressCounts::prefix_of(address.parse().unwrap())
    }

    #[test]
    fn a_client_address_is_an_ipv4_address_or_a_64_bit_prefix() {
        let mut counts = AddressCounts::default();
        assert!(counts.enter(peer("192.0.2.1"), 1).is_some());
        assert!(counts.enter(peer("192.0.2.1"), 1).is_none());
        assert!(counts.enter(peer("::ffff:192.0.2.1"), 1).is_none(), "the same client");
        assert!(counts.enter(peer("192.0.2.2"), 1).is_some());
        assert!(counts.enter(peer("2001:db8:1:2::3"), 1).is_some());
        assert!(counts.enter(peer("2001:db8:1:2:ffff::4"), 1).is_none(), "the same /64");
        assert!(counts.enter(peer("2001:db8:1:3::3"), 1).is_some());
        assert!(counts.enter(peer("::1"), 1).is_some());
        assert!(counts.enter(Prefix::User(1), 1).is_some(), "a user is no address");
        assert!(counts.enter(Prefix::User(1), 1).is_none());
    }

    #[test]
    fn an_address_that_left_may_come_again_and_is_forgotten() {
        let mut counts = AddressCounts::default();
        let number = counts.enter(peer("192.0.2.1"), 1).unwrap();
        counts.leave(number);
        assert!(counts.numbers.is_empty() && counts.counts.is_empty());
        assert!(counts.enter(peer("192.0.2.1"), 1).is_some());
    }
}
