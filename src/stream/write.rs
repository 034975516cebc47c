//! Writing: first what a run has sent, straight from the loop's scratch buffer; what the kernel does
//! not take is queued, and goes out when it is writable again.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use log::{debug, trace};

use super::flag::*;
use crate::buffer::SLICES_MAX;
use crate::clock::Time;
use crate::core::{Core, Source};
use crate::driver::Driver;
use crate::error::CloseReason;
use crate::key::Key;
use crate::reactor::Reactor;

impl Core {
    /// Closes without the rest of the output, which is a file that is shorter than it was: what came before it is
    /// delivered.
    #[cold]
    fn cut_output(&mut self, key: Key) {
        debug!("{key}: a file is shorter than what is to be sent of it");
        let reason = CloseReason::Io(io::ErrorKind::UnexpectedEof);
        self.close(key, reason);
        let stream = self.sources.live(key);
        if stream.reason.is_some_and(CloseReason::has_delivered_all) {
            stream.reason = Some(reason); // it was closing
        }
        stream.phase_deadline = Time::NEVER; // what is said now has a time of its own
        if let Some(buffers) = &mut stream.buffers {
            // Nobody knows how much of the files there is.
            self.stats.lose(buffers.output.len_in_memory());
            buffers.output.clear();
        }
    }
}

impl<D: Driver> Reactor<D> {
    /// Writes the scratch buffer. Nothing older waits, or the run would have queued.
    pub(super) fn write_scratch(&mut self, key: Key) {
        let stream = self.core.sources.live(key);
        debug_assert!(!stream.has(HAS_OUTPUT));
        // What waited may have used up the budget.
        let length = self.core.scratch.len().min(self.core.write_left);
        if !stream.has(WRITABLE) || length == 0 {
            return self.queue_scratch(key, 0);
        }
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        self.core.stats.writes += 1;
        let result = driver.write_any(socket, &self.core.scratch[..length]);
        self.after_scratch_write(key, result, length);
    }

    pub(super) fn after_scratch_write(
        &mut self,
        key: Key,
        result: io::Result<usize>,
        length: usize,
    ) {
        // If it failed the connection is at its end, and what was to be written with it.
        if let Some(written) = self.after_write(key, result, length) {
            self.queue_scratch(key, written);
        }
    }

    /// Queues what a write of the scratch buffer left.
    fn queue_scratch(&mut self, key: Key, written: usize) {
        let core = &mut self.core;
        let rest = core.scratch.len() - written;
        if rest > 0
            && let Some(Source::Stream(stream)) = core.sources.get_mut(key)
        {
            let buffers = stream.buffers.get_or_insert_with(|| core.pool.take());
            buffers.output_moved = core.now;
            // Most of it is handed over as it is, and the loop gets a new buffer; less is copied, so
            // that no connection holds a large buffer for a few bytes.
            if rest > core.scratch.capacity() / 2 {
                let fresh = Vec::with_capacity(core.limits.read_buffer_bytes);
                buffers.output.push_owned(std::mem::replace(&mut core.scratch, fresh), written);
            } else {
                buffers.output.append(&core.scratch[written..]);
            }
            stream.flags |= HAS_OUTPUT;
        }
        self.core.scratch.clear();
        if self.core.scratch.capacity() > 4 * self.core.limits.read_buffer_bytes {
            // One large answer must not be kept in memory for ever.
            self.core.scratch = Vec::with_capacity(self.core.limits.read_buffer_bytes);
        }
        self.ask_writable(key);
        self.core.account(key);
    }

