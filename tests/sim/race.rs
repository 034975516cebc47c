//! Connecting to several addresses at once (RFC 8305), in virtual time.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{Call, Check, Faults, Kernel, ReactorId, Served, Simulation};
use oneloop::{
    ConnectError, ConnectOptions, Connection, Context, Destination, Error, Key, Limits,
    ListenOptions, ReactorLimits, StreamHandler, Time,
};

use super::SECOND;

const MS: Duration = Duration::from_millis(1);
/// How long the first one has before the next one begins.
const DELAY: Duration = Duration::from_millis(250);
/// What turns take of the time.
const TURNS: Duration = Duration::from_micros(100);

/// Says what it is called, to whoever comes.
pub(super) struct Greeter(pub(super) &'static str);

impl StreamHandler for Greeter {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(self.0.as_bytes()).ignore();
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

/// Connects once, and remembers what came of it.
pub(super) struct Once {
    to: Destination,
    options: Rc<ConnectOptions>,
    begun: Time,
    pub(super) key: Key,
    outcome: Option<(Result<Key, ConnectError>, Time)>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) received: Vec<u8>,
    closed: usize,
}

impl Once {
    pub(super) fn new(to: impl Into<Destination>) -> Once {
        Once::with(to, ConnectOptions::new())
    }

    pub(super) fn with(to: impl Into<Destination>, options: ConnectOptions) -> Once {
        Once {
            to: to.into(),
            options: Rc::new(options),
            begun: Time::from_nanos(0),
            key: Key::from_bits(0),
            outcome: None,
            peer: None,
            received: Vec::new(),
            closed: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// What came of it, and how long that took.
    pub(super) fn outcome(&self) -> (Result<(), ConnectError>, Duration) {
        let (outcome, at) = self.outcome.expect("it is over");
        if let Ok(key) = outcome {
            assert_eq!(key, self.key, "it opens under the key that it had from the start");
        }
        (outcome.map(|_| ()), at.since(self.begun))
    }
}

impl StreamHandler for Once {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.begun = cx.now();
        self.key = cx.connect_with(self.to.clone(), 7, &self.options);
        assert_eq!(cx.send_to(self.key, b"early"), oneloop::Sent::Ok);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        assert_eq!(self.outcome.replace((Ok(conn.key()), conn.now())), None);
        self.peer = conn.peer_address().ok().and_then(|peer| peer.inet());
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        self.received.extend_from_slice(data);
        Ok(data.len())
    }

    fn on_connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        assert_eq!((key, tag), (self.key, 7));
        assert_eq!(self.outcome.replace((Err(error), cx.now())), None);
    }

    fn on_close(&mut self, _: (), _: Key, _: oneloop::CloseReason, _: &mut Context<'_>) {
        self.closed += 1;
    }
}

/// A host that nothing reaches, as seen from another one.
fn hole(sim: &mut Simulation) -> ReactorId {
    sim.add_reactor(ReactorLimits::new().connections_max(8))
}

/// A caller with these addresses, which are of the first, and the hosts that it does not reach.
fn calling(
    sim: &mut Simulation,
    addresses: Vec<SocketAddr>,
    options: ConnectOptions,
    holes: &[ReactorId],
) -> Served<Once> {
    let caller = sim.serve(Once::with(addresses, options));
    for hole in holes {
        sim.partition(caller.reactor, *hole);
    }
    caller
}

fn v6_of(sim: &Simulation, reactor: ReactorId) -> SocketAddr {
    SocketAddr::new(sim.ip_v6(reactor), 7000)
}

/// Ends what opened, and checks that nothing is left.
fn assert_leaves_nothing(sim: &mut Simulation, caller: Served<Once>) {
    let key = sim.handler(caller).key;
    sim[caller.reactor].context(caller.handler).close_key(key);
    sim.run_for(200 * SECOND);
    sim.assert_empty(caller.reactor);
}

#[test]
fn where_ipv6_is_a_black_hole_it_opens_over_ipv4_a_quarter_of_a_second_later() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        for seed in 0..20 {
            let latency = 20 * MS;
            let faults = Faults::none().latency_min(latency).latency_max(latency);
            let mut sim = Simulation::with(seed, kernel, faults);
            let server = sim.serve(Greeter("hello"));
            let hole = hole(&mut sim);
            let addresses = vec![v6_of(&sim, hole), server.address];
            let caller = calling(&mut sim, addresses, ConnectOptions::new(), &[hole]);
            sim.run_for(SECOND / 5);
            assert!(!sim.handler(caller).is_over());
            let descriptors = sim.network().descriptors();
            sim.run_for(SECOND / 5);
            let (outcome, took) = sim.handler(caller).outcome();
            assert_eq!(outcome, Ok(()));
            // There and back.
            let expected = DELAY + 2 * latency;
            assert!(took >= expected && took <= expected + TURNS, "{kernel:?}, {seed}: {took:?}");
            assert_eq!(sim.handler(caller).peer, Some(server.address));
            assert_eq!(sim.handler(caller).received, b"hello");
            // The socket of the black hole is closed; the server's own has come.
            assert_eq!(sim.network().descriptors(), descriptors + 1);
            assert_eq!(sim[server.reactor].stats().bytes_in, 5, "what was sent early");
            assert_eq!(sim[caller.reactor].connections(), 1);
            assert_leaves_nothing(&mut sim, caller);
        }
    }
}

