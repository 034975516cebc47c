//! Many seeds: run a simulation under each, and tell of the one that fails so that it can be run again.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::env;
use std::fmt::Write;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Once;

use super::decisions::Decisions;
use super::faults::{Faults, Kernel};
use super::trace::Entry;
use super::world::Simulation;

/// Runs a test under many seeds. Each seed has a kernel and a selection of the faults of its own.
///
/// Environment variables say more:
///
/// - `ONELOOP_SIM_SEEDS`: how many seeds; `ONELOOP_SIM_BASE`: the first one;
/// - `ONELOOP_SIM_SEED`: only this one; `ONELOOP_SIM_ZERO`: without these decisions. Both are printed for
///   a run that failed;
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
    zeroed: Vec<Range<u64>>,
}

/// How often a failing run is run again to make it smaller, if `ONELOOP_SIM_SHRINKS` says nothing.
const SHRINKS: u64 = 200;

/// How many of the last things that happened are printed, if `ONELOOP_SIM_TRACE` says nothing.
const TRACE_LINES: u64 = 40;

/// Why a run failed.
#[derive(Clone, Debug)]
struct Failure {
    message: String,
    /// The line of the program that panicked: what makes it the same failure.
    place: String,
}

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
        install_hook();
        let mut sim = plan.simulation();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&mut sim))) {
            let failure = Failure::of(&*panic);
            let plan =
                if shrink { plan.shrunk(sim.decisions(), &failure, test) } else { plan.clone() };
            eprintln!("{}", self.report(&plan, failure, test));
            resume_unwind(panic);
        }
        if is_twice {
            let mut again = plan.simulation();
            let result = quietly(|| catch_unwind(AssertUnwindSafe(|| test(&mut again))));
            if result.is_err() || sim.trace_hash() != again.trace_hash() {
                panic!("seed {}: {}", plan.seed, first_difference(&plan, test));
            }
        }
    }

    /// What a person needs to find out why a run failed.
    fn report(&self, plan: &Plan, first: Failure, test: &impl Fn(&mut Simulation)) -> String {
        let mut sim = plan.simulation();
        sim.keep_trace(number("ONELOOP_SIM_TRACE").unwrap_or(TRACE_LINES) as usize);
        let again = failure(&mut sim, test);
        let mut text = format!("\n{}: seed {} failed on {:?}", self.name, plan.seed, plan.kernel);
        let failure = match again {
            Some(again) => again,
            None => {
                text += ", and did not fail again, so something does not follow from the seed: a \
                         clock, a HashMap's order, a thread. It was";
                first
            }
        };
        let _ = writeln!(text, ":\n  {}", failure.message);
        // Where the simulation found that a client was disappointed helps nobody.
        let is_ours =
            Path::new(file!()).parent().is_some_and(|ours| failure.file().starts_with(ours));
        if !is_ours {
            let _ = writeln!(text, "  at {}", failure.place);
        }
        let _ = writeln!(text, "faults: {:?}", plan.faults);
        let taken = sim.decisions();
        let zeroed: u64 =
            plan.zeroed.iter().map(|range| range.end.min(taken) - range.start.min(taken)).sum();
        let _ = writeln!(text, "decisions: {taken}, of which {zeroed} are zeroed");
        let trace = sim.trace();
        let _ =
            writeln!(text, "the last {} of {} things that happened:", trace.len(), sim.trace_len());
        for entry in trace {
            let _ = writeln!(text, "  {entry}");
        }
        let mut command = format!("ONELOOP_SIM_SEED={}", plan.seed);
        if !plan.zeroed.is_empty() {
            let ranges: Vec<String> =
                plan.zeroed.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
            let _ = write!(command, " ONELOOP_SIM_ZERO={}", ranges.join(","));
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

impl Failure {
    fn of(panic: &(dyn Any + Send)) -> Failure {
        let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_string(),
            (_, Some(text)) => text.clone(),
            _ => "a panic without a message".to_string(),
        };
        Failure { message, place: PLACE.with(|place| place.borrow().clone()) }
    }

    fn file(&self) -> &Path {
        Path::new(self.place.split(':').next().unwrap_or(&self.place))
    }
}

/// Runs a test, and tells why it failed, if it did.
fn failure(sim: &mut Simulation, test: &impl Fn(&mut Simulation)) -> Option<Failure> {
    let result = quietly(|| catch_unwind(AssertUnwindSafe(|| test(sim))));
    result.err().map(|panic| Failure::of(&*panic))
}

impl Plan {
    fn simulation(&self) -> Simulation {
        let decisions = Decisions::new(self.seed, self.zeroed.clone());
        Simulation::with_decisions(self.seed, decisions, self.kernel, self.faults.clone())
    }

    /// The same failure with as few decisions as possible: all are zeroed that it does not need, first
    /// large parts, then smaller ones.
    fn shrunk(&self, decisions: u64, first: &Failure, test: &impl Fn(&mut Simulation)) -> Plan {
        let tries_max = number("ONELOOP_SIM_SHRINKS").unwrap_or(SHRINKS);
        let mut best = self.clone();
        let mut tries = 0;
        let mut size = decisions.max(1);
        while size > 0 && tries < tries_max {
            let (mut start, before) = (0, best.zeroed.clone());
            while start < decisions && tries < tries_max {
                let range = start..(start + size).min(decisions);
                start = range.end;
                if best.zeroed.iter().any(|old| old.start <= range.start && range.end <= old.end) {
                    continue;
                }
                let mut next = best.clone();
                next.zeroed.push(range);
                next.zeroed = merged(next.zeroed);
                tries += 1;
                let failure = failure(&mut next.simulation(), test);
                if failure.is_some_and(|failure| failure.place == first.place) {
                    best = next;
                }
            }
            // What could not be zeroed one by one may be now, because of the others.
            if size > 1 || best.zeroed == before {
                size /= 2;
            }
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
        let _ = failure(&mut sim, test);
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

fn zeroed_by_environment() -> Vec<Range<u64>> {
    let Ok(text) = env::var("ONELOOP_SIM_ZERO") else { return Vec::new() };
    let range = |part: &str| {
        let (start, end) = part.split_once('-')?;
        Some(start.parse().ok()?..end.parse().ok()?)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    ranges.unwrap_or_else(|| panic!("ONELOOP_SIM_ZERO is like 3-5,9-20, not {text:?}"))
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where this thread panicked last.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has panics remembered, and not printed where they are not wanted.
fn install_hook() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(place) = info.location() {
                PLACE.with(|last| last.replace(format!("{}:{}", place.file(), place.line())));
            }
            if !IS_QUIET.with(Cell::get) {
                loud(info);
            }
        }));
    });
}

/// Runs `f` without the message that a panic prints: a failing run is run again many times.
fn quietly<T>(f: impl FnOnce() -> T) -> T {
    install_hook();
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
