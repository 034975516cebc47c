//! Who goes on next, and until when.

use std::panic::Location;
use std::time::Duration;

use super::{Candidate, Simulation};
use crate::clock::Time;
use crate::driver::Driver;
use crate::key::Key;
use crate::sim::client::Wish;
use crate::sim::decisions::Matter;
use crate::sim::net::Event;
use crate::stats::Stats;

/// So many steps of one `run` method are no test any more but an endless loop.
pub(super) const STEPS_MAX: u64 = 1_000_000;

/// So many turns on end without a byte, a datagram, an end or a newcomer are none, either.
const IDLE_TURNS_MAX: u64 = 100_000;

/// The longest that [`Simulation::run_until`] lets pass.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// A walk over everything is made after every turn while a reactor is small, else now and then; what a
/// turn touched is looked at after every turn.
const SMALL: usize = 16;
const NOW_AND_THEN: u64 = 64;

/// The time-out of every turn, as one is had only when there is something to do. With none at all the reactor would count
/// all of them as turns that may not wait, also those that spin.
const INSTANT: Duration = Duration::from_nanos(1);

/// What became of a step.
#[derive(PartialEq)]
enum Step {
    Something,
    /// What there is to wait for comes after the time is up.
    Later,
    /// There is nothing to wait for.
    Nothing,
}

impl Simulation {
    /// Runs until nothing more happens by itself: nothing is under way, nobody has anything to do.
    /// Timers fire meanwhile, but what only a reactor's timer would bring does not count, unless that is a connect which
    /// could not begin ([`busy_connects`](super::Faults::busy_connects), `EAGAIN`). Then nothing that could be delivered
    /// may wait anywhere.
    ///
    /// # Panics
    ///
    /// If it does not come to rest within so many steps as [`set_steps_max`](Self::set_steps_max) says; or
    /// a byte, an end, or a connection waits and nobody will see to it. Whether the clients got what they
    /// wait for is another question: [`assert_all_done`](Self::assert_all_done).
    #[track_caller]
    pub fn run_until_idle(&mut self) {
        self.begin_run("run_until_idle", Location::caller());
        let mut steps = 0;
        while self.step(None) != Step::Nothing {
            steps += 1;
            assert!(steps < self.steps_max, "no rest after {steps} steps: {}", self.busiest());
        }
        self.assert_rest();
        self.run_at = None;
    }

    /// Runs for a while of virtual time, reactors' timers and all.
    ///
    /// # Panics
    ///
    /// If a client does not get what its script expects, a handler panics, or the loop breaks one of its
    /// invariants; if it takes more steps than [`set_steps_max`](Self::set_steps_max) says. So do the
    /// other `run` methods.
    #[track_caller]
    pub fn run_for(&mut self, duration: Duration) {
        self.begin_run("run_for", Location::caller());
        let until = self.now() + duration;
        let mut steps = 0;
        while self.now() < until && self.step(Some(until)) == Step::Something {
            steps += 1;
            let left = until.since(self.now());
            assert!(
                steps < self.steps_max,
                "{left:?} are left after {steps} steps: {}",
                self.busiest()
            );
        }
        self.run_at = None;
    }

    /// Runs until `is_done`, which is asked after every step.
    ///
    /// # Panics
    ///
    /// If it does not come within a day, or nothing happens any more.
    #[track_caller]
    pub fn run_until(&mut self, mut is_done: impl FnMut(&Simulation) -> bool) {
        self.begin_run("run_until", Location::caller());
        let until = self.now() + PATIENCE;
        let mut steps = 0;
        while !is_done(self) {
            match self.step(Some(until)) {
                Step::Something => {}
                Step::Nothing => panic!("nothing happens any more{}", self.not_done()),
                Step::Later => panic!("not so within a day{}", self.not_done()),
            }
            steps += 1;
            assert!(steps < self.steps_max, "not so after {steps} steps: {}", self.busiest());
        }
        self.run_at = None;
    }

    /// How many steps one call of a `run` method may take, 1,000,000 if nothing is said: a step is a turn
    /// of a reactor, something that a client does, or time that passes. More are taken for an endless
    /// loop.
    pub fn set_steps_max(&mut self, steps: u64) {
        self.steps_max = steps;
    }

    fn begin_run(&mut self, what: &'static str, at: &'static Location<'static>) {
        self.run_at = Some((what, at));
        self.turns_of.fill(0);
        // Between two runs a test may have done anything to them.
        self.asleep_until.fill(None);
    }

