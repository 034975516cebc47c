//! What happened in a simulation: every entry goes into a hash, the last ones are kept.

use std::collections::VecDeque;
use std::fmt;

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
    /// The number of the socket.
    pub socket: u64,
    /// How much: bytes, readiness bits, or an error's number.
    pub value: u64,
    /// Stands for the bytes, where there are any.
    digest: u64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.as_nanos() / 1000;
        write!(f, "{micros:>12} µs  host {}  {:<14}", self.host, self.what)?;
        match self.what {
            "event" => {
                let readiness = Readiness(self.value as u8);
                write!(f, " key    {:<4} {readiness:?}", self.socket)
            }
            _ => write!(f, " socket {:<4} {}", self.socket, self.value),
        }
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

    #[inline]
    pub(crate) fn add(&mut self, at: Time, host: u32, what: &'static str, socket: u64, value: u64) {
        self.add_bytes(at, host, what, socket, value, 0);
    }

    /// The same about bytes, for which a [`digest`] stands.
    #[inline]
    pub(crate) fn add_bytes(
        &mut self,
        at: Time,
        host: u32,
        what: &'static str,
        socket: u64,
        value: u64,
        digest: u64,
    ) {
        let mut hash = self.hash;
        let name = what.len() as u64 | u64::from(what.as_bytes()[0]) << 8;
        for word in [at.as_nanos(), u64::from(host) << 32 | name, socket, value, digest] {
            hash = mixed(hash, word);
        }
        self.hash = hash;
        self.count += 1;
        if self.keep_max == 0 {
            return;
        }
        if self.kept.len() >= self.keep_max {
            self.kept.pop_front();
        }
        self.kept.push_back(Entry { at, host, what, socket, value, digest });
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
