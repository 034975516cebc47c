//! Many seeds: run a simulation under each, and tell of the one that fails so that it can be run again.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::decisions::{Decision, Decisions, Numbers, listed, parsed};
use super::failure::{self, Failure};
use super::faults::{Faults, Kernel};
use super::trace::Entry;
use super::world::Simulation;

/// Runs a test under many seeds. Each seed has a kernel and a selection of the faults of its own.
///
/// Environment variables say more:
///
/// - `ONELOOP_SIM_SEEDS`: how many seeds; `ONELOOP_SIM_BASE`: the first one;
/// - `ONELOOP_SIM_SEED`: only this one; `ONELOOP_SIM_ONLY`: with the harmless answer to all but these
///   decisions. Both are printed for a run that failed;
/// - `ONELOOP_SIM_TRACE`: how many of the last things that happened are printed then, 40 if nothing is
///   said;
/// - `ONELOOP_SIM_SHRINKS`: how often a failing run is run again to make it smaller, 200 if nothing is
///   said;
/// - `ONELOOP_SIM_TWICE=1`: each seed twice, as [`twice`](Check::twice) does.
///
/// ```
/// use oneloop::sim::{Check, Faults, Script};
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
/// Check::new("an_echo_is_exact").seeds(20).faults(Faults::lossless()).run(|sim| {
///     let echo = sim.serve(Echo);
///     let client = sim.client(echo.address, Script::new().send("hello").expect("hello").close());
///     sim.run_until_idle();
///     sim.assert_done(client);
/// });
/// ```
#[derive(Debug)]
#[must_use = "it does nothing before `run`"]
pub struct Check {
    name: String,
    seeds: u64,
    base: u64,
    faults: Faults,
    kernel: Option<Kernel>,
    is_twice: bool,
}

/// One run: what it is given, and what makes it another run.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    kernel: Kernel,
    faults: Faults,
    /// No other decisions than these, if there is a choice.
    only: Option<BTreeSet<Decision>>,
}

/// How often a failing run is run again to make it smaller, if `ONELOOP_SIM_SHRINKS` says nothing.
const SHRINKS: u64 = 200;

/// How many of the last things that happened are printed, if `ONELOOP_SIM_TRACE` says nothing.
const TRACE_LINES: u64 = 40;

/// More decisions than these tell a reader nothing.
const DECISIONS_MAX: usize = 12;

impl Check {
    /// A check of 100 seeds without faults. `name` is that of the test function, for the command that
    /// runs it again, with its modules if another test's name contains it.
    pub fn new(name: impl Into<String>) -> Check {
        let faults = Faults::none();
        Check { name: name.into(), seeds: 100, base: 0, faults, kernel: None, is_twice: false }
    }

    /// How many seeds are tried, if `ONELOOP_SIM_SEEDS` says nothing.
    pub fn seeds(mut self, seeds: u64) -> Check {
        self.seeds = seeds;
        self
    }

    /// The first seed, if `ONELOOP_SIM_BASE` says nothing. If nothing is said at all, it is 0.
    pub fn base(mut self, seed: u64) -> Check {
        self.base = seed;
        self
    }

    /// The faults that there may be: under each seed each of them is there or not, so that one does
    /// not hide behind another.
    pub fn faults(mut self, faults: Faults) -> Check {
        self.faults = faults;
        self
    }

    /// Only this kernel; if nothing is said, the seed chooses.
    pub fn kernel(mut self, kernel: Kernel) -> Check {
        self.kernel = Some(kernel);
        self
    }

    /// Runs each seed twice and compares all that happened, every byte of it, as
    /// `ONELOOP_SIM_TWICE=1` does. That finds a handler whose doings do not follow from the seed: one
    /// that reads a clock, or walks over a `HashMap`.
    pub fn twice(mut self) -> Check {
        self.is_twice = true;
        self
    }