#[test]
fn the_first_that_answers_needs_no_other() {
    let mut sim = Simulation::new(1);
    let (one, other) = (sim.serve(Greeter("one")), sim.serve(Greeter("other")));
    let addresses = vec![one.address, other.address];
    let caller = calling(&mut sim, addresses, ConnectOptions::new(), &[]);
    sim.run_for(SECOND);
    assert_eq!(sim.handler(caller).received, b"one");
    assert!(sim.handler(caller).outcome().1 < MS);
    assert_eq!(sim[other.reactor].stats().accepts, 0);
    assert_leaves_nothing(&mut sim, caller);
}

#[test]
fn one_that_is_refused_is_followed_by_the_next_one_at_once() {
    let mut sim = Simulation::new(1);
    let server = sim.serve(Greeter("hello"));
    let refusing = hole(&mut sim);
    let addresses = vec![v6_of(&sim, refusing), server.address];
    let caller = calling(&mut sim, addresses, ConnectOptions::new(), &[]);
    sim.run_for(SECOND);
    let (outcome, took) = sim.handler(caller).outcome();
    assert_eq!((outcome, sim.handler(caller).peer), (Ok(()), Some(server.address)));
    assert!(took < DELAY, "{took:?}");
    assert_leaves_nothing(&mut sim, caller);
}

#[test]
fn one_that_cannot_begin_is_followed_by_the_next_one_at_once() {
    for call in [Call::Connect, Call::Register, Call::ConnectResult, Call::Rename] {
        let mut sim = Simulation::new(1);
        let (one, other) = (sim.serve(Greeter("one")), sim.serve(Greeter("other")));
        let addresses = vec![one.address, other.address];
        let caller = calling(&mut sim, addresses, ConnectOptions::new(), &[]);
        sim.fail_next(caller.reactor, call, io::ErrorKind::OutOfMemory);
        sim.run_for(SECOND);
        let (outcome, took) = sim.handler(caller).outcome();
        assert_eq!(
            (outcome, &sim.handler(caller).received[..]),
            (Ok(()), &b"other"[..]),
            "{call:?}"
        );
        assert!(took < DELAY, "{call:?}: {took:?}");
        assert_leaves_nothing(&mut sim, caller);
    }
}

