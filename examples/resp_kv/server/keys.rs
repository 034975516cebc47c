//! The keys of one database.

use super::bytes::Bytes;
use super::store::{Database, NEVER, Object, Store, Value};
use super::table::Table;

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

    pub(crate) fn remove_expired(&mut self, slot: usize) {
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
        if database.keys.shrink() {
            database.deadlines = database
                .keys
                .slots()
                .map(|slot| (database.keys.value(slot).expires, slot))
                .filter(|(expires, _)| *expires != NEVER)
                .collect();
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
        if self.database().observers.contains_key(key) {
            self.store.touched.push((self.number, Bytes::from(key)));
        }
    }

    /// Removes all keys.
    pub(crate) fn clear(&mut self) {
        self.store.changes += 1;
        let database = &self.store.databases[self.number];
        let observed = database.observers.keys().filter(|key| database.keys.contains(key));
        self.store.touched.extend(observed.map(|key| (self.number, key.clone())));
        let keys = Table::new(&self.store.hasher);
        let database = self.database_mut();
        database.keys = keys;
        database.deadlines.clear();
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
}
