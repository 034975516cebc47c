//! Every combination of connections, pipeline and size, one after the other.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::contestant::Contestant;
use super::load::{Amount, Load, Outcome};
use super::process::{CpuTime, Process};
use super::progress::Progress;
use super::scenario::{self, Scenario, or_usual};
use super::server::{Server, Stop, divide_cores, pin};
use super::window::Datagrams;
use super::{print_with, resources, table, write_json};
use crate::address::Place;
use crate::args::BenchArguments;
use crate::units::grouped;

const CONNECTIONS: [usize; 4] = [1, 64, 1000, 10_000];
const PIPELINES: [usize; 2] = [1, 16];
const SIZES: [usize; 1] = [64];

/// Under so many connections the pages that a server needs anyway would count for more than theirs.
const CONNECTIONS_FOR_MEMORY: usize = 256;

/// Connections of the server that shows how much memory is not the connections'.
const CONNECTIONS_FEW: usize = 16;

/// What was measured, and how.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The server's address; `None` for our own one, which has a new one each time.
    pub(super) target: Option<String>,
    pub(super) seconds: f64,
    /// The cores that server and load were bound to.
    pub(super) server_core: Option<usize>,
    pub(super) load_core: Option<usize>,
    pub(super) rows: Vec<Row>,
}

/// One combination and its figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) connections: usize,
    pub(super) pipeline: usize,
    pub(super) message_bytes: usize,
    pub(super) messages: u64,
    pub(super) messages_per_second: f64,
    pub(super) latency: Latency,
    /// Of a server whose process is known.
    pub(super) server: Option<ServerFigures>,
    /// What became of datagrams, if that is what was sent.
    pub(super) datagrams: Option<Datagrams>,
    /// Connections that failed.
    pub(super) errors: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50_nanos: u64,
    pub(super) p99_nanos: u64,
    pub(super) p999_nanos: u64,
    pub(super) max_nanos: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ServerFigures {
    pub(super) cpu_nanos_per_message: f64,
    /// The user part of its CPU time, between 0 and 1; `None` if it used next to nothing.
    pub(super) user_share: Option<f64>,
    /// Its CPU time to the time that passed: 1 is one core. Under it, the load sets the pace.
    pub(super) busy_share: f64,
    /// What came on top of the resident memory of a server with hardly any connections, pages of files
    /// (program text) aside; `None` with too few to tell.
    pub(super) resident_bytes_per_connection: Option<f64>,
    pub(super) threads: usize,
}

/// Measures all, and prints the table, also when an error ends it early.
///
/// # Errors
///
/// The first one.
pub(super) fn run(arguments: &BenchArguments, json: Option<File>) -> Result<()> {
    let look_up =
        |address| Place::to_connect_to(address).with_context(|| format!("--target {address}"));
    let target = arguments.target.as_ref().map(look_up).transpose()?;
    let scenarios = scenarios(arguments);
    if let Some(needs) = scenario::needs(&scenarios, target.as_ref()) {
        resources::check(needs)?;
    }
    let mut bench = Bench::new(arguments, target)?;
    let result = bench.measure_all(&scenarios);
    bench.progress.clear();
    // What was measured before an error stands, and that error is the one to tell.
    let written = write_all(&bench.report, json);
    result.and(written)
}

fn write_all(report: &Report, json: Option<File>) -> Result<()> {
    let printed =
        if report.rows.is_empty() { Ok(()) } else { print_with(|out| table::print(report, out)) };
    write_json(json, report).and(printed)
}

fn scenarios(arguments: &BenchArguments) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for &size in or_usual(&arguments.size, &SIZES) {
        for &connections in or_usual(&arguments.connections, &CONNECTIONS) {
            for &pipeline in or_usual(&arguments.pipeline, &PIPELINES) {
                scenarios.push(Scenario { connections, pipeline, size });
            }
        }
    }
    scenarios
}

struct Bench<'a> {
    arguments: &'a BenchArguments,
    target: Option<Place>,
    progress: Progress,
    report: Report,
}

/// Who answers.
enum Subject {
    Own(Box<Server>),
    Other(Place, Option<Process>),
}

impl Subject {
    fn place(&self) -> &Place {
        match self {
            Subject::Own(server) => server.place(),
            Subject::Other(place, _) => place,
        }
    }

    fn process(&self) -> Option<Process> {
        match self {
            Subject::Own(server) => Some(server.process()),
            Subject::Other(_, process) => *process,
        }
    }

    /// If the server has died, that is the error, and what the load saw of it follows from it.
    fn explain(&mut self, error: Error) -> Error {
        let death = match self {
            Subject::Own(server) => server.check_dying().err(),
            Subject::Other(_, Some(process)) => process.cpu_time().err(),
            Subject::Other(_, None) => None,
        };
        death.unwrap_or(error)
    }
}

