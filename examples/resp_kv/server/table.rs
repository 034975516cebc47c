//! A hash table whose entries stay in their order.

use std::rc::Rc;

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::bytes::Bytes;

/// From keys to values. The entries stand in numbered slots, and are walked in that order: so the order does not
/// depend on the hashes, which are secret. An entry moves only when most slots have become empty, and then to a lower
/// one; whoever walks in steps, with SCAN, goes down: so it meets every entry that was there all the time, however
/// the table grows or shrinks meanwhile.
pub(crate) struct Table<V> {
    hasher: Rc<RandomState>,
    index: HashTable<Place>,
    slots: Slab<Entry<V>>,
    /// Over the highest slot in use since the table was empty, or the entries moved.
    end: usize,
}

/// At least one slot of so many is in use, in all but small tables: so what goes over all of them takes no longer than
/// the entries are worth.
const SLOTS_PER_ENTRY: usize = 8;
const SLOTS_SMALL: usize = 64;

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
        (self.insert_new(hash, Entry { key: Bytes::from(key), value }), None)
    }

    fn insert_new(&mut self, hash: u32, entry: Entry<V>) -> usize {
        let slot = self.slots.insert(entry);
        let place = Place { hash, slot: u32::try_from(slot).expect("4 thousand million entries") };
        self.index.insert_unique(spread(hash), place, |place| spread(place.hash));
        self.end = self.end.max(slot + 1);
        slot
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let value = self.remove_slot(self.find(key)?);
        self.shrink();
        Some(value)
    }

    /// Closes up, if most slots are empty; whether it did, and the entries have other slots now. It takes a moment for
    /// each slot, most of which were filled and emptied since the last time.
    pub(crate) fn shrink(&mut self) -> bool {
        let is_sparse = self.end > SLOTS_SMALL.max(SLOTS_PER_ENTRY * self.len());
        if is_sparse {
            let slots = std::mem::take(&mut self.slots);
            *self = Table::new(&self.hasher);
            for (_, entry) in slots {
                self.insert_new(self.hash(&entry.key), entry);
            }
        }
        is_sparse
    }

    /// Empties a slot that is in use. Whoever calls it calls [`shrink`](Self::shrink).
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

    /// The slots in use.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().map(|(slot, _)| slot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &V)> {
        self.slots.iter().map(|(_, entry)| (&entry.key, &entry.value))
    }

    /// Some step of a walk: the slots in use among those below `cursor`, or among all if it is 0, about `count` of
    /// them from above, and the cursor for the next step, which is 0 at the end.
    pub(crate) fn scan(&self, cursor: u64, count: usize) -> (Vec<usize>, u64) {
        let cursor = usize::try_from(cursor).unwrap_or(usize::MAX);
        let start = if cursor == 0 { self.end } else { cursor.min(self.end) };
        let mut found = Vec::new();
        // Where many were removed, a step passes over so many empty slots and no more.
        let stop = start.saturating_sub(count.saturating_mul(10));
        for slot in (stop..start).rev() {
            if self.slots.contains(slot) {
                found.push(slot);
            }
            if found.len() == count {
                return (found, slot as u64);
            }
        }
        (found, stop as u64)
    }

    /// A slot in use, each as likely, from a random number; none if the table is empty.
    ///
    /// It tries slots, of which there are not many more than entries, in the sequence of a generator (linear
    /// congruential; the factor of Knuth's MMIX), which has all of them in it.
    pub(crate) fn random_slot(&self, mut random: u64) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = (((random >> 32) * self.end as u64) >> 32) as usize;
            if self.slots.contains(slot) {
                return Some(slot);
            }
        }
    }
}
