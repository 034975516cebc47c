//! What the environment says about a test.

use std::collections::BTreeSet;
use std::env;

use super::decisions::{Decision, parsed};

/// The variables of a [`Check`](super::Check), read before anything runs: a report is no place to find
/// out that one of them cannot be.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) seed: Option<u64>,
    pub(super) only: Option<BTreeSet<Decision>>,
    pub(super) seeds: Option<u64>,
    pub(super) base: Option<u64>,
    pub(super) is_twice: Option<bool>,
    pub(super) shrinks: u64,
    pub(super) trace_lines: usize,
}

/// How often a failing run is run again to make it smaller, if `ONELOOP_SIM_SHRINKS` says nothing.
const SHRINKS: u64 = 200;

/// How many of the last things that happened are printed, if `ONELOOP_SIM_TRACE` says nothing.
pub(super) const TRACE_LINES: usize = 40;

impl Environment {
    /// # Panics
    ///
    /// If a variable cannot be read, or means nothing without another one.
    #[track_caller]
    pub(super) fn read() -> Environment {
        let (seed, only) = (number("ONELOOP_SIM_SEED"), only());
        assert!(
            only.is_none() || seed.is_some(),
            "ONELOOP_SIM_ONLY names decisions of one seed, and needs ONELOOP_SIM_SEED"
        );
        Environment {
            seed,
            only,
            seeds: number("ONELOOP_SIM_SEEDS"),
            base: number("ONELOOP_SIM_BASE"),
            is_twice: number("ONELOOP_SIM_TWICE").map(|number| number > 0),
            shrinks: number("ONELOOP_SIM_SHRINKS").unwrap_or(SHRINKS),
            trace_lines: trace_lines(),
        }
    }
}

/// `ONELOOP_SIM_TRACE`.
#[track_caller]
pub(super) fn trace_lines() -> usize {
    let lines = number("ONELOOP_SIM_TRACE");
    lines.map_or(TRACE_LINES, |lines| usize::try_from(lines).unwrap_or(usize::MAX))
}

/// The same where nobody may panic.
pub(super) fn trace_lines_if_any() -> usize {
    let text = env::var("ONELOOP_SIM_TRACE").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(TRACE_LINES)
}

/// `ONELOOP_SIM_FAIL`: a host, and the number of its system call that is to fail.
#[track_caller]
pub(super) fn failing_call() -> Option<(u32, u64)> {
    let text = env::var("ONELOOP_SIM_FAIL").ok()?;
    let read = || {
        let (host, call) = text.split_once(':')?;
        Some((host.parse().ok()?, call.parse().ok().filter(|call| *call > 0)?))
    };
    let call = read();
    assert!(call.is_some(), "ONELOOP_SIM_FAIL is a host and a call, like 1:8, not {text:?}");
    call
}

#[track_caller]
fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{variable} is a number, not {text:?}");
    number
}

#[track_caller]
fn only() -> Option<BTreeSet<Decision>> {
    let text = env::var("ONELOOP_SIM_ONLY").ok()?;
    let only = parsed(&text);
    assert!(
        only.is_some(),
        "ONELOOP_SIM_ONLY is like turn.0.3,latency.2.0-7 or none, not {text:?}"
    );
    only
}
