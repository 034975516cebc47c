//! Names of simulated hosts, looked up as jobs, in virtual time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use oneloop::sim::{Call, Check, Faults, Kernel, Simulation};
use oneloop::{
    Address, Backoff, Blocking, ConnectError, ConnectOptions, Connection, Context, Destination,
    Ended, Error, Limits, MessageHandler, NameError, ReactorLimits, Resolver, StreamHandler,
};

use super::SECOND;
use super::race::{Greeter, Once};

const MS: Duration = Duration::from_millis(1);

fn named(text: &str) -> Destination {
    text.parse::<Address>().unwrap().into()
}

fn again(times: u32, wait: Duration) -> ConnectOptions {
    ConnectOptions::new().retry(times, Backoff::new(wait, wait))
}

#[test]
fn a_name_is_connected_to_and_its_look_up_takes_its_time() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let server = sim.serve(Greeter("hello"));
        sim.set_name("Server.example", &[sim.ip(server.reactor)]);
        let caller = sim.serve(Once::new(named("server.EXAMPLE:7000")));
        sim.run_until_idle();
        let once = sim.handler(caller);
        let (outcome, took) = once.outcome();
        assert_eq!((outcome, &once.received[..]), (Ok(()), &b"hello"[..]));
        assert_eq!(once.peer, Some(server.address));
        assert!(took > Duration::from_micros(1) && took < 20 * MS, "{took:?}");
        assert_eq!(sim[server.reactor].stats().bytes_in, 5, "what was sent early");
    }
}

#[test]
fn of_a_name_with_two_addresses_the_first_that_answers_is_connected() {
    let mut sim = Simulation::new(1);
    let server = sim.serve(Greeter("hello"));
    let hole = sim.add_reactor(ReactorLimits::new().connections_max(8));
    sim.set_name("both", &[sim.ip_v6(hole), sim.ip(server.reactor)]);
    let caller = sim.serve(Once::new(named("both:7000")));
    sim.partition(caller.reactor, hole);
    sim.run_for(SECOND);
    let (outcome, took) = sim.handler(caller).outcome();
    assert_eq!((outcome, sim.handler(caller).peer), (Ok(()), Some(server.address)));
    assert!(took >= 250 * MS && took < 270 * MS, "{took:?}");
}

#[test]
fn a_name_that_nobody_has_is_not_found() {
    let mut sim = Simulation::new(1);
    sim.set_name("gone", &[IpAddr::from([10, 0, 0, 9])]);
    sim.set_name("gone", &[]);
    for (name, error) in [
        ("nobody:7000", ConnectError::NameNotFound),
        ("gone:7000", ConnectError::NameNotFound),
        ("nobody:http", ConnectError::NameLookup),
        ("10.0.0.1:http", ConnectError::NameLookup),
    ] {
        let caller = sim.serve(Once::new(named(name)));
        sim.run_for(SECOND);
        assert_eq!(sim.handler(caller).outcome().0, Err(error), "{name}");
        sim.assert_empty(caller.reactor);
    }
}

#[test]
fn a_look_up_can_fail_and_a_later_one_does_not() {
    let mut sim = Simulation::new(1);
    let server = sim.serve(Greeter("hello"));
    sim.set_name("server", &[sim.ip(server.reactor)]);
    sim.set_faults(Faults::none().failed_lookups(1.0));
    let hasty = sim.serve(Once::new(named("server:7000")));
    let patient = sim.serve(Once::with(named("server:7000"), again(100, SECOND)));
    let numbers = sim.serve(Once::new(server.address));
    sim.run_for(5 * SECOND);
    assert_eq!(sim.handler(hasty).outcome().0, Err(ConnectError::NameLookup));
    assert_eq!(sim.handler(numbers).outcome().0, Ok(()), "numbers are not looked up");
    assert!(!sim.handler(patient).is_over());
    sim.heal();
    sim.run_for(5 * SECOND);
    assert_eq!(sim.handler(patient).outcome().0, Ok(()));
}

