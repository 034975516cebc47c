//! Servers side by side: `oneloop bench --against NAME=COMMAND`.
//!
//! On a shared machine a figure of one minute says little about one of the next. So the servers take
//! turns: in every cycle each gets one short slice of the same messages, in an order that rotates, and
//! only ratios within a cycle are compared. All servers run on one core and the load on another; one
//! that waits for its slice sleeps, and costs the others nothing.

mod goals;
mod lane;
mod report;

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::contestant::Contestant;
use super::counts::{self, Counts, Tools};
use super::progress::Progress;
use super::scenario::{Scenario, or_usual};
use super::server::{divide_cores, pin};
use super::statistics::{Interval, median, median_interval, ratios};
use super::window::Datagrams;
use goals::Goal;
use lane::{Lane, Sample};
pub(crate) use report::print;

/// After so many cycles the servers are started anew: where the system happens to put a process in
/// memory makes it faster or slower by a percent for all its life, and would pass for a difference.
const CYCLES_A_PROCESS: usize = 10;

/// How long a server may take to say where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The usual scenarios, restricted to what was asked for; an empty list restricts nothing. What is asked
/// for and not usual is measured too.
pub(crate) fn scenarios(
    connections: &[usize],
    pipelines: &[usize],
    sizes: &[usize],
) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for &size in or_usual(sizes, &[64]) {
        for &pipeline in or_usual(pipelines, &[1, 16]) {
            for &connections in or_usual(connections, &[1, 64, 1000]) {
                scenarios.push(Scenario { connections, pipeline, size });
            }
        }
    }
    if connections.is_empty() && pipelines.is_empty() && sizes.is_empty() {
        scenarios.push(Scenario { connections: 64, pipeline: 1, size: 4096 });
    }
    scenarios
}

/// What to count of every server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    Nothing,
    /// System calls a message.
    Calls,
    Everything,
}

/// What to compare.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) contestants: Vec<Contestant>,
    /// Which of them the ratios are to.
    pub(crate) reference: usize,
    /// What to time; nothing if empty.
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) cycles: usize,
    /// How long a server may take to start, or answer nothing.
    pub(crate) stall_timeout: Duration,
    pub(crate) counted: Counted,
    /// Whether our own server, the first, is held to what it promises.
    pub(crate) has_goals: bool,
    /// Whether they are all our own, on several kinds of sockets.
    pub(crate) is_of_kinds: bool,
}

/// One server's medians in one scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Timing {
    pub(crate) scenario: Scenario,
    pub(crate) name: String,
    pub(crate) cpu_nanos_per_message: f64,
    pub(crate) messages_per_second: f64,
    /// Round trips: the median of the slices' medians, and of their 99th and 99.9th percentiles.
    pub(crate) p50_nanos: f64,
    pub(crate) p99_nanos: f64,
    pub(crate) p999_nanos: f64,
    /// What became of datagrams, over all slices, if that is what was sent.
    pub(crate) datagrams: Option<Datagrams>,
    /// CPU a message to that of the reference, cycle by cycle.
    pub(crate) cpu_ratio: Interval,
    /// Messages a second to those of the reference.
    pub(crate) rate_ratio: f64,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    /// The name of the server that the ratios are to.
    pub(crate) reference: String,
    pub(crate) cycles: usize,
    /// Whether the servers differ in nothing but the kind of their socket.
    pub(crate) is_of_kinds: bool,
    pub(crate) counts: Vec<Counts>,
    /// What could not be counted, and why.
    pub(crate) missing: Vec<&'static str>,
    pub(crate) timings: Vec<Timing>,
    /// What our own server is to reach, and whether it does.
    pub(crate) goals: Vec<Goal>,
}

