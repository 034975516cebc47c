//! Short strings of bytes, of which a store has millions.

use smallvec::SmallVec;

/// A string of bytes, of which up to 16 need no allocation: keys and values are mostly short, and an allocation for
/// each of them would take more memory than they do, and a miss of the cache with every look. It takes 24 bytes.
pub(crate) type Bytes = SmallVec<[u8; 16]>;

const _: () = assert!(size_of::<Bytes>() == 24);
