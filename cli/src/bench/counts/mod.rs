//! What can be counted instead of timed: figures that do not depend on how busy the machine is.
//!
//! Each figure a message (or a connection) is the difference between a run with N of them and one with
//! 3 N, divided by 2 N: starting, connecting and ending cancel.
//!
//! How often a server polls depends on how many connections it finds ready, and so on who runs when.
//! Here the clients run on the server's core, and the server as a batch process (sched(7)), which does
//! not interrupt them: a poll finds the whole round that was sent, as under a full load, and a client
//! that closes is followed by the next one in the same poll. That makes the figures repeat to the last
//! digit, and no server gets its polls cheaper than another.

mod client;
mod tools;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::contestant::Contestant;
use super::cores::pin;
use super::resources::Needs;
use super::server::Server;
use crate::address::Place;
use tools::{Calls, Report};

const SIZE: usize = 64;
/// For counting copies: so large that no compiler copies it without calling memcpy.
const LARGE_SIZE: usize = 4096;
const CONNECTIONS: usize = 64;
/// Of the runs that count the memory of idle ones; in others servers are limited to as many.
const CONNECTIONS_MAX: usize = 10_000;
/// Messages in one write, of the runs that count system calls a message.
pub(crate) const PIPELINES: [usize; 2] = [1, 16];
/// N of the runs under valgrind: 200 rounds over all connections.
const MESSAGES_VALGRIND: usize = 12_800;
/// N of the runs under strace.
const MESSAGES_STRACE: usize = 16_384;
const CLIENTS_STRACE: usize = 500;
/// Connections of the run that those with 10,000 are compared with.
const CONNECTIONS_FEW: usize = 16;
const TRAFFIC_BYTES: usize = 16 * 1024;
const IDLE: Duration = Duration::from_secs(5);
/// A server under valgrind is slow, one that hangs is endless: it is given so long, or longer if that is asked for.
const PATIENCE_MIN: Duration = Duration::from_secs(60);

pub(crate) const NEEDS: Needs = Needs {
    connections: CONNECTIONS_MAX,
    servers: 1,
    in_flight_bytes: CONNECTIONS * TRAFFIC_BYTES,
    follows_flags: false,
    takes_ports: true,
    starts_servers: true,
};

/// Calls for one message or one connection, by name.
pub(crate) type Share = BTreeMap<String, f64>;

/// What was counted of one server. `None` is for a tool that is not installed, and for what was not asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) name: String,
    /// User instructions a message, of two measurements: they should agree.
    pub(crate) instructions: Option<[f64; 2]>,
    /// Bytes copied in user space for each byte that is echoed.
    pub(crate) copies: Option<f64>,
    /// System calls a message, by pipeline.
    pub(crate) calls_message: BTreeMap<usize, Share>,
    /// System calls to accept a connection, echo one message and close.
    pub(crate) calls_connection: Option<Share>,
    /// Resident bytes, pages of files aside, of an idle connection that never did anything.
    pub(crate) resident_fresh: Option<f64>,
    /// The same after 16 KiB were echoed on it.
    pub(crate) resident_used: Option<f64>,
    /// CPU time with 10,000 idle connections, over `IDLE`.
    pub(crate) idle_cpu_nanos: Option<u64>,
}

/// Which tools there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    pub(crate) strace: bool,
    pub(crate) valgrind: bool,
}

impl Tools {
    pub(crate) fn installed() -> Tools {
        Tools { strace: tools::is_installed("strace"), valgrind: tools::is_installed("valgrind") }
    }

    /// What to say about those that are not there.
    pub(crate) fn missing(self) -> Vec<&'static str> {
        let mut lines = Vec::new();
        if !self.valgrind {
            lines.push("valgrind is not installed: instructions and copies are not counted");
        }
        if !self.strace {
            lines.push("strace is not installed: system calls are not counted");
        }
        lines
    }
}

/// # Errors
///
/// There is no client that could count what such a server does.
pub(crate) fn check(place: &Place) -> Result<()> {
    ensure!(client::is_counted(place), "what a server on {place} does is not counted: --no-counts");
    Ok(())
}

/// What to count of every server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    Nothing,
    /// System calls a message.
    Calls,
    Everything,
}

/// Counts what is asked for of one server, as far as there are the tools, telling `progress` what comes next.
///
/// # Errors
///
/// The server does not start, answers wrongly, or a tool fails.
pub(crate) fn count(
    contestant: &Contestant,
    counted: Counted,
    core: Option<usize>,
    tools: Tools,
    stall_timeout: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<Counts> {
    let bench = Bench { contestant, core, patience: stall_timeout.max(PATIENCE_MIN) };
    if let Some(core) = core {
        pin(core)?;
    }
    let has_all = counted == Counted::Everything;
    let mut counts = Counts { name: contestant.name.clone(), ..Counts::default() };
    if has_all && tools.valgrind {
        progress("instructions");
        counts.instructions = Some([bench.instructions()?, bench.instructions()?]);
        progress("copies");
        counts.copies = Some(bench.copies()?);
    }
    if tools.strace {
        progress("system calls a message");
        for pipeline in PIPELINES {
            counts.calls_message.insert(pipeline, bench.calls_a_message(pipeline)?);
        }
    }
    if !has_all {
        return Ok(counts);
    }
    if tools.strace {
        progress("system calls a connection");
        counts.calls_connection = Some(bench.calls_a_connection()?);
    }
    progress("10,000 idle connections");
    let (few_fresh, few_used, _) = bench.resident(CONNECTIONS_FEW, false)?;
    let (many_fresh, many_used, idle) = bench.resident(CONNECTIONS_MAX, true)?;
    let a_connection = |many: u64, few: u64| (many as f64 - few as f64) / CONNECTIONS_MAX as f64;
    counts.resident_fresh = Some(a_connection(many_fresh, few_fresh));
    counts.resident_used = Some(a_connection(many_used, few_used));
    counts.idle_cpu_nanos = Some(u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX));
    Ok(counts)
}

