//! What a key stands for: a value of one of four types.

use std::collections::VecDeque;

use ahash::RandomState;
use indexmap::{IndexMap, IndexSet};
use smallvec::SmallVec;

/// A string of bytes, of which up to 16 need no allocation: keys and values are mostly short, and an allocation for
/// each of them would take more memory than they do, and a miss of the cache with every look. It takes 24 bytes.
pub type Bytes = SmallVec<[u8; 16]>;

const _: () = assert!(size_of::<Bytes>() == 24);

/// The order of its entries does not depend on their hashes, so it tells clients nothing about the secret in these.
pub type Hash = IndexMap<Bytes, Bytes, RandomState>;
pub type List = VecDeque<Bytes>;
pub type Set = IndexSet<Bytes, RandomState>;

pub enum Value {
    String(Bytes),
    Hash(Box<Hash>),
    List(Box<List>),
    Set(Box<Set>),
}

impl Value {
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Hash(_) => "hash",
            Value::List(_) => "list",
            Value::Set(_) => "set",
        }
    }

    /// How many entries it has, of which a string is one. Without any it is not to be there.
    pub fn len(&self) -> usize {
        match self {
            Value::String(_) => 1,
            Value::Hash(hash) => hash.len(),
            Value::List(list) => list.len(),
            Value::Set(set) => set.len(),
        }
    }
}

/// One of the four types that values have.
pub trait Type {
    /// A value of this type with nothing in it.
    fn empty() -> Value;

    /// What a value contains, if it is of this type.
    fn of(value: &mut Value) -> Option<&mut Self>;

    fn len(&self) -> usize;
}

macro_rules! types {
    ($($variant:ident($type:ty)),*) => {$(
        impl Type for $type {
            fn empty() -> Value {
                Value::$variant(Default::default())
            }

            fn of(value: &mut Value) -> Option<&mut $type> {
                if let Value::$variant(it) = value { Some(it) } else { None }
            }

            fn len(&self) -> usize {
                <$type>::len(self)
            }
        }
    )*};
}

types!(String(Bytes), Hash(Hash), List(List), Set(Set));
