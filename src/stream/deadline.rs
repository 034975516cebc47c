//! Deadlines of a connection.
//!
//! Each is computed from moments that are noted where they happen, at the price of a store. Only the
//! earliest is in the wheel, and only put there anew when one comes up that is earlier still: what
//! traffic puts off is found out when the alarm goes off.

use std::time::Duration;

use log::debug;

use super::{Stream, flag::*};
use crate::clock::Time;
use crate::core::{Core, Source};
use crate::deadline::Deadline;
use crate::driver::Driver;
use crate::key::Key;
use crate::reactor::Reactor;
use crate::stream::run::lend;
use crate::table::Table;
use crate::timer::{Node, Nodes};

impl Nodes for Table<Source> {
    fn node(&mut self, index: u32) -> &mut Node {
        match self.at_mut(index) {
            Source::Stream(stream) => &mut stream.alarm,
            _ => unreachable!("only connections have deadlines"),
        }
    }
}

/// Later than `moment` by `bytes` at `rate` bytes a second.
fn after_bytes(moment: Time, bytes: u64, rate: usize) -> Time {
    moment + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate as u64)
}

impl Stream {
    /// The earliest deadline that holds now. While it connects or closes, which have one of their own,
    /// it goes by no name.
    pub(crate) fn earliest_deadline(&self) -> (Time, Option<Deadline>) {
        if self.has(DEAD) {
            return (Time::NEVER, None);
        }
        if self.has(CONNECTING) {
            return (self.phase_deadline, None);
        }
        if self.has(CLOSING) {
            let linger = self.phase_deadline.min(self.drain_linger_deadline());
            return (linger.min(self.output_rate_deadline()), None);
        }
        let mut earliest = (Time::NEVER, None);
        let mut consider = |at: Time, deadline: Deadline| {
            if at < earliest.0 {
                earliest = (at, Some(deadline));
            }
        };
        let limits = &*self.limits;
        let is_unread = self.has_unread();
        if !self.has(FIRST_BYTE) {
            consider(self.phase_deadline, Deadline::Expect);
        }
        // These are the peer's fault only while it is let send, and can.
        if !self.has(PAUSED | OVER_HIGH | EOF) && !is_unread {
            if self.has(FIRST_BYTE) && self.bytes_in == 0 {
                consider(self.phase_deadline, Deadline::FirstByte);
            }
            if self.has(HAS_INPUT)
                && let Some(buffers) = &self.buffers
            {
                consider(buffers.message_since + limits.message_timeout, Deadline::Message);
                consider(self.rate_deadline(), Deadline::InputRate);
            }
        }
        if self.has(HAS_OUTPUT)
            && let Some(buffers) = &self.buffers
        {
            consider(buffers.output_moved + self.stall_timeout(), Deadline::WriteStall);
            consider(self.output_rate_deadline(), Deadline::WriteStall);
            if let Some(since) = buffers.over_soft_since {
                consider(since + limits.output_soft_timeout, Deadline::OutputSoft);
            }
        }
        // The last of those that come at one moment: that the peer takes nothing says more than that nothing happens.
        if !self.has(PAUSED) && !is_unread {
            consider(self.active + limits.idle_timeout, Deadline::Idle);
        }
        earliest
    }

    /// How long the peer may take no output. A drain does not wait longer than for one that is closing.
    fn stall_timeout(&self) -> Duration {
        let timeout = self.limits.write_stall_timeout;
        let is_last = self.has(DRAIN_TOLD) && self.has(OVER_HIGH);
        if is_last { timeout.min(self.limits.linger_timeout) } else { timeout }
    }

    /// Whether there is, for all that is known, something to read for which the turn had no time: it may
    /// be what the peer would be blamed for not having sent.
    pub(crate) fn has_unread(&self) -> bool {
        self.has(READABLE) && self.has(OPEN) && self.wants_read()
    }

