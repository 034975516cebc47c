//! Datagram sockets: what waits counts for the reactor's memory, and is dropped when that is used up.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::{
    Context, DatagramLimits, DatagramOptions, HandlerId, Key, Queued, Reactor, ReactorLimits,
    SocketAddress,
};

use crate::support::datagrams::*;
use crate::support::*;

const MEMORY_MAX: usize = 40_000;

/// A reactor with little memory, and sockets that are connected to peers of their own, who do not read.
struct Full {
    reactor: Reactor,
    handler: HandlerId<Datagrams>,
    calls: DatagramCalls,
}

impl Full {
    fn new(datagrams: Datagrams) -> Full {
        let limits = ReactorLimits::new().connections_max(16).memory_bytes_max(MEMORY_MAX);
        let mut reactor = Reactor::with_limits(limits).unwrap();
        let calls = Rc::clone(&datagrams.calls);
        let handler = reactor.add_datagram_handler(datagrams);
        Full { reactor, handler, calls }
    }

    fn bind(&mut self, options: &DatagramOptions) -> (Key, UnixDatagram) {
        let (socket, peer) = UnixDatagram::pair().unwrap();
        peer.set_nonblocking(true).unwrap();
        (self.reactor.bind_fd(self.handler, socket.into(), options).unwrap(), peer)
    }

    fn send(&mut self, key: Key, count: usize, byte: u8) {
        for _ in 0..count {
            let data = [byte; 1000];
            let mut cx = self.reactor.context(self.handler);
            assert_eq!(cx.send_datagram(key, None, &data), Queued::Ok);
        }
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
    }

    /// Sends until the kernel takes no more, and one waits: how many it took.
    fn fill(&mut self, key: Key, byte: u8) -> usize {
        let before = self.reactor.stats().datagram_bytes_waiting;
        for taken in 0.. {
            self.send(key, 1, byte);
            if self.reactor.stats().datagram_bytes_waiting > before {
                return taken;
            }
        }
        unreachable!("it is connected to who does not read")
    }

    /// All that is there for a peer, or comes now: how many there are, each of which has this byte.
    fn comes(&mut self, peer: &UnixDatagram, byte: u8) -> usize {
        let (mut buffer, mut count, mut quiet_turns) = ([0; 2000], 0, 0);
        while quiet_turns < 10 {
            match peer.recv(&mut buffer) {
                Ok(length) => {
                    assert_eq!(buffer[..length], [byte; 1000]);
                    (count, quiet_turns) = (count + 1, 0);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    self.reactor.turn(Some(Duration::ZERO)).unwrap();
                    quiet_turns += 1;
                }
            }
        }
        count
    }
}

#[test]
fn what_waits_is_in_the_memory_account_until_it_leaves() {
    let mut full = Full::new(Datagrams::listens());
    let (key, peer) = full.bind(&DatagramOptions::new());
    let taken = full.fill(key, 1);
    full.send(key, 29, 1);
    let stats = full.reactor.stats();
    assert_eq!((stats.memory_bytes, stats.memory_bytes_peak), (30_000, 30_000));
    assert_eq!(full.comes(&peer, 1), taken + 30);
    assert_eq!(full.reactor.stats().memory_bytes, 0);
    // ... or until the socket ends.
    full.fill(key, 1);
    assert_eq!(full.reactor.stats().memory_bytes, 1000);
    full.reactor.context(full.handler).close_key(key);
    full.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(full.reactor.stats().memory_bytes, 0);
}

