//! Outbound connections where a kernel or a network says no, or not yet.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{Call, Entry, Faults, Kernel, Served, Simulation};
use oneloop::{
    Backoff, CloseReason, ConnectError, ConnectOptions, Connection, Context, Error, Key, Limits,
    ListenOptions, ReactorLimits, StreamHandler, Time,
};

use super::{Echo, SECOND, served_echo};

const EAGAIN: i32 = 11;
const ECONNREFUSED: i32 = 111;

/// Connects once, and remembers when that was, and what came of it.
struct Once {
    to: SocketAddr,
    options: Rc<ConnectOptions>,
    begun: Time,
    outcome: Option<(Result<(), ConnectError>, Time)>,
}

impl Once {
    fn new(to: SocketAddr) -> Once {
        Once { to, options: Rc::default(), begun: Time::from_nanos(0), outcome: None }
    }

    /// What came of it, and how long that took.
    fn outcome(&self) -> (Result<(), ConnectError>, Duration) {
        let (outcome, at) = self.outcome.expect("it is over");
        (outcome, at.since(self.begun))
    }
}

impl StreamHandler for Once {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.begun = cx.now();
        cx.connect_with(self.to, 0, &self.options);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        assert_eq!(self.outcome.replace((Ok(()), conn.now())), None);
        conn.close();
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_connect_failed(&mut self, _: Key, _: u64, error: ConnectError, cx: &mut Context<'_>) {
        assert_eq!(self.outcome.replace((Err(error), cx.now())), None);
    }
}

fn calling(seed: u64) -> (Simulation, Served<Echo>, Served<Once>) {
    let mut sim = Simulation::new(seed);
    let echo = served_echo(&mut sim);
    let once = sim.serve(Once::new(echo.address));
    (sim, echo, once)
}

#[test]
fn every_error_of_the_system_has_its_reason() {
    let numbers = [
        (1, ConnectError::Denied),                               // EPERM
        (2, ConnectError::NotFound),                             // ENOENT
        (13, ConnectError::Denied),                              // EACCES
        (20, ConnectError::NotFound),                            // ENOTDIR
        (23, ConnectError::NoDescriptors),                       // ENFILE
        (24, ConnectError::NoDescriptors),                       // EMFILE
        (98, ConnectError::AddressUnavailable),                  // EADDRINUSE
        (99, ConnectError::AddressUnavailable),                  // EADDRNOTAVAIL
        (100, ConnectError::Unreachable),                        // ENETDOWN
        (101, ConnectError::Unreachable),                        // ENETUNREACH
        (104, ConnectError::Io(io::ErrorKind::ConnectionReset)), // ECONNRESET
        (110, ConnectError::TimedOut),                           // ETIMEDOUT
        (111, ConnectError::Refused),                            // ECONNREFUSED
        (113, ConnectError::Unreachable),                        // EHOSTUNREACH
    ];
    for call in [Call::Connect, Call::ConnectResult] {
        for (number, reason) in numbers {
            let (mut sim, _, once) = calling(1);
            sim.fail_next(once.reactor, call, io::Error::from_raw_os_error(number));
            sim.run_for(SECOND);
            assert_eq!(sim.handler(once).outcome().0, Err(reason), "{call:?}: {number}");
            sim.assert_empty(once.reactor);
        }
    }
}

/// When connects were told that they cannot begin.
fn busy_connects(sim: &Simulation) -> Vec<Time> {
    let is_busy = |entry: &Entry| (entry.what, entry.error) == ("connect", Some("WouldBlock"));
    sim.trace().into_iter().filter(is_busy).map(|entry| entry.at).collect()
}

