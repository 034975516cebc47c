//! How long to wait before the next try.

use std::time::Duration;

/// Waiting times between tries of something that failed: each up to twice as long as the one before, and
/// none as long as another one's, so that all who lost the same server do not come back together.
///
/// [`ConnectOptions::retry`](crate::ConnectOptions::retry) takes one for a few tries of one connection; here
/// the handler itself tries for ever.
///
/// It knows no clock and draws no numbers: the randomness is [`Context::random`](crate::Context::random)'s,
/// so that a simulation of its user repeats.
///
/// ```
/// use std::net::SocketAddr;
/// use std::time::Duration;
///
/// use oneloop::{Backoff, ConnectError, Connection, Context, Error, Key, StreamHandler, TimerId};
///
/// /// Stays connected to a server, as far as that can be.
/// struct Uplink {
///     server: SocketAddr,
///     backoff: Backoff,
/// }
///
/// impl Uplink {
///     fn new(server: SocketAddr) -> Uplink {
///         let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
///         Uplink { server, backoff }
///     }
/// }
///
/// impl StreamHandler for Uplink {
///     type Session = ();
///
///     fn on_start(&mut self, cx: &mut Context<'_>) {
///         cx.connect(self.server, 0);
///     }
///
///     fn on_connect_failed(&mut self, _: Key, _: u64, _: ConnectError, cx: &mut Context<'_>) {
///         let random = cx.random();
///         cx.set_handler_timer(self.backoff.next(random));
///     }
///
///     fn on_handler_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
///         cx.connect(self.server, 0);
///     }
///
///     fn on_open(&mut self, _: &mut Connection<'_>) {
///         self.backoff.reset();
///     }
///
///     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
///         Ok(data.len())
///     }
/// }
/// # Uplink::new(([127, 0, 0, 1], 7000).into());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    /// The most that the next one may be.
    cap: Duration,
}

impl Backoff {
    /// From `first` on, doubled after each try until it is `max`.
    ///
    /// # Panics
    ///
    /// If `first` is zero or more than `max`.
    pub fn new(first: Duration, max: Duration) -> Backoff {
        assert!(first > Duration::ZERO, "a try that follows at once is no back-off");
        assert!(first <= max, "a back-off grows: from {first:?} to {max:?} it does not");
        Backoff { first, max, cap: first }
    }

    /// How long to wait before the next try: at least half of what it is at most, by `random`, and never
    /// zero.
    pub fn next(&mut self, random: u64) -> Duration {
        let nanos = u64::try_from(self.cap.as_nanos()).unwrap_or(u64::MAX);
        self.cap = self.cap.saturating_mul(2).min(self.max);
        let half = nanos / 2;
        Duration::from_nanos(nanos - half + random % (half + 1))
    }

    /// It went well: the next one is the first again.
    pub fn reset(&mut self) {
        self.cap = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_doubles_from_the_first_to_the_most_and_a_reset_begins_anew() {
        // The largest remainder of all halves: an odd number one less than the power of two above.
        let longest = |backoff: &mut Backoff, cap: Duration| {
            let half = cap.as_nanos() as u64 / 2;
            backoff.next(half)
        };
        let mut backoff = Backoff::new(10 * MS, 100 * MS);
        for cap in [10, 20, 40, 80, 100, 100] {
            assert_eq!(longest(&mut backoff.clone(), cap * MS), cap * MS);
            assert_eq!(backoff.next(0), cap * MS / 2);
        }
        backoff.reset();
        assert_eq!(longest(&mut backoff, 10 * MS), 10 * MS);
    }

    #[test]
    fn each_is_between_half_of_the_most_and_the_most_whatever_the_number() {
        let mut state = 1;
        for _ in 0..1000 {
            let random = crate::random::random(&mut state);
            let mut backoff = Backoff::new(3 * MS, 3 * MS);
            let wait = backoff.next(random);
            assert!(wait >= 3 * MS / 2 && wait <= 3 * MS, "{random}: {wait:?}");
        }
    }

    #[test]
    fn it_spreads_those_who_failed_together() {
        let mut state = 1;
        let waits: std::collections::HashSet<Duration> = (0..1000)
            .map(|_| Backoff::new(100 * MS, 100 * MS).next(crate::random::random(&mut state)))
            .collect();
        assert!(waits.len() > 990, "{} of a thousand", waits.len());
    }

    #[test]
    fn the_shortest_is_not_zero_and_the_longest_does_not_overflow() {
        for nanos in 1..10 {
            let wait = Duration::from_nanos(nanos);
            for random in [0, 1, 2, u64::MAX] {
                assert_ne!(Backoff::new(wait, wait).next(random), Duration::ZERO);
            }
        }
        let mut endless = Backoff::new(Duration::from_secs(1), Duration::MAX);
        let waits: Vec<Duration> = (0..200).map(|_| endless.next(u64::MAX)).collect();
        assert!(waits.is_sorted(), "{waits:?}");
    }

    #[test]
    #[should_panic(expected = "is no back-off")]
    fn a_first_wait_of_zero_is_refused() {
        Backoff::new(Duration::ZERO, MS);
    }

    #[test]
    #[should_panic(expected = "a back-off grows")]
    fn a_first_wait_over_the_most_is_refused() {
        Backoff::new(2 * MS, MS);
    }
}
