//! The one place that reads the clocks of the machine.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime};

/// A moment on the reactor's monotonic clock, in nanoseconds since the driver was made.
///
/// It never goes back and has no relation to the calendar. Arithmetic saturates: a moment too far away
/// to express (584 years) is [`Time::NEVER`]. While the machine is suspended the clock stands still
/// (`CLOCK_MONOTONIC`, clock_gettime(2)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    nanos: u64,
}

impl Time {
    /// Later than any moment that comes.
    pub const NEVER: Time = Time { nanos: u64::MAX };

    /// The moment `nanos` nanoseconds after the driver was made.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time { nanos }
    }

    /// Nanoseconds since the driver was made.
    pub const fn as_nanos(self) -> u64 {
        self.nanos
    }

    /// How long ago `earlier` was; zero if it is yet to come.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time { nanos: self.nanos.saturating_add(nanos) }
    }
}

impl Sub for Time {
    type Output = Duration;

    /// The same as [`since`](Time::since).
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.nanos))
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { base: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        // 584 years fit.
        let elapsed = self.base.elapsed();
        Time::from_nanos(elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()))
    }

    pub(crate) fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_overflowing() {
        let late = Time::from_nanos(5) + Duration::MAX;
        assert_eq!(late, Time::NEVER);
        assert_eq!(late + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time::from_nanos(5).since(late), Duration::ZERO);
        assert_eq!(Time::from_nanos(7) - Time::from_nanos(5), Duration::from_nanos(2));
    }
}
