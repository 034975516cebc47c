//! One connection: its state, and what the turn does for it.
//!
//! The state is a word of flags and a few counters; [`wants_read`](Stream::wants_read) and its kin
//! compute what the connection wishes from that word, so that no wish is stored twice. What the turn
//! does stands beside it, a file a verb: [`run`], [`read`], [`mod@write`], [`close`].

mod close;
mod deadline;
mod forward;
mod orders;
mod output;
mod read;
mod run;
mod write;

use std::rc::Rc;

pub(crate) use forward::Forwards;
pub(crate) use output::Data;
pub(crate) use run::lend;

use crate::buffer::Buffers;
use crate::clock::Time;
use crate::error::{CloseReason, ConnectError};
use crate::limits::Limits;
use crate::listener::NO_NUMBER;
use crate::readiness::Readiness;
use crate::timer::Node;
use crate::traffic::Traffic;

/// The bits of [`Stream::flags`]. The lowest five are the cached [`Readiness`].
pub(crate) mod flag {
    use crate::readiness::Readiness;

    pub(crate) const READABLE: u32 = Readiness::READABLE.0 as u32;
    pub(crate) const WRITABLE: u32 = Readiness::WRITABLE.0 as u32;
    pub(crate) const READ_CLOSED: u32 = Readiness::READ_CLOSED.0 as u32;
    pub(crate) const PRIORITY: u32 = Readiness::PRIORITY.0 as u32;
    pub(crate) const ERROR: u32 = Readiness::ERROR.0 as u32;

    /// On the ready list.
    pub(crate) const QUEUED: u32 = 1 << 5;
    /// On the flush list.
    pub(crate) const FLUSHING: u32 = 1 << 6;
    /// On the list of those that were poked.
    pub(crate) const POKED: u32 = 1 << 7;
    /// The connect has not come to its end.
    pub(crate) const CONNECTING: u32 = 1 << 8;
    /// `on_open` has returned, so `on_close` is due.
    pub(crate) const OPEN: u32 = 1 << 9;
    /// The connection was made by us.
    pub(crate) const OUTBOUND: u32 = 1 << 10;
    /// It has set timers.
    pub(crate) const TIMERS: u32 = 1 << 11;
    /// The handler does not want to be shown data.
    pub(crate) const PAUSED: u32 = 1 << 12;
    /// What input there is must be shown although nothing new came: resumed, or `again`.
    pub(crate) const SHOW: u32 = 1 << 13;
    /// The buffers hold unconsumed input.
    pub(crate) const HAS_INPUT: u32 = 1 << 14;
    /// The buffers hold unsent output.
    pub(crate) const HAS_OUTPUT: u32 = 1 << 15;
    /// The output went over its high watermark and has not come down to the low one.
    pub(crate) const OVER_HIGH: u32 = 1 << 16;
    /// A read gave the end of file.
    pub(crate) const EOF: u32 = 1 << 17;
    /// ... and the handler was told.
    pub(crate) const EOF_SHOWN: u32 = 1 << 18;
    /// Our end of file is to be sent after the output.
    pub(crate) const FIN_WANTED: u32 = 1 << 19;
    /// ... and was sent.
    pub(crate) const FIN_SENT: u32 = 1 << 20;
    /// No callback any more but `on_close`: flush, send our end of file, discard input until the
    /// peer's.
    pub(crate) const CLOSING: u32 = 1 << 21;
    /// The handler is not to be called before `need` bytes are there.
    pub(crate) const NEEDS: u32 = 1 << 22;
    /// Over: on the reap list.
    pub(crate) const DEAD: u32 = 1 << 23;
    /// To be closed with a reset.
    pub(crate) const RESET: u32 = 1 << 24;
    /// `phase_deadline` is about the first byte.
    pub(crate) const FIRST_BYTE: u32 = 1 << 25;
    /// Its deadlines have changed, so that one may be due earlier than `alarm` is; or would be, after
    /// traffic.
    pub(crate) const REARM: u32 = 1 << 26;
    /// Not TCP: never the short way, a short read says nothing, and it is reported as writable only while
    /// that is asked for.
    pub(crate) const GENERAL: u32 = 1 << 27;
    /// In a drain, and `on_drain` is due once all that was readable when it began was shown.
    pub(crate) const DRAINING: u32 = 1 << 28;
    /// ... and it was told already that it drains while it was paused or over its high watermark. A closing connection is
    /// told nothing: with this it closes in a drain.
    pub(crate) const DRAIN_TOLD: u32 = 1 << 29;
    /// What it receives goes to another connection, and its handler is not shown it.
    pub(crate) const FORWARDS: u32 = 1 << 30;
    /// What another connection receives goes to it.
    pub(crate) const FED: u32 = 1 << 31;

