//! What the server keeps: numbered databases of keys with values, some of which expire.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use ahash::RandomState;

use super::bytes::Bytes;
use super::journal::Journal;
use super::table::Table;

pub(crate) const DATABASES: usize = 16;
/// The deadline of a key that does not expire.
pub(crate) const NEVER: u64 = u64::MAX;

pub(crate) type Hash = Table<Bytes>;
pub(crate) type List = VecDeque<Bytes>;
pub(crate) type Set = Table<()>;

/// What a key stands for.
pub(crate) enum Value {
    String(Bytes),
    Hash(Box<Hash>),
    List(Box<List>),
    Set(Box<Set>),
}

impl Value {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Hash(_) => "hash",
            Value::List(_) => "list",
            Value::Set(_) => "set",
        }
    }
}

/// A value with its deadline: milliseconds of the calendar's time since 1970.
struct Object {
    value: Value,
    expires: u64,
}

/// All that is kept, and what was changed.
pub(crate) struct Store {
    databases: Vec<Database>,
    hasher: Rc<RandomState>,
    /// State of the generator that chooses members and keys "at random".
    random: u64,
    /// The calendar's time in milliseconds since 1970, as of this turn of the loop.
    pub(crate) now: u64,
    /// How often something was changed.
    pub(crate) changes: u64,
    /// Somebody watches keys or waits for them: those that change are noted in `touched`.
    pub(crate) is_observed: bool,
    pub(crate) touched: Vec<(usize, Bytes)>,
    /// The record of all changes.
    pub(crate) journal: Journal,
    pub(crate) expired_total: u64,
}

struct Database {
    keys: Table<Object>,
    /// Deadlines with the slots of their keys, the first one first.
    deadlines: BTreeSet<(u64, usize)>,
}

impl Store {
    /// `seed` is what its secrets and its chance come from; whoever does not know it cannot find keys that collide.
    pub(crate) fn new(mut seed: impl FnMut() -> u64) -> Store {
        let hasher = Rc::new(RandomState::with_seeds(seed(), seed(), seed(), seed()));
        let database = || Database { keys: Table::new(&hasher), deadlines: BTreeSet::new() };
        Store {
            databases: std::iter::repeat_with(database).take(DATABASES).collect(),
            hasher: Rc::clone(&hasher),
            random: seed() | 1,
            now: 0,
            changes: 0,
            is_observed: false,
            touched: Vec::new(),
            journal: Journal::default(),
            expired_total: 0,
        }
    }

    /// The keys of one database, to read and change.
    pub(crate) fn keys(&mut self, number: usize) -> Keys<'_> {
        Keys { store: self, number }
    }

    /// Removes up to `count` keys whose deadline has passed; whether more of them wait.
    pub(crate) fn expire(&mut self, mut count: usize) -> bool {
        for number in 0..DATABASES {
            let now = self.now;
            while let Some((deadline, slot)) = self.databases[number].deadlines.first().copied()
                && deadline <= now
            {
                if count == 0 {
                    return true;
                }
                count -= 1;
                self.keys(number).remove_expired(slot);
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

    /// A number by chance (xorshift64*, Vigna 2016), not for secrets.
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn new_hash(&self) -> Value {
        Value::Hash(Box::new(Table::new(&self.hasher)))
    }

    pub(crate) fn new_set(&self) -> Set {
        Table::new(&self.hasher)
    }
}

/// The keys of one database. Those whose deadline has passed are not there.
pub(crate) struct Keys<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) number: usize,
}

