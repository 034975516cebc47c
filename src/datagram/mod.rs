//! Datagrams: UDP and Unix datagram sockets, beside the connections in the same table.

pub(crate) mod any;
mod aside;
mod bind;
pub(crate) mod options;
mod outbox;
mod retry;
mod run;
mod send;
mod socket;

use std::io;
use std::net::IpAddr;

use crate::address::SocketAddress;
use crate::core::{Core, Source};
use crate::error::CloseReason;
use crate::key::Key;
use crate::limits::DatagramLimits;
use crate::readiness::Readiness;
use crate::source::NO_HANDLER;
use crate::timer::TimerId;
use any::AnyDatagram;
use outbox::Outbox;

pub(crate) use self::bind::check_gathering;
pub use self::bind::serve_datagrams;
pub use self::options::{DatagramOptions, Interface};
pub use self::socket::DatagramSocket;

/// A datagram that was received: all of it, or what fitted.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its bytes; it may have none, and is a datagram all the same.
    pub data: &'a [u8],
    /// Who sent it: where an answer goes, unless that is [`SocketAddress::Unnamed`], and not the peer that the socket is
    /// connected to, as one end of a pair.
    pub from: &'a SocketAddress,
    /// The address of this machine to which it was sent, and from which an answer to it leaves: if the socket is bound
    /// to all addresses, in the family of `from`. Not known of what was sent to a group, to all (broadcast) or to a
    /// link-local address, of a socket that is connected, and elsewhere than on Linux: there an answer leaves from where
    /// the system's routes say. A machine with several addresses has to have a socket bound to each then, or the
    /// answers of some come from another one than was asked, which clients do not hear.
    pub to: Option<IpAddr>,
    /// How many bytes were sent. It is more than `data` has if the datagram was larger than
    /// [`read_buffer_bytes`](crate::ReactorLimits::read_buffer_bytes); the rest is lost. Only Linux tells how many were
    /// sent then; elsewhere it is one more than `data` has, and on Windows nobody has sent it.
    pub length: usize,
}

impl Datagram<'_> {
    /// Whether bytes at its end are missing.
    pub fn is_truncated(&self) -> bool {
        self.length > self.data.len()
    }
}

/// What became of a datagram that was given to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a datagram that is not queued is lost, and nothing else tells of it"]
pub enum Queued {
    /// It leaves at the end of the socket's run, or when the kernel has room.
    Ok,
    /// Dropped, because too many wait already: see
    /// [`queue_len_max`](DatagramLimits::queue_len_max). [`on_room`](crate::DatagramHandler::on_room) tells when
    /// half of them have gone.
    Full,
    /// Dropped, because there is nobody to send it to ([`SocketAddress::Unnamed`]), or the socket is closed.
    Gone,
}

impl Queued {
    /// For who answers one datagram with one, which the other side has to be able to lose anyhow.
    pub fn ignore(self) {}
}

/// The driver-free half of a datagram socket.
#[derive(Debug)]
pub(crate) struct DatagramState {
    handler: u16,
    /// The handler as its callbacks' contexts have it: none if it serves no connections.
    context: u16,
    calls: &'static dyn AnyDatagram,
    limits: DatagramLimits,
    /// Whom it is connected to.
    peer: Option<SocketAddress>,
    /// A UDP socket that is bound to all addresses: to which of them a datagram was sent is asked for.
    is_anywhere: bool,
    /// The kernel may hand over several datagrams together.
    gathers: bool,
    /// A Unix socket. That a receiver which it names has room again, no event tells it.
    is_unix: bool,
    /// It was made elsewhere, and somebody else may have it open as well.
    is_shared: bool,
    /// A callback asked for it, and it is not bound yet.
    is_unbound: bool,
    /// Why it was not.
    failure: Option<io::Error>,
    outbox: Outbox,
    /// What events told since the last run.
    pub(crate) readiness: Readiness,
    /// There may be datagrams to receive.
    is_readable: bool,
    /// The kernel took no more; an event tells when to go on.
    is_waiting: bool,
    /// One that stands aside may have found not its receiver full, but the socket's own buffer, of which an event
    /// tells.
    waits_aside: bool,
    asks_writable: bool,
    /// The timer for those that stand aside.
    retry: Option<TimerId>,
    /// Whom those were for that had stood aside and were dropped to make room, of which its handler is to be told.
    pushed_out: Vec<SocketAddress>,
    pub(crate) queued: bool,
    flushing: bool,
    owes_bound: bool,
    owes_room: bool,
    /// What waited was dropped because the reactor was over its memory, of which its handler is to be told.
    was_shed: bool,
    /// Somebody was told that the queue is full.
    is_full: bool,
    /// A drain has begun: so many datagrams may have been there.
    drain_left: Option<usize>,
    has_timers: bool,
    /// Errors of receiving, one after the other.
    errors: u32,
    /// How many datagrams, and bytes, the run may still send.
    len_left: usize,
    bytes_left: usize,
    /// Set when it is over.
    pub(crate) reason: Option<CloseReason>,
}

impl DatagramState {
    pub(crate) fn gathers(&self) -> bool {
        self.gathers
    }