#[test]
fn each_try_looks_the_name_up_anew() {
    let mut sim = Simulation::new(1);
    let server = sim.serve(Greeter("hello"));
    sim.set_name("server", &[IpAddr::from([192, 0, 2, 1])]);
    let caller = sim.serve(Once::with(named("server:7000"), again(100, SECOND)));
    sim.run_for(5 * SECOND);
    assert!(!sim.handler(caller).is_over());
    sim.set_name("server", &[sim.ip(server.reactor)]);
    sim.run_for(5 * SECOND);
    assert_eq!(sim.handler(caller).outcome().0, Ok(()));
}

/// From the look-up on, which is answered when nobody waits for it any longer.
#[test]
fn an_attempt_can_end_while_its_name_is_looked_up() {
    for end in ["close", "abort", "stop", "time"] {
        let mut sim = Simulation::new(1);
        let server = sim.serve(Greeter("hello"));
        sim.set_name("server", &[sim.ip(server.reactor)]);
        let hasty = Limits::new().connect_timeout(if end == "time" { MS / 1000 } else { SECOND });
        let options = ConnectOptions::new().limits(hasty);
        let caller = sim.serve(Once::with(named("server:7000"), options));
        sim.run_for(MS / 100);
        let key = sim.handler(caller).key;
        let expected = match end {
            "close" => {
                sim[caller.reactor].context(caller.handler).close_key(key);
                ConnectError::Cancelled
            }
            "abort" => {
                sim[caller.reactor].context(caller.handler).abort_key(key);
                ConnectError::Cancelled
            }
            "stop" => {
                sim[caller.reactor].stop();
                ConnectError::Stopped
            }
            _ => ConnectError::TimedOut,
        };
        sim.run_for(SECOND);
        assert_eq!(sim.handler(caller).outcome().0, Err(expected), "{end}");
        sim.assert_empty(caller.reactor);
        assert_eq!(sim[server.reactor].stats().accepts, 0, "{end}");
    }
}

/// Whose answers come late: to the next try, or when that is connected already.
#[test]
fn a_try_that_did_not_wait_for_its_name_leaves_the_answer_to_the_next_one() {
    let mut opened = 0;
    for seed in 0..100 {
        let mut sim = Simulation::new(seed);
        sim.set_faults(Faults::none().latency_min(MS).latency_max(MS));
        let server = sim.serve(Greeter("hello"));
        sim.set_name("server", &[sim.ip(server.reactor)]);
        let hasty = Limits::new().connect_timeout(5 * MS);
        let caller = sim.serve(Once::with(named("server:7000"), again(3, MS).limits(hasty)));
        sim.run_for(SECOND);
        let (outcome, _) = sim.handler(caller).outcome();
        assert!(matches!(outcome, Ok(()) | Err(ConnectError::TimedOut)), "{seed}: {outcome:?}");
        assert_eq!(sim[server.reactor].stats().bytes_in, if outcome.is_ok() { 5 } else { 0 });
        opened += usize::from(outcome.is_ok());
        let key = sim.handler(caller).key;
        sim[caller.reactor].context(caller.handler).close_key(key);
        sim.run_for(200 * SECOND);
        sim.assert_empty(caller.reactor);
    }
    assert!(opened > 50, "{opened} of a hundred");
}

#[test]
fn names_are_looked_up_again_after_a_stop() {
    let mut sim = Simulation::new(1);
    let server = sim.serve(Greeter("hello"));
    sim.set_name("server", &[sim.ip(server.reactor)]);
    let caller = sim.serve(Once::new(named("server:7000")));
    sim.run_for(SECOND);
    assert_eq!(sim.handler(caller).outcome().0, Ok(()));
    sim[caller.reactor].stop();
    let second = sim[caller.reactor].add(Once::new(named("server:7000")));
    sim.run_for(SECOND);
    assert_eq!(sim[caller.reactor].handler(second).outcome().0, Ok(()));
}

#[test]
fn the_same_seed_looks_up_the_same() {
    let check = Check::new("names").seeds(50).faults(Faults::some()).twice();
    check.run(|sim| {
        let server = sim.serve(Greeter("hello"));
        let hole = sim.add_reactor(ReactorLimits::new().connections_max(8));
        sim.set_name("server", &[sim.ip_v6(hole), sim.ip(server.reactor)]);
        let caller = sim.serve(Once::with(named("server:7000"), again(3, SECOND)));
        sim.partition(caller.reactor, hole);
        sim.run_until(|sim| sim.handler(caller).is_over());
        let _ = sim.handler(caller).outcome();
        let key = sim.handler(caller).key;
        sim[caller.reactor].context(caller.handler).close_key(key);
        sim.heal();
        sim.run_for(200 * SECOND);
        sim.assert_empty(caller.reactor);
    });
}