    /// Gives a deadline until `to`, if it is not later anyhow: the handler that gave more time may
    /// have set other limits, or expect something else.
    fn put_off(&mut self, deadline: Deadline, to: Time) {
        let (rate_deadline, stall_timeout) = (self.rate_deadline(), self.stall_timeout());
        let limits = &*self.limits;
        let later = |moment: Time, timeout: Duration| moment + to.since(moment + timeout);
        let buffers = self.buffers.as_mut();
        match deadline {
            Deadline::Idle => {} // after the run: what it sends is no sign of life
            Deadline::FirstByte | Deadline::Expect => {
                self.phase_deadline = self.phase_deadline.max(to);
            }
            Deadline::Message => {
                if let Some(buffers) = buffers {
                    buffers.message_since = later(buffers.message_since, limits.message_timeout);
                }
            }
            Deadline::InputRate => {
                if let Some(buffers) = buffers {
                    buffers.message_since = buffers.message_since + to.since(rate_deadline);
                }
            }
            Deadline::WriteStall => {
                if let Some(buffers) = buffers {
                    buffers.output_moved = later(buffers.output_moved, stall_timeout);
                    let period = limits.write_stall_timeout;
                    buffers.output_since = buffers.output_since.map(|since| later(since, period));
                }
            }
            Deadline::OutputSoft => {
                if let Some(buffers) = buffers {
                    let since = buffers.over_soft_since;
                    buffers.over_soft_since =
                        since.map(|since| later(since, limits.output_soft_timeout));
                }
            }
        }
    }

    /// The handler's pause is over, which was not the peer's.
    pub(crate) fn end_pause(&mut self, now: Time) {
        self.active = now;
        self.end_rest(now);
    }

    /// It may be read from again, as far as one of the reasons goes for which it was not.
    pub(super) fn end_rest(&mut self, now: Time) {
        if self.has(FIRST_BYTE) {
            let first_byte = now + self.limits.first_byte_timeout;
            self.phase_deadline = self.phase_deadline.max(first_byte);
        }
        self.note_rest(now);
    }

    /// Notes whether the connection is read from. While it is not, the time of a message stands still.
    pub(crate) fn note_rest(&mut self, now: Time) {
        let rests = self.has(PAUSED | OVER_HIGH);
        let Some(buffers) = &mut self.buffers else { return };
        if !rests && let Some(since) = buffers.rests_since.take() {
            let since = since.max(buffers.message_since);
            buffers.message_since = buffers.message_since + now.since(since);
        } else if rests && buffers.rests_since.is_none() {
            buffers.rests_since = Some(now);
        }
    }

    /// When the message that is kept came too slowly, unless more of it comes.
    fn rate_deadline(&self) -> Time {
        let limits = &*self.limits;
        let is_asked = limits.input_rate_min > 0 && self.has(HAS_INPUT);
        let Some(buffers) = self.buffers.as_ref().filter(|_| is_asked) else {
            return Time::NEVER; // what the buffers say of input is of somebody else's
        };
        let came = self.bytes_in - buffers.message_from;
        let grace = buffers.message_since + limits.input_rate_grace;
        after_bytes(grace, came, limits.input_rate_min)
    }

    /// When too little of the output was taken, unless more of it is.
    fn output_rate_deadline(&self) -> Time {
        let since = self.buffers.as_ref().and_then(|buffers| buffers.output_since);
        match since {
            Some(since) if self.limits.output_rate_min > 0 => {
                since + self.limits.write_stall_timeout
            }
            _ => Time::NEVER,
        }
    }

    /// If it is time for that: gives the peer as long again, if it has taken enough.
    fn judge_output_rate(&mut self, now: Time) {
        if self.output_rate_deadline() > now {
            return;
        }
        let limits = &*self.limits;
        let enough = limits.output_rate_min as u128 * limits.write_stall_timeout.as_nanos();
        let Some(buffers) = &mut self.buffers else { return };
        let taken = self.bytes_out - buffers.output_from;
        if u128::from(taken) * 1_000_000_000 >= enough {
            buffers.output_since = Some(now);
            buffers.output_from = self.bytes_out;
        }
    }

    /// When the linger of a connection ends that was sent everything in a drain. What it still sends puts that off: a close
    /// would be a reset then, which destroys what it has not taken yet.
    fn drain_linger_deadline(&self) -> Time {
        if self.has(FIN_SENT) && self.has(DRAIN_TOLD) {
            self.active + self.limits.drain_linger_timeout
        } else {
            Time::NEVER
        }
    }

    /// A closing connection has made progress.
    pub(super) fn put_linger_off(&mut self, now: Time) {
        if self.has(CLOSING) {
            self.active = now;
            self.phase_deadline = now + self.limits.linger_timeout;
        }
    }

    /// What input is kept is the beginning of a message, or a new one.
    pub(super) fn begin_message(&mut self, now: Time) {
        if let Some(buffers) = &mut self.buffers {
            buffers.message_since = now;
            buffers.message_from = self.bytes_in - buffers.input_len() as u64;
        }
    }

