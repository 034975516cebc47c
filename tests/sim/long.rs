//! Spans of time, numbers and a scale for what lasts long in virtual time.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::time::Duration;

#[path = "../../src/random.rs"]
mod random;

use random::random;

/// For what a debug build checks after every turn there is less of it.
pub(crate) const SCALE: usize = if cfg!(debug_assertions) { 10 } else { 1 };
pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        random(&mut self.0)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// `ONELOOP_SEED`, or always the same; printed for a run that fails.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("ONELOOP_SEED").ok();
    let seed = seed.map_or(1, |seed| seed.parse().expect("ONELOOP_SEED is a number"));
    println!("ONELOOP_SEED={seed}");
    seed
}