#[test]
fn over_the_limit_the_longest_queue_is_dropped_and_told_and_others_stay() {
    let tries_again = Datagrams::new(|socket, call| {
        if matches!(call, DatagramCall::Failed(..)) {
            assert_eq!(socket.send(&[2; 1000]), Queued::Ok);
        }
    });
    let mut full = Full::new(tries_again);
    let limits = DatagramLimits::new().queue_len_max(30);
    let (long, long_peer) = full.bind(&DatagramOptions::new().limits(limits));
    let (short, short_peer) = full.bind(&DatagramOptions::new());
    let taken = [full.fill(long, 2), full.fill(short, 1)];
    full.send(long, 29, 2);
    full.send(short, 9, 1);
    let mut cx = full.reactor.context(full.handler);
    assert_eq!(cx.send_datagram(long, None, &[2; 1000]), Queued::Full);
    assert_idle(&mut full.reactor);
    let stats = full.reactor.stats();
    assert_eq!((stats.memory_bytes, stats.datagrams_dropped), (MEMORY_MAX, 1), "just within it");
    full.send(short, 1, 1);
    let stats = full.reactor.stats();
    assert_eq!((stats.memory_bytes, stats.datagrams_dropped), (11_000, 1 + 30));
    assert_idle(&mut full.reactor);
    let told = [DatagramCall::Failed(None, ErrorKind::OutOfMemory), DatagramCall::Room];
    assert_eq!(full.calls.borrow()[2..], told);
    assert_eq!(full.reactor.stats().datagram_errors, 1);
    assert_eq!(full.comes(&short_peer, 1), taken[1] + 11);
    assert_eq!(full.comes(&long_peer, 2), taken[0] + 1, "and what was sent when it was told");
    assert_eq!(full.reactor.stats().memory_bytes, 0);
}

/// Nobody tells when a receiver that is named has room, so a timer does.
#[test]
fn what_stands_aside_is_dropped_too() {
    let name = format!("oneloop-memory-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _peer = UnixDatagram::bind_addr(&address).unwrap();
    let to = SocketAddress::Unix(UnixName::from_abstract(name).unwrap());
    let mut full = Full::new(Datagrams::listens());
    let key = full.reactor.bind_unnamed(full.handler, &DatagramOptions::new()).unwrap();
    let send = |full: &mut Full, count| {
        for _ in 0..count {
            let mut cx = full.reactor.context(full.handler);
            assert_eq!(cx.send_datagram(key, Some(&to), &[1; 1000]), Queued::Ok);
        }
        full.reactor.turn(Some(Duration::ZERO)).unwrap();
    };
    while full.reactor.stats().memory_bytes == 0 {
        send(&mut full, 1);
    }
    send(&mut full, 40);
    assert_eq!(full.reactor.stats().memory_bytes, 0);
    assert_idle(&mut full.reactor);
    let told = [DatagramCall::Bound, DatagramCall::Failed(None, ErrorKind::OutOfMemory)];
    assert_eq!(*full.calls.borrow(), told);
    assert_eq!(full.reactor.stats().datagrams_dropped, 41);
}

/// It has no socket yet in which anything could be waited for.
#[test]
fn a_socket_that_is_not_bound_yet_is_told_when_it_is() {
    let binds = Datagrams::new(|socket, call| {
        if *call == DatagramCall::Bound && socket.stats().datagram_sockets == 1 {
            let limits = DatagramLimits::new().queue_len_max(3);
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let key = socket.bind(any, &DatagramOptions::new().limits(limits));
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9)).into();
            let queued =
                [(); 4].map(|()| Context::send_datagram(socket, key, Some(&to), &[0; 20_000]));
            assert_eq!(queued, [Queued::Ok, Queued::Ok, Queued::Ok, Queued::Full]);
        }
    });
    let mut full = Full::new(binds);
    let (_, _peer) = full.bind(&DatagramOptions::new());
    assert_idle(&mut full.reactor);
    let told = [
        DatagramCall::Bound,
        DatagramCall::Bound,
        DatagramCall::Failed(None, ErrorKind::OutOfMemory),
        DatagramCall::Room,
    ];
    assert_eq!(*full.calls.borrow(), told);
    let stats = full.reactor.stats();
    assert_eq!((stats.datagrams_dropped, stats.datagrams_out, stats.memory_bytes), (4, 0, 0));
}
