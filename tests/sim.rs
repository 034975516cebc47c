//! What the simulation promises: clients, the network, the harness, virtual time.

#[path = "sim/addresses.rs"]
mod addresses;
#[path = "sim/answerer.rs"]
mod answerer;
#[path = "sim/calls.rs"]
mod calls;
#[path = "sim/check.rs"]
mod check;
#[path = "sim/clients.rs"]
mod clients;
#[path = "sim/connect.rs"]
mod connect;
#[path = "sim/datagrams.rs"]
mod datagrams;
#[path = "sim/deadlines.rs"]
mod deadlines;
#[path = "sim/drain.rs"]
mod drain;
#[path = "sim/failing.rs"]
mod failing;
#[path = "sim/fairness.rs"]
mod fairness;
#[path = "sim/framed.rs"]
mod framed;
#[path = "sim/framed_calls.rs"]
mod framed_calls;
#[path = "sim/harness.rs"]
mod harness;
#[path = "sim/hosts.rs"]
mod hosts;
#[path = "sim/late.rs"]
mod late;
#[path = "sim/links.rs"]
mod links;
#[path = "sim/long.rs"]
mod long;
#[path = "sim/mail.rs"]
mod mail;
#[path = "sim/names.rs"]
mod names;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/orders.rs"]
mod orders;
#[path = "sim/race.rs"]
mod race;
#[path = "sim/report.rs"]
mod report;
#[path = "sim/rest.rs"]
mod rest;
#[path = "sim/sweep.rs"]
mod sweep;
#[path = "sim/timers.rs"]
mod timers;
#[path = "sim/tiny_frames.rs"]
mod tiny_frames;
#[path = "sim/unix.rs"]
mod unix;
#[path = "sim/wait.rs"]
mod wait;
#[path = "sim/wire.rs"]
mod wire;
#[allow(dead_code, reason = "some of them")]
#[path = "swarm/workloads.rs"]
mod workloads;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use oneloop::sim::{Check, Entry, Faults, Kernel, Script, Served, Simulation};
use oneloop::{
    CloseReason, Connection, Context, Deadline, Error, Key, Limits, ListenOptions, ReactorLimits,
    StreamHandler, TimerId,
};

const SECOND: Duration = Duration::from_secs(1);

/// Sends back what it receives, and remembers how it was cut, and how connections ended.
#[derive(Default)]
struct Echo {
    pieces: Vec<Vec<u8>>,
    closed: Vec<CloseReason>,
    is_paused: bool,
}

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.pieces.push(data.to_vec());
        conn.send(data).ignore();
        if self.is_paused {
            conn.pause();
            conn.set_timer(SECOND);
        }
        Ok(data.len())
    }

    fn on_timer(&mut self, _: &mut (), conn: &mut Connection<'_>, _: TimerId) {
        conn.resume();
    }

    // These tests are about the network's patience, not the loop's.
    fn on_deadline(&mut self, _: &mut (), _: &mut Connection<'_>, _: Deadline) -> Option<Duration> {
        Some(3600 * SECOND)
    }

    fn on_close(&mut self, _: (), _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.closed.push(reason);
    }
}

/// Sends that many bytes as soon as a connection opens.
struct Flood(usize);

impl StreamHandler for Flood {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(&vec![7; self.0]).ignore();
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_deadline(&mut self, _: &mut (), _: &mut Connection<'_>, _: Deadline) -> Option<Duration> {
        Some(3600 * SECOND)
    }
}

fn hello() -> Script {
    Script::new().send("hello").expect("hello")
}

fn served_echo(sim: &mut Simulation) -> Served<Echo> {
    sim.serve(Echo::default())
}

fn whats(sim: &Simulation, what: &str) -> Vec<Entry> {
    sim.trace().into_iter().filter(|entry| entry.what == what).collect()
}

fn run_with_faults(seed: u64) -> (u64, Vec<Entry>) {
    let mut sim = Simulation::with(seed, Kernel::Linux, Faults::some());
    sim.keep_trace(usize::MAX);
    let echo = served_echo(&mut sim);
    for _ in 0..10 {
        sim.client(echo.address, hello().shutdown().may_end());
    }
    sim.run_for(60 * SECOND);
    (sim.trace_hash(), sim.trace())
}

