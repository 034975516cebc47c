//! Every combination of connections, pipeline and size, one after the other.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::contestant::{CONNECTIONS_SPARE, Contestant};
use super::cores::{divide_cores, pin};
use super::load::{Amount, Load, Outcome};
use super::output::{Figures, JsonFile, Output};
use super::process::{CpuTime, Process};
use super::progress::Progress;
use super::resources::Needs;
use super::scenario::{self, Scenario, or_usual};
use super::server::Server;
use super::window::Datagrams;
use super::{resources, table};
use crate::address::Place;
use crate::args::BenchArguments;
use crate::units::grouped;

const CONNECTIONS: [usize; 4] = [1, 64, 1000, 10_000];
const PIPELINES: [usize; 2] = [1, 16];
const SIZES: [usize; 1] = [64];

/// Under so many connections the pages that a server needs anyway would count for more than theirs.
const CONNECTIONS_FOR_MEMORY: usize = 256;

/// Of the server of ours that shows how much memory is not the connections'.
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
    /// Connections that failed; with datagrams sockets, and also datagrams that could not be sent or came back wrong.
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
    /// Whether it is known in ticks of 10 ms only.
    pub(super) cpu_is_by_ticks: bool,
    /// The user part of its CPU time, between 0 and 1; `None` if it used next to nothing.
    pub(super) user_share: Option<f64>,
    /// Its CPU time to the time that passed: 1 is one core. Under it, the load sets the pace.
    pub(super) busy_share: f64,
    /// What came on top of the resident memory of a server with hardly any connections, pages of files (program text)
    /// aside; of one that is not ours, on top of what it had before the first row. `None` with too few to tell, and
    /// where more were there in a row before, of which it may have kept something.
    pub(super) resident_bytes_per_connection: Option<f64>,
    pub(super) threads: usize,
}

/// Measures all, and prints the table, also when an error ends it early.
///
/// # Errors
///
/// The first one.
pub(super) fn run(arguments: &BenchArguments, json: Option<JsonFile>) -> Result<()> {
    let look_up =
        |address| Place::to_connect_to(address).with_context(|| format!("--target {address}"));
    let target = arguments.target.as_ref().map(look_up).transpose()?;
    let scenarios = scenarios(arguments);
    if let Some(needs) = scenario::needs(&scenarios) {
        resources::check(Needs {
            takes_ports: target.as_ref().is_none_or(|place| place.address().inet().is_some()),
            starts_servers: target.is_none(),
            ..needs
        })?;
    }
    let (load_core, server_core) = divide_cores();
    let report = Report {
        target: target.as_ref().map(Place::to_string),
        seconds: arguments.duration.as_secs_f64(),
        // A server that is not ours stays where it is.
        server_core: server_core.filter(|_| target.is_none()),
        load_core,
        rows: Vec::new(),
    };
    let mut bench = Bench::new(arguments, target, report.server_core, report.load_core)?;
    let output = Output::new(report, json)?;
    let result = bench.measure_all(&scenarios, &output);
    bench.progress.clear();
    output.finish(result)
}

impl Figures for Report {
    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        table::print(self, out)
    }
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
    /// Of that.
    process: Option<Process>,
    server_core: Option<usize>,
    load_core: Option<usize>,
    progress: Progress,
    /// Of a server that is not ours, before it has served us.
    resident_before: Option<u64>,
    /// The most that there were in a row.
    connections_most: usize,
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
            Subject::Own(server) => server.check_alive().err(),
            Subject::Other(_, Some(process)) => process.cpu_time().err(),
            Subject::Other(_, None) => None,
        };
        death.unwrap_or(error)
    }
}

