//! A drain at every moment of a workload: after each so many turns, under both kernels, with faults.

use std::net::SocketAddr;
use std::time::Duration;

use crate::workloads;
use oneloop::sim::{Check, Faults, Kernel, Script, Simulation};
use oneloop::{Connection, Context, Ended, Error, Key, Origin, Signal, StreamHandler};

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

/// Sends back what it receives.
struct Echo;

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }
}

/// Connects each client to a server, and forwards.
struct Proxy {
    server: SocketAddr,
}

impl StreamHandler for Proxy {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        let own = conn.key();
        match conn.origin() {
            Origin::Accepted(_) => {
                conn.pause();
                conn.connect(self.server, own.to_bits());
            }
            Origin::Connected(client) => {
                let client = Key::from_bits(client);
                assert!(conn.forward(client, own) && conn.forward(own, client));
            }
            Origin::Adopted(_) => unreachable!("nothing is"),
        }
    }

    fn on_data(&mut self, (): &mut (), _: &mut Connection<'_>, _: &[u8]) -> Result<usize, Error> {
        unreachable!("what is forwarded is not shown")
    }
}

/// Also of what was not sent when it began: clients ask for more when they have been answered.
#[test]
fn a_drain_loses_nothing_that_is_forwarded() {
    const CLIENTS: u64 = 5;
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let check = Check::new("a drain of a proxy").seeds(40).kernel(kernel);
        check.faults(Faults::lossless()).run(|sim| {
            let back = sim.serve(Echo);
            let front = sim.serve(Proxy { server: back.address });
            for _ in 0..CLIENTS {
                let script = (0..4).fold(Script::new(), |script, round| {
                    let request = [round; 3000];
                    script.send(request).expect(request).wait(Duration::from_millis(1))
                });
                sim.client(front.address, script.close());
            }
            sim.run_until(|sim| sim[front.reactor].stats().accepts == CLIENTS);
            let moment = Duration::from_micros(sim.random() % 20_000);
            sim.run_for(moment);
            sim[front.reactor].drain(Duration::from_secs(3600));
            sim.run_until(|sim| !sim[front.reactor].is_draining());
            sim.assert_all_done();
            let report = sim[front.reactor].report().expect("it has ended");
            assert_eq!(report.end, Ended::Drained, "{report}");
            assert_eq!(report.connections_cut + report.connections_failed, 0, "{report}");
            assert_eq!(report.bytes_undelivered + report.bytes_unaccepted, 0, "{report}");
        });
    }
}
