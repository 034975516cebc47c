//! A world of reactors and clients, in which one thing happens after another.

mod clients;
mod hosts;
mod links;
mod orders;
mod rest;
mod run;

pub use self::clients::ClientOptions;
pub use self::links::Party;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::{Index, IndexMut};
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::client::{Client, End};
use super::decisions::{Decision, Decisions, Numbers};
use super::faults::{Faults, Kernel};
use super::network::{Network, SimHost};
use super::report::{self, Name};
use super::sim_driver::SimDriver;
use super::trace::{Entry, Named};
use super::{environment, failure};
use crate::clock::Time;
use crate::handler::StreamHandler;
use crate::key::Key;
use crate::limits::ReactorLimits;
use crate::listener::ListenOptions;
use crate::reactor::{HandlerId, Reactor};

/// Names a reactor of one simulation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReactorId {
    index: usize,
    /// The number of the simulation.
    of: u64,
}

/// Names a scripted client of one simulation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientId {
    index: usize,
    /// The number of the simulation.
    of: u64,
}

// Which simulation it is depends on what else runs, and is printed nowhere.
impl fmt::Debug for ReactorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReactorId({})", self.index)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.index)
    }
}

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
    /// Which one it is, of all of the process.
    number: u64,
    network: Network,
    /// Those that were removed are none any more; their hosts' numbers remain.
    reactors: Vec<Option<Reactor<SimDriver>>>,
    hosts: Vec<u32>,
    clients: Vec<Client>,
    /// The host of each client that has one of its own.
    own_hosts: Vec<Option<SimHost>>,
    clients_host: SimHost,
    faults: Faults,
    seed: u64,
    random: Numbers,
    turns: u64,
    /// Turns of each reactor since the last `run` method began.
    turns_of: Vec<u64>,
    /// Until when each reactor waits if nothing wakes it, unless it has yet to be asked.
    asleep_until: Vec<Option<Time>>,
    /// How many steps one of them may take.
    steps_max: u64,
    /// Turns on end in which nothing came of it.
    idle_turns: u64,
    /// Who could go on now.
    candidates: Vec<Candidate>,
    /// The sources that a turn touches.
    touched: Vec<Key>,
    /// The reactor's host and the number of its system call that is to fail.
    pub(super) failing_call: Option<(u32, u64)>,
    /// The step of a script that failed.
    failed_step: Option<String>,
    /// The `run` method that is running, and where the test calls it.
    run_at: Option<(&'static str, &'static Location<'static>)>,
    /// Somebody else tells of its failure.
    pub(super) is_reported: bool,
}

