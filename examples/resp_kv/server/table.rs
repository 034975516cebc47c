//! A hash table whose entries stay where they are.

use std::rc::Rc;

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::bytes::Bytes;

/// From keys to values. The entries stand in numbered slots, which they keep for their whole life, and are walked
/// in that order: so the order does not depend on the hashes, which are secret, and whoever walks in steps, with
/// SCAN, meets every entry that was there all the time, however the table grows or shrinks meanwhile.
pub(crate) struct Table<V> {
    hasher: Rc<RandomState>,
    index: HashTable<Place>,
    slots: Slab<Entry<V>>,
    /// Over the highest slot in use since the table was empty.
    end: usize,
}

/// Where a key stands, with its hash, so that growing does not need the keys.
struct Place {
    hash: u32,
    slot: u32,
}

struct Entry<V> {
    key: Bytes,
    value: V,
}

/// The table takes the lowest bits for the place and the highest ones to compare: they have to be there.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl<V> Table<V> {
    pub(crate) fn new(hasher: &Rc<RandomState>) -> Table<V> {
        Table { hasher: Rc::clone(hasher), index: HashTable::new(), slots: Slab::new(), end: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    /// The slot of a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        self.find_hashed(self.hash(key), key)
    }

    fn find_hashed(&self, hash: u32, key: &[u8]) -> Option<usize> {
        let is_it =
            |place: &Place| place.hash == hash && *self.slots[place.slot as usize].key == *key;
        self.index.find(spread(hash), is_it).map(|place| place.slot as usize)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        self.find(key).map(|slot| &self.slots[slot].value)
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// The value in a slot that is in use.
    pub(crate) fn value(&self, slot: usize) -> &V {
        &self.slots[slot].value
    }

    pub(crate) fn value_mut(&mut self, slot: usize) -> &mut V {
        &mut self.slots[slot].value
    }

    /// The key in a slot that is in use.
    pub(crate) fn key(&self, slot: usize) -> &Bytes {
        &self.slots[slot].key
    }

    /// Sets the value of a key: its slot, and the value that it had.
    pub(crate) fn insert(&mut self, key: &[u8], value: V) -> (usize, Option<V>) {
        let hash = self.hash(key);
        if let Some(slot) = self.find_hashed(hash, key) {
            return (slot, Some(std::mem::replace(&mut self.slots[slot].value, value)));
        }
        let slot = self.slots.insert(Entry { key: Bytes::from(key), value });
        let place = Place { hash, slot: u32::try_from(slot).expect("4 thousand million entries") };
        self.index.insert_unique(spread(hash), place, |place| spread(place.hash));
        self.end = self.end.max(slot + 1);
        (slot, None)
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.find(key).map(|slot| self.remove_slot(slot))
    }

    /// Empties a slot that is in use.
    pub(crate) fn remove_slot(&mut self, slot: usize) -> V {
        let Entry { key, value } = self.slots.remove(slot);
        let hash = self.hash(&key);
        let place = self.index.find_entry(spread(hash), |place| place.slot as usize == slot);
        place.map(|place| place.remove()).ok().expect("every entry is in the index");
        if self.slots.is_empty() {
            *self = Table::new(&self.hasher); // which gives the memory back
        }
        value
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &V)> {
        self.slots.iter().map(|(_, entry)| (&entry.key, &entry.value))
    }

    /// Some step of a walk: the slots in use among those from `cursor` on, about `count` of them, and the cursor
    /// for the next step, which is 0 at the end.
    pub(crate) fn scan(&self, cursor: u64, count: usize) -> (Vec<usize>, u64) {
        let start = usize::try_from(cursor).unwrap_or(usize::MAX).min(self.end);
        let mut found = Vec::new();
        // Where many were removed, a step passes over so many empty slots and no more.
        let stop = start.saturating_add(count.saturating_mul(10)).min(self.end);
        for slot in start..stop {
            if self.slots.contains(slot) {
                found.push(slot);
            }
            if found.len() == count {
                return (found, if slot + 1 == self.end { 0 } else { slot as u64 + 1 });
            }
        }
        (found, if stop == self.end { 0 } else { stop as u64 })
    }

    /// The slot in use at or after a random number, if the table is not empty.
    pub(crate) fn random_slot(&self, random: u64) -> Option<usize> {
        let start = (random % self.end.max(1) as u64) as usize;
        (start..self.end).chain(0..start).find(|slot| self.slots.contains(*slot))
    }
}
