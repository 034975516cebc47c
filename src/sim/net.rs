//! The simulated network: hosts, time, and what is under way.
//!
//! Whose an address is stands in `addresses.rs`, how connections come about in `handshake.rs`, what a
//! program asks of a socket in `socket.rs`, what goes over the wire in `wire.rs`, how a host hears of it
//! in `events.rs`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::addresses::{Addresses, numbered};
use super::calls::{Call, os_error};
use super::datagram::Datagrams;
use super::decisions::{Decisions, Matter};
use super::faults::{Faults, Kernel};
use super::handshake::{Door, Fate};
use super::mail::HostMail;
use super::names::SimNames;
use super::orders::Orders;
use super::socket::{Kind, Owner, Sock};
use super::trace::{Details, Entry, Head, Named, Record, Trace, Who, error_name};
use super::unix::UnixNames;
use crate::clock::Time;
use crate::driver;
use crate::key::Key;
use crate::signal::Signals;
use crate::table::Table;

/// What a turn of a host costs of its time.
pub(crate) const TURN: Duration = Duration::from_micros(1);

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
    /// Faults of what one host has to do with another one, if they differ from those of the host.
    links: BTreeMap<(u32, u32), Rc<Faults>>,
    /// From the first to the second one of these hosts nothing arrives.
    severed: BTreeSet<(u32, u32)>,
    /// Machines that are off.
    down: BTreeSet<u32>,
    /// What is under way, earliest first.
    under_way: BinaryHeap<Pending>,
    sent: u64,
    /// What the test wants at one place.
    pub(crate) orders: Orders,
    pub(crate) addresses: Addresses,
    pub(super) datagrams: Datagrams,
    pub(crate) unix: UnixNames,
    pub(crate) names: Arc<SimNames>,
    /// Scripted clients that have something to look at.
    pub(crate) clients_due: VecDeque<usize>,
}

