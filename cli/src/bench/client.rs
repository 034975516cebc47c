//! The load's side of every connection: sends, checks what comes back, measures how long it took.

use std::collections::VecDeque;
use std::time::Instant;

use hdrhistogram::Histogram;
use oneloop::{
    CloseReason, ConnectError, Connection, Context, Error, Key, Origin, StreamHandler, TimerId,
};

use super::flows::{self, Flows};
use super::pattern::Pattern;
use super::window::Datagrams;
use crate::address::Place;

/// Connections being opened at once. More would overflow the backlog of many a server, and each SYN
/// that is dropped there costs a second.
const CONNECTING_MAX: usize = 256;

/// All connections of a load, or sockets that send datagrams.
#[derive(Debug)]
pub(super) struct Client {
    server: Place,
    pub(super) pattern: Pattern,
    base: Instant,
    /// The connections that were opened, by number.
    keys: Vec<Option<Key>>,
    /// The sockets that send datagrams.
    pub(super) flows: Flows,
    /// How many connections were begun.
    begun: usize,
    /// How many are open.
    pub(super) open: usize,
    /// Why one did not open.
    pub(super) connect_failure: Option<(usize, ConnectError)>,
    /// Messages sent and not yet back, over all connections.
    pub(super) in_flight: u64,
    /// Whole messages that came back: it grows as long as the server answers. Bytes that drip in do not
    /// count, or the end of a slice could be put off at will.
    pub(super) answers: u64,
    /// When the last one came.
    pub(super) answered_at: u64,
    pub(super) slice: Slice,
    pub(super) tally: Tally,
    pub(super) latency: Histogram<u64>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    pub(super) message_bytes: usize,
    pub(super) pipeline: u64,
    /// When to stop sending, in nanoseconds since `base`.
    pub(super) until: u64,
    /// How many messages may still be sent.
    pub(super) to_send: u64,
}

/// What was done in this slice.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Messages that came back.
    pub(super) messages: u64,
    /// Those of them that came back before `until`.
    pub(super) messages_in_time: u64,
    pub(super) datagrams: Datagrams,
    /// Connections that failed; with datagrams sockets, and also datagrams that could not be sent or came back wrong.
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    connection: usize,
    /// Where in the pattern it is.
    sent: u64,
    received: u64,
    /// Bytes received of the message that is coming in.
    partial: usize,
    /// Messages in flight, oldest first; those sent together are one batch.
    batches: VecDeque<Batch>,
    /// Whether it has failed, and that is told.
    is_failed: bool,
}

#[derive(Debug)]
struct Batch {
    sent_at: u64,
    messages: u64,
}

impl Session {
    fn in_flight(&self) -> u64 {
        self.batches.iter().map(|batch| batch.messages).sum()
    }
}

impl Client {
    pub(super) fn new(server: Place, connections: usize) -> Client {
        // From a nanosecond to ten minutes, at three digits.
        let latency = Histogram::new_with_bounds(1, 600_000_000_000, 3);
        Client {
            server,
            pattern: Pattern::new(),
            base: Instant::now(),
            keys: vec![None; connections],
            flows: Flows::default(),
            begun: 0,
            open: 0,
            connect_failure: None,
            in_flight: 0,
            answers: 0,
            answered_at: 0,
            slice: Slice::default(),
            tally: Tally::default(),
            latency: latency.expect("the bounds are in order"),
        }
    }