    /// Who keeps a run from its end.
    fn busiest(&self) -> String {
        let turns = self.turns_of.iter().enumerate().max_by_key(|(_, turns)| **turns);
        let busiest = match turns {
            Some((index, turns)) if *turns > 0 => {
                format!("reactor {index} had {turns} turns")
            }
            _ => "no reactor had a turn".to_string(),
        };
        format!("{busiest}{}; set_steps_max allows more", self.not_done())
    }

    /// The clients that have steps left, the first few of them.
    fn not_done(&self) -> String {
        let mut left = self.clients.iter().enumerate().filter_map(|(index, client)| {
            client.step_left().map(|step| format!("; client {index}: {step}"))
        });
        let mut text: String = left.by_ref().take(3).collect();
        let more = left.count();
        if more > 0 {
            text += &format!("; and {more} more clients are not done");
        }
        text
    }

    /// One thing happens: a reactor has a turn, a client goes on, or else time passes until something
    /// arrives or is due. Without `until`, nobody waits for a reactor's timer alone.
    #[track_caller]
    fn step(&mut self, until: Option<Time>) -> Step {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let mut next_timer = Time::NEVER;
        let now = self.now();
        for (index, reactor) in self.reactors.iter_mut().enumerate() {
            let Some(reactor) = reactor else { continue };
            reactor.sockets.driver.begin_jobs();
            // Who waits in the kernel looks at nothing: what others want of it has to wake it.
            let until = *self.asleep_until[index]
                .get_or_insert_with(|| reactor.next_wait().map_or(Time::NEVER, |wait| now + wait));
            if until <= now || reactor.sockets.driver.has_events() {
                candidates.push(Candidate::Reactor(index));
            } else {
                next_timer = next_timer.min(until);
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
                Step::Something
            }
            Some(Candidate::Client(index)) => {
                net.clients_due.pop_front();
                drop(net);
                self.run_client(index);
                Step::Something
            }
            None => {
                self.idle_turns = 0;
                let arrival = net.next_arrival();
                let next = match (arrival, until) {
                    (None, None) => return Step::Nothing,
                    (Some(arrival), None) => arrival.min(next_timer),
                    (arrival, Some(until)) => {
                        let next = arrival.unwrap_or(Time::NEVER).min(next_timer);
                        if next > until {
                            net.pass(until);
                            let is_over = next == Time::NEVER;
                            return if is_over { Step::Nothing } else { Step::Later };
                        }
                        next
                    }
                };
                net.pass(next);
                Step::Something
            }
        }
    }

    #[track_caller]
    fn turn(&mut self, index: usize) {
        self.turns += 1;
        self.turns_of[index] += 1;
        self.asleep_until[index] = None;
        let Some(reactor) = &mut self.reactors[index] else { return };
        let is_walk_due =
            reactor.core.sources.len() <= SMALL || self.turns.is_multiple_of(NOW_AND_THEN);
        let touched = &mut self.touched;
        touched.clear();
        if !is_walk_due {
            let core = &reactor.core;
            let lists = [&core.ready, &core.flush, &core.poked];
            touched.extend(lists.into_iter().flatten());
        }
        let deadlines = [reactor.core.timers.next(), reactor.core.deadlines.next()];
        if deadlines.into_iter().flatten().any(|at| at <= reactor.sockets.driver.now()) {
            let host = reactor.sockets.driver.host();
            self.network.net.borrow_mut().log(host, "timer", Key::NONE, 0);
        }
        let before = achieved(reactor.stats());
        if let Err(error) = reactor.turn(Some(INSTANT)) {
            panic!("the poll is broken: {error}");
        }
        let is_idle = achieved(reactor.stats()) == before;
        self.idle_turns = if is_idle { self.idle_turns + 1 } else { 0 };
        if self.idle_turns >= IDLE_TURNS_MAX {
            let net = self.network.net.borrow();
            let interrupted = net.faults(reactor.sockets.driver.host()).interrupted_polls;
            drop(net);
            assert!(
                interrupted < 1.0,
                "every poll of reactor {index} fails: interrupted_polls is 1"
            );
            panic!(
                "reactor {index} has work and does nothing: {IDLE_TURNS_MAX} turns without a byte, a \
                 datagram, an end or a newcomer"
            );
        }
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
                let place = self.clients[index].place().unwrap_or_default();
                self.failed_step = Some(place.clone());
                panic!("client {index}: {message}\n  at {place}");
            }
        }
    }
}

/// What a turn is good for, or that it only spins, as it was told to.
fn achieved(stats: &Stats) -> [u64; 6] {
    let newcomers = stats.accepts + stats.connects + stats.refusals + stats.sheds;
    let ends = stats.closes_total() + stats.connect_failures + stats.accept_errors;
    let datagrams = stats.datagrams_in + stats.datagrams_out;
    [stats.bytes_in, stats.bytes_out, datagrams, newcomers, ends, stats.spins]
}