    fn plan(&self, seed: u64) -> Plan {
        // Other numbers than those of the run.
        let mut numbers = Numbers::new(!seed);
        let mut toss = || numbers.below(2) == 1;
        let kernels = [Kernel::Linux, Kernel::Contract];
        let kernel = self.kernel.unwrap_or(kernels[usize::from(toss())]);
        Plan { seed, kernel, faults: self.faults.select(&mut toss), only: None }
    }

    /// Runs `test` under every seed.
    ///
    /// # Panics
    ///
    /// If it panics under one of them, after printing that seed, its faults, the last things that
    /// happened and the command that runs it again; if a variable of the environment cannot be read;
    /// if two runs of one seed differ.
    pub fn run(self, test: impl Fn(&mut Simulation)) {
        let is_twice = self.is_twice || number("ONELOOP_SIM_TWICE").is_some_and(|n| n > 0);
        if let Some(seed) = number("ONELOOP_SIM_SEED") {
            let plan = Plan { only: only_by_environment(), ..self.plan(seed) };
            return self.run_one(plan, is_twice, &test, false);
        }
        let base = number("ONELOOP_SIM_BASE").unwrap_or(self.base);
        let seeds = number("ONELOOP_SIM_SEEDS").unwrap_or(self.seeds);
        for seed in base..base.saturating_add(seeds) {
            self.run_one(self.plan(seed), is_twice, &test, true);
        }
    }

    fn run_one(&self, plan: Plan, is_twice: bool, test: &impl Fn(&mut Simulation), shrink: bool) {
        let mut sim = plan.simulation();
        if let Err((panic, failure)) = failure::caught(&mut sim, test) {
            let plan = if shrink { plan.shrunk(&failure, test) } else { plan };
            eprintln!("{}", self.report(&plan, failure, test));
            resume_unwind(panic);
        }
        if is_twice {
            let mut again = plan.simulation();
            let failure = failure::quiet(&mut again, test);
            if failure.is_some() || sim.trace_hash() != again.trace_hash() {
                panic!("seed {}: {}", plan.seed, first_difference(&plan, test));
            }
        }
    }

    /// What a person needs to find out why a run failed.
    fn report(&self, plan: &Plan, first: Failure, test: &impl Fn(&mut Simulation)) -> String {
        let mut sim = plan.simulation();
        sim.keep_trace(number("ONELOOP_SIM_TRACE").unwrap_or(TRACE_LINES) as usize);
        sim.note_decisions();
        let again = failure::quiet(&mut sim, test);
        let mut text = format!("\n{}: seed {} failed on {:?}", self.name, plan.seed, plan.kernel);
        let failure = match again {
            Some(again) => again,
            None => {
                text += ", and did not fail again, so something does not follow from the seed: a \
                         clock, a HashMap's order, a thread. It was";
                first
            }
        };
        let _ = writeln!(text, ":\n  {failure}");
        let _ = writeln!(text, "faults: {:?}", plan.faults);
        let felt = sim.felt_decisions();
        let harmful = match felt.len() {
            0 => String::new(),
            1..=DECISIONS_MAX => format!(" but {}", listed(&felt)),
            count => format!(" but {count}"),
        };
        let _ = writeln!(text, "decisions: {}, all harmless{harmful}", sim.decisions());
        let trace = sim.trace();
        let _ =
            writeln!(text, "the last {} of {} things that happened:", trace.len(), sim.trace_len());
        for entry in trace {
            let _ = writeln!(text, "  {entry}");
        }
        let mut command = format!("ONELOOP_SIM_SEED={}", plan.seed);
        if let Some(only) = &plan.only {
            let _ = write!(command, " ONELOOP_SIM_ONLY={}", listed(only));
        }
        // Cargo tells whose test this is; only our own tests have the feature to choose.
        let is_ours = env::var("CARGO_PKG_NAME").is_ok_and(|name| name == env!("CARGO_PKG_NAME"));
        let feature = if is_ours { " --features sim" } else { "" };
        let name = &self.name;
        let _ = write!(
            text,
            "run it again:\n  {command} cargo test{feature} {name} -- --include-ignored"
        );
        text
    }
}

