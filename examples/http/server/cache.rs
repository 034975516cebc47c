//! Small files in memory.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;
use oneloop::Time;

use super::meta::Meta;

/// A file that is larger is not kept.
pub(super) const FILE_BYTES_MAX: u64 = 128 * 1024;
/// What all files that are kept take up, about.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one takes up beside its bytes, about.
const ENTRY_BYTES: usize = 1024;
/// After this time a file is looked at again.
const FRESH: Duration = Duration::from_secs(1);

/// A file in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) meta: Meta,
    pub(super) bytes: Rc<[u8]>,
    /// When the last look at the file was asked for.
    pub(super) checked: Cell<Time>,
}

impl Entry {
    /// Whether it may be sent without a look at the file.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        self.checked.get() + FRESH > now
    }

    fn memory_bytes(&self, path: &str) -> usize {
        ENTRY_BYTES + path.len() + self.bytes.len()
    }
}

/// The files that were asked for last, by their paths.
#[derive(Debug)]
pub(super) struct Cache {
    entries: LruCache<String, Rc<Entry>>,
    memory_bytes: usize,
}

impl Cache {
    pub(super) fn new() -> Cache {
        Cache { entries: LruCache::unbounded(), memory_bytes: 0 }
    }

    pub(super) fn get(&mut self, path: &str) -> Option<Rc<Entry>> {
        self.entries.get(path).cloned()
    }

    /// Keeps a file, unless it was looked at before the one that is kept by this path.
    pub(super) fn insert(&mut self, path: String, entry: Rc<Entry>) {
        let is_newer = |kept: &Rc<Entry>| kept.checked > entry.checked;
        if self.entries.peek(&path).is_some_and(is_newer) {
            return;
        }
        self.remove(&path);
        self.memory_bytes += entry.memory_bytes(&path);
        self.entries.put(path, entry);
        while self.memory_bytes > BYTES_MAX
            && let Some((path, entry)) = self.entries.pop_lru()
        {
            self.memory_bytes -= entry.memory_bytes(&path);
        }
    }

    pub(super) fn remove(&mut self, path: &str) {
        let removed = self.entries.pop(path);
        self.memory_bytes -= removed.map_or(0, |entry| entry.memory_bytes(path));
    }
}
