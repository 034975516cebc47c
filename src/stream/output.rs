//! What is sent to a connection, until it is written.

use std::fs::File;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::flag::*;
use crate::buffer::Buffers;
use crate::core::{Core, Source};
use crate::error::Sent;
use crate::key::Key;

/// A piece of output.
pub(crate) enum Data<'a> {
    Bytes(&'a [u8]),
    Shared(&'a Rc<[u8]>),
    Owned(Vec<u8>),
    File(&'a Arc<File>, Range<u64>),
}

/// A piece smaller than this is copied: keeping it would cost more, with a place in the queue and a slice of the write of
/// its own, and two touches of a shared one's counter.
const KEPT_BYTES_MIN: usize = 512;

impl<'a> Data<'a> {
    pub(crate) fn shared(bytes: &'a Rc<[u8]>) -> Data<'a> {
        if bytes.len() < KEPT_BYTES_MIN { Data::Bytes(bytes) } else { Data::Shared(bytes) }
    }
}

impl Core {
    pub(crate) fn send_owned(&mut self, key: Key, data: Vec<u8>) -> Sent {
        let is_kept = data.len() >= KEPT_BYTES_MIN;
        self.send_general(key, if is_kept { Data::Owned(data) } else { Data::Bytes(&data) })
    }

    // Out of line, so that the line above stays small enough to be compiled into every handler.
    #[inline(never)]
    pub(crate) fn send_general(&mut self, key: Key, data: Data<'_>) -> Sent {
        let is_direct = key == self.running && self.direct_max > 0;
        let Some(Source::Stream(stream)) = self.sources.get_mut(key) else {
            return Sent::Gone;
        };
        if !stream.takes_output() {
            return Sent::Gone;
        }
        let high = stream.limits.output_bytes_high;
        let is_over = match data {
            Data::Bytes(bytes) if is_direct => {
                self.scratch.extend_from_slice(bytes);
                self.scratch.len() > high
            }
            data => {
                let buffers = stream.buffers.get_or_insert_with(|| self.pool.take());
                if buffers.output.len() == 0 {
                    buffers.output_moved = self.now;
                }
                if is_direct {
                    // What the run has sent so far goes first; from here on the queue takes over.
                    buffers.output.append(&self.scratch);
                    self.scratch.clear();
                    self.direct_max = 0;
                }
                match data {
                    Data::Bytes(bytes) => buffers.output.append(bytes),
                    Data::Shared(bytes) => buffers.output.push_shared(Rc::clone(bytes)),
                    Data::Owned(bytes) => buffers.output.push_owned(bytes, 0),
                    Data::File(file, range) => buffers.output.push_file(Arc::clone(file), range),
                }
                stream.flags |= HAS_OUTPUT;
                stream.output_exceeds(high)
            }
        };
        if is_over {
            stream.flags |= OVER_HIGH;
        }
        if !is_direct || self.direct_max == 0 {
            self.account(key);
            self.queue_flush(key);
        }
        if is_over { Sent::OverHigh } else { Sent::Ok }
    }

    /// Brings the memory account up to date with a connection's buffers, and takes back buffers that
    /// are empty.
    pub(crate) fn account(&mut self, key: Key) {
        let Some(Source::Stream(stream)) = self.sources.get_mut(key) else { return };
        let Some(buffers) = &mut stream.buffers else { return };
        stream.flags &= !(HAS_INPUT | HAS_OUTPUT);
        if buffers.input_len() > 0 {
            stream.flags |= HAS_INPUT;
        }
        if buffers.output.len() > 0 {
            stream.flags |= HAS_OUTPUT;
        }
        let memory = if buffers.is_empty() { 0 } else { buffers.memory() };
        self.stats.memory_bytes = self.stats.memory_bytes + memory - buffers.accounted;
        self.stats.memory_bytes_peak = self.stats.memory_bytes_peak.max(self.stats.memory_bytes);
        buffers.accounted = memory;
        if buffers.is_empty()
            && let Some(buffers) = stream.buffers.take()
        {
            self.pool.give_back(buffers);
        }
        self.look_at_memory();
    }

    fn look_at_memory(&mut self) {
        if self.is_over_memory() {
            // The end of the next run has to look at it, and that of the short way does not.
            self.common = NOTHING_IS_COMMON;
        }
    }

    /// Takes bytes of datagrams that wait into the memory account.
    pub(crate) fn account_waiting(&mut self, bytes: usize) {
        self.stats.datagram_bytes_waiting += bytes;
        self.stats.memory_bytes += bytes;
        self.stats.memory_bytes_peak = self.stats.memory_bytes_peak.max(self.stats.memory_bytes);
        self.look_at_memory();
    }

    /// ... and out of it.
    pub(crate) fn account_gone(&mut self, bytes: usize) {
        self.stats.datagram_bytes_waiting -= bytes;
        self.stats.memory_bytes -= bytes;
    }

    pub(crate) fn is_over_memory(&self) -> bool {
        self.stats.memory_bytes > self.limits.memory_bytes_max
    }

    /// Lends the connection's buffers, of its own or fresh ones.
    pub(crate) fn buffers_mut(&mut self, key: Key) -> Option<&mut Buffers> {
        match self.sources.get_mut(key) {
            Some(Source::Stream(stream)) => {
                Some(stream.buffers.get_or_insert_with(|| self.pool.take()))
            }
            _ => None,
        }
    }
}
