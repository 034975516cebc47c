//! Servers side by side: `oneloop bench --against NAME=COMMAND`.
//!
//! On a shared machine a figure of one minute says little about one of the next. So the servers take
//! turns: in every cycle each gets one short slice of the same messages, in an order that rotates, and
//! only ratios within a cycle are compared. All servers run on one core and the load on another; one
//! that waits for its slice sleeps, and costs the others nothing.

mod goals;
mod lane;
mod report;

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::contestant::Contestant;
use super::cores::{divide_cores, pin};
use super::counts::{self, Counted, Counts, Tools};
use super::output::{Figures, JsonFile, Output};
use super::progress::Progress;
use super::scenario::{Scenario, or_usual};
use super::statistics::{Interval, median, median_interval, ratios};
use super::window::Datagrams;
use goals::Goal;
use lane::{Lane, Sample};

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

/// What to compare.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) contestants: Vec<Contestant>,
    /// Which of them the ratios are to.
    pub(crate) reference: usize,
    /// What to time; nothing if empty.
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) cycles: usize,
    /// How long a server may take to start, to take a connection, or answer nothing.
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
    /// Whether some of it is known in ticks of 10 ms only.
    pub(crate) cpu_is_by_ticks: bool,
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
    /// The cores that servers and load were bound to; none where there is only one.
    pub(crate) server_core: Option<usize>,
    pub(crate) load_core: Option<usize>,
    /// Whether the servers differ in nothing but the kind of their socket.
    pub(crate) is_of_kinds: bool,
    pub(crate) counts: Vec<Counts>,
    /// What could not be counted, and why.
    pub(crate) missing: Vec<&'static str>,
    pub(crate) timings: Vec<Timing>,
    /// What our own server is to reach, and whether it does.
    pub(crate) goals: Vec<Goal>,
}

impl Figures for Comparison {
    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.timings.is_empty()
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        report::print(self, out)
    }
}

/// Carries a plan out, and puts out what was found, also when an error or a signal ends it early.
///
/// # Errors
///
/// Two servers have one name; one does not start, dies, answers wrongly, or a tool fails.
pub(super) fn run(plan: &Plan, json: Option<JsonFile>) -> Result<()> {
    let mut names = HashSet::new();
    for Contestant { name, .. } in &plan.contestants {
        ensure!(names.insert(name), "two servers are called {name}");
    }
    let (load_core, server_core) = divide_cores();
    let comparison = Comparison {
        reference: plan.contestants[plan.reference].name.clone(),
        cycles: plan.cycles,
        server_core,
        load_core,
        is_of_kinds: plan.is_of_kinds,
        counts: Vec::new(),
        missing: Vec::new(),
        timings: Vec::new(),
        goals: Vec::new(),
    };
    let output = Output::new(comparison, json)?;
    let result = carry_out(plan, load_core, server_core, &output);
    output.finish(result)
}

fn carry_out(
    plan: &Plan,
    load_core: Option<usize>,
    server_core: Option<usize>,
    output: &Output<Comparison>,
) -> Result<()> {
    let progress = Progress::new();
    if plan.counted != Counted::Nothing {
        count(plan, server_core, &progress, output)?;
    }
    if let Some(core) = load_core {
        pin(core)?;
    }
    for (number, scenario) in plan.scenarios.iter().enumerate() {
        let what = format!("scenario {} of {}", number + 1, plan.scenarios.len());
        let samples = time(plan, scenario, server_core, &mut |cycle| {
            progress.say(&format!("{what}: cycle {cycle} of {}", plan.cycles));
        })?;
        output.add(|found| found.timings.extend(summarize(plan, *scenario, &samples)));
    }
    if plan.has_goals {
        output.add(|found| found.goals = goals::judge(found));
    }
    Ok(())
}

fn count(
    plan: &Plan,
    core: Option<usize>,
    progress: &Progress,
    output: &Output<Comparison>,
) -> Result<()> {
    // If one does not start, now is the time to say so: a tool says less, and later.
    for contestant in &plan.contestants {
        let server = contestant.start(1, core, Vec::new(), plan.stall_timeout)?;
        counts::check(server.place()).with_context(|| format!("counting {}", contestant.name))?;
        server.end()?;
    }
    let mut tools = Tools::installed();
    // For calls alone valgrind is not missed.
    tools.valgrind |= plan.counted == Counted::Calls;
    output.add(|found| found.missing = tools.missing());
    if plan.counted == Counted::Calls && !tools.strace {
        return Ok(());
    }
    for contestant in &plan.contestants {
        let name = &contestant.name;
        let mut say = |what: &str| progress.say(&format!("counting {name}: {what}"));
        let counts =
            counts::count(contestant, plan.counted, core, tools, plan.stall_timeout, &mut say)
                .with_context(|| format!("counting {name}"))?;
        output.add(|found| found.counts.push(counts));
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
    let mut messages = None;
    for cycle in 0..plan.cycles {
        progress(cycle + 1);
        // Where the system happens to put a process in memory makes it faster or slower by a percent for all its life, and
        // would pass for a difference: so each process has one slice, and no two cycles share one.
        let mut lanes = Vec::new();
        for contestant in &plan.contestants {
            lanes.push(Lane::open(contestant, scenario, core, plan.stall_timeout)?);
        }
        let messages = match messages {
            Some(messages) => messages,
            None => *messages.insert(lanes[plan.reference].calibrate()?),
        };
        for lane in &mut lanes {
            lane.warm_up(messages)?;
        }
        for place in 0..count {
            let turn = (place + cycle) % count;
            samples[turn].push(lanes[turn].sample(messages)?);
        }
        lanes.into_iter().try_for_each(Lane::close)?;
    }
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
        cpu_is_by_ticks: samples.iter().any(|sample| sample.cpu_is_by_ticks),
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
