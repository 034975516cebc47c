//! What a key stands for: a value of one of four types.

use std::collections::VecDeque;

use ahash::RandomState;
use indexmap::{IndexMap, IndexSet};

use super::bytes::Bytes;

/// The order of the entries does not depend on the hashes, which are secret.
pub(crate) type Hash = IndexMap<Bytes, Bytes, RandomState>;
pub(crate) type List = VecDeque<Bytes>;
pub(crate) type Set = IndexSet<Bytes, RandomState>;

pub(crate) enum Value {
    String(Bytes),
    Hash(Box<Hash>),
    List(Box<List>),
    Set(Box<Set>),
}

/// How much room is to be left to something of this length and capacity, if it is worth the move.
pub(crate) fn less_room(len: usize, capacity: usize) -> Option<usize> {
    const KEPT: usize = 64;
    (capacity > KEPT.max(8 * len)).then_some(2 * len)
}

impl Value {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Hash(_) => "hash",
            Value::List(_) => "list",
            Value::Set(_) => "set",
        }
    }

    /// Whether a hash, list or set has nothing in it, and so is not to be there.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Value::String(_) => false,
            Value::Hash(hash) => hash.is_empty(),
            Value::List(list) => list.is_empty(),
            Value::Set(set) => set.is_empty(),
        }
    }

    /// Gives memory back, if much more was in it once.
    pub(crate) fn shrink(&mut self) {
        let (len, capacity) = match self {
            Value::String(_) => return,
            Value::Hash(hash) => (hash.len(), hash.capacity()),
            Value::List(list) => (list.len(), list.capacity()),
            Value::Set(set) => (set.len(), set.capacity()),
        };
        let Some(room) = less_room(len, capacity) else { return };
        match self {
            Value::String(_) => {}
            Value::Hash(hash) => hash.shrink_to(room),
            Value::List(list) => list.shrink_to(room),
            Value::Set(set) => set.shrink_to(room),
        }
    }
}

/// What the values of one type are inside.
pub(crate) trait Type {
    /// One with nothing in it.
    fn empty(hasher: &RandomState) -> Value;

    /// What is inside of a value, if it is of this type.
    fn of(value: &mut Value) -> Option<&mut Self>;
}

impl Type for Bytes {
    fn empty(_: &RandomState) -> Value {
        Value::String(Bytes::default())
    }

    fn of(value: &mut Value) -> Option<&mut Bytes> {
        if let Value::String(string) = value { Some(string) } else { None }
    }
}

impl Type for Hash {
    fn empty(hasher: &RandomState) -> Value {
        Value::Hash(Box::new(Hash::with_hasher(hasher.clone())))
    }

    fn of(value: &mut Value) -> Option<&mut Hash> {
        if let Value::Hash(hash) = value { Some(hash) } else { None }
    }
}

impl Type for List {
    fn empty(_: &RandomState) -> Value {
        Value::List(Box::default())
    }

    fn of(value: &mut Value) -> Option<&mut List> {
        if let Value::List(list) = value { Some(list) } else { None }
    }
}

impl Type for Set {
    fn empty(hasher: &RandomState) -> Value {
        Value::Set(Box::new(Set::with_hasher(hasher.clone())))
    }

    fn of(value: &mut Value) -> Option<&mut Set> {
        if let Value::Set(set) = value { Some(set) } else { None }
    }
}
