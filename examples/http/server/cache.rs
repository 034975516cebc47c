//! Small files in memory.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

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
    checked: Cell<Time>,
    is_used: Cell<bool>,
}

impl Entry {
    pub(super) fn new(meta: Meta, bytes: Vec<u8>, now: Time) -> Entry {
        Entry { meta, bytes: bytes.into(), checked: Cell::new(now), is_used: Cell::new(true) }
    }

    /// Whether it may be answered with.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        self.checked.get() + FRESH > now
    }

    /// Somebody looks at the file now, and waits for that; others need not.
    pub(super) fn note_check(&self, now: Time) {
        self.checked.set(now);
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.bytes.len()
    }
}

/// The files that were asked for last. (The order of the map is never seen.)
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Rc<str>, Rc<Entry>>,
    /// All keys, in the order in which they are looked at when room is needed: who was used since the last time gets
    /// another round.
    order: VecDeque<Rc<str>>,
    bytes: usize,
}

impl Cache {
    pub(super) fn get(&self, path: &str) -> Option<Rc<Entry>> {
        let entry = self.entries.get(path)?;
        entry.is_used.set(true);
        Some(Rc::clone(entry))
    }

    pub(super) fn insert(&mut self, path: &str, entry: Rc<Entry>) {
        self.remove(path);
        self.bytes += entry.bytes();
        let key: Rc<str> = path.into();
        self.order.push_back(Rc::clone(&key));
        self.entries.insert(key, entry);
        while self.bytes > BYTES_MAX
            && let Some(key) = self.order.pop_front()
        {
            match self.entries.get(&key) {
                Some(entry) if entry.is_used.replace(false) => self.order.push_back(key),
                _ => _ = self.drop_entry(&key),
            }
        }
    }

    pub(super) fn remove(&mut self, path: &str) {
        if self.drop_entry(path) {
            self.order.retain(|key| **key != *path);
        }
    }

    fn drop_entry(&mut self, path: &str) -> bool {
        let entry = self.entries.remove(path);
        self.bytes -= entry.as_ref().map_or(0, |entry| entry.bytes());
        entry.is_some()
    }
}
