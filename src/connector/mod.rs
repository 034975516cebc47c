//! Outbound connections, until they are open.

mod backoff;
mod options;

use std::rc::Rc;
use std::time::Duration;

use log::debug;

use crate::address::SocketAddress;
use crate::clock::Time;
use crate::core::{Core, Source};
use crate::driver::{ConnectConfig, Connecting, Driver, StreamKind};
use crate::error::{CloseReason, ConnectError};
use crate::key::Key;
use crate::random::random;
use crate::reactor::Reactor;
use crate::stream::{Stream, flag::*};
use crate::timer::{Purpose, TimerId};

pub use self::backoff::Backoff;
pub use self::options::ConnectOptions;

/// Waiting times while the backlog of a Unix listener is full: the first about as long as such a listener
/// takes for a turn, the last one too short for anybody to notice.
const BUSY_FIRST: Duration = Duration::from_millis(1);
const BUSY_MAX: Duration = Duration::from_millis(100);

/// What a connection needs only until it is open; beside the connections, so that these do not grow.
/// Invariant: each that is `CONNECTING` has one, whose number stands in its `need`, which means nothing
/// else before it is open.
#[derive(Debug)]
pub(crate) struct Attempt {
    to: SocketAddress,
    options: Rc<ConnectOptions>,
    /// Waits while the backlog is full.
    busy: Backoff,
    /// How many tries are left, and the waits before them.
    retry: Option<(u32, Backoff)>,
    /// For the end of either wait.
    timer: TimerId,
}

impl Attempt {
    pub(crate) fn new(to: SocketAddress, options: Rc<ConnectOptions>) -> Attempt {
        let busy = Backoff::new(BUSY_FIRST, BUSY_MAX);
        let retry = options.retry.clone();
        Attempt { to, options, busy, retry, timer: TimerId::NONE }
    }

    /// Whether the address to connect from can reach the one to connect to.
    fn has_way(&self) -> bool {
        let Some(from) = self.options.from else { return true };
        self.to.inet().is_some_and(|to| to.is_ipv4() == from.is_ipv4())
    }
}

/// What a connection to, or from, such an address is made of.
pub(crate) fn kind_of(address: &SocketAddress) -> StreamKind {
    match address {
        SocketAddress::Inet(_) => StreamKind::Tcp,
        SocketAddress::Unix(_) | SocketAddress::Unnamed => StreamKind::Unix,
    }
}

/// The flags with which a connection of this kind begins.
pub(crate) fn flags_of(kind: StreamKind) -> u32 {
    match kind {
        StreamKind::Tcp => 0,
        StreamKind::Unix => GENERAL,
        // A pipe is as a connection whose handler has said that it sends no more,
        StreamKind::PipeIn => GENERAL | FIN_WANTED | FIN_SENT,
        // ... or whose peer has, and both know of it.
        StreamKind::PipeOut => GENERAL | EOF | EOF_SHOWN,
    }
}

/// Whether what failed so is to be reset: no peer is there that could be told of an end in good order, and
/// the port would not be free for a while.
fn is_to_reset(error: ConnectError) -> bool {
    error == ConnectError::SelfConnected
}

impl Stream {
    /// Of a socket that is not connected nothing is known, whatever was said.
    fn forget_readiness(&mut self) {
        self.flags &= !(READABLE | WRITABLE | READ_CLOSED | PRIORITY | ERROR);
    }
}

impl Core {
    /// The attempt of a connection that is `CONNECTING` has come to its end, one way or the other.
    pub(crate) fn end_attempt(&mut self, number: u32) -> Attempt {
        let attempt = self.attempts.remove(number as usize);
        self.timers.cancel(attempt.timer);
        attempt
    }
}

impl<D: Driver> Reactor<D> {
    /// The flush phase's part: carries out [`Context::connect`](crate::Context::connect).
    pub(crate) fn begin_connect(&mut self, key: Key) {
        let core = &mut self.core;
        let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
        if stream.has(DEAD) {
            return; // cancelled before it began
        }
        let attempt = &core.attempts[stream.need as usize];
        stream.flags |= flags_of(kind_of(&attempt.to));
        if attempt.has_way() {
            self.try_connect(key);
        } else {
            self.fail_connect(key, ConnectError::Io(std::io::ErrorKind::InvalidInput));
        }
    }

