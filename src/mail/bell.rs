//! What tells a reactor that something was posted.

use std::fmt;
use std::sync::Arc;

use super::sync::{AtomicU8, Ordering, fence};
use crate::driver::Wake;

/// The reactor is awake and will look at its mail before it sleeps, if it is told that there is some.
const AWAKE: u8 = 0;
/// The reactor waits in the kernel, or is about to.
const ASLEEP: u8 = 1;
/// Something was posted that the reactor has not looked at.
const RUNG: u8 = 2;

/// One for each reactor that gets mail.
///
/// ```text
///   who posts                               the reactor
///     put it into the queue                   nothing to do: AWAKE -> ASLEEP, unless it is RUNG
///     fence                                   wait in the kernel, unless it is RUNG
///     RUNG, if it is not already              ASLEEP -> AWAKE
///     it was ASLEEP: wake(), a system call    in the mail phase, RUNG -> AWAKE
///                                             fence
///                                             look into the queues
/// ```
///
/// Nothing is lost on the way to sleep: of the two changes of a bell that was `AWAKE`, one comes first;
/// either the reactor finds `RUNG` and does not sleep, or the poster finds `ASLEEP` and wakes it. Nor
/// on the way to the queues: a poster that changes nothing has seen a `RUNG` that the reactor had not
/// taken back yet, so that its fence came before the reactor's, and with it what it put into the queue.
///
/// So posting to a reactor that is awake is no system call, and any number of posts to one that sleeps
/// are one.
pub(crate) struct Bell {
    state: AtomicU8,
    waker: Arc<dyn Wake>,
}

impl Bell {
    pub(crate) fn new(waker: Arc<dyn Wake>) -> Bell {
        Bell { state: AtomicU8::new(AWAKE), waker }
    }

    /// Announces what was made known before.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        self.ring_after_fence();
    }

    /// The same, for whoever has made a fence since.
    pub(crate) fn ring_after_fence(&self) {
        // Looked at before it is changed, so that many posters can share the cache line.
        if self.state.load(Ordering::Relaxed) == RUNG {
            return;
        }
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            self.waker.wake();
        }
    }

    /// Before the reactor waits: whether it may, because nothing was posted. From here to
    /// [`wake_up`](Self::wake_up) who posts has to wake it.
    pub(crate) fn fall_asleep(&self) -> bool {
        let before =
            self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        before != Err(RUNG)
    }

    /// After the reactor waited.
    pub(crate) fn wake_up(&self) {
        // In vain if it is rung, which is to stay so until the mail is looked at.
        let _ = self.state.compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Whether something was posted; whoever asks has to look at all of it now.
    #[inline]
    pub(crate) fn answer(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RUNG && self.take()
    }

    #[cold]
    fn take(&self) -> bool {
        self.state.swap(AWAKE, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        true
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("state", &self.state).finish_non_exhaustive()
    }
}
