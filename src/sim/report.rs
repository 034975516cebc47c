//! What a person is told of a run that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::{env, thread};

use super::decisions::{Decision, listed};
use super::faults::Faults;
use super::trace::{Entry, Who};
use super::world::Simulation;
use crate::key::Key;

/// More decisions than these tell a reader nothing.
const DECISIONS_MAX: usize = 12;

/// Which of these faults did something, and which ones that the test had set itself.
pub(super) fn faults(faults: &Faults, felt: &BTreeSet<Decision>) -> String {
    let names: BTreeSet<&str> = felt.iter().filter_map(|decision| decision.fault()).collect();
    let acting = faults.only(|name| names.contains(name));
    let acting_names = acting.names();
    let others: Vec<&str> = names.into_iter().filter(|name| !acting_names.contains(name)).collect();
    let others = match (others.len(), acting_names.len()) {
        (0, 0) => return "faults that acted: none\n".to_string(),
        (0, _) => String::new(),
        (_, 0) => return format!("faults that acted: {}, of the test\n", others.join(", ")),
        _ => format!(", and of the test: {}", others.join(", ")),
    };
    format!("faults that acted: {acting:?}{others}\n")
}

pub(super) fn decisions(taken: u64, felt: &BTreeSet<Decision>) -> String {
    let harmful = match felt.len() {
        0 => String::new(),
        1..=DECISIONS_MAX => format!(" but {}", listed(felt)),
        count => format!(" but {count}"),
    };
    format!("decisions: {taken}, all harmless{harmful}\n")
}

/// The last things that happened, and who is who in them.
pub(super) fn trace(sim: &Simulation, lines_max: usize) -> String {
    let entries = sim.trace();
    let shown = &entries[entries.len().saturating_sub(lines_max)..];
    if shown.is_empty() {
        return String::new();
    }
    let mut text = who_is_who(sim, &entries, shown);
    let _ = writeln!(text, "the last {} of {} things that happened:", shown.len(), sim.trace_len());
    for entry in shown {
        let _ = writeln!(text, "  {entry}");
    }
    text
}

/// What is known of a socket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Name {
    pub(super) who: Who,
    pub(super) key: Option<Key>,
    pub(super) peer: Option<Who>,
}

impl Name {
    /// Both together, unless they are names of different sockets, whose number is the same.
    fn with(self, other: Name) -> Option<Name> {
        let is_one = self.who == other.who
            && (self.key == other.key || self.key.is_none() || other.key.is_none())
            && (self.peer == other.peer || self.peer.is_none() || other.peer.is_none());
        let (key, peer) = (self.key.or(other.key), self.peer.or(other.peer));
        is_one.then_some(Name { who: self.who, key, peer })
    }
}

/// Of the sockets and hosts that are shown: decisions are named by their numbers, the loop's own log
/// lines by keys.
fn who_is_who(sim: &Simulation, entries: &[Entry], shown: &[Entry]) -> String {
    let mut sockets: BTreeMap<u32, Vec<Name>> = BTreeMap::new();
    let known = entries.iter().filter_map(|entry| {
        let Entry { who, key, peer, .. } = *entry;
        Some((entry.socket?, entry.host, Name { who, key, peer }))
    });
    let mut hosts = BTreeMap::new();
    for (socket, host, name) in known.chain(sim.sockets()) {
        let is_shown = shown.iter().any(|entry| {
            entry.socket == Some(socket)
                || entry.socket.is_none()
                    && entry.key.is_some()
                    && entry.key == name.key
                    && entry.host == host
        });
        if !is_shown {
            continue;
        }
        let names = sockets.entry(socket).or_default();
        match names.last_mut().and_then(|last| Some((last.with(name)?, last))) {
            Some((both, last)) => *last = both,
            None => names.push(name),
        }
    }
    for entry in shown {
        let who = match entry.who {
            Who::Client(index) => match hosts.remove(&entry.host) {
                None => Who::Client(index).to_string(),
                Some(same) if same == Who::Client(index).to_string() => same,
                Some(_) => "the clients".to_string(),
            },
            who @ Who::Reactor(_) => who.to_string(),
            Who::Host(_) => continue,
        };
        hosts.insert(entry.host, who);
    }
    let mut text = "who is who:\n".to_string();
    for (host, who) in hosts {
        let _ = writeln!(text, "  host {host:<6} {who}");
    }
    for (socket, names) in sockets {
        let names = names.iter().map(|Name { who, key, peer }| {
            let key = key.map_or(String::new(), |key| format!(", key {key}"));
            let peer = peer.map_or(String::new(), |peer| format!(", connected with {peer}"));
            format!("{who}{key}{peer}")
        });
        let names = names.collect::<Vec<_>>().join("; then ");
        let _ = writeln!(text, "  socket {socket:<4} {names}");
    }
    text
}

/// The command that runs a test again; `name` is what it is called if nobody knows better.
pub(super) fn command(variables: &str, name: &str) -> String {
    // A test's thread has its name. (With one thread only it is the main one.)
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main");
    let is_called_otherwise =
        test.is_some_and(|test| test != name && !test.ends_with(&format!("::{name}")));
    let (test, exact) = test.map_or((name, ""), |test| (test, "--exact "));
    // Cargo tells whose test this is; only our own tests have the feature to choose.
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_ours =
        env::var_os("CARGO_MANIFEST_DIR").is_some_and(|dir| Path::new(&dir).starts_with(ours));
    let package = match env::var("CARGO_PKG_NAME") {
        _ if is_ours => " -p oneloop --features sim".to_string(),
        Ok(package) => format!(" -p {package}"),
        Err(_) => String::new(),
    };
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    let features = if is_ours { "" } else { ", with the features that it was run with" };
    let mut text = format!(
        "run it again{features}:\n  {variables} cargo test{package}{release} {test} -- \
         {exact}--include-ignored"
    );
    if is_called_otherwise && !name.is_empty() {
        let _ = write!(text, "\n(the test is {test}, and its check is called {name})");
    }
    text
}
