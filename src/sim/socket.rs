//! What a simulated socket is: the state of connections and listeners, and what they are ready for.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::datagram::Datagram;
use super::events::BOTH;
use super::faults::Faults;
use super::net::Net;
use crate::clock::Time;
use crate::driver::StreamKind;
use crate::key::Key;
use crate::readiness::Readiness;

#[derive(Debug)]
pub(crate) struct Sock {
    pub(crate) host: u32,
    pub(crate) owner: Owner,
    /// ... and who did before it was closed: for names.
    pub(super) owned: Owner,
    /// On its host's ready list.
    pub(crate) is_queued: bool,
    /// For [`Kernel::Contract`]: what may be reported, because a call said `WouldBlock` since.
    pub(crate) armed: Readiness,
    /// ... and what is to be.
    pub(crate) pending: Readiness,
    /// What its reactor asked to be told of, besides hints.
    pub(crate) asked: Readiness,
    pub(crate) kind: Kind,
}

/// Who hears of a socket's changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Nobody,
    /// The reactor of its host, under this key.
    Reactor(Key),
    /// A scripted client.
    Client(usize),
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are streams")]
pub(crate) enum Kind {
    Listener(Box<Listener>),
    Stream(Stream),
    Datagram(Box<Datagram>),
    /// A source of a test's own, and what it is ready for.
    Raw(Readiness),
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) backlog: usize,
    pub(crate) queue: VecDeque<Key>,
    /// How many will be in the queue when their handshake is over.
    pub(super) handshakes: usize,
    /// Whether it is reported.
    pub(crate) is_on: bool,
}

impl Listener {
    pub(super) fn new(address: SocketAddr, backlog: u32) -> Listener {
        let backlog = backlog as usize;
        Listener { address, backlog, queue: VecDeque::new(), handshakes: 0, is_on: true }
    }

    /// Linux queues one more than it was told (listen(2)).
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() + self.handshakes > self.backlog
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) peer: Key,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// The host of the peer, also when the peer is gone.
    pub(crate) remote_host: u32,
    /// A Unix socket or a pipe, which have no wire.
    pub(super) is_local: bool,
    /// Which end of a pipe it is.
    pub(super) pipe: Option<StreamKind>,
    pub(super) is_connecting: bool,
    /// Received and not read.
    pub(super) received: VecDeque<u8>,
    pub(super) received_max: usize,
    /// ... which is a piece that the test wants to be read by itself.
    pub(super) is_piece: bool,
    /// The peer's end of file is behind them.
    pub(super) is_ended: bool,
    /// Written, and not in the peer's buffer yet.
    pub(super) unsent: VecDeque<u8>,
    pub(super) unsent_max: usize,
    /// On a Unix socket, what the peer has not read, for which there is the same room.
    pub(super) unread: usize,
    /// So many of them are there but for the room.
    pub(super) arrived: usize,
    /// After so many of them the connection is reset.
    pub(super) reset_after: Option<usize>,
    /// No byte and no end arrives before.
    pub(super) not_before: Time,
    /// Our side of the wire is taken until then.
    pub(super) busy_until: Time,
    /// A write found no room: a change is to be told.
    pub(super) is_short_of_room: bool,
    /// We sent our end of file,
    pub(super) is_shut: bool,
    /// ... and it arrived, behind what is unsent.
    pub(super) has_end_arrived: bool,
    /// Its descriptor is closed.
    pub(super) is_closed: bool,
    /// ... and a reset is under way to the peer.
    pub(super) is_aborted: bool,
    /// Nothing reaches the other side, in either direction.
    pub(super) is_vanished: bool,
    /// What we sent arrives, and we do not hear of it.
    pub(super) is_unacknowledged: bool,
    /// Not connected any more.
    pub(super) is_reset: bool,
    /// `SO_ERROR`.
    pub(super) error: Option<io::ErrorKind>,
}

impl Owner {
    /// The reactor's key of the socket.
    pub(crate) fn key(self) -> Option<Key> {
        match self {
            Owner::Reactor(key) => Some(key),
            Owner::Nobody | Owner::Client(_) => None,
        }
    }
}

impl Sock {
    pub(crate) fn new(host: u32, kind: Kind) -> Sock {
        Sock {
            host,
            owner: Owner::Nobody,
            owned: Owner::Nobody,
            is_queued: false,
            armed: Readiness::EMPTY,
            pending: Readiness::EMPTY,
            asked: BOTH,
            kind,
        }
    }

    pub(crate) fn connecting(
        host: u32,
        local: SocketAddr,
        remote: SocketAddr,
        remote_host: u32,
        faults: &Faults,
    ) -> Sock {
        Sock::new(
            host,
            Kind::Stream(Stream {
                peer: Key::NONE,
                local,
                remote,
                remote_host,
                is_local: false,
                pipe: None,
                is_connecting: true,
                received: VecDeque::new(),
                received_max: faults.receive_buffer_bytes,
                is_piece: false,
                is_ended: false,
                unsent: VecDeque::new(),
                unsent_max: faults.send_buffer_bytes,
                unread: 0,
                arrived: 0,
                reset_after: None,
                not_before: Time::from_nanos(0),
                busy_until: Time::from_nanos(0),
                is_short_of_room: false,
                is_shut: false,
                has_end_arrived: false,
                is_closed: false,
                is_aborted: false,
                is_vanished: false,
                is_unacknowledged: false,
                is_reset: false,
                error: None,
            }),
        )
    }

