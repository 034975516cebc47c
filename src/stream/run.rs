//! What a connection does in the ready phase.

use log::trace;

use super::flag::*;
use crate::command::Host;
use crate::connection::Connection;
use crate::core::Core;
use crate::driver::Driver;
use crate::key::Key;
use crate::reactor::Reactor;

/// What one connection may still do in this turn.
pub(super) struct Budget {
    pub(super) bytes: usize,
    pub(super) reads: usize,
}

/// Lends the connection to a callback.
#[inline]
pub(crate) fn lend<'a>(
    core: &'a mut Core,
    host: &'a dyn Host,
    handler: u16,
    key: Key,
) -> Connection<'a> {
    Connection { context: crate::context::Context { core, host, handler }, key }
}

impl Core {
    /// From here to [`Reactor::end_run`] the callbacks of this connection may be called. What they
    /// send is gathered in the scratch buffer, if nothing older waits.
    #[inline]
    pub(crate) fn begin_run(&mut self, key: Key) {
        debug_assert_eq!(self.running, Key::NONE, "no run inside another one");
        debug_assert!(self.scratch.is_empty(), "every run writes what it sent");
        let Some(stream) = self.stream(key) else { return };
        self.write_left = stream.limits.write_bytes_per_turn_max;
        self.running = key;
        self.choose_direct(key);
    }

    /// Whether what the running connection sends may go to the scratch buffer.
    fn choose_direct(&mut self, key: Key) {
        let stream = self.sources.live(key);
        let is_direct = stream.takes_output() && !stream.has(HAS_OUTPUT | CONNECTING);
        self.direct_max = if is_direct { stream.limits.output_bytes_high } else { 0 };
    }
}

impl<D: Driver> Reactor<D> {
    /// Everything that is not the common case, in the order in which it matters.
    #[cold]
    #[inline(never)]
    pub(crate) fn run_stream(&mut self, key: Key) {
        let stream = self.core.sources.live(key);
        if stream.has(DEAD) {
            return;
        }
        if stream.has(CONNECTING) {
            return self.finish_connect(key);
        }
        if !stream.has(OPEN | CLOSING) {
            self.core.stats.adoptions += 1;
            return self.open(key);
        }
        if (stream.has(ERROR) || stream.has_bare_end()) && stream.wants_read() {
            // The event need not have told of the bytes before it: a read finds them, and it.
            stream.flags |= READABLE;
        }
        if stream.owes_error() && self.take_error(key) {
            return;
        }
        self.core.begin_run(key);
        if self.core.sources.live(key).may_write() {
            self.write_queued(key);
            self.core.choose_direct(key);
        }
        if self.core.sources.live(key).owes_drained() {
            self.call_drained(key);
        }
        if self.core.sources.live(key).owes_show() {
            self.show_kept(key);
        }
        self.go_on_reading(key, 0, 0);
    }

    /// The rest of a run that has already made some reads: reads within the budget, and ends it.
    #[cold]
    #[inline(never)]
    pub(super) fn go_on_reading(&mut self, key: Key, reads_made: usize, bytes_read: usize) {
        let limits = &self.core.sources.live(key).limits;
        let budget = Budget {
            bytes: limits.read_bytes_per_turn_max.saturating_sub(bytes_read),
            reads: limits.reads_per_turn_max.saturating_sub(reads_made),
        };
        self.read_within(key, budget);
        self.judge_input(key);
        if self.core.sources.live(key).owes_peer_closed() {
            self.call_peer_closed(key);
        }
        if self.core.sources.live(key).has(DRAINING) {
            self.go_on_draining(key);
        }
        self.end_run(key);
    }

    fn read_within(&mut self, key: Key, mut budget: Budget) {
        loop {
            let stream = self.core.sources.live(key);
            // What the run has sent and not written counts: a run must not outgrow the watermark.
            let is_over = self.core.scratch.len() > stream.limits.output_bytes_high;
            if !stream.has(READABLE) || stream.has(SHOW) || !stream.wants_read() || is_over {
                return;
            }
            if stream.is_full() {
                return; // a read into no room would look like the end of file
            }
            if stream.has(DRAINING) {
                let bytes_in = stream.bytes_in;
                let left = self.core.drain_left(key, bytes_in);
                if left == 0 {
                    return;
                }
                budget.bytes = budget.bytes.min(left);
            }
            if budget.bytes == 0 || budget.reads == 0 {
                self.core.stats.budgets_exhausted += 1;
                trace!("{key}: budget of this turn used up");
                return;
            }
            self.read_once(key, &mut budget);
        }
    }