/// Each wait is at most twice as long as the one before, up to 100 ms, and at least half as long as it may be.
#[test]
fn a_connect_that_cannot_begin_is_tried_again_after_longer_and_longer_waits() {
    let mut all = Vec::new();
    for seed in 0..20 {
        let (mut sim, _, once) = calling(seed);
        sim.keep_trace(usize::MAX);
        for _ in 0..10 {
            sim.fail_next(once.reactor, Call::Connect, io::Error::from_raw_os_error(EAGAIN));
        }
        sim.run_for(5 * SECOND);
        let (outcome, took) = sim.handler(once).outcome();
        assert_eq!(outcome, Ok(()));
        assert!(busy_connects(&sim).len() >= 10);
        let caps = [1, 2, 4, 8, 16, 32, 64, 100, 100, 100].map(Duration::from_millis);
        let most: Duration = caps.iter().sum();
        assert!(took >= most / 2 && took <= most + SECOND / 100, "seed {seed}: {took:?}");
        all.push(took);
        sim.assert_empty(once.reactor);
    }
    all.dedup();
    assert!(all.len() > 10, "they come at different times: {all:?}");
}

/// A server that comes up again while its client waits.
#[test]
fn a_failed_connect_is_tried_again_after_the_waits_of_its_backoff() {
    for seed in 0..20 {
        let (tries, first, most) = (4, SECOND, 4 * SECOND);
        let mut sim = Simulation::new(seed);
        let echo = served_echo(&mut sim);
        let mut once = Once::new(echo.address);
        once.options = ConnectOptions::new().retry(tries, Backoff::new(first, most)).into();
        let once = sim.serve(once);
        for call in [Call::Connect, Call::ConnectResult, Call::Register] {
            let refused = io::Error::from_raw_os_error(ECONNREFUSED);
            sim.fail_next(once.reactor, call, refused);
        }
        sim.run_for(20 * SECOND);
        let (outcome, took) = sim.handler(once).outcome();
        assert_eq!(outcome, Ok(()));
        // Three have failed: 1, 2 and 4 s, or half of that.
        assert!(took >= 7 * SECOND / 2 && took <= 7 * SECOND + SECOND / 100, "{seed}: {took:?}");
        sim.assert_empty(once.reactor);
    }
}

#[test]
fn a_connect_that_can_never_begin_times_out() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let mut sim = Simulation::with(1, kernel, Faults::none().busy_connects(1.0));
        let echo = served_echo(&mut sim);
        let once = sim.serve(Once::new(echo.address));
        sim.run_for(20 * SECOND);
        let (outcome, took) = sim.handler(once).outcome();
        assert_eq!(outcome, Err(ConnectError::TimedOut));
        assert_eq!(took.as_secs(), 10, "the default of connect_timeout");
        sim.assert_empty(once.reactor);
    }
}

#[test]
fn the_next_try_of_a_connect_that_could_not_begin_waits_its_time_and_begins_anew() {
    for seed in 0..20 {
        let mut sim = Simulation::with(seed, Kernel::Linux, Faults::none().busy_connects(1.0));
        sim.keep_trace(usize::MAX);
        let echo = served_echo(&mut sim);
        let mut once = Once::new(echo.address);
        let limits = Limits::new().connect_timeout(SECOND);
        let again = ConnectOptions::new().limits(limits).retry(1, Backoff::new(SECOND, SECOND));
        once.options = again.into();
        let once = sim.serve(once);
        sim.run_for(20 * SECOND);
        let times = busy_connects(&sim);
        let waits: Vec<Duration> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        let long = waits.iter().position(|wait| *wait > SECOND / 2).expect("one between the tries");
        let short = 2 * Duration::from_millis(1);
        assert!(waits[0] < short && waits[long + 1] < short, "{waits:?}");
        assert!(waits[long - 1] > 10 * short, "{waits:?}");
        assert_eq!(sim.handler(once).outcome().0, Err(ConnectError::TimedOut));
        sim.assert_empty(once.reactor);
    }
}

/// As what is under way.
#[test]
fn a_simulation_in_which_a_connect_could_not_begin_is_not_at_rest() {
    for seed in 0..50 {
        let mut sim = Simulation::with(seed, Kernel::Linux, Faults::none().busy_connects(0.7));
        let echo = served_echo(&mut sim);
        let once = sim.serve(Once::new(echo.address));
        sim.run_until_idle();
        assert_eq!(sim.handler(once).outcome().0, Ok(()));
    }
}