/// One process, which is all of a machine unless it shares it: an epoll instance, descriptors, a clock.
#[derive(Debug)]
pub(crate) struct Host {
    /// The machine whose addresses it has: the number of the first host on it.
    machine: u32,
    /// The number of the simulation's reactor on it.
    pub(crate) reactor: Option<usize>,
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
    /// Those that are to fail,
    pub(crate) failing_calls: BTreeSet<u64>,
    /// ... and those that did, with the error's name.
    pub(crate) failed_calls: Vec<(Call, &'static str)>,
    /// Signals that its reactor watches, and those that have come.
    pub(crate) watched: Signals,
    pub(crate) signals: Signals,
    pub(crate) mail: HostMail,
    pub(super) last_port: u16,
}

/// By then a reactor has tried a connect again that could not begin, unless its host stands still for longer than usual.
const BUSY: Duration = Duration::from_millis(200);

/// What is under way; sockets are named by their keys, which find nothing once they are gone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A connection request, sent for the so-many-th time after the first.
    Syn { client: Key, tries: u32, fate: Fate },
    /// Its answer.
    Established { client: Key, door: Door, tries: u32 },
    /// The answer to that: the server's end of the connection can be accepted.
    Acknowledged { door: Door, tries: u32 },
    /// So many bytes reach the peer of `from`.
    Bytes { from: Key, count: usize, tries: u32 },
    /// What `from` sent has arrived, and it has not heard of that.
    Unacknowledged { from: Key, tries: u32 },
    /// The end of file reaches the peer of `from`.
    Fin { from: Key, tries: u32 },
    /// A reset reaches `to`.
    Reset { to: Key },
    /// The reset that `of` sent behind its bytes reaches its peer.
    Abort { of: Key },
    /// The network resets the connection of `of`, for both sides, instead of so many of its bytes.
    Cut { of: Key, rest: usize },
    /// The receiver of what `from` sends has room again, or takes the rest.
    Window { from: Key },
    /// A scripted client's wait is over.
    Client { index: usize },
    /// A job of a host is done.
    Job { host: u32, crew: usize, number: u64 },
    /// A datagram arrives.
    Datagram { number: usize },
    /// The answer to a datagram that nobody was there.
    Refused { number: usize },
    /// A datagram socket can send again.
    Room { of: Key },
    /// Nothing happens: a connect that could not begin was tried again by now, and until then there is no rest.
    TriedAgain,
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
            severed: BTreeSet::new(),
            down: BTreeSet::new(),
            under_way: BinaryHeap::new(),
            sent: 0,
            orders: Orders::default(),
            addresses: Addresses::default(),
            datagrams: Datagrams::default(),
            unix: UnixNames::default(),
            names: Arc::default(),
            clients_due: VecDeque::new(),
        }
    }

    /// A new host: on a machine of its own, or on that of another one.
    pub(crate) fn add_host(&mut self, faults: Rc<Faults>, beside: Option<u32>) -> u32 {
        let number = u32::try_from(self.hosts.len()).expect("fewer than 2^32 hosts");
        let machine = match beside {
            Some(host) => self.machine(host),
            None => {
                let (v4, v6) = numbered(number);
                for ip in [IpAddr::V4(v4), IpAddr::V6(v6)] {
                    let claimed = self.addresses.claim(number, ip);
                    assert!(
                        claimed.is_ok(),
                        "a new host is {ip}, and a client is there: give it one further off, such as \
                         10.1.0.1"
                    );
                }
                number
            }
        };
        self.down.remove(&machine);
        self.hosts.push(Host {
            machine,
            reactor: None,
            faults,
            ahead: Duration::ZERO,
            ready: VecDeque::new(),
            lately: VecDeque::new(),
            descriptors: 0,
            descriptors_max: usize::MAX,
            calls: 0,
            calls_before_turn: 0,
            failing_calls: BTreeSet::new(),
            failed_calls: Vec::new(),
            watched: Signals::default(),
            signals: Signals::default(),
            mail: HostMail::default(),
            last_port: 0,
        });
        number
    }

    /// The number of the machine that a host is on.
    pub(crate) fn machine(&self, host: u32) -> u32 {
        self.hosts[host as usize].machine
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

    /// The faults of what one host has to do with another one: what it sends there, and how it reads
    /// what comes from there.
    pub(crate) fn link(&self, from: u32, to: u32) -> Rc<Faults> {
        match self.links.get(&(from, to)) {
            Some(faults) => Rc::clone(faults),
            None => self.faults(from),
        }
    }

    /// From now on nothing that one host sends reaches the other one, or all of it again.
    pub(crate) fn sever(&mut self, from: u32, to: u32, is_severed: bool) {
        self.log(from, if is_severed { "sever" } else { "rejoin" }, Key::NONE, u64::from(to));
        if is_severed {
            self.severed.insert((from, to));
        } else {
            self.severed.remove(&(from, to));
        }
    }

    #[inline]
    pub(crate) fn is_severed(&self, from: u32, to: u32) -> bool {
        (!self.severed.is_empty() && self.severed.contains(&(from, to)))
            || (!self.down.is_empty() && self.down.contains(&self.machine(to)))
    }

    /// A machine loses its power: nobody hears of it.
    pub(crate) fn crash(&mut self, machine: u32) {
        self.log(machine, "crash", Key::NONE, 0);
        self.down.insert(machine);
        for host in 0..self.hosts.len() as u32 {
            if self.machine(host) == machine {
                self.unix.outlive(host);
            }
        }
        let of_it = self.sockets.iter().filter(|(_, sock)| self.machine(sock.host) == machine);
        for key in of_it.map(|(key, _)| key).collect::<Vec<_>>() {
            if let Some(Kind::Listener(listener)) = self.sockets.get(key).map(|sock| &sock.kind) {
                self.addresses.unbind(machine, listener.address, key);
            }
            self.datagrams.unbind(key);
            self.forget(key);
        }
    }

    /// Takes the raw sources of a process that is no more.
    pub(crate) fn forget_raw(&mut self, host: u32) {
        let is_raw = |sock: &Sock| sock.host == host && matches!(sock.kind, Kind::Raw(_));
        let of_it = self.sockets.iter().filter(|(_, sock)| is_raw(sock));
        for key in of_it.map(|(key, _)| key).collect::<Vec<_>>() {
            self.forget(key);
        }
    }

    /// No faults any more, from now on, and whoever vanished is back. What is under way arrives now.
    pub(crate) fn heal(&mut self) {
        self.log(0, "heal", Key::NONE, 0);
        for host in &mut self.hosts {
            let healthy = Faults::none()
                .send_buffer_bytes(host.faults.send_buffer_bytes)
                .receive_buffer_bytes(host.faults.receive_buffer_bytes);
            host.faults = Rc::new(healthy);
            host.descriptors_max = usize::MAX;
            host.failing_calls.clear();
        }
        self.orders.clear();
        self.links.clear();
        self.severed.clear();
        let mut under_way = std::mem::take(&mut self.under_way).into_sorted_vec();
        under_way.reverse(); // the greatest comes first
        for Pending { at, event, .. } in under_way {
            match event {
                Event::Client { .. } | Event::TriedAgain => self.send(at, event),
                Event::Cut { of: from, rest: count } => {
                    self.send(self.now, Event::Bytes { from, count, tries: 0 });
                }
                _ => self.send(self.now, event),
            }
        }
        for key in self.sockets.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            self.heal_stream(key);
        }
    }

    /// What is kept of the trace, with the names of who did it.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let gone: BTreeMap<Key, Named> = self.trace.gone().collect();
        let named = |socket: Key| {
            let live = self.sockets.get(socket).map(|sock| self.named(sock));
            live.or_else(|| gone.get(&socket).copied())
        };
        let entries = self.trace.records().map(|record| {
            let names = named(record.socket);
            Entry {
                at: record.at,
                who: names.map_or_else(|| self.who(record.host, None), |names| names.who),
                host: record.host,
                what: record.what,
                socket: (record.socket != Key::NONE).then_some(record.socket.index() as u32),
                key: record.details.key.or_else(|| names?.key),
                peer: names.and_then(|names| named(names.peer?)).map(|peer| peer.who),
                value: record.details.value,
                error: record.details.error,
                digest: record.details.digest,
                head: record.details.head,
            }
        });
        entries.collect()
    }

    /// Takes a socket out of the table; only the trace remembers whose it was.
    pub(super) fn remove(&mut self, socket: Key) -> Option<Sock> {
        let sock = self.sockets.remove(socket)?;
        self.trace.remember(socket, self.named(&sock));
        Some(sock)
    }

    pub(super) fn named(&self, sock: &Sock) -> Named {
        let peer = match &sock.kind {
            Kind::Stream(stream) => Some(stream.peer),
            _ => None,
        };
        let owner = sock.named();
        Named { who: self.who(sock.host, Some(owner)), key: owner.key(), peer }
    }

    #[inline]
    fn record(&mut self, host: u32, what: &'static str, socket: Key, details: Details) {
        self.trace.add(Record { at: self.now, host, what, socket, details });
    }

    /// Who is on a host, or owns this socket of it.
    pub(crate) fn who(&self, host: u32, owner: Option<Owner>) -> Who {
        match (owner, self.hosts[host as usize].reactor) {
            (Some(Owner::Client(index)), _) => Who::Client(index),
            (_, Some(index)) => Who::Reactor(index),
            (_, None) => Who::Host(host),
        }
    }

    #[inline]
    pub(crate) fn log(&mut self, host: u32, what: &'static str, socket: Key, value: u64) {
        self.record(host, what, socket, Details { value, ..Details::default() });
    }

    /// The same about bytes: the first of them, and a [digest](super::trace::digest) that stands for
    /// all.
    pub(crate) fn log_bytes(
        &mut self,
        host: u32,
        what: &'static str,
        socket: Key,
        value: u64,
        (head, digest): (Head, u64),
    ) {
        self.record(host, what, socket, Details { value, head, digest, ..Details::default() });
    }

    /// ... and about what a reactor is told.
    pub(crate) fn log_event(&mut self, host: u32, what: &'static str, event: driver::Event) {
        let (value, key) = (u64::from(event.readiness.0), Some(event.key));
        self.record(host, what, Key::NONE, Details { value, key, ..Details::default() });
    }

    /// ... and about what failed.
    pub(crate) fn log_error(
        &mut self,
        host: u32,
        what: &'static str,
        socket: Key,
        error: &'static str,
    ) {
        self.record(host, what, socket, Details { error: Some(error), ..Details::default() });
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

    /// A connect could not begin: there is no rest before the reactor has tried again.
    pub(super) fn hold_up_rest(&mut self) {
        self.send(self.now + BUSY, Event::TriedAgain);
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
            Event::Syn { client, tries, fate } => self.arrive_syn(client, tries, fate),
            Event::Established { client, door, tries } => {
                self.arrive_established(client, door, tries);
            }
            Event::Acknowledged { door, tries } => self.arrive_acknowledged(door, tries),
            Event::Bytes { from, count, tries } => self.arrive_bytes(from, count, tries),
            Event::Unacknowledged { from, tries } => self.arrive_unacknowledged(from, tries),
            Event::Fin { from, tries } => self.arrive_fin(from, tries),
            Event::Reset { to } => self.arrive_sent_reset(to),
            Event::Abort { of } => self.arrive_abort(of),
            Event::Cut { of, rest } => self.arrive_cut(of, rest),
            Event::Window { from } => self.arrive_bytes(from, 0, 0),
            Event::Client { index } => self.clients_due.push_back(index),
            Event::Job { host, crew, number } => self.do_job(host, crew, number),
            Event::Datagram { number } => self.arrive_datagram(number),
            Event::Refused { number } => self.arrive_refusal(number),
            Event::Room { of } => self.arrive_room(of),
            Event::TriedAgain => {}
        }
    }

    /// Counts a system call; fails if it is one that was chosen to.
    pub(crate) fn call(&mut self, host: u32, call: Call) -> io::Result<()> {
        let of = &mut self.hosts[host as usize];
        of.calls += 1;
        let in_turn = of.calls - of.calls_before_turn;
        assert!(in_turn < CALLS_PER_TURN_MAX, "a turn does not end: {in_turn} system calls");
        let error = if of.failing_calls.is_empty() && !self.orders.has_calls() {
            return Ok(());
        } else if of.failing_calls.remove(&of.calls) {
            os_error(call.usual_error())
        } else {
            let Some(number) = self.orders.take_call(host, call) else { return Ok(()) };
            io::Error::from_raw_os_error(number)
        };
        let name = error_name(error.kind());
        self.host(host).failed_calls.push((call, name));
        self.log_error(host, "told to fail", Key::NONE, call.name());
        self.log_error(host, call.name(), Key::NONE, name);
        Err(error)
    }
}
