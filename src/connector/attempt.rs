//! What a connection is, until it is open.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use log::warn;

use super::backoff::Backoff;
use super::destination::Destination;
use super::options::ConnectOptions;
use super::race::Race;
use crate::address::SocketAddress;
use crate::command::Command;
use crate::core::{Core, Source};
use crate::error::{CloseReason, ConnectError};
use crate::key::Key;
use crate::stream::{Stream, flag::*};
use crate::timer::TimerId;

/// Waiting times while the backlog of a Unix listener is full: the first about as long as such a listener
/// takes for a turn, the last one too short for anybody to notice.
const BUSY_FIRST: Duration = Duration::from_millis(1);
const BUSY_MAX: Duration = Duration::from_millis(100);

/// What a connection needs only until it is open; beside the connections, so that these do not grow.
/// Invariant: each that is `CONNECTING` has one, whose number stands in its `need`, which means nothing
/// else before it is open.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(super) to: Destination,
    pub(super) options: Rc<ConnectOptions>,
    pub(super) stage: Stage,
    /// Waits while the backlog is full.
    pub(super) busy: Backoff,
    /// How many tries are left, and the waits before them.
    pub(super) retry: Option<(u32, Backoff)>,
    /// For the end of a wait.
    pub(super) timer: TimerId,
}

/// How far a try has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// It was asked for.
    Asked,
    /// One has failed, and the next one is yet to come.
    Rests,
    /// The name is being looked up, as long as this is held.
    LooksUp(Arc<()>),
    /// To one address, by the connection's own socket. That is missing while the backlog is full.
    Connects(SocketAddress),
    /// To several, by sockets that are candidates.
    Races(Race),
}

impl Attempt {
    pub(crate) fn new(to: Destination, options: Rc<ConnectOptions>) -> Attempt {
        let busy = Backoff::new(BUSY_FIRST, BUSY_MAX);
        let retry = options.retry.clone();
        Attempt { to, options, stage: Stage::Asked, busy, retry, timer: TimerId::NONE }
    }

    /// Whether the address to connect from can reach this one.
    pub(super) fn has_way(&self, to: &SocketAddress) -> bool {
        let Some(from) = self.options.from else { return true };
        to.inet().is_some_and(|to| to.is_ipv4() == from.is_ipv4())
    }
}

impl Core {
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
        let socket_options = options.socket.check_outbound();
        let mut stream =
            Stream::new(CONNECTING | OUTBOUND, handler, tag, Rc::clone(&options.limits));
        let number = self.attempts.insert(Attempt::new(to, options));
        stream.need = u32::try_from(number).expect("no more attempts than slots");
        // Judged now, when those that come after it do not count yet.
        let is_one_too_many = self.stats.connections >= self.limits.connections_max;
        let refusal = match &socket_options {
            _ if is_one_too_many => Some(ConnectError::TooManyConnections),
            Err(error) => Some(ConnectError::of_error(error)),
            Ok(()) => None,
        };
        stream.failure = refusal;
        let key = self.sources.insert(Source::Stream(stream));
        self.stats.connections += 1;
        if let Err(error) = socket_options {
            warn!("{key}: does not connect: {error}");
        }
        if refusal.is_some() {
            self.end(key, CloseReason::Closed);
        } else {
            self.commands.push_back(Command::Connect { key });
        }
        key
    }

    /// The attempt of a connection that is not open yet.
    pub(super) fn attempt_mut(&mut self, key: Key) -> Option<&mut Attempt> {
        let stream = self.stream(key)?;
        if !stream.has(CONNECTING) || stream.has(DEAD) {
            return None; // ended otherwise, perhaps in this very turn
        }
        let number = stream.need;
        self.attempts.get_mut(number as usize)
    }

    /// The attempt of a connection that is `CONNECTING` has come to its end, one way or the other.
    pub(crate) fn end_attempt(&mut self, number: u32) -> Attempt {
        let attempt = self.attempts.remove(number as usize);
        self.timers.cancel(attempt.timer);
        attempt
    }
}
