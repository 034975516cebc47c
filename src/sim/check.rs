//! Many seeds: run a simulation under each, and tell of the one that fails so that it can be run again.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::panic::resume_unwind;

use super::decisions::{Decision, Decisions, Numbers, listed};
use super::environment::Environment;
use super::failure::{self, Failure};
use super::faults::{Faults, Kernel};
use super::report;
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
/// - `ONELOOP_SIM_TWICE=1`: each seed twice, as [`twice`](Check::twice) does; `0`: none, unless the test
///   says so.
///
/// A check of ten seeds or more runs the first of them twice, one of ten and up to three: what does
/// not follow from the seed is mostly found at once.
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
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kernel: Kernel,
    pub(super) faults: Faults,
    /// No other decisions than these, if there is a choice.
    pub(super) only: Option<BTreeSet<Decision>>,
}

/// So many of the first seeds are run twice, but not more than one of ten.
const TWICE_MAX: u64 = 3;

/// How many things that two runs both did are printed before the first difference.
const SAME_LINES: usize = 8;

impl Check {
    /// A check of 100 seeds without faults. `name` is printed with a failure; it should be that of the
    /// test function.
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
    /// If it panics under one of them, after printing that seed, the faults that acted, the last things
    /// that happened and the command that runs it again; if a variable of the environment cannot be
    /// read; if two runs of one seed differ; if there is no seed to run. A run that ends before all that it
    /// [ordered](Simulation::fail_next) has come to pass fails, too.
    #[track_caller]
    pub fn run(self, test: impl Fn(&mut Simulation)) {
        let environment = Environment::read();
        let test = |sim: &mut Simulation| {
            test(sim);
            sim.assert_ordered();
        };
        if let Some(seed) = environment.seed {
            let plan = Plan { only: environment.only.clone(), ..self.plan(seed) };
            let is_twice = self.is_twice || environment.is_twice == Some(true);
            return self.run_one(plan, is_twice, &test, &environment);
        }
        let base = environment.base.unwrap_or(self.base);
        let seeds = environment.seeds.unwrap_or(self.seeds);
        let end = base.saturating_add(seeds);
        assert!(
            base < end,
            "{}: {seeds} seeds from {base} on are none: nothing is checked",
            self.name
        );
        let twice = match environment.is_twice {
            Some(true) => u64::MAX,
            None => (seeds / 10).min(TWICE_MAX),
            Some(false) => 0,
        };
        for seed in base..end {
            let is_twice = self.is_twice || seed - base < twice;
            self.run_one(self.plan(seed), is_twice, &test, &environment);
        }
    }

    #[track_caller]
    fn run_one(
        &self,
        plan: Plan,
        is_twice: bool,
        test: &impl Fn(&mut Simulation),
        environment: &Environment,
    ) {
        let mut sim = plan.simulation();
        if let Err((panic, failure)) = failure::caught(&mut sim, test) {
            let mut again = plan.simulation();
            let comes_again = failure::quiet(&mut again, test).is_some();
            let is_same = comes_again && sim.trace_hash() == again.trace_hash();
            let shrinks = environment.seed.is_none() && is_same;
            let plan =
                if shrinks { plan.shrunk(&failure, test, environment.shrinks) } else { plan };
            let chaos = (!is_same).then(|| plan.chaos(test));
            let chaos = chaos.map(|difference| (comes_again, difference));
            eprintln!("{}", self.report(&plan, failure, chaos, test, environment));
            resume_unwind(panic);
        }
        if is_twice {
            let mut again = plan.simulation();
            let failure = failure::quiet(&mut again, test);
            if failure.is_some() || sim.trace_hash() != again.trace_hash() {
                let chaos = plan.chaos(test);
                let name = &self.name;
                eprintln!("\n{name}: seed {} did not fail, on {:?}", plan.seed, plan.kernel);
                eprintln!("{chaos}\n{}", self.command(&plan, "ONELOOP_SIM_TWICE=1 "));
                let first = chaos.split_once(CHAOS_LINES).map_or(&*chaos, |(first, _)| first);
                panic!("{name}: seed {}: {first}", plan.seed);
            }
        }
    }

    /// What a person needs to find out why a run failed.
    fn report(
        &self,
        plan: &Plan,
        first: Failure,
        chaos: Option<(bool, String)>,
        test: &impl Fn(&mut Simulation),
        environment: &Environment,
    ) -> String {
        let mut sim = plan.simulation();
        sim.keep_trace(environment.trace_lines);
        sim.note_decisions();
        let again = failure::quiet(&mut sim, test);
        let mut text = format!("\n{}: seed {} failed on {:?}", self.name, plan.seed, plan.kernel);
        let failure = match (again, &chaos) {
            (Some(again), None) => again,
            (_, Some((false, _))) | (None, None) => {
                text += ", and did not fail again. It was";
                first
            }
            (_, Some((true, _))) => {
                text += ", but did other things when it was run again. It was";
                first
            }
        };
        let _ = writeln!(text, ":\n  {failure}");
        if let Some((_, difference)) = chaos {
            let _ = writeln!(text, "{difference}");
        }
        let felt = sim.felt_decisions();
        text += &report::faults(&plan.faults, &felt);
        text += &report::decisions(sim.decisions(), &felt);
        text += &report::trace(&sim, environment.trace_lines);
        text + &self.command(plan, "")
    }

    fn command(&self, plan: &Plan, variables: &str) -> String {
        let mut variables = format!("{variables}ONELOOP_SIM_SEED={}", plan.seed);
        if let Some(only) = &plan.only {
            let _ = write!(variables, " ONELOOP_SIM_ONLY={}", listed(only));
        }
        report::command(&variables, &self.name)
    }
}

impl Plan {
    /// A simulation whose failure somebody reports.
    pub(super) fn simulation(&self) -> Simulation {
        let decisions = Decisions::new(self.seed).only(self.only.clone());
        let faults = self.faults.clone();
        let mut sim = Simulation::with_decisions(self.seed, decisions, self.kernel, faults);
        sim.is_reported = true;
        sim
    }

    /// The same failure with no decision that it does not need: first large parts of them are made
    /// harmless, then smaller ones, until without any one of them it is not the same failure.
    fn shrunk(&self, first: &Failure, test: &impl Fn(&mut Simulation), tries_max: u64) -> Plan {
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

    /// The first thing that two runs did not do alike, and what was before it.
    fn chaos(&self, test: &impl Fn(&mut Simulation)) -> String {
        let run = || -> Vec<Entry> {
            let mut sim = self.simulation();
            sim.keep_trace(usize::MAX);
            let _ = failure::quiet(&mut sim, test);
            sim.trace()
        };
        let (one, other) = (run(), run());
        let index = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
        let mut text = "two runs differ, so something does not follow from the seed: a clock, a \
                        HashMap's order, a thread."
            .to_string();
        if index == one.len() && index == other.len() {
            return text + " When it was run twice more, both did the same.";
        }
        let entry = |run: &[Entry]| run.get(index).map_or("nothing".to_string(), Entry::to_string);
        let (first, second) = (entry(&one), entry(&other));
        let bytes = if first == second { "\n(as many bytes, but other ones)" } else { "" };
        let _ =
            write!(text, " The first difference is entry {index}:\n  {first}\n  {second}{bytes}");
        let before = &one[index.saturating_sub(SAME_LINES)..index];
        if !before.is_empty() {
            text += CHAOS_LINES;
        }
        for entry in before {
            let _ = write!(text, "\n  {entry}");
        }
        text
    }
}

/// What stands before the lines that both runs have.
const CHAOS_LINES: &str = "\nBefore it, both did:";
