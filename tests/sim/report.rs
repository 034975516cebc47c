//! What a test is told when it fails: the line, the trace with its names, the faults that acted.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::failing::{between, failing};
use oneloop::sim::{Check, Entry, Faults, Harness, Kernel, Script, Simulation, Who, all_splits};
use oneloop::{Connection, Error, StreamHandler, TimerId};

const SECOND: Duration = Duration::from_secs(1);

/// Sends back what it receives, sets a timer for each connection, and panics about a `!`.
struct Echo;

impl StreamHandler for Echo {
    type Session = TimerId;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> TimerId {
        conn.set_timer(3 * SECOND)
    }

    fn on_data(
        &mut self,
        _: &mut TimerId,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert!(!data.contains(&b'!'), "the handler's own words");
        conn.send(data).ignore();
        Ok(data.len())
    }
}

fn hello() -> Script {
    Script::new().send("hello").expect("hello")
}

// The line of the test.

#[test]
#[ignore = "it fails"]
fn a_plain_simulation_is_a_failure() {
    let mut sim = Simulation::with(7, Kernel::Contract, Faults::none());
    let echo = sim.serve(Echo);
    sim.client(echo.address, hello());
    sim.run_until_idle();
    assert_eq!(sim.now().as_nanos(), 0, "the test's own words");
}

#[test]
fn a_simulation_that_is_dropped_by_a_failing_test_tells_what_happened() {
    let text = failing("a_plain_simulation_is_a_failure", &[]);
    let report = between(&text, "simulation of seed 7, on Contract:\n", "\ntest ");
    assert!(report.contains("\n  socket 1    client 0, connected with reactor 0\n"), "{text}");
    assert!(report.contains("reactor 0   read         socket 2   5      \"hello\""), "{text}");
    assert_eq!(text.matches("who is who").count(), 1);
    let text = failing("a_plain_simulation_is_a_failure", &[("ONELOOP_SIM_TRACE", "2")]);
    assert!(text.contains("the last 2 of "), "{text}");
}

#[test]
#[ignore = "it fails"]
fn a_handler_is_a_failure() {
    Check::new("a_handler_is_a_failure").run(|sim| {
        let echo = sim.serve(Echo);
        sim.client(echo.address, Script::new().send("!"));
        sim.run_for(SECOND);
    });
}

#[test]
#[ignore = "it fails"]
fn a_client_that_is_not_done_is_a_failure() {
    Check::new("a_client_that_is_not_done_is_a_failure").run(|sim| {
        let echo = sim.serve(Echo);
        sim.client(echo.address, hello().expect("more"));
        sim.run_for(SECOND);
        sim.assert_all_done();
    });
}

#[test]
#[ignore = "it fails"]
fn a_harness_is_a_failure() {
    let mut harness = Harness::new(Echo);
    harness.feed("hello");
    assert_eq!(harness.output(), b"goodbye");
}

#[test]
fn a_failure_names_the_line_of_the_test() {
    let lines = include_str!("report.rs").lines();
    let numbers = |text: &str| -> Vec<usize> {
        let numbered = lines.clone().enumerate().filter(|(_, line)| line.trim() == text);
        numbered.map(|(index, _)| index + 1).collect()
    };
    let text = failing("a_handler_is_a_failure", &[]);
    let line = numbers("sim.run_for(SECOND);")[0];
    assert!(text.contains(&format!("in run_for at tests/sim/report.rs:{line}")), "{text}");
    let text = failing("a_client_that_is_not_done_is_a_failure", &[]);
    let line = numbers("sim.assert_all_done();")[0];
    assert!(text.contains(&format!("\n  at tests/sim/report.rs:{line}\n")), "{text}");
    assert!(
        text.contains("client 0 is not done: expecting \"more\", at tests/sim/report.rs:"),
        "{text}"
    );
    assert!(text.contains(", step 3 of 3; received since: \"\""), "{text}");
    let text = failing("a_harness_is_a_failure", &[]);
    assert!(text.contains("simulation of seed 0, on Linux:"), "{text}");
    assert!(text.contains("reactor 0   write        socket 2   5      \"hello\""), "{text}");
}

// Faults.

#[test]
#[ignore = "it fails"]
fn nothing_left_to_chance_is_a_failure() {
    Check::new("nothing_left_to_chance_is_a_failure").faults(Faults::lossless()).run(|sim| {
        let echo = sim.serve(Echo);
        sim.client(echo.address, Script::new().send("!"));
        sim.run_for(SECOND);
    });
}

#[test]
#[ignore = "it fails"]
fn a_fault_of_the_test_is_a_failure() {
    Check::new("a_fault_of_the_test_is_a_failure").run(|sim| {
        let echo = sim.serve(Echo);
        sim.set_faults_of(echo.reactor, Faults::none().vanishing_peers(1.0));
        let client = sim.client(echo.address, hello());
        sim.run_for(SECOND);
        sim.assert_done(client);
    });
}

#[test]
fn only_faults_that_acted_are_told() {
    let text = failing("nothing_left_to_chance_is_a_failure", &[]);
    let told = between(&text, "\nfaults that acted: ", "\n");
    let buffers = told.replace("send_buffer_bytes", "").replace("receive_buffer_bytes", "");
    assert!(!buffers.contains('_'), "{told}");
    let text = failing("a_fault_of_the_test_is_a_failure", &[]);
    assert!(text.contains("\nfaults that acted: vanishing_peers, of the test\n"), "{text}");
    let text = failing("a_handler_is_a_failure", &[]);
    assert!(text.contains("\nfaults that acted: none\n"), "{text}");
}

