//! Forwarding: what one connection receives goes to another one, and no handler is shown it.
//!
//! It is a mode of the general way, so that who does not forward pays nothing. The bytes are written to the
//! other connection straight from the buffer that they were read into; what the kernel does not take goes
//! through its output, and the pressure of that comes back as a pause.
//!
//! Who takes part is not in a drain: when all has been said, only its two peers know. It drains when its
//! forwarding ends.

use std::collections::HashMap;

use super::{Stream, flag::*};
use crate::command::Command;
use crate::core::Core;
use crate::driver::Driver;
use crate::error::{CloseReason, Sent};
use crate::key::Key;
use crate::reactor::Reactor;
use crate::stream::Data;

/// Who forwards to whom. Looked at only of connections whose flags say so, and never walked over.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    /// By who forwards. To [`Key::NONE`]: to a pipe that has taken the end of file and is closed, while the other
    /// direction goes on; until that ends, no handler needs to know.
    to: HashMap<Key, Key>,
    /// By whom it is forwarded to.
    from: HashMap<Key, Key>,
}

impl Forwards {
    /// How many forward, and how many are forwarded to.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.to.len(), self.from.len())
    }
}

impl Core {
    /// Whether it could begin: both are open, or one of them is just being told so, and neither forwards, or
    /// is fed, already.
    pub(crate) fn forward(&mut self, from: Key, to: Key) -> bool {
        let is_free = |key: Key, flag: u32| {
            let stream = self.stream(key);
            stream.is_some_and(|stream| {
                let is_open = stream.has(OPEN) || key == self.running;
                is_open && !stream.has(CLOSING | DEAD) && !stream.has(flag)
            })
        };
        let takes_output = self.stream(to).is_some_and(|stream| stream.takes_output());
        if from == to || !is_free(from, FORWARDS | EOF_SHOWN) || !is_free(to, FED) || !takes_output
        {
            return false;
        }
        self.forwards.to.insert(from, to);
        self.forwards.from.insert(to, from);
        for key in [from, to] {
            self.sources.live(key).flags &= !(DRAINING | DRAIN_TOLD);
        }
        let fed = self.sources.live(to);
        fed.flags |= FED;
        let is_over_high = fed.has(OVER_HIGH);
        let feeder = self.sources.live(from);
        // What it keeps goes first, and nobody waits for more of it any longer.
        feeder.flags |= FORWARDS | SHOW;
        feeder.flags &= !NEEDS;
        if is_over_high {
            self.pause(from);
        } else {
            self.resume(from);
            self.queue(from);
        }
        true
    }

    /// Whether it went on: the connection is its handler's again.
    pub(crate) fn end_forward(&mut self, from: Key) -> bool {
        let Some(to) = self.unlink(from) else { return false };
        self.give_back(from);
        self.end_feeding(to);
        true
    }

    /// Who forwarded and does not any more is its handler's: what it is to hear of now is an end that was forwarded.
    fn give_back(&mut self, from: Key) {
        if let Some(stream) = self.stream_mut(from) {
            stream.flags &= !EOF_SHOWN;
        }
        self.resume(from);
        self.queue(from);
        self.join_drain(from);
    }

    /// Who was fed is not any more.
    fn end_feeding(&mut self, to: Key) {
        if self.forwards.to.get(&to) == Some(&Key::NONE) {
            self.unlink(to);
            self.give_back_unless_done(to);
        }
        self.join_drain(to);
    }

    /// Both directions of one that is done have ended, but for what is still to be written.
    fn give_back_unless_done(&mut self, from: Key) {
        if self.stream(from).is_some_and(|stream| !stream.has(FIN_WANTED)) {
            self.give_back(from);
        }
    }

    /// A drain has left it out so far, and does as long as it takes part in the other direction.
    fn join_drain(&mut self, key: Key) {
        if self.drain.is_some() {
            self.commands.push_back(Command::DrainOne { key });
        }
    }

    fn unlink(&mut self, from: Key) -> Option<Key> {
        let to = self.forwards.to.remove(&from)?;
        self.forwards.from.remove(&to);
        for (key, flag) in [(from, FORWARDS), (to, FED)] {
            if let Some(stream) = self.stream_mut(key) {
                stream.flags &= !flag;
            }
        }
        Some(to)
    }

    /// The pipe that it forwarded to has taken its end of file, and is closed.
    fn end_forward_to_pipe(&mut self, from: Key) {
        if let Some(stream) = self.stream_mut(from)
            && stream.has(FED)
        {
            stream.flags |= FORWARDS;
            self.forwards.to.insert(from, Key::NONE);
        } else {
            self.give_back_unless_done(from);
        }
    }

