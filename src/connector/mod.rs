//! Outbound connections, until they are open.

mod attempt;
mod backoff;
mod candidate;
mod destination;
mod name;
mod options;
mod race;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use log::debug;

use crate::address::SocketAddress;
use crate::clock::Time;
use crate::core::Source;
use crate::driver::{ConnectConfig, Connecting, Driver, StreamKind};
use crate::error::{CloseReason, ConnectError};
use crate::key::Key;
use crate::random::random;
use crate::reactor::Reactor;
use crate::stream::{Stream, flag::*};
use crate::timer::Purpose;

use self::attempt::Stage;
use self::destination::Place;
use self::race::Race;

pub(crate) use self::attempt::Attempt;
pub use self::backoff::Backoff;
pub(crate) use self::candidate::Candidate;
pub use self::destination::Destination;
pub use self::options::ConnectOptions;

/// There is no place to connect to, or none that the address to connect from can reach.
const NO_WAY: ConnectError = ConnectError::Io(io::ErrorKind::InvalidInput);

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

/// A socket that connects to an address, registered under a key, and whether it is connected already. `None` if nobody
/// has taken those before it.
fn begin_socket<D: Driver>(
    driver: &D,
    key: Key,
    to: &SocketAddress,
    options: &ConnectOptions,
) -> io::Result<Option<(D::Socket, bool)>> {
    let config = ConnectConfig { to, from: options.from, options: &options.socket };
    let (socket, is_done) = match driver.connect(&config)? {
        Connecting::Done(socket) => (socket, true),
        Connecting::UnderWay(socket) => (socket, false),
        Connecting::Busy => return Ok(None),
    };
    driver.register_stream(&socket, key, kind_of(to))?;
    Ok(Some((socket, is_done)))
}

impl Stream {
    /// Of a socket that is not connected nothing is known, whatever was said.
    fn forget_readiness(&mut self) {
        self.flags &= !(READABLE | WRITABLE | READ_CLOSED | PRIORITY | ERROR);
    }
}

impl<D: Driver> Reactor<D> {
    /// The flush phase's part: carries out [`Context::connect`](crate::Context::connect). Also the timer
    /// phase's, for another try.
    pub(crate) fn begin_connect(&mut self, key: Key) {
        let core = &mut self.core;
        let Some(attempt) = core.attempt_mut(key) else { return }; // cancelled before it began
        let (to, now) = (attempt.to.clone(), core.now);
        if let Some(stream) = core.stream_mut(key) {
            // A look-up takes its time, too.
            stream.phase_deadline = now + stream.limits.connect_timeout;
            core.arm(key);
        }
        match to.0 {
            Place::One(address) => self.connect_to(key, address),
            Place::Several(addresses) => self.connect_to_any(key, &addresses),
            Place::Name(endpoint) => self.ask_for(key, endpoint),
            Place::Nowhere(address) => {
                debug!("{key}: {address} is nothing to connect to");
                self.fail_connect(key, NO_WAY);
            }
        }
    }

    /// The timer phase's part: a wait is over.
    pub(crate) fn go_on_connecting(&mut self, key: Key) {
        let Some(attempt) = self.core.attempt_mut(key) else { return };
        match attempt.stage {
            Stage::Asked | Stage::Rests => self.begin_connect(key),
            Stage::LooksUp(_) => {}
            Stage::Connects(_) => self.try_connect(key),
            Stage::Races(_) => self.go_on_racing(key),
        }
    }

    fn connect_to_any(&mut self, key: Key, addresses: &[SocketAddr]) {
        let Some(attempt) = self.core.attempt_mut(key) else { return };
        let has_way = |address: &&SocketAddr| attempt.has_way(&SocketAddress::Inet(**address));
        let addresses: Vec<SocketAddr> = addresses.iter().filter(has_way).copied().collect();
        match addresses[..] {
            [] => self.fail_connect(key, NO_WAY),
            [address] => self.connect_to(key, address.into()),
            _ => {
                attempt.stage = Stage::Races(Race::new(&addresses));
                self.go_on_racing(key);
            }
        }
    }

    fn connect_to(&mut self, key: Key, address: SocketAddress) {
        let Some(attempt) = self.core.attempt_mut(key) else { return };
        if !attempt.has_way(&address) {
            return self.fail_connect(key, NO_WAY);
        }
        let flags = flags_of(kind_of(&address));
        attempt.stage = Stage::Connects(address);
        if let Some(stream) = self.core.stream_mut(key) {
            stream.flags |= flags;
        }
        self.try_connect(key);
    }