    /// Writes the queue, until it is empty, the kernel takes no more, or the budget is used up.
    pub(super) fn write_queued(&mut self, key: Key) {
        loop {
            let core = &mut self.core;
            let stream = core.sources.live(key);
            let Some((driver, socket)) = self.sockets.with(key) else { return };
            if !stream.has(WRITABLE) || stream.has(DEAD) || core.write_left == 0 {
                break;
            }
            let Some(buffers) = &mut stream.buffers else { return };
            let (mut one, mut many);
            let slices = if buffers.output.is_one_piece() {
                one = [IoSlice::new(&[])];
                &mut one[..]
            } else {
                many = [IoSlice::new(&[]); SLICES_MAX];
                &mut many[..]
            };
            let front = buffers.output.front(slices, core.write_left);
            let length = if front.file.is_none() { front.bytes } else { 0 };
            let result = match (&slices[..front.filled], front.file) {
                (slices, Some((file, range))) => driver.write_file(socket, slices, file, &range),
                ([], None) => break,
                ([slice], None) => driver.write_any(socket, slice),
                (slices, None) => driver.write_vectored(socket, slices),
            };
            core.stats.writes += 1;
            // No write to a socket fails so; it is what a driver says of a file.
            if result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
                core.cut_output(key);
                break;
            }
            let Some(written) = self.after_write(key, result, length) else { break };
            if let Some(Source::Stream(stream)) = self.core.sources.get_mut(key)
                && let Some(buffers) = &mut stream.buffers
            {
                buffers.output.consume(written);
            }
        }
        // Before the handler fills up what has drained.
        let now = self.core.now;
        self.core.sources.live(key).note_output(now);
        self.ask_writable(key);
        self.core.account(key);
    }

    /// Has what is not TCP reported as writable while output waits for that, and no longer: it would wake
    /// the loop whenever the peer reads.
    pub(super) fn ask_writable(&mut self, key: Key) {
        let stream = self.core.sources.live(key);
        if !stream.has(GENERAL) || stream.has(DEAD) {
            return;
        }
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        let waits = !stream.has(WRITABLE);
        let Some(buffers) = &mut stream.buffers else { return };
        let asks = waits && buffers.output.len() > 0;
        if asks == buffers.asks_writable {
            return;
        }
        buffers.asks_writable = asks;
        if let Err(error) = driver.ask_writable(socket, key, asks) {
            debug!("{key}: cannot be asked to tell when it is writable: {error}");
            self.core.end(key, CloseReason::of_error(&error));
        }
    }

    /// Draws the conclusions of a write of `length` bytes, or of a file, which may end early, if that is 0; gives how
    /// much the kernel took, or nothing if the connection is at its end.
    pub(super) fn after_write(
        &mut self,
        key: Key,
        result: io::Result<usize>,
        length: usize,
    ) -> Option<usize> {
        let core = &mut self.core;
        let stream = core.sources.live(key);
        match result {
            Ok(0) => {
                core.end(key, CloseReason::Io(io::ErrorKind::WriteZero));
                None
            }
            Ok(count) => {
                trace!("{key}: wrote {count} bytes");
                let fills = self.sockets.driver.short_write_fills();
                if fills && count < length && !stream.has(GENERAL) {
                    stream.flags &= !WRITABLE;
                    core.stats.write_would_blocks += 1;
                }
                stream.bytes_out += count as u64;
                stream.active = core.now;
                stream.put_linger_off(core.now);
                if let Some(buffers) = &mut stream.buffers {
                    buffers.output_moved = core.now;
                }
                core.stats.bytes_out += count as u64;
                core.write_left = core.write_left.saturating_sub(count);
                Some(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                trace!("{key}: write would block");
                stream.flags &= !WRITABLE;
                core.stats.write_would_blocks += 1;
                Some(0)
            }
            Err(error) => {
                debug!("{key}: write failed: {error}");
                core.end(key, CloseReason::of_error(&error));
                None
            }
        }
    }

    /// Holds what the kernel refused to the limits.
    pub(super) fn judge_output(&mut self, key: Key) {
        let stream = self.core.sources.live(key);
        if stream.has(DEAD | CONNECTING) || !stream.has(HAS_OUTPUT) {
            return;
        }
        let (waiting, files) = (stream.output_len_in_memory(), stream.output_files());
        let is_over_max =
            waiting > stream.limits.output_bytes_max || files > stream.limits.output_files_max;
        if is_over_max && !stream.has(WRITABLE) {
            debug!(
                "{key}: {waiting} bytes and {files} files of output wait, which is over a limit"
            );
            stream.flags |= RESET;
            self.core.end(key, CloseReason::SlowReader);
        } else if stream.output_exceeds(stream.limits.output_bytes_high) && !stream.has(CLOSING) {
            stream.flags |= OVER_HIGH;
        }
    }

    /// Holds the reactor to its memory, after every run and not only at the end of a turn: one turn
    /// may run a thousand handlers, each of which sends to a thousand others.
    #[inline]
    pub(crate) fn hold_to_memory(&mut self) {
        if self.core.is_over_memory() {
            self.relieve_memory();
        }
    }

    #[cold]
    #[inline(never)]
    fn relieve_memory(&mut self) {
        // What waits for the flush phase only takes memory until it is written: it is written now.
        // Off the list before its callback, which may panic.
        for _ in 0..self.core.flush.len() {
            let Some(key) = self.core.flush.pop() else { break };
            // It may be outside of every phase, and a datagram that fails is told.
            let result = catch_unwind(AssertUnwindSafe(|| self.flush_stream(key)));
            if let Err(panic) = result.or_else(|panic| self.contain(panic)) {
                resume_unwind(panic);
            }
        }
        if self.core.is_over_memory() {
            self.shed_largest();
        }
    }

    /// Closes the connections that hold the most, and drops the queues of datagram sockets that do, until an eighth of
    /// the memory is free: so that what a walk over all costs is paid for by what fills that again.
    fn shed_largest(&mut self) {
        let holders = self.core.sources.iter().filter_map(|(key, source)| match source {
            Source::Stream(stream) if stream.memory() > 0 => Some((stream.memory(), key)),
            Source::Datagram(state) if state.waiting_bytes() > 0 => {
                Some((state.waiting_bytes(), key))
            }
            _ => None,
        });
        let mut holders: Vec<(usize, Key)> = holders.collect();
        holders.sort_unstable();
        let memory_bytes_max = self.core.limits.memory_bytes_max;
        while self.core.stats.memory_bytes > memory_bytes_max - memory_bytes_max / 8
            && let Some((memory, key)) = holders.pop()
        {
            debug!("{key}: holds {memory} bytes, the most, and the reactor is over its memory");
            if let Some(stream) = self.core.stream_mut(key) {
                stream.flags |= RESET;
                self.core.end(key, CloseReason::MemoryLimit);
            } else {
                self.shed_datagrams(key);
            }
        }
    }
}