    /// Tells of the drain, once everything was shown that was readable when it began, and the output is not over its high
    /// watermark; and once before, to a connection that is paused, or that has nothing but such an output.
    fn go_on_draining(&mut self, key: Key) {
        let stream = self.core.sources.live(key);
        if stream.has(CLOSING | DEAD) {
            return;
        }
        if !stream.has(PAUSED) {
            let has_unshown = stream.has(SHOW) || stream.has(OVER_HIGH) && stream.has(HAS_INPUT);
            let bytes_in = stream.bytes_in;
            let has_unread = stream.has(READABLE) && self.core.drain_left(key, bytes_in) > 0;
            if has_unshown || has_unread {
                return;
            }
        }
        let stream = self.core.sources.live(key);
        if stream.has(PAUSED | OVER_HIGH) {
            if stream.has(DRAIN_TOLD) {
                return;
            }
            stream.flags |= DRAIN_TOLD;
        } else {
            stream.flags &= !(DRAINING | DRAIN_TOLD);
        }
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        let (handler, session) = (stream.handler, stream.session);
        handlers[handler as usize].drain(session, &mut lend(core, sockets, handler, key));
    }

    fn call_drained(&mut self, key: Key) {
        if self.core.sources.live(key).has(FED) {
            self.resume_feeder(key);
        }
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        stream.flags &= !OVER_HIGH;
        stream.end_rest(core.now);
        if stream.has(HAS_INPUT) {
            stream.flags |= SHOW; // what the handler left because its output was over the mark
        }
        let (handler, session) = (stream.handler, stream.session);
        trace!("{key}: output drained to the low watermark");
        handlers[handler as usize].drained(session, &mut lend(core, sockets, handler, key));
    }

    pub(super) fn call_peer_closed(&mut self, key: Key) {
        if self.core.sources.live(key).has(FORWARDS) {
            return self.forward_end(key);
        }
        // Bytes that waited for more of them will never be enough.
        let stream = self.core.sources.live(key);
        if stream.has(NEEDS) && stream.has(HAS_INPUT) {
            self.show_kept(key);
            if !self.core.sources.live(key).owes_peer_closed() {
                return;
            }
        }
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        stream.flags |= EOF_SHOWN;
        let (handler, session) = (stream.handler, stream.session);
        handlers[handler as usize].peer_closed(session, &mut lend(core, sockets, handler, key));
    }

    /// Calls `on_open` of a connection that is through.
    pub(crate) fn open(&mut self, key: Key) {
        self.core.begin_run(key);
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        stream.active = core.now;
        stream.phase_deadline = core.now + stream.limits.first_byte_timeout;
        stream.flags |= FIRST_BYTE;
        let handler = stream.handler;
        let session = handlers[handler as usize].open(&mut lend(core, sockets, handler, key));
        if let Some(stream) = core.stream_mut(key) {
            stream.session = session;
            stream.flags |= OPEN;
        }
        self.end_run(key);
        if self.core.drain.is_some() {
            self.begin_drain_of(key);
        }
    }

    /// The mail phase's part: a poke.
    pub(crate) fn deliver_poke(&mut self, key: Key) {
        let Some(stream) = self.core.stream_mut(key) else { return }; // ended since
        stream.flags &= !POKED;
        if !stream.has(OPEN) || stream.has(CLOSING | DEAD) {
            return;
        }
        self.core.begin_run(key);
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        let (handler, session) = (stream.handler, stream.session);
        handlers[handler as usize].poke(session, &mut lend(core, sockets, handler, key));
        self.end_mail_run(key);
    }

    /// Ends the run of a poke or a message: what the handler left may be what it was for.
    pub(crate) fn end_mail_run(&mut self, key: Key) {
        if let Some(stream) = self.core.stream_mut(key)
            && stream.has(HAS_INPUT)
        {
            if stream.may_show() {
                self.show_kept(key);
            } else if !stream.has(CLOSING | DEAD) {
                stream.flags |= SHOW; // as soon as it may
            }
        }
        self.end_run(key);
    }

    /// The timer phase's part: a timer of this connection.
    pub(crate) fn fire_connection_timer(&mut self, key: Key, timer: crate::timer::TimerId) {
        if !self.core.is_open(key) {
            // It was not swept yet; an interval would come again and again.
            self.core.timers.cancel(timer);
            return;
        }
        self.core.begin_run(key);
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        let (handler, session) = (stream.handler, stream.session);
        handlers[handler as usize].timer(session, &mut lend(core, sockets, handler, key), timer);
        self.end_run(key);
    }

    /// Ends a run: writes what its callbacks sent, goes on with closing, and queues the connection
    /// again if it has work left.
    #[inline(never)]
    pub(crate) fn end_run(&mut self, key: Key) {
        if !self.core.scratch.is_empty() {
            self.write_scratch(key);
        }
        self.core.running = Key::NONE;
        self.settle(key);
        self.hold_to_memory();
    }

    /// The last step of every run and flush.
    pub(crate) fn settle(&mut self, key: Key) {
        if self.core.sources.live(key).may_write() {
            self.write_queued(key);
        }
        self.judge_output(key);
        self.judge_input(key);
        let stream = self.core.sources.live(key);
        if stream.has(FIN_WANTED) && !stream.has(DEAD) {
            self.go_on_closing(key);
        }
        self.core.account(key);
        self.core.arm(key);
        if self.core.sources.live(key).has_work() {
            self.core.queue(key);
        }
    }
}