#[test]
fn the_same_seed_does_the_same_and_another_one_does_not() {
    assert_eq!(run_with_faults(1), run_with_faults(1));
    let hashes: HashSet<u64> = (0..20).map(|seed| run_with_faults(seed).0).collect();
    assert_eq!(hashes.len(), 20);
}

#[test]
fn a_tests_own_numbers_follow_from_the_seed() {
    let numbers = |seed, kernel| {
        let mut sim = Simulation::with(seed, kernel, Faults::some());
        let echo = served_echo(&mut sim);
        sim.client(echo.address, hello().may_end());
        sim.run_for(SECOND);
        [sim.random(), sim.random()]
    };
    assert_eq!(numbers(1, Kernel::Linux), numbers(1, Kernel::Contract));
    let different: HashSet<u64> = (0..100).flat_map(|seed| numbers(seed, Kernel::Linux)).collect();
    assert_eq!(different.len(), 200);
}

#[test]
fn the_trace_tells_other_bytes_apart() {
    let hash = |bytes: &str| {
        let mut sim = Simulation::new(1);
        let echo = served_echo(&mut sim);
        sim.client(echo.address, Script::new().send(bytes).close());
        sim.run_until_idle();
        sim.trace_hash()
    };
    assert_eq!(hash("hello, hello"), hash("hello, hello"));
    assert_ne!(hash("hello, hello"), hash("hello, hellp"));
}

#[test]
fn no_byte_is_lost_doubled_or_swapped_while_every_byte_arrives() {
    let faults = Faults::lossless();
    let name = "no_byte_is_lost_doubled_or_swapped_while_every_byte_arrives";
    Check::new(name).faults(faults).twice().run(|sim| {
        let echo = served_echo(sim);
        let bytes: Vec<u8> = (0..50_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
        let script = Script::new().send(&bytes).shutdown().expect(&bytes).expect_end();
        let client = sim.client(echo.address, script);
        sim.run_until_idle();
        sim.assert_done(client);
        sim.assert_empty(echo.reactor);
    });
}

// Time.

#[test]
fn an_hour_passes_in_milliseconds() {
    let start = Instant::now();
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
    let mut script = Script::new();
    for _ in 0..1200 {
        script = script.send("hello").expect("hello").wait(3 * SECOND);
    }
    let client = sim.client(echo.address, script.close());
    sim.run_for(3600 * SECOND + SECOND);
    sim.assert_done(client);
    assert_eq!(sim.received(client).len(), 5 * 1200);
    assert!(start.elapsed() < 5 * SECOND, "hundreds of times faster: {:?}", start.elapsed());
}

#[test]
fn being_idle_waits_for_the_network_and_not_for_a_timer() {
    let mut sim = Simulation::new(1);
    let way = SECOND / 10;
    sim.set_faults(Faults::none().latency_min(way).latency_max(way));
    let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
    sim.set_faults(Faults::none());
    let client = sim.client(echo.address, hello().send("more"));
    let start = sim.now();
    sim.run_until_idle();
    assert_eq!(sim.received(client), b"hello");
    let passed = sim.now().since(start);
    assert!(passed >= way && passed < SECOND, "{passed:?}");
    sim.run_for(3 * SECOND);
    assert_eq!(sim.received(client), b"hellomore");
}

#[test]
fn running_for_a_while_takes_exactly_that() {
    let mut sim = Simulation::new(1);
    served_echo(&mut sim);
    sim.run_until_idle();
    let start = sim.now();
    sim.run_for(17 * SECOND);
    assert_eq!(sim.now().since(start), 17 * SECOND);
}

#[test]
#[should_panic(expected = "nothing happens any more")]
fn waiting_when_nobody_has_anything_to_do_fails_the_test() {
    let mut sim = Simulation::new(1);
    served_echo(&mut sim);
    sim.run_until(|_| false);
}

#[test]
#[should_panic(expected = "not so within a day")]
fn waiting_for_what_never_happens_fails_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().expect("more"));
    sim.run_until(|sim| sim.is_done(client));
}

// What a test can ask.

#[test]
fn a_reactor_that_everybody_left_is_empty() {
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
    for _ in 0..10 {
        sim.client(echo.address, hello().close());
    }
    sim.run_for(2 * SECOND);
    assert_eq!(sim[echo.reactor].stats().closes(CloseReason::PeerClosed), 10);
    sim.assert_empty(echo.reactor);
}

