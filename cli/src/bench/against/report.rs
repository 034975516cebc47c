//! The tables of a comparison.

use std::collections::BTreeSet;
use std::io::{Result, Write};

use super::{Comparison, Scenario, Timing};
use crate::bench::counts::{Counts, PIPELINES, Share, grouped};
use crate::bench::{columns, losses};
use crate::units;

/// Prints what was found.
///
/// # Errors
///
/// Those of `out`.
pub(crate) fn print(comparison: &Comparison, out: &mut dyn Write) -> Result<()> {
    if !comparison.counts.is_empty() || !comparison.missing.is_empty() {
        writeln!(out, "Counted (64-byte messages, 64 connections):\n")?;
        columns::print(&counted(&comparison.counts), out)?;
        for line in &comparison.missing {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
    }
    if !comparison.timings.is_empty() {
        writeln!(
            out,
            "Timed (server CPU a message and round trips; medians over {} cycles in which the servers take\n\
             turns, ratios to {} cycle by cycle, with the 95 % interval of their median):\n",
            comparison.cycles, comparison.reference
        )?;
        let timings = &comparison.timings;
        columns::print(&timed(timings, comparison.is_of_kinds), out)?;
        writeln!(out)?;
        if comparison.load_core.is_none() {
            writeln!(out, "There is only one core, which servers and load share.\n")?;
        }
        let names =
            timings.iter().filter(|timing| timing.cpu_is_by_ticks).map(|timing| &timing.name);
        let names: BTreeSet<&str> = names.map(String::as_str).collect();
        if !names.is_empty() {
            let names = Vec::from_iter(names).join(", ");
            writeln!(
                out,
                "CPU of {names} is by ticks of 10 ms: the scheduler's count does not have it all.\n"
            )?;
        }
        let rows = timings.iter().filter_map(|timing| {
            timing.datagrams.map(|counts| losses::row(&timing.scenario, &counts))
        });
        losses::print(rows, out)?;
    }
    if !comparison.goals.is_empty() {
        writeln!(out, "To reach:\n")?;
        let mut rows = vec![["figure", "oneloop", "to reach", ""].map(String::from).to_vec()];
        rows.extend(comparison.goals.iter().map(|goal| {
            vec![
                goal.figure.clone(),
                goal.value.clone(),
                goal.goal.clone(),
                goal.verdict.to_string(),
            ]
        }));
        columns::print(&rows, out)?;
        writeln!(
            out,
            "\nSystem calls a message are recv + send + others. The six of a connection are accept4,\n\
             epoll_ctl, 2 recv, send, close; then the others. A CPU ratio is decided on when its whole interval is on\n\
             one side."
        )?;
    }
    Ok(())
}

/// A figure a row, a server a column.
fn counted(counts: &[Counts]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |figure: &str, value: &dyn Fn(&Counts) -> String| {
        let mut cells = vec![figure.to_owned()];
        cells.extend(counts.iter().map(value));
        rows.push(cells);
    };
    row("figure", &|c| c.name.clone());
    row("user instructions a message", &|c| {
        maybe(&c.instructions, |[once, _]| format!("{once:.1}"))
    });
    row("  the same, counted again", &|c| {
        maybe(&c.instructions, |[_, again]| format!("{again:.1}"))
    });
    row("bytes copied for each echoed byte (4 KiB)", &|c| {
        maybe(&c.copies, |copies| format!("{copies:.3}"))
    });
    for pipeline in PIPELINES {
        let calls = |c: &Counts| c.calls_message.get(&pipeline).cloned();
        row(&format!("system calls a message, pipeline {pipeline}"), &|c| maybe(&calls(c), sum));
        row("  recv + send + other", &|c| maybe(&calls(c), three));
    }
    row("system calls connect-echo-close", &|c| maybe(&c.calls_connection, sum));
    for name in names(counts) {
        row(&format!("  {name}"), &|c| {
            maybe(&c.calls_connection, |share| {
                share.get(&name).map_or("-".into(), |calls| format!("{calls:.3}"))
            })
        });
    }
    row("resident bytes an idle connection (of 10,000)", &|c| {
        maybe(&c.resident_fresh, |bytes| format!("{bytes:.0}"))
    });
    row("  after 16 KiB were echoed on each", &|c| {
        maybe(&c.resident_used, |bytes| format!("{bytes:.0}"))
    });
    row("CPU ns over 5 s with 10,000 idle connections", &|c| {
        maybe(&c.idle_cpu_nanos, u64::to_string)
    });
    // Without what was counted of nobody.
    rows.retain(|row| row[1..].iter().any(|cell| cell != "-"));
    rows
}

/// The calls that any server makes for a connection.
fn names(counts: &[Counts]) -> Vec<String> {
    let shares = counts.iter().filter_map(|counts| counts.calls_connection.as_ref());
    let mut names: Vec<String> = shares.flat_map(|share| share.keys().cloned()).collect();
    names.sort();
    names.dedup();
    names
}

fn maybe<T>(value: &Option<T>, format: impl Fn(&T) -> String) -> String {
    value.as_ref().map_or("-".into(), format)
}

fn sum(share: &Share) -> String {
    format!("{:.4}", share.values().sum::<f64>())
}

fn three(share: &Share) -> String {
    let [receive, send, other] = grouped(share);
    format!("{receive:.4} + {send:.4} + {other:.4}")
}

/// Of servers of several kinds there are more figures of their own, and no ratio of rates.
fn timed(timings: &[Timing], is_of_kinds: bool) -> Vec<Vec<String>> {
    let first = ["connections", "pipeline", "bytes"];
    let more = match is_of_kinds {
        false => &["server", "CPU ns", "ratio", "95 %", "msg/s ratio", "p50 us", "p99 us"][..],
        true => &[
            "kind",
            "messages/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "CPU ns",
            "ratio",
            "95 %",
            "lost",
        ],
    };
    let mut rows = vec![first.iter().chain(more).map(|head| (*head).to_owned()).collect()];
    rows.extend(timings.iter().map(|timing| {
        let Scenario { connections, pipeline, size } = timing.scenario;
        let micros = |nanos: f64| format!("{:.1}", nanos / 1e3);
        let mut cells = [connections, pipeline, size].map(|number| number.to_string()).to_vec();
        let cpu = [
            format!("{:.0}", timing.cpu_nanos_per_message),
            format!("{:.3}", timing.cpu_ratio.median),
            maybe(&timing.cpu_ratio.bounds, |[lower, upper]| format!("{lower:.3} .. {upper:.3}")),
        ];
        let times = [timing.p50_nanos, timing.p99_nanos, timing.p999_nanos].map(micros);
        cells.push(timing.name.clone());
        if is_of_kinds {
            cells.push(units::grouped(timing.messages_per_second.round() as u64));
            cells.extend(times);
            cells.extend(cpu);
            cells.push(maybe(&timing.datagrams, losses::share));
        } else {
            cells.extend(cpu);
            cells.push(format!("{:.3}", timing.rate_ratio));
            cells.extend_from_slice(&times[..2]);
        }
        cells
    }));
    rows
}
