//! What the server keeps: numbered databases of keys with values, some of which expire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ahash::RandomState;
use indexmap::IndexMap;

use super::journal::Journal;
use super::keys::Keys;
use super::values::{Bytes, Value};

pub(crate) const DATABASES: usize = 16;
/// So many steps of matching a pattern count as one unit of [`work`](Store::work), and so many bytes of what is sent.
pub(crate) const STEPS_PER_WORK: usize = 16;
pub(crate) const BYTES_PER_WORK: usize = 64;
/// The deadline of a key that does not expire.
pub(crate) const NEVER: u64 = u64::MAX;

/// A value with its deadline: milliseconds of the calendar's time since 1970.
pub(crate) struct Object {
    pub(crate) value: Value,
    pub(crate) expires: u64,
}

/// All that is kept, and what was changed.
pub(crate) struct Store {
    pub(crate) databases: Vec<Database>,
    pub(crate) hasher: RandomState,
    /// State of the generator of random numbers.
    pub(crate) random: u64,
    /// The calendar's time in milliseconds since 1970, as of this turn of the loop.
    pub(crate) now: u64,
    /// How often something was changed since the start.
    pub(crate) changes: u64,
    /// How much commands have done since a connection gave its turn back for that. A unit is one argument, one entry that
    /// was looked at, or what stands above.
    pub(crate) work: usize,
    /// Keys that were changed, and whose observers were not told yet.
    pub(crate) touched: Vec<(usize, Bytes)>,
    /// The record of all changes.
    pub(crate) journal: Journal,
    pub(crate) expired_total: u64,
}

pub(crate) struct Database {
    /// There are no gaps: when a key is removed, the last one moves to its place.
    pub(crate) keys: IndexMap<Bytes, Object, RandomState>,
    /// Deadlines with the places of their keys, the first one first.
    pub(crate) deadlines: BTreeSet<(u64, usize)>,
    /// Who observes which key; it need not exist.
    pub(crate) observers: BTreeMap<Bytes, Observers>,
}

/// The slots of clients that are to be told when a key is changed.
#[derive(Default)]
pub(crate) struct Observers {
    /// They wait for an element of a list. The first one has waited longest.
    pub(crate) waiting: VecDeque<usize>,
    /// They watch it.
    pub(crate) watching: BTreeSet<usize>,
}

impl Store {
    /// `seed` gives the secrets of the hashes, and where the generator begins.
    pub(crate) fn new(mut seed: impl FnMut() -> u64) -> Store {
        let hasher = RandomState::with_seeds(seed(), seed(), seed(), seed());
        let database = || Database {
            keys: IndexMap::with_hasher(hasher.clone()),
            deadlines: BTreeSet::new(),
            observers: BTreeMap::new(),
        };
        Store {
            databases: std::iter::repeat_with(database).take(DATABASES).collect(),
            hasher: hasher.clone(),
            random: seed() | 1,
            now: 0,
            changes: 0,
            work: 0,
            touched: Vec::new(),
            journal: Journal::default(),
            expired_total: 0,
        }
    }

    /// The keys of one database, to read and change.
    pub(crate) fn keys(&mut self, number: usize) -> Keys<'_> {
        Keys { store: self, number }
    }

    /// The observers of a key, for one that is added to them now.
    pub(crate) fn observers(&mut self, database: usize, key: &Bytes) -> &mut Observers {
        self.databases[database].observers.entry(key.clone()).or_default()
    }

    /// Has one of the observers of a key removed.
    pub(crate) fn remove_observer(
        &mut self,
        (database, key): &(usize, Bytes),
        remove: impl FnOnce(&mut Observers),
    ) {
        let all = &mut self.databases[*database].observers;
        if let Some(observers) = all.get_mut(key) {
            remove(observers);
            if observers.waiting.is_empty() && observers.watching.is_empty() {
                all.remove(key);
            }
        }
    }

    /// Removes up to `count` keys whose deadline has passed; true if there may be more of them.
    pub(crate) fn expire(&mut self, mut count: usize) -> bool {
        for number in 0..DATABASES {
            let now = self.now;
            while let Some((deadline, place)) = self.databases[number].deadlines.first().copied()
                && deadline <= now
            {
                if count == 0 {
                    return true;
                }
                count -= 1;
                self.keys(number).remove_expired(place);
            }
        }
        false
    }

    /// Whether some key will expire.
    pub(crate) fn has_deadlines(&self) -> bool {
        self.databases.iter().any(|database| !database.deadlines.is_empty())
    }
}
