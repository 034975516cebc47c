//! A reactor's remote control.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::driver::Driver;
use crate::mail::Bell;
use crate::reactor::Reactor;
use crate::stats::Stats;

/// Reaches a reactor from any thread, also from one of another reactor. Clones reach the same one.
///
/// The reactor hears of what it asks for in the mail phase of its next turn, for which it is woken. A
/// handle does not keep the reactor alive, and outlives it; a reactor that has stopped and is still there
/// can be run again, and asked.
///
/// ```
/// use std::time::Duration;
///
/// use oneloop::Reactor;
///
/// let mut reactor = Reactor::new()?;
/// let handle = reactor.handle()?;
/// let thread = std::thread::spawn(move || {
///     let turns = handle.stats(Duration::from_secs(10)).expect("it runs").turns;
///     handle.stop().expect("it runs");
///     turns
/// });
/// reactor.run()?;
/// assert!(thread.join().unwrap() >= 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wanted: Mutex<Wanted>,
    /// There is an answer, or there will be none.
    answered: Condvar,
    bell: Arc<Bell>,
}

/// What was asked for, and the last answer.
#[derive(Debug, Default)]
struct Wanted {
    stop: bool,
    drain: Option<Duration>,
    /// How often somebody asked for the statistics, and how many of these have an answer.
    stats_asked: u64,
    stats_answered: u64,
    stats: Stats,
    has_ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // Nothing that panics is done under the lock.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Stops the reactor, as [`Context::stop`](crate::Context::stop) does. One that does not run stops
    /// in its next turn, unless it was stopped before that otherwise: a stop is one stop.
    ///
    /// # Errors
    ///
    /// [`HandleError::Ended`].
    ///
    /// # Cost
    ///
    /// As [`Sender::post`](crate::Sender::post), and a lock that is held for some instructions.
    pub fn stop(&self) -> Result<(), HandleError> {
        self.ask(|wanted| wanted.stop = true)
    }

    /// Drains the reactor, as [`Context::drain`](crate::Context::drain) does: who is connected may finish
    /// within `timeout`, which begins when the reactor hears of it. Of several that it hears of at once the
    /// shortest counts.
    ///
    /// # Errors
    ///
    /// [`HandleError::Ended`].
    ///
    /// # Cost
    ///
    /// As [`stop`](Self::stop).
    pub fn drain(&self, timeout: Duration) -> Result<(), HandleError> {
        self.ask(|wanted| {
            wanted.drain = Some(wanted.drain.map_or(timeout, |earlier| earlier.min(timeout)));
        })
    }

    /// What the reactor did so far. The call blocks until the reactor's next turn answers; on the
    /// reactor's own thread that cannot be, see [`Context::stats`](crate::Context::stats) there.
    ///
    /// # Errors
    ///
    /// [`HandleError::Ended`]; [`HandleError::TimedOut`] if no turn answered for so long.
    pub fn stats(&self, timeout: Duration) -> Result<Stats, HandleError> {
        let mut mine = 0;
        self.ask(|wanted| {
            wanted.stats_asked += 1;
            mine = wanted.stats_asked;
        })?;
        let is_missing = |wanted: &mut Wanted| wanted.stats_answered < mine && !wanted.has_ended;
        let waited =
            self.shared.answered.wait_timeout_while(self.shared.lock(), timeout, is_missing);
        let (wanted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if wanted.stats_answered >= mine {
            Ok(wanted.stats.clone())
        } else if wanted.has_ended {
            Err(HandleError::Ended)
        } else {
            Err(HandleError::TimedOut)
        }
    }

    /// Whether the reactor is gone.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().has_ended
    }

    fn ask(&self, note: impl FnOnce(&mut Wanted)) -> Result<(), HandleError> {
        let mut wanted = self.shared.lock();
        if wanted.has_ended {
            return Err(HandleError::Ended);
        }
        note(&mut wanted);
        drop(wanted);
        self.shared.bell.ring();
        Ok(())
    }
}

/// Why a [`Handle`] could not do what it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HandleError {
    /// The reactor was dropped.
    Ended,
    /// The reactor did not answer in time.
    TimedOut,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandleError::Ended => "the reactor has ended",
            HandleError::TimedOut => "the reactor does not answer",
        })
    }
}

impl Error for HandleError {}

/// The reactor's half.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    shared: Option<Arc<Shared>>,
}

impl Requests {
    /// Everything was stopped: whoever asked for it has got it.
    pub(crate) fn forget_stop(&self) {
        if let Some(shared) = &self.shared {
            let mut wanted = shared.lock();
            wanted.stop = false;
            wanted.drain = None;
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().has_ended = true;
            shared.answered.notify_all();
        }
    }
}

impl<D: Driver> Reactor<D> {
    /// A handle, for other threads: to stop or drain the reactor, or ask what it does.
    ///
    /// # Errors
    ///
    /// For the first one, as for the first mailbox: there is no descriptor to be woken by (eventfd(2)).
    ///
    /// # Cost
    ///
    /// As [`attach`](Self::attach): an eventfd for the first handle or mailbox. Further handles are
    /// counted references to the same.
    pub fn handle(&mut self) -> io::Result<Handle> {
        if self.mailroom.requests.shared.is_none() {
            let shared =
                Shared { wanted: Mutex::default(), answered: Condvar::new(), bell: self.bell()? };
            self.mailroom.requests.shared = Some(Arc::new(shared));
        }
        let shared = self.mailroom.requests.shared.as_ref().expect("made above");
        Ok(Handle { shared: Arc::clone(shared) })
    }

    /// The mail phase's part: what handles asked for.
    pub(crate) fn answer_requests(&mut self) {
        let Some(shared) = &self.mailroom.requests.shared else { return };
        let mut wanted = shared.lock();
        if wanted.stats_answered < wanted.stats_asked {
            wanted.stats_answered = wanted.stats_asked;
            wanted.stats = self.core.stats.clone();
            shared.answered.notify_all();
        }
        if let Some(timeout) = wanted.drain.take() {
            self.core.drain(timeout);
        }
        if std::mem::take(&mut wanted.stop) {
            self.core.stopping = true;
        }
    }
}
