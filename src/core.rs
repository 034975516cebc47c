//! The half of the reactor that knows no driver: what callbacks may change.
//!
//! A callback is lent this half, through [`Context`](crate::Context) and
//! [`Connection`](crate::Connection), while the other half (sockets, handlers, the poll) stays with
//! the turn. So nothing that a handler calls does I/O, and none of it needs a cell.

use std::collections::{TryReserveError, VecDeque};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use log::debug;
use slab::Slab;

use crate::address::SocketAddress;
use crate::buffer::{Buffers, Pool};
use crate::clock::Time;
use crate::connector::{Attempt, Candidate, ConnectOptions, Destination};
use crate::credentials::Credentials;
use crate::datagram::{DatagramOptions, DatagramState, Interface};
use crate::drain::Drain;
use crate::error::{CloseReason, ConnectError, Error, Sent};
use crate::key::Key;
use crate::limits::ReactorLimits;
use crate::listener::{ListenOptions, Listener, NO_NUMBER};
use crate::names::Outcome;
use crate::random::random;
use crate::readiness::Readiness;
use crate::source::Raw;
use crate::stats::Stats;
use crate::stream::{Forwards, Stream, flag::*};
use crate::table::Table;
use crate::timer::{Purpose, TimerId, Timers, Wheel};
use crate::watchdog::Watchdog;

/// Whatever is registered with the poll.
///
/// With a tag of its own: packed into the spare values of a field it would cost several instructions
/// to read, each of the three times that a message looks at its source.
#[derive(Debug)]
#[repr(u8)]
pub(crate) enum Source {
    Stream(Stream),
    // Boxed: there are few of them, and a slot must not be larger than a connection.
    Listener(Box<Listener>),
    Raw(Box<Raw>),
    Datagram(Box<DatagramState>),
    Candidate(Box<Candidate>),
}

impl Table<Source> {
    /// The connection of a key that is known to be live: slots are freed in the reap phase only, so
    /// from the moment at which a run begins its key stays good.
    #[inline]
    pub(crate) fn live(&mut self, key: Key) -> &mut Stream {
        match self.live_mut(key) {
            Source::Stream(stream) => stream,
            _ => unreachable!("only connections are run"),
        }
    }
}

/// What callbacks ask for that needs the driver; done in the flush phase.
#[derive(Debug)]
pub(crate) enum Command {
    Connect {
        key: Key,
    },
    Listen {
        key: Key,
        /// Who is told what came of it, also when the listener is gone by then.
        handler: u16,
        address: SocketAddress,
        options: Box<ListenOptions>,
    },
    /// What became of the look-up of a name for a connection.
    LookedUp {
        key: Key,
        outcome: Outcome,
    },
    Bind {
        key: Key,
        address: SocketAddress,
        options: Box<DatagramOptions>,
    },
    /// Limits have changed: a listener that was full may not be any more.
    WakeListeners,
    /// A drain was asked for.
    Drain,
    /// A connection that the drain has spared so far takes part in it from now on.
    DrainOne {
        key: Key,
    },
    /// The connection that it forwards to, or is fed by, has ended.
    OtherSideEnded {
        key: Key,
        is_orderly: bool,
    },
}

/// What callbacks may ask of the world right away.
pub(crate) trait Host {
    fn local_address(&self, key: Key) -> io::Result<SocketAddress>;
    fn peer_address(&self, key: Key) -> io::Result<SocketAddress>;
    /// Joins a multicast group or leaves it.
    fn set_membership(
        &self,
        key: Key,
        group: IpAddr,
        interface: &Interface,
        is_member: bool,
    ) -> io::Result<()>;
    fn peer_credentials(&self, key: Key) -> io::Result<Credentials>;
    fn now(&self) -> Time;
    fn wall_clock(&self) -> SystemTime;
}