/// Carries a plan out.
///
/// # Errors
///
/// A server does not start, dies, answers wrongly, or a tool fails.
pub(crate) fn run(plan: &Plan) -> Result<Comparison> {
    let progress = Progress::new();
    let (load_core, server_core) = divide_cores();
    let mut comparison = Comparison {
        reference: plan.contestants[plan.reference].name.clone(),
        cycles: plan.cycles,
        is_of_kinds: plan.is_of_kinds,
        counts: Vec::new(),
        missing: Vec::new(),
        timings: Vec::new(),
        goals: Vec::new(),
    };
    count(plan, server_core, &progress, &mut comparison)?;
    if let Some(core) = load_core {
        pin(core)?;
    }
    for (number, scenario) in plan.scenarios.iter().enumerate() {
        let what = format!("scenario {} of {}", number + 1, plan.scenarios.len());
        let samples = time(plan, scenario, server_core, &mut |cycle| {
            progress.say(&format!("{what}: cycle {cycle} of {}", plan.cycles));
        })?;
        comparison.timings.extend(summarize(plan, *scenario, &samples));
    }
    progress.clear();
    if plan.has_goals {
        comparison.goals = goals::judge(&comparison);
    }
    Ok(comparison)
}

fn count(
    plan: &Plan,
    core: Option<usize>,
    progress: &Progress,
    comparison: &mut Comparison,
) -> Result<()> {
    if plan.counted == Counted::Nothing {
        return Ok(());
    }
    // If one does not start, now is the time to say so: a tool says less, and later.
    for contestant in &plan.contestants {
        contestant.start(1, core, Vec::new(), START_TIMEOUT)?;
    }
    let mut tools = Tools::installed();
    // For calls alone valgrind is not missed.
    tools.valgrind |= plan.counted == Counted::Calls;
    comparison.missing = tools.missing();
    for contestant in &plan.contestants {
        let name = &contestant.name;
        let mut say = |what: &str| progress.say(&format!("counting {name}: {what}"));
        let counts = match plan.counted {
            Counted::Everything => counts::count(contestant, core, tools, &mut say),
            _ if !tools.strace => break,
            _ => {
                say("system calls a message");
                counts::count_calls(contestant, core)
            }
        };
        comparison.counts.push(counts.with_context(|| format!("counting {name}"))?);
    }
    Ok(())
}

/// Gives each contestant's samples, one a cycle.
fn time(
    plan: &Plan,
    scenario: &Scenario,
    core: Option<usize>,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<Sample>>> {
    let count = plan.contestants.len();
    let mut samples = vec![Vec::new(); count];
    let mut lanes = Vec::new();
    let mut messages = 0;
    for cycle in 0..plan.cycles {
        progress(cycle + 1);
        if cycle % CYCLES_A_PROCESS == 0 {
            lanes.drain(..).try_for_each(Lane::close)?;
            for contestant in &plan.contestants {
                lanes.push(Lane::open(contestant, scenario, core, plan.stall_timeout)?);
            }
            // Not measured: caches, buffers and the kernel's idea of the connections warm up.
            if messages == 0 {
                messages = lanes[plan.reference].calibrate()?;
            }
            for lane in &mut lanes {
                lane.run(messages)?;
            }
        }
        for place in 0..count {
            let turn = (place + cycle) % count;
            samples[turn].push(lanes[turn].sample(messages)?);
        }
    }
    lanes.into_iter().try_for_each(Lane::close)?;
    Ok(samples)
}

fn summarize(plan: &Plan, scenario: Scenario, samples: &[Vec<Sample>]) -> Vec<Timing> {
    let costs =
        |of: &[Sample]| -> Vec<f64> { of.iter().map(|s| s.cpu_nanos_per_message).collect() };
    let rates = |of: &[Sample]| -> Vec<f64> { of.iter().map(|s| s.messages_per_second).collect() };
    let middle = |of: &[Sample], figure: fn(&Sample) -> u64| -> f64 {
        median(&of.iter().map(|sample| figure(sample) as f64).collect::<Vec<_>>())
    };
    let reference = &samples[plan.reference];
    let summary = |(contestant, samples): (&Contestant, &Vec<Sample>)| Timing {
        scenario,
        name: contestant.name.clone(),
        cpu_nanos_per_message: median(&costs(samples)),
        messages_per_second: median(&rates(samples)),
        p50_nanos: middle(samples, |sample| sample.p50_nanos),
        p99_nanos: middle(samples, |sample| sample.p99_nanos),
        p999_nanos: middle(samples, |sample| sample.p999_nanos),
        datagrams: Datagrams::sum(samples.iter().filter_map(|sample| sample.datagrams)),
        cpu_ratio: median_interval(&ratios(&costs(samples), &costs(reference))),
        rate_ratio: median(&ratios(&rates(samples), &rates(reference))),
    };
    plan.contestants.iter().zip(samples).map(summary).collect()
}