impl Bench<'_> {
    fn new(arguments: &BenchArguments, target: Option<Place>) -> Result<Bench<'_>> {
        let (load_core, server_core) = divide_cores();
        // A server that is not ours stays where it is.
        let server_core = server_core.filter(|_| target.is_none());
        let report = Report {
            target: target.as_ref().map(Place::to_string),
            seconds: arguments.duration.as_secs_f64(),
            server_core,
            load_core,
            rows: Vec::new(),
        };
        Ok(Bench { arguments, target, progress: Progress::new(), report })
    }

    fn measure_all(&mut self, scenarios: &[Scenario]) -> Result<()> {
        for (index, scenario) in scenarios.iter().enumerate() {
            let (connections, pipeline) = (grouped(scenario.connections as u64), scenario.pipeline);
            let what = format!(
                "[{}/{}] {connections} connections, pipeline {pipeline}",
                index + 1,
                scenarios.len()
            );
            self.measure(scenario, &what)?;
        }
        Ok(())
    }

    /// One row, from a server of its own: nothing is left over from the row before.
    fn measure(&mut self, scenario: &Scenario, what: &str) -> Result<()> {
        self.progress.say(&format!("{what}: starting"));
        let mut subject = self.subject(scenario.connections)?;
        // Here and not before, because a child inherits the core.
        if let Some(core) = self.report.load_core {
            pin(core)?;
        }
        let result = self.measure_subject(scenario, &subject, what);
        let row = result.map_err(|error| subject.explain(error))?;
        let first_error = row.1;
        self.report.rows.push(row.0);
        if let Some(error) = first_error {
            return Err(subject.explain(Error::msg(error)));
        }
        if let Subject::Own(server) = subject {
            server.stop(Stop::CloseStdin, Duration::from_secs(5))?;
        }
        Ok(())
    }

    fn measure_subject(
        &self,
        scenario: &Scenario,
        subject: &Subject,
        what: &str,
    ) -> Result<(Row, Option<String>)> {
        let process = subject.process();
        let resident_before = match subject {
            Subject::Own(_) if scenario.connections >= CONNECTIONS_FOR_MEMORY => {
                Some(self.resident_with_few(scenario)?)
            }
            _ => process.map(Process::anonymous_bytes).transpose()?,
        };
        self.progress.say(&format!("{what}: connecting"));
        let mut load = self.load(scenario, subject.place(), scenario.connections)?;
        self.progress.say(&format!("{what}: warming up"));
        let duration = self.arguments.duration;
        let warm_up = Amount::For((duration / 4).min(Duration::from_secs(1)));
        load.run(&scenario.slice(warm_up))?.check()?;

        self.progress.say(&format!("{what}: measuring"));
        let cpu_before = process.map(Process::cpu_time).transpose()?;
        let outcome = load.run(&scenario.slice(Amount::For(duration)))?;
        let mut row = Row::new(scenario, &outcome, load.latency());
        if let (Some(process), Some(cpu_before), Some(before)) =
            (process, cpu_before, resident_before)
        {
            let figures = ServerFigures::new(process, cpu_before, before, scenario, &outcome);
            // A server that has just died is told by its connections.
            row.server = figures.ok();
        }
        Ok((row, outcome.first_error))
    }

    fn load(&self, of: &Scenario, to: &Place, connections: usize) -> Result<Load> {
        Load::connect(to, connections, of.load_options(self.arguments.stall_timeout))
    }

    fn subject(&self, connections: usize) -> Result<Subject> {
        if let Some(place) = &self.target {
            let process = self.arguments.pid.map(Process::new).transpose()?;
            return Ok(Subject::Other(place.clone(), process));
        }
        // Some more than there will be: those of the row before may still be on their way out.
        self.start_own(connections + CONNECTIONS_FEW).map(|server| Subject::Own(Box::new(server)))
    }

    fn start_own(&self, connections_max: usize) -> Result<Server> {
        let (core, start_timeout) = (self.report.server_core, self.arguments.stall_timeout);
        Contestant::own()?.start(connections_max, core, Vec::new(), start_timeout)
    }

    /// The resident memory of our server when it is set up for a few connections only and has served
    /// one: so what the measured one reserves for its many counts as theirs.
    fn resident_with_few(&self, scenario: &Scenario) -> Result<u64> {
        let server = self.start_own(CONNECTIONS_FEW)?;
        let mut load = self.load(scenario, server.place(), 1)?;
        load.run(&scenario.slice(Amount::Messages(4 * scenario.pipeline as u64)))?.check()?;
        server.process().anonymous_bytes()
    }
}

impl Row {
    pub(super) fn scenario(&self) -> Scenario {
        let Row { connections, pipeline, message_bytes: size, .. } = *self;
        Scenario { connections, pipeline, size }
    }

    fn new(scenario: &Scenario, outcome: &Outcome, latency: &Histogram<u64>) -> Row {
        Row {
            connections: scenario.connections,
            pipeline: scenario.pipeline,
            message_bytes: scenario.size,
            messages: outcome.messages,
            messages_per_second: outcome.messages_per_second(),
            latency: Latency {
                p50_nanos: latency.value_at_quantile(0.5),
                p99_nanos: latency.value_at_quantile(0.99),
                p999_nanos: latency.value_at_quantile(0.999),
                max_nanos: latency.max(),
            },
            server: None,
            datagrams: outcome.datagrams,
            errors: outcome.errors,
        }
    }
}

impl ServerFigures {
    fn new(
        process: Process,
        cpu_before: CpuTime,
        resident_before: u64,
        scenario: &Scenario,
        outcome: &Outcome,
    ) -> Result<ServerFigures> {
        let cpu = process.cpu_time()?.since(cpu_before);
        let resident = process.anonymous_bytes()?.saturating_sub(resident_before);
        let connections = scenario.connections;
        Ok(ServerFigures {
            cpu_nanos_per_message: cpu.total.as_nanos() as f64 / outcome.messages.max(1) as f64,
            user_share: cpu.user_share(),
            busy_share: cpu.total.as_secs_f64() / outcome.elapsed_total.as_secs_f64(),
            resident_bytes_per_connection: (connections >= CONNECTIONS_FOR_MEMORY)
                .then(|| resident as f64 / connections as f64),
            threads: process.threads()?,
        })
    }
}
