//! What the kernel said is possible, and what we asked to be told.

use std::fmt;
use std::ops::BitOr;

/// What a driver reported about a source: a set of hints. The truth is what the next call says.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness(pub(crate) u8);

// The values are those of epoll's EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLERR and EPOLLHUP, so that the
// compiler turns the conversion into a few masks.
impl Readiness {
    /// Nothing.
    pub const EMPTY: Readiness = Readiness(0);
    /// A read would give bytes, an end of file or an error; an accept would give a connection.
    pub const READABLE: Readiness = Readiness(1);
    /// A write would take bytes or give an error; a connect has come to its end.
    pub const WRITABLE: Readiness = Readiness(1 << 2);
    /// The peer will send no more: what can be read ends in an end of file.
    pub const READ_CLOSED: Readiness = Readiness(1 << 4);
    /// Urgent data is in the stream: a read stops short at its mark (tcp(7), `SIOCATMARK`).
    pub const PRIORITY: Readiness = Readiness(1 << 1);
    /// The source has an error to tell.
    pub const ERROR: Readiness = Readiness(1 << 3);

    /// Whether every member of `other` is in this set.
    #[inline]
    pub const fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    #[inline]
    fn bitor(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Readiness::READABLE, "readable"),
            (Readiness::WRITABLE, "writable"),
            (Readiness::READ_CLOSED, "read-closed"),
            (Readiness::PRIORITY, "priority"),
            (Readiness::ERROR, "error"),
        ];
        let mut separator = "";
        for (_, name) in names.iter().filter(|(bit, _)| self.contains(*bit)) {
            write!(f, "{separator}{name}")?;
            separator = "+";
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

/// What a raw source asks to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// When it can be read.
    Readable,
    /// When it can be written.
    Writable,
    /// Both.
    Both,
}
