//! The simulated network does to datagrams what loopback does: the same scripts in both worlds, compared by
//! what the handler and its peer saw.

// Once is enough, see CONTRIBUTING.md.
#![cfg(debug_assertions)]
#![allow(clippy::duplicate_mod, reason = "the same scripts in two worlds")]

mod support;

/// Over loopback.
#[path = "parity_datagrams"]
mod real {
    pub(crate) use crate::support::world;

    pub(crate) mod among;
    pub(crate) mod play;
}

/// In simulation, with the kernel that does what Linux does.
#[path = "parity_datagrams"]
mod simulated {
    pub(crate) const KERNEL: oneloop::sim::Kernel = oneloop::sim::Kernel::Linux;

    pub(crate) mod among;
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

/// An IP address with its port.
#[derive(Clone, Copy)]
enum Place {
    At(&'static str),
    /// That of the socket of this number, also when it is gone.
    Of(usize),
}

/// What happens between sockets of one reactor, which have numbers.
#[derive(Clone, Copy)]
enum Among {
    /// A Unix socket with this name or none is bound, and connected to a name if there is one.
    Unix(Option<&'static str>, Option<&'static str>),
    /// ... at a path, which is gone with it.
    Path(&'static str),
    /// A UDP socket is bound that sends through this interface, with so many hops, looped or not.
    Through {
        interface: u32,
        hops: u8,
        is_looped: bool,
    },
    /// A UDP socket is bound,
    Udp(Place),
    /// ... for IPv6 only,
    OnlyV6(Place),
    /// ... so that others may share its address,
    Sharing(Place),
    /// ... and connected.
    Connected(Place, Place),
    SharingConnected(Place, Place),
    /// A socket joins the group through this interface, or leaves it.
    Join(usize, u32),
    Leave(usize, u32),
    /// A socket sends so many datagrams to its peer, to a name, a path,
    ToPeer(usize, usize),
    ToName(usize, usize, &'static str),
    ToPath(usize, &'static str),
    /// ... to the group, at the port of another one,
    ToGroup(usize, usize),
    /// ... or one of so many bytes to an address.
    To(usize, usize, Place),
    Close(usize),
    /// A listener for streams has a path, and another one an abstract name.
    Listener(&'static str),
}

/// Of datagrams the length and what was shown; of errors the system's name.
#[derive(PartialEq, Debug)]
enum Saw {
    Datagram {
        length: usize,
        shown: usize,
    },
    Failed {
        has_address: bool,
        error: Option<i32>,
    },
    PeerReceived(usize),
    /// The socket of this number, in what is played among several, received so many bytes.
    Received(usize, usize),
    Refused(Option<i32>),
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

fn same_among(steps: &[Among]) -> Vec<Saw> {
    let (real, simulated) = (real::among::play(steps), simulated::among::play(steps));
    assert_eq!(real, simulated, "the kernel on the left");
    real
}

use Among::*;
use Place::*;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const EMSGSIZE: i32 = 90;
const EPROTOTYPE: i32 = 91;
const EAFNOSUPPORT: i32 = 97;
const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;
const ENETUNREACH: i32 = 101;
const ENOTCONN: i32 = 107;
const ECONNREFUSED: i32 = 111;

fn failed(has_address: bool, error: i32) -> Saw {
    Saw::Failed { has_address, error: Some(error) }
}

#[test]
fn unix_sockets_find_each_other_by_name_and_by_path() {
    let steps = [
        Unix(Some("one"), None),
        Path("two"),
        Unix(None, Some("one")),
        ToName(1, 1, "one"),
        ToPath(0, "two"),
        ToPeer(2, 2),
    ];
    assert_eq!(same_among(&steps).len(), 4);
}

#[test]
fn who_is_not_there_is_told_in_the_same_way() {
    let steps = [
        Unix(None, None),
        Unix(Some("busy"), None),
        Unix(Some("connected"), Some("busy")),
        Listener("listener"),
        Path("gone"),
        Close(3),
        ToName(0, 1, "nobody"),
        ToPath(0, "nothing"),
        ToPath(0, "gone"),
        ToName(0, 1, "connected"),
        ToName(0, 1, "listener"),
        ToPath(0, "listener"),
        ToPeer(0, 1),
        ToName(1, 1, "connected"),
    ];
    let expected = [
        failed(true, ECONNREFUSED),
        failed(true, ENOENT),
        failed(true, ENOENT),
        failed(true, EPERM),
        failed(true, ECONNREFUSED),
        failed(true, EPROTOTYPE),
        failed(false, ENOTCONN),
        Saw::Received(2, 1),
    ];
    assert_eq!(same_among(&steps), expected);
}

#[test]
fn who_cannot_be_connected_to_is_told_in_the_same_way() {
    for steps in [
        &[Unix(None, Some("nobody"))][..],
        &[Listener("listener"), Unix(None, Some("listener"))],
        &[Unix(Some("one"), None), Unix(Some("two"), Some("one")), Unix(None, Some("two"))],
        &[Unix(Some("one"), None), Unix(Some("one"), None)],
        &[Path("one"), Path("one")],
        &[Listener("listener"), Path("listener")],
    ] {
        assert_eq!(same_among(steps).len(), 1);
    }
}

#[test]
fn a_peer_that_is_gone_is_told_once_and_then_there_is_none() {
    let steps =
        [Unix(Some("peer"), None), Unix(None, Some("peer")), ToPeer(1, 1), Close(0), ToPeer(1, 2)];
    let expected = [
        Saw::Received(0, 1),
        failed(false, ECONNREFUSED),
        failed(true, ENOTCONN),
        failed(true, ENOTCONN),
    ];
    assert_eq!(same_among(&steps), expected);
}

const LOOPBACK: Place = At("127.0.0.1:0");

const ANY_V4: Place = At("0.0.0.0:0");
const ANY_V6: Place = At("[::]:0");
const LOOPBACK_V6: Place = At("[::1]:0");
const MAPPED: Place = At("[::ffff:127.0.0.1]:0");

#[test]
fn what_cannot_go_there_is_told_in_the_same_way() {
    let (v4, v6, mapped) = (At("127.0.0.1:9"), At("[::1]:9"), At("[::ffff:127.0.0.1]:9"));
    for (socket, to, bytes, error) in [
        (Udp(ANY_V4), v6, 1, EAFNOSUPPORT),
        (Udp(ANY_V4), mapped, 1, EAFNOSUPPORT),
        (Udp(ANY_V4), LOOPBACK_V6, 1, EAFNOSUPPORT),
        (Udp(ANY_V4), v6, 65_508, EAFNOSUPPORT),
        (Udp(LOOPBACK), v6, 1, EAFNOSUPPORT),
        (Udp(MAPPED), v6, 1, EAFNOSUPPORT),
        (OnlyV6(ANY_V6), v4, 1, ENETUNREACH),
        (OnlyV6(ANY_V6), MAPPED, 1, ENETUNREACH),
        (Udp(LOOPBACK_V6), mapped, 1, ENETUNREACH),
        (Udp(LOOPBACK_V6), v4, 1, ENETUNREACH),
        (Udp(ANY_V4), LOOPBACK, 1, EINVAL),
        (Udp(LOOPBACK), LOOPBACK, 65_508, EINVAL),
        (Udp(ANY_V6), LOOPBACK_V6, 1, EINVAL),
        (Udp(ANY_V6), MAPPED, 1, EINVAL),
    ] {
        assert_eq!(same_among(&[socket, To(0, bytes, to)]), [failed(true, error)]);
    }
    for (socket, to) in
        [(Udp(ANY_V6), v4), (Udp(ANY_V6), mapped), (Udp(MAPPED), v4), (Udp(MAPPED), mapped)]
    {
        assert_eq!(same_among(&[socket, To(0, 1, to)]), []);
    }
}

#[test]
fn who_cannot_be_reached_from_there_cannot_be_connected_to() {
    for (at, peer, error) in [
        (ANY_V4, LOOPBACK_V6, EAFNOSUPPORT),
        (LOOPBACK, LOOPBACK_V6, EAFNOSUPPORT),
        (MAPPED, LOOPBACK_V6, EAFNOSUPPORT),
        (LOOPBACK_V6, MAPPED, ENETUNREACH),
    ] {
        assert_eq!(same_among(&[Connected(at, peer)]), [Saw::Refused(Some(error))]);
    }
    // A port of 0 can be connected to. What is sent there leaves, and nobody is there.
    let told = failed(false, ECONNREFUSED);
    assert_eq!(same_among(&[Connected(LOOPBACK, LOOPBACK), ToPeer(0, 1)]), [told]);
}

/// What is wrong with a datagram itself is told before what became of an earlier one, which is still to be told then.
#[test]
fn a_datagram_that_cannot_leave_is_told_before_the_error_of_an_earlier_one() {
    let steps = &[PeerCloses, Sends(1), Sends(65_508), Settle];
    assert_eq!(same(&connected(steps)), [failed(true, EMSGSIZE), failed(false, ECONNREFUSED)]);
}

#[test]
fn a_socket_of_both_families_has_addresses_of_ipv6_only() {
    let steps = [
        Udp(LOOPBACK),
        Udp(MAPPED),
        To(1, 1, Of(0)),
        Connected(ANY_V6, Of(0)),
        ToPeer(2, 1),
        To(0, 1, Of(2)), // what its address is there
    ];
    let received = || Saw::Received(0, 1);
    assert_eq!(same_among(&steps), [received(), received(), failed(true, EAFNOSUPPORT)]);
}

/// The kernel looks for the socket by both addresses (icmp(7)).
#[test]
fn who_is_connected_hears_of_no_refusal_but_its_peers() {
    let gone = [Udp(LOOPBACK), Close(0)];
    let other = [Udp(LOOPBACK), Connected(LOOPBACK, Of(1)), To(2, 1, Of(0)), ToPeer(2, 1)];
    assert_eq!(same_among(&[&gone[..], &other].concat()), [Saw::Received(1, 1)]);
    // Also of one that it did not send, but another socket at its address.
    let namesake = [Sharing(LOOPBACK), SharingConnected(Of(1), Of(0)), To(1, 1, Of(0))];
    let told = failed(false, ECONNREFUSED);
    assert_eq!(same_among(&[&gone[..], &namesake].concat()), [told]);
}

#[test]
fn as_many_leave_unread_as_the_senders_buffer_holds() {
    for bytes in [1, 128, 300, 1000, 4000] {
        let (real, simulated) =
            (real::among::leaving_unread(bytes), simulated::among::leaving_unread(bytes));
        assert_eq!(real, simulated, "of {bytes} bytes, the kernel on the left");
    }
}

#[test]
fn a_group_is_heard_through_the_interface_that_was_joined() {
    let through = |interface, hops, is_looped| Through { interface, hops, is_looped };
    let steps = [
        through(1, 1, true),
        Join(0, 1),
        ToGroup(0, 0),
        Join(0, 1),
        Join(0, 77),
        Leave(0, 1),
        ToGroup(0, 0),
        Leave(0, 1),
    ];
    let expected = [
        Saw::Received(0, 1),
        Saw::Refused(Some(EADDRINUSE)),
        Saw::Refused(Some(ENODEV)),
        Saw::Refused(Some(EADDRNOTAVAIL)),
    ];
    assert_eq!(same_among(&steps), expected);
    // Loopback brings back all that is sent through it.
    for (hops, is_looped) in [(0, true), (0, false), (1, false)] {
        let steps = [through(1, hops, is_looped), Join(0, 1), ToGroup(0, 0)];
        assert_eq!(same_among(&steps), [Saw::Received(0, 1)], "{hops} hops, {is_looped}");
    }
}

/// With the kernel's bookkeeping, which differs a little from one Linux to another.
#[test]
fn a_queue_that_is_full_drops_what_comes_last() {
    for bytes in [1, 100, 500, 1500, 4000, 7000, 40_000] {
        let (real, simulated) =
            (real::play::kept_of_each(bytes), simulated::play::kept_of_each(bytes));
        let tenth = real / 10;
        assert!(real.abs_diff(simulated) <= tenth, "of {bytes} bytes {real} and {simulated}");
    }
}