#[derive(Clone, Copy, Debug)]
enum Candidate {
    Reactor(usize),
    Client(usize),
}

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
        static SIMULATIONS: AtomicU64 = AtomicU64::new(0);
        let random = Numbers::new(decisions.number(u64::MAX));
        let network = Network::with_decisions(decisions, kernel);
        // The first host is the clients', whose addresses nobody needs to know.
        let clients_host = network.host(faults.clone());
        Simulation {
            number: SIMULATIONS.fetch_add(1, Ordering::Relaxed),
            network,
            reactors: Vec::new(),
            hosts: Vec::new(),
            clients: Vec::new(),
            own_hosts: Vec::new(),
            clients_host,
            faults,
            seed,
            random,
            turns: 0,
            turns_of: Vec::new(),
            asleep_until: Vec::new(),
            steps_max: run::STEPS_MAX,
            idle_turns: 0,
            candidates: Vec::new(),
            touched: Vec::new(),
            failing_call: None,
            failed_step: None,
            run_at: None,
            is_reported: false,
        }
    }

    /// The network that all of it is in. A handler that is given a clone can let time
    /// [pass](Network::pass) in its callbacks, as one does that computes or waits for a disk.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Which kernel its hosts have, for a test that counts calls.
    pub fn kernel(&self) -> Kernel {
        self.network.net.borrow().kernel
    }

    /// A number that follows from the seed, for what the test itself leaves to chance: how many clients
    /// there are, what they send. When [`Check`](super::Check) makes a failing run smaller, these
    /// numbers stay.
    pub fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Adds a host with an empty reactor.
    ///
    /// # Panics
    ///
    /// If the limits make no sense.
    #[track_caller]
    pub fn add_reactor(&mut self, limits: ReactorLimits) -> ReactorId {
        let driver = self.network.driver(self.faults.clone());
        self.add(driver, limits)
    }

    #[track_caller]
    fn add(&mut self, driver: SimDriver, limits: ReactorLimits) -> ReactorId {
        let host = driver.host();
        if let Some((failing, call)) = self.failing_call
            && failing == host
        {
            self.network.net.borrow_mut().host(host).failing_calls.insert(call);
        }
        let index = self.reactors.len();
        self.network.net.borrow_mut().host(host).reactor = Some(index);
        let mut reactor = match Reactor::with_driver(driver, limits) {
            Ok(reactor) => reactor,
            Err(error) => panic!("no reactor: {error}"),
        };
        reactor.let_panics_through(true);
        self.reactors.push(Some(reactor));
        self.hosts.push(host);
        self.turns_of.push(0);
        self.asleep_until.push(None);
        ReactorId { index, of: self.number }
    }

    /// The place of a reactor, which has to be one of this simulation.
    #[track_caller]
    fn reactor_index(&self, id: ReactorId) -> usize {
        assert!(id.of == self.number, "{id:?} is another simulation's");
        id.index
    }

    #[track_caller]
    fn client_of(&self, id: ClientId) -> &Client {
        assert!(id.of == self.number, "{id:?} is another simulation's");
        &self.clients[id.index]
    }

    /// What the test itself does is in the trace too.
    fn log(&self, what: &'static str, host: u32, value: u64) {
        self.network.net.borrow_mut().log(host, what, Key::NONE, value);
    }

    /// Adds a host that serves `handler` on port 7000 of its address, for up to 1024 connections.
    #[track_caller]
    pub fn serve<H: StreamHandler>(&mut self, handler: H) -> Served<H> {
        self.serve_with(handler, small(), &ListenOptions::new())
    }

    /// The same with other limits, those of the reactor and those of its listener.
    ///
    /// # Panics
    ///
    /// If they make no sense.
    ///
    /// ```
    /// use oneloop::sim::{Script, Simulation};
    /// use oneloop::{Limits, ListenOptions, ReactorLimits};
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
    /// let own = ReactorLimits::new().connections_max(10);
    /// let options = ListenOptions::new().limits(Limits::new().connections_per_address_max(1));
    /// let echo = sim.serve_with(Echo, own, &options);
    /// sim.client(echo.address, Script::new());
    /// let second = sim.client(echo.address, Script::new().expect_end());
    /// sim.run_until_idle();
    /// sim.assert_done(second);
    /// ```
    #[track_caller]
    pub fn serve_with<H: StreamHandler>(
        &mut self,
        handler: H,
        limits: ReactorLimits,
        options: &ListenOptions,
    ) -> Served<H> {
        let reactor = self.add_reactor(limits);
        self.listen(reactor, handler, options)
    }

    #[track_caller]
    fn listen<H: StreamHandler>(
        &mut self,
        reactor: ReactorId,
        handler: H,
        options: &ListenOptions,
    ) -> Served<H> {
        let ip = self[reactor].sockets.driver.ip();
        let address = SocketAddr::new(ip, 7000);
        let handler = self[reactor].add(handler);
        // Which may fail if a system call is told to.
        let listened = self[reactor].listen_with(handler, address, options);
        assert!(listened.is_ok() || self.failing_call.is_some(), "{listened:?}");
        Served { reactor, handler, address }
    }

    /// The handler of a server.
    #[track_caller]
    pub fn handler<H: StreamHandler>(&self, served: Served<H>) -> &H {
        self[served.reactor].handler(served.handler)
    }

    /// How many system calls the host of each reactor has made.
    pub(super) fn calls(&self) -> Vec<(u32, u64)> {
        let mut net = self.network.net.borrow_mut();
        self.hosts.iter().map(|host| (*host, net.host(*host).calls)).collect()
    }

    /// All that a client has received.
    #[track_caller]
    pub fn received(&self, client: ClientId) -> &[u8] {
        &self.client_of(client).received
    }

    /// Whether a client has taken every step of its script.
    #[track_caller]
    pub fn is_done(&self, client: ClientId) -> bool {
        self.client_of(client).is_done()
    }

    /// How a client's connection ended, once it has.
    #[track_caller]
    pub fn end(&self, client: ClientId) -> Option<End> {
        self.client_of(client).end
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.network.now()
    }

    /// Turns of all reactors so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The last things that happened, as many as [`keep_trace`](Simulation::keep_trace) says.
    pub fn trace(&self) -> Vec<Entry> {
        self.network.net.borrow().entries()
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

    /// How many decisions were left to chance: what a fault does, how long something is under way, who
    /// goes on first.
    pub fn decisions(&self) -> u64 {
        self.network.net.borrow().decisions.taken()
    }

    pub(super) fn note_decisions(&mut self) {
        self.network.net.borrow_mut().decisions.note();
    }

    pub(super) fn felt_decisions(&mut self) -> BTreeSet<Decision> {
        self.network.net.borrow_mut().decisions.felt()
    }

    /// The line of the script whose step failed, and the step.
    pub(super) fn failed_step(&self) -> Option<String> {
        self.failed_step.clone()
    }

    /// The `run` method that failed, and the line of the test that calls it.
    pub(super) fn run_at(&self) -> Option<String> {
        self.run_at.map(|(what, place)| format!("{what} at {}:{}", place.file(), place.line()))
    }

    /// All sockets of now, with their numbers and hosts.
    pub(super) fn sockets(&self) -> Vec<(u32, u32, Name)> {
        let net = self.network.net.borrow();
        let named = net.sockets.iter().map(|(socket, sock)| {
            let Named { who, key, peer } = net.named(sock);
            let peer = peer.and_then(|peer| net.sockets.get(peer)).map(|peer| net.named(peer).who);
            let name = Name { who, key, peer };
            (socket.index() as u32, sock.host, name)
        });
        named.collect()
    }

    /// The call that was told to fail first, if it was made, and its error.
    pub(super) fn failed_call(&self, host: u32) -> Option<String> {
        let mut net = self.network.net.borrow_mut();
        net.host(host).failed_calls.first().map(|(call, error)| format!("{}: {error}", call.name()))
    }

    /// Ends all faults, and withdraws what was ordered and has not come to pass: a call that was to fail,
    /// a cut, a reset. What is under way arrives now, and no reset that was decided before comes; who
    /// had vanished is back, who was [parted](Simulation::partition) is together, and whose peer has gone
    /// without a word learns of it.
    pub fn heal(&mut self) {
        self.faults = Faults::none();
        self.network.net.borrow_mut().heal();
    }
}