    pub(crate) fn connected(
        host: u32,
        local: SocketAddr,
        remote: SocketAddr,
        peer: Key,
        remote_host: u32,
        faults: &Faults,
    ) -> Sock {
        let mut sock = Sock::connecting(host, local, remote, remote_host, faults);
        if let Kind::Stream(stream) = &mut sock.kind {
            stream.is_connecting = false;
            stream.peer = peer;
        }
        sock
    }

    /// One end of a connection of Unix sockets.
    pub(super) fn local(
        host: u32,
        local: SocketAddr,
        remote: SocketAddr,
        peer: Key,
        remote_host: u32,
        faults: &Faults,
    ) -> Sock {
        let mut sock = Sock::connected(host, local, remote, peer, remote_host, faults);
        if let Kind::Stream(stream) = &mut sock.kind {
            stream.is_local = true;
        }
        sock
    }

    pub(crate) fn not_before(&mut self, at: Time) {
        if let Kind::Stream(stream) = &mut self.kind {
            stream.not_before = at;
        }
    }

    /// Whose it is, or was.
    pub(crate) fn named(&self) -> Owner {
        if self.owner == Owner::Nobody { self.owned } else { self.owner }
    }

    /// What its reactor may be told of [`readiness`](Sock::readiness): what it asked for, and hints.
    pub(crate) fn told(&self) -> Readiness {
        Readiness(self.readiness().0 & (self.asked.0 | !BOTH.0))
    }

    /// What is true of it now: what epoll finds when it is asked.
    pub(crate) fn readiness(&self) -> Readiness {
        match &self.kind {
            Kind::Listener(listener) if listener.queue.is_empty() => Readiness::EMPTY,
            Kind::Listener(_) => Readiness::READABLE,
            Kind::Raw(readiness) => *readiness,
            Kind::Datagram(datagram) => datagram.readiness(),
            Kind::Stream(stream) => stream.readiness(),
        }
    }
}

impl Stream {
    pub(super) fn readable_bytes(&self) -> usize {
        self.received.len()
    }

    fn readiness(&self) -> Readiness {
        let hint = |hint: Readiness, is_set: bool| if is_set { hint } else { Readiness::EMPTY };
        if self.is_connecting {
            return Readiness::EMPTY;
        }
        let is_over = self.is_reset || self.error.is_some();
        let is_ended = self.is_ended && self.pipe != Some(StreamKind::PipeOut);
        hint(Readiness::READABLE, is_over || is_ended || !self.received.is_empty())
            | hint(Readiness::WRITABLE, is_over || self.is_shut || self.has_room())
            | hint(Readiness::READ_CLOSED, is_over || is_ended)
            | hint(Readiness::ERROR, self.error.is_some())
    }

    /// Whether a socket is reported as writable: with a third of its buffer free, so that it is worth a call; a
    /// Unix socket with three quarters of it.
    pub(super) fn has_room(&self) -> bool {
        match self.is_local {
            true => 4 * self.unread <= self.unsent_max,
            false => 3 * (self.unsent_max - self.unsent.len()) >= self.unsent_max,
        }
    }

    /// That it holds no more than it may.
    pub(super) fn check(&self) {
        debug_assert!(self.received.len() <= self.received_max);
        debug_assert!(self.unsent.len() <= self.unsent_max);
        debug_assert!(self.arrived <= self.unsent.len());
    }
}

impl Net {
    pub(crate) fn stream(&mut self, key: Key) -> Option<&mut Stream> {
        match self.sockets.get_mut(key).map(|sock| &mut sock.kind) {
            Some(Kind::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn listener_mut(&mut self, key: Key) -> Option<&mut Listener> {
        match self.sockets.get_mut(key).map(|sock| &mut sock.kind) {
            Some(Kind::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    /// Host, own and other address of a socket that is connecting.
    pub(crate) fn connecting(&mut self, key: Key) -> Option<(u32, SocketAddr, SocketAddr)> {
        let host = self.sockets.get(key)?.host;
        let stream = self.stream(key)?;
        (stream.is_connecting && !stream.is_closed).then_some((host, stream.local, stream.remote))
    }

    pub(super) fn host_of(&self, key: Key) -> u32 {
        self.sockets.get(key).map_or(0, |sock| sock.host)
    }

    /// The faults of what this socket sends and reads.
    pub(super) fn faults_from(&self, key: Key) -> std::rc::Rc<Faults> {
        let from = self.host_of(key);
        match self.sockets.get(key).map(|sock| &sock.kind) {
            Some(Kind::Stream(stream)) => self.link(from, stream.remote_host),
            _ => self.faults(from),
        }
    }
}
