//! A server and the load on it, for as long as they take turns with others.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::contestant::{CONNECTIONS_MAX, Contestant, end};
use crate::bench::load::{Amount, Load, Outcome};
use crate::bench::process::Process;
use crate::bench::scenario::Scenario;
use crate::bench::server::Server;
use crate::bench::window::Datagrams;

/// What a slice should take: long enough that its ends do not count, short enough that what disturbs the
/// machine disturbs a whole cycle.
const SLICE: Duration = Duration::from_millis(150);

/// What one slice cost.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) cpu_nanos_per_message: f64,
    pub(super) messages_per_second: f64,
    pub(super) p50_nanos: u64,
    pub(super) p99_nanos: u64,
    pub(super) p999_nanos: u64,
    pub(super) datagrams: Option<Datagrams>,
}

/// A server and its load.
pub(super) struct Lane {
    server: Server,
    load: Load,
    scenario: Scenario,
}

impl Lane {
    pub(super) fn open(
        contestant: &Contestant,
        scenario: &Scenario,
        core: Option<usize>,
        stall_timeout: Duration,
    ) -> Result<Lane> {
        let server = contestant.start(CONNECTIONS_MAX, core, Vec::new(), stall_timeout)?;
        let options = scenario.load_options(stall_timeout);
        let load = Load::connect(server.place(), scenario.connections, options)
            .with_context(|| format!("the load of {}", contestant.name))?;
        Ok(Lane { server, load, scenario: *scenario })
    }

    pub(super) fn close(self) -> Result<()> {
        drop(self.load);
        end(self.server)
    }

    /// How many messages fill a slice: at least a pipeline's worth for every connection.
    pub(super) fn calibrate(&mut self) -> Result<u64> {
        let messages_min = (self.scenario.connections * self.scenario.pipeline) as u64;
        let mut messages = messages_min;
        loop {
            let took = self.run(messages)?.elapsed;
            if took >= SLICE / 4 {
                let scale = SLICE.as_secs_f64() / took.as_secs_f64();
                return Ok(messages_min.max((messages as f64 * scale) as u64));
            }
            messages *= 2;
        }
    }

    pub(super) fn run(&mut self, messages: u64) -> Result<Outcome> {
        let slice = self.scenario.slice(Amount::Messages(messages));
        let outcome = self.load.run(&slice).and_then(|outcome| {
            outcome.check()?;
            Ok(outcome)
        });
        if outcome.is_err() {
            self.server.check_alive()?;
        }
        outcome.with_context(|| format!("the load of {}", self.server.name()))
    }

    pub(super) fn sample(&mut self, messages: u64) -> Result<Sample> {
        let before = settled_cpu(self.server.process())?;
        let outcome = self.run(messages)?;
        let spent = settled_cpu(self.server.process())?.saturating_sub(before);
        Ok(Sample {
            cpu_nanos_per_message: spent.as_nanos() as f64 / outcome.messages as f64,
            messages_per_second: outcome.messages_per_second(),
            p50_nanos: self.load.latency().value_at_quantile(0.5),
            p99_nanos: self.load.latency().value_at_quantile(0.99),
            p999_nanos: self.load.latency().value_at_quantile(0.999),
            datagrams: outcome.datagrams,
        })
    }
}

/// The scheduler's count is exact when the server sleeps, which it does soon after its last answer.
fn settled_cpu(process: Process) -> Result<Duration> {
    let mut last = process.cpu_time()?.total;
    for _ in 0..50 {
        thread::sleep(Duration::from_micros(200));
        let now = process.cpu_time()?.total;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}
