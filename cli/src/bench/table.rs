//! The table of a benchmark.

use std::io::{self, Write};

use super::matrix::{Report, Row};
use super::{columns, losses};
use crate::units::grouped;

const HEADS: [&str; 13] = [
    "connections",
    "pipeline",
    "bytes",
    "messages/s",
    "p50",
    "p99",
    "p99.9",
    "max",
    "CPU/message",
    "user/system",
    "busy",
    "memory/conn.",
    "errors",
];

/// # Errors
///
/// Those of `out`.
pub(super) fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", title(report))?;
    writeln!(out)?;
    let mut rows = vec![HEADS.map(String::from).to_vec()];
    rows.extend(report.rows.iter().map(|row| cells(row).to_vec()));
    columns::print(&rows, out)?;
    writeln!(out)?;
    let rows = report
        .rows
        .iter()
        .filter_map(|row| row.datagrams.map(|counts| losses::row(&row.scenario(), &counts)));
    losses::print(rows, out)?;
    if report.rows.iter().any(|row| row.server.is_some_and(|server| server.cpu_is_by_ticks)) {
        writeln!(out, "CPU is by ticks of 10 ms: the scheduler's count does not have it all.\n")?;
    }
    writeln!(
        out,
        "Closed loop: each connection keeps its pipeline full, so latencies are those under full load.\n\
         CPU, busy (1 core = 100 %) and memory are the server's."
    )
}

fn title(report: &Report) -> String {
    let server = match &report.target {
        Some(place) => format!("the server on {place}"),
        None => "oneloop echo".into(),
    };
    let place = match (report.server_core, report.load_core) {
        (Some(server), Some(load)) => format!("server on core {server}, load on core {load}"),
        (None, Some(load)) => format!("load on core {load}"),
        _ if report.target.is_some() => "load on the only core".into(),
        _ => "server and load on the same core".into(),
    };
    format!("{server}: {place}, {} s each, every byte verified", report.seconds)
}

fn cells(row: &Row) -> [String; HEADS.len()] {
    let none = || "-".to_string();
    let (mut cpu, mut split, mut busy, mut memory) = (none(), none(), none(), none());
    if let Some(server) = &row.server {
        cpu = format!("{} ns", grouped(server.cpu_nanos_per_message.round() as u64));
        busy = format!("{:.0} %", server.busy_share * 100.0);
        if let Some(user) = server.user_share {
            split = format!("{:.0}/{:.0} %", user * 100.0, (1.0 - user) * 100.0);
        }
        if let Some(bytes) = server.resident_bytes_per_connection {
            memory = format!("{} B", grouped(bytes.round() as u64));
        }
    }
    [
        grouped(row.connections as u64),
        row.pipeline.to_string(),
        grouped(row.message_bytes as u64),
        grouped(row.messages_per_second.round() as u64),
        time(row.latency.p50_nanos),
        time(row.latency.p99_nanos),
        time(row.latency.p999_nanos),
        time(row.latency.max_nanos),
        cpu,
        split,
        busy,
        memory,
        row.errors.to_string(),
    ]
}

/// Three digits and a unit.
fn time(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        assert_eq!(time(0), "0.00 µs");
        assert_eq!(time(28_700), "28.7 µs");
        assert_eq!(time(280_700), "281 µs");
        assert_eq!(time(1_234_567), "1.23 ms");
        assert_eq!(time(9_996_000), "10.0 ms");
        assert_eq!(time(2_000_000_000), "2.00 s");
    }
}
