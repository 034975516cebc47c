//! Listening and accepting.

mod counts;
mod options;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use log::{debug, error, warn};

use crate::address::SocketAddress;
use crate::connector::{flags_of, kind_of};
use crate::context::Context;
use crate::core::{Core, Source};
use crate::driver::{AcceptError, Driver};
use crate::key::Key;
use crate::limits::Limits;
use crate::mail::message_of;
use crate::peer::{Accepted, Peer};
use crate::reactor::Reactor;
use crate::stream::{Stream, flag::*};
use crate::timer::Purpose;
use counts::AddressCounts;

pub(crate) use self::counts::NO_NUMBER;
pub use self::options::ListenOptions;

/// Names one listener.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenerId(pub(crate) Key);

/// Waiting times after an accept failed for want of a resource.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// So many errors of single connections in a row are none: a filter that denies the call fails with the same ones
/// (seccomp(2)), and takes nothing out of the backlog.
const FAILURES_MAX: usize = 64;

/// The driver-free half of a listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) handler: u16,
    pub(crate) limits: Rc<Limits>,
    pub(crate) readable: bool,
    /// Reported as shut down, which somebody does who has the same socket.
    pub(crate) is_shut_down: bool,
    pub(crate) queued: bool,
    pub(crate) dead: bool,
    /// Its connections.
    pub(crate) connections: usize,
    /// At a limit of connections; a connection that ends lets it go on.
    pub(crate) is_full: bool,
    /// Out of a resource: a timer lets it go on.
    is_waiting: bool,
    /// Calls of accept one after the other that failed as of a single connection.
    failures: usize,
    /// How many connections it accepted when it was last reported, at most, and in which turn.
    burst: usize,
    burst_turn: u64,
    retry_after: Duration,
    backlog: usize,
    /// In a drain: how many may have been waiting when it began.
    pub(crate) drain_left: Option<usize>,
    pub(crate) addresses: AddressCounts,
}

impl Listener {
    pub(crate) fn new(handler: u16, limits: Rc<Limits>, backlog: u32) -> Listener {
        Listener {
            handler,
            limits,
            readable: false,
            is_shut_down: false,
            queued: false,
            dead: false,
            connections: 0,
            is_full: false,
            is_waiting: false,
            failures: 0,
            burst: 1,
            burst_turn: 0,
            retry_after: RETRY_FIRST,
            backlog: backlog as usize,
            drain_left: None,
            addresses: AddressCounts::default(),
        }
    }

    /// How many connections to accept now, where listeners are level: one, unless the listener was
    /// reported in the turn before, too. So a lone connection costs one call of accept, and a backlog
    /// is emptied at a pace that doubles up to the budget.
    fn next_burst(&mut self, turn: u64) -> usize {
        let is_backlog = self.burst_turn + 1 == turn;
        let burst = if is_backlog { self.burst.saturating_mul(2) } else { 1 };
        self.burst = burst.min(self.limits.accepts_per_turn_max);
        self.burst_turn = turn;
        self.burst
    }

    /// Whoever waits now is still accepted: no more than the backlog, and the one that the kernel lets
    /// in on top of it. Without that number, who keeps connecting would keep the door open.
    pub(crate) fn begin_drain(&mut self) {
        self.drain_left = Some(self.backlog + 1);
        self.is_full = false;
        self.is_waiting = false;
    }

