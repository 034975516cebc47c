//! `oneloop bench`.

pub(crate) mod against;
mod client;
mod columns;
pub(crate) mod contestant;
mod cores;
mod counts;
mod flows;
pub(crate) mod kinds;
mod load;
mod losses;
mod matrix;
mod output;
mod pattern;
pub(crate) mod process;
mod progress;
mod resources;
mod scenario;
mod scratch;
pub(crate) mod server;
mod signals;
mod statistics;
mod table;
mod window;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::args::BenchArguments;
use against::Plan;
use contestant::Contestant;
use counts::Counted;
use kinds::Names;
use output::JsonFile;
use resources::Needs;
use scenario::or_usual;

/// Measures, compares or counts, as asked.
///
/// # Errors
///
/// Everything that makes the figures incomplete or wrong: the server cannot be started or reached, it
/// died, stalled, or sent wrong bytes back. What was measured before is put out all the same.
pub(crate) fn run(arguments: &BenchArguments) -> Result<()> {
    // Before the measurement, so that no minutes are lost to a wrong path.
    let json = arguments.json.as_deref().map(JsonFile::create).transpose()?;
    if let Some(spin) = arguments.spin {
        compare_spinning(arguments, spin, json)
    } else if !arguments.kinds.is_empty() {
        compare_kinds(arguments, json)
    } else if arguments.against.is_empty() && !arguments.counts {
        matrix::run(arguments, json)
    } else {
        compare(arguments, json)
    }
}

fn compare(arguments: &BenchArguments, json: Option<JsonFile>) -> Result<()> {
    let BenchArguments { connections, pipeline, size, .. } = arguments;
    let scenarios = match arguments.counts {
        true => Vec::new(),
        false => against::scenarios(connections, pipeline, size),
    };
    if !arguments.no_counts {
        resources::check(counts::NEEDS).context(match arguments.counts {
            true => "the counts",
            false => "the counts (which --no-counts leaves out)",
        })?;
    }
    let mut contestants = vec![Contestant::own()?];
    contestants.extend(arguments.against.iter().cloned());
    let plan = Plan {
        reference: usize::from(contestants.len() > 1),
        contestants,
        scenarios,
        cycles: arguments.cycles,
        stall_timeout: arguments.stall_timeout,
        counted: if arguments.no_counts { Counted::Nothing } else { Counted::Everything },
        has_goals: true,
        is_of_kinds: false,
    };
    check_and_run(&plan, true, json)
}

fn compare_spinning(
    arguments: &BenchArguments,
    spin: Duration,
    json: Option<JsonFile>,
) -> Result<()> {
    let BenchArguments { connections, pipeline, size, .. } = arguments;
    let (connections, pipeline) = (or_usual(connections, &[1, 64]), or_usual(pipeline, &[1]));
    let own = Contestant::own()?;
    let micros = format!("{}us", spin.as_micros());
    let spinning = own.clone().named("spin", &["--spin".into(), micros]);
    let plan = Plan {
        contestants: vec![spinning, own.named("block", &[])],
        reference: 1,
        scenarios: against::scenarios(connections, pipeline, size),
        cycles: arguments.cycles,
        stall_timeout: arguments.stall_timeout,
        counted: Counted::Nothing,
        has_goals: false,
        is_of_kinds: false,
    };
    check_and_run(&plan, true, json)
}

fn compare_kinds(arguments: &BenchArguments, json: Option<JsonFile>) -> Result<()> {
    let BenchArguments { connections, pipeline, size, .. } = arguments;
    let (connections, pipeline) = (or_usual(connections, &[1, 64]), or_usual(pipeline, &[1, 16]));
    let names = Names::new()?;
    let contestants = arguments.kinds.iter().map(|&kind| names.contestant(kind));
    let plan = Plan {
        contestants: contestants.collect::<Result<_>>()?,
        reference: 0,
        scenarios: against::scenarios(connections, pipeline, size),
        cycles: arguments.cycles,
        stall_timeout: arguments.stall_timeout,
        counted: if arguments.no_counts { Counted::Nothing } else { Counted::Calls },
        has_goals: false,
        is_of_kinds: true,
    };
    check_and_run(&plan, arguments.kinds.iter().any(|kind| kind.takes_ports()), json)
}

fn check_and_run(plan: &Plan, takes_ports: bool, json: Option<JsonFile>) -> Result<()> {
    if let Some(needs) = scenario::needs(&plan.scenarios) {
        resources::check(Needs { servers: plan.contestants.len(), takes_ports, ..needs })?;
    }
    against::run(plan, json)
}
