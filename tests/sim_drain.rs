//! A drain at every moment of a workload: after each so many turns, under both kernels, with faults.

#![cfg(feature = "sim")]

#[allow(dead_code, reason = "one workload of them")]
#[path = "swarm/workloads.rs"]
mod workloads;

use std::time::Duration;

use oneloop::sim::{Check, Faults, Kernel, Simulation};

/// Turns between two moments: a debug build walks over everything after every turn.
const STEP: usize = if cfg!(debug_assertions) { 7 } else { 1 };

fn drain_at_every_moment(kernel: Kernel, faults: Faults) {
    for moment in (0..600).step_by(STEP) {
        let begin = |sim: &mut Simulation| {
            let latest = sim.now() + Duration::from_secs(60);
            sim.run_until(|sim| sim.turns() >= moment as u64 || sim.now() >= latest);
        };
        let name = format!("a drain after {moment} turns");
        let check = Check::new(name).base(moment as u64).seeds(1).kernel(kernel);
        check.faults(faults.clone()).run(|sim| workloads::drains_at(sim, begin));
    }
}

#[test]
fn a_drain_ends_in_time_at_every_moment_on_a_kernel_that_does_what_linux_does() {
    drain_at_every_moment(Kernel::Linux, Faults::lossless());
    drain_at_every_moment(Kernel::Linux, Faults::some());
}

#[test]
fn a_drain_ends_in_time_at_every_moment_on_a_kernel_that_does_as_little_as_it_may() {
    drain_at_every_moment(Kernel::Contract, Faults::lossless());
    drain_at_every_moment(Kernel::Contract, Faults::some());
}
