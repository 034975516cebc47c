//! What happened in a simulation: every entry goes into a hash, the last ones are kept.

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use crate::clock::Time;
use crate::key::Key;
use crate::readiness::Readiness;

/// One thing that happened: when, to whom, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When, in simulated time.
    pub at: Time,
    /// Who did it, or whom it happened to.
    pub who: Who,
    /// The number of the host. That of the clients is 0.
    pub host: u32,
    /// What happened: a system call, or something that the network did.
    pub what: &'static str,
    /// The number of the socket, if it is about one. Numbers are used again.
    pub socket: Option<u32>,
    /// The reactor's key of that socket, once it has one, or of what an event is about.
    pub key: Option<Key>,
    /// Who is at the other end of that socket.
    pub peer: Option<Who>,
    /// How much: bytes, a port, nanoseconds of a stall or of a clock's jump, or an event's readiness
    /// bits; else 0.
    pub value: u64,
    /// What it failed with, if it did: the name of the [`ErrorKind`], or `EMFILE`, which has none.
    pub error: Option<&'static str>,
    /// Stands for the bytes, where there are any,
    pub(crate) digest: u64,
    /// ... and these are the first of them.
    pub(crate) head: Head,
}

/// Somebody in a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Who {
    /// The so-many-th reactor of the simulation, from 0.
    Reactor(usize),
    /// The so-many-th scripted client of the simulation, from 0.
    Client(usize),
    /// A host, where it is nobody on it.
    Host(u32),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Reactor(number) => write!(f, "reactor {number}"),
            Who::Client(number) => write!(f, "client {number}"),
            Who::Host(number) => write!(f, "host {number}"),
        }
    }
}

/// The first bytes of what was read or written.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    bytes: [u8; Head::MAX],
    len: u8,
}

impl Head {
    const MAX: usize = 16;

    /// Adds those of a further part, as long as there is room.
    #[inline]
    pub(crate) fn push(&mut self, part: &[u8]) {
        let len = usize::from(self.len);
        let count = part.len().min(Head::MAX - len);
        self.bytes[len..len + count].copy_from_slice(&part[..count]);
        self.len += count as u8;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.as_nanos() / 1000;
        let who = self.who.to_string();
        write!(f, "{micros:>12} µs  {who:<11} {:<12} ", self.what)?;
        let thing = match (self.socket, self.key) {
            (Some(socket), _) => format!("socket {socket}"),
            (None, Some(key)) => format!("key {key}"),
            (None, None) => String::new(),
        };
        let value = self.value_text();
        // Nothing stands at the end of a line.
        if value.is_empty() { f.write_str(&thing) } else { write!(f, "{thing:<10} {value}") }
    }
}

impl Entry {
    fn value_text(&self) -> String {
        if let Some(error) = self.error {
            return error.to_string();
        }
        let value = self.value;
        match self.what {
            "event" | "spurious" => format!("{:?}", Readiness(value as u8)),
            "stall" | "clock jump" => format!("{:?}", Duration::from_nanos(value)),
            "listen" | "connect" => format!("port {value}"),
            "read" if value == 0 => "0, the end of file".to_string(),
            "read" | "write" => {
                let head = self.head.bytes();
                let more = if value > head.len() as u64 { "…" } else { "" };
                format!("{value:<6} \"{}{more}\"", head.escape_ascii())
            }
            _ if value == 0 => String::new(),
            _ => value.to_string(),
        }
    }
}

/// The name of an error that a simulated call may have. (Its number differs between releases of Rust.)
pub(crate) fn error_name(error: ErrorKind) -> &'static str {
    match error {
        ErrorKind::BrokenPipe => "BrokenPipe",
        ErrorKind::ConnectionAborted => "ConnectionAborted",
        ErrorKind::ConnectionRefused => "ConnectionRefused",
        ErrorKind::ConnectionReset => "ConnectionReset",
        ErrorKind::HostUnreachable => "HostUnreachable",
        ErrorKind::Interrupted => "Interrupted",
        ErrorKind::NetworkUnreachable => "NetworkUnreachable",
        ErrorKind::NotConnected => "NotConnected",
        ErrorKind::OutOfMemory => "OutOfMemory",
        ErrorKind::PermissionDenied => "PermissionDenied",
        ErrorKind::StorageFull => "StorageFull",
        ErrorKind::TimedOut => "TimedOut",
        ErrorKind::WouldBlock => "WouldBlock",
        _ => "another error",
    }
}

