//! A drain at every moment of a workload: after each so many turns, under both kernels, with faults.

#![cfg(feature = "sim")]

#[allow(dead_code, reason = "one workload of them")]
#[path = "swarm/workloads.rs"]
mod workloads;

use std::time::Duration;

use oneloop::sim::{Check, Faults, Kernel, Script, Simulation};
use oneloop::{Connection, Context, Ended, Error, Signal, StreamHandler};

/// Every so many of the moments: a debug build walks over everything after every turn.
const STEP: usize = if cfg!(debug_assertions) { 7 } else { 1 };

/// Every microsecond at first, which is what a turn takes; then further and further apart.
fn moments() -> impl Iterator<Item = Duration> {
    let next = |moment: &Duration| Some(*moment + (*moment / 25).max(Duration::from_micros(1)));
    std::iter::successors(Some(Duration::ZERO), next)
        .take_while(|moment| *moment < Duration::from_secs(40))
}

fn drain_at_every_moment(kernel: Kernel, faults: Faults) {
    for (number, moment) in moments().enumerate().step_by(STEP) {
        let begin = |sim: &mut Simulation| sim.run_for(moment);
        let name = format!("a drain after {moment:?}");
        let check = Check::new(name).base(number as u64).seeds(1).kernel(kernel);
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

/// Notes signals.
#[derive(Default)]
struct Told(Vec<Signal>);

impl StreamHandler for Told {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_drain(&mut self, (): &mut (), _: &mut Connection<'_>) {}

    fn on_signal(&mut self, signal: Signal, _: &mut Context<'_>) {
        self.0.push(signal);
    }
}

#[test]
fn simulated_signals_are_told_drain_and_stop() {
    Check::new("signals").seeds(20).faults(Faults::lossless()).run(|sim| {
        let served = sim.serve(Told::default());
        let client =
            sim.client(served.address, Script::new().may_end().wait(Duration::from_secs(9)));
        sim.run_for(Duration::from_secs(1));
        sim[served.reactor].watch_signals(&[Signal::Hangup]).unwrap();
        sim[served.reactor].drain_on_signals(Duration::from_secs(3600)).unwrap();
        sim.signal(served.reactor, Signal::Hangup);
        sim.run_for(Duration::from_secs(1));
        assert_eq!(sim.handler(served).0, [Signal::Hangup]);
        assert!(!sim[served.reactor].is_draining());
        sim.signal(served.reactor, Signal::Terminate);
        sim.run_for(Duration::from_secs(1));
        assert!(sim[served.reactor].is_draining() && sim.end(client).is_none());
        sim.signal(served.reactor, Signal::Terminate);
        sim.run_for(Duration::from_secs(1));
        let report = sim[served.reactor].report().expect("it has stopped");
        assert_eq!((report.end, report.connections_cut), (Ended::Stopped, 1));
        sim.assert_empty(served.reactor);
    });
}