#[test]
fn a_connect_that_cannot_begin_does_once_healed() {
    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().busy_connects(1.0));
    let echo = served_echo(&mut sim);
    let once = sim.serve(Once::new(echo.address));
    sim.run_for(SECOND);
    assert!(sim.handler(once).outcome.is_none());
    sim.heal();
    sim.run_for(SECOND);
    assert_eq!(sim.handler(once).outcome().0, Ok(()));
    sim.assert_empty(once.reactor);
}

#[test]
fn healing_does_not_make_a_connect_that_could_not_begin_a_rest() {
    for seed in 0..20 {
        let mut sim = Simulation::with(seed, Kernel::Linux, Faults::none().busy_connects(1.0));
        let echo = served_echo(&mut sim);
        let once = sim.serve(Once::new(echo.address));
        sim.run_for(SECOND / 1000);
        sim.heal();
        sim.run_until_idle();
        assert_eq!(sim.handler(once).outcome().0, Ok(()));
    }
}

#[test]
fn a_connect_that_failed_for_want_of_room_is_not_at_rest_either() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let once = sim.serve(Once::new(echo.address));
    const EAGAIN: i32 = 11;
    sim.fail_next(once.reactor, Call::Connect, io::Error::from_raw_os_error(EAGAIN));
    sim.run_until_idle();
    assert_eq!(sim.handler(once).outcome().0, Ok(()));
}

/// Connects, and sends a lot before it is through.
struct Early {
    to: SocketAddr,
    options: Rc<ConnectOptions>,
    end: Option<Result<CloseReason, ConnectError>>,
}

const EARLY: usize = 1 << 20;

impl Early {
    /// Calls somebody who is not there yet, once a second.
    fn new(to: SocketAddr, limits: Limits) -> Early {
        let options = ConnectOptions::new().limits(limits).retry(99, Backoff::new(SECOND, SECOND));
        Early { to, options: Rc::new(options), end: None }
    }
}

impl StreamHandler for Early {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        let key = cx.connect_with(self.to, 0, &self.options);
        cx.send_to(key, &[7; EARLY]).ignore();
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_close(&mut self, (): (), _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.end = Some(Ok(reason));
    }

    fn on_connect_failed(&mut self, _: Key, _: u64, error: ConnectError, _: &mut Context<'_>) {
        self.end = Some(Err(error));
    }
}

/// Takes what comes.
struct Sink;

impl StreamHandler for Sink {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

#[test]
fn a_peer_has_not_been_slow_before_it_was_there() {
    let mut sim = Simulation::new(1);
    let callee = sim.add_reactor(ReactorLimits::new());
    let to = SocketAddr::new(sim.ip(callee), 7);
    let caller = sim.serve(Early::new(to, Limits::new().output_soft_timeout(2 * SECOND)));
    sim.run_for(10 * SECOND);
    let sink = sim[callee].add(Sink);
    sim[callee].listen(sink, to).unwrap();
    sim.run_for(5 * SECOND);
    assert_eq!(sim.handler(caller).end, None);
    assert_eq!(sim[callee].stats().bytes_in, EARLY as u64);
}

#[test]
fn what_waits_for_a_connect_and_is_too_much_ends_it_for_want_of_memory() {
    let mut sim = Simulation::new(1);
    let callee = sim.add_reactor(ReactorLimits::new());
    let to = SocketAddr::new(sim.ip(callee), 7);
    let limits = ReactorLimits::new().memory_bytes_max(EARLY / 2);
    let caller = sim.serve_with(Early::new(to, Limits::new()), limits, &ListenOptions::new());
    sim.run_for(10 * SECOND);
    let expected = ConnectError::Io(io::ErrorKind::OutOfMemory);
    assert_eq!(sim.handler(caller).end, Some(Err(expected)));
}
