//! What the loop did, counted.

use std::fmt;

use crate::error::CloseReason;
use crate::histogram::Histogram;

/// Plain counters of one reactor since it was made; [`Reactor::stats`](crate::Reactor::stats) lends
/// them. They cost an addition each: no atomics, and no clock but the turn's.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop; each polls once.
    pub turns: u64,
    /// Turns that did not wait in the kernel: there was work left, something was due, or their caller
    /// would not wait. Those that spin are counted in `spins`.
    pub busy_turns: u64,
    /// Turns that did not wait although there was no work left, because of
    /// [`Wait::Spin`](crate::Wait::Spin).
    pub spins: u64,
    /// Turns that took as long as the [watchdog](crate::Reactor::set_watchdog)'s threshold.
    pub slow_turns: u64,
    /// Callbacks that did, while they were timed.
    pub slow_callbacks: u64,
    /// How long the turns took that had something to do, without their waits: so long may an event wait
    /// before it is looked at.
    pub turn_time: Histogram,
    /// How much later than they were due timers came up: as of the beginning of the turn that they fired
    /// in.
    pub timer_lag: Histogram,
    /// Events that the driver reported.
    pub events: u64,
    /// Events for a source that had ended: dropped.
    pub stale_events: u64,
    /// Connections accepted and opened.
    pub accepts: u64,
    /// Accepted sockets closed at once: turned away by the handler or a limit, or not registrable.
    pub refusals: u64,
    /// Clients closed unseen because descriptors ran out.
    pub sheds: u64,
    /// Failed calls of accept that did not end anything.
    pub accept_errors: u64,
    /// Times that a listener paused because a limit of connections was reached.
    pub accept_pauses: u64,
    /// Outbound connections that opened.
    pub connects: u64,
    /// Outbound connections that did not.
    pub connect_failures: u64,
    /// Descriptors that were [adopted](crate::Reactor::adopt) and opened.
    pub adoptions: u64,
    /// Calls of read on connections.
    pub reads: u64,
    /// Reads that had nothing to give.
    pub read_would_blocks: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes received and thrown away: what came after `close`, and what no handler had consumed when
    /// its connection ended, however it did. A callback that panics or fails has consumed what it was shown.
    pub bytes_discarded: u64,
    /// Calls of write on connections.
    pub writes: u64,
    /// Writes of which the kernel took nothing or a part.
    pub write_would_blocks: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes given to send that the kernel had not taken when their connection ended.
    pub bytes_undelivered: u64,
    /// Times that a connection or a datagram socket used up its budget of a turn, with more to read as a rule.
    pub budgets_exhausted: u64,
    /// Closing connections that ended at their linger deadline.
    pub lingers_cut: u64,
    /// Callbacks that panicked.
    pub panics: u64,
    /// Messages delivered to connections and handlers.
    pub messages: u64,
    /// Messages, and results of blocking jobs, for a connection that was not open any more; and messages
    /// that waited when the reactor stopped.
    pub messages_undelivered: u64,
    /// Blocking jobs whose result was not delivered when the reactor stopped: they had not begun, were not
    /// done, or their result waited.
    pub jobs_unanswered: u64,
    /// Blocking jobs that panicked.
    pub job_panics: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Those of them that were larger than the buffer, and lost their end.
    pub datagrams_truncated: u64,
    /// Datagrams that the kernel took. What the network did to them, nobody knows.
    pub datagrams_out: u64,
    /// Datagrams given to send that the kernel never took: too many waited, sending failed, or their socket
    /// ended.
    pub datagrams_dropped: u64,
    /// Errors of datagram sockets that their handlers were told of.
    pub datagram_errors: u64,
    /// Bytes of datagrams that wait now to be sent.
    pub datagram_bytes_waiting: usize,
    /// Datagram sockets open now, or being bound.
    pub datagram_sockets: usize,
    /// Connections open now, being opened, or closing.
    pub connections: usize,
    /// Bytes that connections hold in buffers now, and those of datagrams that wait.
    pub memory_bytes: usize,
    /// The most that it ever was.
    pub memory_bytes_peak: usize,
    /// Why the connection that ended last did.
    pub last_close: Option<CloseReason>,
    closes: [u64; CloseReason::COUNT],
}

impl Stats {
    /// Connections that ended with this reason. All of [`CloseReason::Io`] are counted together.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.closes[reason.index()]
    }

    /// Connections that ended, of all reasons.
    pub fn closes_total(&self) -> u64 {
        self.closes.iter().sum()
    }

    /// So many bytes are not delivered. There is no overflow: a part of a file may be said to be longer than any file is.
    pub(crate) fn lose(&mut self, bytes: usize) {
        self.bytes_undelivered = self.bytes_undelivered.saturating_add(bytes as u64);
    }

    pub(crate) fn count_close(&mut self, reason: CloseReason) {
        self.closes[reason.index()] += 1;
        self.last_close = Some(reason);
    }
}

impl fmt::Display for Stats {
    /// One line for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connections {} accepts {} closes {} turns {} events {} reads {} writes {} in {} out {} \
             slow_turns {} turn_p99 {:.1?} timer_lag_p99 {:.1?}",
            self.connections,
            self.accepts,
            self.closes_total(),
            self.turns,
            self.events,
            self.reads,
            self.writes,
            self.bytes_in,
            self.bytes_out,
            self.slow_turns,
            self.turn_time.quantile(0.99),
            self.timer_lag.quantile(0.99)
        )
    }
}
