//! Reading, and showing what was read.

use std::io;

use log::{debug, error, trace, warn};

use super::flag::*;
use super::run::{Budget, lend};
use crate::driver::Driver;
use crate::error::CloseReason;
use crate::key::Key;
use crate::reactor::Reactor;

impl<D: Driver> Reactor<D> {
    /// A connection's turn in the ready phase.
    ///
    /// The common case stands here, from the event to the answer: one read into the buffer that all
    /// share, one call of the handler, one write. It is what [`run_stream`](Self::run_stream) would do
    /// for a connection that is readable and writable and has nothing else on its mind; whatever turns
    /// out otherwise on the way is handed to the general code.
    #[inline]
    pub(crate) fn run_common(&mut self, key: Key) {
        let core = &mut self.core;
        let stream = core.sources.live(key);
        stream.flags &= !QUEUED;
        if stream.flags & !NEUTRAL != core.common {
            return self.run_stream(key);
        }
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        let room = self.input.len().min(stream.read_max as usize);
        core.stats.reads += 1;
        let count = match driver.read(socket, &mut self.input[..room]) {
            Ok(0) => return self.finish_unusual_read(key, Ok(0)),
            Ok(count) => count,
            Err(error) => return self.finish_unusual_read(key, Err(error)),
        };
        if driver.short_read_drains() && count < room {
            stream.flags &= !READABLE;
        }
        stream.bytes_in += count as u64;
        stream.active = core.now;
        core.stats.bytes_in += count as u64;
        core.running = key;
        core.direct_max = stream.limits.output_bytes_high;
        let (handler, session) = (stream.handler, stream.session);
        let mut conn = lend(core, &self.sockets, handler, key);
        let answer = self.handlers[handler as usize].data(session, &mut conn, &self.input[..count]);
        if answer != count {
            self.keep_unconsumed(key, count, answer);
            return self.leave_short_way(key, count);
        }
        // Drained, and nothing but the scratch buffer has changed, or the general code goes on.
        let stream = core.sources.live(key);
        if stream.flags & !NEUTRAL != COMMON & !READABLE {
            return self.leave_short_way(key, count);
        }
        core.running = Key::NONE;
        let length = core.scratch.len();
        if length > 0 {
            core.stats.writes += 1;
            match driver.write(socket, &core.scratch) {
                Ok(count) if count == length => {
                    core.scratch.clear();
                    core.stats.bytes_out += count as u64;
                    stream.bytes_out += count as u64;
                }
                Ok(count) => self.finish_unusual_write(key, Ok(count)),
                Err(error) => self.finish_unusual_write(key, Err(error)),
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn finish_unusual_read(&mut self, key: Key, result: io::Result<usize>) {
        self.core.begin_run(key);
        self.after_read(key, result, usize::MAX);
        if self.core.sources.live(key).owes_peer_closed() {
            self.call_peer_closed(key);
        }
        self.end_run(key);
    }

    /// Goes on as the general code would after one read of `count` bytes.
    #[cold]
    #[inline(never)]
    fn leave_short_way(&mut self, key: Key, count: usize) {
        self.core.write_left = self.core.sources.live(key).limits.write_bytes_per_turn_max;
        self.go_on_reading(key, 1, count);
    }

    #[cold]
    #[inline(never)]
    fn finish_unusual_write(&mut self, key: Key, result: io::Result<usize>) {
        self.core.write_left = self.core.sources.live(key).limits.write_bytes_per_turn_max;
        self.core.running = key;
        self.after_scratch_write(key, result, self.core.scratch.len());
        self.core.running = Key::NONE;
        self.settle(key);
        self.hold_to_memory();
    }

    /// One read, and the callback for what it brought.
    pub(super) fn read_once(&mut self, key: Key, budget: &mut Budget) {
        let core = &mut self.core;
        let stream = core.sources.live(key);
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        core.stats.reads += 1;
        budget.reads -= 1;
        let input_max = stream.limits.input_bytes_max;
        let kept = stream.buffers.as_ref().map_or(0, |buffers| buffers.input_len());
        debug_assert!(kept < input_max, "no read without room");
        let room = self.input.len().min(input_max - kept).min(budget.bytes);
        let result = driver.read_any(socket, &mut self.input[..room]);
        let count = self.after_read(key, result, room);
        budget.bytes -= count;
        if count == 0 {
            return;
        }
        if kept > 0 {
            // Behind what is there, so that the handler sees one piece.
            if let Some(buffers) = self.core.buffers_mut(key) {
                buffers.append_input(&self.input[..count], input_max);
            }
            return self.show_kept(key);
        }
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        if stream.has(CLOSING) {
            core.stats.bytes_discarded += count as u64;
            return;
        }
        if stream.has(FORWARDS) {
            return self.forward_read(key, count);
        }
        if stream.waits_for_more_than(count) {
            let buffers = stream.buffers.get_or_insert_with(|| core.pool.take());
            buffers.keep_input(&self.input[..count]);
            stream.begin_message(core.now);
            return core.account(key);
        }
        stream.flags &= !NEEDS;
        let (handler, session) = (stream.handler, stream.session);
        let data = &self.input[..count];
        let mut conn = lend(core, sockets, handler, key);
        let answer = handlers[handler as usize].data_timed(session, &mut conn, data);
        self.keep_unconsumed(key, count, answer);
    }

    /// Draws the conclusions of a read that had room for `room` bytes; gives how many came.
    fn after_read(&mut self, key: Key, result: io::Result<usize>, room: usize) -> usize {
        let core = &mut self.core;
        let stream = core.sources.live(key);
        match result {
            Ok(0) => {
                trace!("{key}: read the end of file");
                stream.flags |= EOF;
                stream.flags &= !READABLE;
                0
            }
            Ok(count) => {
                trace!("{key}: read {count} bytes of at most {room}");
                let drains = self.sockets.driver.short_read_drains();
                if drains && count < room && !stream.has(READ_CLOSED | PRIORITY | GENERAL) {
                    stream.flags &= !READABLE;
                }
                stream.bytes_in += count as u64;
                stream.active = core.now;
                core.stats.bytes_in += count as u64;
                count
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                trace!("{key}: read would block");
                // An error would have been told instead.
                stream.flags &= !(READABLE | PRIORITY | ERROR);
                if stream.has(GENERAL) {
                    stream.flags &= !READ_CLOSED; // so would an end
                }
                core.stats.read_would_blocks += 1;
                0
            }
            Err(error) => {
                debug!("{key}: read failed: {error}");
                core.end(key, CloseReason::of_error(&error));
                0
            }
        }
    }

    /// Shows the input that the connection keeps.
    pub(super) fn show_kept(&mut self, key: Key) {
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let stream = core.sources.live(key);
        stream.flags &= !SHOW;
        if stream.has(CLOSING) {
            return core.drop_input(key);
        }
        if stream.has(FORWARDS) {
            return self.forward_kept(key);
        }
        let shown = stream.input_len();
        if shown == 0 || stream.waits_for_more_than(shown) {
            return;
        }
        stream.flags &= !NEEDS;
        let (handler, session) = (stream.handler, stream.session);
        let Some(buffers) = &mut stream.buffers else { return };
        // Out of the connection's hands for the call, which may change everything else about it.
        let (input, consumed) = buffers.take_input();
        let mut conn = lend(core, sockets, handler, key);
        let answer = handlers[handler as usize].data_timed(session, &mut conn, &input[consumed..]);
        let now_consumed = self.judge_consumed(key, shown, answer);
        let core = &mut self.core;
        let stream = core.sources.live(key);
        if stream.has(CLOSING | DEAD) {
            core.stats.bytes_discarded += (shown - now_consumed) as u64;
        } else {
            let buffers = stream.buffers.get_or_insert_with(|| core.pool.take());
            buffers.put_back(input, consumed + now_consumed);
            if now_consumed > 0 {
                stream.begin_message(core.now);
            }
        }
        self.core.account(key);
    }

    /// Has what is kept shown once more if it leaves no room, as it may under a limit that was lowered:
    /// the connection is not read from any more, so that nothing else would come of it. A handler that
    /// consumes nothing then has had its chance.
    pub(super) fn judge_input(&mut self, key: Key) {
        let stream = self.core.sources.live(key);
        // After the end of file no room is needed, and what rests is shown when it goes on.
        if !stream.has(PAUSED | OVER_HIGH | EOF_SHOWN | CLOSING | DEAD) && stream.is_full() {
            stream.flags |= SHOW;
        }
    }

    /// Keeps what the handler left of the shared read buffer, of which it was shown `shown` bytes.
    #[cold]
    #[inline(never)]
    fn keep_unconsumed(&mut self, key: Key, shown: usize, answer: usize) {
        let consumed = self.judge_consumed(key, shown, answer);
        let rest = &self.input[consumed..shown];
        let core = &mut self.core;
        let stream = core.sources.live(key);
        if stream.has(CLOSING | DEAD) {
            core.stats.bytes_discarded += rest.len() as u64;
        } else if !rest.is_empty() {
            stream.buffers.get_or_insert_with(|| core.pool.take()).keep_input(rest);
            stream.begin_message(core.now);
        }
        self.core.account(key);
    }

    /// Holds the handler to what `on_data` may answer; gives how many bytes are done with.
    fn judge_consumed(&mut self, key: Key, shown: usize, answer: usize) -> usize {
        let core = &mut self.core;
        if answer == 0 {
            let stream = core.sources.live(key);
            let is_stuck = shown >= stream.limits.input_bytes_max;
            if is_stuck && !stream.has(PAUSED | SHOW | OVER_HIGH | CLOSING | DEAD) {
                debug!("{key}: the handler consumed nothing of {shown} bytes, its input limit");
                core.close(key, CloseReason::InputTooLong);
            }
            return 0;
        }
        if answer <= shown {
            return answer;
        }
        if let Some(error) = core.error.take() {
            warn!("{key}: the handler failed: {error}");
            core.close(key, CloseReason::HandlerError);
        } else {
            error!("{key}: the handler consumed {answer} of {shown} bytes");
            core.close(key, CloseReason::Misuse);
        }
        shown
    }

    /// Learns of an error that no read meets, because the connection is not read from now; whether
    /// there was one.
    pub(super) fn take_error(&mut self, key: Key) -> bool {
        let Some((driver, socket)) = self.sockets.with(key) else { return false };
        let error = match driver.take_error(socket) {
            Ok(None) => {
                if let Some(stream) = self.core.stream_mut(key) {
                    stream.flags &= !ERROR;
                }
                return false;
            }
            Ok(Some(error)) | Err(error) => error,
        };
        debug!("{key}: {error}");
        self.core.end(key, CloseReason::of_error(&error));
        true
    }
}