#[test]
#[should_panic(expected = "connections are left")]
fn a_connection_that_is_left_is_found() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, hello());
    sim.run_until_idle();
    sim.assert_empty(echo.reactor);
}

/// Sets a timer that belongs to no connection.
struct Ticker;

impl StreamHandler for Ticker {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.set_handler_timer(3600 * SECOND);
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, _: &[u8]) -> Result<usize, Error> {
        panic!("the handler's own words")
    }
}

#[test]
#[should_panic(expected = "a timer is left")]
fn a_timer_that_is_left_is_found() {
    let mut sim = Simulation::new(1);
    let ticker = sim.serve(Ticker);
    sim.run_until_idle();
    sim.assert_empty(ticker.reactor);
}

#[test]
#[should_panic(expected = "the handler's own words")]
fn a_handler_that_panics_fails_the_test() {
    let mut sim = Simulation::new(1);
    let ticker = sim.serve(Ticker);
    sim.client(ticker.address, hello());
    sim.run_until_idle();
}

#[test]
fn a_reactor_of_a_simulation_takes_all_limits() {
    let mut sim = Simulation::new(1);
    let own = ReactorLimits::new().connections_max(2);
    let options = ListenOptions::new().limits(Limits::new().connections_per_address_max(1));
    let echo = sim.serve_with(Echo::default(), own, &options);
    sim.client(echo.address, hello());
    sim.run_until_idle();
    let second = sim.client(echo.address, Script::new().expect_end());
    sim.run_until_idle();
    sim.assert_done(second);
    assert_eq!(sim[echo.reactor].stats().refusals, 1);
}

#[test]
fn ids_of_another_simulation_are_refused() {
    let (mut one, mut other) = (Simulation::new(1), Simulation::new(1));
    let (echo, foreign) = (served_echo(&mut one), served_echo(&mut other));
    let (_, client) = (one.client(echo.address, hello()), other.client(foreign.address, hello()));
    let mut refused = |run: &dyn Fn(&mut Simulation)| {
        let panic = catch_unwind(AssertUnwindSafe(|| run(&mut one))).unwrap_err();
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.ends_with("Id(0) is another simulation's"), "{message}");
    };
    let reactor = foreign.reactor;
    let calls: [&dyn Fn(&mut Simulation); 7] = [
        &|sim| sim.assert_done(client),
        &|sim| _ = sim.received(client).len(),
        &|sim| sim.assert_empty(reactor),
        &|sim| _ = sim[reactor].connections(),
        &|sim| _ = sim.handler(foreign).pieces.len(),
        &|sim| sim.fail_call(reactor, 1),
        &|sim| sim.jump_clock(reactor, SECOND),
    ];
    for call in calls {
        refused(call);
    }
    assert_eq!(format!("{client:?}"), "ClientId(0)");
}

#[test]
fn several_calls_can_be_told_to_fail_and_one_can_ask_whether_they_did() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.run_until_idle();
    for number in [1, 2, u64::MAX] {
        sim.fail_call(echo.reactor, number);
    }
    assert_eq!(sim.calls_failed(echo.reactor), 0);
    sim.client(echo.address, hello().may_end());
    sim.run_for(SECOND);
    assert_eq!(sim.calls_failed(echo.reactor), 2);
    let failed = whats(&sim, "told to fail");
    assert_eq!(failed.iter().filter(|entry| entry.error.is_some()).count(), 2);
}

#[test]
#[should_panic(expected = "the next system call is number 1")]
fn calls_are_counted_from_one() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.fail_call(echo.reactor, 0);
}

#[test]
fn a_clock_that_jumps_beyond_all_time_stays_there() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    for _ in 0..2 {
        sim.jump_clock(echo.reactor, Duration::MAX);
        let client = sim.client(echo.address, hello());
        sim.run_until_idle();
        sim.assert_done(client);
    }
}

#[test]
#[should_panic(expected = "every poll of reactor 0 fails: interrupted_polls is 1")]
fn polls_that_are_always_interrupted_are_to_blame_themselves() {
    let faults = Faults::none().interrupted_polls(1.0);
    let mut sim = Simulation::with(1, Kernel::Linux, faults);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, hello());
    sim.run_until_idle();
}