#[inline]
fn mixed(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// A number that stands for these bytes, behind those that `before` stands for.
pub(crate) fn digest(before: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let hash = words.iter().fold(before, |hash, word| mixed(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| mixed(hash, u64::from(*byte) + 1))
}

/// An [`Entry`] before anybody reads it: names are looked up then.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) at: Time,
    pub(crate) host: u32,
    pub(crate) what: &'static str,
    /// Whatever it is about, or `Key::NONE`.
    pub(crate) socket: Key,
    pub(crate) details: Details,
}

#[derive(Debug, Default)]
pub(crate) struct Details {
    pub(crate) value: u64,
    pub(crate) error: Option<&'static str>,
    pub(crate) digest: u64,
    pub(crate) head: Head,
    /// Of what an event is about.
    pub(crate) key: Option<Key>,
}

/// Whose a socket is, its key there, and the socket at its other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) who: Who,
    pub(crate) key: Option<Key>,
    pub(crate) peer: Option<Key>,
}

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    count: u64,
    kept: VecDeque<Record>,
    keep_max: usize,
    /// The names of sockets that are gone, of as many as what is kept may be about, with their other ends.
    gone: VecDeque<(Key, Named)>,
}

impl Trace {
    pub(crate) fn new(keep_max: usize) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
            kept: VecDeque::new(),
            keep_max,
            gone: VecDeque::new(),
        }
    }

    pub(crate) fn keep(&mut self, entries_max: usize) {
        self.keep_max = entries_max;
        self.kept.drain(..self.kept.len().saturating_sub(entries_max));
        self.gone.drain(..self.gone.len().saturating_sub(entries_max.saturating_mul(2)));
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, record: Record) {
        let details = &record.details;
        let mut hash = self.hash;
        let socket = match record.socket {
            Key::NONE => u64::MAX,
            socket => socket.index() as u64,
        };
        let (at, host) = (record.at.as_nanos(), u64::from(record.host));
        for word in [at, host, socket, details.value, details.digest] {
            hash = mixed(hash, word);
        }
        hash = digest(hash, record.what.as_bytes());
        if let Some(key) = details.key {
            hash = mixed(hash, key.to_bits());
        }
        if let Some(error) = details.error {
            hash = digest(hash, error.as_bytes());
        }
        self.hash = hash;
        self.count += 1;
        if self.keep_max == 0 {
            return;
        }
        if self.kept.len() >= self.keep_max {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }

    /// A socket is gone, and nobody but this remembers whose it was.
    pub(crate) fn remember(&mut self, socket: Key, named: Named) {
        if self.gone.len() >= self.keep_max.saturating_mul(2) {
            self.gone.pop_front();
        }
        if self.keep_max > 0 {
            self.gone.push_back((socket, named));
        }
    }

    pub(crate) fn gone(&self) -> impl Iterator<Item = (Key, Named)> {
        self.gone.iter().copied()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.kept.iter()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(what: &'static str, details: Details) -> u64 {
        let mut trace = Trace::new(0);
        let (at, socket) = (Time::from_nanos(0), Key::NONE);
        trace.add(Record { at, host: 0, what, socket, details });
        trace.hash()
    }

    #[test]
    fn each_name_has_a_hash_of_its_own() {
        let pairs = [("close", "crash"), ("spurious", "shutdown"), ("receive", "refused")];
        for (one, other) in pairs {
            assert_ne!(hash(one, Details::default()), hash(other, Details::default()), "{one}");
        }
    }

    #[test]
    fn events_of_different_keys_have_different_hashes() {
        let of = |index| Details { key: Some(Key::new(index, 1)), ..Details::default() };
        assert_ne!(hash("event", of(0)), hash("event", of(1)));
    }
}
