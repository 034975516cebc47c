//! The network and the kernel: what they can hold, and what may go wrong.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{
    ClientOptions, Faults, Kernel, Network, Script, SimDriver, SimSource, Simulation,
};
use oneloop::{
    Connection, Context, Drained, Error, Interest, Key, ListenOptions, Reactor, ReactorLimits,
    Readiness, SourceHandler, StreamHandler, Time,
};

use super::{Echo, Flood, SECOND, hello, served_echo, whats};

/// A server that echoes, on a port of its machine.
fn served_at(driver: SimDriver) -> (Reactor<SimDriver>, SocketAddr) {
    let limits = ReactorLimits::new().connections_max(16);
    let mut reactor = Reactor::with_driver(driver, limits).unwrap();
    let echo = reactor.add(Echo::default());
    let listener = reactor.listen(echo, "127.0.0.1:0").unwrap();
    let address = reactor.listener_address(listener).unwrap().inet().unwrap();
    (reactor, address)
}

#[test]
fn a_server_without_descriptors_sheds_and_accepts_again_when_it_has_some() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    // The listener, the reserve, and two connections.
    sim.set_descriptors_max(echo.reactor, 4);
    let stay = |seconds| hello().wait(seconds * SECOND).close().may_end();
    let first: Vec<_> = (0..5).map(|_| sim.client(echo.address, stay(10))).collect();
    sim.run_for(SECOND);
    assert_eq!(sim[echo.reactor].connections(), 2);
    assert!(whats(&sim, "accept").iter().any(|entry| entry.error == Some("EMFILE")));
    assert!(sim[echo.reactor].stats().sheds > 0);
    sim.run_for(20 * SECOND);
    assert_eq!(first.iter().filter(|client| sim.is_done(**client)).count(), 2);
    let later = sim.client(echo.address, stay(1));
    sim.run_for(20 * SECOND);
    sim.assert_done(later);
    sim.assert_empty(echo.reactor);
}

/// accept(2) takes the descriptor first.
#[test]
fn without_a_descriptor_an_accept_fails_also_if_nobody_is_at_the_door() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.set_descriptors_max(echo.reactor, 5);
    let clients: Vec<_> = (0..3).map(|_| sim.client(echo.address, hello())).collect();
    sim.run_for(SECOND / 1000);
    clients.iter().for_each(|client| sim.assert_done(*client));
    let stats = sim[echo.reactor].stats();
    assert_eq!((stats.accepts, stats.accept_errors, stats.sheds), (3, 1, 0), "{stats:?}");
}

#[test]
fn an_interrupted_poll_returns_at_once_and_tells_nothing() {
    let network = Network::new(1, Kernel::Linux);
    let host = network.host(Faults::none());
    let (mut reactor, address) = served_at(host.driver(Faults::none().interrupted_polls(1.0)));
    let _client = host.connect(address).unwrap();
    reactor.turn(Some(SECOND / 1000)).unwrap(); // its request is under way
    let before = network.now();
    reactor.turn(Some(SECOND)).unwrap();
    assert!(network.now() - before < SECOND / 1000, "it waited");
    assert_eq!(reactor.stats().events, 0);
}

/// As unix(7) has it: to another process, and only of this machine.
#[test]
fn a_connection_can_be_passed_on_within_its_machine() {
    let network = Network::new(1, Kernel::Linux);
    let host = network.host(Faults::none());
    let (_server, address) = served_at(host.driver(Faults::none()));
    let before = network.descriptors();
    let socket = host.connect(address).unwrap();
    network.pass(SECOND / 1000);
    let limits = ReactorLimits::new().connections_max(16);
    let elsewhere = network.driver(Faults::none());
    let mut elsewhere = Reactor::with_driver(elsewhere, limits.clone()).unwrap();
    let echo = elsewhere.add(Echo::default());
    let error = elsewhere.adopt(echo, socket, 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let socket = host.connect(address).unwrap();
    network.pass(SECOND / 1000);
    let beside = host.driver(Faults::none());
    beside.set_descriptors_max(2); // one is the reserve
    let mut beside = Reactor::with_driver(beside, limits).unwrap();
    let echo = beside.add(Echo::default());
    beside.adopt(echo, socket, 0).unwrap();
    let full = beside.listen(echo, "127.0.0.1:0").unwrap_err();
    assert!(full.to_string().contains("Too many open files"), "{full}");
    drop(beside);
    drop(elsewhere);
    assert_eq!(network.descriptors(), before);
}

#[test]
#[should_panic(expected = "nobody connects from fd00::77 to 10.0.0.2:7000, of another family")]
fn a_client_has_an_address_of_the_servers_family() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let options = ClientOptions::new().ip("fd00::77".parse().unwrap());
    sim.client_with(echo.address, hello(), options);
}

