//! Who goes on next, and until when.

use std::time::Duration;

use super::{Candidate, Simulation};
use crate::clock::Time;
use crate::driver::Driver;
use crate::sim::client::Wish;
use crate::sim::decisions::Matter;
use crate::sim::net::Event;
use crate::stats::Stats;

/// So many turns without rest are no test any more but an endless loop.
const TURNS_MAX: u64 = 20_000_000;

/// So many turns on end without a byte, an end or a newcomer are none, either.
const IDLE_TURNS_MAX: u64 = 100_000;

/// The longest that [`Simulation::run_until`] lets pass.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// A walk over everything is made after every turn while a reactor is small, else now and then; what a
/// turn touched is looked at after every turn.
const SMALL: usize = 16;
const NOW_AND_THEN: u64 = 64;

impl Simulation {
    /// Runs until nothing more happens by itself: nothing is under way, nobody has anything to do.
    /// What only a reactor's timer would bring does not count. Then nothing that could be delivered
    /// may wait anywhere.
    ///
    /// # Panics
    ///
    /// If it does not come to rest; or a byte, an end, or a client waits and nobody will see to it.
    #[track_caller]
    pub fn run_until_idle(&mut self) {
        let end = self.turns + TURNS_MAX;
        while self.step(None) {
            assert!(self.turns < end, "no rest after {TURNS_MAX} turns");
        }
        self.assert_rest();
    }

    /// Runs for a while of virtual time, reactors' timers and all.
    ///
    /// # Panics
    ///
    /// If a client does not get what its script expects, a handler panics, or the loop breaks one of its
    /// invariants. So do the other `run` methods.
    #[track_caller]
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now() + duration;
        while self.now() < until && self.step(Some(until)) {}
    }

    /// Runs until `is_done`, which is asked after every step.
    ///
    /// # Panics
    ///
    /// If it does not come within a day, or nothing happens any more.
    #[track_caller]
    pub fn run_until(&mut self, mut is_done: impl FnMut(&Simulation) -> bool) {
        let until = self.now() + PATIENCE;
        while !is_done(self) {
            assert!(self.step(Some(until)), "nothing happens any more, or not for a day");
        }
    }

    /// One thing happens: a reactor has a turn, a client goes on, or else time passes until something
    /// arrives. With `until`, a reactor's timer is something to wait for. Whether there was anything.
    #[track_caller]
    fn step(&mut self, until: Option<Time>) -> bool {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let mut next_timer = Time::NEVER;
        let now = self.now();
        for (index, reactor) in self.reactors.iter_mut().enumerate() {
            reactor.sockets.driver.begin_jobs();
            let wait = reactor.next_wait();
            if wait == Some(Duration::ZERO) || reactor.sockets.driver.has_events() {
                candidates.push(Candidate::Reactor(index));
            } else if let Some(wait) = wait {
                next_timer = next_timer.min(now + wait);
            }
        }
        let mut net = self.network.net.borrow_mut();
        candidates.extend(net.clients_due.front().map(|index| Candidate::Client(*index)));
        // To be the first is harmless, and the decision is whether it has its turn: so a turn more or
        // less of anybody else is another decision. (A client that is the first is the only one.)
        let first = match candidates.first() {
            Some(Candidate::Reactor(index)) => *index,
            _ => 0,
        };
        let choice = net.decisions.below(Matter::Turn, first, candidates.len() as u64) as usize;
        let chosen = candidates.get(choice).copied();
        self.candidates = candidates;
        match chosen {
            Some(Candidate::Reactor(index)) => {
                drop(net);
                self.turn(index);
                true
            }
            Some(Candidate::Client(index)) => {
                net.clients_due.pop_front();
                drop(net);
                self.run_client(index);
                true
            }
            None => {
                self.idle_turns = 0;
                let arrival = net.next_arrival();
                let next = match (arrival, until) {
                    (None, None) => return false,
                    (Some(arrival), None) => arrival,
                    (arrival, Some(until)) => {
                        let next = arrival.unwrap_or(Time::NEVER).min(next_timer);
                        if next > until {
                            net.pass(until);
                            return false;
                        }
                        next
                    }
                };
                net.pass(next);
                true
            }
        }
    }

    #[track_caller]
    fn turn(&mut self, index: usize) {
        self.turns += 1;
        let reactor = &mut self.reactors[index];
        let is_walk_due =
            reactor.core.sources.len() <= SMALL || self.turns.is_multiple_of(NOW_AND_THEN);
        let touched = &mut self.touched;
        touched.clear();
        if !is_walk_due {
            let core = &reactor.core;
            let lists = [&core.ready, &core.flush, &core.mail];
            touched.extend(lists.into_iter().flatten());
        }
        let before = achieved(reactor.stats());
        if let Err(error) = reactor.turn(Some(Duration::ZERO)) {
            panic!("the poll is broken: {error}");
        }
        let is_idle = achieved(reactor.stats()) == before;
        self.idle_turns = if is_idle { self.idle_turns + 1 } else { 0 };
        assert!(
            self.idle_turns < IDLE_TURNS_MAX,
            "reactor {index} has work and does nothing: {IDLE_TURNS_MAX} turns without a byte, an end \
             or a newcomer"
        );
        if is_walk_due {
            return reactor.verify();
        }
        touched.extend(reactor.sockets.driver.events().map(|event| event.key));
        reactor.verify_some(touched);
    }

    #[track_caller]
    fn run_client(&mut self, index: usize) {
        let now = self.now();
        match self.clients[index].run(now) {
            Ok(Wish::Nothing) => {}
            Ok(Wish::WakeAt(at)) => {
                self.network.net.borrow_mut().send(at, Event::Client { index });
            }
            Err(message) => {
                self.failed_step = self.clients[index].place();
                let place = self.failed_step().unwrap_or_default();
                panic!("client {index}: {message}\n  at {place}");
            }
        }
    }
}

/// What a turn is good for.
fn achieved(stats: &Stats) -> [u64; 4] {
    let newcomers = stats.accepts + stats.connects + stats.refusals + stats.sheds;
    let ends = stats.closes_total() + stats.connect_failures + stats.accept_errors;
    [stats.bytes_in, stats.bytes_out, newcomers, ends]
}
