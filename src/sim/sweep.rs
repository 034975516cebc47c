//! Every system call fails once.

use std::panic::resume_unwind;

use super::check::Plan;
use super::environment;
use super::failure;
use super::faults::{Faults, Kernel};
use super::report;
use super::world::Simulation;

/// Makes each system call of each reactor fail, one a run: the first, the second, and so on, of those that
/// [`Call`](super::Call) names. `test` makes its reactors in the same order every time; nothing may break but the
/// connections that the call was for. Gives how many runs there were.
///
/// `ONELOOP_SIM_FAIL=1:8` runs only the one in which call 8 of host 1 fails; a run that failed prints
/// it.
///
/// # Panics
///
/// If `test` does, after saying which call failed and what happened.
#[track_caller]
pub fn sweep(seed: u64, kernel: Kernel, test: impl Fn(&mut Simulation)) -> u64 {
    let plan = Plan { seed, kernel, faults: Faults::none(), only: None };
    let trace_lines = environment::trace_lines();
    if let Some((host, call)) = environment::failing_call() {
        run_with(&plan, host, call, trace_lines, &test);
        return 1;
    }
    let calls = {
        let mut sim = Simulation::with(seed, kernel, Faults::none());
        test(&mut sim);
        sim.calls()
    };
    let mut runs = 0;
    for (host, calls) in calls {
        for call in 1..=calls {
            run_with(&plan, host, call, trace_lines, &test);
            runs += 1;
        }
    }
    runs
}

fn run_with(
    plan: &Plan,
    host: u32,
    call: u64,
    trace_lines: usize,
    test: &impl Fn(&mut Simulation),
) {
    let mut sim = plan.simulation();
    sim.keep_trace(trace_lines);
    sim.failing_call = Some((host, call));
    let Err((panic, failure)) = failure::caught(&mut sim, test) else { return };
    let what = sim.failed_call(host).map_or(String::new(), |what| format!(" ({what})"));
    eprintln!(
        "\nsystem call {call} of host {host}{what} failed, and so did the test, on {:?}:\n  {failure}\n{}{}",
        plan.kernel,
        report::trace(&sim, trace_lines),
        report::command(&format!("ONELOOP_SIM_FAIL={host}:{call}"), "")
    );
    resume_unwind(panic);
}
