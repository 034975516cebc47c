//! Connects whose deadline is looked at late, when they are through and nobody has told of that yet.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::sim::{Faults, Kernel, Network, SimDriver};
use oneloop::{
    ConnectError, ConnectOptions, Connection, Context, Destination, Error, HandlerId, Key, Limits,
    ListenOptions, Reactor, ReactorLimits, StreamHandler, TimerId,
};

use super::Echo;

const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_millis(50);
/// The deadline is past, and the answer is yet to come.
const LATE: Duration = Duration::from_millis(60);
/// One way.
const LATENCY: Duration = Duration::from_millis(40);

/// Connects once. In the turn in which the deadline is due, a callback of it takes until the answer is there.
struct Caller {
    network: Network,
    to: Destination,
    opened: usize,
    failures: Vec<ConnectError>,
}

impl StreamHandler for Caller {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        let options = ConnectOptions::new().limits(Limits::new().connect_timeout(TIMEOUT));
        cx.connect_with(self.to.clone(), 0, &Rc::new(options));
        cx.set_handler_timer(TIMEOUT);
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {
        self.opened += 1;
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_connect_failed(&mut self, _: Key, _: u64, error: ConnectError, _: &mut Context<'_>) {
        self.failures.push(error);
    }

    fn on_handler_timer(&mut self, _: TimerId, _: &mut Context<'_>) {
        self.network.pass(LATE);
    }
}

fn reactor<H: StreamHandler>(driver: SimDriver, handler: H) -> (Reactor<SimDriver>, HandlerId<H>) {
    let limits = ReactorLimits::new().connections_max(16);
    let mut reactor = Reactor::with_driver(driver, limits).unwrap();
    let handler = reactor.add(handler);
    (reactor, handler)
}

fn call(network: &Network, driver: SimDriver, to: impl Into<Destination>) -> Calling {
    let (network, to) = (network.clone(), to.into());
    let caller = Caller { network, to, opened: 0, failures: Vec::new() };
    let (mut reactor, caller) = reactor(driver, caller);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    Calling { reactor, caller }
}

struct Calling {
    reactor: Reactor<SimDriver>,
    caller: HandlerId<Caller>,
}

impl Calling {
    /// The turn that comes late.
    fn turn(&mut self) {
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
    }

    fn outcome(&self) -> (usize, &[ConnectError]) {
        let caller = self.reactor.handler(self.caller);
        (caller.opened, &caller.failures)
    }

    /// It is open, and works: the deadline is not that of the connection.
    fn assert_stays_open(&mut self, network: &Network) {
        assert_eq!(self.outcome(), (1, &[][..]));
        for _ in 0..10 {
            network.pass(LATE);
            self.turn();
        }
        assert_eq!(self.outcome(), (1, &[][..]));
        let stats = self.reactor.stats();
        assert_eq!((stats.connects, stats.connect_failures), (1, 0));
        assert_eq!(self.reactor.connections(), 1);
    }
}

/// Its one address, or the first of two, answers when the deadline is past.
fn is_answered_late(to: impl Fn(SocketAddr) -> Destination) {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let network = Network::new(1, kernel);
        let slow = Faults::none().latency_min(LATENCY).latency_max(LATENCY);
        let driver = network.driver(slow.clone());
        let address = SocketAddr::new(driver.ip(), 7000);
        let (mut server, echo) = reactor(driver, Echo::default());
        server.listen(echo, address).unwrap();
        let mut calling = call(&network, network.driver(slow), to(address));
        network.pass(LATE);
        calling.turn();
        calling.assert_stays_open(&network);
    }
}

#[test]
fn a_connect_that_is_answered_while_its_last_turn_is_held_up_opens() {
    is_answered_late(Destination::from);
}

#[test]
fn one_of_several_addresses_that_answers_while_the_last_turn_is_held_up_is_the_connections() {
    let other = SocketAddr::from(([10, 9, 9, 9], 7000));
    is_answered_late(|address| vec![address, other].into());
}

/// With no room in the backlog it is tried again after ever longer waits. Closed then, it would fill the backlog.
#[test]
fn a_connect_that_found_room_in_the_backlog_in_its_last_turn_opens() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let network = Network::new(1, kernel);
        let path = UnixName::from_path("/run/app.sock").unwrap();
        let host = network.host(Faults::none());
        let (mut server, echo) = reactor(host.driver(Faults::none()), Echo::default());
        let options = ListenOptions::new().backlog(1);
        server.listen_with(echo, path.clone(), &options).unwrap();
        let _before = [host.connect(path.clone()).unwrap(), host.connect(path.clone()).unwrap()];
        let mut calling = call(&network, host.driver(Faults::none()), path);
        network.pass(LATE);
        while server.connections() < 2 {
            server.turn(Some(MS)).unwrap();
        }
        calling.turn();
        calling.assert_stays_open(&network);
    }
}