    /// One accept of a drain; gives how many were left before it, unless there were none.
    pub(crate) fn take_from_drain(&mut self) -> Option<usize> {
        let left = self.drain_left.filter(|left| *left > 0)?;
        self.drain_left = Some(left - 1);
        Some(left)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    pub(crate) fn is_muted(&self) -> bool {
        self.is_full || self.is_waiting
    }
}

impl Core {
    /// A connection from this address has ended. At once, and not when it is reaped: its client may
    /// be at the door again in the same turn.
    pub(crate) fn leave_address(&mut self, listener: Key, address: u32) {
        if address != NO_NUMBER
            && let Some(listener) = self.listener_mut(listener)
        {
            listener.addresses.leave(address);
        }
    }
}

impl<D: Driver> Reactor<D> {
    /// The ready phase's part: accepts within the budget.
    #[inline(never)]
    pub(crate) fn run_listener(&mut self, key: Key) {
        let turn = self.core.stats.turns;
        let Some(listener) = self.core.listener_mut(key) else { return };
        listener.queued = false;
        if listener.drain_left.is_some() && !listener.dead {
            return self.drain_listener(key);
        }
        if listener.dead || listener.is_muted() || !listener.readable {
            return;
        }
        let limits = Rc::clone(&listener.limits);
        let budget = if self.sockets.driver.listeners_are_level() {
            listener.next_burst(turn)
        } else {
            // It stays on the list until a call says that the backlog is empty.
            self.core.queue(key);
            limits.accepts_per_turn_max
        };
        for _ in 0..budget {
            let connections = self.core.stats.connections;
            let connections_max = self.core.limits.connections_max;
            let Some(listener) = self.core.listener_mut(key) else { return };
            if listener.dead || listener.is_muted() || !listener.readable {
                return;
            }
            if listener.connections >= limits.connections_max || connections >= connections_max {
                debug!("{key}: {connections} connections: accepting pauses");
                listener.is_full = true;
                self.core.stats.accept_pauses += 1;
                return self.set_listening(key, false);
            }
            let Some((driver, socket)) = self.sockets.with(key) else { return };
            match driver.accept(socket) {
                Ok((socket, peer)) => self.admit(key, socket, &peer),
                Err(AcceptError::WouldBlock) => {
                    listener.readable = false;
                    listener.failures = 0;
                    if std::mem::take(&mut listener.is_shut_down) {
                        // Of a Unix socket, which a level would report again and again.
                        return self.wait_for_resources(key, &shut_down());
                    }
                    return;
                }
                Err(AcceptError::Connection(error)) if listener.failures < FAILURES_MAX => {
                    debug!("{key}: a connection ended before it was accepted: {error}");
                    listener.failures += 1;
                    self.core.stats.accept_errors += 1;
                }
                Err(AcceptError::Connection(error)) => {
                    return self.wait_for_resources(key, &error);
                }
                Err(AcceptError::Descriptors(error)) => {
                    self.shed(key);
                    return self.wait_for_resources(key, &error);
                }
                Err(AcceptError::Other(error)) => return self.wait_for_resources(key, &error),
            }
        }
    }

    /// Has a listener reported, or not. Where they are edges, the listener itself remembers that
    /// there may be more, and is queued.
    fn set_listening(&mut self, key: Key, on: bool) {
        if !self.sockets.driver.listeners_are_level() {
            if on {
                self.core.queue(key);
            }
            return;
        }
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        if let Err(error) = driver.set_listening(socket, key, on) {
            // Nothing is lost but time: a timer asks again.
            self.wait_for_resources(key, &error);
        }
    }

    /// Takes in an accepted connection, or turns it away.
    pub(crate) fn admit(&mut self, listener_key: Key, socket: D::Socket, peer: &SocketAddress) {
        let Some(listener) = self.core.listener_mut(listener_key) else { return };
        listener.failures = 0;
        let handler = listener.handler;
        let limits = Rc::clone(&listener.limits);
        let accepted = Accepted { driver: &self.sockets.driver, socket: &socket };
        let at_door = Peer::new(peer, ListenerId(listener_key), &accepted);
        let mut cx = Context { core: &mut self.core, host: &self.sockets, handler };
        let door = &mut self.handlers[handler as usize];
        // Caught here, because the connection that it is about is none of the reactor's yet.
        match catch_unwind(AssertUnwindSafe(|| door.accept(&at_door, &mut cx))) {
            Ok(true) => {}
            Ok(false) => {
                debug!("{listener_key}: {peer} turned away by the handler");
                self.core.stats.refusals += 1;
                return;
            }
            Err(panic) => {
                self.core.stats.panics += 1;
                self.core.stats.refusals += 1;
                if self.panics_go_through {
                    resume_unwind(panic);
                }
                let message = message_of(&*panic);
                return error!("{listener_key}: {peer} turned away: accept panicked: {message}");
            }
        }
        if self.core.stats.connections >= self.core.limits.connections_max {
            debug!("{listener_key}: {peer} turned away: the handler took the last place itself");
            self.core.stats.refusals += 1;
            return;
        }
        let mut address = NO_NUMBER;
        if limits.connections_per_address_max != usize::MAX {
            let prefix = AddressCounts::of_peer(&at_door);
            let Some(listener) = self.core.listener_mut(listener_key) else { return };
            let max = limits.connections_per_address_max;
            match prefix.ok().and_then(|prefix| listener.addresses.enter(prefix, max)) {
                Some(number) => address = number,
                // ... or it is not known who it is.
                None => {
                    debug!("{listener_key}: {peer} turned away: too many connections from there");
                    self.core.stats.refusals += 1;
                    return;
                }
            }
        }
        let kind = kind_of(peer);
        let mut stream =
            Stream::new(WRITABLE | flags_of(kind), handler, listener_key.to_bits(), limits);
        stream.address = address;
        let key = self.core.sources.insert(Source::Stream(stream));
        if let Err(error) = self.sockets.driver.register_stream(&socket, key, kind) {
            debug!("{listener_key}: {peer} turned away: it cannot be registered");
            self.core.sources.remove(key);
            self.core.stats.refusals += 1;
            self.core.leave_address(listener_key, address);
            // Neither could the next one be: memory, or watches of this user (epoll(7)), are used up.
            return self.wait_for_resources(listener_key, &error);
        }
        self.sockets.put(key, socket);
        debug!("{key}: accepted {peer} on {listener_key}");
        self.core.stats.accepts += 1;
        self.core.stats.connections += 1;
        if let Some(listener) = self.core.listener_mut(listener_key) {
            listener.connections += 1;
            listener.retry_after = RETRY_FIRST;
        }
        self.open(key);
    }

