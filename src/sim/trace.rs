//! What happened in a simulation: every entry goes into a hash, the last ones are kept.

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;

use crate::clock::Time;
use crate::readiness::Readiness;

/// One thing that happened: when, on which host, and what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When, in simulated time.
    pub at: Time,
    /// The number of the host.
    pub host: u32,
    /// What happened: a system call, or something that the network did.
    pub what: &'static str,
    /// The number of the socket, if it is about one; of an event, the index of the reactor's key.
    pub socket: Option<u32>,
    /// How much: bytes, a port, nanoseconds of a clock's jump, or an event's readiness bits; else 0.
    pub value: u64,
    /// What it failed with, if it did: the name of the [`ErrorKind`], or `EMFILE`, which has none.
    pub error: Option<&'static str>,
    /// Stands for the bytes, where there are any.
    pub(crate) digest: u64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.as_nanos() / 1000;
        write!(f, "{micros:>12} µs  host {}  {:<10}", self.host, self.what)?;
        let thing = if self.what == "event" { "key" } else { "socket" };
        match self.socket {
            Some(socket) => write!(f, " {thing:<6} {socket:<4} ")?,
            None => write!(f, " {:<11} ", "")?,
        }
        match self.error {
            Some(error) => f.write_str(error),
            None if self.what == "event" => write!(f, "{:?}", Readiness(self.value as u8)),
            None => write!(f, "{}", self.value),
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
        ErrorKind::NetworkUnreachable => "NetworkUnreachable",
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

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    count: u64,
    kept: VecDeque<Entry>,
    keep_max: usize,
}

impl Trace {
    pub(crate) fn new(keep_max: usize) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, count: 0, kept: VecDeque::new(), keep_max }
    }

    pub(crate) fn keep(&mut self, entries_max: usize) {
        self.keep_max = entries_max;
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, entry: Entry) {
        let mut hash = self.hash;
        let name = entry.what.len() as u64 | u64::from(entry.what.as_bytes()[0]) << 8;
        let socket = entry.socket.map_or(u64::MAX, u64::from);
        let place = u64::from(entry.host) << 32 | name;
        for word in [entry.at.as_nanos(), place, socket, entry.value, entry.digest] {
            hash = mixed(hash, word);
        }
        if let Some(error) = entry.error {
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
        self.kept.push_back(entry);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.kept.iter()
    }
}
