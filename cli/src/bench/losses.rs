//! The table of what became of datagrams.

use std::io::{Result, Write};

use super::columns;
use super::scenario::Scenario;
use super::window::Datagrams;
use crate::units::grouped;

const HEADS: [&str; 10] = [
    "connections",
    "pipeline",
    "bytes",
    "datagrams sent",
    "received",
    "lost",
    "late",
    "duplicated",
    "out of order",
    "bad",
];

/// What was counted in a scenario.
pub(crate) fn row(scenario: &Scenario, counts: &Datagrams) -> Vec<String> {
    let numbers = [
        counts.sent,
        counts.received,
        counts.lost,
        counts.late,
        counts.duplicated,
        counts.out_of_order,
        counts.bad,
    ];
    let Scenario { connections, pipeline, size } = *scenario;
    let scenario = [connections, pipeline, size].map(|number| number as u64);
    scenario.into_iter().chain(numbers).map(grouped).collect()
}

/// Prints the table, unless there is nothing in it.
///
/// # Errors
///
/// Those of `out`.
pub(crate) fn print(rows: impl Iterator<Item = Vec<String>>, out: &mut dyn Write) -> Result<()> {
    let mut table = vec![HEADS.map(String::from).to_vec()];
    table.extend(rows);
    if table.len() == 1 {
        return Ok(());
    }
    columns::print(&table, out)?;
    writeln!(
        out,
        "Lost is what was not back after 250 ms, or what 256 later ones overtook; late, what of that came after\n\
         all; out of order, what a later one overtook. Times and CPU are those of what came back in time.\n"
    )
}

/// How much of what was sent did not come back in time.
pub(crate) fn share(counts: &Datagrams) -> String {
    format!("{:.3} %", 100.0 * counts.lost as f64 / counts.sent.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_that_of_what_was_sent() {
        let counts = Datagrams { sent: 200, lost: 3, ..Datagrams::default() };
        assert_eq!(share(&counts), "1.500 %");
        assert_eq!(share(&Datagrams::default()), "0.000 %");
    }

    #[test]
    fn without_datagrams_there_is_no_table() {
        let mut out = Vec::new();
        print(std::iter::empty(), &mut out).unwrap();
        assert!(out.is_empty());
        let scenario = Scenario { connections: 1, pipeline: 2, size: 64 };
        print([row(&scenario, &Datagrams::default())].into_iter(), &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("out of order"));
    }
}
