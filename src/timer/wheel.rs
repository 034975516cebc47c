//! A hierarchical timing wheel (Varghese and Lauck, 1987) whose nodes live with whom they belong to.
//!
//! A moment is a number of nanoseconds, written in eleven digits of six bits. What is to come is kept
//! in the list of the first digit in which it differs from `elapsed`, and of that digit's value: 11
//! levels of 64 slots. When time enters a slot, its list moves down, each member to the list of its
//! next digit, until on the lowest level everything in a slot is due at the same nanosecond. So setting
//! and cancelling touch a few words whatever the distance, nothing fires early, and equals fire in the
//! order in which they were set. A list that is too long to be moved at once is moved in parts, and
//! nothing fires in between.

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

impl Slot {
    fn is_empty(&self) -> bool {
        self.first == END
    }

    /// A member at one end, or at both, is gone, which stood between these.
    fn close_end(&mut self, next: u32, prev: u32) {
        if prev == END {
            self.first = next;
        }
        if next == END {
            self.last = prev;
        }
    }

    fn push(&mut self, nodes: &mut impl Nodes, index: u32, at: Time) {
        let node = nodes.node(index);
        debug_assert!(!node.is_linked());
        *node = Node { at, next: END, prev: self.last };
        self.earliest = self.earliest.min(at);
        match self.last {
            END => self.first = index,
            last => nodes.node(last).next = index,
        }
        self.last = index;
    }
}

/// How many nodes are moved down in one call of [`Wheel::take_due`], at most: some hundred microseconds.
const MOVES_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Wheel {
    /// Time has come so far: nothing in the wheel is due before it. Invariant: every node that is not
    /// `moving` stands where `place` says, which moving `elapsed` up to the next slot's begin does not
    /// change.
    elapsed: u64,
    /// Which levels, and which slots of each, have members.
    levels: u32,
    occupied: [u64; LEVELS],
    slots: Box<[[Slot; SLOTS]; LEVELS]>,
    /// What is still to be moved down of the slot that time has entered, and the level of that slot.
    /// Invariant: while there is any, whatever belongs below that level and is put in goes to its end, so
    /// that equals stay in order; and nothing is taken, because any of it may be due first.
    moving: Slot,
    moving_level: usize,
    moves_max: usize,
}

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel {
            elapsed: 0,
            levels: 0,
            occupied: [0; LEVELS],
            slots: Box::new([[EMPTY; SLOTS]; LEVELS]),
            moving: EMPTY,
            moving_level: 0,
            moves_max: MOVES_MAX,
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
        let (level, number) = self.place(at);
        if !self.moving.is_empty() && level < self.moving_level {
            return self.moving.push(nodes, index, Time::from_nanos(at));
        }
        self.append(nodes, index, at, level, number);
    }

    fn append<N: Nodes>(
        &mut self,
        nodes: &mut N,
        index: u32,
        at: u64,
        level: usize,
        number: usize,
    ) {
        let slot = &mut self.slots[level][number];
        if slot.is_empty() {
            self.levels |= 1 << level;
            self.occupied[level] |= 1 << number;
        }
        slot.push(nodes, index, Time::from_nanos(at));
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
        if self.moving.first == index || self.moving.last == index {
            return self.moving.close_end(next, prev);
        }
        let (level, number) = self.place(at.as_nanos());
        let slot = &mut self.slots[level][number];
        slot.close_end(next, prev);
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
        if !self.moving.is_empty() {
            return Some(self.moving.earliest);
        }
        self.next_slot().map(|(level, number)| self.slots[level][number].earliest)
    }

    /// Takes out at most `max` nodes that are due at `now`, earliest first, equal ones in the order in
    /// which they were put in, and gives their numbers to `due`, with the moment that they were put in
    /// for. Which answers when it is to be put in again: [`Time::NEVER`], or a moment later than that;
    /// one that is not later than `now` comes up again, in its place. Each time counts. It may give fewer
    /// than there are, or none, and go on the next time: then [`next`](Self::next) is not after `now`.
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
        let (mut left, mut moves_left) = (max, self.moves_max);
        loop {
            if !self.move_down(nodes, &mut moves_left) {
                return;
            }
            let Some((level, number)) = self.next_slot() else { break };
            let width = level as u32 * DIGIT_BITS;
            // Above its digit a member's moment is the same as `elapsed`, below it anything.
            let above = self.elapsed.checked_shr(width + DIGIT_BITS).unwrap_or(0);
            let begin = (above << DIGIT_BITS | number as u64) << width;
            if begin > now.as_nanos() {
                break;
            }
            self.elapsed = begin;
            if level > 0 {
                self.moving = self.slots[level][number];
                self.moving_level = level;
                self.vacate(level, number);
                continue;
            }
            let mut index = self.slots[level][number].first;
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

    /// Moves the members of the slot that time has entered to the lists of their next digits; whether all
    /// of them are moved.
    fn move_down<N: Nodes>(&mut self, nodes: &mut N, moves_left: &mut usize) -> bool {
        let mut index = self.moving.first;
        while index != END {
            if *moves_left == 0 {
                nodes.node(index).prev = END;
                self.moving.first = index;
                return false;
            }
            *moves_left -= 1;
            let Node { at, next, .. } = std::mem::replace(nodes.node(index), Node::new());
            let (level, number) = self.place(at.as_nanos());
            self.append(nodes, index, at.as_nanos(), level, number);
            index = next;
        }
        self.moving = EMPTY;
        true
    }
}

#[cfg(test)]
mod tests;
