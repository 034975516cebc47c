//! The simulated network: hosts, time, and what is under way.
//!
//! What a program asks of a socket stands in `socket.rs`, what goes over the wire in `wire.rs`, how a
//! host hears of it in `events.rs`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::decisions::{Decisions, Matter};
use super::faults::{Faults, Kernel};
use super::mail::HostMail;
use super::socket::{Kind, Listener, Sock};
use super::trace::{Entry, Trace};
use crate::clock::Time;
use crate::key::Key;
use crate::signal::Signals;
use crate::table::Table;

/// What a turn of a host costs of its time.
pub(crate) const TURN: Duration = Duration::from_micros(1);

/// A SYN that is not answered is sent again after 1, 2, 4 ... seconds, so often (tcp(7),
/// `tcp_syn_retries`).
const SYN_RETRIES: u32 = 6;

/// The ports that are given out.
const PORTS: Range<u16> = 32_768..61_000;

/// A turn is bounded; one with so many system calls is an endless loop.
const CALLS_PER_TURN_MAX: u64 = 10_000_000;

#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) kernel: Kernel,
    pub(crate) decisions: Decisions,
    pub(crate) trace: Trace,
    pub(crate) sockets: Table<Sock>,
    pub(crate) hosts: Vec<Host>,
    /// Faults between two hosts, if they differ from those of the sending one.
    links: BTreeMap<(u32, u32), Rc<Faults>>,
    /// What is under way, earliest first.
    under_way: BinaryHeap<Pending>,
    sent: u64,
    /// Listeners by address; several with `SO_REUSEPORT`.
    pub(crate) listeners: BTreeMap<SocketAddr, Vec<Key>>,
    /// The two addresses of each connection, seen from who connected: no two have the same. Nothing
    /// walks over the set, so its order tells nothing.
    pub(crate) pairs: HashSet<(SocketAddr, SocketAddr)>,
    /// Scripted clients that have something to look at.
    pub(crate) clients_due: VecDeque<usize>,
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) ip: IpAddr,
    pub(crate) faults: Rc<Faults>,
    /// How far its clock is ahead of the simulation's.
    pub(crate) ahead: Duration,
    /// Sockets with something to report.
    pub(crate) ready: VecDeque<Key>,
    /// Sockets that were registered lately, of which spurious events may tell.
    pub(crate) lately: VecDeque<Key>,
    pub(crate) descriptors: usize,
    pub(crate) descriptors_max: usize,
    /// System calls so far,
    pub(crate) calls: u64,
    /// ... and when its last turn began.
    pub(crate) calls_before_turn: u64,
    /// The one that is to fail.
    pub(crate) failing_call: Option<u64>,
    /// Signals that its reactor watches, and those that have come.
    pub(crate) watched: Signals,
    pub(crate) signals: Signals,
    pub(crate) mail: HostMail,
    next_port: u16,
}

/// What is under way; sockets are named by their keys, which find nothing once they are gone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A connection request, sent for the so-many-th time.
    Syn { client: Key, tries: u32, is_lost: bool },
    /// Its answer.
    Established { client: Key },
    /// So many bytes reach the peer of `from`.
    Bytes { from: Key, count: usize, tries: u32 },
    /// The end of file reaches the peer of `from`.
    Fin { from: Key },
    /// A reset reaches `to`.
    Reset { to: Key },
    /// The network resets the connection of `of`, for both sides.
    Cut { of: Key },
    /// The receiver of what `from` sends has room again, or takes the rest.
    Window { from: Key },
    /// A scripted client's wait is over.
    Client { index: usize },
    /// A job of a host is done.
    Job { host: u32, crew: usize },
}

#[derive(Debug)]
struct Pending {
    at: Time,
    number: u64,
    event: Event,
}

impl Ord for Pending {
    fn cmp(&self, other: &Pending) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number)) // the heap gives the greatest first
    }
}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Pending) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Pending) -> bool {
        self.number == other.number
    }
}

impl Eq for Pending {}

