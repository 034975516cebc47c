//! The turn: one pass of the loop.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use log::{Level, error, log_enabled, trace};

use crate::clock::Time;
use crate::command::Command;
use crate::context::Context;
use crate::core::{Core, Source};
use crate::driver::Driver;
use crate::error::CloseReason;
use crate::key::Key;
use crate::mail::message_of;
use crate::reactor::Reactor;
use crate::stream::flag::*;
use crate::timer::{Purpose, TimerId};

impl<D: Driver> Reactor<D> {
    /// One turn: waits for events, for at most `timeout` (for ever if `None`) and not at all while
    /// there is work left, and does what there is to do.
    ///
    /// Every phase takes its work list and runs what was on it then; work made by work belongs to the
    /// next turn. So a turn is bounded.
    ///
    /// # Errors
    ///
    /// Only that the poll itself is broken.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cost
    ///
    /// One epoll_wait(2), or two and a ppoll(2) if it waits for a timer to the end; what the connections'
    /// budgets allow.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.forget_turn();
        self.turn_in_run(timeout)?;
        if self.core.has_worked {
            self.end_turn(self.sockets.driver.now()); // what the caller does next is not its time
        }
        Ok(())
    }

    /// A turn that is followed by another one, or by [`end_turn`](Self::end_turn).
    pub(super) fn turn_in_run(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.wait(timeout)?; //                                  1. wait
        self.core.now = self.sockets.driver.now(); //            2. clock
        self.take_events(); //                                   3. events
        self.start_handlers(); // who is new hears of that before anything else
        if self.core.is_signalled {
            self.take_signals();
        }
        self.each(|core| &mut core.ready, Self::run_ready); //   4. ready
        self.each(|core| &mut core.accept, Self::run_listener);
        self.take_due_timers(); //                               5. timers
        self.each(|core| &mut core.due, Self::fire_timer);
        self.each(|core| &mut core.alarmed, Self::look_at_deadlines);
        self.each(|core| &mut core.poked, Self::deliver_poke); // 6. mail
        self.take_mail();
        self.carry_out_commands(); //                            7. flush
        self.each(|core| &mut core.flush, Self::flush_stream);
        self.hold_to_memory();
        self.reap(); //                                          8. reap
        if self.core.drain.is_some() {
            self.look_at_drain();
        }
        if self.core.stopping {
            self.stop();
        }
        self.verify_in_debug();
        Ok(())
    }

    fn start_handlers(&mut self) {
        // Off the list before its callback, which may panic.
        while let Some(handler) = self.core.starting.pop_front() {
            let mut cx = Context { core: &mut self.core, host: &self.sockets, handler };
            self.handlers[handler as usize].start(&mut cx);
        }
    }

    fn take_events(&mut self) {
        let core = &mut self.core;
        let is_traced = log_enabled!(Level::Trace);
        let is_timed = core.watchdog.begin_turn(core.now);
        core.common = if is_traced || is_timed { NOTHING_IS_COMMON } else { COMMON };
        let count = self.sockets.driver.events().count();
        core.stats.events += count as u64;
        core.has_worked |= count > 0;
        core.is_poll_full = count >= core.limits.events_per_poll_max;
        if is_traced {
            for event in self.sockets.driver.events() {
                trace!("{}: event: {:?}", event.key, event.readiness);
            }
        }
        for event in self.sockets.driver.events() {
            core.merge(event.key, event.readiness);
        }
    }

    /// Swaps one of the core's work lists out and calls `run` for each source on it. A panic in a
    /// callback ends that source's run and not the phase.
    #[inline]
    fn each(&mut self, list: fn(&mut Core) -> &mut Vec<Key>, run: impl Fn(&mut Self, Key)) {
        if list(&mut self.core).is_empty() {
            return;
        }
        std::mem::swap(list(&mut self.core), &mut self.batch);
        // One catch for the whole phase: around every source it would be paid by every message.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run_batch(&run))) {
            if let Err(panic) = self.contain(panic) {
                // It goes through; what is left of the batch stays for the next turn.
                list(&mut self.core).extend(self.batch.drain(..).skip(self.batch_done));
                self.batch_done = 0;
                resume_unwind(panic);
            }
        }
        self.batch.clear();
        self.batch_done = 0;
    }

    // In a function of its own: inside of the catch the loop would share its registers with that. How
    // far it has come stands in the reactor for the same reason.
    #[inline(never)]
    fn run_batch(&mut self, run: &impl Fn(&mut Self, Key)) {
        while let Some(&key) = self.batch.get(self.batch_done) {
            self.batch_done += 1;
            run(self, key);
        }
    }

    /// Charges a panic to the connection, raw source or datagram socket whose callback it came from. Gives it back if
    /// it is to go through.
    #[cold]
    pub(crate) fn contain(
        &mut self,
        panic: Box<dyn Any + Send>,
    ) -> Result<(), Box<dyn Any + Send>> {
        let key = std::mem::replace(&mut self.core.running, Key::NONE);
        if key == Key::NONE {
            return Err(panic);
        }
        error!("{key}: a handler panicked: {}", message_of(&*panic));
        let core = &mut self.core;
        core.stats.panics += 1;
        // Half an answer is none.
        let unwritten = core.scratch.len();
        core.stats.lose(unwritten);
        core.scratch.clear();
        match core.stream_mut(key) {
            // `on_open` did not return: there is no session to close.
            Some(stream) if !stream.has(OPEN) => core.end(key, CloseReason::Panicked),
            // It was closing, and has lost what it said last.
            Some(stream)
                if unwritten > 0 && stream.reason.is_some_and(CloseReason::has_delivered_all) =>
            {
                stream.reason = Some(CloseReason::Panicked);
            }
            _ => core.close(key, CloseReason::Panicked),
        }
        // The end of its run, which would have written and gone on closing, did not come.
        core.queue_flush(key);
        if self.panics_go_through { Err(panic) } else { Ok(()) }
    }

    #[inline]
    fn run_ready(&mut self, key: Key) {
        match self.core.stream(key) {
            Some(_) => self.run_common(key),
            None => self.run_uncommon(key),
        }
    }

    #[cold]
    #[inline(never)]
    fn run_uncommon(&mut self, key: Key) {
        // Another one has ended since it was queued.
        match self.core.sources.get(key) {
            Some(Source::Raw(_)) => self.run_raw(key),
            Some(Source::Datagram(_)) => self.run_datagrams(key),
            Some(Source::Candidate(_)) => self.run_candidate(key),
            _ => {}
        }
    }

    fn take_due_timers(&mut self) {
        let core = &mut self.core;
        let max = core.limits.timers_per_turn_max;
        core.timers.take_due(core.now, max, &mut core.due);
        core.has_worked |= !core.due.is_empty();
        if core.may_have_missed_events() {
            return;
        }
        core.deadlines.take_due(&mut core.sources, core.now, max, |sources, index, _| {
            let (key, source) = sources.entry_at_mut(index);
            let Source::Stream(stream) = source else { return Time::NEVER };
            let (at, _) = stream.earliest_deadline();
            if at > core.now {
                if stream.has_unread() {
                    stream.flags |= REARM; // when all is read
                }
                return at; // put off, as by traffic
            }
            core.alarmed.push(key);
            Time::NEVER
        });
        core.has_worked |= !core.alarmed.is_empty();
    }

    fn fire_timer(&mut self, timer: Key) {
        let now = self.core.now;
        let Some((purpose, due)) = self.core.timers.fire(timer, now) else { return };
        trace!("timer {timer}: {purpose:?}");
        self.core.stats.timer_lag.record(now.since(due));
        match purpose {
            Purpose::Connection(key) => self.fire_connection_timer(key, TimerId(timer)),
            Purpose::Accept(key) => self.retry_accept(key),
            Purpose::Connect(key) => self.go_on_connecting(key),
            Purpose::Datagram(key) => self.fire_datagram_timer(key, TimerId(timer)),
            Purpose::Retry(key) => self.retry_datagrams(key),
            Purpose::Drain => self.time_out_drain(),
            Purpose::Handler(handler) => {
                let mut cx = Context { core: &mut self.core, host: &self.sockets, handler };
                self.handlers[handler as usize].handler_timer(TimerId(timer), &mut cx);
                self.hold_to_memory();
            }
        }
    }

    fn carry_out_commands(&mut self) {
        // As many as there are now: a command given by a command waits for the next turn. Off the list
        // before its callback, which may panic.
        for _ in 0..self.core.commands.len() {
            let Some(command) = self.core.commands.pop_front() else { return };
            match command {
                Command::Connect { key } => self.begin_connect(key),
                Command::LookedUp { key, look_up, outcome } => {
                    self.finish_look_up(key, &look_up, outcome);
                }
                Command::Listen { key, handler, address, options } => {
                    self.begin_listening(key, handler, &address, &options);
                }
                Command::Bind { key, address, options } => {
                    self.begin_binding(key, &address, &options);
                }
                Command::WakeListeners => self.wake_full_listeners(),
                Command::Drain => self.carry_out_drain(),
                Command::DrainOne { key } => self.begin_drain_of(key),
                Command::OtherSideEnded { key, is_orderly } => {
                    self.follow_other_side(key, is_orderly);
                }
            }
        }
    }

    pub(crate) fn flush_stream(&mut self, key: Key) {
        let Some(stream) = self.core.stream_mut(key) else { return self.flush_datagrams(key) };
        stream.flags &= !FLUSHING;
        if !stream.has(CONNECTING | DEAD) {
            self.core.write_left = stream.limits.write_bytes_per_turn_max;
            self.settle(key);
        }
    }
}
