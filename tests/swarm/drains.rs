//! Drains, at any moment of a mixed workload: they end in time, and leave nothing.

use std::time::Duration;

use oneloop::sim::{ClientId, Script, Simulation};
use oneloop::{CloseReason, Ended};

use super::echo::Echo;
use super::proxy::Proxy;
use super::{Lives, assert_all_closed, conclude, serve, talker, tight, within};

/// Longer than a drain is late: a stall and a jump of the clock in each of its last turns.
const LATE_MAX: Duration = Duration::from_secs(30);

pub(super) fn drains(sim: &mut Simulation) {
    let moment = within(sim, 0..60_000) as u64;
    drains_at(sim, |sim| sim.run_for(Duration::from_micros(moment)));
}

/// A proxy in front of an echo, to which clients talk directly, too. Both drain when `begin` returns,
/// one after the other.
pub fn drains_at(sim: &mut Simulation, begin: impl FnOnce(&mut Simulation)) {
    let backend = ([10, 0, 0, 3], 7000).into();
    let forwards = within(sim, 0..3) == 0;
    let front = serve(sim, Proxy { lives: Lives::default(), backend, forwards }, tight());
    let goes_on = within(sim, 0..4) == 0;
    let back = sim.serve(Echo { goes_on, ..Echo::default() });
    // One has nothing to say, for longer than a drain takes.
    let idle = Script::new().may_end().wait(Duration::from_secs(100));
    let idle = sim.client(if goes_on { back.address } else { front.address }, idle.close());
    let mut clients: Vec<ClientId> = (0..within(sim, 1..10))
        .map(|_| {
            let address = [front.address, back.address][within(sim, 0..2)];
            let script = talker(sim);
            let script = if within(sim, 0..4) == 0 { script.reset() } else { script.close() };
            sim.client(address, script)
        })
        .collect();
    clients.push(idle);
    begin(sim);
    let mut reactors = [front.reactor, back.reactor];
    if within(sim, 0..2) == 0 {
        reactors.reverse();
    }
    let mut end_at = sim.now();
    for reactor in reactors {
        let timeout = Duration::from_millis([0, 1, 40, 10_000][within(sim, 0..4)]);
        sim[reactor].drain(timeout);
        if within(sim, 0..4) == 0 {
            sim[reactor].drain(timeout / 2);
        }
        end_at = end_at.max(sim.now() + timeout);
        if within(sim, 0..2) == 0 {
            let pause = Duration::from_micros(within(sim, 0..30_000) as u64);
            sim.run_for(pause);
        }
    }
    sim.run_for(end_at.since(sim.now()) + LATE_MAX);
    for reactor in reactors {
        assert!(!sim[reactor].is_draining(), "the drain goes on: {:?}", sim[reactor].stats());
        let report = sim[reactor].report().expect("it has ended");
        let cut = sim[reactor].stats().closes(CloseReason::Stopped);
        assert_eq!(report.connections_cut, cut, "{report}");
        assert!(matches!(report.end, Ended::Drained | Ended::TimedOut), "{report}");
        assert!(report.end == Ended::TimedOut || cut == 0, "{report}");
        sim.assert_empty(reactor);
    }
    conclude(sim, &reactors, &clients, false);
    assert_all_closed(&sim.handler(front).lives);
    assert_all_closed(&sim.handler(back).lives);
}
