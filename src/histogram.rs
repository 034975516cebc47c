//! How long things took, counted by powers of two.

use std::fmt;
use std::time::Duration;

/// The last one is for everything from nine minutes up.
const BUCKETS: usize = 41;

/// How many times something took how long: a count for each power of two of nanoseconds, so that a
/// quantile is known to a factor of two, at the price of two additions.
///
/// ```
/// use std::time::Duration;
/// use oneloop::Histogram;
///
/// let mut times = Histogram::new();
/// for micros in 1..=1000 {
///     times.record(Duration::from_micros(micros));
/// }
/// assert_eq!(times.count(), 1000);
/// assert!(times.quantile(0.5) >= Duration::from_micros(500));
/// assert!(times.quantile(0.5) < Duration::from_micros(1000));
/// assert_eq!(times.quantile(1.0), times.max());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    /// By the number of binary digits: number 0 counts zeros, number n what is under 2^n and no less
    /// than half of that.
    counts: [u64; BUCKETS],
    max_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Histogram {
    /// Nothing counted.
    pub const fn new() -> Histogram {
        Histogram { counts: [0; BUCKETS], max_nanos: 0 }
    }

    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        self.record_nanos(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    #[inline]
    pub(crate) fn record_nanos(&mut self, nanos: u64) {
        let digits = (u64::BITS - nanos.leading_zeros()) as usize;
        self.counts[digits.min(BUCKETS - 1)] += 1;
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest, exactly; zero if nothing was counted.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// How long all but a share of them took at the most: of `0.99`, what one in a hundred may have
    /// exceeded. It is too long by a factor of two at the most (of what took minutes, it is the
    /// longest), and never too short; zero if nothing was counted.
    ///
    /// # Panics
    ///
    /// If the share is not between 0 and 1.
    pub fn quantile(&self, share: f64) -> Duration {
        assert!((0.0..=1.0).contains(&share), "a quantile is between 0 and 1, not {share}");
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut below = 0;
        for (bound, count) in self.buckets() {
            below += count;
            if below >= wanted && below > 0 {
                return bound;
            }
        }
        self.max()
    }

    /// The counts, for who draws or exports them: each with the most that those it counts took. Those of
    /// nothing are left out.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(digits, count)| {
            let most = if digits < BUCKETS - 1 { (1 << digits) - 1 } else { u64::MAX };
            (Duration::from_nanos(most.min(self.max_nanos)), *count)
        })
    }
}

impl fmt::Display for Histogram {
    /// One line for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} times", self.count())?;
        if self.count() > 0 {
            for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                write!(f, ", {name} <= {:.1?}", self.quantile(share))?;
            }
            write!(f, ", max {:.1?}", self.max())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    #[test]
    fn a_quantile_is_never_too_short_and_at_most_twice_too_long() {
        let values: Vec<u64> = (0..1000u64).map(|i| i * i * i).collect();
        let mut times = Histogram::new();
        values.iter().for_each(|value| times.record(nanos(*value)));
        for percent in 0..=100 {
            let share = f64::from(percent) / 100.0;
            let rank = (values.len() as f64 * share).ceil() as usize;
            let exact = values[rank.max(1) - 1];
            let bound = times.quantile(share);
            assert!(bound >= nanos(exact) && bound <= nanos(2 * exact), "{percent}: {bound:?}");
        }
        assert_eq!(times.quantile(1.0), nanos(999 * 999 * 999));
    }

    #[test]
    fn nothing_and_everything_can_be_counted() {
        let mut times = Histogram::new();
        assert_eq!((times.count(), times.quantile(0.5), times.max()), (0, nanos(0), nanos(0)));
        assert_eq!(times.to_string(), "0 times");
        times.record(nanos(0));
        assert_eq!(times.quantile(1.0), nanos(0));
        times.record(Duration::MAX);
        assert_eq!((times.count(), times.quantile(1.0)), (2, nanos(u64::MAX)));
        times.record(nanos(1));
        let buckets: Vec<_> = times.buckets().collect();
        assert_eq!(buckets, [(nanos(0), 1), (nanos(1), 1), (nanos(u64::MAX), 1)]);
    }

    #[test]
    fn a_line_tells_the_usual_quantiles() {
        let mut times = Histogram::new();
        times.record(nanos(1500));
        let line = "1 times, p50 <= 1.5µs, p99 <= 1.5µs, p99.9 <= 1.5µs, max 1.5µs";
        assert_eq!(times.to_string(), line);
    }
}
