//! The tools that count: what to write before a server's command, and how to read what they leave.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::bench::scratch::Scratch;
use crate::guard;

/// System calls by name.
pub(super) type Calls = BTreeMap<String, u64>;

/// A file for a tool to write to; deleted when dropped.
pub(super) struct Report {
    file: Scratch,
}

impl Report {
    /// # Errors
    ///
    /// See [`Scratch::new`].
    pub(super) fn new(tool: &str) -> Result<Report> {
        Ok(Report { file: Scratch::new(&format!(".{tool}"))? })
    }

    pub(super) fn read(&self) -> Result<String> {
        fs::read_to_string(self.file.path())
            .with_context(|| format!("there is no report {}", self.file.path().display()))
    }
}

pub(super) fn is_installed(tool: &str) -> bool {
    let version = Command::new(tool).arg("--version").stdin(Stdio::null()).output();
    version.is_ok_and(|output| output.status.success())
}

impl Report {
    /// The words of a tool with the option that names this file. `RUST_LOG` would arm the logging of
    /// servers that heed it, and a trace costs more than the echo. Without chrt, which belongs to the
    /// same package as mount, the figures just repeat less well.
    fn prefix(&self, words: &str, file_option: &str) -> Vec<String> {
        let batch = if is_installed("chrt") { "chrt --batch 0 " } else { "" };
        let words = format!("env -u RUST_LOG {batch}{words}");
        let mut prefix: Vec<String> = words.split(' ').map(String::from).collect();
        prefix.push(format!("{file_option}{}", self.file.path().display()));
        prefix
    }

    /// Counts system calls of all threads. What ends strace with us does not end its child, the server,
    /// with strace: that takes a second guard, whose own calls cancel.
    pub(super) fn strace(&self) -> Result<Vec<String>> {
        let mut words = self.prefix("strace -f -c", "-o");
        words.extend(guard::prefix()?);
        Ok(words)
    }

    /// Counts the instructions that are executed in user mode.
    pub(super) fn callgrind(&self) -> Vec<String> {
        let words = "valgrind --tool=callgrind --log-file=/dev/null";
        self.prefix(words, "--callgrind-out-file=")
    }

    /// Counts the bytes that memcpy and its like move.
    pub(super) fn copies(&self) -> Vec<String> {
        let words = "valgrind --tool=dhat --mode=copy --dhat-out-file=/dev/null";
        self.prefix(words, "--log-file=")
    }
}

/// The calls in a summary of `strace -c`: the fourth column, and the name in the last.
pub(super) fn parse_strace(summary: &str) -> Result<Calls> {
    let mut calls = Calls::new();
    for line in summary.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(count), Some(&name)) = (words.get(3), words.last()) else { continue };
        if let Ok(count) = count.parse::<u64>()
            && name != "total"
        {
            calls.insert(name.to_owned(), count);
        }
    }
    if calls.is_empty() {
        bail!("strace counted nothing; may it trace here?");
    }
    Ok(calls)
}

/// The sum in a callgrind profile. It is in `totals:`, which old versions call `summary:`.
pub(super) fn parse_callgrind(profile: &str) -> Result<u64> {
    let find = |label| profile.lines().find_map(|line| line.strip_prefix(label));
    let total = find("totals:").or_else(|| find("summary:")).context("callgrind left no total")?;
    total.trim().parse().context("callgrind's total is no number")
}

/// The bytes in the line `Total: 1,234 bytes in 5 blocks` of a log of dhat.
pub(super) fn parse_copies(log: &str) -> Result<u64> {
    let line = log.lines().find_map(|line| line.split_once("Total:"));
    let (_, total) = line.context("dhat left no total; copies need valgrind 3.17 or newer")?;
    let number = total.split_whitespace().next().unwrap_or_default().replace(',', "");
    number.parse().context("dhat's total is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_with_and_without_errors() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 52.02    1.727677          26     64000           sendto
  0.97    0.032127          31      1034         1 epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    3.321386          25    129271         5 total
";
        let calls = parse_strace(summary).unwrap();
        assert_eq!(calls.len(), 2);
        assert_eq!((calls["sendto"], calls["epoll_wait"]), (64_000, 1_034));
        assert!(parse_strace("").is_err());
    }

    #[test]
    fn totals_of_valgrind_are_read() {
        assert_eq!(parse_callgrind("events: Ir\nfn=(1)\nsummary: 11\ntotals: 12\n").unwrap(), 12);
        assert_eq!(parse_callgrind("summary: 11\n").unwrap(), 11);
        let log = "==7== Command: x\n==7== Total:     12,345,678 bytes in 90 blocks\n";
        assert_eq!(parse_copies(log).unwrap(), 12_345_678);
        assert!(parse_copies("").is_err());
    }

    #[test]
    fn a_tool_is_told_where_to_write() {
        let report = Report::new("test").unwrap();
        let path = report.file.path().display().to_string();
        assert!(report.strace().unwrap().contains(&format!("-o{path}")));
        assert_eq!(report.callgrind().last(), Some(&format!("--callgrind-out-file={path}")));
    }
}
