//! Who holds the loop up.
//!
//! Every turn is timed, which takes no more than the clock readings that waiting takes anyway. Only
//! after a turn that took too long each callback is timed, for a while: it is the next one that will
//! be named.

use std::fmt;
use std::time::Duration;

use log::warn;

use crate::clock::Time;
use crate::command::Host;
use crate::connection::Connection;
use crate::context::Context;
use crate::core::Core;
use crate::driver::Driver;
use crate::key::Key;
use crate::reactor::Reactor;

/// An echo takes some microseconds; a turn with a thousand of them, some milliseconds.
const THRESHOLD: Duration = Duration::from_millis(50);

/// For how long callbacks are timed after a slow turn.
const TIMING: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Turns and callbacks that take at least so many nanoseconds are reported.
    threshold_nanos: u64,
    /// Callbacks are timed in turns that begin before this moment.
    timing_until: Time,
    /// Callbacks are timed in this turn.
    is_timing: bool,
    /// The longest callback of this turn, if they are timed.
    longest: Option<Callback>,
    /// When the turn that was not judged yet began; [`Time::NEVER`] if there is none.
    turn_began: Time,
}

/// A call of a handler, and how long it took.
#[derive(Clone, Copy, Debug)]
struct Callback {
    key: Key,
    handler: &'static str,
    name: &'static str,
    took: Duration,
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key != Key::NONE {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{} of {} took {:.1?}", self.name, self.handler, self.took)
    }
}

impl Watchdog {
    pub(crate) fn new() -> Watchdog {
        Watchdog {
            threshold_nanos: THRESHOLD.as_nanos() as u64,
            timing_until: Time::default(),
            is_timing: false,
            longest: None,
            turn_began: Time::NEVER,
        }
    }

    /// The turn's second phase: it began at `now`. Whether its callbacks are timed.
    pub(crate) fn begin_turn(&mut self, now: Time) -> bool {
        self.turn_began = now;
        self.longest = None;
        self.is_timing = now < self.timing_until;
        self.is_timing
    }
}

/// What a callback is lent.
pub(crate) trait Lent {
    fn parts(&mut self) -> (&mut Core, &dyn Host);
}

impl Lent for Context<'_> {
    fn parts(&mut self) -> (&mut Core, &dyn Host) {
        (self.core, self.host)
    }
}

impl Lent for Connection<'_> {
    fn parts(&mut self) -> (&mut Core, &dyn Host) {
        self.context.parts()
    }
}

/// Makes a call of a handler of type `H`, and takes the time if that is asked for.
#[inline]
pub(crate) fn timed<H, L: Lent, R>(
    lent: &mut L,
    key: Key,
    name: &'static str,
    call: impl FnOnce(&mut L) -> R,
) -> R {
    let (core, host) = lent.parts();
    if !core.watchdog.is_timing {
        return call(lent);
    }
    let began = host.now();
    let result = call(lent);
    let (core, host) = lent.parts();
    let took = host.now() - began;
    core.note_callback(Callback { key, handler: std::any::type_name::<H>(), name, took });
    result
}

impl Core {
    #[cold]
    fn note_callback(&mut self, callback: Callback) {
        let watchdog = &mut self.watchdog;
        if watchdog.longest.is_none_or(|longest| longest.took < callback.took) {
            watchdog.longest = Some(callback);
        }
        if callback.took.as_nanos() >= u128::from(watchdog.threshold_nanos) {
            self.stats.slow_callbacks += 1;
            warn!("{callback}");
        }
    }

    #[cold]
    fn report_slow_turn(&mut self, took: Duration, now: Time) {
        self.stats.slow_turns += 1;
        let turn = self.stats.turns;
        let watchdog = &mut self.watchdog;
        match watchdog.longest {
            Some(longest) => warn!("turn {turn} took {took:.1?}; the longest callback: {longest}"),
            None => {
                warn!("turn {turn} took {took:.1?}; callbacks are timed for {TIMING:?} from now")
            }
        }
        watchdog.timing_until = watchdog.timing_until.max(now + TIMING);
    }
}

impl<D: Driver> Reactor<D> {
    /// Which turns are reported as slow: those that take at least so long, with all their callbacks;
    /// `None` reports none. Default 50 ms. Everybody waits while a handler computes, sleeps or asks a
    /// disk; a slow turn is the sign of it.
    ///
    /// It is logged as a warning and counted in [`Stats`](crate::Stats). Which handler it was, nobody
    /// knows then; so for the ten seconds that follow every callback is timed, and one that takes at
    /// least so long by itself is logged with its handler's type and its connection. A callback that
    /// does not return at all is not reported.
    ///
    /// # Cost
    ///
    /// No more than the histogram of turns takes anyway: two readings of the clock a turn, of which
    /// waiting needs both. While callbacks are timed, two for each of them, and messages go the long
    /// way.
    pub fn set_watchdog(&mut self, threshold: Option<Duration>) {
        let nanos = threshold.unwrap_or(Duration::MAX).as_nanos();
        self.core.watchdog.threshold_nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    }

    /// Times every callback from now on, and not only after a slow turn; or not any more. To look for
    /// what takes long while it is rare: a callback is reported the first time.
    pub fn time_callbacks(&mut self, yes: bool) {
        self.core.watchdog.timing_until = if yes { Time::NEVER } else { Time::default() };
    }

    /// Whether a turn has begun that was not judged yet.
    pub(crate) fn has_open_turn(&self) -> bool {
        self.core.watchdog.turn_began != Time::NEVER
    }

    /// The turn that was not judged yet was left by a panic; what came since is not its time.
    pub(crate) fn forget_turn(&mut self) {
        self.core.watchdog.turn_began = Time::NEVER;
    }

    /// The turn that was not judged yet, if there is one, ended at `now`. One with nothing to do, as
    /// while the loop spins, is not counted.
    pub(crate) fn end_turn(&mut self, now: Time) {
        let core = &mut self.core;
        let began = std::mem::replace(&mut core.watchdog.turn_began, Time::NEVER);
        if began == Time::NEVER || !core.has_worked {
            return;
        }
        self.last_work = now;
        let took = now.as_nanos().saturating_sub(began.as_nanos());
        core.stats.turn_time.record_nanos(took);
        if took >= core.watchdog.threshold_nanos {
            core.report_slow_turn(Duration::from_nanos(took), now);
        }
    }
}