    /// One that is not bound yet.
    fn new(
        handler: u16,
        calls: &'static dyn AnyDatagram,
        options: &DatagramOptions,
    ) -> DatagramState {
        DatagramState {
            handler,
            context: NO_HANDLER,
            calls,
            limits: options.limits.clone(),
            peer: None,
            is_anywhere: false,
            gathers: options.gather,
            is_unix: false,
            is_shared: false,
            is_unbound: true,
            failure: None,
            outbox: Outbox::default(),
            readiness: Readiness::EMPTY,
            is_readable: false,
            is_waiting: false,
            waits_aside: false,
            asks_writable: false,
            retry: None,
            pushed_out: Vec::new(),
            queued: false,
            flushing: false,
            owes_bound: false,
            owes_room: false,
            was_shed: false,
            is_full: false,
            drain_left: None,
            has_timers: false,
            errors: 0,
            len_left: 0,
            bytes_left: 0,
            reason: None,
        }
    }

    /// What holds of it between turns.
    pub(crate) fn verify(&self, key: Key) {
        let is_over = self.reason.is_some();
        assert!(
            is_over
                || self.is_unbound
                || self.queued
                || self.flushing
                || (self.outbox.queue_is_empty() || self.is_waiting)
                    && !self.is_readable
                    && !self.owes_bound
                    && !self.owes_room
                    && !self.was_shed
                    && self.pushed_out.is_empty(),
            "{key}: work that nobody will do: {self:?}"
        );
        assert!(
            is_over || !(self.is_waiting || self.waits_aside) || self.asks_writable,
            "{key}: waits for nothing: {self:?}"
        );
        // The last that stood aside may have been pushed out.
        assert!(
            is_over || self.queued || self.outbox.aside.is_empty() == self.retry.is_none(),
            "{key}: nobody tries again: {self:?}"
        );
        assert!(
            is_over || !self.is_waiting || !self.outbox.queue_is_empty(),
            "{key}: nothing waits"
        );
        assert!(
            !self.outbox.queue_is_empty() || self.waits_aside || !self.asks_writable,
            "{key}: woken for nothing"
        );
        assert!(
            is_over || !self.is_full || self.owes_room || !self.outbox.is_empty(),
            "{key}: who was told that it is full never hears of room"
        );
        self.outbox.verify();
    }

    /// Whether it is on the flush list.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// Bytes of datagrams that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Whether datagrams wait for the kernel to tell of room.
    #[cfg(feature = "sim")]
    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.queue_is_empty() || self.waits_aside
    }
}

impl Core {
    /// Whether a datagram socket has not ended. It may have to be bound yet.
    pub(crate) fn is_live(&self, key: Key) -> bool {
        let source = self.sources.get(key);
        matches!(source, Some(Source::Datagram(state)) if state.reason.is_none())
    }

    pub(crate) fn datagram_mut(&mut self, key: Key) -> Option<&mut DatagramState> {
        match self.sources.get_mut(key) {
            Some(Source::Datagram(state)) => Some(state),
            _ => None,
        }
    }

    /// Queues a datagram of a socket, to whom it is connected if `to` says nothing, and from where its routes say if
    /// `from` says nothing.
    pub(crate) fn send_datagram(
        &mut self,
        key: Key,
        from: Option<IpAddr>,
        to: Option<&SocketAddress>,
        data: &[u8],
    ) -> Queued {
        let is_running = key == self.running;
        let Some(Source::Datagram(state)) = self.sources.get_mut(key) else { return Queued::Gone };
        // One end of a pair, as of socketpair(2): who has no name is at the other one.
        let is_peer_unnamed = state.peer == Some(SocketAddress::Unnamed);
        let to = to.filter(|to| !(is_peer_unnamed && **to == SocketAddress::Unnamed));
        if state.reason.is_some() || to == Some(&SocketAddress::Unnamed) {
            return Queued::Gone;
        }
        let limits = &state.limits;
        if !state.outbox.has_room(data.len(), limits.queue_len_max, limits.queue_bytes_max)
            && !self.make_room(key, data.len(), to)
        {
            return Queued::Full;
        }
        let Some(Source::Datagram(state)) = self.sources.get_mut(key) else { return Queued::Gone };
        state.outbox.push(from, to, data);
        // The end of its run sends, the event that it waits for, or its first run.
        let is_later = is_running || state.is_waiting || state.is_unbound;
        if !is_later && !std::mem::replace(&mut state.flushing, true) {
            self.flush.push(key);
        }
        self.account_waiting(data.len());
        Queued::Ok
    }

    /// A queue is full: those that stand aside make room for who can leave, the oldest first, unless it is for the same
    /// receiver. Whether there is room then; if there would be none, the datagram is dropped, and none of them.
    #[cold]
    fn make_room(&mut self, key: Key, bytes: usize, to: Option<&SocketAddress>) -> bool {
        let Some(Source::Datagram(state)) = self.sources.get_mut(key) else { return false };
        let (len_max, bytes_max) = (state.limits.queue_len_max, state.limits.queue_bytes_max);
        if !state.outbox.can_make_room(to, bytes, len_max, bytes_max) {
            state.is_full = true;
            self.stats.datagrams_dropped += 1;
            return false;
        }
        let mut bytes_gone = 0;
        while !state.outbox.has_room(bytes, len_max, bytes_max)
            && let Some((to, length)) = state.outbox.aside.take_oldest(to)
        {
            self.stats.datagrams_dropped += 1;
            state.pushed_out.push(to);
            bytes_gone += length;
        }
        debug_assert!(state.outbox.has_room(bytes, len_max, bytes_max), "dropped in vain");
        self.account_gone(bytes_gone);
        self.queue(key);
        true
    }
}