    /// Asks the driver for the connection; also the timer phase's part, at the end of a wait.
    pub(crate) fn try_connect(&mut self, key: Key) {
        let core = &mut self.core;
        let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
        if stream.has(DEAD) {
            return; // ended otherwise, in this very turn
        }
        if stream.phase_deadline == Time::NEVER {
            stream.phase_deadline = core.now + stream.limits.connect_timeout;
            core.arm(key);
        }
        let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
        let attempt = &mut core.attempts[stream.need as usize];
        let (to, options) = (&attempt.to, &attempt.options);
        let driver = &self.sockets.driver;
        let config = ConnectConfig { to, from: options.from, nodelay: options.nodelay };
        let result = driver.connect(&config).and_then(|connecting| {
            let (socket, is_done) = match connecting {
                Connecting::Done(socket) => (socket, true),
                Connecting::UnderWay(socket) => (socket, false),
                Connecting::Busy => return Ok(None),
            };
            driver.register_stream(&socket, key, kind_of(to))?;
            Ok(Some((socket, is_done)))
        });
        match result {
            Ok(Some((socket, is_done))) => {
                debug!("{key}: connecting to {to}");
                self.sockets.put(key, socket);
                if is_done {
                    // No event will tell.
                    stream.flags |= WRITABLE;
                    core.queue(key);
                }
            }
            Ok(None) => {
                debug!("{key}: connect to {to}: nobody has taken those before it");
                let at = core.now + attempt.busy.next(random(&mut core.random));
                attempt.timer = core.timers.set(at, Duration::ZERO, Purpose::Connect(key));
            }
            Err(error) => {
                debug!("{key}: connect to {to}: {error}");
                self.fail_try(key, ConnectError::of_error(&error));
            }
        }
    }

    /// The ready phase's part: the socket is writable or has an error, so the connect is through,
    /// unless the hint was spurious.
    pub(crate) fn finish_connect(&mut self, key: Key) {
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        match driver.connect_result(socket) {
            Ok(()) if self.is_connected_to_itself(key) => {
                self.fail_try(key, ConnectError::SelfConnected);
            }
            Ok(()) => {
                let core = &mut self.core;
                let stream = core.sources.live(key);
                stream.flags &= !CONNECTING;
                stream.flags |= WRITABLE;
                let number = std::mem::take(&mut stream.need);
                core.end_attempt(number);
                core.stats.connects += 1;
                debug!("{key}: connected");
                self.open(key);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if let Some(stream) = self.core.stream_mut(key) {
                    stream.forget_readiness();
                }
            }
            Err(error) => {
                debug!("{key}: connect: {error}");
                self.fail_try(key, ConnectError::of_error(&error));
            }
        }
    }

    /// Whether both ends are this one socket: its own request met it, on a port of this machine on which
    /// nobody listens and which the kernel chose, by chance, to connect from (RFC 9293, 3.5, simultaneous
    /// initiation).
    fn is_connected_to_itself(&self, key: Key) -> bool {
        let Some((driver, socket)) = self.sockets.with(key) else { return false };
        let Some(stream) = self.core.stream(key) else { return false };
        let Some(to) = self.core.attempts[stream.need as usize].to.inet() else { return false };
        let local = driver.local_address(socket).ok().and_then(|local| local.inet());
        // Few that are not one have the same port at both ends.
        local.is_some_and(|local| local.port() == to.port())
            && driver.peer_address(socket).ok().and_then(|peer| peer.inet()) == local
    }

    /// The timer phase's part.
    pub(crate) fn time_out_connect(&mut self, key: Key) {
        self.fail_try(key, ConnectError::TimedOut);
    }

    /// One try has failed: waits for the next one, or ends the attempt with the last.
    fn fail_try(&mut self, key: Key, error: ConnectError) {
        let core = &mut self.core;
        let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
        if stream.has(DEAD) {
            return; // ended otherwise, in this very turn
        }
        let attempt = &mut core.attempts[stream.need as usize];
        let Some((left @ 1.., backoff)) = &mut attempt.retry else {
            return self.fail_connect(key, error);
        };
        *left -= 1;
        let wait = backoff.next(random(&mut core.random));
        debug!("{key}: {error}; {left} tries are left, the next one in {wait:?}");
        core.timers.cancel(attempt.timer);
        attempt.timer = core.timers.set(core.now + wait, Duration::ZERO, Purpose::Connect(key));
        attempt.busy.reset();
        stream.phase_deadline = Time::NEVER;
        stream.forget_readiness();
        core.disarm(key);
        match self.sockets.take(key) {
            Some(socket) if is_to_reset(error) => self.sockets.driver.abort(socket),
            socket => drop(socket), // which closes it
        }
    }

    fn fail_connect(&mut self, key: Key, error: ConnectError) {
        let Some(stream) = self.core.stream_mut(key) else { return };
        if stream.has(DEAD) {
            return; // ended otherwise, in this very turn
        }
        stream.failure = Some(error);
        if is_to_reset(error) {
            stream.flags |= RESET;
        }
        debug!("{key}: did not connect: {error}");
        self.core.end(key, CloseReason::Closed);
    }
}
