//! The reactor: the loop and all it owns.

mod adopt;
pub(crate) mod any_handler;
mod drain;
mod listen;
pub(crate) mod places;
mod reap;
mod reconfigure;
mod signals;
mod sockets;
mod turn;
mod verify;
mod wait;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use log::info;
use slab::Slab;

use crate::address::IntoAddress;
use crate::clock::Time;
use crate::connector::ConnectOptions;
use crate::context::Context;
use crate::core::{Core, SLACK_SLOTS};
use crate::datagram::any::{Only, context_of};
use crate::drain::{Baseline, Ended, Report};
use crate::driver::{Driver, Mio};
use crate::handler::{DatagramHandler, StreamHandler};
use crate::key::Key;
use crate::limits::{Limits, ReactorLimits};
use crate::mail::Mailroom;
use crate::names::Names;
#[cfg(feature = "systemd")]
use crate::notify::Notifier;
use crate::source::{AnyRaw, NO_HANDLER};
use crate::stats::Stats;
use any_handler::{AnyHandler, Owner};

pub(crate) use self::sockets::Sockets;
pub use self::wait::Wait;

/// A single-threaded event loop: it owns the sockets, the connections' state and the handlers, and
/// calls the handlers when there is something for them.
///
/// It lives on one thread; for more cores, run one reactor each on the same port
/// ([`ListenOptions::reuse_port`](crate::ListenOptions::reuse_port)). Dropping it closes all descriptors (but the one
/// by which others wake it, as long as they have a [`Handle`](crate::Handle) or [`Sender`](crate::Sender)) and
/// calls nobody.
///
/// ```no_run
/// use oneloop::{Connection, Error, Reactor, StreamHandler};
///
/// struct Echo;
///
/// impl StreamHandler for Echo {
///     type Session = ();
///
///     fn on_open(&mut self, _: &mut Connection<'_>) {}
///
///     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
///         conn.send(data).ignore();
///         Ok(data.len())
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let echo = reactor.add(Echo);
/// reactor.listen(echo, "127.0.0.1:7000")?;
/// reactor.listen(echo, "[::1]:7000")?;
/// reactor.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Reactor<D: Driver = Mio> {
    pub(crate) core: Core,
    /// The paths of listeners and datagram sockets that have one. Dropped before the sockets: as long as these
    /// are open, their files' numbers are nobody else's.
    pub(crate) guards: Vec<(Key, D::Guard)>,
    pub(crate) sockets: Sockets<D>,
    /// The buffer that all connections are read into.
    pub(crate) input: Box<[u8]>,
    pub(crate) handlers: Vec<Box<dyn AnyHandler>>,
    pub(crate) raws: Slab<Box<dyn AnyRaw<D>>>,
    pub(crate) listeners: Vec<Key>,
    /// A descriptor to give up on the day on which there are no more.
    pub(crate) reserve: Option<D::Reserve>,
    /// The work list of the phase that runs, which was swapped for an empty one: work made by work goes
    /// to that, for the next turn. Between phases it is the empty one.
    batch: Vec<Key>,
    /// How much of it has run, or begun to.
    batch_done: usize,
    pub(crate) mailroom: Mailroom,
    pub(crate) names: Names,
    /// How long to look for more work before sleeping, and since when.
    spin: Duration,
    pub(crate) last_work: Time,
    pub(crate) panics_go_through: bool,
    /// How many connections the tables were reserved for.
    made_for: usize,
    /// How often everything was stopped, by which `run` knows that a turn did it.
    stops: u64,
    /// Of a stop that is not a drain's, while it goes on.
    stop_baseline: Option<Baseline>,
    report: Option<Report>,
    watch: signals::Watch,
    #[cfg(feature = "systemd")]
    pub(crate) notifier: Option<Rc<Notifier>>,
}

/// Names a handler of type `H` in its reactor.
pub struct HandlerId<H> {
    /// Of which of the reactors of this process.
    pub(crate) reactor: u32,
    pub(crate) index: u16,
    /// Of one that was added to serve no connections.
    pub(crate) has_datagrams_only: bool,
    handler: PhantomData<fn() -> H>,
}

impl<H> Clone for HandlerId<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for HandlerId<H> {}

impl<H> fmt::Debug for HandlerId<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandlerId({} of reactor {})", self.index, self.reactor)
    }
}