    /// Flags that say nothing about what a run has to do.
    pub(crate) const NEUTRAL: u32 = QUEUED | FLUSHING | POKED | OUTBOUND | TIMERS | FIRST_BYTE;
    /// The common case, all else unset: readable and writable, nothing kept, nothing special.
    pub(crate) const COMMON: u32 = READABLE | WRITABLE | OPEN;
    /// Flags that no connection has: open and connecting.
    pub(crate) const NOTHING_IS_COMMON: u32 = OPEN | CONNECTING;
}

use flag::*;

/// What [`Stream::address`] is of one that was adopted, for which nobody counts.
pub(crate) const SOCKET: u32 = NO_NUMBER - 1;
pub(crate) const PIPE_IN: u32 = NO_NUMBER - 2;
pub(crate) const PIPE_OUT: u32 = NO_NUMBER - 3;

/// The state of one connection; an idle one owns nothing else.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) flags: u32,
    /// The handler, and its session once `OPEN`.
    pub(crate) handler: u16,
    pub(crate) session: u32,
    /// Of one that was accepted: its client address among those that the listener counts, if it does. Of one that was
    /// adopted: what it is.
    pub(crate) address: u32,
    /// The most that one read may bring, by its limits.
    pub(crate) read_max: u32,
    /// What `NEEDS` is about.
    pub(crate) need: u32,
    /// The tag given to connect, or the key of the listener.
    pub(crate) tag: u64,
    pub(crate) bytes_in: u64,
    /// Bytes that the kernel took.
    pub(crate) bytes_out: u64,
    pub(crate) limits: Rc<Limits>,
    /// Invariant: `Some` while `HAS_INPUT` or `HAS_OUTPUT`, and given back at the end of the run that
    /// finds neither.
    pub(crate) buffers: Option<Box<Buffers>>,
    /// When it last received or sent something, our end of file too while it closes; or what the idle deadline is to take
    /// for it.
    pub(crate) active: Time,
    /// The deadline of the phase of life that it is in, of which each has one: to be open, to be sent
    /// a first byte, to be done with what the handler expects, to linger.
    pub(crate) phase_deadline: Time,
    /// Its place in the wheel of deadlines. Invariant: it is due no later than the earliest deadline,
    /// unless `REARM`. Traffic puts deadlines off and leaves the alarm where it is: when it goes off
    /// it is set for what is the earliest deadline by then.
    pub(crate) alarm: Node,
    /// Set once `CLOSING` or `DEAD`.
    pub(crate) reason: Option<CloseReason>,
    /// Why it did not open.
    pub(crate) failure: Option<ConnectError>,
}

const _: () = assert!(size_of::<Stream>() <= 96);

impl Stream {
    pub(crate) fn new(flags: u32, handler: u16, tag: u64, limits: Rc<Limits>) -> Stream {
        Stream {
            flags,
            handler,
            session: 0,
            address: NO_NUMBER,
            read_max: u32::try_from(limits.read_max()).unwrap_or(u32::MAX),
            need: 0,
            tag,
            bytes_in: 0,
            bytes_out: 0,
            limits,
            buffers: None,
            active: Time::NEVER,
            phase_deadline: Time::NEVER,
            alarm: Node::new(),
            reason: None,
            failure: None,
        }
    }

    #[inline]
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    #[inline]
    pub(crate) fn add_readiness(&mut self, readiness: Readiness) {
        self.flags |= u32::from(readiness.0);
    }

    /// Whether it was open before the reactor had it.
    pub(crate) fn is_adopted(&self) -> bool {
        self.has(OUTBOUND) && self.address != NO_NUMBER
    }

    pub(crate) fn is_pipe_in(&self) -> bool {
        self.has(OUTBOUND) && self.address == PIPE_IN
    }

    pub(crate) fn is_pipe_out(&self) -> bool {
        self.has(OUTBOUND) && self.address == PIPE_OUT
    }

    /// Whether an end of file is known that was not reported as something to read: of a pipe it is told by itself
    /// (poll(2), `POLLHUP`).
    pub(crate) fn has_bare_end(&self) -> bool {
        self.has(GENERAL) && self.has(READ_CLOSED) && !self.has(READABLE)
    }

