//! What the files of this directory that other threads enter are built of. The model checker in
//! `tests/model` takes the same files and puts its own primitives in the place of this one.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
pub(crate) use std::sync::{Mutex, OnceLock};
