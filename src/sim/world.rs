//! A world of reactors and clients, in which one thing happens after another.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::{Index, IndexMut};
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::client::{Client, End, Script, Wish};
use super::decisions::{Decision, Decisions, Matter};
use super::driver::{Network, SimDriver, SimHost, SimSocket};
use super::faults::{Faults, Kernel};
use super::net::Event;
use super::trace::Entry;
use crate::clock::Time;
use crate::core::Source;
use crate::driver::Driver;
use crate::handler::StreamHandler;
use crate::key::Key;
use crate::limits::ReactorLimits;
use crate::reactor::{HandlerId, Reactor};
use crate::readiness::Readiness;
use crate::stats::Stats;
use crate::stream::flag::*;

/// Names a reactor of a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReactorId(usize);

/// Names a scripted client of a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientId(usize);

/// What [`Simulation::serve`] made.
#[derive(Debug)]
pub struct Served<H> {
    /// Its reactor.
    pub reactor: ReactorId,
    /// The handler in it.
    pub handler: HandlerId<H>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl<H> Clone for Served<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Served<H> {}

/// Reactors and scripted clients on one simulated network.
///
/// Time is virtual and passes only inside of the `run` methods; everything that is left to chance
/// follows from the seed. The reactors are the same as on real sockets, and so are the handlers in
/// them, except that a handler's panic goes through: it fails the test.
///
/// ```
/// use oneloop::sim::{Script, Simulation};
/// # use oneloop::{Connection, Error, StreamHandler};
/// # struct Echo;
/// # impl StreamHandler for Echo {
/// #     type Session = ();
/// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
/// #     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
/// #         conn.send(data).ignore();
/// #         Ok(data.len())
/// #     }
/// # }
///
/// let mut sim = Simulation::new(1);
/// let echo = sim.serve(Echo);
/// let client = sim.client(echo.address, Script::new().send("hello").expect("hello").shutdown());
/// sim.run_until_idle();
/// assert_eq!(sim.received(client), b"hello");
/// assert_eq!(sim[echo.reactor].connections(), 0);
/// ```
pub struct Simulation {
    network: Network,
    reactors: Vec<Reactor<SimDriver>>,
    clients: Vec<Client>,
    clients_host: SimHost,
    faults: Faults,
    seed: u64,
    turns: u64,
    /// Turns on end in which nothing came of it.
    idle_turns: u64,
    /// Who could go on now.
    candidates: Vec<Candidate>,
    /// The sources that a turn touches.
    touched: Vec<Key>,
    /// The reactor's host and the number of its system call that is to fail.
    pub(super) failing_call: Option<(u32, u64)>,
    /// The step of a script that failed.
    failed_step: Option<&'static Location<'static>>,
}

#[derive(Clone, Copy, Debug)]
enum Candidate {
    Reactor(usize),
    Client(usize),
}

/// So many turns without rest are no test any more but an endless loop.
const TURNS_MAX: u64 = 20_000_000;

/// So many turns on end without a byte, an end or a newcomer are none, either.
const IDLE_TURNS_MAX: u64 = 100_000;

/// The longest that [`Simulation::run_until`] lets pass.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// A walk over everything is made after every turn while a reactor is small, else now and then; what a
/// turn touched is looked at after every turn.
const SMALL: usize = 16;
const NOW_AND_THEN: u64 = 64;

impl Simulation {
    /// A world without faults, on the fake Linux.
    pub fn new(seed: u64) -> Simulation {
        Simulation::with(seed, Kernel::Linux, Faults::none())
    }

    /// A world with these faults, for every host that is added from now on.
    pub fn with(seed: u64, kernel: Kernel, faults: Faults) -> Simulation {
        Simulation::with_decisions(seed, Decisions::new(seed), kernel, faults)
    }

