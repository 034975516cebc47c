//! The keys of one database.

use std::mem;

use indexmap::IndexMap;

use super::commands::Failure;
use super::store::{Database, NEVER, Object, Store};
use super::values::{Bytes, Type, Value};

/// The keys of one database, to read and change. A key whose deadline has passed is not found.
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

    /// The place of a key; one that has expired is removed.
    fn find(&mut self, key: &[u8]) -> Option<usize> {
        let keys = &self.database().keys;
        let place = keys.get_index_of(key)?;
        if self.has_expired(&keys[place]) {
            self.remove_expired(place);
            return None;
        }
        Some(place)
    }

    /// While the file is read no key expires by itself, as the record of that stands in the file.
    fn has_expired(&self, object: &Object) -> bool {
        object.expires <= self.store.now && !self.store.journal.is_replaying
    }

    pub(crate) fn remove_expired(&mut self, place: usize) {
        let Some((key, _)) = self.remove_at(place) else { return };
        self.store.expired_total += 1;
        self.note(&key);
        self.store.journal.record(self.number, &[b"DEL", &key]);
    }

    fn remove_at(&mut self, place: usize) -> Option<(Bytes, Value)> {
        let Database { keys, deadlines, .. } = self.database_mut();
        let (key, Object { value, expires }) = keys.swap_remove_index(place)?;
        if expires != NEVER {
            deadlines.remove(&(expires, place));
        }
        let moved_from = keys.len();
        if let Some((_, moved)) = keys.get_index(place)
            && moved.expires != NEVER
        {
            deadlines.remove(&(moved.expires, moved_from));
            deadlines.insert((moved.expires, place));
        }
        Some((key, value))
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&mut Value> {
        self.find(key).map(|place| &mut self.database_mut().keys[place].value)
    }

    /// The value, which is to be of this type. A caller that changes it calls [`touch`](Self::touch) then, or
    /// [`taken_from`](Self::taken_from) if it took something out.
    ///
    /// # Errors
    ///
    /// It is of another type.
    pub(crate) fn of<T: Type>(&mut self, key: &[u8]) -> Result<Option<&mut T>, Failure> {
        let value = self.get(key);
        value.map(|value| T::of(value).ok_or(Failure::WRONG_TYPE)).transpose()
    }

    /// The value, which is to be of this type; an empty one is made if there is none. The caller puts something in, and
    /// calls [`touch`](Self::touch).
    ///
    /// # Errors
    ///
    /// The value is of another type.
    pub(crate) fn make<T: Type>(&mut self, key: &[u8]) -> Result<&mut T, Failure> {
        let place = match self.find(key) {
            Some(place) => place,
            None => {
                let object = Object { value: T::empty(&self.store.hasher), expires: NEVER };
                self.database_mut().keys.insert_full(Bytes::from_slice(key), object).0
            }
        };
        T::of(&mut self.database_mut().keys[place].value).ok_or(Failure::WRONG_TYPE)
    }

    pub(crate) fn contains(&mut self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// Sets the value of a key, whatever it was, and its deadline.
    pub(crate) fn set(&mut self, key: &[u8], value: Value, expires: u64) {
        let Database { keys, deadlines, .. } = self.database_mut();
        let (place, old) = keys.insert_full(Bytes::from_slice(key), Object { value, expires });
        if let Some(old) = old
            && old.expires != NEVER
        {
            deadlines.remove(&(old.expires, place));
        }
        if expires != NEVER {
            deadlines.insert((expires, place));
        }
        self.touch(key);
    }

    /// The deadline of a key that is there; [`NEVER`] if it has none.
    pub(crate) fn expires(&mut self, key: &[u8]) -> Option<u64> {
        self.find(key).map(|place| self.database().keys[place].expires)
    }

    /// Sets the deadline of a key that is there.
    pub(crate) fn set_expires(&mut self, key: &[u8], expires: u64) {
        let Some(place) = self.find(key) else { return };
        let Database { keys, deadlines, .. } = self.database_mut();
        let old = mem::replace(&mut keys[place].expires, expires);
        deadlines.remove(&(old, place));
        if expires != NEVER {
            deadlines.insert((expires, place));
        }
        self.touch(key);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Value> {
        let place = self.find(key)?;
        self.touch(key);
        self.remove_at(place).map(|(_, value)| value)
    }

    /// Notes that the value of a key was changed.
    pub(crate) fn touch(&mut self, key: &[u8]) {
        self.store.changes += 1;
        self.note(key);
    }

    /// Notes that something was taken out of a hash, list or set. If it is empty now, its key is removed.
    pub(crate) fn taken_from(&mut self, key: &[u8]) {
        self.touch(key);
        let Some(place) = self.find(key) else { return };
        if self.database().keys[place].value.is_empty() {
            self.remove_at(place);
        }
    }

    fn note(&mut self, key: &[u8]) {
        if self.database().observers.contains_key(key) {
            self.store.touched.push((self.number, Bytes::from_slice(key)));
        }
    }

    /// Removes all keys.
    pub(crate) fn clear(&mut self) {
        let database = &mut self.store.databases[self.number];
        if database.keys.is_empty() {
            return;
        }
        self.store.changes += 1;
        self.store.work += database.observers.len();
        let hasher = database.keys.hasher().clone();
        let keys = mem::replace(&mut database.keys, IndexMap::with_hasher(hasher));
        database.deadlines.clear();
        let observed = database.observers.keys().filter(|key| keys.contains_key(*key));
        self.store.touched.extend(observed.map(|key| (self.number, key.clone())));
    }

    pub(crate) fn len(&self) -> usize {
        self.database().keys.len()
    }

    /// One step of a walk over all keys, from the last place to the first: the keys at the `count` places below `cursor`,
    /// without those that have expired, and the cursor for the next step. A cursor of 0 is the beginning, and the end.
    ///
    /// Keys only move to lower places. So a walk meets every key that is there all the time, and some of them twice.
    pub(crate) fn scan(&self, cursor: usize, count: usize) -> (Vec<(&Bytes, &Value)>, usize) {
        let keys = &self.database().keys;
        let start = if cursor == 0 { keys.len() } else { cursor.min(keys.len()) };
        let stop = start.saturating_sub(count);
        let there = keys[stop..start].iter().rev();
        let there = there.filter(|(_, object)| !self.has_expired(object));
        (there.map(|(key, object)| (key, &object.value)).collect(), stop)
    }
}