impl Net {
    pub(crate) fn new(decisions: Decisions, kernel: Kernel) -> Net {
        Net {
            now: Time::from_nanos(0),
            kernel,
            decisions,
            trace: Trace::new(256),
            sockets: Table::new(),
            hosts: Vec::new(),
            links: BTreeMap::new(),
            under_way: BinaryHeap::new(),
            sent: 0,
            listeners: BTreeMap::new(),
            pairs: HashSet::new(),
            clients_due: VecDeque::new(),
        }
    }

    /// A new machine, at 10.x.y.z.
    pub(crate) fn add_host(&mut self, faults: Rc<Faults>) -> u32 {
        let number = u32::try_from(self.hosts.len()).expect("fewer than 2^32 hosts");
        let ip = Ipv4Addr::from_bits(0x0a00_0001 + number);
        self.hosts.push(Host {
            ip: IpAddr::V4(ip),
            faults,
            ahead: Duration::ZERO,
            ready: VecDeque::new(),
            lately: VecDeque::new(),
            descriptors: 0,
            descriptors_max: usize::MAX,
            calls: 0,
            calls_before_turn: 0,
            failing_call: None,
            watched: Signals::default(),
            signals: Signals::default(),
            mail: HostMail::default(),
            next_port: 0,
        });
        number
    }

    pub(crate) fn host(&mut self, host: u32) -> &mut Host {
        &mut self.hosts[host as usize]
    }

    pub(crate) fn faults(&self, host: u32) -> Rc<Faults> {
        Rc::clone(&self.hosts[host as usize].faults)
    }

    pub(crate) fn set_link(&mut self, one: u32, other: u32, faults: Rc<Faults>) {
        self.links.insert((one, other), Rc::clone(&faults));
        self.links.insert((other, one), faults);
    }

    /// The faults of what one host sends to another one.
    pub(crate) fn link(&self, from: u32, to: u32) -> Rc<Faults> {
        match self.links.get(&(from, to)) {
            Some(faults) => Rc::clone(faults),
            None => self.faults(from),
        }
    }

    /// No faults any more, from now on, and whoever vanished is back.
    pub(crate) fn heal(&mut self) {
        self.log(0, "heal", Key::NONE, 0);
        for host in &mut self.hosts {
            let healthy = Faults::none()
                .send_buffer_bytes(host.faults.send_buffer_bytes)
                .receive_buffer_bytes(host.faults.receive_buffer_bytes);
            host.faults = Rc::new(healthy);
            host.descriptors_max = usize::MAX;
            host.failing_call = None;
        }
        self.links.clear();
        let vanished = self.sockets.iter().filter(|(_, sock)| sock.is_vanished());
        for key in vanished.map(|(key, _)| key).collect::<Vec<_>>() {
            self.return_of(key);
        }
    }

    #[inline(always)]
    fn entry(&self, host: u32, what: &'static str, socket: Key) -> Entry {
        let socket = (socket != Key::NONE).then_some(socket.index() as u32);
        Entry { at: self.now, host, what, socket, value: 0, error: None, digest: 0 }
    }

    pub(crate) fn log(&mut self, host: u32, what: &'static str, socket: Key, value: u64) {
        self.trace.add(Entry { value, ..self.entry(host, what, socket) });
    }

    /// The same about bytes, for which a [digest](super::trace::digest) stands.
    pub(crate) fn log_bytes(
        &mut self,
        host: u32,
        what: &'static str,
        socket: Key,
        value: u64,
        digest: u64,
    ) {
        self.trace.add(Entry { value, digest, ..self.entry(host, what, socket) });
    }

    /// ... and about what failed.
    pub(crate) fn log_error(
        &mut self,
        host: u32,
        what: &'static str,
        socket: Key,
        error: &'static str,
    ) {
        self.trace.add(Entry { error: Some(error), ..self.entry(host, what, socket) });
    }

    /// How long something of a socket's takes on its way.
    pub(crate) fn latency(&mut self, faults: &Faults, matter: Matter, of: Key) -> Duration {
        let nanos = self.decisions.below(matter, of.index(), faults.latencies());
        faults.latency_min + Duration::from_nanos(nanos)
    }

