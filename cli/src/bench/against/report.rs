//! The tables of a comparison.

use std::io::{Result, Write};

use super::{Comparison, Timing};
use crate::bench::counts::{Counts, PIPELINES, Share, grouped};
use crate::bench::{columns, losses};
use crate::units;

/// Prints everything that was found.
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
        let rows = if comparison.is_of_kinds { by_kind(timings) } else { timed(timings) };
        columns::print(&rows, out)?;
        writeln!(out)?;
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
             epoll_ctl, 2 recv, send, close; then the others. Of a CPU interval the lower end counts."
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

fn timed(timings: &[Timing]) -> Vec<Vec<String>> {
    let head = ["connections", "pipeline", "bytes", "server", "CPU ns", "ratio", "95 %"];
    let more = ["msg/s ratio", "p50 us", "p99 us"];
    let mut rows = vec![head.into_iter().chain(more).map(String::from).collect()];
    rows.extend(timings.iter().map(|timing| {
        vec![
            timing.scenario.connections.to_string(),
            timing.scenario.pipeline.to_string(),
            timing.scenario.size.to_string(),
            timing.name.clone(),
            format!("{:.0}", timing.cpu_nanos_per_message),
            format!("{:.3}", timing.cpu_ratio.median),
            maybe(&timing.cpu_ratio.bounds, |[lower, upper]| format!("{lower:.3} .. {upper:.3}")),
            format!("{:.3}", timing.rate_ratio),
            format!("{:.1}", timing.p50_nanos / 1e3),
            format!("{:.1}", timing.p99_nanos / 1e3),
        ]
    }));
    rows
}

/// The same servers on several kinds of sockets.
fn by_kind(timings: &[Timing]) -> Vec<Vec<String>> {
    let head = ["connections", "pipeline", "bytes", "kind", "messages/s", "p50 us", "p99 us"];
    let more = ["p99.9 us", "CPU ns", "ratio", "95 %", "lost"];
    let mut rows = vec![head.into_iter().chain(more).map(String::from).collect()];
    rows.extend(timings.iter().map(|timing| {
        vec![
            timing.scenario.connections.to_string(),
            timing.scenario.pipeline.to_string(),
            timing.scenario.size.to_string(),
            timing.name.clone(),
            units::grouped(timing.messages_per_second.round() as u64),
            format!("{:.1}", timing.p50_nanos / 1e3),
            format!("{:.1}", timing.p99_nanos / 1e3),
            format!("{:.1}", timing.p999_nanos / 1e3),
            format!("{:.0}", timing.cpu_nanos_per_message),
            format!("{:.3}", timing.cpu_ratio.median),
            maybe(&timing.cpu_ratio.bounds, |[lower, upper]| format!("{lower:.3} .. {upper:.3}")),
            maybe(&timing.datagrams, losses::share),
        ]
    }));
    rows
}
