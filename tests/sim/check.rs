//! What `Check` promises. The tests that are ignored are made to fail: others run
//! them in a process of their own and read what is printed.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::answerer::{Answerer, SECOND, ask, echo, hello};
use crate::failing::{between, command, failing, run};
use oneloop::Time;
use oneloop::sim::{Check, Faults, Kernel, Script};

// The report.

#[test]
#[ignore = "it fails"]
fn cuts_are_a_failure() {
    let faults = Faults::none().short_reads(0.2).spurious_events(0.2).stalls(0.2);
    let check = Check::new("cuts_are_a_failure").faults(faults);
    check.kernel(Kernel::Contract).seeds(1000).run(|sim| {
        let cut = |data: &[u8]| {
            assert!(data.len() == 5, "cut after {:?}", data.escape_ascii().to_string());
            Vec::new()
        };
        let served = sim.serve(Answerer(cut));
        ask(sim, served.address);
    });
}

#[test]
fn a_failure_is_told_with_seed_faults_trace_and_a_command_that_shows_it_again() {
    let text = failing("cuts_are_a_failure", &[]);
    assert!(text.contains("cuts_are_a_failure: seed "), "{text}");
    assert!(text.contains(" failed on Contract:\n  cut after "), "{text}");
    assert!(text.contains("\n  at tests/sim/check.rs:"), "{text}");
    assert!(text.contains("\nfaults that acted: Faults { short_reads: 0.2 }\n"), "{text}");
    assert!(text.contains("reactor 0   read  "), "{text}");
    let line = between(&text, "the features that it was run with:\n", "\n");
    let end = " check::cuts_are_a_failure -- --exact --include-ignored";
    let cargo = if cfg!(debug_assertions) {
        " cargo test -p a-crate-that-uses-it"
    } else {
        " cargo test -p a-crate-that-uses-it --release"
    };
    assert!(line.ends_with(&format!("{cargo}{end}")), "{line}");

    let report = |text: &str| between(text, "cuts_are_a_failure: seed ", "--include").to_string();
    let again = failing("cuts_are_a_failure", &command(&text));
    assert_eq!(report(&again), report(&text));
}