/// A piece of output.
pub(crate) enum Data<'a> {
    Bytes(&'a [u8]),
    Shared(&'a Rc<[u8]>),
}

/// A shared piece smaller than this is copied: keeping it would cost more, with a place in the queue
/// and a slice of the write of its own, and two touches of its counter.
const SHARED_BYTES_MIN: usize = 512;

impl<'a> Data<'a> {
    pub(crate) fn shared(bytes: &'a Rc<[u8]>) -> Data<'a> {
        if bytes.len() < SHARED_BYTES_MIN { Data::Bytes(bytes) } else { Data::Shared(bytes) }
    }
}

/// Slots beside the connections': for listeners, raw sources, and attempts that are one too many.
pub(crate) const SLACK_SLOTS: usize = 64;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) sources: Table<Source>,
    /// Sources that may have work although no new event will come. Invariant, here and for the next
    /// two: a source is on the list exactly while its flag says so.
    pub(crate) ready: Vec<Key>,
    /// Listeners that may have somebody at the door. They come after the connections: who is served
    /// already goes first, and who closes makes room before its client knocks again.
    pub(crate) accept: Vec<Key>,
    pub(crate) flush: Vec<Key>,
    pub(crate) poked: Vec<Key>,
    pub(crate) commands: VecDeque<Command>,
    /// Handlers that have not heard of their start.
    pub(crate) starting: VecDeque<u16>,
    /// Timers that are due.
    pub(crate) due: Vec<Key>,
    /// Connections whose alarm went off.
    pub(crate) alarmed: Vec<Key>,
    /// Sources that are over.
    pub(crate) reap: VecDeque<Key>,
    pub(crate) timers: Timers,
    /// The earliest deadline of each connection that has any, or an earlier moment.
    pub(crate) deadlines: Wheel,
    pub(crate) forwards: Forwards,
    pub(crate) pool: Pool,

    /// The connection whose callbacks run now; `Key::NONE` outside of a run.
    pub(crate) running: Key,
    /// What the running connection has sent in this run, as long as nothing older is queued. It is
    /// one buffer for the whole loop: an echo goes through it without the connection owning any.
    pub(crate) scratch: Vec<u8>,
    /// During a run: `scratch` may hold less than that without anybody looking at the watermarks; 0 if
    /// the running connection may not use it.
    pub(crate) direct_max: usize,
    /// How many bytes the source that runs may still write in this phase.
    pub(crate) write_left: usize,
    /// What `on_data` failed with.
    pub(crate) error: Option<Error>,

    /// The flags of a connection that may take the short way; none of them while every step is to be
    /// logged or timed, which the general code does.
    pub(crate) common: u32,
    pub(crate) now: Time,
    /// The last poll gave as many events as it may, so that there may be more.
    pub(crate) is_poll_full: bool,
    /// For how many turns on end that has put deadlines off.
    pub(crate) full_turns: usize,
    pub(crate) random: u64,
    pub(crate) limits: ReactorLimits,
    /// Of each connection that is not open yet.
    pub(crate) attempts: Slab<Attempt>,
    /// Of those that are not given their own.
    pub(crate) connect_options: Rc<ConnectOptions>,
    pub(crate) stats: Stats,
    pub(crate) watchdog: Watchdog,
    /// Whether this turn had anything to do.
    pub(crate) has_worked: bool,
    pub(crate) stopping: bool,
    /// A drain that goes on; until the flush phase, one that was only asked for.
    pub(crate) drain: Option<Box<Drain>>,
    /// The driver has signals to take, or a panic has kept handlers from being told of some.
    pub(crate) is_signalled: bool,
}

impl Core {
    /// # Errors
    ///
    /// There is no memory for the table.
    pub(crate) fn new(
        limits: ReactorLimits,
        random: u64,
        now: Time,
    ) -> Result<Core, TryReserveError> {
        let mut sources = Table::new();
        sources.reserve_touched(limits.connections_max + SLACK_SLOTS)?;
        Ok(Core {
            sources,
            ready: Vec::new(),
            accept: Vec::new(),
            flush: Vec::new(),
            poked: Vec::new(),
            commands: VecDeque::new(),
            starting: VecDeque::new(),
            due: Vec::new(),
            alarmed: Vec::new(),
            reap: VecDeque::new(),
            timers: Timers::new(),
            deadlines: Wheel::new(),
            forwards: Forwards::default(),
            pool: Pool::default(),
            running: Key::NONE,
            scratch: Vec::with_capacity(limits.read_buffer_bytes),
            direct_max: 0,
            write_left: 0,
            error: None,
            common: COMMON,
            now,
            is_poll_full: false,
            full_turns: 0,
            random,
            limits,
            attempts: Slab::new(),
            connect_options: Rc::default(),
            stats: Stats::default(),
            watchdog: Watchdog::new(),
            has_worked: false,
            stopping: false,
            drain: None,
            is_signalled: false,
        })
    }