#[test]
fn a_full_backlog_drops_requests_and_they_are_sent_again() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let address = SocketAddr::new(echo.address.ip(), 7001);
    let options = ListenOptions::new().backlog(2);
    sim[echo.reactor].listen_with(echo.handler, address, &options).unwrap();
    let clients: Vec<_> = (0..10).map(|_| sim.client(address, hello())).collect();
    let done = |sim: &Simulation| clients.iter().filter(|client| sim.is_done(**client)).count();
    // Linux queues one more than it was told (listen(2)); the others try again after 1, 2, 4 s.
    for (at_least, count) in [(0, 3), (1, 6), (3, 9), (7, 10)] {
        let until = Duration::from_secs(at_least) + SECOND / 2;
        let passed = sim.now().since(whats(&sim, "listen")[0].at);
        sim.run_for(until - passed);
        assert_eq!(done(&sim), count, "after {until:?}");
    }
    assert_eq!(whats(&sim, "backlog full").len(), 7 + 4 + 1);
}

#[test]
fn a_host_has_as_many_ports_as_linux_gives_out_and_gets_them_back() {
    let network = Network::new(1, Kernel::Linux);
    let host = network.host(Faults::none());
    let address = SocketAddr::from(([10, 9, 9, 9], 7000));
    let mut sockets: Vec<_> = (0..28_232).map(|_| host.connect(address).unwrap()).collect();
    let ports: HashSet<u16> =
        sockets.iter().map(|socket| socket.local_address().port().unwrap()).collect();
    assert_eq!(ports.len(), sockets.len());
    let error = host.connect(address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    host.connect(SocketAddr::from(([10, 9, 9, 8], 7000))).expect("another peer, the same port");
    sockets.pop();
    host.connect(address).expect("one is free again");
    drop(sockets);
    assert_eq!(network.descriptors(), 0);
}

/// Asks for an echo as soon as it runs, and remembers when it came.
struct Asker {
    address: SocketAddr,
    answered: Option<Time>,
}

impl StreamHandler for Asker {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.connect(self.address, 0);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(b"hello").ignore();
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.answered = Some(conn.now());
        conn.close();
        Ok(data.len())
    }
}

#[test]
fn the_faults_of_a_link_are_those_of_two_reactors_only() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let asker = || Asker { address: echo.address, answered: None };
    let (near, far) = (sim.serve(asker()), sim.serve(asker()));
    let slow = Faults::none().latency_min(SECOND).latency_max(SECOND);
    sim.set_link_faults(echo.reactor, far.reactor, slow);
    let start = sim.now();
    sim.run_until_idle();
    let took = |answered: Option<Time>| answered.expect("an answer").since(start);
    assert!(took(sim.handler(near).answered) < SECOND / 10);
    assert!(took(sim.handler(far).answered) >= 2 * SECOND);
    sim.assert_empty(echo.reactor);
}

#[test]
fn bandwidth_bounds_what_comes_through() {
    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().bandwidth(10_000));
    let flood = sim.serve(Flood(100_000));
    let client = sim.client(flood.address, Script::new().expect_bytes(100_000).close());
    let start = sim.now();
    sim.run_until_idle();
    sim.assert_done(client);
    let seconds = sim.now().since(start).as_secs();
    assert!((9..=11).contains(&seconds), "{seconds} s for 100 kB at 10 kB/s");
}

