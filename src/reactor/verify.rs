//! The invariants of a whole reactor, checked after the turns of a debug build.

use crate::driver::Driver;
use crate::reactor::Reactor;

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
        use crate::core::Source;
        use crate::key::Key;
        use crate::stream::flag::*;
        use crate::timer::TimerId;
        use std::collections::HashSet;

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
        let (mail, reap) = (set(&core.mail), set(&reap));
        let (mut connections, mut memory) = (0, 0);
        for (key, source) in core.sources.iter() {
            match source {
                Source::Stream(stream) => {
                    connections += 1;
                    memory += stream.memory();
                    for (list, bit) in
                        [(&ready, QUEUED), (&flush, FLUSHING), (&mail, POKED), (&reap, DEAD)]
                    {
                        assert_eq!(list.contains(&key), stream.has(bit), "{key}: {stream:?}");
                    }
                    assert!(
                        !stream.has_work() || stream.has(QUEUED | FLUSHING),
                        "{key}: work that nobody will do: {stream:?}"
                    );
                    let buffers = stream.buffers.as_ref();
                    assert_eq!(stream.has(HAS_OUTPUT), stream.output_len() > 0, "{key}");
                    assert_eq!(
                        stream.has(HAS_INPUT),
                        buffers.is_some_and(|buffers| buffers.input_len() > 0),
                        "{key}"
                    );
                    assert!(
                        buffers.is_none_or(|buffers| !buffers.is_empty()),
                        "{key}: an idle connection owns no buffer"
                    );
                    assert!(
                        stream.has(DEAD)
                            || buffers
                                .is_none_or(|b| b.input_len() <= stream.limits.input_bytes_max),
                        "{key}: more input than its limit"
                    );
                    assert!(
                        stream.has(WRITABLE | QUEUED | FLUSHING | DEAD | CONNECTING)
                            || stream.output_len() <= stream.limits.output_bytes_max,
                        "{key}: more output than its limit"
                    );
                    assert!(!stream.has(CLOSING) || stream.reason.is_some(), "{key}");
                    assert!(
                        !stream.has(CLOSING)
                            || stream.has(DEAD | QUEUED | FLUSHING)
                            || stream.deadline != TimerId::NONE,
                        "{key}: closes with no end in sight: {stream:?}"
                    );
                }
                Source::Listener(listener) => {
                    assert_eq!(accept.contains(&key), listener.queued, "{key}");
                    assert_eq!(reap.contains(&key), listener.dead, "{key}");
                }
                Source::Raw(raw) => {
                    assert_eq!(ready.contains(&key), raw.queued, "{key}");
                    assert_eq!(reap.contains(&key), raw.reason.is_some(), "{key}");
                }
            }
        }
        assert_eq!(connections, core.stats.connections);
        assert_eq!(memory, core.stats.memory_bytes);
        assert!(memory <= core.limits.memory_bytes_max, "more memory than the limit");
    }
}
