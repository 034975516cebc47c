//! A server and the load on it, for as long as they take turns with others.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::contestant::{CONNECTIONS_SPARE, Contestant};
use crate::bench::load::{Amount, Load, Outcome};
use crate::bench::process::CpuTime;
use crate::bench::scenario::Scenario;
use crate::bench::server::Server;
use crate::bench::window::Datagrams;

/// What a slice should take: long enough that its ends do not count, short enough that what disturbs the
/// machine disturbs a whole cycle.
const SLICE: Duration = Duration::from_millis(150);

/// How long a server may go on after its last answer: more than it may spin (`--spin`), and than a machine may stop.
const SLEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// What one slice cost.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) cpu_nanos_per_message: f64,
    pub(super) cpu_is_by_ticks: bool,
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
        let connections_max = scenario.connections + CONNECTIONS_SPARE;
        let mut server = contestant.start(connections_max, core, Vec::new(), stall_timeout)?;
        let options = scenario.load_options(stall_timeout);
        let load = Load::connect(server.place(), scenario.connections, options);
        let load = explain(&mut server, load)?;
        Ok(Lane { server, load, scenario: *scenario })
    }

    pub(super) fn close(self) -> Result<()> {
        drop(self.load);
        self.server.end()
    }

    /// How many messages fill a slice: at least a pipeline's worth for every connection.
    pub(super) fn calibrate(&mut self) -> Result<u64> {
        let messages_min = self.messages_min();
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

    fn messages_min(&self) -> u64 {
        (self.scenario.connections * self.scenario.pipeline) as u64
    }

    /// A part of a slice that is not measured: caches, buffers and the kernel's idea of the connections warm up.
    pub(super) fn warm_up(&mut self, messages: u64) -> Result<()> {
        self.sample((messages / 4).max(self.messages_min())).map(drop)
    }

    fn run(&mut self, messages: u64) -> Result<Outcome> {
        let slice = self.scenario.slice(Amount::Messages(messages));
        let outcome = self.load.run(&slice).and_then(|outcome| {
            outcome.check()?;
            Ok(outcome)
        });
        explain(&mut self.server, outcome)
    }

    pub(super) fn sample(&mut self, messages: u64) -> Result<Sample> {
        let before = settled_cpu(&self.server)?;
        let outcome = self.run(messages)?;
        let spent = settled_cpu(&self.server)?.since(&before);
        ensure!(
            !spent.total.is_zero(),
            "{} answered without CPU time: it leaves its work to processes that it did not start",
            self.server.name()
        );
        Ok(Sample {
            cpu_nanos_per_message: spent.total.as_nanos() as f64 / outcome.messages as f64,
            cpu_is_by_ticks: spent.is_by_ticks,
            messages_per_second: outcome.messages_per_second(),
            p50_nanos: self.load.latency().value_at_quantile(0.5),
            p99_nanos: self.load.latency().value_at_quantile(0.99),
            p999_nanos: self.load.latency().value_at_quantile(0.999),
            datagrams: outcome.datagrams,
        })
    }
}

/// If the server has died, that is the error, and what the load saw of it follows from it.
fn explain<T>(server: &mut Server, result: Result<T>) -> Result<T> {
    if result.is_err() {
        server.check_alive()?;
    }
    result.with_context(|| format!("the load of {}", server.name()))
}

/// The scheduler's count is exact when the server sleeps; and until it does, it is in the way of the next one.
fn settled_cpu(server: &Server) -> Result<CpuTime> {
    let process = server.process();
    let deadline = Instant::now() + SLEEP_TIMEOUT;
    let mut last = process.cpu_time()?;
    while Instant::now() < deadline {
        thread::sleep(Duration::from_micros(200));
        let is_asleep = process.is_asleep();
        let now = process.cpu_time()?;
        if is_asleep && now == last {
            return Ok(now);
        }
        last = now;
    }
    let seconds = SLEEP_TIMEOUT.as_secs();
    bail!("{} does not sleep within {seconds} s after its last answer", server.name())
}
