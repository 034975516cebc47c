//! The keys of one database.

use std::mem;

use super::commands::Failure;
use super::store::{Database, NEVER, Object, Store};
use super::values::{Bytes, Type, Value};

/// The keys of one database, to read and change. A key whose deadline has passed is not found.
pub struct Keys<'a> {
    pub store: &'a mut Store,
    pub number: usize,
}

impl Database {
    /// All changes of a deadline go through here.
    fn change_deadline(&mut self, key: &[u8], old: u64, new: u64) {
        if old != NEVER {
            self.deadlines.remove(&(old, Bytes::from_slice(key)));
        }
        if new != NEVER {
            self.deadlines.insert((new, Bytes::from_slice(key)));
        }
    }
}

impl Keys<'_> {
    pub fn database(&self) -> &Database {
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
            self.remove_expired_at(place);
            return None;
        }
        Some(place)
    }

    /// While the file is read no key expires by itself, as the record of that stands in the file.
    pub fn has_expired(&self, object: &Object) -> bool {
        object.expires <= self.store.now && !self.store.journal.is_replaying
    }

    fn remove_expired_at(&mut self, place: usize) {
        let Some((key, _)) = self.remove_at(place) else { return };
        self.store.expired_total += 1;
        self.note(&key);
        self.store.journal.record(self.number, &[b"DEL", &key]);
    }

    fn remove_at(&mut self, place: usize) -> Option<(Bytes, Value)> {
        let database = self.database_mut();
        let (key, Object { value, expires }) = database.keys.swap_remove_index(place)?;
        database.change_deadline(&key, expires, NEVER);
        Some((key, value))
    }

    pub fn get(&mut self, key: &[u8]) -> Option<&mut Value> {
        self.find(key).map(|place| &mut self.database_mut().keys[place].value)
    }

    /// The value, which is to be of this type. A caller that changes it calls [`touch`](Self::touch) then, or
    /// [`taken_from`](Self::taken_from) if it took something out.
    ///
    /// # Errors
    ///
    /// It is of another type.
    pub fn of<T: Type>(&mut self, key: &[u8]) -> Result<Option<&mut T>, Failure> {
        let value = self.get(key);
        value.map(|value| T::of(value).ok_or(Failure::WRONG_TYPE)).transpose()
    }

    /// The value, which is to be of this type; an empty one is made if there is none. The caller puts something in, and
    /// calls [`touch`](Self::touch).
    ///
    /// # Errors
    ///
    /// The value is of another type.
    pub fn make<T: Type>(&mut self, key: &[u8]) -> Result<&mut T, Failure> {
        let place = match self.find(key) {
            Some(place) => place,
            None => {
                let object = Object { value: T::empty(), expires: NEVER };
                self.database_mut().keys.insert_full(Bytes::from_slice(key), object).0
            }
        };
        T::of(&mut self.database_mut().keys[place].value).ok_or(Failure::WRONG_TYPE)
    }

    /// Removes a key whose deadline has passed, which is a change as any other.
    pub fn drop_if_expired(&mut self, key: &[u8]) {
        self.find(key);
    }

    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// Sets the value of a key, whatever it was, and its deadline.
    pub fn set(&mut self, key: &[u8], value: Value, expires: u64) {
        let database = self.database_mut();
        let new = Object { value, expires };
        let old = database.keys.insert(Bytes::from_slice(key), new);
        let old = old.map_or(NEVER, |old| old.expires);
        database.change_deadline(key, old, expires);
        self.touch(key);
    }

    /// The deadline of a key that is there; [`NEVER`] if it has none.
    pub fn expires(&mut self, key: &[u8]) -> Option<u64> {
        self.find(key).map(|place| self.database().keys[place].expires)
    }

    /// Sets the deadline of a key that is there.
    pub fn set_expires(&mut self, key: &[u8], expires: u64) {
        let Some(place) = self.find(key) else { return };
        let database = self.database_mut();
        let old = mem::replace(&mut database.keys[place].expires, expires);
        database.change_deadline(key, old, expires);
        self.touch(key);
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Value> {
        let place = self.find(key)?;
        self.touch(key);
        self.remove_at(place).map(|(_, value)| value)
    }

    /// Notes that a command has changed the value of a key. So the command is recorded.
    pub fn touch(&mut self, key: &[u8]) {
        self.store.changes += 1;
        self.note(key);
    }

    /// Notes that something was taken out of a hash, list or set. If it is empty now, its key is removed.
    pub fn taken_from(&mut self, key: &[u8]) {
        self.touch(key);
        let Some(place) = self.find(key) else { return };
        if self.database().keys[place].value.len() == 0 {
            self.remove_at(place);
        }
    }

    /// Notes for the observers of a key that it was changed. Those that wait are told when the command has ended.
    fn note(&mut self, key: &[u8]) {
        let Some(observers) = self.database_mut().observers.get_mut(key) else { return };
        observers.version += 1;
        if !observers.waiting.is_empty() {
            self.store.touched.push((self.number, Bytes::from_slice(key)));
        }
    }
}
