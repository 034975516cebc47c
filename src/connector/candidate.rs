//! One of several addresses that a connection is tried at: a socket under a key of its own, until one of them
//! is the connection's.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use log::debug;

use super::attempt::Stage;
use super::begin_socket;
use super::race::{Race, Step};
use crate::address::SocketAddress;
use crate::core::{Core, Source};
use crate::driver::Driver;
use crate::error::{CloseReason, ConnectError};
use crate::key::Key;
use crate::reactor::Reactor;
use crate::readiness::Readiness;
use crate::timer::Purpose;

/// A source of the table, as connections are, with a slot of its own. No handler hears of it.
///
/// Invariant: as long as it is not dead it is one of those that run in the race of its connection's attempt.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The connection that it is tried for.
    of: Key,
    to: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) queued: bool,
    /// Over: on the reap list.
    pub(crate) dead: bool,
    /// To be closed with a reset.
    pub(crate) resets: bool,
}

impl Core {
    /// The race of a connection, as long as it goes on.
    fn race_mut(&mut self, of: Key) -> Option<&mut Race> {
        match &mut self.attempt_mut(of)?.stage {
            Stage::Races(race) => Some(race),
            _ => None,
        }
    }

    /// Ends what is under way for an attempt: candidates, or a look-up.
    pub(crate) fn end_try(&mut self, number: u32) {
        let stage = &mut self.attempts[number as usize].stage;
        if let Stage::Races(race) = std::mem::replace(stage, Stage::Rests) {
            race.running().iter().for_each(|key| self.end(*key, CloseReason::Closed));
        }
    }

    /// Whether a candidate is one that its connection knows of.
    pub(crate) fn is_raced(&self, key: Key, candidate: &Candidate) -> bool {
        let Some(stream) = self.stream(candidate.of) else { return false };
        let attempt = self.attempts.get(stream.need as usize);
        matches!(attempt.map(|attempt| &attempt.stage), Some(Stage::Races(race)) if race.running().contains(&key))
    }

    /// How many candidates all attempts know of.
    pub(crate) fn candidates(&self) -> usize {
        let running = |stage: &Stage| match stage {
            Stage::Races(race) => race.running().len(),
            _ => 0,
        };
        self.attempts.iter().map(|(_, attempt)| running(&attempt.stage)).sum()
    }
}

impl<D: Driver> Reactor<D> {
    /// Begins with as many addresses as are due, and sets the timer for the next one; also the timer phase's part.
    pub(super) fn go_on_racing(&mut self, of: Key) {
        loop {
            let now = self.core.now;
            let Some(race) = self.core.race_mut(of) else { return };
            match race.step(now) {
                Step::Begin(to) => self.begin_candidate(of, to),
                Step::WaitUntil(at) => {
                    let core = &mut self.core;
                    let timer = core.timers.set(at, Duration::ZERO, Purpose::Connect(of));
                    let Some(attempt) = core.attempt_mut(of) else { return };
                    let before = std::mem::replace(&mut attempt.timer, timer);
                    core.timers.cancel(before);
                    return;
                }
                Step::Wait => return,
                Step::Failed(error) => return self.fail_try(of, error),
            }
        }
    }

    fn begin_candidate(&mut self, of: Key, to: SocketAddr) {
        let core = &mut self.core;
        let Some(attempt) = core.attempt_mut(of) else { return };
        let options = Rc::clone(&attempt.options);
        let readiness = Readiness::EMPTY;
        let candidate = Candidate { of, to, readiness, queued: false, dead: false, resets: false };
        let key = core.sources.insert(Source::Candidate(Box::new(candidate)));
        let result = begin_socket(&self.sockets.driver, key, &SocketAddress::Inet(to), &options);
        if !matches!(result, Ok(Some(_))) {
            // Nobody has heard of its key.
            self.core.sources.remove(key);
        }
        match result {
            Ok(Some((socket, is_done))) => {
                debug!("{of}: connecting to {to}, as {key}");
                self.sockets.put(key, socket);
                if let Some(race) = self.core.race_mut(of) {
                    race.began(key);
                }
                if is_done {
                    self.core.merge(key, Readiness::WRITABLE); // no event will tell
                }
            }
            Ok(None) => {
                let core = &mut self.core;
                let (now, random) = (core.now, core.next_random());
                let Some(attempt) = core.attempt_mut(of) else { return };
                let at = now + attempt.busy.next(random);
                if let Stage::Races(race) = &mut attempt.stage {
                    race.put_off(to, at);
                }
            }
            Err(error) => {
                debug!("{of}: connect to {to}: {error}");
                if let Some(race) = self.core.race_mut(of) {
                    race.failed(None, ConnectError::of_error(&error));
                }
            }
        }
    }

    /// The ready phase's part: the socket is writable or has an error, so its connect is through, unless the
    /// hint was spurious.
    pub(crate) fn run_candidate(&mut self, key: Key) {
        let Some(Source::Candidate(candidate)) = self.core.sources.get_mut(key) else { return };
        candidate.queued = false;
        let is_told = candidate.readiness.contains(Readiness::WRITABLE)
            || candidate.readiness.contains(Readiness::ERROR);
        if is_told {
            self.finish_candidate(key);
        }
    }

    /// Looks at how far the connect is: through, or failed, or neither.
    pub(super) fn finish_candidate(&mut self, key: Key) {
        let Some(Source::Candidate(candidate)) = self.core.sources.get(key) else { return };
        if candidate.dead {
            return; // another one was faster, or the connection has ended
        }
        let (of, to) = (candidate.of, candidate.to);
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        match driver.connect_result(socket) {
            Ok(()) if self.is_connected_to_itself(key, to) => {
                self.fail_candidate(of, key, ConnectError::SelfConnected);
            }
            Ok(()) => self.finish_race(of, key),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(Source::Candidate(candidate)) = self.core.sources.get_mut(key) {
                    candidate.readiness = Readiness::EMPTY;
                }
            }
            Err(error) => {
                debug!("{of}: connect to {to}: {error}");
                self.fail_candidate(of, key, ConnectError::of_error(&error));
            }
        }
    }

    fn fail_candidate(&mut self, of: Key, key: Key, error: ConnectError) {
        if let Some(Source::Candidate(candidate)) = self.core.sources.get_mut(key) {
            candidate.resets = super::is_to_reset(error);
        }
        self.core.end(key, CloseReason::Closed);
        if let Some(race) = self.core.race_mut(of) {
            race.failed(Some(key), error);
            self.go_on_racing(of);
        }
    }

    /// One is connected: its socket is the connection's from now on, and the others end.
    fn finish_race(&mut self, of: Key, key: Key) {
        let Some(socket) = self.sockets.take(key) else { return };
        if let Err(error) = self.sockets.driver.rename_stream(&socket, of) {
            debug!("{of}: connected, and cannot be registered: {error}");
            drop(socket);
            return self.fail_candidate(of, key, ConnectError::of_error(&error));
        }
        let core = &mut self.core;
        let Some(Source::Candidate(candidate)) = core.sources.get(key) else { return };
        debug!("{of}: {} has answered first", candidate.to);
        let Some(stream) = core.stream(of) else { return };
        core.end_try(stream.need);
        self.sockets.put(of, socket);
        self.finish_attempt(of);
    }
}