    pub(crate) fn send(&mut self, at: Time, event: Event) {
        self.under_way.push(Pending { at, number: self.sent, event });
        self.sent += 1;
    }

    /// When the next of what is under way arrives.
    pub(crate) fn next_arrival(&self) -> Option<Time> {
        self.under_way.peek().map(|pending| pending.at)
    }

    /// Lets time pass until `until`, and what is under way until then arrive.
    pub(crate) fn pass(&mut self, until: Time) {
        while let Some(pending) = self.under_way.peek()
            && pending.at <= until
        {
            let Some(Pending { at, event, .. }) = self.under_way.pop() else { break };
            self.now = self.now.max(at);
            self.arrive(event);
        }
        self.now = self.now.max(until);
    }

    fn arrive(&mut self, event: Event) {
        match event {
            Event::Syn { client, tries, is_lost } => self.arrive_syn(client, tries, is_lost),
            Event::Established { client } => self.arrive_established(client),
            Event::Bytes { from, count, tries } => self.arrive_bytes(from, count, tries),
            Event::Fin { from } => self.arrive_fin(from),
            Event::Reset { to } => self.arrive_reset(to, io::ErrorKind::ConnectionReset),
            Event::Cut { of } => self.arrive_cut(of),
            Event::Window { from } => self.transfer(from),
            Event::Client { index } => self.clients_due.push_back(index),
            Event::Job { host, crew } => self.do_job(host, crew),
        }
    }

    /// Counts a system call; fails if it is the one that was chosen to.
    pub(crate) fn call(&mut self, host: u32, fails_with: io::ErrorKind) -> io::Result<()> {
        let host = self.host(host);
        host.calls += 1;
        let in_turn = host.calls - host.calls_before_turn;
        assert!(in_turn < CALLS_PER_TURN_MAX, "a turn does not end: {in_turn} system calls");
        if host.failing_call == Some(host.calls) { Err(fails_with.into()) } else { Ok(()) }
    }