    /// Notes since when output waits, and since when more of it than its soft limit.
    pub(super) fn note_output(&mut self, now: Time) {
        let soft = self.limits.output_bytes_soft.max(self.limits.output_bytes_high);
        let is_connecting = self.has(CONNECTING);
        let Some(buffers) = &mut self.buffers else { return };
        if buffers.output.len() == 0 || is_connecting {
            buffers.output_since = None;
        } else if buffers.output_since.is_none() {
            buffers.output_since = Some(now);
            buffers.output_from = self.bytes_out;
        }
        if is_connecting || buffers.output.len_in_memory() <= soft {
            buffers.over_soft_since = None;
        } else if buffers.over_soft_since.is_none() {
            buffers.over_soft_since = Some(now);
        }
    }
}

impl Core {
    /// Sees to it that the alarm goes off no later than the earliest deadline.
    pub(crate) fn arm(&mut self, key: Key) {
        let now = self.now;
        let stream = self.sources.live(key);
        stream.flags &= !REARM;
        stream.note_output(now);
        stream.note_rest(now);
        if stream.active > now || stream.has_unread() {
            // Traffic, which otherwise only puts deadlines off, will bring one up: the idle deadline was
            // given more time than that gives it, or rests until all is read.
            stream.flags |= REARM;
        }
        let (at, _) = stream.earliest_deadline();
        if at < stream.alarm.at() {
            let index = key.index() as u32;
            self.deadlines.remove(&mut self.sources, index);
            self.deadlines.insert(&mut self.sources, index, at);
        }
    }

    /// Gives a connection until `at` before it is idle, and no longer.
    fn idle_until(&mut self, key: Key, at: Time) {
        if let Some(stream) = self.stream_mut(key)
            && !stream.has(CLOSING | DEAD)
        {
            let timeout = u64::try_from(stream.limits.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
            stream.active = Time::from_nanos(at.as_nanos().saturating_sub(timeout));
            self.arm(key);
        }
    }

    /// The alarm of a connection that is about to be freed must not go off.
    pub(crate) fn disarm(&mut self, key: Key) {
        if self.stream(key).is_some() {
            self.deadlines.remove(&mut self.sources, key.index() as u32);
        }
    }
}

impl<D: Driver> Reactor<D> {
    /// The timer phase's part: the alarm of this connection went off.
    pub(crate) fn look_at_deadlines(&mut self, key: Key) {
        let Some(stream) = self.core.stream(key) else { return };
        let (at, mut deadline) = stream.earliest_deadline();
        if at > self.core.now {
            return self.core.arm(key); // put off since
        }
        let is_connecting = stream.has(CONNECTING);
        let is_of_output = match deadline {
            Some(deadline) => deadline == Deadline::WriteStall,
            None => stream.has(CLOSING) && stream.has(HAS_OUTPUT),
        };
        if is_of_output {
            let at;
            (at, deadline) = self.give_output_a_last_chance(key);
            if at > self.core.now {
                return self.settle(key);
            }
        }
        match deadline {
            Some(deadline) => self.miss_deadline(key, deadline),
            None if is_connecting => self.time_out_connect(key),
            None => self.end_linger(key),
        }
    }

    /// Gives the kernel output although it has not asked for it: the event waits until a third of the
    /// socket's buffer is free, for which a peer that reads slowly may need longer than any deadline. Gives what is the
    /// earliest deadline then.
    fn give_output_a_last_chance(&mut self, key: Key) -> (Time, Option<Deadline>) {
        let core = &mut self.core;
        let stream = core.sources.live(key);
        stream.flags |= WRITABLE;
        core.write_left = stream.limits.write_bytes_per_turn_max;
        self.write_queued(key);
        let now = self.core.now;
        let stream = self.core.sources.live(key);
        stream.judge_output_rate(now);
        stream.earliest_deadline()
    }

    fn miss_deadline(&mut self, key: Key, deadline: Deadline) {
        self.core.begin_run(key);
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        let (handler, session) = (stream.handler, stream.session);
        let mut conn = lend(core, sockets, handler, key);
        let more = handlers[handler as usize].deadline(session, &mut conn, deadline);
        let more = more.filter(|more| *more > Duration::ZERO);
        let core = &mut self.core;
        let stream = core.sources.live(key);
        if let Some(more) = more {
            stream.put_off(deadline, core.now + more);
        } else if !stream.has(CLOSING | DEAD) {
            debug!("{key}: {deadline}");
            if deadline.is_of_output() {
                stream.flags |= RESET;
                core.end(key, deadline.reason());
            } else {
                core.close(key, deadline.reason());
            }
        }
        self.end_run(key);
        if let Some(more) = more.filter(|_| deadline == Deadline::Idle) {
            self.core.idle_until(key, self.core.now + more);
        }
    }
}