impl Plan {
    fn simulation(&self) -> Simulation {
        let decisions = Decisions::new(self.seed).only(self.only.clone());
        Simulation::with_decisions(self.seed, decisions, self.kernel, self.faults.clone())
    }

    /// The same failure with no decision that it does not need: first large parts of them are made
    /// harmless, then smaller ones, until without any one of them it is not the same failure.
    fn shrunk(&self, first: &Failure, test: &impl Fn(&mut Simulation)) -> Plan {
        let tries_max = number("ONELOOP_SIM_SHRINKS").unwrap_or(SHRINKS);
        let with = |only| Plan { only, ..self.clone() };
        // Those of them that made a difference, if it is the same failure.
        let needed = |only| {
            let mut sim = with(only).simulation();
            sim.note_decisions();
            let failure = failure::quiet(&mut sim, test)?;
            failure.is_same_as(first).then(|| sim.felt_decisions())
        };
        if tries_max == 0 {
            return self.clone();
        }
        let Some(mut left) = needed(self.only.clone()) else { return self.clone() };
        let (mut tries, mut size) = (1, left.len());
        while size > 0 {
            let (mut start, before) = (0, left.len());
            while start < left.len() && tries < tries_max {
                let part = start..start + size;
                let rest = left.iter().enumerate().filter(|(place, _)| !part.contains(place));
                tries += 1;
                match needed(Some(rest.map(|(_, decision)| *decision).collect())) {
                    Some(fewer) => left = fewer,
                    None => start = part.end,
                }
            }
            // What could not be left out may be now, because of the others.
            if size > 1 || left.len() == before {
                size /= 2;
            }
            size = size.min(left.len());
        }
        with(Some(left))
    }
}

fn first_difference(plan: &Plan, test: &impl Fn(&mut Simulation)) -> String {
    let run = || -> Vec<Entry> {
        let mut sim = plan.simulation();
        sim.keep_trace(usize::MAX);
        let _ = failure::quiet(&mut sim, test);
        sim.trace()
    };
    let (one, other) = (run(), run());
    let index = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let entry = |run: &[Entry]| run.get(index).map_or("nothing".to_string(), Entry::to_string);
    let (one, other) = (entry(&one), entry(&other));
    let bytes = if one == other { "\n(as many bytes, but other ones)" } else { "" };
    format!(
        "two runs differ, so something does not follow from the seed: a clock, a HashMap's order, a \
         thread. The first difference is entry {index}:\n  {one}\n  {other}{bytes}"
    )
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

fn only_by_environment() -> Option<BTreeSet<Decision>> {
    let text = env::var("ONELOOP_SIM_ONLY").ok()?;
    let only = parsed(&text);
    Some(only.unwrap_or_else(|| {
        panic!("ONELOOP_SIM_ONLY is like turn.0.3,latency.2.0-7 or none, not {text:?}")
    }))
}

/// Makes each system call of each reactor fail, one a run: the first, the second, and so on. `test`
/// makes its reactors in the same order every time; nothing may break but the connections that the
/// call was for. Gives how many runs there were.
///
/// # Panics
///
/// If `test` does, after saying which call failed.
pub fn sweep(seed: u64, kernel: Kernel, test: impl Fn(&mut Simulation)) -> u64 {
    let plan = Plan { seed, kernel, faults: Faults::none(), only: None };
    let mut sim = plan.simulation();
    test(&mut sim);
    let mut runs = 0;
    for (host, calls) in sim.calls() {
        for call in 1..=calls {
            let mut sim = plan.simulation();
            sim.failing_call = Some((host, call));
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&mut sim))) {
                eprintln!("system call {call} of host {host} failed, and so did the test");
                resume_unwind(panic);
            }
            runs += 1;
        }
    }
    runs
}