#[test]
fn one_call_can_be_made_to_fail() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().expect("more"));
    sim.run_until_idle();
    // The poll is the first one, the accept the second one.
    sim.fail_call(echo.reactor, 2);
    let other = sim.client(echo.address, hello());
    sim.run_until_idle();
    assert_eq!(sim[echo.reactor].stats().accept_errors, 1);
    sim.assert_done(other);
    assert!(sim.end(client).is_none());
}

#[test]
fn a_clock_that_jumps_fires_what_is_due() {
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
    let client = sim.client(echo.address, hello().send("more"));
    sim.run_for(SECOND / 2);
    assert_eq!(sim.received(client), b"hello");
    let before = sim.now();
    sim.jump_clock(echo.reactor, SECOND);
    sim.run_until_idle();
    assert_eq!(sim.received(client), b"hellomore");
    assert!(sim.now().since(before) < SECOND / 10, "only its own clock jumped");
}

/// Counts how often its source was readable.
struct Counter(Rc<RefCell<Vec<Readiness>>>);

impl SourceHandler for Counter {
    type Source = SimSource;

    fn on_readable(&mut self, _: Key, source: &mut SimSource, _: &mut Context<'_>) -> Drained {
        self.0.borrow_mut().push(source.readiness());
        source.set(Readiness::EMPTY);
        Drained::Yes
    }
}

#[test]
fn a_raw_source_wakes_its_handler_once_for_each_change() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let reactor = sim.add_reactor(ReactorLimits::new());
        let (source, seen) = (SimSource::new(), Rc::new(RefCell::new(Vec::new())));
        let handler = Counter(Rc::clone(&seen));
        sim[reactor].add_source(handler, source.clone(), Interest::Readable).unwrap();
        sim.run_until_idle();
        assert_eq!(*seen.borrow(), []);
        for count in 1..=3 {
            source.set(Readiness::READABLE);
            sim.run_until_idle();
            assert_eq!(*seen.borrow(), vec![Readiness::READABLE; count], "{kernel:?}");
        }
        assert_eq!(source.readiness(), Readiness::EMPTY);
    }
}

#[test]
fn a_fault_that_makes_no_sense_is_named() {
    let message = |make: fn() -> Faults| {
        let panic = catch_unwind(make).unwrap_err();
        panic.downcast_ref::<String>().expect("a message").clone()
    };
    assert_eq!(message(|| Faults::none().short_reads(1.5)), "Faults::short_reads cannot be 1.5");
    assert_eq!(message(|| Faults::none().resets(f64::NAN)), "Faults::resets cannot be NaN");
    assert_eq!(
        message(|| Faults::none().send_buffer_bytes(0)),
        "Faults::send_buffer_bytes cannot be 0"
    );
    assert_eq!(message(|| Faults::none().bandwidth(0)), "Faults::bandwidth cannot be 0");
}

#[test]
fn every_kind_of_fault_happens_and_is_in_the_trace() {
    let faults = Faults::some().vanishing_peers(0.01).clock_jumps(0.01);
    let expected = [
        ("accept", Some("EMFILE")),
        ("accept", Some("OutOfMemory")),
        ("register", Some("StorageFull")),
        ("poll", Some("Interrupted")),
        ("read", Some("WouldBlock")),
        ("read", Some("ConnectionReset")),
        ("reset", Some("ConnectionRefused")),
        ("clock jump", None),
        ("vanish", None),
    ];
    let mut missing: HashSet<_> = expected.into();
    for seed in 0..50 {
        let mut sim = Simulation::with(seed, Kernel::Contract, faults.clone());
        sim.keep_trace(usize::MAX);
        let echo = served_echo(&mut sim);
        for _ in 0..20 {
            sim.client(echo.address, hello().send("more").expect("more").close().may_end());
        }
        sim.run_for(60 * SECOND);
        for entry in sim.trace() {
            missing.remove(&(entry.what, entry.error));
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
