//! The half of the reactor that knows no driver: what callbacks may change.
//!
//! A callback is lent this half, through [`Context`](crate::Context) and
//! [`Connection`](crate::Connection), while the other half (sockets, handlers, the poll) stays with
//! the turn. So nothing that a handler calls does I/O, and none of it needs a cell.

use std::collections::{TryReserveError, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use log::debug;
use slab::Slab;

use crate::buffer::Pool;
use crate::clock::Time;
use crate::command::Command;
use crate::connector::{Attempt, Candidate, ConnectOptions};
use crate::datagram::DatagramState;
use crate::drain::Drain;
use crate::error::{Error, Sent};
use crate::key::Key;
use crate::limits::ReactorLimits;
use crate::listener::Listener;
use crate::one_line::OneLine;
use crate::random::random;
use crate::reactor::HandlerId;
use crate::readiness::Readiness;
use crate::source::Raw;
use crate::stats::Stats;
use crate::stream::{Data, Forwards, Stream, flag::*};
use crate::table::Table;
use crate::timer::{Purpose, TimerId, Timers, Wheel};
use crate::traffic::Traffic;
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

/// Slots beside the connections': for listeners, raw sources, and attempts that are one too many.
pub(crate) const SLACK_SLOTS: usize = 64;

/// How many this process has made.
static REACTORS: AtomicU32 = AtomicU32::new(0);

const FOREIGN: &str = "a handler's name is good in its own reactor only";
const ONLY_DATAGRAMS: &str =
    "this handler was added for datagrams only: Reactor::add adds it for connections, too";

#[derive(Debug)]
pub(crate) struct Core {
    /// Its number among the reactors of this process, by which handlers' names are told from those of others.
    pub(crate) reactor: u32,
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
    /// The connection whose `on_close` runs, or has panicked.
    pub(crate) reaped: Option<(Key, Traffic)>,
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
    /// What `on_data` failed with, for the log.
    pub(crate) error: Option<OneLine<Error>>,
    /// Of the connection that was last shown frames: in which turn, and how many more it may be in that. Of others
    /// their buffers know it.
    pub(crate) frames_left: (Key, u64, usize),

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
            reactor: REACTORS.fetch_add(1, Ordering::Relaxed),
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
            reaped: None,
            timers: Timers::new(),
            deadlines: Wheel::new(),
            forwards: Forwards::default(),
            pool: Pool::default(),
            running: Key::NONE,
            scratch: Vec::with_capacity(limits.read_buffer_bytes),
            direct_max: 0,
            write_left: 0,
            error: None,
            frames_left: (Key::NONE, 0, 0),
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

    /// A handler's name is to be one of this reactor.
    #[track_caller]
    pub(crate) fn assert_own<H>(&self, id: HandlerId<H>) {
        assert_eq!(id.reactor, self.reactor, "{FOREIGN}");
    }

    /// ... and of a handler that serves connections, too.
    #[track_caller]
    pub(crate) fn assert_serves<H>(&self, id: HandlerId<H>) {
        self.assert_own(id);
        assert!(!id.has_datagrams_only, "{ONLY_DATAGRAMS}");
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
                listener.is_shut_down = readiness.contains(Readiness::READ_CLOSED);
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
            Some(Purpose::Datagram(key)) => self.is_live(key),
            purpose => purpose.is_some(),
        }
    }

    pub(crate) fn traffic(&self, key: Key) -> Option<Traffic> {
        let reaped = self.reaped.filter(|(reaped, _)| *reaped == key);
        reaped.map(|(_, traffic)| traffic).or_else(|| self.stream(key).map(Stream::traffic))
    }

    pub(crate) fn is_open(&self, key: Key) -> bool {
        self.stream(key).is_some_and(|stream| stream.has(OPEN) && !stream.has(CLOSING | DEAD))
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