#[test]
fn without_a_descriptor_for_the_next_one_the_first_one_is_waited_for() {
    let mut sim = Simulation::new(1);
    let latency = SECOND / 2;
    sim.set_faults(Faults::none().latency_min(latency).latency_max(latency));
    let server = sim.serve(Greeter("hello"));
    let hole = hole(&mut sim);
    let addresses = vec![server.address, v6_of(&sim, hole)];
    let caller = calling(&mut sim, addresses, ConnectOptions::new(), &[hole]);
    // Its listener, its reserve, and one candidate.
    sim.set_descriptors_max(caller.reactor, 3);
    sim.run_for(3 * SECOND);
    assert_eq!(sim.handler(caller).outcome().0, Ok(()));
    assert_eq!(sim.handler(caller).received, b"hello");
    assert_leaves_nothing(&mut sim, caller);
}

#[test]
fn when_all_fail_it_is_told_once_and_why() {
    let mut sim = Simulation::new(1);
    let (refusing, nowhere) = (hole(&mut sim), SocketAddr::from(([192, 0, 2, 1], 7000)));
    let refused = v6_of(&sim, refusing);
    for addresses in [vec![refused, nowhere], vec![nowhere, refused]] {
        let caller = calling(&mut sim, addresses, ConnectOptions::new(), &[]);
        sim.run_for(SECOND);
        assert_eq!(sim.handler(caller).outcome().0, Err(ConnectError::Refused));
        assert_eq!(sim[caller.reactor].stats().connect_failures, 1);
        assert_leaves_nothing(&mut sim, caller);
    }
}

#[test]
fn the_time_of_the_connect_is_that_of_all_together() {
    let mut sim = Simulation::new(1);
    let holes = [hole(&mut sim), hole(&mut sim), hole(&mut sim)];
    let addresses = holes.map(|hole| v6_of(&sim, hole)).to_vec();
    let options = ConnectOptions::new().limits(Limits::new().connect_timeout(SECOND));
    let caller = calling(&mut sim, addresses, options, &holes);
    sim.run_for(600 * MS);
    let three = sim.network().descriptors();
    sim.run_for(3 * SECOND);
    let (outcome, took) = sim.handler(caller).outcome();
    assert_eq!(outcome, Err(ConnectError::TimedOut));
    assert!(took >= SECOND && took <= SECOND + TURNS, "{took:?}");
    assert_eq!(sim.network().descriptors(), three - 3);
    assert_leaves_nothing(&mut sim, caller);
}

/// As soon as it was asked for, while one is tried, while two are, and whichever comes first at the end.
#[test]
fn it_can_be_closed_aborted_and_stopped_at_any_moment() {
    for end in ["close", "abort", "stop"] {
        for after in [10, 100, 249_000, 251_000, 289_000, 290_004, 290_010, 400_000] {
            let after = Duration::from_micros(after);
            let mut sim = Simulation::new(1);
            sim.set_faults(Faults::none().latency_min(20 * MS).latency_max(20 * MS));
            let server = sim.serve(Greeter("hello"));
            let hole = hole(&mut sim);
            let addresses = vec![v6_of(&sim, hole), server.address];
            let caller = calling(&mut sim, addresses, ConnectOptions::new(), &[hole]);
            sim.run_for(after);
            let key = sim.handler(caller).key;
            let is_open = sim.handler(caller).is_over();
            let expected = match (is_open, end) {
                (true, _) => Ok(()),
                (false, "stop") => Err(ConnectError::Stopped),
                (false, _) => Err(ConnectError::Cancelled),
            };
            match end {
                "close" => sim[caller.reactor].context(caller.handler).close_key(key),
                "abort" => sim[caller.reactor].context(caller.handler).abort_key(key),
                _ => sim[caller.reactor].stop(),
            }
            sim.run_for(200 * SECOND);
            let once = sim.handler(caller);
            assert_eq!(once.outcome().0, expected, "{end} after {after:?}");
            assert_eq!(once.closed, usize::from(is_open), "{end} after {after:?}");
            sim.assert_empty(caller.reactor);
        }
    }
}

