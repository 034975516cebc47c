//! A connection as its handler sees it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::address::SocketAddress;
use crate::clock::Time;
use crate::context::Context;
use crate::credentials::Credentials;
use crate::error::{CloseReason, Sent};
use crate::key::Key;
use crate::limits::Limits;
use crate::listener::ListenerId;
use crate::stream::Data;
use crate::stream::{Stream, flag::*};
use crate::timer::{Purpose, TimerId};

/// The connection that a callback is about.
///
/// It is a [`Context`] that also knows which connection is meant, so all of the context's methods can
/// be called on it. No call does I/O or calls a handler.
pub struct Connection<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) key: Key,
}

/// Where a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A listener accepted it.
    Accepted(ListenerId),
    /// We made it, with this tag.
    Connected(u64),
    /// It was open before, and [adopted](crate::Reactor::adopt) with this tag.
    Adopted(u64),
}

impl<'a> Deref for Connection<'a> {
    type Target = Context<'a>;

    fn deref(&self) -> &Context<'a> {
        &self.context
    }
}

impl<'a> DerefMut for Connection<'a> {
    fn deref_mut(&mut self) -> &mut Context<'a> {
        &mut self.context
    }
}

impl Connection<'_> {
    fn stream(&self) -> &Stream {
        self.context.core.stream(self.key).expect("slots are freed after the last callback")
    }

    fn stream_mut(&mut self) -> &mut Stream {
        self.context.core.stream_mut(self.key).expect("slots are freed after the last callback")
    }

    /// Its name, for [`Context::send_to`] and its like, from any callback of any handler.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Which listener accepted it, or the tag that was given to connect or [`adopt`](crate::Reactor::adopt).
    pub fn origin(&self) -> Origin {
        let stream = self.stream();
        if stream.is_adopted() {
            Origin::Adopted(stream.tag)
        } else if stream.has(OUTBOUND) {
            Origin::Connected(stream.tag)
        } else {
            Origin::Accepted(ListenerId(Key::from_bits(stream.tag)))
        }
    }

    /// The address of the other side.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2): `NotConnected` after a reset; a pipe has no addresses.
    ///
    /// # Cost
    ///
    /// A system call.
    pub fn peer_address(&self) -> io::Result<SocketAddress> {
        self.context.host.peer_address(self.key)
    }

    /// The address of our side: which of several addresses of this machine the peer came to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Cost
    ///
    /// A system call.
    pub fn local_address(&self) -> io::Result<SocketAddress> {
        self.context.host.local_address(self.key)
    }

    /// The process and user at the other side of a Unix socket: of an accepted connection those that called
    /// connect, of an outbound one those that called listen.
    ///
    /// # Errors
    ///
    /// `Unsupported` on TCP, and on Windows; those of getsockopt(2).
    ///
    /// # Cost
    ///
    /// A system call.
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        self.context.host.peer_credentials(self.key)
    }

    /// Bytes received so far.
    pub fn bytes_in(&self) -> u64 {
        self.stream().bytes_in
    }

    /// Bytes that the kernel took so far.
    pub fn bytes_out(&self) -> u64 {
        self.stream().bytes_out
    }

    /// Bytes given to send that the kernel has not taken yet.
    pub fn output_len(&self) -> usize {
        let core = &*self.context.core;
        let scratch = if core.running == self.key { core.scratch.len() } else { 0 };
        self.stream().output_len() + scratch
    }

    /// Whether the output is over its high watermark: what [`send`](Self::send) last answered, also
    /// when somebody else's callback did the sending. Until
    /// [`on_drained`](crate::StreamHandler::on_drained) nothing is read and nothing is shown.
    pub fn is_over_high(&self) -> bool {
        let stream = self.stream();
        let high = stream.limits.output_bytes_high;
        stream.has(OVER_HIGH) || self.output_len() > high || stream.has_many_files()
    }

    /// What was received and not consumed: in [`on_peer_closed`](crate::StreamHandler::on_peer_closed) a message
    /// that the peer has not finished. In `on_data` nothing, because there it is lent as `data`.
    pub fn unconsumed(&self) -> &[u8] {
        self.stream().buffers.as_ref().map_or(&[], |buffers| buffers.input())
    }

    /// Whether a handler that has more of the same input may go on with it in this call.
    pub(crate) fn takes_more(&self) -> bool {
        !self.stream().has(PAUSED | SHOW | CLOSING | DEAD) && !self.is_over_high()
    }

    /// How many more frames its handler may be shown in this turn.
    pub(crate) fn frames_left(&self) -> usize {
        let (core, stream) = (&*self.context.core, self.stream());
        let (turn, left) = match (core.frames_left, &stream.buffers) {
            ((key, turn, left), _) if key == self.key => (turn, left),
            (_, Some(buffers)) => buffers.frames_left,
            _ => (0, 0),
        };
        if turn == core.stats.turns { left } else { stream.limits.frames_per_turn_max }
    }

    /// Now it is so many. If these are none, the rest of the input, if there is any, is for the next turn.
    pub(crate) fn set_frames_left(&mut self, left: usize, has_rest: bool) {
        let core = &mut *self.context.core;
        let now = core.stats.turns;
        let (last, turn, last_left) =
            std::mem::replace(&mut core.frames_left, (self.key, now, left));
        // Without buffers nothing is left that it could be shown in this turn.
        if last != self.key
            && turn == now
            && let Some(stream) = core.stream_mut(last)
            && let Some(buffers) = &mut stream.buffers
        {
            buffers.frames_left = (turn, last_left);
        }
        if left == 0 && has_rest {
            core.stats.budgets_exhausted += 1;
            self.again();
        }
    }

    /// Appends a copy of `data` to the output. All that the callbacks of one run send leaves in one
    /// write at the end of that run; what the kernel does not take is queued.
    #[inline]
    pub fn send(&mut self, data: &[u8]) -> Sent {
        self.context.core.send(self.key, data)
    }

    /// Appends copies of all slices to the output, in order.
    pub fn send_vectored(&mut self, slices: &[IoSlice<'_>]) -> Sent {
        let mut sent = Sent::Ok;
        for slice in slices {
            sent = self.send(slice);
        }
        sent
    }

    /// Appends `data` to the output without copying it; for bytes that go to many connections, or
    /// are large.
    pub fn send_shared(&mut self, data: Rc<[u8]>) -> Sent {
        self.context.core.send_general(self.key, Data::shared(&data))
    }

    /// Appends `data` to the output without copying it, if it has at least 512 bytes; for what was made as a whole, such
    /// as the result of a [`blocking`](crate::blocking()) job.
    ///
    /// # Cost
    ///
    /// A place in the queue of output, and what this run had sent before is copied there. Its capacity, and not its
    /// length, counts as memory of this connection until all of it is sent.
    pub fn send_owned(&mut self, data: Vec<u8>) -> Sent {
        self.context.core.send_owned(self.key, data)
    }

    /// Appends a part of a file to the output: from `range.start` to before `range.end`, which is nothing if that is not
    /// behind it. The file is read when it is written, without a copy through the process where the system has that.
    ///
    /// What waits in a file takes no memory, unless that of a memory file, and is not counted for
    /// [`output_bytes_max`](crate::Limits::output_bytes_max) and
    /// [`output_bytes_soft`](crate::Limits::output_bytes_soft); so one call may send a file of any length. It does count
    /// for the watermarks, and the deadlines of a reader that takes too little hold. The file stays open until the part is
    /// sent or the connection has ended: more parts that wait than
    /// [`output_files_high`](crate::Limits::output_files_high) are over the high watermark as well, and more than
    /// [`output_files_max`](crate::Limits::output_files_max) end the connection.
    ///
    /// Who writes to the file meanwhile changes what is sent, also what the kernel has taken and not delivered. If it ends
    /// before the part does, what there is of it is delivered, and the connection closed as
    /// [`Io`](crate::CloseReason::Io) with `UnexpectedEof`. An error of reading it ends the connection.
    ///
    /// The loop waits while the disk is read: what may not be in the system's memory is better [read
    /// ahead](crate::read_ahead). It waits, too, when it is the last to close a large file that has no name any more: the
    /// system frees its room on the disk then. Who keeps the `Arc` can close such a file in a
    /// [blocking job](crate::blocking()).
    ///
    /// # Platform notes
    ///
    /// Without a copy on Linux (sendfile(2)), unless `SIGPIPE` was not ignored when the process first sent a file: that
    /// call raises it. Elsewhere the file is read piece by piece; on Windows that moves its cursor.
    ///
    /// # Cost
    ///
    /// A system call for up to [`write_bytes_per_turn_max`](crate::Limits::write_bytes_per_turn_max) bytes, and one for
    /// what waits before them. A copy takes a call to read 16 KiB, one to write them, and an allocation; what the socket
    /// does not take is read again.
    pub fn send_file(&mut self, file: &Arc<File>, range: Range<u64>) -> Sent {
        self.context.core.send_general(self.key, Data::File(file, range))
    }

    /// Closes: the output is flushed, our side shut down, and what the peer still sends is thrown
    /// away until it closes too, for at most [`linger_timeout`](crate::Limits::linger_timeout)
    /// without progress, in a drain for [`drain_linger_timeout`](crate::Limits::drain_linger_timeout). So the
    /// peer gets the whole output even when it had more to say: closing a socket with unread input would make
    /// the kernel send a reset, which destroys output on its way (RFC 1122, 4.2.2.13).
    ///
    /// No callback comes after it but `on_close`, which waits for all of that: while the peer stays, it
    /// comes a linger time-out later. Bytes not consumed are thrown away.
    pub fn close(&mut self) {
        self.close_as(CloseReason::Closed);
    }

    /// The same, as another reason.
    pub(crate) fn close_as(&mut self, reason: CloseReason) {
        self.context.core.close(self.key, reason);
    }

    /// Closes at once, with a reset, as [`Aborted`](CloseReason::Aborted); unsent output is dropped.
    ///
    /// # Platform notes
    ///
    /// A Unix socket has no reset: its peer sees an end of file, unless it had sent something that was not read.
    pub fn abort(&mut self) {
        self.context.core.abort(self.key);
    }

    /// Half-closes: after the output the peer gets an end of file. Receiving goes on. The connection ends by itself when
    /// the peer has closed too: after [`on_peer_closed`](crate::StreamHandler::on_peer_closed), as
    /// [`PeerClosed`](CloseReason::PeerClosed), because nothing is left that either side could say. To end it before that
    /// there is [`close`](Self::close).
    pub fn shutdown_write(&mut self) {
        self.context.core.shutdown_write(self.key);
    }

    /// Stops being shown data, and reading it: the kernel's buffer fills up and the peer has to wait.
    /// A reset is noticed nevertheless; timers, pokes and messages come as ever, and output goes out. The
    /// [idle deadline](crate::Deadline::Idle) rests.
    pub fn pause(&mut self) {
        self.context.core.pause(self.key);
    }

    /// Undoes [`pause`](Self::pause): unconsumed bytes are shown again in the next turn.
    pub fn resume(&mut self) {
        self.context.core.resume(self.key);
    }

    /// Whether it is paused by its handler.
    pub fn is_paused(&self) -> bool {
        self.stream().has(PAUSED)
    }

    /// Asks for the bytes that `on_data` leaves unconsumed to be shown again in the next turn,
    /// although nothing new came: for a handler that bounds its own work a call. While the output is
    /// over its high watermark they have to wait. A handler that waits for something else should not
    /// ask again each turn until it has come, which keeps the loop busy, but
    /// [`pause`](Self::pause), and be resumed by whoever brings it.
    pub fn again(&mut self) {
        let key = self.key;
        let stream = self.stream_mut();
        if !stream.has(CLOSING | DEAD) {
            stream.flags |= SHOW;
            self.context.core.queue(key);
        }
    }

    /// Asks not to be called before at least `bytes` unconsumed bytes are there: for a message whose
    /// length is known. It holds for the next call of `on_data`; at the peer's end of file what is
    /// there is shown, enough or not. More than
    /// [`input_bytes_max`](crate::Limits::input_bytes_max) never come.
    pub fn need(&mut self, bytes: usize) {
        let stream = self.stream_mut();
        stream.need = u32::try_from(bytes).unwrap_or(u32::MAX);
        stream.flags |= NEEDS;
    }

    /// Calls [`on_timer`](crate::StreamHandler::on_timer) for this connection once, when `after` has
    /// passed since [`now`](Context::now), never earlier. The timer ends with the connection; one of the
    /// handler, which does not, is [`set_handler_timer`](Context::set_handler_timer), with a callback of its
    /// own.
    ///
    /// # Cost
    ///
    /// O(1), however many timers there are.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.stream_mut().flags |= TIMERS;
        let core = &mut *self.context.core;
        core.timers.set(core.now + after, Duration::ZERO, Purpose::Connection(self.key))
    }

    /// Calls [`on_timer`](crate::StreamHandler::on_timer) for this connection whenever another `period`
    /// has passed since [`now`](Context::now), until the timer is cancelled or the connection ends. The
    /// beat does not drift. Beats that were missed while the loop was busy are left out: one call comes
    /// for all of them. One of the handler, which does not end with the connection, is
    /// [`set_handler_interval`](Context::set_handler_interval).
    ///
    /// # Cost
    ///
    /// As [`set_timer`](Self::set_timer).
    ///
    /// # Panics
    ///
    /// If the period is zero.
    pub fn set_interval(&mut self, period: Duration) -> TimerId {
        assert_ne!(period, Duration::ZERO, "an interval takes some time");
        self.stream_mut().flags |= TIMERS;
        let core = &mut *self.context.core;
        core.timers.set(core.now + period, period, Purpose::Connection(self.key))
    }

    /// Expects something of the peer, in the handler's own sense (a log-in, the next part of an upload):
    /// unless [`expect_nothing`](Self::expect_nothing) is called, or this again, before `within` has
    /// passed, [`on_deadline`](crate::StreamHandler::on_deadline) hears of [`Deadline::Expect`]. It
    /// takes the place of the deadline for the first byte.
    ///
    /// Its time goes on also while nothing is read, during a [pause](Self::pause) or with the output [over its high
    /// watermark](Self::is_over_high), or the peer could put it off by reading slowly. Who expects a sign of life from slow
    /// readers asks for that in `on_deadline`, and gives more time.
    ///
    /// # Cost
    ///
    /// A store, unless it is earlier than any deadline the connection had.
    ///
    /// [`Deadline::Expect`]: crate::Deadline::Expect
    pub fn expect_within(&mut self, within: Duration) {
        let at = self.now() + within;
        self.expect_until(at);
    }

    /// Takes back [`expect_within`](Self::expect_within).
    pub fn expect_nothing(&mut self) {
        self.expect_until(Time::NEVER);
    }

    fn expect_until(&mut self, at: Time) {
        let stream = self.stream_mut();
        if !stream.has(CLOSING | DEAD) {
            stream.phase_deadline = at;
            stream.flags &= !FIRST_BYTE;
            if at < stream.alarm.at() {
                stream.flags |= REARM;
            }
        }
    }

    /// The limits that hold for it.
    pub fn limits(&self) -> &Rc<Limits> {
        &self.stream().limits
    }

    /// Gives it other limits from now on: once it has logged in, say. Those of the listener (how many
    /// connections, how many an address) stay what they were. Input that is kept and leaves no room under
    /// a smaller [`input_bytes_max`](crate::Limits::input_bytes_max) is shown once more, after a pause when
    /// that is over; whoever consumes nothing of it is closed as
    /// [`InputTooLong`](CloseReason::InputTooLong).
    ///
    /// # Panics
    ///
    /// If the limits contradict each other.
    pub fn set_limits(&mut self, limits: &Rc<Limits>) {
        if let Err(error) = limits.check() {
            panic!("{error}");
        }
        let stream = self.stream_mut();
        stream.limits = Rc::clone(limits);
        stream.read_max = u32::try_from(limits.read_max()).unwrap_or(u32::MAX);
        stream.flags |= REARM;
        let core = &mut *self.context.core;
        if core.direct_max > 0 {
            core.direct_max = limits.output_bytes_high;
        }
        // With a lower watermark, say.
        if self.is_over_high() && !self.stream().has(CLOSING | DEAD) {
            self.stream_mut().flags |= OVER_HIGH;
        }
    }
}
