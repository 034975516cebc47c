//! A hierarchical timing wheel (Varghese and Lauck, 1987) whose nodes live with whom they belong to.
//!
//! A moment is a number of nanoseconds, written in eleven digits of six bits. What is to come is kept
//! in the list of the first digit in which it differs from `elapsed`, and of that digit's value: 11
//! levels of 64 slots. When time enters a slot, its list moves down, each member to the list of its
//! next digit, until on the lowest level everything in a slot is due at the same nanosecond. So setting
//! and cancelling touch a few words whatever the distance, nothing fires early, and equals fire in the
//! order in which they were set.

use crate::clock::Time;

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = (u64::BITS as usize).div_ceil(DIGIT_BITS as usize);

/// The end of a list.
const END: u32 = u32::MAX;
/// In no list.
const UNLINKED: u32 = u32::MAX - 1;

/// A place in a wheel.
#[derive(Debug)]
pub(crate) struct Node {
    /// When it is due; [`Time::NEVER`] when it is in no list.
    at: Time,
    next: u32,
    prev: u32,
}

impl Node {
    pub(crate) const fn new() -> Node {
        Node { at: Time::NEVER, next: END, prev: UNLINKED }
    }

    pub(crate) fn at(&self) -> Time {
        self.at
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.prev != UNLINKED
    }
}

/// Where the nodes are: by a number that does not change while a node is in the wheel.
pub(crate) trait Nodes {
    fn node(&mut self, index: u32) -> &mut Node;
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u32,
    last: u32,
    /// No member is due earlier; the earliest may have been removed.
    earliest: Time,
}

const EMPTY: Slot = Slot { first: END, last: END, earliest: Time::NEVER };