    pub(super) fn with_decisions(
        seed: u64,
        decisions: Decisions,
        kernel: Kernel,
        faults: Faults,
    ) -> Simulation {
        let network = Network::with_decisions(decisions, kernel);
        // The first host is the clients', whose addresses nobody needs to know.
        let clients_host = network.host(faults.clone());
        Simulation {
            network,
            reactors: Vec::new(),
            clients: Vec::new(),
            clients_host,
            faults,
            seed,
            turns: 0,
            idle_turns: 0,
            candidates: Vec::new(),
            touched: Vec::new(),
            failing_call: None,
            failed_step: None,
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Other faults, for the hosts that are added from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Other faults for what goes between two reactors, from now on.
    pub fn set_link_faults(&mut self, one: ReactorId, other: ReactorId, faults: Faults) {
        let (one, other) = (self.host(one), self.host(other));
        self.network.net.borrow_mut().set_link(one, other, Rc::new(faults));
    }

    /// Other faults of a reactor's host, from now on.
    pub fn set_faults_of(&mut self, id: ReactorId, faults: Faults) {
        self[id].sockets.driver.set_faults(faults);
    }

    /// Makes a system call of a reactor's host fail: the next one is number 1. Each call fails with
    /// an error that it may have.
    pub fn fail_call(&mut self, id: ReactorId, number: u64) {
        let host = self.host(id);
        let mut net = self.network.net.borrow_mut();
        let host = net.host(host);
        host.failing_call = Some(host.calls + number);
    }

    /// Has the clock of a reactor's host jump ahead.
    pub fn jump_clock(&mut self, id: ReactorId, by: Duration) {
        let host = self.host(id);
        self.network.net.borrow_mut().host(host).ahead += by;
    }

    /// How many descriptors a reactor's host may have open, as `RLIMIT_NOFILE` says.
    pub fn set_descriptors_max(&mut self, id: ReactorId, descriptors: usize) {
        self[id].sockets.driver.set_descriptors_max(descriptors);
    }

    fn host(&self, id: ReactorId) -> u32 {
        self.reactors[id.0].sockets.driver.host()
    }

    /// Adds a host with an empty reactor.
    ///
    /// # Panics
    ///
    /// If the limits make no sense.
    pub fn add_reactor(&mut self, limits: ReactorLimits) -> ReactorId {
        let driver = self.network.driver(self.faults.clone());
        if let Some((host, call)) = self.failing_call
            && host == driver.host()
        {
            self.network.net.borrow_mut().host(host).failing_call = Some(call);
        }
        let mut reactor = match Reactor::with_driver(driver, limits) {
            Ok(reactor) => reactor,
            Err(error) => panic!("no reactor: {error}"),
        };
        reactor.let_panics_through(true);
        self.reactors.push(reactor);
        ReactorId(self.reactors.len() - 1)
    }

    /// Adds a host that serves `handler` on port 7000 of its address.
    pub fn serve<H: StreamHandler>(&mut self, handler: H) -> Served<H> {
        let reactor = self.add_reactor(ReactorLimits::new().connections_max(1024));
        let ip = self[reactor].sockets.driver.ip();
        let address = SocketAddr::new(ip, 7000);
        let handler = self[reactor].add(handler);
        // Which may fail if a system call is told to.
        let listened = self[reactor].listen(handler, address);
        assert!(listened.is_ok() || self.failing_call.is_some(), "{listened:?}");
        Served { reactor, handler, address }
    }

    /// The handler of a server.
    pub fn handler<H: StreamHandler>(&self, served: Served<H>) -> &H {
        self[served.reactor].handler(served.handler)
    }

    /// Adds a client, which connects at once and then does what its script says.
    ///
    /// # Panics
    ///
    /// If the address stands for no socket address.
    pub fn client(&mut self, address: impl ToSocketAddrs, script: Script) -> ClientId {
        let address = address.to_socket_addrs().ok().and_then(|mut all| all.next());
        let address = address.expect("an IP address and a port");
        let socket = self.clients_host.connect(address);
        let index = self.clients.len();
        if let Ok(socket) = &socket {
            self.network.tell_client(socket, index);
        }
        self.clients.push(Client::new(socket, script));
        ClientId(index)
    }

    /// A plain socket of the clients' host.
    pub(super) fn connect(&self, address: SocketAddr) -> SimSocket {
        self.clients_host.connect(address).expect("a fresh host has ports")
    }

    /// How many system calls the host of each reactor has made.
    pub(super) fn calls(&self) -> Vec<(u32, u64)> {
        let mut net = self.network.net.borrow_mut();
        let hosts = self.reactors.iter().map(|reactor| reactor.sockets.driver.host());
        hosts.map(|host| (host, net.host(host).calls)).collect()
    }

    /// All that a client has received.
    pub fn received(&self, client: ClientId) -> &[u8] {
        &self.clients[client.0].received
    }

    /// Whether a client has taken every step of its script.
    pub fn is_done(&self, client: ClientId) -> bool {
        self.clients[client.0].is_done()
    }

    /// Checks that a client has taken every step of its script.
    ///
    /// # Panics
    ///
    /// If it has not, with the step that it is at and what it has received since the one before.
    #[track_caller]
    pub fn assert_done(&self, client: ClientId) {
        if let Some(step) = self.clients[client.0].step_left() {
            panic!("client {} is not done: {step}", client.0);
        }
    }

    /// How a client's connection ended, once it has.
    pub fn end(&self, client: ClientId) -> Option<End> {
        self.clients[client.0].end
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.network.now()
    }

    /// Turns of all reactors so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The last things that happened.
    pub fn trace(&self) -> Vec<Entry> {
        self.network.net.borrow().trace.entries().cloned().collect()
    }

    /// Keeps that many of the last things that happened; 256 if nothing else is said.
    pub fn keep_trace(&mut self, entries_max: usize) {
        self.network.net.borrow_mut().trace.keep(entries_max);
    }

    /// A number that stands for everything that happened: two runs that did the same have the same.
    pub fn trace_hash(&self) -> u64 {
        self.network.net.borrow().trace.hash()
    }

    /// How many things happened.
    pub fn trace_len(&self) -> u64 {
        self.network.net.borrow().trace.count()
    }

    /// How many decisions were left to chance.
    pub fn decisions(&self) -> u64 {
        self.network.net.borrow().decisions.taken()
    }

    pub(super) fn note_decisions(&mut self) {
        self.network.net.borrow_mut().decisions.note();
    }

    pub(super) fn felt_decisions(&mut self) -> BTreeSet<Decision> {
        self.network.net.borrow_mut().decisions.felt()
    }

    /// The line of the script whose step failed.
    pub(super) fn failed_step(&self) -> Option<String> {
        self.failed_step.map(|place| format!("{}:{}", place.file(), place.line()))
    }

    /// Ends all faults; who had vanished is back.
    pub fn heal(&mut self) {
        self.faults = Faults::none();
        self.network.net.borrow_mut().heal();
    }

    /// Runs until nothing more happens by itself: nothing is under way, nobody has anything to do.
    /// What only a reactor's timer would bring does not count. Then nothing that could be delivered
    /// may wait anywhere.
    ///
    /// # Panics
    ///
    /// If it does not come to rest; or a byte, an end, or a client waits and nobody will see to it.
    pub fn run_until_idle(&mut self) {
        let end = self.turns + TURNS_MAX;
        while self.step(None) {
            assert!(self.turns < end, "no rest after {TURNS_MAX} turns");
        }
        self.assert_rest();
    }

    /// Runs for a while of virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now() + duration;
        while self.now() < until && self.step(Some(until)) {}
    }

    /// Runs until `is_done`, which is asked after every step.
    ///
    /// # Panics
    ///
    /// If it does not come within a day, or nothing happens any more.
    pub fn run_until(&mut self, mut is_done: impl FnMut(&Simulation) -> bool) {
        let until = self.now() + PATIENCE;
        while !is_done(self) {
            assert!(self.step(Some(until)), "nothing happens any more, or not for a day");
        }
    }

    /// One thing happens: a reactor has a turn, a client goes on, or else time passes until something
    /// arrives. With `until`, a reactor's timer is something to wait for. Whether there was anything.
    fn step(&mut self, until: Option<Time>) -> bool {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let mut next_timer = Time::NEVER;
        let now = self.now();
        for (index, reactor) in self.reactors.iter_mut().enumerate() {
            let wait = reactor.next_wait();
            if wait == Some(Duration::ZERO) || reactor.sockets.driver.has_events() {
                candidates.push(Candidate::Reactor(index));
            } else if let Some(wait) = wait {
                next_timer = next_timer.min(now + wait);
            }
        }
        let mut net = self.network.net.borrow_mut();
        candidates.extend(net.clients_due.front().map(|index| Candidate::Client(*index)));
        // To be the first is harmless, and the decision is whether it has its turn: so a turn more or
        // less of anybody else is another decision. (A client that is the first is the only one.)
        let first = match candidates.first() {
            Some(Candidate::Reactor(index)) => *index,
            _ => 0,
        };
        let choice = net.decisions.below(Matter::Turn, first, candidates.len() as u64) as usize;
        let chosen = candidates.get(choice).copied();
        self.candidates = candidates;
        match chosen {
            Some(Candidate::Reactor(index)) => {
                drop(net);
                self.turn(index);
                true
            }
            Some(Candidate::Client(index)) => {
                net.clients_due.pop_front();
                drop(net);
                self.run_client(index);
                true
            }
            None => {
                self.idle_turns = 0;
                let arrival = net.next_arrival();
                let next = match (arrival, until) {
                    (None, None) => return false,
                    (Some(arrival), None) => arrival,
                    (arrival, Some(until)) => {
                        let next = arrival.unwrap_or(Time::NEVER).min(next_timer);
                        if next > until {
                            net.pass(until);
                            return false;
                        }
                        next
                    }
                };
                net.pass(next);
                true
            }
        }
    }

    fn turn(&mut self, index: usize) {
        self.turns += 1;
        let reactor = &mut self.reactors[index];
        let is_walk_due =
            reactor.core.sources.len() <= SMALL || self.turns.is_multiple_of(NOW_AND_THEN);
        let touched = &mut self.touched;
        touched.clear();
        if !is_walk_due {
            let core = &reactor.core;
            let lists = [&core.ready, &core.flush, &core.mail];
            touched.extend(lists.into_iter().flatten());
        }
        let before = achieved(reactor.stats());
        if let Err(error) = reactor.turn(Some(Duration::ZERO)) {
            panic!("the poll is broken: {error}");
        }
        let is_idle = achieved(reactor.stats()) == before;
        self.idle_turns = if is_idle { self.idle_turns + 1 } else { 0 };
        assert!(
            self.idle_turns < IDLE_TURNS_MAX,
            "reactor {index} has work and does nothing: {IDLE_TURNS_MAX} turns without a byte, an end \
             or a newcomer"
        );
        if is_walk_due {
            return reactor.verify();
        }
        touched.extend(reactor.sockets.driver.events().map(|event| event.key));
        reactor.verify_some(touched);
    }

    fn run_client(&mut self, index: usize) {
        let now = self.now();
        match self.clients[index].run(now) {
            Ok(Wish::Nothing) => {}
            Ok(Wish::WakeAt(at)) => {
                self.network.net.borrow_mut().send(at, Event::Client { index });
            }
            Err(message) => {
                self.failed_step = self.clients[index].place();
                let place = self.failed_step().unwrap_or_default();
                panic!("client {index}: {message}\n  at {place}");
            }
        }
    }

    /// Checks that nothing waits that could go on.
    fn assert_rest(&self) {
        for (number, reactor) in self.reactors.iter().enumerate() {
            reactor.verify();
            assert!(!reactor.core.has_work(), "reactor {number} rests, and has work");
            let core = &reactor.core;
            let lists = [&core.ready, &core.accept, &core.flush, &core.mail, &core.due];
            assert!(
                lists.iter().all(|list| list.is_empty()),
                "reactor {number} forgets a work list"
            );
            let net = self.network.net.borrow();
            for (key, source) in reactor.core.sources.iter() {
                let Some(socket) = reactor.sockets.of(key) else { continue };
                let Some(socket) = net.sockets.get(socket.key) else { continue };
                let kernel = socket.readiness();
                let waits = match source {
                    Source::Stream(stream) if stream.has(DEAD | CONNECTING) => false,
                    Source::Stream(stream) => {
                        kernel.contains(Readiness::READABLE) && stream.wants_read()
                            || kernel.contains(Readiness::WRITABLE) && stream.has(HAS_OUTPUT)
                            || kernel.contains(Readiness::ERROR) && net.kernel == Kernel::Linux
                    }
                    Source::Listener(listener) => {
                        kernel.contains(Readiness::READABLE) && !listener.is_muted()
                    }
                    Source::Raw(_) => false,
                };
                assert!(!waits, "reactor {number}: {key} waits for ever: {source:?}, {kernel:?}");
            }
        }
    }

    /// Checks that a reactor is as it was at the start, but for its listeners: no connection, no
    /// buffer, no timer and no descriptor is left.
    ///
    /// # Panics
    ///
    /// If something is left.
    pub fn assert_empty(&mut self, id: ReactorId) {
        let reactor = &mut self.reactors[id.0];
        assert_eq!(reactor.connections(), 0, "connections are left");
        assert_eq!(reactor.stats().memory_bytes, 0, "buffers are left");
        // Those of ended connections are swept now and then, and never fire.
        let sources = &reactor.core.sources;
        reactor.core.timers.sweep(|key| sources.get(key).is_some());
        let stats = reactor.stats();
        let opened = stats.accepts + stats.connects;
        assert_eq!(stats.closes_total(), opened, "who opened was told of the end, once");
        let timers = reactor.core.timers.next_deadline();
        assert_eq!(timers, None, "a timer is left");
        let listeners = reactor.listeners.len();
        let reserves = usize::from(reactor.reserve.is_some());
        let host = reactor.sockets.driver.host();
        let descriptors = self.network.net.borrow_mut().host(host).descriptors;
        assert_eq!(descriptors, listeners + reserves, "descriptors are left");
    }
}

/// What a turn is good for.
fn achieved(stats: &Stats) -> [u64; 4] {
    let newcomers = stats.accepts + stats.connects + stats.refusals + stats.sheds;
    let ends = stats.closes_total() + stats.connect_failures + stats.accept_errors;
    [stats.bytes_in, stats.bytes_out, newcomers, ends]
}

impl Index<ReactorId> for Simulation {
    type Output = Reactor<SimDriver>;

    fn index(&self, id: ReactorId) -> &Reactor<SimDriver> {
        &self.reactors[id.0]
    }
}

impl IndexMut<ReactorId> for Simulation {
    fn index_mut(&mut self, id: ReactorId) -> &mut Reactor<SimDriver> {
        &mut self.reactors[id.0]
    }
}
