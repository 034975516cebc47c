//! A slab whose keys never name the wrong thing.

use std::collections::TryReserveError;

use slab::Slab;

use crate::key::Key;

/// A slab plus generations. `insert` gives a [`Key`] that finds its value until `remove`, and nothing
/// afterwards, however often the slot is used again.
///
/// A slot whose generations are used up is retired: it stays occupied by nothing, for ever. `LAST` is
/// the last generation that is given out; only tests make it smaller.
#[derive(Debug)]
pub(crate) struct Table<T, const LAST: u32 = { u32::MAX - 1 }> {
    slots: Slab<Slot<T>>,
    /// The last generation that each slot was given; 0 for one never used. It has to outlive the
    /// slot's content, and the slab forgets that. Invariant: as long as the slab's `entries`.
    generations: Vec<u32>,
    retired: usize,
}

#[derive(Debug)]
struct Slot<T> {
    /// Equal to the generation of the one key that may enter.
    generation: u32,
    /// `None` only in a retired slot, whose generation no key has.
    value: Option<T>,
}

impl<T, const LAST: u32> Table<T, LAST> {
    pub(crate) fn new() -> Self {
        Table { slots: Slab::new(), generations: Vec::new(), retired: 0 }
    }

    /// Reserves room for `count` values and touches its pages, so that the first use of a slot does
    /// not pay for a page fault.
    ///
    /// # Errors
    ///
    /// There is not that much memory.
    pub(crate) fn reserve_touched(&mut self, count: usize) -> Result<(), TryReserveError> {
        debug_assert!(self.slots.is_empty(), "reserved before use");
        // A slab can only abort when there is no memory. A vector can be asked, and is given back.
        Vec::<(usize, Slot<T>)>::new().try_reserve_exact(count)?;
        self.slots.reserve_exact(count);
        self.generations.try_reserve_exact(count)?;
        for _ in 0..count {
            self.slots.insert(Slot { generation: 0, value: None });
        }
        self.slots.clear();
        self.generations.resize(count, 0);
        // What `clear` left is an empty slab with touched pages; slots are handed out from 0 again.
        Ok(())
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        loop {
            let entry = self.slots.vacant_entry();
            let index = entry.key();
            if index == self.generations.len() {
                self.generations.push(0);
            }
            let generation = &mut self.generations[index];
            if *generation == LAST {
                entry.insert(Slot { generation: u32::MAX, value: None });
                self.retired += 1;
                continue;
            }
            *generation += 1;
            entry.insert(Slot { generation: *generation, value: Some(value) });
            let index = u32::try_from(index).expect("a table holds at most 2^32 slots");
            return Key::new(index, *generation);
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index()) {
            Some(slot) if slot.generation == key.generation() => slot.value.as_ref(),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index()) {
            Some(slot) if slot.generation == key.generation() => slot.value.as_mut(),
            _ => None,
        }
    }

    /// The value of a key that is known to be live.
    ///
    /// # Panics
    ///
    /// If it is not; in release builds, only if the slot is vacant.
    #[inline]
    pub(crate) fn live_mut(&mut self, key: Key) -> &mut T {
        let slot = &mut self.slots[key.index()];
        debug_assert_eq!(slot.generation, key.generation());
        slot.value.as_mut().expect("a live key")
    }

    /// The value in a slot that is known to be taken.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub(crate) fn at_mut(&mut self, index: u32) -> &mut T {
        self.slots[index as usize].value.as_mut().expect("a taken slot")
    }

    /// ... and the key that it has.
    pub(crate) fn entry_at_mut(&mut self, index: u32) -> (Key, &mut T) {
        let slot = &mut self.slots[index as usize];
        (Key::new(index, slot.generation), slot.value.as_mut().expect("a taken slot"))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.slots.remove(key.index()).value
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.retired
    }

    /// Every live value, in the order of the slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().filter_map(|(index, slot)| {
            let value = slot.value.as_ref()?;
            Some((Key::new(index as u32, slot.generation), value))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::random::random;

    /// Random operations against a map that never forgets a key. A key that was ever given out finds
    /// its own value or nothing.
    fn agrees_with_a_model<const LAST: u32>(seed: u64, operations: usize, live_max: usize) {
        let mut table = Table::<u64, LAST>::new();
        let mut model = HashMap::new();
        let mut ever = Vec::new();
        let mut live = Vec::new();
        let mut state = seed;
        for step in 0..operations {
            let roll = random(&mut state);
            match roll % 8 {
                0..=2 if live.len() < live_max => {
                    let key = table.insert(step as u64);
                    assert!(
                        model.insert(key, Some(step as u64)).is_none(),
                        "{key} given out twice"
                    );
                    ever.push(key);
                    live.push(key);
                }
                0..=4 if !live.is_empty() => {
                    let key = live.swap_remove(roll as usize / 8 % live.len());
                    let expected = model.insert(key, None).expect("was given out");
                    assert_eq!(table.remove(key), expected, "seed {seed} step {step}");
                    assert_eq!(table.remove(key), None, "removed twice");
                }
                _ if !ever.is_empty() => {
                    let key = ever[roll as usize / 8 % ever.len()];
                    let expected = model[&key].as_ref();
                    assert_eq!(table.get(key), expected, "seed {seed} step {step} {key}");
                    assert_eq!(table.get_mut(key).map(|v| &*v), expected);
                }
                _ => {}
            }
            assert_eq!(table.len(), live.len());
        }
        assert_eq!(table.iter().count(), live.len());
    }

    #[test]
    fn a_key_finds_its_own_value_or_nothing_in_a_million_random_operations() {
        agrees_with_a_model::<{ u32::MAX - 1 }>(1, 1_000_000, 40);
    }

    #[test]
    fn a_slot_is_retired_when_its_generations_are_used_up() {
        // Three generations a slot: nearly every step meets a retired one.
        agrees_with_a_model::<3>(2, 200_000, 8);
        let mut table = Table::<u8, 2>::new();
        let first = table.insert(1);
        table.remove(first);
        let second = table.insert(2);
        assert_eq!(second.index(), first.index());
        table.remove(second);
        let third = table.insert(3);
        assert_ne!(third.index(), first.index(), "retired slots are not used again");
        assert_eq!((table.get(first), table.get(second), table.len()), (None, None, 1));
    }

    #[test]
    fn a_reserved_table_does_not_move() {
        let mut table = Table::<u64>::new();
        table.reserve_touched(100).unwrap();
        let capacity = table.slots.capacity();
        let keys: Vec<_> = (0..100).map(|i| table.insert(i)).collect();
        assert_eq!(keys[0].index(), 0);
        assert_eq!(table.slots.capacity(), capacity);
    }

    #[test]
    fn the_null_key_finds_nothing() {
        let mut table = Table::<u64>::new();
        table.reserve_touched(1).unwrap();
        assert_eq!(table.get(Key::NONE), None);
        table.insert(1);
        assert_eq!(table.get(Key::NONE), None);
    }
}