    /// Asks the driver for the connection.
    fn try_connect(&mut self, key: Key) {
        let core = &mut self.core;
        let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
        let attempt = &mut core.attempts[stream.need as usize];
        let (Stage::Connects(to), options) = (&attempt.stage, &attempt.options) else { return };
        match begin_socket(&self.sockets.driver, key, to, options) {
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
    /// unless the hint was spurious. Without a hint, a look at how far it is.
    pub(crate) fn finish_connect(&mut self, key: Key) {
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        match driver.connect_result(socket) {
            Ok(()) if self.has_met_itself(key) => {
                self.fail_try(key, ConnectError::SelfConnected);
            }
            Ok(()) => self.finish_attempt(key),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
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

    /// The connection has a socket that is connected.
    fn finish_attempt(&mut self, key: Key) {
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

    fn has_met_itself(&mut self, key: Key) -> bool {
        match self.core.attempt_mut(key).map(|attempt| &attempt.stage) {
            Some(Stage::Connects(SocketAddress::Inet(to))) => {
                let to = *to;
                self.is_connected_to_itself(key, to)
            }
            _ => false,
        }
    }

    /// Whether both ends are this one socket: its own request met it, on a port of this machine on which
    /// nobody listens and which the kernel chose, by chance, to connect from (RFC 9293, 3.5, simultaneous
    /// initiation).
    fn is_connected_to_itself(&self, key: Key, to: SocketAddr) -> bool {
        let Some((driver, socket)) = self.sockets.with(key) else { return false };
        let local = driver.local_address(socket).ok().and_then(|local| local.inet());
        // Few that are not one have the same port at both ends.
        local.is_some_and(|local| local.port() == to.port())
            && driver.peer_address(socket).ok().and_then(|peer| peer.inet()) == local
    }

    /// The timer phase's part. In a late turn a try may have begun, or been answered, since the events were taken;
    /// nobody has told of that yet. Who gave up what is connected would leave it in the listener's backlog.
    pub(crate) fn time_out_connect(&mut self, key: Key) {
        let is_told = self.core.stream(key).is_some_and(|stream| stream.has(WRITABLE));
        match self.core.attempt_mut(key).map(|attempt| &attempt.stage) {
            // What connects at once or not at all is told of as soon as it has begun.
            Some(Stage::Connects(to)) if is_told || kind_of(to) == StreamKind::Tcp => {
                self.finish_connect(key);
            }
            Some(Stage::Races(race)) => {
                let running = race.running().to_vec();
                running.into_iter().for_each(|candidate| self.finish_candidate(candidate));
            }
            _ => {}
        }
        if self.is_out_of_time(key) {
            self.fail_try(key, ConnectError::TimedOut);
        }
    }

    /// Whether a try goes on after its deadline.
    fn is_out_of_time(&self, key: Key) -> bool {
        let Some(stream) = self.core.stream(key) else { return false };
        stream.has(CONNECTING) && !stream.has(DEAD) && stream.phase_deadline <= self.core.now
    }

    /// A drain's part: it does not wait for those that wait themselves.
    pub(crate) fn end_resting_attempts(&mut self) {
        let is_resting = |(key, source): (Key, &Source)| match source {
            Source::Stream(stream) if stream.has(CONNECTING) => {
                let attempt = self.core.attempts.get(stream.need as usize);
                matches!(attempt?.stage, Stage::Rests).then_some(key)
            }
            _ => None,
        };
        let resting: Vec<Key> = self.core.sources.iter().filter_map(is_resting).collect();
        for key in resting {
            self.fail_connect(key, ConnectError::Draining);
        }
    }

    /// One try has failed: waits for the next one, or ends the attempt with the last.
    fn fail_try(&mut self, key: Key, error: ConnectError) {
        let core = &mut self.core;
        let is_hopeless = error == ConnectError::Io(io::ErrorKind::Unsupported);
        let is_last = is_hopeless || core.drain.is_some();
        let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
        if stream.has(DEAD) {
            return; // ended otherwise, in this very turn
        }
        let number = stream.need;
        core.end_try(number);
        let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
        let attempt = &mut core.attempts[number as usize];
        let Some((left @ 1.., backoff)) = attempt.retry.as_mut().filter(|_| !is_last) else {
            return self.fail_connect(key, error);
        };
        *left -= 1;
        let wait = backoff.next(random(&mut core.random));
        debug!("{key}: {error}; {left} tries are left, the next one in {wait:?}");
        core.timers.cancel(attempt.timer);
        attempt.timer = core.timers.set(core.now + wait, Duration::ZERO, Purpose::Connect(key));
        attempt.busy.reset();
        attempt.stage = Stage::Rests;
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
