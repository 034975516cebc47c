//! What the server keeps: numbered databases of keys with values, some of which expire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ahash::RandomState;
use indexmap::IndexMap;

use super::bytes::Bytes;
use super::commands::Failure;
use super::journal::Journal;
use super::keys::Keys;
use super::values::Value;

pub(crate) const DATABASES: usize = 16;
/// What the keys may take up that a client watches, or waits for; and those of all clients.
const OBSERVED_BYTES_MAX: usize = 2 << 20;
const OBSERVED_BYTES_TOTAL_MAX: usize = 256 << 20;
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
    random: u64,
    /// The calendar's time in milliseconds since 1970, as of this turn of the loop.
    pub(crate) now: u64,
    /// How often something was changed since the start.
    pub(crate) changes: u64,
    /// What commands have done since the last one gave its turn back: arguments, and entries that were looked at.
    pub(crate) work: usize,
    /// Keys that were changed and that have observers, who are to be told.
    pub(crate) touched: Vec<(usize, Bytes)>,
    /// What all keys take up that have observers, once for each.
    observed_bytes: usize,
    /// The record of all changes.
    pub(crate) journal: Journal,
    pub(crate) expired_total: u64,
}

pub(crate) struct Database {
    /// When it is full it doubles, all at once: at ten million keys and more this takes some hundred milliseconds.
    pub(crate) keys: IndexMap<Bytes, Object, RandomState>,
    /// Deadlines with the places of their keys, the first one first.
    pub(crate) deadlines: BTreeSet<(u64, usize)>,
    /// By keys, which may or may not be there.
    pub(crate) observers: BTreeMap<Bytes, Observers>,
}

/// Clients who are to be told when a key is changed.
#[derive(Default)]
pub(crate) struct Observers {
    /// Those who wait for an element of a list, the one first who has waited longest.
    pub(crate) waiting: VecDeque<usize>,
    /// Those who watch it.
    pub(crate) watching: BTreeSet<usize>,
}

/// The memory of a key with one who observes it: each has a copy, in a tree.
fn observed_bytes(key: &[u8]) -> usize {
    2 * key.len() + 150
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
            observed_bytes: 0,
            journal: Journal::default(),
            expired_total: 0,
        }
    }

    /// The keys of one database, to read and change.
    pub(crate) fn keys(&mut self, number: usize) -> Keys<'_> {
        Keys { store: self, number }
    }

    /// Whether there is room for all that a client is going to observe.
    ///
    /// # Errors
    ///
    /// There is not.
    pub(crate) fn check_observed<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<(), Failure> {
        let bytes = keys.map(observed_bytes).sum::<usize>();
        if bytes > OBSERVED_BYTES_MAX {
            return Err(Failure::new("ERR too many or too long keys to watch, or to wait for"));
        }
        if self.observed_bytes + bytes > OBSERVED_BYTES_TOTAL_MAX {
            return Err(Failure::new("ERR all clients together watch, or wait for, too many keys"));
        }
        Ok(())
    }

    /// Who observes a key, to add somebody who is not yet there.
    pub(crate) fn observers(&mut self, database: usize, key: &Bytes) -> &mut Observers {
        self.observed_bytes += observed_bytes(key);
        self.databases[database].observers.entry(key.clone()).or_default()
    }

    /// Takes somebody off those who observe a key.
    pub(crate) fn remove_observer(
        &mut self,
        (database, key): &(usize, Bytes),
        remove: impl FnOnce(&mut Observers),
    ) {
        let all = &mut self.databases[*database].observers;
        if let Some(observers) = all.get_mut(key) {
            remove(observers);
            self.observed_bytes -= observed_bytes(key);
            if observers.waiting.is_empty() && observers.watching.is_empty() {
                all.remove(key);
            }
        }
    }

    /// Removes up to `count` keys whose deadline has passed; whether more of them wait.
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

    /// Keys, and those of them that will expire.
    pub(crate) fn counts(&self, number: usize) -> (usize, usize) {
        let database = &self.databases[number];
        (database.keys.len(), database.deadlines.len())
    }

    /// A random number (xorshift64*, Vigna 2016), not for secrets.
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
