//! The table of a database's keys. It consists of parts that grow one by one. When a table doubles, all of its keys move,
//! and everybody waits: in one piece that would be seconds for tens of millions of them.

use std::ops::{Index, IndexMut};

use ahash::RandomState;
use indexmap::IndexMap;

use super::bytes::Bytes;
use super::store::Object;
use super::values::less_room;

/// To double one of more parts would be shorter. But the allocator makes large pieces of memory larger without moving them
/// (mremap(2)), and leaves holes behind smaller ones: `benches/resp_kv/run` prints what a key takes, which grows with this
/// number.
const PARTS: usize = 16;

/// Where a key stands. There are no gaps: when a key is removed, the last one of its part moves to its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    part: u32,
    index: u32,
}

/// Keys with what they stand for.
pub(crate) struct KeyTable {
    /// Each has the keys whose hash has its number in it.
    parts: Vec<IndexMap<Bytes, Object, RandomState>>,
    hasher: RandomState,
    len: usize,
}

impl KeyTable {
    pub(crate) fn new(hasher: &RandomState) -> KeyTable {
        let part = || IndexMap::with_hasher(hasher.clone());
        let parts = std::iter::repeat_with(part).take(PARTS).collect();
        KeyTable { parts, hasher: hasher.clone(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part that a key belongs to, by bits of its hash that the part itself makes no use of: it takes the lowest and
    /// the highest ones.
    fn part(&self, key: &[u8]) -> usize {
        (self.hasher.hash_one(key) >> 32) as usize % PARTS
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<Place> {
        let part = self.part(key);
        let index = self.parts[part].get_index_of(key)?;
        Some(Place { part: part as u32, index: index as u32 })
    }

    /// Sets what a key stands for; gives its place, and what it stood for.
    pub(crate) fn insert(&mut self, key: &[u8], object: Object) -> (Place, Option<Object>) {
        let part = self.part(key);
        let (index, old) = self.parts[part].insert_full(Bytes::from_slice(key), object);
        self.len += usize::from(old.is_none());
        (Place { part: part as u32, index: index as u32 }, old)
    }

    /// Removes the key at a place; gives it, and the place from which another one has moved there.
    pub(crate) fn remove(&mut self, place: Place) -> Option<(Bytes, Object, Option<Place>)> {
        let part = &mut self.parts[place.part as usize];
        let (key, object) = part.swap_remove_index(place.index as usize)?;
        self.len -= 1;
        let last = Place { index: part.len() as u32, ..place };
        if let Some(room) = less_room(part.len(), part.capacity()) {
            part.shrink_to(room);
        }
        Some((key, object, (last != place).then_some(last)))
    }

    /// One step of a walk over all keys, from the last place to the first: the keys at the `count` places below
    /// `cursor`, and the cursor for the next step. A cursor of 0 is the beginning, and the end.
    ///
    /// Keys only move to lower places. So a walk meets every key that is there all the time, and some of them twice.
    pub(crate) fn scan(&self, cursor: u64, count: usize) -> (Vec<(&Bytes, &Object)>, u64) {
        let start = if cursor == 0 { u64::MAX } else { cursor };
        let (mut part, mut below) = ((start >> 32) as usize, start as u32 as usize);
        if part >= PARTS {
            (part, below) = (PARTS - 1, usize::MAX);
        }
        let mut found = Vec::new();
        loop {
            let keys = &self.parts[part];
            let start = below.min(keys.len());
            let stop = start.saturating_sub(count - found.len());
            found.extend(keys[stop..start].iter().rev());
            if stop > 0 {
                return (found, (part as u64) << 32 | stop as u64);
            }
            if part == 0 {
                return (found, 0);
            }
            (part, below) = (part - 1, usize::MAX);
        }
    }
}

impl Index<Place> for KeyTable {
    type Output = Object;

    fn index(&self, place: Place) -> &Object {
        &self.parts[place.part as usize][place.index as usize]
    }
}

impl IndexMut<Place> for KeyTable {
    fn index_mut(&mut self, place: Place) -> &mut Object {
        &mut self.parts[place.part as usize][place.index as usize]
    }
}
