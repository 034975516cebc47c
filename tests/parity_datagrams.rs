//! The simulated network does to datagrams what loopback does: the same scripts in both worlds, compared by
//! what the handler and its peer saw.

#![cfg(feature = "sim")]
#![allow(clippy::duplicate_mod, reason = "the same scripts in two worlds")]

mod support;

/// Over loopback.
#[path = "parity_datagrams"]
mod real {
    pub(crate) use crate::support::world;

    pub(crate) mod play;
}

/// In simulation, with the kernel that does what Linux does.
#[path = "parity_datagrams"]
mod simulated {
    pub(crate) const KERNEL: oneloop::sim::Kernel = oneloop::sim::Kernel::Linux;

    pub(crate) mod play;
    #[path = "../support/sim.rs"]
    pub(crate) mod world;
}

/// What the reactor's socket is, and what happens to it.
struct Script {
    is_connected: bool,
    /// The reactor's buffer.
    buffer_bytes: usize,
    steps: &'static [Step],
}

#[derive(Clone, Copy)]
enum Step {
    /// The peer sends so many datagrams of so many bytes.
    PeerSends(usize, usize),
    /// So many came back to it.
    PeerReceives(usize),
    PeerCloses,
    /// The socket sends so many bytes to the peer.
    Sends(usize),
    Settle,
}

/// Of datagrams the length and what was shown; of errors the system's name.
#[derive(PartialEq, Debug)]
enum Saw {
    Datagram { length: usize, shown: usize },
    Failed { has_address: bool, error: Option<i32> },
    PeerReceived(usize),
}

fn same(script: &Script) -> Vec<Saw> {
    let (real, simulated) = (real::play::play(script), simulated::play::play(script));
    assert_eq!(real, simulated, "loopback on the left");
    real
}

fn echo(steps: &'static [Step]) -> Script {
    Script { is_connected: false, buffer_bytes: 64 * 1024, steps }
}

fn connected(steps: &'static [Step]) -> Script {
    Script { is_connected: true, ..echo(steps) }
}

use Step::*;

#[test]
fn datagrams_are_echoed_in_order_with_empty_and_largest_ones() {
    let saw =
        same(&echo(&[PeerSends(1, 5), PeerSends(1, 0), PeerSends(1, 65_507), PeerReceives(3)]));
    assert_eq!(saw.len(), 6);
}

#[test]
fn a_truncated_datagram_has_its_length() {
    let script = Script { buffer_bytes: 100, ..echo(&[PeerSends(1, 101), PeerReceives(1)]) };
    assert_eq!(same(&script)[0], Saw::Datagram { length: 101, shown: 100 });
}

#[test]
fn who_is_connected_is_told_of_a_peer_that_is_gone_and_nobody_else_is() {
    let steps = &[PeerCloses, Sends(1), Settle, Sends(1), Settle];
    assert_eq!(same(&connected(steps)).len(), 2);
    assert_eq!(same(&echo(steps)).len(), 0);
}

#[test]
fn what_gets_the_error_of_an_earlier_one_is_sent_after_all() {
    let steps = &[PeerCloses, Sends(1), Sends(2), Sends(3), Settle];
    assert!(!same(&connected(steps)).is_empty());
}

#[test]
fn what_is_too_large_is_dropped() {
    let steps = &[Sends(65_508), Sends(1), PeerReceives(1)];
    assert_eq!(same(&echo(steps)).len(), 2);
    assert_eq!(same(&connected(steps)).len(), 2);
}

#[test]
fn a_burst_keeps_its_order_and_its_number() {
    assert_eq!(same(&echo(&[PeerSends(100, 10), PeerReceives(100)])).len(), 200);
}

/// How many fit is the kernel's business. Those that do are the first ones.
#[test]
fn a_queue_that_is_full_drops_what_comes_last() {
    for count in [real::play::fitting(), simulated::play::fitting()] {
        assert!((10..1000).contains(&count), "{count}");
    }
}
