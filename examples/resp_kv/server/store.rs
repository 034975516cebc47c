//! What the server keeps: numbered databases of keys with values, some of which expire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ahash::RandomState;
use indexmap::IndexMap;

use super::journal::Journal;
use super::keys::Keys;
use super::values::{Bytes, Value};

pub const DATABASES: usize = 16;
/// So many steps of matching a pattern count as one unit of [`work`](Store::work), and so many bytes of what is sent.
pub const STEPS_PER_WORK: usize = 16;
pub const BYTES_PER_WORK: usize = 64;
/// The deadline of a key that does not expire.
pub const NEVER: u64 = u64::MAX;

/// A value with its deadline: milliseconds of the calendar's time since 1970.
pub struct Object {
    pub value: Value,
    pub expires: u64,
}

/// All that is kept, and what was changed.
#[derive(Default)]
pub struct Store {
    pub databases: [Database; DATABASES],
    /// The calendar's time in milliseconds since 1970, as of this turn of the loop.
    pub now: u64,
    /// How often something was changed since the start.
    pub changes: u64,
    /// How much commands have done since a connection gave its turn back for that. A unit is one argument, one entry that
    /// was looked at, or what stands above. `call` counts arguments and replies; a command that does more counts that.
    pub work: usize,
    /// Keys that were changed, and those who wait at them were not told yet.
    pub touched: Vec<(usize, Bytes)>,
    /// The record of all changes.
    pub journal: Journal,
    pub expired_total: u64,
}

#[derive(Default)]
pub struct Database {
    /// There are no gaps: when a key is removed, the last one moves to its place.
    pub keys: IndexMap<Bytes, Object, RandomState>,
    /// Deadlines with their keys, the first one first.
    pub deadlines: BTreeSet<(u64, Bytes)>,
    /// Who observes which key; it need not exist.
    pub observers: BTreeMap<Bytes, Observers>,
}

/// Who has an interest in the changes of a key.
#[derive(Default)]
pub struct Observers {
    /// The slots of clients that wait for an element of a list. The first one has waited longest.
    pub waiting: VecDeque<usize>,
    /// How many clients watch it.
    pub watchers: usize,
    /// How often it was changed since somebody has observed it.
    pub version: u64,
}

impl Store {
    /// The keys of one database, to read and change.
    pub fn keys(&mut self, number: usize) -> Keys<'_> {
        Keys { store: self, number }
    }

    /// The observers of a key, for one that is added to them now.
    pub fn observers(&mut self, database: usize, key: &Bytes) -> &mut Observers {
        self.databases[database].observers.entry(key.clone()).or_default()
    }

    /// Has one of the observers of a key removed.
    pub fn remove_observer(
        &mut self,
        (database, key): &(usize, Bytes),
        remove: impl FnOnce(&mut Observers),
    ) {
        let all = &mut self.databases[*database].observers;
        if let Some(observers) = all.get_mut(key) {
            remove(observers);
            if observers.waiting.is_empty() && observers.watchers == 0 {
                all.remove(key);
            }
        }
    }

    /// Removes keys whose deadline has passed, with up to `count` entries, for which long names count as well, or those of
    /// one key; true if there may be more.
    pub fn remove_expired(&mut self, mut count: usize) -> bool {
        for number in 0..DATABASES {
            while let Some((deadline, key)) = self.databases[number].deadlines.first()
                && *deadline <= self.now
            {
                if count == 0 {
                    return true;
                }
                let key = key.clone();
                let entries = self.databases[number].keys.get(&key).map_or(0, |it| it.value.len());
                count = count.saturating_sub(1 + entries + key.len() / BYTES_PER_WORK);
                self.keys(number).drop_if_expired(&key);
            }
        }
        false
    }

    /// Whether some key will expire.
    pub fn has_deadlines(&self) -> bool {
        self.databases.iter().any(|database| !database.deadlines.is_empty())
    }
}