impl Reactor {
    /// A reactor on real sockets, with the default limits.
    ///
    /// # Errors
    ///
    /// Those of epoll_create1(2): descriptors or memory ran out.
    pub fn new() -> io::Result<Reactor> {
        Reactor::with_limits(ReactorLimits::new())
    }

    /// A reactor on real sockets.
    ///
    /// # Errors
    ///
    /// As [`new`](Reactor::new); `InvalidInput` for limits that make no sense; `OutOfMemory` for more
    /// connections than there is memory for.
    pub fn with_limits(limits: ReactorLimits) -> io::Result<Reactor> {
        Reactor::with_driver(Mio::new()?, limits)
    }
}

/// The epoll descriptor: readable when [`turn`](Reactor::turn) would find events. For a reactor that
/// lives in another loop, together with [`next_wait`](Reactor::next_wait).
#[cfg(unix)]
impl std::os::fd::AsRawFd for Reactor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.sockets.driver.as_raw_fd()
    }
}

/// As [`AsRawFd`](std::os::fd::AsRawFd).
#[cfg(unix)]
impl std::os::fd::AsFd for Reactor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.sockets.driver.as_fd()
    }
}

impl<D: Driver> Reactor<D> {
    /// A reactor in a world of its own.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for limits that make no sense; `OutOfMemory` for more connections than there is
    /// memory for; no descriptor is left to reserve.
    pub fn with_driver(mut driver: D, limits: ReactorLimits) -> io::Result<Reactor<D>> {
        limits.check()?;
        driver.set_events_max(limits.events_per_poll_max);
        let reserve = Some(driver.reserve()?);
        let (random, now) = (driver.random_seed(), driver.now());
        let slots = limits.connections_max + SLACK_SLOTS;
        let no_memory = |_| {
            let message = format!("no memory for a table of {slots} connections (connections_max)");
            io::Error::new(io::ErrorKind::OutOfMemory, message)
        };
        let mut sockets = Vec::new();
        sockets.try_reserve_exact(slots).map_err(no_memory)?;
        sockets.resize_with(slots, || None);
        Ok(Reactor {
            made_for: limits.connections_max,
            input: vec![0; limits.read_buffer_bytes].into_boxed_slice(),
            core: Core::new(limits, random, now).map_err(no_memory)?,
            sockets: Sockets { driver, sockets },
            handlers: Vec::new(),
            raws: Slab::new(),
            listeners: Vec::new(),
            guards: Vec::new(),
            reserve,
            batch: Vec::new(),
            batch_done: 0,
            mailroom: Mailroom::default(),
            names: Names::default(),
            spin: Duration::ZERO,
            last_work: now,
            panics_go_through: false,
            stops: 0,
            stop_baseline: None,
            report: None,
            watch: signals::Watch::default(),
            #[cfg(feature = "systemd")]
            notifier: None,
        })
    }

    /// Takes in a handler.
    ///
    /// # Panics
    ///
    /// If there are 65,535 of them already.
    pub fn add<H: StreamHandler>(&mut self, handler: H) -> HandlerId<H> {
        let index = self.take_in(Box::new(Owner::new(handler)));
        self.core.starting.push_back(index);
        self.name_of(index, false)
    }

    /// Takes in a handler that serves datagrams and no connections. One that implements both traits is taken
    /// in by [`add`](Self::add).
    ///
    /// # Panics
    ///
    /// As [`add`](Self::add).
    pub fn add_datagram_handler<H: DatagramHandler>(&mut self, handler: H) -> HandlerId<H> {
        let index = self.take_in(Box::new(Owner::new(Only(handler))));
        self.name_of(index, true)
    }

    fn name_of<H>(&self, index: u16, has_datagrams_only: bool) -> HandlerId<H> {
        let reactor = self.core.reactor;
        HandlerId { reactor, index, has_datagrams_only, handler: PhantomData }
    }

    fn take_in(&mut self, handler: Box<dyn AnyHandler>) -> u16 {
        let index = u16::try_from(self.handlers.len()).expect("at most 65,535 handlers");
        assert_ne!(index, NO_HANDLER, "at most 65,535 handlers");
        self.handlers.push(handler);
        index
    }