    /// A connection that forwards, or is forwarded to, has ended: the other one follows in the flush phase.
    #[cold]
    pub(crate) fn end_forwards_of(&mut self, key: Key, is_orderly: bool) {
        let mut fed = self.unlink(key).filter(|fed| *fed != Key::NONE);
        let mut feeder = self.forwards.from.get(&key).copied();
        if let Some(feeder) = feeder {
            self.unlink(feeder);
        }
        // A pipe has one direction, and with the end of file that was passed on it is done. Whoever it was joined to
        // stays, and may have another one.
        let has_passed_on = |core: &Core, key: Key| {
            core.stream(key).is_some_and(|stream| is_orderly && stream.has(EOF_SHOWN))
        };
        if self.stream(key).is_some_and(Stream::is_pipe_in)
            && has_passed_on(self, key)
            && let Some(fed) = fed.take()
        {
            self.end_feeding(fed);
        }
        if self.stream(key).is_some_and(Stream::is_pipe_out)
            && let Some(feeder) = feeder.take_if(|feeder| has_passed_on(self, *feeder))
        {
            self.end_forward_to_pipe(feeder);
        }
        for other in fed.into_iter().chain(feeder.filter(|feeder| Some(*feeder) != fed)) {
            // Until then it is neither read from nor shown to its handler.
            self.pause(other);
            self.commands.push_back(Command::OtherSideEnded { key: other, is_orderly });
        }
    }
}

impl<D: Driver> Reactor<D> {
    /// Hands on the first `count` bytes of the shared read buffer.
    #[cold]
    #[inline(never)]
    pub(super) fn forward_read(&mut self, from: Key, count: usize) {
        let Some(to) = self.core.forwards.to.get(&from).copied() else { return };
        let Some(written) = self.write_forwarded(to, count) else {
            self.core.stats.lose(count);
            return; // `from` follows
        };
        if written < count {
            let sent = self.core.send_general(to, Data::Bytes(&self.input[written..count]));
            self.ask_writable(to);
            self.judge_forwarded(from, sent, count - written);
        }
    }

    /// Writes what the kernel takes of the first `count` bytes of the shared read buffer, unless something older
    /// waits: in the run, and from the budget, of who forwards. Gives how many these are, or nothing if that was
    /// the end of `to`.
    fn write_forwarded(&mut self, to: Key, count: usize) -> Option<usize> {
        let stream = self.core.sources.live(to);
        let count = count.min(self.core.write_left);
        if !stream.takes_output() || stream.has(HAS_OUTPUT) || !stream.has(WRITABLE) || count == 0 {
            return Some(0);
        }
        let Some((driver, socket)) = self.sockets.with(to) else { return Some(0) };
        self.core.stats.writes += 1;
        let result = driver.write_any(socket, &self.input[..count]);
        self.after_write(to, result, count)
    }

    /// Hands on what the connection keeps from the time before it forwarded.
    #[cold]
    #[inline(never)]
    pub(super) fn forward_kept(&mut self, from: Key) {
        let Some(to) = self.core.forwards.to.get(&from).copied() else { return };
        let Some(buffers) = &mut self.core.sources.live(from).buffers else { return };
        if buffers.input_len() == 0 {
            return;
        }
        let (input, consumed) = buffers.take_input();
        let count = input.len() - consumed;
        let sent = self.core.send_general(to, Data::Bytes(&input[consumed..]));
        if let Some(buffers) = &mut self.core.sources.live(from).buffers {
            buffers.put_back(input, consumed + count);
        }
        self.core.account(from);
        self.judge_forwarded(from, sent, count);
    }

    fn judge_forwarded(&mut self, from: Key, sent: Sent, count: usize) {
        match sent {
            Sent::Ok => {}
            Sent::OverHigh => self.core.pause(from),
            Sent::Gone => {
                // It has said that it sends no more, or has ended in this very turn.
                self.core.stats.bytes_discarded += count as u64;
                self.core.close(from, CloseReason::OtherSide);
            }
        }
    }

    /// The end of file goes on.
    #[cold]
    #[inline(never)]
    pub(super) fn forward_end(&mut self, from: Key) {
        self.core.sources.live(from).flags |= EOF_SHOWN;
        if let Some(to) = self.core.forwards.to.get(&from).copied() {
            self.core.shutdown_write(to);
        }
    }

    /// Output of a connection that is fed has come down: who feeds it may go on.
    #[cold]
    #[inline(never)]
    pub(super) fn resume_feeder(&mut self, key: Key) {
        if let Some(from) = self.core.forwards.from.get(&key).copied() {
            self.core.resume(from);
        }
    }

    /// The flush phase's part.
    pub(crate) fn follow_other_side(&mut self, key: Key, is_orderly: bool) {
        let core = &mut self.core;
        let Some(stream) = core.stream_mut(key) else { return };
        if is_orderly && stream.has(EOF_SHOWN) && stream.has(FIN_WANTED) {
            return; // it is done as well, but for what is still to be written
        }
        if is_orderly {
            core.close(key, CloseReason::OtherSide);
        } else if !stream.has(DEAD) {
            // As a reset would be, on a line without anybody in between.
            stream.flags |= RESET;
            core.end(key, CloseReason::Reset);
        }
    }
}