#[test]
fn only_our_own_tests_are_run_again_with_the_feature() {
    let text = failing("cuts_are_a_failure", &[("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))]);
    assert!(text.contains(" cargo test -p oneloop --features sim"), "{text}");
}

#[test]
#[ignore = "it fails"]
fn a_check_of_another_name_is_a_failure() {
    Check::new("another_name").run(|_| panic!("it fails"));
}

#[test]
fn the_command_is_for_the_test_that_ran_whatever_the_check_is_called() {
    let text = failing("a_check_of_another_name_is_a_failure", &[]);
    assert!(text.contains(" check::a_check_of_another_name_is_a_failure -- --exact "), "{text}");
    assert!(text.contains("and its check is called another_name"), "{text}");
}

#[test]
fn as_many_lines_of_the_trace_are_printed_as_one_asks_for() {
    for (lines, variable) in [(3, "3"), (1, "1")] {
        let text = failing("cuts_are_a_failure", &[("ONELOOP_SIM_TRACE", variable)]);
        assert!(text.contains(&format!("the last {lines} of ")), "{text}");
        assert_eq!(text.matches(" µs  ").count(), lines);
    }
}

#[test]
fn shrinking_leaves_only_the_decisions_that_the_failure_needs() {
    let text = failing("cuts_are_a_failure", &[]);
    // The cut itself: one short read, of the server's socket.
    assert!(text.contains(", all harmless but short_reads."), "{text}");
    let [seed, only] = command(&text)[..] else { panic!("{text}") };
    assert_eq!((seed.0, only.0), ("ONELOOP_SIM_SEED", "ONELOOP_SIM_ONLY"));
    assert!(text.contains(&format!("all harmless but {}\n", only.1)), "{text}");
    let whole = failing("cuts_are_a_failure", &[seed]);
    assert!(!whole.contains("all harmless but short_reads."), "a replay with the seed alone");
    let trace_len = |text| between(text, " of ", " things that happened").len();
    assert!(trace_len(&text) <= trace_len(&whole));
}

#[test]
#[ignore = "it fails"]
fn cuts_are_one_failure_and_wholes_another() {
    let name = "cuts_are_one_failure_and_wholes_another";
    Check::new(name).kernel(Kernel::Contract).faults(Faults::none().short_reads(0.5)).run(|sim| {
        let rare = |data: &[u8]| {
            assert!(data.len() == 5, "cut");
            Vec::new()
        };
        let served = sim.serve(Answerer(rare));
        ask(sim, served.address);
        assert!(sim.decisions() == 0 && sim.seed() < 3, "whole");
    });
}

#[test]
fn shrinking_keeps_to_the_same_failure() {
    // Seeds from 3 on fail in either way; without any decision it is the second one.
    for seed in 3..10 {
        let variables = [("ONELOOP_SIM_BASE", &*seed.to_string()), ("ONELOOP_SIM_SEEDS", "1")];
        let text = failing("cuts_are_one_failure_and_wholes_another", &variables);
        let first = between(&text, "panicked at ", "\ncuts_are").lines().nth(1).unwrap();
        assert_eq!(between(&text, "Contract:\n  ", "\n"), first);
    }
}

/// If the first client is not disappointed, the second one is.
#[test]
#[ignore = "it fails"]
fn a_second_client_fails_anyway() {
    let check = Check::new("a_second_client_fails_anyway").kernel(Kernel::Contract);
    check.faults(Faults::none().short_reads(0.5)).run(|sim| {
        let rare = |data: &[u8]| if data.len() == 5 { b"whole".to_vec() } else { b"cut".to_vec() };
        let served = sim.serve(Answerer(rare));
        sim.client(served.address, Script::new().send("hello").expect("whole"));
        sim.run_for(SECOND);
        sim.client(served.address, Script::new().send("hello").expect("something else"));
        sim.run_for(SECOND);
    });
}

#[test]
fn shrinking_keeps_to_the_same_step() {
    let mut steps = HashSet::new();
    for seed in 0..10 {
        let variables = [("ONELOOP_SIM_BASE", &*seed.to_string()), ("ONELOOP_SIM_SEEDS", "1")];
        let text = failing("a_second_client_fails_anyway", &variables);
        let (panic, report) = text.split_once("failed on Contract").expect("a report");
        let step = |text| between(text, "\n  at tests/sim/check.rs:", "\n").to_string();
        assert_eq!(step(panic), step(report), "{text}");
        let only = if panic.contains("client 0: ") {
            "all harmless but short_reads."
        } else {
            "all harmless\n"
        };
        assert!(report.contains(only), "{text}");
        steps.insert(step(report));
    }
    assert_eq!(steps.len(), 2);
}

// Which seeds are run.

#[test]
#[ignore = "it prints"]
fn the_seeds_are_printed() {
    Check::new("the_seeds_are_printed").seeds(4).base(10).run(|sim| eprintln!("<{}>", sim.seed()));
}

#[test]
fn variables_say_which_seeds_are_run() {
    let seeds = |variables: &[(&str, &str)]| -> Vec<u64> {
        let (is_ok, text) = run("the_seeds_are_printed", variables);
        assert!(is_ok, "{text}");
        let parts = text.split('<').skip(1);
        parts.map(|part| part.split_once('>').unwrap().0.parse().unwrap()).collect()
    };
    assert_eq!(seeds(&[]), [10, 11, 12, 13]);
    assert_eq!(seeds(&[("ONELOOP_SIM_SEEDS", "2")]), [10, 11]);
    assert_eq!(seeds(&[("ONELOOP_SIM_BASE", "90"), ("ONELOOP_SIM_SEEDS", "3")]), [90, 91, 92]);
    assert_eq!(seeds(&[("ONELOOP_SIM_SEED", "77"), ("ONELOOP_SIM_SEEDS", "3")]), [77]);
    assert_eq!(seeds(&[("ONELOOP_SIM_SEED", "77"), ("ONELOOP_SIM_TWICE", "1")]), [77, 77]);
    assert_eq!(seeds(&[("ONELOOP_SIM_TWICE", "0"), ("ONELOOP_SIM_SEEDS", "1")]), [10]);
}

#[test]
fn a_variable_that_cannot_be_read_is_named() {
    for (variable, value) in [
        ("ONELOOP_SIM_SEED", "x"),
        ("ONELOOP_SIM_SEEDS", "-1"),
        ("ONELOOP_SIM_BASE", ""),
        ("ONELOOP_SIM_TWICE", "yes"),
    ] {
        let text = failing("the_seeds_are_printed", &[(variable, value)]);
        assert!(text.contains(&format!("{variable} is a number, not {value:?}")), "{text}");
    }
    let text =
        failing("the_seeds_are_printed", &[("ONELOOP_SIM_SEED", "1"), ("ONELOOP_SIM_ONLY", "3")]);
    assert!(text.contains("ONELOOP_SIM_ONLY is like turn.0.3,latency.2.0-7 or none"), "{text}");
    // Before anything runs, so that no report is lost.
    let text = failing("cuts_are_a_failure", &[("ONELOOP_SIM_TRACE", "all")]);
    assert!(text.contains(r#"ONELOOP_SIM_TRACE is a number, not "all""#), "{text}");
}

#[test]
fn decisions_without_their_seed_are_refused() {
    let text = failing("the_seeds_are_printed", &[("ONELOOP_SIM_ONLY", "none")]);
    assert!(text.contains("needs ONELOOP_SIM_SEED"), "{text}");
}

#[test]
fn a_check_of_no_seeds_is_refused() {
    let refused = |check: Check| {
        let runs = Cell::new(0);
        let run = || check.run(|_| runs.set(runs.get() + 1));
        let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it checks nothing");
        assert!(panic.downcast_ref::<String>().expect("a message").contains("nothing is checked"));
        assert_eq!(runs.get(), 0);
    };
    refused(Check::new("none").seeds(0));
    refused(Check::new("none").base(u64::MAX));
    let text = failing("the_seeds_are_printed", &[("ONELOOP_SIM_SEEDS", "0")]);
    assert!(text.contains("nothing is checked"), "{text}");
}

#[test]
fn seeds_choose_among_the_kernels_and_the_faults() {
    let (kernels, stalls) = (RefCell::new(HashSet::new()), RefCell::new(HashSet::new()));
    let faults = Faults::none().stalls(1.0);
    Check::new("seeds_choose_among_the_kernels_and_the_faults").faults(faults).run(|sim| {
        sim.keep_trace(usize::MAX);
        let served = sim.serve(echo());
        let client = sim.client(served.address, hello().close());
        sim.run_until_idle();
        sim.assert_done(client);
        // Linux reports at once all that is true, and a short read is the end there.
        let trace = sim.trace();
        let blocks = trace.iter().filter(|entry| {
            (entry.host, entry.what, entry.error) == (1, "read", Some("WouldBlock"))
        });
        kernels.borrow_mut().insert(blocks.count() > 0);
        stalls.borrow_mut().insert(sim.now().since(Time::default()) > SECOND / 100);
    });
    assert_eq!((kernels.into_inner().len(), stalls.into_inner().len()), (2, 2));
}

// Determinism.

#[test]
fn the_first_of_many_seeds_are_run_twice() {
    let runs = |seeds| {
        let seen = RefCell::new(Vec::new());
        Check::new("a_test").seeds(seeds).base(7).run(|sim| seen.borrow_mut().push(sim.seed()));
        seen.into_inner()
    };
    assert_eq!(runs(9), Vec::from_iter(7..16));
    assert_eq!(runs(25)[..6], [7, 7, 8, 8, 9, 10]);
    assert_eq!(runs(1000)[..8], [7, 7, 8, 8, 9, 9, 10, 11]);
}

fn twice(make: impl Fn() -> Answerer<fn(&[u8]) -> Vec<u8>>) -> String {
    let result = catch_unwind(AssertUnwindSafe(|| {
        Check::new("a_test").seeds(1).twice().run(|sim| {
            let served = sim.serve(make());
            ask(sim, served.address);
        });
    }));
    let panic = result.expect_err("it does not follow from the seed");
    panic.downcast_ref::<String>().expect("a message").clone()
}

#[test]
fn a_handler_that_walks_over_a_hash_map_is_found() {
    fn names(_: &[u8]) -> Vec<u8> {
        let map: HashMap<u8, ()> = (0..50).map(|name| (name, ())).collect();
        map.into_keys().collect()
    }
    let message = twice(|| Answerer(names));
    assert!(message.starts_with("a_test: seed 0: two runs differ"), "{message}");
    assert!(message.contains("The first difference is entry "), "{message}");
    assert!(message.contains("reactor 0   write"), "{message}");
}

#[test]
fn a_handler_that_reads_a_clock_of_its_own_is_found() {
    fn time(_: &[u8]) -> Vec<u8> {
        thread_local!(static START: Instant = Instant::now());
        START.with(|start| start.elapsed().as_nanos().to_le_bytes().to_vec())
    }
    let message = twice(|| Answerer(time));
    assert!(message.contains("reactor 0   write"), "{message}");
}

#[test]
fn a_handler_that_remembers_more_than_a_run_is_found() {
    static RUNS: AtomicU32 = AtomicU32::new(1);
    fn longer(_: &[u8]) -> Vec<u8> {
        vec![0; RUNS.fetch_add(1, Ordering::Relaxed) as usize]
    }
    let message = twice(|| Answerer(longer));
    let (one, other) = message.split_once("reactor 0   write").expect("two lines");
    assert!(one.contains("entry") && other.contains("reactor 0   write"), "{message}");
    assert!(!message.contains("other ones"), "{message}");
}

#[test]
#[ignore = "it fails"]
fn only_the_first_run_fails() {
    static IS_FIRST: AtomicU32 = AtomicU32::new(0);
    Check::new("only_the_first_run_fails").run(|_| {
        assert!(IS_FIRST.fetch_add(1, Ordering::Relaxed) > 0, "the first one");
    });
}

#[test]
fn a_failure_that_does_not_come_again_is_told_as_such() {
    let text = failing("only_the_first_run_fails", &[]);
    assert!(text.contains("and did not fail again"), "{text}");
    assert!(text.contains("It was:\n  the first one\n  at tests/sim/check.rs:"), "{text}");
}

/// Answers with the time that it is, which the client does not expect.
#[test]
#[ignore = "it fails"]
fn a_clock_is_a_failure() {
    Check::new("a_clock_is_a_failure").run(|sim| {
        let start = Instant::now();
        let served =
            sim.serve(Answerer(move |_: &[u8]| start.elapsed().as_nanos().to_string().into()));
        sim.client(served.address, hello());
        sim.run_for(SECOND);
    });
}

#[test]
fn a_failure_that_does_not_follow_from_the_seed_is_told_as_such() {
    let text = failing("a_clock_is_a_failure", &[]);
    let report = between(&text, "a_clock_is_a_failure: seed 0", "run it again");
    assert!(report.contains("did other things when it was run again"), "{text}");
    assert!(report.contains("something does not follow from the seed: a clock"), "{text}");
    let difference = between(report, "The first difference is entry ", "faults that acted");
    assert_eq!(difference.matches("reactor 0   write ").count(), 2, "{text}");
    assert!(difference.contains("\nBefore it, both did:\n"), "{text}");
}

#[test]
#[ignore = "it fails"]
fn numbers_go_on_from_run_to_run() {
    static RUNS: AtomicU32 = AtomicU32::new(1);
    Check::new("numbers_go_on_from_run_to_run").kernel(Kernel::Linux).run(|sim| {
        let longer = |_: &[u8]| vec![0; RUNS.fetch_add(1, Ordering::Relaxed) as usize];
        let served = sim.serve(Answerer(longer));
        ask(sim, served.address);
    });
}

#[test]
fn two_runs_that_differ_are_told_with_seed_kernel_what_came_before_and_a_command() {
    let text = failing("numbers_go_on_from_run_to_run", &[]);
    let report =
        between(&text, "numbers_go_on_from_run_to_run: seed 0 did not fail, on Linux", "test ");
    assert!(report.contains("two runs differ"), "{text}");
    assert!(between(report, "both did:", "run it again").contains("reactor 0   read "), "{text}");
    assert_eq!(command(&text), [("ONELOOP_SIM_TWICE", "1"), ("ONELOOP_SIM_SEED", "0")]);
    let again = failing("numbers_go_on_from_run_to_run", &command(&text));
    assert!(again.contains("two runs differ"), "{again}");
}
