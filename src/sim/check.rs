//! Many seeds: run a simulation under each, and tell of the one that fails so that it can be run again.

use std::cell::Cell;
use std::env;
use std::fmt::Write;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

use super::decisions::Decisions;
use super::faults::{Faults, Kernel};
use super::trace::Entry;
use super::world::Simulation;

/// Runs a test under many seeds. Each seed has a kernel and a selection of the faults of its own.
///
/// Environment variables say more: `ONELOOP_SIM_SEEDS`, how many; `ONELOOP_SIM_BASE`, the first one;
/// `ONELOOP_SIM_SEED`, only this one, and `ONELOOP_SIM_ZERO`, without these decisions (both are printed
/// for a run that failed); `ONELOOP_SIM_TWICE=1`, each seed twice, which finds a handler whose doings
/// do not follow from the seed: one that reads a clock, or walks over a `HashMap`.
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
///     assert!(sim.is_done(client));
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
    zeroed: Vec<Range<u64>>,
}

/// How often a failing run is run again to make it smaller.
const SHRINKS_MAX: usize = 200;

/// How many of the last things that happened are printed.
const TRACE_LINES: usize = 40;

impl Check {
    /// A check of 100 seeds without faults. `name` is that of the test function, for the command that
    /// runs it again.
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

    /// Runs each seed twice and compares, as `ONELOOP_SIM_TWICE=1` does.
    pub fn twice(mut self) -> Check {
        self.is_twice = true;
        self
    }

    fn plan(&self, seed: u64) -> Plan {
        let numbers = Decisions::new(seed, Vec::new());
        let mut salt = 1 << 40;
        let mut toss = || {
            salt += 1;
            numbers.number(salt) >> 63 == 1
        };
        let kernels = [Kernel::Linux, Kernel::Contract];
        let kernel = self.kernel.unwrap_or(kernels[usize::from(toss())]);
        Plan { seed, kernel, faults: self.faults.select(&mut toss), zeroed: Vec::new() }
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
            let plan = Plan { zeroed: zeroed_by_environment(), ..self.plan(seed) };
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
        let result = catch_unwind(AssertUnwindSafe(|| test(&mut sim)));
        if let Err(panic) = result {
            let plan = if shrink { plan.shrunk(sim.decisions(), test) } else { plan };
            eprintln!("{}", self.report(&plan, test));
            resume_unwind(panic);
        }
        if is_twice {
            let mut again = plan.simulation();
            test(&mut again);
            if sim.trace_hash() != again.trace_hash() {
                panic!("seed {}: {}", plan.seed, first_difference(&plan, test));
            }
        }
    }

    /// What a person needs to find out why a run failed.
    fn report(&self, plan: &Plan, test: &impl Fn(&mut Simulation)) -> String {
        let mut sim = plan.simulation();
        sim.keep_trace(TRACE_LINES);
        let _ = quietly(|| catch_unwind(AssertUnwindSafe(|| test(&mut sim))));
        let mut text = format!("\nseed {} failed, on {:?}.\n", plan.seed, plan.kernel);
        let zeroed: u64 = plan.zeroed.iter().map(|range| range.end - range.start).sum();
        let _ = writeln!(text, "faults: {:?}", plan.faults);
        let _ = writeln!(text, "{zeroed} of {} decisions do not matter.", sim.decisions());
        let _ = writeln!(text, "the last things that happened, of {}:", sim.trace_len());
        for entry in sim.trace() {
            let _ = writeln!(text, "  {entry}");
        }
        let mut command = format!("ONELOOP_SIM_SEED={}", plan.seed);
        if !plan.zeroed.is_empty() {
            let ranges: Vec<String> =
                plan.zeroed.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
            let _ = write!(command, " ONELOOP_SIM_ZERO={}", ranges.join(","));
        }
        let _ = write!(text, "run it again:\n  {command} cargo test --features sim {}", self.name);
        text
    }
}

impl Plan {
    fn simulation(&self) -> Simulation {
        let decisions = Decisions::new(self.seed, self.zeroed.clone());
        Simulation::with_decisions(self.seed, decisions, self.kernel, self.faults.clone())
    }

    fn fails(&self, test: &impl Fn(&mut Simulation)) -> bool {
        let mut sim = self.simulation();
        quietly(|| catch_unwind(AssertUnwindSafe(|| test(&mut sim)))).is_err()
    }

    /// The same failure with as few decisions as possible: all are zeroed that it does not need, first
    /// large parts, then smaller ones.
    fn shrunk(&self, decisions: u64, test: &impl Fn(&mut Simulation)) -> Plan {
        let mut best = self.clone();
        let mut tries = 0;
        let mut size = decisions.max(1);
        while size > 0 && tries < SHRINKS_MAX {
            let mut start = 0;
            while start < decisions && tries < SHRINKS_MAX {
                let range = start..(start + size).min(decisions);
                start = range.end;
                if best.zeroed.iter().any(|old| old.start <= range.start && range.end <= old.end) {
                    continue;
                }
                let mut next = best.clone();
                next.zeroed.push(range);
                next.zeroed = merged(next.zeroed);
                tries += 1;
                if next.fails(test) {
                    best = next;
                }
            }
            size /= 2;
        }
        best
    }
}

/// The same numbers in as few ranges as possible, in order.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn first_difference(plan: &Plan, test: &impl Fn(&mut Simulation)) -> String {
    let run = || -> Vec<Entry> {
        let mut sim = plan.simulation();
        sim.keep_trace(usize::MAX);
        let _ = quietly(|| catch_unwind(AssertUnwindSafe(|| test(&mut sim))));
        sim.trace()
    };
    let (one, other) = (run(), run());
    let index = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let entry = |run: &[Entry]| run.get(index).map_or("nothing".to_string(), Entry::to_string);
    format!(
        "two runs differ, so something does not follow from the seed: a clock, a HashMap's order, a \
         thread. The first difference is entry {index}:\n  {}\n  {}",
        entry(&one),
        entry(&other)
    )
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

fn zeroed_by_environment() -> Vec<Range<u64>> {
    let Ok(text) = env::var("ONELOOP_SIM_ZERO") else { return Vec::new() };
    let range = |part: &str| {
        let (start, end) = part.split_once('-')?;
        Some(start.parse().ok()?..end.parse().ok()?)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    ranges.unwrap_or_else(|| panic!("ONELOOP_SIM_ZERO is like 3-5,9-20, not {text:?}"))
}

/// Runs `f` without the message that a panic prints: a failing run is run again many times.
fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static INSTALL: Once = Once::new();
    thread_local!(static IS_QUIET: Cell<bool> = const { Cell::new(false) });
    INSTALL.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.with(Cell::get) {
                loud(info);
            }
        }));
    });
    let before = IS_QUIET.with(|is_quiet| is_quiet.replace(true));
    let result = f();
    IS_QUIET.with(|is_quiet| is_quiet.set(before));
    result
}

/// Makes each system call of each reactor fail, one a run: the first, the second, and so on. `test`
/// makes its reactors in the same order every time; nothing may break but the connections that the
/// call was for. Gives how many runs there were.
///
/// # Panics
///
/// If `test` does, after saying which call failed.
pub fn sweep(seed: u64, kernel: Kernel, test: impl Fn(&mut Simulation)) -> u64 {
    let plan = Plan { seed, kernel, faults: Faults::none(), zeroed: Vec::new() };
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