/// A test that fails for itself, without a [`Check`](super::Check), is told what happened. One that
/// does not, and has ordered what did not come to pass, fails now.
impl Drop for Simulation {
    fn drop(&mut self) {
        if !self.is_reported && !thread::panicking() {
            self.assert_ordered();
        }
        let is_told = self.is_reported || failure::is_quiet() || !thread::panicking();
        // A panic in the network's own code has it borrowed.
        if is_told || self.network.net.try_borrow_mut().is_err() || self.trace_len() == 0 {
            return;
        }
        let (seed, kernel) = (self.seed, self.network.net.borrow().kernel);
        let run_at = self.run_at().map_or(String::new(), |run_at| format!(", in {run_at}"));
        let trace = report::trace(self, environment::trace_lines_if_any());
        eprint!("\nsimulation of seed {seed}, on {kernel:?}{run_at}:\n{trace}");
    }
}

/// The limits of a reactor that is made in no time, and large enough for a test.
pub(super) fn small() -> ReactorLimits {
    ReactorLimits::new().connections_max(1024)
}

impl Index<ReactorId> for Simulation {
    type Output = Reactor<SimDriver>;

    #[track_caller]
    fn index(&self, id: ReactorId) -> &Reactor<SimDriver> {
        let reactor = self.reactors[self.reactor_index(id)].as_ref();
        reactor.unwrap_or_else(|| panic!("reactor {} was removed, or has crashed", id.index))
    }
}

impl IndexMut<ReactorId> for Simulation {
    #[track_caller]
    fn index_mut(&mut self, id: ReactorId) -> &mut Reactor<SimDriver> {
        let index = self.reactor_index(id);
        let reactor = self.reactors[index].as_mut();
        reactor.unwrap_or_else(|| panic!("reactor {index} was removed, or has crashed"))
    }
}
