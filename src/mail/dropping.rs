//! Dropping what is the user's: messages and jobs, whose `Drop` may panic.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use log::error;

use super::message_of;

/// Drops one value after the other. A panic costs none of those that come after it: the first one is
/// kept until all are dropped.
#[derive(Default)]
pub(super) struct Dropping {
    panic: Option<Box<dyn Any + Send>>,
}

impl Dropping {
    pub(super) fn drop<T>(&mut self, value: T) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) else { return };
        error!("a message or job panicked when it was dropped: {}", message_of(&*panic));
        match self.panic {
            None => self.panic = Some(panic),
            Some(_) => drop_quietly(panic),
        }
    }

    /// All are dropped: lets the first panic through, unless another one is on its way already, which
    /// would abort the process.
    pub(super) fn finish(self) {
        match self.panic {
            Some(panic) if thread::panicking() => drop_quietly(panic),
            Some(panic) => resume_unwind(panic),
            None => {}
        }
    }
}

/// Drops a value whose panic nobody is to hear of.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        mem::forget(panic); // which may panic in its turn
    }
}
