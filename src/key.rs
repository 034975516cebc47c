//! Names that outlive what they name.

use std::fmt;

/// Names one source of a reactor (a connection, a datagram socket, a listener or a raw source) for its whole life, and
/// never another one.
///
/// A key is the index of a slot and the generation of what lives there. When a source ends, its slot
/// may be used again, with the next generation: a key that was kept for too long finds nothing, it
/// never finds the wrong one. Keys of different reactors are not told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `generation << 32 | index`: one register, and what the poll is told as its token.
    bits: u64,
}

impl Key {
    /// Names nothing: no table has so many slots. (All ones: that takes one instruction to store.)
    pub(crate) const NONE: Key = Key::from_bits(u64::MAX);

    /// The driver's own: signals have come.
    pub(crate) const SIGNALS: Key = Key::new(u32::MAX - 2, 0);
    /// The key of the event by which another thread wakes the reactor; it finds nothing either.
    pub(crate) const WAKER: Key = Key::new(u32::MAX - 1, 0);

    pub(crate) const fn new(index: u32, generation: u32) -> Key {
        Key::from_bits((generation as u64) << 32 | index as u64)
    }

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.bits as u32 as usize
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.bits >> 32) as u32
    }

    /// The key as one integer, for a log line, a map, or a message to somewhere else.
    pub const fn to_bits(self) -> u64 {
        self.bits
    }

    /// The key that [`to_bits`](Key::to_bits) gave. Any other integer makes a key that finds nothing,
    /// or one that somebody else was given.
    pub const fn from_bits(bits: u64) -> Key {
        Key { bits }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.index(), self.generation())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}
