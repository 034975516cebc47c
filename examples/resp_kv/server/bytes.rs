//! Short strings of bytes, of which a store has millions.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// So many bytes fit into a [`Bytes`] without an allocation.
const INLINE_BYTES_MAX: usize = 22;

/// A string of bytes in 24 bytes: keys and values are mostly short, and an allocation for each of them would take
/// more memory than they do, and a miss of the cache with every look.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    /// The first so many bytes of the array.
    Inline(u8, [u8; INLINE_BYTES_MAX]),
    Heap(Box<[u8]>),
}

impl Bytes {
    /// Adds to the end.
    pub(crate) fn append(&mut self, more: &[u8]) {
        if self.len() + more.len() <= INLINE_BYTES_MAX {
            let whole = [self, more].concat();
            *self = Bytes::from(&whole[..]);
        } else {
            let mut whole = std::mem::take(self).into_vec(more.len());
            whole.extend_from_slice(more);
            *self = Bytes::Heap(whole.into_boxed_slice());
        }
    }

    /// As a vector that has room for `more` bytes.
    fn into_vec(self, more: usize) -> Vec<u8> {
        let mut whole = match self {
            Bytes::Inline(..) => self.to_vec(),
            Bytes::Heap(bytes) => bytes.into_vec(),
        };
        whole.reserve_exact(more);
        whole
    }
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes::Inline(0, [0; INLINE_BYTES_MAX])
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        if bytes.len() > INLINE_BYTES_MAX {
            return Bytes::Heap(bytes.into());
        }
        let mut inline = [0; INLINE_BYTES_MAX];
        inline[..bytes.len()].copy_from_slice(bytes);
        Bytes::Inline(bytes.len() as u8, inline)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Inline(len, inline) => &inline[..usize::from(*len)],
            Bytes::Heap(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Bytes) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Bytes) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}