#[test]
fn it_is_one_of_the_reactors_connections_however_many_addresses_there_are() {
    let mut sim = Simulation::new(1);
    let holes = [hole(&mut sim), hole(&mut sim)];
    let server = sim.serve(Greeter("hello"));
    let mut addresses = holes.map(|hole| v6_of(&sim, hole)).to_vec();
    addresses.push(server.address);
    let limits = ReactorLimits::new().connections_max(1);
    let caller = sim.serve_with(Once::new(addresses), limits, &ListenOptions::new());
    holes.iter().for_each(|hole| sim.partition(caller.reactor, *hole));
    sim.run_for(260 * MS);
    assert_eq!(sim[caller.reactor].connections(), 1);
    sim.run_for(SECOND);
    assert_eq!(sim.handler(caller).outcome().0, Ok(()));
    assert_leaves_nothing(&mut sim, caller);
}

#[test]
fn from_an_address_of_one_family_only_that_family_is_tried() {
    let mut sim = Simulation::new(1);
    let server = sim.serve(Greeter("hello"));
    let hole = hole(&mut sim);
    let addresses = vec![v6_of(&sim, hole), server.address];
    let caller = sim.add_reactor(ReactorLimits::new().connections_max(8));
    let own = SocketAddr::new(sim.ip(caller), 0);
    let options = ConnectOptions::new().from(own);
    let handler = sim[caller].add(Once::with(addresses.clone(), options.clone()));
    let v6 = sim[caller].add(Once::with(vec![addresses[0], addresses[0]], options));
    sim.partition(caller, hole);
    sim.run_for(SECOND);
    let (outcome, took) = sim[caller].handler(handler).outcome();
    assert_eq!(outcome, Ok(()));
    assert!(took < DELAY, "{took:?}");
    let no_way = ConnectError::Io(io::ErrorKind::InvalidInput);
    assert_eq!(sim[caller].handler(v6).outcome().0, Err(no_way));
}

#[test]
fn no_address_is_nothing_to_connect_to() {
    let mut sim = Simulation::new(1);
    for to in ["*:7000", "udp://10.0.0.1:7", "unixgram:/dev/log", "fd:3", "systemd:x", ""] {
        let to = match to.parse::<oneloop::Address>() {
            Ok(address) => Destination::from(address),
            Err(_) => Destination::from(Vec::<SocketAddr>::new()),
        };
        let caller = sim.serve(Once::new(to));
        sim.run_for(SECOND);
        let no_way = ConnectError::Io(io::ErrorKind::InvalidInput);
        assert_eq!(sim.handler(caller).outcome().0, Err(no_way));
        sim.assert_empty(caller.reactor);
    }
}

/// Some of everything: one outcome, and nothing is left.
#[test]
fn whatever_goes_wrong_there_is_one_outcome_and_nothing_is_left() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let check = Check::new("race").seeds(100).kernel(kernel).faults(Faults::some());
        check.run(|sim| {
            let servers = [sim.serve(Greeter("one")), sim.serve(Greeter("two"))];
            let (hole, refusing) = (hole(sim), hole(sim));
            let (hole_v6, refused) = (v6_of(sim, hole), v6_of(sim, refusing));
            let mut addresses = vec![hole_v6, servers[0].address, refused, servers[1].address];
            let turned = sim.random() % 4;
            addresses.rotate_left(turned as usize);
            let caller = calling(sim, addresses, ConnectOptions::new(), &[hole]);
            sim.run_until(|sim| sim.handler(caller).is_over());
            sim.run_for(10 * SECOND);
            let once = sim.handler(caller);
            let _ = once.outcome();
            let greetings = [&b""[..], b"one", b"two"];
            let is_one = |begun: &[u8]| greetings.iter().any(|one| one.starts_with(begun));
            assert!(is_one(&once.received), "{}", once.received.escape_ascii());
            sim.heal();
            assert_leaves_nothing(sim, caller);
        });
    }
}
