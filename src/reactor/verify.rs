//! The invariants of a whole reactor, checked after the turns of a debug build.

use std::collections::HashSet;

use crate::clock::Time;
use crate::core::Source;
use crate::driver::Driver;
use crate::key::Key;
use crate::reactor::Reactor;
use crate::stream::{Stream, flag::*};

impl<D: Driver> Reactor<D> {
    /// After every turn of a debug build, while the reactor is small; else now and then, because a walk
    /// over ten thousand connections after each turn would be most of what is done.
    #[inline]
    pub(super) fn verify_in_debug(&self) {
        let is_due = self.core.sources.len() <= 64 || self.core.stats.turns.is_multiple_of(64);
        if cfg!(debug_assertions) && is_due {
            self.verify();
        }
    }

    /// Walks over everything that the reactor owns and checks that it fits together: for tests, and
    /// for who suspects a bug in the loop.
    ///
    /// # Panics
    ///
    /// If an invariant does not hold.
    pub fn verify(&self) {
        let core = &self.core;
        assert_eq!(core.running, Key::NONE, "no run outlives its phase");
        assert!(core.scratch.is_empty(), "every run writes what it sent");
        let set = |list: &[Key]| {
            let set: HashSet<Key> = list.iter().copied().collect();
            assert_eq!(set.len(), list.len(), "a work list holds a source once");
            set
        };
        let (ready, accept, flush) = (set(&core.ready), set(&core.accept), set(&core.flush));
        let reap: Vec<Key> = core.reap.iter().copied().collect();
        let (poked, reap) = (set(&core.poked), set(&reap));
        let (mut connections, mut memory) = (0, 0);
        let (mut attempts, mut forwards, mut fed) = (0, 0, 0);
        let (mut datagram_sockets, mut waiting) = (0, 0);
        let mut candidates = 0;
        for (key, source) in core.sources.iter() {
            match source {
                Source::Stream(stream) => {
                    connections += 1;
                    memory += stream.memory();
                    forwards += usize::from(stream.has(FORWARDS));
                    fed += usize::from(stream.has(FED));
                    if stream.has(CONNECTING) {
                        attempts += 1;
                        let number = stream.need as usize;
                        assert!(core.attempts.contains(number), "{key}: connects to nowhere");
                    }
                    for (list, bit) in
                        [(&ready, QUEUED), (&flush, FLUSHING), (&poked, POKED), (&reap, DEAD)]
                    {
                        let is_listed = list.contains(&key);
                        assert_eq!(is_listed, stream.has(bit), "{key}: list and flag: {stream:?}");
                    }
                    stream.verify(key, core.now);
                }
                Source::Listener(listener) => {
                    assert_eq!(accept.contains(&key), listener.queued, "{key}");
                    assert_eq!(reap.contains(&key), listener.dead, "{key}");
                }
                Source::Raw(raw) => {
                    assert_eq!(ready.contains(&key), raw.queued, "{key}");
                    assert_eq!(reap.contains(&key), raw.reason.is_some(), "{key}");
                }
                Source::Datagram(state) => {
                    datagram_sockets += 1;
                    waiting += state.waiting_bytes();
                    memory += state.waiting_bytes();
                    assert_eq!(ready.contains(&key), state.queued, "{key}");
                    assert_eq!(flush.contains(&key), state.is_flushing(), "{key}");
                    assert_eq!(reap.contains(&key), state.reason.is_some(), "{key}");
                    state.verify(key);
                }
                Source::Candidate(candidate) => {
                    candidates += usize::from(!candidate.dead);
                    assert_eq!(ready.contains(&key), candidate.queued, "{key}");
                    assert_eq!(reap.contains(&key), candidate.dead, "{key}");
                    let is_known = candidate.dead || core.is_raced(key, candidate);
                    assert!(is_known, "{key}: connects for nobody: {candidate:?}");
                }
            }
        }
        assert_eq!(connections, core.stats.connections, "connections are counted");
        assert_eq!((forwards, fed), core.forwards.counts(), "who forwards is known");
        assert_eq!(attempts, core.attempts.len(), "an attempt is over when its connection is open");
        assert_eq!(candidates, core.candidates(), "who runs in a race is there");
        assert_eq!(datagram_sockets, core.stats.datagram_sockets, "datagram sockets are counted");
        assert_eq!(waiting, core.stats.datagram_bytes_waiting, "datagrams that wait are counted");
        assert_eq!(memory, core.stats.memory_bytes, "memory is accounted for");
        assert!(memory <= core.limits.memory_bytes_max, "more memory than the limit");
    }

    /// What holds of these sources by themselves; those that are gone have nothing to hold.
    #[cfg(feature = "sim")]
    pub(crate) fn verify_some(&self, keys: &[Key]) {
        for key in keys {
            if let Some(stream) = self.core.stream(*key) {
                stream.verify(*key, self.core.now);
            }
        }
        assert!(
            self.core.stats.memory_bytes <= self.core.limits.memory_bytes_max,
            "more memory than the limit"
        );
    }
}

impl Stream {
    /// What holds of a connection by itself, between turns.
    fn verify(&self, key: Key, now: Time) {
        assert!(
            !self.has_work() || self.has(QUEUED | FLUSHING),
            "{key}: work that nobody will do: {self:?}"
        );
        assert_eq!(self.has(HAS_OUTPUT), self.output_len() > 0, "{key}");
        assert_eq!(self.has(HAS_INPUT), self.input_len() > 0, "{key}");
        assert!(
            self.buffers.as_ref().is_none_or(|buffers| !buffers.is_empty()),
            "{key}: an idle connection owns no buffer"
        );
        assert!(
            self.has(DEAD | PAUSED | OVER_HIGH | SHOW | EOF_SHOWN) || !self.is_full(),
            "{key}: no room for input, and what is kept is not to be shown"
        );
        assert!(
            self.has(WRITABLE | QUEUED | FLUSHING | DEAD | CONNECTING)
                || self.output_len_in_memory() <= self.limits.output_bytes_max
                    && self.output_files() <= self.limits.output_files_max,
            "{key}: more output than its limits"
        );
        assert!(
            self.alarm.at() <= self.earliest_deadline().0.max(now)
                || self.has(QUEUED | FLUSHING | REARM),
            "{key}: a deadline that nothing waits for: {self:?}"
        );
        assert!(!self.has(CLOSING) || self.reason.is_some(), "{key}");
        assert!(!self.has(DRAINING) || !self.has(FORWARDS | FED), "{key}: its peers end it");
        assert!(
            !self.has(CLOSING)
                || self.has(DEAD | QUEUED | FLUSHING)
                || self.alarm.is_linked()
                || self.phase_deadline == Time::NEVER,
            "{key}: closes with no end in sight: {self:?}"
        );
    }
}