    /// Lends a handler, between turns.
    ///
    /// # Panics
    ///
    /// If the name comes from another reactor.
    pub fn handler<H: 'static>(&self, id: HandlerId<H>) -> &H {
        self.core.assert_own(id);
        let handler = self.handlers[id.index as usize].as_any();
        let only = || handler.downcast_ref().map(|Only(handler)| handler);
        handler.downcast_ref().or_else(only).expect(OF_ITS_TYPE)
    }

    /// Lends a handler, between turns.
    ///
    /// # Panics
    ///
    /// If the name comes from another reactor.
    pub fn handler_mut<H: 'static>(&mut self, id: HandlerId<H>) -> &mut H {
        self.core.assert_own(id);
        let handler = self.handlers[id.index as usize].as_any_mut();
        if handler.is::<Only<H>>() {
            return handler.downcast_mut().map(|Only(handler)| handler).expect(OF_ITS_TYPE);
        }
        handler.downcast_mut().expect(OF_ITS_TYPE)
    }

    /// A handler as the contexts of its callbacks name it.
    pub(crate) fn context_of<H: 'static>(&self, id: HandlerId<H>) -> u16 {
        self.core.assert_own(id);
        context_of::<H>(&*self.handlers[usize::from(id.index)], id.index)
    }

    /// What a callback of `handler` could reach, between turns: to connect, send, close and so on; what
    /// it asks for is done in the next turn. Reads the clock.
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor.
    pub fn context<H: 'static>(&mut self, handler: HandlerId<H>) -> Context<'_> {
        let handler = self.context_of(handler);
        self.core.now = self.sockets.driver.now();
        Context { core: &mut self.core, host: &self.sockets, handler }
    }

    /// The limits of outbound connections that are not given their own, and of those that are
    /// [adopted](Self::adopt).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for limits that make no sense.
    pub fn set_connect_limits(&mut self, limits: Limits) -> io::Result<()> {
        limits.check()?;
        self.core.connect_options = Rc::new(ConnectOptions::new().limits(limits));
        Ok(())
    }

    /// Lets panics of handlers through to the caller of the reactor, instead of closing the
    /// connection that they happened on. The reactor stays usable; that connection does not get
    /// another call but `on_close`.
    pub fn let_panics_through(&mut self, yes: bool) {
        self.panics_go_through = yes;
    }

    /// What the loop did so far.
    pub fn stats(&self) -> &Stats {
        &self.core.stats
    }

    /// Connections open now, with those being opened or closing.
    pub fn connections(&self) -> usize {
        self.core.stats.connections
    }

    /// Runs until a handler calls [`Context::stop`], when everything is closed as
    /// [`CloseReason::Stopped`](crate::CloseReason::Stopped); or until a [`drain`](Self::drain) has come
    /// to its end. The reactor can be
    /// run again.
    ///
    /// # Errors
    ///
    /// Only that the poll itself is broken: errors of connections and of accept end in their own
    /// places.
    ///
    /// # Panics
    ///
    /// With the panics of callbacks that belong to no connection or source, see
    /// [`StreamHandler`](crate::StreamHandler#panics-in-a-callback). The reactor can be run again: what was left of the turn
    /// comes in the next one.
    pub fn run(&mut self) -> io::Result<Report> {
        self.run_until(|_| false)
    }

    /// Runs until `is_done`, which is asked before every turn, or as [`run`](Self::run). When it is
    /// done, nothing is closed.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); it panics as that does.
    pub fn run_until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) -> io::Result<Report> {
        self.forget_turn();
        while !is_done(self) {
            let stops = self.stops;
            self.turn_in_run(None)?;
            if self.stops != stops
                && let Some(report) = &self.report
            {
                let report = report.clone();
                self.end_turn(self.sockets.driver.now());
                return Ok(report);
            }
        }
        self.end_turn(self.sockets.driver.now());
        Ok(match &self.core.drain {
            Some(drain) => drain.baseline.report(Ended::Done, &self.core),
            None => Baseline::new(&self.core).report(Ended::Done, &self.core),
        })
    }

    /// Ends gracefully, beginning with the next turn:
    ///
    /// 1. Listeners accept who had connected by then, and close.
    /// 2. Every connection is shown what its client had sent by then, within the usual budgets. Then
    ///    [`on_drain`](StreamHandler::on_drain) is called, which by default closes, if the connection is neither paused
    ///    nor over its high watermark, or else when that is over: what was sent is flushed, and what the client sends after that is thrown away and counted. Every datagram socket
    ///    receives what waits (1024 at most), and then its
    ///    [`on_drain`](DatagramHandler::on_drain) is called, which by default closes.
    /// 3. When no connection and no datagram socket is left, the reactor stops: raw sources are closed and
    ///    timers end. It does so after `timeout` anyhow, and closes what is left as
    ///    [`CloseReason::Stopped`](crate::CloseReason::Stopped).
    ///
    /// While it goes on the reactor works as ever, and outbound connections can be made. It does not wait for tries
    /// to come, though ([`ConnectOptions::retry`]): an attempt that rests between two of them fails when the drain begins, as
    /// [`Draining`](crate::ConnectError::Draining), and one whose try fails later has had its last. It waits for
    /// connections only: a handler that waits for a timer, a message or a job keeps one open. One that was sent
    /// everything, and whose client does not close its side, stays for
    /// [`drain_linger_timeout`](crate::Limits::drain_linger_timeout); so a drain that is
    /// shorter than that often ends [`TimedOut`](crate::Ended::TimedOut) with everybody finished. A second call
    /// can bring its end forward, and not put it off; [`stop`](Self::stop) ends it at once.
    ///
    /// # Cost
    ///
    /// A system call for each connection when it begins, and eight bytes.
    ///
    /// # Platform notes
    ///
    /// A client whose handshake is completed between the last accept and the close of the listener is
    /// reset by the kernel (listen(2) has no way to close the door first). A Unix socket's path is removed when the
    /// drain begins, so that nobody is.
    pub fn drain(&mut self, timeout: Duration) {
        self.core.now = self.sockets.driver.now();
        self.core.drain(timeout);
    }

    /// Closes everything at once as [`CloseReason::Stopped`](crate::CloseReason::Stopped): every handler
    /// hears of the end of each of its connections and attempts. What they do in these calls comes to
    /// nothing. Listeners, raw sources, timers and mailboxes end as well, with what waits in them, and
    /// blocking work. The handlers stay, and the reactor can be given listeners and mailboxes anew;
    /// [`on_start`](StreamHandler::on_start) is not called again.
    ///
    /// # Panics
    ///
    /// As `on_close` does, or the drop of a message or job that waited; the latter when everything has
    /// ended. A second call, of this or of [`run`](Self::run), goes on with what is left and makes the
    /// report of the whole.
    ///
    /// # Cost
    ///
    /// A system call for each connection to learn what it leaves unread, and one to close it.
    pub fn stop(&mut self) {
        #[cfg(feature = "systemd")]
        self.notify_stopping();
        self.core.stopping = true;
        let unread = self.unread_bytes();
        // Both stay until all are told and all is dropped: a panic in that goes through here, and who comes
        // back to go on with the stop is to get the report of the whole.
        let core = &mut self.core;
        let baseline = match &mut core.drain {
            Some(drain) => &mut drain.baseline,
            None => self.stop_baseline.get_or_insert_with(|| Baseline::new(core)),
        };
        baseline.bytes_waiting += unread;
        self.end_all();
        self.end_mail();
        let (end, baseline) = match (self.core.drain.take(), self.stop_baseline.take()) {
            (Some(drain), _) => (drain.end, drain.baseline),
            (None, Some(baseline)) => (Ended::Stopped, baseline),
            (None, None) => unreachable!("one of them was there above"),
        };
        self.core.stopping = false;
        self.stops += 1;
        let report = baseline.report(end, &self.core);
        info!("{report}");
        self.report = Some(report);
        #[cfg(feature = "systemd")]
        self.notify_again();
    }
}

const OF_ITS_TYPE: &str = "a handler's name is of its type";

impl<D: Driver> fmt::Debug for Reactor<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("stats", &self.core.stats).finish_non_exhaustive()
    }
}

/// Serves `handler` on `address` until it calls [`Context::stop`] or [`Context::drain`].
///
/// # Errors
///
/// As [`Reactor::new`], [`Reactor::listen`] and [`Reactor::run`].
pub fn serve(address: impl IntoAddress, handler: impl StreamHandler) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let handler = reactor.add(handler);
    reactor.listen(handler, address)?;
    reactor.run()?;
    Ok(())
}