    /// Nanoseconds since the load was made.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.keys.iter().filter_map(|key| *key)
    }

    fn connect_next(&mut self, cx: &mut Context<'_>) {
        if self.begun < self.keys.len() {
            cx.connect(self.server.address().clone(), self.begun as u64);
            self.begun += 1;
        }
    }

    /// Checks what came in; gives how many messages it completed.
    #[inline]
    fn take(&self, session: &mut Session, data: &[u8]) -> Result<u64, String> {
        if let Some(index) = self.pattern.mismatch(session.received, data) {
            return Err(self.describe_mismatch(session, data, index));
        }
        if session.received + data.len() as u64 > session.sent {
            return Err(format!(
                "connection {}: the server sent back more than it was sent",
                session.connection
            ));
        }
        session.received += data.len() as u64;
        session.partial += data.len();
        let messages = session.partial / self.slice.message_bytes;
        session.partial %= self.slice.message_bytes;
        Ok(messages as u64)
    }

    #[cold]
    fn describe_mismatch(&self, session: &Session, data: &[u8], index: usize) -> String {
        let position = session.received + index as u64;
        let byte = position - Pattern::start(session.connection);
        let (found, expected) = (data[index], self.pattern.from(position)[0]);
        format!(
            "connection {}: wrong bytes: byte {byte} came back as {found:#04x} instead of {expected:#04x}",
            session.connection
        )
    }

    /// Counts messages that are back.
    #[inline]
    pub(super) fn count(&mut self, messages: u64, now: u64) {
        self.answers += messages;
        self.answered_at = now;
        self.in_flight -= messages;
        self.tally.messages += messages;
        if now <= self.slice.until {
            self.tally.messages_in_time += messages;
        }
    }

    /// Notes the latency of the oldest messages in flight.
    #[inline]
    fn record(&mut self, session: &mut Session, mut messages: u64, now: u64) {
        while messages > 0 {
            let Some(batch) = session.batches.front_mut() else { break };
            let count = messages.min(batch.messages);
            self.latency.saturating_record_n(now - batch.sent_at, count);
            messages -= count;
            batch.messages -= count;
            if batch.messages == 0 {
                session.batches.pop_front();
            }
        }
    }

    #[inline]
    fn send(&mut self, session: &mut Session, conn: &mut Connection<'_>, messages: u64, now: u64) {
        let messages = messages.min(self.slice.to_send);
        if messages == 0 || now > self.slice.until {
            return;
        }
        self.slice.to_send -= messages;
        self.in_flight += messages;
        session.batches.push_back(Batch { sent_at: now, messages });
        let mut bytes = messages as usize * self.slice.message_bytes;
        while bytes > 0 {
            let piece = self.pattern.from(session.sent);
            let length = bytes.min(piece.len());
            // What is in flight is bounded by the pipeline.
            conn.send(&piece[..length]).ignore();
            session.sent += length as u64;
            bytes -= length;
        }
    }

    #[cold]
    pub(super) fn fail(&mut self, error: String) {
        self.tally.errors += 1;
        self.tally.first_error.get_or_insert(error);
    }
}

impl StreamHandler for Client {
    type Session = Session;

    fn on_start(&mut self, cx: &mut Context<'_>) {
        if self.server.is_datagram() {
            cx.set_handler_interval(flows::LOOK_INTERVAL);
            return;
        }
        for _ in 0..CONNECTING_MAX {
            self.connect_next(cx);
        }
    }

    /// Datagrams are sent that have to be, and those that were lost are given up.
    fn on_handler_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
        self.look_after_flows(cx);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Session {
        let Origin::Connected(tag) = conn.origin() else { unreachable!("nothing listens here") };
        let connection = tag as usize;
        self.keys[connection] = Some(conn.key());
        self.open += 1;
        self.connect_next(conn);
        let start = Pattern::start(connection);
        Session {
            connection,
            sent: start,
            received: start,
            partial: 0,
            batches: VecDeque::new(),
            is_failed: false,
        }
    }

    fn on_connect_failed(&mut self, _: Key, tag: u64, error: ConnectError, _: &mut Context<'_>) {
        self.connect_failure.get_or_insert((tag as usize, error));
    }

    /// A slice begins.
    fn on_poke(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        let now = self.now();
        self.send(session, conn, self.slice.pipeline, now);
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        // One reading serves both ways: what is checked and sent below leaves right after it.
        let now = self.now();
        match self.take(session, data) {
            Ok(0) => {}
            Ok(messages) => {
                self.count(messages, now);
                self.record(session, messages, now);
                self.send(session, conn, messages, now);
            }
            Err(error) => {
                self.fail(error);
                session.is_failed = true;
                conn.abort();
            }
        }
        Ok(data.len())
    }

    fn on_peer_closed(&mut self, _: &mut Session, conn: &mut Connection<'_>) {
        // Nothing that is still to be sent would be answered.
        conn.abort();
    }

    fn on_close(&mut self, session: Session, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.open -= 1;
        self.in_flight -= session.in_flight();
        self.keys[session.connection].take_if(|ours| *ours == key);
        let number = session.connection;
        match reason {
            CloseReason::Stopped => {}
            CloseReason::Aborted if session.is_failed => {}
            // By us, when the peer closed.
            CloseReason::Aborted => {
                self.fail(format!("connection {number}: the server closed it"));
            }
            reason => self.fail(format!("connection {number} was lost: {reason}")),
        }
    }
}