/// Logs who has come, by name.
struct Log {
    resolver: Arc<dyn Resolver>,
    blocking: Blocking<Result<String, NameError>>,
    names: Vec<Option<String>>,
}

impl StreamHandler for Log {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        let ip = conn.peer_address().ok().and_then(|peer| peer.ip()).expect("an address");
        let resolver = Arc::clone(&self.resolver);
        assert!(self.blocking.run_for(conn.key(), move || resolver.host_name(ip)).is_ok());
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

impl MessageHandler<Result<String, NameError>> for Log {
    fn on_message(&mut self, _: &mut (), _: &mut Connection<'_>, name: Result<String, NameError>) {
        self.names.push(name.ok());
    }
}

#[test]
fn the_name_of_who_has_come_is_looked_up_by_a_job() {
    let mut sim = Simulation::new(1);
    let reactor = sim.add_reactor(ReactorLimits::new().connections_max(8));
    let (blocking, inbox) = oneloop::blocking(1, 8);
    let resolver = sim[reactor].resolver();
    let log = sim[reactor].add(Log { resolver, blocking, names: Vec::new() });
    sim[reactor].attach(log, inbox).unwrap();
    let address = SocketAddr::new(sim.ip(reactor), 7000);
    sim[reactor].listen(log, address).unwrap();
    for is_known in [true, false] {
        let caller = sim.serve(Once::new(address));
        if is_known {
            sim.set_name("caller.example", &[sim.ip(caller.reactor)]);
        }
        sim.run_for(SECOND);
        assert_eq!(sim.handler(caller).outcome().0, Ok(()));
    }
    assert_eq!(sim[reactor].handler(log).names, [Some("caller.example".to_string()), None]);
}

/// Asks for a drain when it is told to.
struct Drains;

impl StreamHandler for Drains {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_handler_timer(&mut self, _: oneloop::TimerId, cx: &mut Context<'_>) {
        cx.drain(100 * SECOND);
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.set_handler_timer(SECOND);
    }
}

/// While it waits for the next try when the drain begins, or when its try fails during the drain.
#[test]
fn a_drain_does_not_wait_for_another_try() {
    for (is_resting, error) in [(true, ConnectError::Draining), (false, ConnectError::TimedOut)] {
        let mut sim = Simulation::new(1);
        let hole = sim.add_reactor(ReactorLimits::new().connections_max(8));
        let limits = Limits::new().connect_timeout(2 * SECOND);
        let to = SocketAddr::new(sim.ip(hole), 7000);
        let caller = sim.serve(Once::with(to, again(9, 20 * SECOND).limits(limits)));
        if !is_resting {
            sim.partition(caller.reactor, hole);
        }
        sim[caller.reactor].add(Drains);
        sim.run_for(10 * SECOND);
        let (outcome, took) = sim.handler(caller).outcome();
        assert_eq!(outcome, Err(error));
        let expected = if is_resting { SECOND } else { 2 * SECOND };
        assert!(took >= expected && took < expected + MS, "{took:?}");
        let report = sim[caller.reactor].report().expect("it has ended");
        assert_eq!(report.end, Ended::Drained);
        sim.assert_empty(caller.reactor);
    }
}

/// The waits grow also where no deadline says when a try began.
#[test]
fn a_connect_that_cannot_begin_and_may_take_for_ever_is_tried_less_and_less_often() {
    let mut sim = Simulation::new(1);
    let server = sim.serve(Greeter("hello"));
    let limits = Limits::new().connect_timeout(Duration::MAX);
    let options = ConnectOptions::new().limits(limits);
    let caller = sim.serve(Once::with(server.address, options));
    for _ in 0..20 {
        sim.fail_next(caller.reactor, Call::Connect, std::io::ErrorKind::WouldBlock);
    }
    sim.run_for(60 * SECOND);
    let (outcome, took) = sim.handler(caller).outcome();
    assert_eq!(outcome, Ok(()));
    // 1 to 64 ms, and then 100 ms, or half of each.
    assert!(took >= SECOND / 2 && took < 2 * SECOND, "{took:?}");
}