#[derive(Debug)]
pub(crate) struct Wheel {
    /// Time has come so far: nothing in the wheel is due before it. Invariant: every node stands where
    /// `place` says, which moving `elapsed` up to the next slot's begin does not change.
    elapsed: u64,
    /// Which levels, and which slots of each, have members.
    levels: u32,
    occupied: [u64; LEVELS],
    slots: Box<[[Slot; SLOTS]; LEVELS]>,
}

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel {
            elapsed: 0,
            levels: 0,
            occupied: [0; LEVELS],
            slots: Box::new([[EMPTY; SLOTS]; LEVELS]),
        }
    }

    /// The level and slot of a moment that is not before `elapsed`.
    fn place(&self, at: u64) -> (usize, usize) {
        let difference = at ^ self.elapsed;
        let level = (u64::BITS - 1 - (difference | 1).leading_zeros()) / DIGIT_BITS;
        let digit = at >> (level * DIGIT_BITS);
        (level as usize, digit as usize % SLOTS)
    }

    /// Puts a node that is in no list where its moment belongs. For [`Time::NEVER`] that is nowhere.
    pub(crate) fn insert(&mut self, nodes: &mut impl Nodes, index: u32, at: Time) {
        if at == Time::NEVER {
            return;
        }
        let at = at.as_nanos().max(self.elapsed);
        self.append(nodes, index, at);
    }

    fn append(&mut self, nodes: &mut impl Nodes, index: u32, at: u64) {
        let (level, number) = self.place(at);
        let slot = &mut self.slots[level][number];
        let at = Time::from_nanos(at);
        let node = nodes.node(index);
        debug_assert!(!node.is_linked());
        *node = Node { at, next: END, prev: slot.last };
        slot.earliest = slot.earliest.min(at);
        if slot.last == END {
            slot.first = index;
            self.levels |= 1 << level;
            self.occupied[level] |= 1 << number;
        } else {
            nodes.node(slot.last).next = index;
        }
        slot.last = index;
    }

    /// Takes a node out, if it is in.
    pub(crate) fn remove(&mut self, nodes: &mut impl Nodes, index: u32) {
        let node = nodes.node(index);
        if !node.is_linked() {
            return;
        }
        let Node { at, next, prev } = std::mem::replace(node, Node::new());
        if next != END {
            nodes.node(next).prev = prev;
        }
        if prev != END {
            nodes.node(prev).next = next;
        }
        if next != END && prev != END {
            return;
        }
        let (level, number) = self.place(at.as_nanos());
        let slot = &mut self.slots[level][number];
        if prev == END {
            slot.first = next;
        }
        if next == END {
            slot.last = prev;
        }
        if slot.first == END {
            self.vacate(level, number);
        }
    }

    fn vacate(&mut self, level: usize, number: usize) {
        self.slots[level][number] = EMPTY;
        self.occupied[level] &= !(1 << number);
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }

    /// The slot that time enters next: members of a lower level come before those of a higher one.
    fn next_slot(&self) -> Option<(usize, usize)> {
        let level = self.levels.trailing_zeros() as usize;
        (self.levels != 0).then(|| (level, self.occupied[level].trailing_zeros() as usize))
    }

    /// A moment before which nothing is due; there may be nothing at it either, when what was due then
    /// has been removed.
    pub(crate) fn next(&self) -> Option<Time> {
        self.next_slot().map(|(level, number)| self.slots[level][number].earliest)
    }

    /// Takes out at most `max` nodes that are due at `now`, earliest first, equal ones in the order in
    /// which they were put in, and gives their numbers to `due`, with the moment that they were put in
    /// for. Which answers when it is to be put in again: [`Time::NEVER`], or a moment later than that;
    /// one that is not later than `now` comes up again, in its place. Each time counts.
    pub(crate) fn take_due<N: Nodes>(
        &mut self,
        nodes: &mut N,
        now: Time,
        max: usize,
        mut due: impl FnMut(&mut N, u32, Time) -> Time,
    ) {
        if self.next().is_none_or(|next| next > now) {
            return; // as in most turns
        }
        let mut left = max;
        while let Some((level, number)) = self.next_slot() {
            let width = level as u32 * DIGIT_BITS;
            // Above its digit a member's moment is the same as `elapsed`, below it anything.
            let above = self.elapsed.checked_shr(width + DIGIT_BITS).unwrap_or(0);
            let begin = (above << DIGIT_BITS | number as u64) << width;
            if begin > now.as_nanos() {
                break;
            }
            self.elapsed = begin;
            let mut index = self.slots[level][number].first;
            if level > 0 {
                self.vacate(level, number);
                while index != END {
                    let node = nodes.node(index);
                    let Node { at, next, .. } = std::mem::replace(node, Node::new());
                    self.append(nodes, index, at.as_nanos());
                    index = next;
                }
                continue;
            }
            while index != END {
                if left == 0 {
                    return;
                }
                left -= 1;
                let next = nodes.node(index).next;
                self.remove(nodes, index);
                let again = due(nodes, index, Time::from_nanos(begin));
                debug_assert!(again.as_nanos() > begin, "or it would come up again for ever");
                self.insert(nodes, index, again);
                index = next;
            }
        }
        self.elapsed = self.elapsed.max(now.as_nanos());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct List(Vec<Node>);

    impl Nodes for List {
        fn node(&mut self, index: u32) -> &mut Node {
            &mut self.0[index as usize]
        }
    }

    fn list(count: usize) -> List {
        List((0..count).map(|_| Node::new()).collect())
    }

    fn taken(wheel: &mut Wheel, list: &mut List, now: u64, max: usize) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.take_due(list, Time::from_nanos(now), max, |_, index, _| {
            due.push(index);
            Time::NEVER
        });
        due
    }

    /// SplitMix64, so that the operations are the same on every machine.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Random settings, cancellations and steps of time, of every magnitude, against a sorted map.
    #[test]
    fn a_wheel_does_what_a_sorted_map_does() {
        for seed in 0..200 {
            let mut state = seed;
            let mut wheel = Wheel::new();
            let mut list = list(64);
            let mut model = BTreeMap::new(); // (moment, order of setting) to node
            let mut place = [None; 64];
            let (mut now, mut order) = (0_u64, 0);
            for _ in 0..2_000 {
                let index = (random(&mut state) % 64) as u32;
                let magnitude = random(&mut state) % 64;
                let span = random(&mut state) >> magnitude;
                match random(&mut state) % 8 {
                    0..4 => {
                        wheel.remove(&mut list, index);
                        if let Some(entry) = place[index as usize].take() {
                            model.remove(&entry);
                        }
                        let at = now.saturating_add(span).min(u64::MAX - 1);
                        wheel.insert(&mut list, index, Time::from_nanos(at));
                        model.insert((at, order), index);
                        place[index as usize] = Some((at, order));
                        order += 1;
                    }
                    4 => {
                        wheel.remove(&mut list, index);
                        if let Some(entry) = place[index as usize].take() {
                            model.remove(&entry);
                        }
                    }
                    5 => {
                        let earliest = model.keys().next().map(|(at, _)| *at);
                        let next = wheel.next().map(Time::as_nanos);
                        assert!(next <= earliest || earliest.is_none(), "seed {seed}");
                        assert_eq!(next.is_none(), earliest.is_none(), "seed {seed}");
                    }
                    _ => {
                        now = now.saturating_add(span >> 8).min(u64::MAX - 1);
                        let max = (random(&mut state) % 20) as usize;
                        let due: Vec<_> = model.range(..=(now, u64::MAX)).take(max).collect();
                        let due: Vec<_> = due.iter().map(|(_, index)| **index).collect();
                        assert_eq!(taken(&mut wheel, &mut list, now, max), due, "seed {seed}");
                        for index in due {
                            model.remove(&place[index as usize].take().unwrap());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_wheel_without_cancellations_tells_the_next_moment_exactly() {
        let mut wheel = Wheel::new();
        let mut list = list(3);
        for (index, at) in [1 << 40, (1 << 40) + 5, 1 << 62].into_iter().enumerate() {
            wheel.insert(&mut list, index as u32, Time::from_nanos(at));
        }
        for expected in [(0, 1 << 40), (1, (1 << 40) + 5), (2, 1 << 62)] {
            let next = wheel.next().unwrap().as_nanos();
            assert_eq!(next, expected.1);
            assert_eq!(taken(&mut wheel, &mut list, next - 1, 9), [], "nothing fires early");
            assert_eq!(taken(&mut wheel, &mut list, next, 9), [expected.0]);
        }
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn what_is_put_in_again_comes_when_it_is_due_again() {
        let mut wheel = Wheel::new();
        let mut list = list(2);
        wheel.insert(&mut list, 0, Time::from_nanos(10));
        wheel.insert(&mut list, 1, Time::from_nanos(10));
        wheel.take_due(&mut list, Time::from_nanos(20), 9, |_, index, _| {
            if index == 0 { Time::from_nanos(21) } else { Time::from_nanos(1 << 30) }
        });
        assert_eq!(wheel.next(), Some(Time::from_nanos(21)));
        assert_eq!(taken(&mut wheel, &mut list, 21, 9), [0]);
        assert_eq!(wheel.next(), Some(Time::from_nanos(1 << 30)));
    }

    #[test]
    fn the_last_moment_is_a_moment_and_never_is_none() {
        let mut wheel = Wheel::new();
        let mut list = list(2);
        wheel.insert(&mut list, 0, Time::from_nanos(u64::MAX - 1));
        wheel.insert(&mut list, 1, Time::NEVER);
        assert_eq!(taken(&mut wheel, &mut list, u64::MAX - 2, 9), []);
        assert_eq!(taken(&mut wheel, &mut list, u64::MAX - 1, 9), [0]);
        assert_eq!(taken(&mut wheel, &mut list, u64::MAX, 9), []);
        assert!(!list.0[1].is_linked());
    }
}