impl Bench<'_> {
    fn new(
        arguments: &BenchArguments,
        target: Option<Place>,
        server_core: Option<usize>,
        load_core: Option<usize>,
    ) -> Result<Bench<'_>> {
        let process = arguments.pid.map(Process::new).transpose()?;
        Ok(Bench {
            arguments,
            target,
            process,
            server_core,
            load_core,
            progress: Progress::new(),
            resident_before: process.map(Process::anonymous_bytes).transpose()?,
            connections_most: 0,
        })
    }

    fn measure_all(&mut self, scenarios: &[Scenario], output: &Output<Report>) -> Result<()> {
        for (index, scenario) in scenarios.iter().enumerate() {
            let (connections, pipeline) = (grouped(scenario.connections as u64), scenario.pipeline);
            let what = format!(
                "[{}/{}] {connections} connections, pipeline {pipeline}",
                index + 1,
                scenarios.len()
            );
            self.measure(scenario, &what, output)?;
        }
        Ok(())
    }

    /// One row. Our own server is a new one: nothing is left over from the row before.
    fn measure(&mut self, scenario: &Scenario, what: &str, output: &Output<Report>) -> Result<()> {
        self.progress.say(&format!("{what}: starting"));
        let mut subject = self.subject(scenario.connections)?;
        // Here and not before, because a child inherits the core.
        if let Some(core) = self.load_core {
            pin(core)?;
        }
        let result = self.measure_subject(scenario, &subject, what);
        let (row, first_error) = result.map_err(|error| subject.explain(error))?;
        self.connections_most = self.connections_most.max(row.connections);
        output.add(|report| report.rows.push(row));
        if let Some(error) = first_error {
            return Err(subject.explain(Error::msg(error)));
        }
        match subject {
            Subject::Own(server) => server.end(),
            Subject::Other(..) => Ok(()),
        }
    }

    fn measure_subject(
        &self,
        scenario: &Scenario,
        subject: &Subject,
        what: &str,
    ) -> Result<(Row, Option<String>)> {
        let process = subject.process();
        let resident_before = match subject {
            _ if scenario.connections < CONNECTIONS_FOR_MEMORY => None,
            Subject::Own(_) => Some(self.resident_with_few(scenario)?),
            Subject::Other(..) => {
                self.resident_before.filter(|_| scenario.connections >= self.connections_most)
            }
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
        if let (Some(process), Some(cpu_before)) = (process, cpu_before) {
            let connections = scenario.connections;
            let figures =
                ServerFigures::new(process, &cpu_before, resident_before, connections, &outcome);
            // A server that has just died is told by its connections.
            row.server = figures.ok();
            if row.server.is_some_and(|server| server.cpu_nanos_per_message == 0.0) {
                bail!("the server answered without CPU time of process {}", process.pid());
            }
        }
        Ok((row, outcome.first_error))
    }

    fn load(&self, of: &Scenario, to: &Place, connections: usize) -> Result<Load> {
        Load::connect(to, connections, of.load_options(self.arguments.stall_timeout))
    }

    fn subject(&self, connections: usize) -> Result<Subject> {
        if let Some(place) = &self.target {
            return Ok(Subject::Other(place.clone(), self.process));
        }
        self.start_own(connections + CONNECTIONS_SPARE).map(|server| Subject::Own(Box::new(server)))
    }

    fn start_own(&self, connections_max: usize) -> Result<Server> {
        let start_timeout = self.arguments.stall_timeout;
        Contestant::own()?.start(connections_max, self.server_core, Vec::new(), start_timeout)
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
        cpu_before: &CpuTime,
        resident_before: Option<u64>,
        connections: usize,
        outcome: &Outcome,
    ) -> Result<ServerFigures> {
        let cpu = process.cpu_time()?.since(cpu_before);
        let resident = process.anonymous_bytes()?;
        let a_connection = |before| resident.saturating_sub(before) as f64 / connections as f64;
        Ok(ServerFigures {
            cpu_nanos_per_message: cpu.total.as_nanos() as f64 / outcome.messages.max(1) as f64,
            cpu_is_by_ticks: cpu.is_by_ticks,
            user_share: cpu.user_share,
            busy_share: cpu.total.as_secs_f64() / outcome.elapsed_total.as_secs_f64(),
            resident_bytes_per_connection: resident_before.map(a_connection),
            threads: process.thread_count()?,
        })
    }
}