impl Keys<'_> {
    fn database(&self) -> &Database {
        &self.store.databases[self.number]
    }

    fn database_mut(&mut self) -> &mut Database {
        &mut self.store.databases[self.number]
    }

    /// The slot of a key; one that has expired is removed.
    fn find(&mut self, key: &[u8]) -> Option<usize> {
        let slot = self.database().keys.find(key)?;
        if self.has_expired(slot) {
            self.remove_expired(slot);
            return None;
        }
        Some(slot)
    }

    /// The record of changes says when a key was removed, and nothing but that removes it while the record is read.
    fn has_expired(&self, slot: usize) -> bool {
        self.database().keys.value(slot).expires <= self.store.now
            && !self.store.journal.is_replaying
    }

    fn remove_expired(&mut self, slot: usize) {
        let key = self.database().keys.key(slot).clone();
        self.remove_slot(slot);
        self.store.expired_total += 1;
        self.note(&key);
        self.store.journal.record(self.number, &[b"DEL", &key]);
    }

    fn remove_slot(&mut self, slot: usize) -> Value {
        let database = self.database_mut();
        let Object { value, expires } = database.keys.remove_slot(slot);
        if expires != NEVER {
            database.deadlines.remove(&(expires, slot));
        }
        value
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&Value> {
        self.find(key).map(|slot| &self.database().keys.value(slot).value)
    }

    /// Whoever changes the value calls [`touch`](Self::touch).
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Value> {
        self.find(key).map(|slot| &mut self.database_mut().keys.value_mut(slot).value)
    }

    pub(crate) fn contains(&mut self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// The value, made by `make` if there is none. Whoever changes it calls [`touch`](Self::touch).
    pub(crate) fn get_or_insert(
        &mut self,
        key: &[u8],
        make: impl FnOnce(&Store) -> Value,
    ) -> &mut Value {
        let slot = match self.find(key) {
            Some(slot) => slot,
            None => {
                let object = Object { value: make(self.store), expires: NEVER };
                self.database_mut().keys.insert(key, object).0
            }
        };
        &mut self.database_mut().keys.value_mut(slot).value
    }

    /// Sets the value of a key, whatever it was, and its deadline.
    pub(crate) fn set(&mut self, key: &[u8], value: Value, expires: u64) {
        let database = self.database_mut();
        let (slot, old) = database.keys.insert(key, Object { value, expires });
        if let Some(old) = old
            && old.expires != NEVER
        {
            database.deadlines.remove(&(old.expires, slot));
        }
        if expires != NEVER {
            database.deadlines.insert((expires, slot));
        }
        self.touch(key);
    }

    /// The deadline of a key that is there; [`NEVER`] if it has none.
    pub(crate) fn expires(&mut self, key: &[u8]) -> Option<u64> {
        self.find(key).map(|slot| self.database().keys.value(slot).expires)
    }

    /// Sets the deadline of a key that is there.
    pub(crate) fn set_expires(&mut self, key: &[u8], expires: u64) {
        let Some(slot) = self.find(key) else { return };
        let database = self.database_mut();
        let old = std::mem::replace(&mut database.keys.value_mut(slot).expires, expires);
        database.deadlines.remove(&(old, slot));
        if expires != NEVER {
            database.deadlines.insert((expires, slot));
        }
        self.touch(key);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Value> {
        let slot = self.find(key)?;
        self.touch(key);
        Some(self.remove_slot(slot))
    }

    /// Removes a key whose hash, list or set has become empty: there are no empty ones.
    pub(crate) fn remove_if_empty(&mut self, key: &[u8]) {
        let Some(slot) = self.find(key) else { return };
        let is_empty = match &self.database().keys.value(slot).value {
            Value::String(_) => false,
            Value::Hash(hash) => hash.is_empty(),
            Value::List(list) => list.is_empty(),
            Value::Set(set) => set.is_empty(),
        };
        if is_empty {
            self.remove_slot(slot);
        }
    }

    /// Tells that the value of a key was changed.
    pub(crate) fn touch(&mut self, key: &[u8]) {
        self.store.changes += 1;
        self.note(key);
    }

    fn note(&mut self, key: &[u8]) {
        if self.store.is_observed {
            self.store.touched.push((self.number, Bytes::from(key)));
        }
    }

    /// Removes all keys.
    pub(crate) fn clear(&mut self) {
        self.store.changes += 1;
        if self.store.is_observed {
            let keys: Vec<Bytes> =
                self.database().keys.iter().map(|(key, _)| key.clone()).collect();
            keys.iter().for_each(|key| self.note(key));
        }
        let keys = Table::new(&self.store.hasher);
        *self.database_mut() = Database { keys, deadlines: BTreeSet::new() };
    }

    pub(crate) fn len(&self) -> usize {
        self.database().keys.len()
    }

    /// Some step of a walk over the keys that have not expired, as [`Table::scan`].
    pub(crate) fn scan(&self, cursor: u64, count: usize) -> (Vec<(&Bytes, &Value)>, u64) {
        let keys = &self.database().keys;
        let (mut slots, cursor) = keys.scan(cursor, count);
        slots.retain(|slot| !self.has_expired(*slot));
        let entry = |slot| (keys.key(slot), &keys.value(slot).value);
        (slots.into_iter().map(entry).collect(), cursor)
    }

    /// Some key.
    pub(crate) fn random_key(&mut self) -> Option<Bytes> {
        loop {
            let random = self.store.random();
            let slot = self.database().keys.random_slot(random)?;
            if !self.has_expired(slot) {
                return Some(self.database().keys.key(slot).clone());
            }
            self.remove_expired(slot);
        }
    }
}
