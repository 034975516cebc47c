//! `oneloop bench`.

pub(crate) mod against;
mod client;
mod columns;
pub(crate) mod contestant;
mod counts;
mod flows;
pub(crate) mod kinds;
mod load;
mod losses;
mod matrix;
mod pattern;
pub(crate) mod process;
mod progress;
mod resources;
mod scenario;
mod scratch;
pub(crate) mod server;
mod statistics;
mod table;
mod window;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::args::BenchArguments;
use against::{Counted, Plan};
use contestant::Contestant;
use kinds::Names;
use scenario::or_usual;

/// Measures, compares or counts, as asked.
///
/// # Errors
///
/// Everything that makes the figures incomplete or wrong: the server cannot be started or reached, it
/// died, stalled, or sent wrong bytes back.
pub(crate) fn run(arguments: &BenchArguments) -> Result<()> {
    // Before the measurement, so that no minutes are lost to a wrong path.
    let json = arguments.json.as_deref().map(create).transpose()?;
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

fn compare(arguments: &BenchArguments, json: Option<File>) -> Result<()> {
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
    carry_out(&plan, json)
}

fn compare_spinning(arguments: &BenchArguments, spin: Duration, json: Option<File>) -> Result<()> {
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
    carry_out(&plan, json)
}

fn compare_kinds(arguments: &BenchArguments, json: Option<File>) -> Result<()> {
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
    carry_out(&plan, json)
}

fn carry_out(plan: &Plan, json: Option<File>) -> Result<()> {
    if let Some(needs) = scenario::needs(&plan.scenarios, None) {
        resources::check(needs)?;
    }
    let comparison = against::run(plan)?;
    let printed = print_with(|out| against::print(&comparison, out));
    write_json(json, &comparison).and(printed)
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

fn print_with(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = io::stdout().lock();
    print(&mut out).and_then(|()| out.flush()).context("printing the figures")
}

fn write_json(file: Option<File>, value: &impl Serialize) -> Result<()> {
    let Some(mut file) = file else { return Ok(()) };
    serde_json::to_writer_pretty(&mut file, value).context("writing the JSON file")?;
    writeln!(file).context("writing the JSON file")
}