// Cuts.

#[test]
#[ignore = "it fails"]
fn a_part_of_one_byte_is_a_failure() {
    let input = b"a long input, with a mark! in it";
    all_splits(input, || Echo, |_| panic!("unreachable: the handler is the first to panic"));
}

/// Panics about two parts of one byte each.
#[derive(Default)]
struct Single(usize);

impl StreamHandler for Single {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        self.0 += usize::from(data.len() == 1);
        assert!(self.0 < 2, "too short");
        Ok(data.len())
    }
}

#[test]
#[ignore = "it fails"]
fn parts_of_one_byte_are_a_failure() {
    all_splits(&[b'x'; 100], Single::default, |_| ());
}

#[test]
fn all_splits_tells_the_cuts_and_the_lines_that_do_the_same() {
    let text = failing("a_part_of_one_byte_is_a_failure", &[]);
    assert!(text.contains("failed with cuts: []\n  the handler's own words\n  at "), "{text}");
    assert!(text.contains("harness.feed(b\"a long input, with a mark! in it\");\n"), "{text}");
    let text = failing("parts_of_one_byte_are_a_failure", &[]);
    let cuts = between(&text, "failed with cuts: [", "]");
    // A byte by itself at each end, or two with two or three cuts.
    assert!(cuts.split(", ").count() <= 3, "{text}");
    assert_eq!(text.matches("harness.feed(b\"x\");").count(), 2, "{text}");
    assert_eq!(text.matches("who is who").count(), 1, "of the last run only: {text}");
}

// The trace.

fn entries(faults: Faults, run: impl Fn(&mut Simulation, SocketAddr)) -> Vec<Entry> {
    let mut sim = Simulation::with(1, Kernel::Linux, faults);
    sim.keep_trace(usize::MAX);
    let echo = sim.serve(Echo);
    run(&mut sim, echo.address);
    sim.trace()
}

fn lines(faults: Faults, run: impl Fn(&mut Simulation, SocketAddr)) -> Vec<String> {
    // Without the time.
    let texts = entries(faults, run).into_iter().map(|entry| entry.to_string());
    texts.map(|text| text.split_once("µs  ").unwrap().1.to_string()).collect()
}

#[test]
fn the_trace_names_reactors_clients_and_keys() {
    let entries = entries(Faults::none(), |sim, address| {
        sim.client(address, hello().close());
        sim.run_until_idle();
    });
    let who: HashSet<Who> = entries.iter().map(|entry| entry.who).collect();
    assert_eq!(who, [Who::Reactor(0), Who::Client(0)].into());
    let register: Vec<_> = entries.iter().filter(|entry| entry.what == "register").collect();
    let key = register[1].key.expect("registered as one");
    assert_eq!(register[1].peer, Some(Who::Client(0)));
    assert!(entries.iter().any(|entry| entry.what == "event" && entry.key == Some(key)));
}

#[test]
fn the_trace_shows_the_first_bytes() {
    let lines = lines(Faults::none(), |sim, address| {
        sim.client(address, Script::new().send("hello\r\n").send("0123456789abcdefg").close());
        sim.run_until_idle();
    });
    let read: Vec<_> = lines.iter().filter(|line| line.contains(" read ")).collect();
    assert!(read[0].ends_with(r#"24     "hello\r\n012345678…""#), "{read:?}");
    assert!(read[1].ends_with(" 0, the end of file"), "{read:?}");
}

#[test]
fn clients_that_find_nothing_to_read_are_not_in_the_trace() {
    let entries = entries(Faults::none(), |sim, address| {
        for _ in 0..3 {
            sim.client(address, hello().wait(SECOND).send("more").expect("more"));
        }
        sim.run_until_idle();
    });
    let mut empty = entries.iter().filter(|entry| entry.error == Some("WouldBlock"));
    assert!(empty.all(|entry| entry.who == Who::Reactor(0)));
}

#[test]
fn the_trace_tells_what_faults_and_the_test_itself_did() {
    let mut missing: HashSet<&str> =
        ["stall", "spurious", "refused", "unanswered", "again", "timer"].into();
    missing.extend(["clock jump", "fail call", "told to fail", "faults", "descriptors"]);
    let faults = Faults::some().refused_connects(0.2).unanswered_connects(0.2);
    for seed in 0..20 {
        let mut sim = Simulation::with(seed, Kernel::Linux, faults.clone());
        sim.keep_trace(usize::MAX);
        let echo = sim.serve(Echo);
        sim.fail_call(echo.reactor, 10);
        sim.set_descriptors_max(echo.reactor, 100);
        sim.set_faults_of(echo.reactor, faults.clone());
        sim.jump_clock(echo.reactor, SECOND);
        for _ in 0..10 {
            sim.client(echo.address, hello().may_end());
        }
        sim.run_for(60 * SECOND);
        for entry in sim.trace() {
            missing.remove(entry.what);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_trace_is_cut_when_less_of_it_is_to_be_kept() {
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo);
    sim.client(echo.address, hello());
    sim.run_until_idle();
    let all = sim.trace();
    assert!(all.len() > 10);
    sim.keep_trace(3);
    assert_eq!(sim.trace(), all[all.len() - 3..]);
    sim.run_for(10 * SECOND);
    assert_eq!(sim.trace().len(), 3);
}