    /// A port for a listener, or for a connection to `remote`, that is not in use
    /// (ip(7), `ip_local_port_range`).
    fn free_port(&mut self, host: u32, ip: IpAddr, remote: Option<SocketAddr>) -> io::Result<u16> {
        for _ in PORTS {
            let next = &mut self.host(host).next_port;
            *next = if PORTS.contains(&(*next + 1)) { *next + 1 } else { PORTS.start };
            let local = SocketAddr::new(ip, *next);
            let is_used = match remote {
                Some(remote) => self.pairs.contains(&(local, remote)),
                None => self.listeners.contains_key(&local),
            };
            if !is_used {
                return Ok(local.port());
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    pub(crate) fn listen(
        &mut self,
        host: u32,
        mut address: SocketAddr,
        backlog: u32,
        reuse_port: bool,
        only_v6: bool,
    ) -> io::Result<Key> {
        self.call(host, io::ErrorKind::PermissionDenied)?;
        if address.port() == 0 {
            address.set_port(self.free_port(host, address.ip(), None)?);
        }
        let others = self.listeners.get(&address).map_or(&[][..], Vec::as_slice);
        for other in others {
            let is_shared = match self.sockets.get(*other).map(|sock| &sock.kind) {
                Some(Kind::Listener(other)) => other.reuse_port && reuse_port,
                _ => true,
            };
            if !is_shared {
                return Err(io::ErrorKind::AddrInUse.into());
            }
        }
        let listener = Listener {
            address,
            backlog: backlog as usize,
            reuse_port,
            only_v6,
            queue: VecDeque::new(),
            is_on: true,
        };
        let key = self.sockets.insert(Sock::new(host, Kind::Listener(Box::new(listener))));
        self.listeners.entry(address).or_default().push(key);
        self.log(host, "listen", key, u64::from(address.port()));
        Ok(key)
    }

    /// The listener that a connection to `address` reaches.
    fn listener_at(&self, address: SocketAddr) -> Option<Key> {
        let any_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        let any_v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        for wanted in [address, any_v4, any_v6] {
            for key in self.listeners.get(&wanted).into_iter().flatten() {
                let Some(sock) = self.sockets.get(*key) else { continue };
                let Kind::Listener(listener) = &sock.kind else { continue };
                let is_its_host =
                    address.ip().is_loopback() || self.hosts[sock.host as usize].ip == address.ip();
                let is_its_family = wanted == address
                    || (wanted.is_ipv4() == address.is_ipv4())
                    || (wanted.is_ipv6() && !listener.only_v6);
                if wanted == address || is_its_host && is_its_family {
                    return Some(*key);
                }
            }
        }
        None
    }

    /// Begins to connect.
    pub(crate) fn connect(
        &mut self,
        host: u32,
        from: Option<IpAddr>,
        address: SocketAddr,
    ) -> io::Result<Key> {
        self.call(host, io::ErrorKind::NetworkUnreachable)?;
        let faults = self.faults(host);
        let ip = from.unwrap_or(match address.ip() {
            ip if ip.is_loopback() => ip,
            _ => self.host(host).ip,
        });
        let local = SocketAddr::new(ip, self.free_port(host, ip, Some(address))?);
        self.pairs.insert((local, address));
        let sock = Sock::connecting(host, local, address, &faults);
        let client = self.sockets.insert(sock);
        self.log(host, "connect", client, u64::from(address.port()));
        let at = self.now + self.latency(&faults, Matter::ConnectLatency, client);
        let (of, refused, lost) =
            (client.index(), faults.refused_connects, faults.unanswered_connects);
        if self.decisions.chance(Matter::RefusedConnect, of, refused).is_some() {
            self.send(at, Event::Reset { to: client });
        } else {
            let is_lost = self.decisions.chance(Matter::UnansweredConnect, of, lost).is_some();
            self.send(at, Event::Syn { client, tries: 0, is_lost });
        }
        Ok(client)
    }

    fn arrive_syn(&mut self, client: Key, tries: u32, is_lost: bool) {
        let Some((from, local, remote)) = self.connecting(client) else { return };
        // Who tries again after the faults have ended is answered.
        let is_lost = is_lost && self.faults(from).unanswered_connects > 0.0;
        let listener = self.listener_at(remote);
        let Some(listener_key) = listener.filter(|_| !is_lost) else {
            if is_lost {
                return self.retry_syn(client, tries, is_lost);
            }
            let faults = self.faults(from);
            let at = self.now + self.latency(&faults, Matter::AnswerLatency, client);
            return self.send(at, Event::Reset { to: client });
        };
        let Some(sock) = self.sockets.get(listener_key) else { return };
        let host = sock.host;
        let Kind::Listener(listener) = &sock.kind else { return };
        if listener.queue.len() > listener.backlog {
            self.log(host, "backlog full", listener_key, 0);
            return self.retry_syn(client, tries, false);
        }
        let is_mapped = listener.address.is_ipv6();
        let faults = self.link(host, from);
        let at = self.now + self.latency(&faults, Matter::AnswerLatency, client);
        let mut server = Sock::connected(host, remote, mapped(local, is_mapped), client, &faults);
        server.not_before(at);
        let server = self.sockets.insert(server);
        if let Some(stream) = self.stream(client) {
            stream.peer = server;
        }
        if let Some(Kind::Listener(listener)) =
            self.sockets.get_mut(listener_key).map(|sock| &mut sock.kind)
        {
            listener.queue.push_back(server);
        }
        self.wake(listener_key);
        self.send(at, Event::Established { client });
    }

    fn retry_syn(&mut self, client: Key, tries: u32, is_lost: bool) {
        if tries == SYN_RETRIES {
            return self.arrive_reset(client, io::ErrorKind::TimedOut);
        }
        let at = self.now + Duration::from_secs(1 << tries);
        self.send(at, Event::Syn { client, tries: tries + 1, is_lost });
    }
}

/// An IPv4 peer as an IPv6 socket shows it.
fn mapped(address: SocketAddr, is_mapped: bool) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if is_mapped => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}