    /// Without a descriptor nothing can be accepted, and nothing in the backlog would ever be told:
    /// gives up the reserved one, so that the clients that wait now get an end of file instead.
    pub(crate) fn shed(&mut self, key: Key) {
        self.reserve = None;
        let Some(listener) = self.core.listener_mut(key) else { return };
        let accepts_max = listener.limits.accepts_per_turn_max;
        for _ in 0..accepts_max {
            let Some((driver, socket)) = self.sockets.with(key) else { break };
            match driver.accept(socket) {
                Ok((socket, peer)) => {
                    debug!("{key}: {peer} shed for want of descriptors");
                    drop(socket);
                    self.core.stats.sheds += 1;
                }
                Err(AcceptError::WouldBlock) => {
                    if let Some(listener) = self.core.listener_mut(key) {
                        listener.readable = false;
                    }
                    break;
                }
                Err(AcceptError::Connection(_)) => {}
                Err(_) => break,
            }
        }
        self.reserve = self.sockets.driver.reserve().ok();
    }

    /// Pauses accepting for a while. Under edge triggering no event would ask for the next attempt.
    pub(crate) fn wait_for_resources(&mut self, key: Key, error: &io::Error) {
        let core = &mut self.core;
        core.stats.accept_errors += 1;
        let now = core.now;
        let Some(listener) = core.listener_mut(key) else { return };
        if std::mem::replace(&mut listener.is_waiting, true) {
            return; // its timer is set
        }
        let wait = listener.retry_after;
        warn!("{key}: accepting pauses for {wait:?}: {error}");
        listener.retry_after = (2 * wait).min(RETRY_MAX);
        core.timers.set(now + wait, Duration::ZERO, Purpose::Accept(key));
        self.set_listening(key, false);
    }

    /// The timer phase's part.
    pub(crate) fn retry_accept(&mut self, key: Key) {
        if let Some(listener) = self.core.listener_mut(key) {
            if !std::mem::replace(&mut listener.is_waiting, false) {
                return; // a drain has begun meanwhile, and not waited for it
            }
            let is_draining = listener.drain_left.is_some();
            listener.failures = 0;
            // Somebody else took the reserved descriptor: before it is of use again, it has to be back.
            if self.reserve.is_none() {
                self.reserve = self.sockets.driver.reserve().ok();
            }
            self.unmute(key);
            if is_draining {
                self.core.queue(key); // also if nobody is at the door any more
            }
        }
    }

    fn unmute(&mut self, key: Key) {
        if self.core.listener_mut(key).is_some_and(|listener| !listener.is_muted()) {
            self.set_listening(key, true);
        }
    }

    /// A connection has ended: whoever was full may have room again.
    pub(crate) fn wake_full_listeners(&mut self) {
        for index in 0..self.listeners.len() {
            let key = self.listeners[index];
            let connections = self.core.stats.connections;
            let connections_max = self.core.limits.connections_max;
            if let Some(listener) = self.core.listener_mut(key)
                && listener.is_full
                && connections < connections_max
                && listener.connections < listener.limits.connections_max
            {
                listener.is_full = false;
                self.unmute(key);
            }
        }
    }
}

/// What is said of a listener that somebody else has shut down (shutdown(2)); as accept(2) says it of TCP.
fn shut_down() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen, somebody shut it down")
}