    #[inline]
    pub(crate) fn stream(&self, key: Key) -> Option<&Stream> {
        match self.sources.get(key) {
            Some(Source::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn stream_mut(&mut self, key: Key) -> Option<&mut Stream> {
        match self.sources.get_mut(key) {
            Some(Source::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn listener_mut(&mut self, key: Key) -> Option<&mut Listener> {
        match self.sources.get_mut(key) {
            Some(Source::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    pub(crate) fn raw_mut(&mut self, key: Key) -> Option<&mut Raw> {
        match self.sources.get_mut(key) {
            Some(Source::Raw(raw)) => Some(raw),
            _ => None,
        }
    }

    /// Merges what the driver reported into the source, and queues the source if that gives it work.
    #[inline]
    pub(crate) fn merge(&mut self, key: Key, readiness: Readiness) {
        let Some(Source::Stream(stream)) = self.sources.get_mut(key) else {
            return self.merge_uncommon(key, readiness);
        };
        stream.add_readiness(readiness);
        if stream.flags & !(NEUTRAL & !QUEUED) == COMMON {
            stream.flags |= QUEUED;
            self.ready.push(key);
        } else if stream.has_work() {
            self.queue(key);
        }
    }

    #[cold]
    #[inline(never)]
    fn merge_uncommon(&mut self, key: Key, readiness: Readiness) {
        match self.sources.get_mut(key) {
            Some(Source::Stream(_)) => {}
            Some(Source::Listener(listener)) => {
                listener.readable = true;
                self.queue(key);
            }
            Some(Source::Raw(raw)) => {
                raw.readiness = raw.readiness | readiness;
                self.queue(key);
            }
            Some(Source::Datagram(state)) => {
                state.readiness = state.readiness | readiness;
                self.queue(key);
            }
            Some(Source::Candidate(candidate)) => {
                candidate.readiness = candidate.readiness | readiness;
                self.queue(key);
            }
            None if key == Key::SIGNALS => self.is_signalled = true,
            None if key == Key::WAKER => {} // the mail phase looks for itself
            None => {
                self.stats.stale_events += 1;
                debug!("{key}: stale event {readiness:?}");
            }
        }
    }

    /// Puts a source on the list of the ready phase, once.
    #[inline(never)]
    pub(crate) fn queue(&mut self, key: Key) {
        let (list, was_queued) = match self.sources.get_mut(key) {
            Some(Source::Stream(stream)) => {
                let was_queued = stream.has(QUEUED);
                stream.flags |= QUEUED;
                (&mut self.ready, was_queued)
            }
            Some(Source::Listener(listener)) => {
                (&mut self.accept, std::mem::replace(&mut listener.queued, true))
            }
            Some(Source::Raw(raw)) => (&mut self.ready, std::mem::replace(&mut raw.queued, true)),
            Some(Source::Datagram(state)) => {
                (&mut self.ready, std::mem::replace(&mut state.queued, true))
            }
            Some(Source::Candidate(candidate)) => {
                (&mut self.ready, std::mem::replace(&mut candidate.queued, true))
            }
            None => return,
        };
        if !was_queued {
            list.push(key);
        }
    }

    pub(crate) fn queue_flush(&mut self, key: Key) {
        if key == self.running {
            return; // the end of its run writes
        }
        if let Some(stream) = self.stream_mut(key)
            && !stream.has(FLUSHING)
        {
            stream.flags |= FLUSHING;
            self.flush.push(key);
        }
    }

    /// Sends to the running connection.
    #[inline]
    pub(crate) fn send(&mut self, key: Key, data: &[u8]) -> Sent {
        debug_assert_eq!(key, self.running, "a connection is lent during its runs only");
        if self.scratch.len() + data.len() < self.direct_max {
            self.scratch.extend_from_slice(data);
            return Sent::Ok;
        }
        self.send_general(key, Data::Bytes(data))
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
        let waiting = match data {
            Data::Bytes(bytes) if is_direct => {
                self.scratch.extend_from_slice(bytes);
                self.scratch.len()
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
                }
                stream.flags |= HAS_OUTPUT;
                buffers.output.len()
            }
        };
        let is_over = waiting > stream.limits.output_bytes_high;
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

    /// Closes gracefully: output, our end of file, and the peer's. A connection that is not open yet
    /// is dropped.
    pub(crate) fn close(&mut self, key: Key, reason: CloseReason) {
        match self.sources.get_mut(key) {
            Some(Source::Stream(stream)) => {
                if stream.has(CLOSING | DEAD) {
                    return;
                }
                if stream.has(CONNECTING) {
                    return self.end(key, reason);
                }
                let is_after_peer =
                    reason == CloseReason::Closed && stream.has(EOF_SHOWN) && !stream.is_pipe_out();
                let reason = if is_after_peer { CloseReason::PeerClosed } else { reason };
                stream.flags |= CLOSING | FIN_WANTED;
                stream.phase_deadline = Time::NEVER;
                stream.flags &= !(PAUSED | SHOW | OVER_HIGH | HAS_INPUT | DRAINING);
                stream.reason = Some(reason);
                if let Some(buffers) = &mut stream.buffers {
                    self.stats.bytes_discarded += buffers.input_len() as u64;
                    buffers.drop_input();
                }
                if key == self.running {
                    self.direct_max = 0;
                } else {
                    self.account(key);
                    self.queue_flush(key);
                }
            }
            Some(_) => self.end(key, reason),
            None => {}
        }
    }

    /// Ends a source at once: it is reaped in this turn's last phase, or in the next one's.
    pub(crate) fn end(&mut self, key: Key, reason: CloseReason) {
        match self.sources.get_mut(key) {
            Some(Source::Stream(stream)) => {
                if stream.has(DEAD) {
                    return;
                }
                stream.flags |= DEAD;
                // A graceful end that lost output was none.
                let is_cut = stream.has(HAS_OUTPUT)
                    && matches!(
                        stream.reason,
                        Some(
                            CloseReason::Closed | CloseReason::PeerClosed | CloseReason::OtherSide
                        )
                    );
                if is_cut || stream.reason.is_none() {
                    stream.reason = Some(reason);
                }
                if let Some(buffers) = &mut stream.buffers {
                    self.stats.bytes_discarded += buffers.input_len() as u64;
                    self.stats.bytes_undelivered += buffers.output.len() as u64;
                    buffers.drop_input();
                    buffers.output.clear();
                }
                let forwards = stream.has(FORWARDS | FED);
                let attempt = stream.has(CONNECTING).then_some(stream.need);
                let is_reset = stream.has(RESET)
                    || matches!(stream.reason, Some(CloseReason::Reset | CloseReason::Io(_)));
                if !stream.has(OUTBOUND) {
                    let address = std::mem::replace(&mut stream.address, NO_NUMBER);
                    let listener = Key::from_bits(stream.tag);
                    self.leave_address(listener, address);
                }
                self.account(key);
                if key == self.running {
                    self.stats.bytes_undelivered += self.scratch.len() as u64;
                    self.scratch.clear();
                    self.direct_max = 0;
                }
                if forwards {
                    self.end_forwards_of(key, !is_reset);
                }
                if let Some(number) = attempt {
                    self.end_race(number);
                }
            }
            Some(Source::Listener(listener)) => {
                if std::mem::replace(&mut listener.dead, true) {
                    return;
                }
            }
            Some(Source::Raw(raw)) => {
                if raw.reason.is_some() {
                    return;
                }
                raw.reason = Some(reason);
            }
            Some(Source::Datagram(state)) => {
                if state.reason.is_some() {
                    return;
                }
                state.reason = Some(reason);
            }
            Some(Source::Candidate(candidate)) => {
                if std::mem::replace(&mut candidate.dead, true) {
                    return;
                }
            }
            None => return,
        }
        self.reap.push_back(key);
    }

    pub(crate) fn abort(&mut self, key: Key) {
        if let Some(stream) = self.stream_mut(key)
            && !stream.has(DEAD)
        {
            stream.flags |= RESET;
        }
        self.end(key, CloseReason::Aborted);
    }

    pub(crate) fn shutdown_write(&mut self, key: Key) {
        let is_running = key == self.running;
        let Some(stream) = self.stream_mut(key) else { return };
        stream.flags |= FIN_WANTED;
        if is_running {
            self.direct_max = 0; // what was sent is still written, but nothing more is taken
        } else {
            self.queue_flush(key);
        }
    }

    pub(crate) fn pause(&mut self, key: Key) {
        let now = self.now;
        if let Some(stream) = self.stream_mut(key)
            && !stream.has(CLOSING | DEAD)
        {
            stream.flags |= PAUSED;
            stream.note_rest(now);
        }
    }

    pub(crate) fn resume(&mut self, key: Key) {
        let is_running = key == self.running;
        let now = self.now;
        let Some(stream) = self.stream_mut(key) else { return };
        if !stream.has(PAUSED) {
            return;
        }
        stream.flags &= !PAUSED;
        stream.flags |= REARM;
        stream.end_pause(now);
        // A run that is under way keeps its own account of what is left: it shows it again only if
        // it is asked to.
        if stream.has(HAS_INPUT) || is_running {
            stream.flags |= SHOW;
        }
        // No event will come for bytes that are already there.
        self.queue(key);
    }

    pub(crate) fn poke(&mut self, key: Key) {
        if let Some(stream) = self.stream_mut(key)
            && !stream.has(POKED | CLOSING | DEAD)
        {
            stream.flags |= POKED;
            self.poked.push(key);
        }
    }

    /// Whether a connection may have been heard of by the kernel that the loop has not asked for: then
    /// nobody is late yet. It reports sources in the order of their readiness, so after as many polls
    /// as all connections fill, whatever was ready has been reported.
    pub(crate) fn may_have_missed_events(&mut self) -> bool {
        let turns_max = self.sources.len() / self.limits.events_per_poll_max + 1;
        let is_missing = self.is_poll_full && self.full_turns < turns_max;
        self.full_turns = if is_missing { self.full_turns + 1 } else { 0 };
        is_missing
    }

    /// Whether a timer is still to come, for all that its connection does. One that has ended keeps its
    /// timers until the next sweep.
    pub(crate) fn may_fire(&self, timer: TimerId) -> bool {
        match self.timers.purpose(timer) {
            Some(Purpose::Connection(key)) => {
                self.stream(key).is_some_and(|stream| !stream.has(CLOSING | DEAD))
            }
            Some(Purpose::Datagram(key)) => self.is_bound(key),
            purpose => purpose.is_some(),
        }
    }

    /// Whether a datagram socket is open.
    pub(crate) fn is_bound(&self, key: Key) -> bool {
        let source = self.sources.get(key);
        matches!(source, Some(Source::Datagram(state)) if state.reason.is_none())
    }

    pub(crate) fn is_open(&self, key: Key) -> bool {
        self.stream(key).is_some_and(|stream| stream.has(OPEN) && !stream.has(CLOSING | DEAD))
    }

    /// Begins an outbound connection: its key is good from now on, the driver hears of it in the
    /// flush phase.
    pub(crate) fn connect(
        &mut self,
        handler: u16,
        to: Destination,
        tag: u64,
        options: Rc<ConnectOptions>,
    ) -> Key {
        if self.stopping {
            return Key::NONE;
        }
        let limits = Rc::clone(&options.limits);
        let mut stream = Stream::new(CONNECTING | OUTBOUND, handler, tag, limits);
        let number = self.attempts.insert(Attempt::new(to, options));
        stream.need = u32::try_from(number).expect("no more attempts than slots");
        // Judged now, when those that come after it do not count yet.
        let is_one_too_many = self.stats.connections >= self.limits.connections_max;
        if is_one_too_many {
            stream.failure = Some(ConnectError::TooManyConnections);
        }
        let key = self.sources.insert(Source::Stream(stream));
        self.stats.connections += 1;
        if is_one_too_many {
            self.end(key, CloseReason::Closed);
        } else {
            self.commands.push_back(Command::Connect { key });
        }
        key
    }

    /// For jitter and sampling: see [`random`].
    pub(crate) fn next_random(&mut self) -> u64 {
        random(&mut self.random)
    }

    /// Whether the next turn has something to do without waiting for an event.
    pub(crate) fn has_work(&self) -> bool {
        self.stopping
            || self.is_signalled
            || !self.ready.is_empty()
            || !self.accept.is_empty()
            || !self.flush.is_empty()
            || !self.poked.is_empty()
            || !self.commands.is_empty()
            || !self.starting.is_empty()
            || !self.due.is_empty()
            || !self.alarmed.is_empty()
            || !self.reap.is_empty()
    }
}