struct Bench<'a> {
    contestant: &'a Contestant,
    core: Option<usize>,
    /// How long the server may take to start, and to answer.
    patience: Duration,
}

impl Bench<'_> {
    /// Runs the server under a tool, lets `load` use it, and gives what the tool wrote.
    fn under(
        &self,
        tool: Vec<String>,
        report: &Report,
        load: &dyn Fn(&Server) -> Result<()>,
    ) -> Result<String> {
        let server = self.contestant.start(CONNECTIONS_MAX, self.core, tool, self.patience)?;
        load(&server)?;
        settle();
        server.end()?;
        report.read()
    }

    fn instructions(&self) -> Result<f64> {
        let total = |messages| {
            let report = Report::new("callgrind")?;
            let profile = self.under(report.callgrind(), &report, &|server| {
                self.echo(server, SIZE, 1, messages)
            })?;
            tools::parse_callgrind(&profile)
        };
        let (few, many) = (total(MESSAGES_VALGRIND)?, total(3 * MESSAGES_VALGRIND)?);
        Ok(per_item(few, many, MESSAGES_VALGRIND))
    }

    fn copies(&self) -> Result<f64> {
        let total = |messages| {
            let report = Report::new("dhat")?;
            let log = self.under(report.copies(), &report, &|server| {
                self.echo(server, LARGE_SIZE, 1, messages)
            })?;
            tools::parse_copies(&log)
        };
        let messages = MESSAGES_VALGRIND / 4;
        let (few, many) = (total(messages)?, total(3 * messages)?);
        Ok(per_item(few, many, messages) / LARGE_SIZE as f64)
    }

    fn calls_a_message(&self, pipeline: usize) -> Result<Share> {
        self.calls(MESSAGES_STRACE, &|server, messages| self.echo(server, SIZE, pipeline, messages))
    }

    fn calls_a_connection(&self) -> Result<Share> {
        self.calls(CLIENTS_STRACE, &|server, clients| {
            client::connect_echo_close(server.place(), clients, SIZE, self.patience)
        })
    }

    fn calls(&self, items: usize, load: &dyn Fn(&Server, usize) -> Result<()>) -> Result<Share> {
        let total = |items| -> Result<Calls> {
            let report = Report::new("strace")?;
            let summary = self.under(report.strace()?, &report, &|server| load(server, items))?;
            tools::parse_strace(&summary)
        };
        let (few, many) = (total(items)?, total(3 * items)?);
        let mut share = Share::new();
        for (name, &count) in &many {
            let calls = per_item(few.get(name).copied().unwrap_or(0), count, items);
            if calls >= 0.0005 {
                share.insert(name.clone(), calls);
            }
        }
        Ok(share)
    }

    /// Resident bytes with so many idle connections, fresh and after traffic, and the CPU time that
    /// they cost while idle.
    fn resident(&self, connections: usize, idle: bool) -> Result<(u64, u64, Duration)> {
        let server = self.contestant.start(connections, self.core, Vec::new(), self.patience)?;
        let process = server.process();
        let mut clients = client::connect_many(server.place(), connections, self.patience)?;
        // The last one is served, so all are accepted.
        client::echo(&mut clients[connections - 1..], 1, 1, 1)?;
        settle();
        let before = process.cpu_time()?;
        let fresh = process.anonymous_bytes()?;
        if idle {
            thread::sleep(IDLE);
        }
        let spent = process.cpu_time()?.since(&before).total;
        for clients in clients.chunks_mut(CONNECTIONS) {
            client::echo(clients, TRAFFIC_BYTES, 1, clients.len())?;
        }
        settle();
        let used = process.anonymous_bytes()?;
        server.end()?;
        Ok((fresh, used, spent))
    }

    fn echo(&self, server: &Server, size: usize, pipeline: usize, messages: usize) -> Result<()> {
        let mut clients = client::connect_many(server.place(), CONNECTIONS, self.patience)?;
        client::echo(&mut clients, size, pipeline, messages)
    }
}

/// Lets the server finish what nobody waits for: the answer arrives before it sleeps again.
fn settle() {
    thread::sleep(Duration::from_millis(100));
}

fn per_item(few: u64, many: u64, items: usize) -> f64 {
    (many as f64 - few as f64) / (2 * items) as f64
}

/// The calls that receive, those that send, and all others.
pub(crate) fn grouped(share: &Share) -> [f64; 3] {
    let mut groups = [0.0; 3];
    for (name, calls) in share {
        groups[match name.as_str() {
            "recvfrom" | "recvmsg" | "recvmmsg" | "read" | "readv" => 0,
            "sendto" | "sendmsg" | "sendmmsg" | "write" | "writev" => 1,
            _ => 2,
        }] += calls;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_cancels() {
        assert_eq!(per_item(1_000 + 64 * 5, 1_000 + 3 * 64 * 5, 64), 5.0);
    }

    #[test]
    fn calls_are_grouped_by_what_they_do() {
        let share = [("recvfrom", 1.0), ("writev", 0.5), ("sendto", 0.5), ("epoll_wait", 0.1)];
        let share = share.map(|(name, calls)| (name.to_string(), calls)).into();
        assert_eq!(grouped(&share), [1.0, 1.0, 0.1]);
    }
}
