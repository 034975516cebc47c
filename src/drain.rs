//! A drain's state, and what came of it: driver-free. What the turn does for it stands in
//! `reactor/drain.rs`.

use std::fmt;
use std::time::Duration;

use crate::clock::Time;
use crate::command::Command;
use crate::core::Core;
use crate::error::CloseReason;
use crate::key::Key;
use crate::stats::Stats;
use crate::timer::TimerId;

/// How a run of the reactor ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ended {
    /// Who called [`run_until`](crate::Reactor::run_until) was done; nothing was closed.
    Done,
    /// It was stopped: by a call of stop, or by a second signal. A drain that went on ended with it.
    Stopped,
    /// A drain came to its end: no connection was left.
    Drained,
    /// A drain's time was up; what was left was stopped.
    TimedOut,
}

/// What became of the connections when a reactor ended: what [`Reactor::run`](crate::Reactor::run)
/// returns. Its numbers are about the time since the drain was asked for, or, if there was none, about
/// the stop itself; without either ([`Ended::Done`]) they are 0.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How it ended.
    pub end: Ended,
    /// How long the drain took, as of the beginning of its last turn.
    pub duration: Duration,
    /// Connections that ended gracefully: closed by either side, or with the one that they forwarded to or were
    /// forwarded from, with all that was sent to them handed to the kernel.
    pub connections_finished: u64,
    /// Connections that were cut off, as [`Stopped`](CloseReason::Stopped).
    pub connections_cut: u64,
    /// Connections that ended otherwise: reset, failed, over a limit.
    pub connections_failed: u64,
    /// Clients that had connected and were turned away: by the handler, or because there was no room
    /// for them.
    pub connections_refused: u64,
    /// Bytes given to send that the kernel never took. What it took and could not deliver, nobody knows.
    pub bytes_undelivered: u64,
    /// Bytes that were received and that no handler consumed: they came after their connection was
    /// closed, or after its drain was over, or were still waiting when it was cut off.
    pub bytes_unaccepted: u64,
    /// Datagrams given to send that were dropped: there was no room for them, or nobody there.
    pub datagrams_dropped: u64,
    /// Messages that no connection or handler got: they waited at the end, or came for a connection that
    /// was not open any more.
    pub messages_undelivered: u64,
    /// [Blocking](crate::blocking()) jobs that were given, and whose result was not delivered at the end.
    pub jobs_unanswered: u64,
}

impl fmt::Display for Report {
    /// One line for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.end {
            Ended::Done => "done",
            Ended::Stopped => "stopped",
            Ended::Drained => "drained",
            Ended::TimedOut => "the drain's time was up",
        })?;
        write!(
            f,
            " after {:.3} s: connections: {} finished, {} cut off, {} failed, {} turned away; bytes: {} \
             not delivered, {} not accepted; datagrams: {} dropped; messages: {} not delivered; jobs: {} not \
             answered",
            self.duration.as_secs_f64(),
            self.connections_finished,
            self.connections_cut,
            self.connections_failed,
            self.connections_refused,
            self.bytes_undelivered,
            self.bytes_unaccepted,
            self.datagrams_dropped,
            self.messages_undelivered,
            self.jobs_unanswered
        )
    }
}

/// What the counters were, for the report.
#[derive(Debug)]
pub(crate) struct Baseline {
    began: Time,
    stats: Stats,
    /// Bytes that nothing counts: still waiting when their connection was cut off.
    pub(crate) bytes_waiting: u64,
}

impl Baseline {
    pub(crate) fn new(core: &Core) -> Baseline {
        Baseline { began: core.now, stats: core.stats.clone(), bytes_waiting: 0 }
    }

    pub(crate) fn report(&self, end: Ended, core: &Core) -> Report {
        let (now, before) = (&core.stats, &self.stats);
        let closes = |reason| now.closes(reason) - before.closes(reason);
        let finished = [CloseReason::Closed, CloseReason::PeerClosed, CloseReason::OtherSide];
        let finished = finished.into_iter().map(closes).sum();
        let cut = closes(CloseReason::Stopped);
        Report {
            end,
            duration: core.now.since(self.began),
            connections_finished: finished,
            connections_cut: cut,
            connections_failed: now.closes_total() - before.closes_total() - finished - cut,
            connections_refused: now.refusals + now.sheds - before.refusals - before.sheds,
            bytes_undelivered: now.bytes_undelivered - before.bytes_undelivered,
            bytes_unaccepted: now.bytes_discarded - before.bytes_discarded + self.bytes_waiting,
            datagrams_dropped: now.datagrams_dropped - before.datagrams_dropped,
            messages_undelivered: now.messages_undelivered - before.messages_undelivered,
            jobs_unanswered: now.jobs_unanswered - before.jobs_unanswered,
        }
    }
}

/// A drain that goes on. Allocated when it is asked for.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) deadline: Time,
    pub(crate) timer: TimerId,
    /// What was readable has been measured.
    pub(crate) has_begun: bool,
    pub(crate) end: Ended,
    pub(crate) baseline: Baseline,
    /// For each slot of a connection that has `DRAINING`: the `bytes_in` at which all has been read
    /// that was readable when its drain began. In a table of its own, so that a connection does not
    /// grow.
    targets: Vec<u64>,
}

impl Drain {
    pub(crate) fn set_target(&mut self, key: Key, bytes_in: u64) {
        if self.targets.len() <= key.index() {
            self.targets.resize(key.index() + 1, 0);
        }
        self.targets[key.index()] = bytes_in;
    }
}

impl Core {
    /// Asks for a drain, which begins in the flush phase; or for an earlier end of the one that goes on.
    pub(crate) fn drain(&mut self, timeout: Duration) {
        if self.stopping {
            return;
        }
        let deadline = self.now + timeout;
        match &mut self.drain {
            Some(drain) => drain.deadline = drain.deadline.min(deadline),
            None => {
                let drain = Drain {
                    deadline,
                    timer: TimerId::NONE,
                    has_begun: false,
                    end: Ended::Stopped,
                    baseline: Baseline::new(self),
                    targets: Vec::new(),
                };
                self.drain = Some(Box::new(drain));
            }
        }
        self.commands.push_back(Command::Drain);
    }

    /// How much of what was readable when its drain began a connection has yet to read.
    pub(crate) fn drain_left(&self, key: Key, bytes_in: u64) -> usize {
        let target = self.drain.as_ref().and_then(|drain| drain.targets.get(key.index()));
        target.map_or(0, |target| target.saturating_sub(bytes_in) as usize)
    }
}