    /// Whether what the handler sends is taken.
    pub(crate) fn takes_output(&self) -> bool {
        !self.has(FIN_WANTED | CLOSING | DEAD)
    }

    /// Whether the handler may be called with data or an end of file; or, of one that forwards, whether they
    /// may go on. Then it is not its own output that they would add to.
    pub(crate) fn may_show(&self) -> bool {
        let is_full = self.has(OVER_HIGH) && !self.has(FORWARDS);
        self.has(OPEN) && !self.has(PAUSED | CLOSING | DEAD) && !is_full
    }

    /// Whether the handler asked not to be shown so few bytes: it is, once no more can come, or no
    /// more would be taken.
    pub(crate) fn waits_for_more_than(&self, bytes: usize) -> bool {
        self.has(NEEDS)
            && !self.has(EOF)
            && bytes < self.limits.input_bytes_max.min(self.need as usize)
    }

    /// Whether a read serves anything: to show it, or, when closing, to throw it away.
    pub(crate) fn wants_read(&self) -> bool {
        let throws_away = self.has(CLOSING) && !self.is_pipe_in();
        !self.has(EOF | DEAD) && (self.may_show() || throws_away)
    }

    /// Whether there is output that the kernel may take.
    pub(crate) fn may_write(&self) -> bool {
        self.has(HAS_OUTPUT) && self.has(WRITABLE) && !self.has(CONNECTING | DEAD)
    }

    /// Input that was kept is to be shown again.
    pub(crate) fn owes_show(&self) -> bool {
        self.has(SHOW) && self.may_show()
    }

    /// The end of file is due to be told: all that came before it was shown.
    pub(crate) fn owes_peer_closed(&self) -> bool {
        self.has(EOF) && !self.has(EOF_SHOWN | SHOW) && self.may_show()
    }

    /// The output came down again, and whoever produces it is to be told.
    pub(crate) fn owes_drained(&self) -> bool {
        self.has(OVER_HIGH)
            && self.has(OPEN)
            && !self.has(CLOSING | DEAD)
            && !self.output_exceeds(self.limits.output_bytes_low)
    }

    /// The drain is due to be told, as far as the flags say.
    pub(crate) fn owes_drain(&self) -> bool {
        self.has(DRAINING)
            && !self.has(READABLE | PAUSED | SHOW | CLOSING | DEAD)
            && !(self.has(OVER_HIGH) && self.has(HAS_INPUT | DRAIN_TOLD))
    }

    /// An error is known that no read will meet, because none will be made.
    pub(crate) fn owes_error(&self) -> bool {
        self.has(ERROR) && !self.has(DEAD) && !(self.has(READABLE) && self.wants_read())
    }

    /// Whether a run would find something to do without a new event.
    #[inline(never)]
    pub(crate) fn has_work(&self) -> bool {
        if self.has(DEAD) {
            return false;
        }
        if self.has(CONNECTING) {
            return self.has(WRITABLE | ERROR);
        }
        (self.has(READABLE) || self.has_bare_end()) && self.wants_read()
            || self.may_write()
            || self.owes_show()
            || self.owes_peer_closed()
            || self.owes_drained()
            || self.owes_error()
            || self.owes_drain()
    }

    pub(crate) fn input_len(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.input_len())
    }

    /// Whether what it keeps leaves no room for more: after a read only if the handler consumed nothing
    /// of it, and under a limit that was lowered meanwhile.
    pub(crate) fn is_full(&self) -> bool {
        self.input_len() >= self.limits.input_bytes_max
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic { bytes_in: self.bytes_in, bytes_out: self.bytes_out }
    }

    pub(crate) fn output_len(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.output.len())
    }

    /// Whether more waits than so many bytes, or more parts of files than the high watermark.
    pub(crate) fn output_exceeds(&self, bytes: usize) -> bool {
        self.output_len() > bytes || self.has_many_files()
    }

    /// Whether more parts of files wait than the high watermark.
    pub(crate) fn has_many_files(&self) -> bool {
        self.output_files() > self.limits.output_files_high
    }

    /// How many parts of files wait.
    pub(crate) fn output_files(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.output.files())
    }

    /// Of the output that waits, what is not in files: what the limits hold.
    pub(crate) fn output_len_in_memory(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.output.len_in_memory())
    }

    pub(crate) fn memory(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.accounted)
    }
}
