//! What a simulated socket does: tcp(7), send(2), recv(2), shutdown(2), close(2).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::calls::os_error;
use super::datagram::Datagram;
use super::decisions::Matter;
use super::events::BOTH;
use super::faults::{Faults, Kernel};
use super::net::{Event, Net};
use super::orders::Cut;
use super::trace::{self, Head, error_name};
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
    /// Whether it is reported.
    pub(crate) is_on: bool,
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
    is_piece: bool,
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

    /// Bytes in the kernel's hands, in both directions.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        debug_assert!(self.received.len() <= self.received_max);
        debug_assert!(self.unsent.len() <= self.unsent_max);
        debug_assert!(self.arrived <= self.unsent.len());
    }

    #[cfg(not(debug_assertions))]
    pub(super) fn check(&self) {}
}

impl Net {
    pub(crate) fn stream(&mut self, key: Key) -> Option<&mut Stream> {
        match self.sockets.get_mut(key).map(|sock| &mut sock.kind) {
            Some(Kind::Stream(stream)) => Some(stream),
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

    pub(crate) fn accept(&mut self, key: Key) -> io::Result<Option<(Key, SocketAddr)>> {
        let Some(Kind::Listener(listener)) = self.sockets.get_mut(key).map(|sock| &mut sock.kind)
        else {
            return Err(os_error(io::ErrorKind::InvalidInput));
        };
        let Some(server) = listener.queue.pop_front() else {
            self.arm(key, Readiness::READABLE);
            return Ok(None);
        };
        let Some(stream) = self.stream(server) else { return Ok(None) };
        let peer = stream.remote;
        self.log(self.host_of(key), "accept", server, 0);
        Ok(Some((server, peer)))
    }

    /// How a connect ended.
    pub(crate) fn connect_result(&mut self, key: Key) -> io::Result<()> {
        let Some(stream) = self.stream(key) else {
            return Err(os_error(io::ErrorKind::NotConnected));
        };
        if let Some(error) = stream.error.take() {
            return Err(os_error(error));
        }
        if stream.is_connecting {
            self.arm(key, Readiness::WRITABLE);
            return Err(os_error(io::ErrorKind::WouldBlock));
        }
        Ok(())
    }

    pub(crate) fn peer_address(&mut self, key: Key) -> io::Result<SocketAddr> {
        match self.stream(key) {
            Some(stream) if !stream.is_reset && !stream.is_connecting => Ok(stream.remote),
            _ => Err(os_error(io::ErrorKind::NotConnected)),
        }
    }

    pub(crate) fn take_error(&mut self, key: Key) -> Option<io::ErrorKind> {
        self.stream(key)?.error.take()
    }

    pub(crate) fn read(&mut self, key: Key, buffer: &mut [u8]) -> io::Result<usize> {
        let host = self.host_of(key);
        let is_local = self.stream(key).is_some_and(|stream| stream.is_local);
        // Over TCP Linux gives all that is there. On a Unix socket a read stops at passed descriptors.
        let is_short = self.kernel == Kernel::Contract || is_local;
        let short_reads = if is_short { self.faults_from(key).short_reads } else { 0.0 };
        let Some(stream) = self.stream(key) else {
            return Err(os_error(io::ErrorKind::NotConnected));
        };
        let there = stream.received.len().min(buffer.len());
        if there == 0 {
            // An end of file that came stays one, over TCP: only a write meets the reset after it.
            if (is_local || !stream.is_ended)
                && let Some(error) = stream.error.take()
            {
                self.log_error(host, "read", key, error_name(error));
                return Err(os_error(error));
            }
            if stream.is_ended || stream.is_reset {
                self.log(host, "read", key, 0);
                return Ok(0);
            }
            self.arm(key, Readiness::READABLE);
            // A client looks whenever it is told of anything, which tells nothing.
            if self.sockets.get(key).is_some_and(|sock| sock.owner.key().is_some()) {
                self.log_error(host, "read", key, "WouldBlock");
            }
            return Err(os_error(io::ErrorKind::WouldBlock));
        }
        let mut count = there;
        if let Some(mut how) = self.decisions.chance(Matter::ShortRead, key.index(), short_reads) {
            count = how.part(there as u64) as usize;
        }
        if is_short && !is_local {
            count = self.cut_read(key, count);
        }
        let Some(stream) = self.stream(key) else { return Ok(0) };
        let (front, back) = stream.received.as_slices();
        let from_front = front.len().min(count);
        buffer[..from_front].copy_from_slice(&front[..from_front]);
        buffer[from_front..count].copy_from_slice(&back[..count - from_front]);
        if count == stream.received.len() && stream.received.capacity() > 1024 {
            stream.received = VecDeque::new();
        } else {
            stream.received.drain(..count);
        }
        let peer = stream.peer;
        let mut head = Head::default();
        head.push(&buffer[..count]);
        self.log_bytes(host, "read", key, count as u64, (head, 0));
        if is_local {
            self.make_room(peer, count);
            return Ok(count);
        }
        // The window has opened: what is held back comes, but not while this call lasts.
        if self.stream(peer).is_some_and(|sender| sender.arrived > 0) {
            let faults = self.faults_from(peer);
            let at = self.now + self.latency(&faults, Matter::WindowLatency, key);
            self.send(at, Event::Window { from: peer });
        }
        Ok(count)
    }

    /// How many of so many bytes the next read gives, as the test ordered; where a read gives all that is
    /// there, how many may be there.
    pub(super) fn cut_read(&mut self, to: Key, count: usize) -> usize {
        let (kernel, host) = (self.kernel, self.host_of(to));
        let Some(link) = self.stream(to).map(|stream| (stream.remote_host, host)) else {
            return count;
        };
        let size = self.orders.size(Cut::Reads, link);
        if let Some(stream) = self.stream(to)
            && kernel == Kernel::Linux
        {
            if !stream.received.is_empty() && (stream.is_piece || size.is_some()) {
                return 0; // it comes when that was read
            }
            stream.is_piece = size.is_some();
        }
        let Some(size) = size else { return count };
        let count = count.min(size);
        self.orders.note(Cut::Reads, link, count);
        count
    }

    pub(crate) fn write(&mut self, key: Key, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let host = self.host_of(key);
        let Some(stream) = self.stream(key) else {
            return Err(os_error(io::ErrorKind::NotConnected));
        };
        let is_local = stream.is_local;
        if !is_local && let Some(error) = stream.error.take() {
            self.log_error(host, "write", key, error_name(error));
            return Err(os_error(error));
        }
        if stream.is_reset || stream.is_shut {
            self.log_error(host, "write", key, "BrokenPipe");
            return Err(os_error(io::ErrorKind::BrokenPipe));
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        if wanted == 0 {
            return Ok(0);
        }
        let used = stream.unsent.len() + stream.unread;
        let room = if stream.is_connecting { 0 } else { stream.unsent_max - used };
        stream.is_short_of_room = room < wanted;
        if room == 0 {
            self.arm(key, Readiness::WRITABLE);
            self.log_error(host, "write", key, "WouldBlock");
            return Err(os_error(io::ErrorKind::WouldBlock));
        }
        let faults = self.faults_from(key);
        let mut count = room.min(wanted);
        let (of, short) = (key.index(), faults.short_writes);
        if let Some(mut how) = self.decisions.chance(Matter::ShortWrite, of, short) {
            count = how.part(count as u64) as usize;
        }
        let Some(stream) = self.stream(key) else { return Ok(0) };
        let (link, before) = ((host, stream.remote_host), stream.unsent.len());
        if let Some(size) = self.orders.size(Cut::Writes, link) {
            count = count.min(size);
            self.orders.note(Cut::Writes, link, count);
        }
        let reset_after = self.orders.take_reset(link, count).map(|rest| before + rest);
        let Some(stream) = self.stream(key) else { return Ok(0) };
        stream.reset_after = stream.reset_after.or(reset_after);
        let (mut left, mut head, mut digest) = (count, Head::default(), 0);
        for slice in slices {
            let part = slice.len().min(left);
            stream.unsent.extend(&slice[..part]);
            head.push(&slice[..part]);
            digest = trace::digest(digest, &slice[..part]);
            left -= part;
        }
        self.log_bytes(host, "write", key, count as u64, (head, digest));
        match is_local {
            true => self.deliver(key),
            false => self.carry(key, count, &faults),
        }
        Ok(count)
    }

    pub(crate) fn shutdown_write(&mut self, key: Key) -> io::Result<()> {
        let host = self.host_of(key);
        self.log(host, "shutdown", key, 0);
        let Some(stream) = self.stream(key) else {
            return Err(os_error(io::ErrorKind::NotConnected));
        };
        if stream.is_reset || stream.is_connecting {
            return Err(os_error(io::ErrorKind::NotConnected));
        }
        match stream.is_local {
            true => self.shutdown_unix(key),
            false => self.send_end(key),
        }
        Ok(())
    }

    /// Closes a descriptor; `is_abort` with a reset.
    pub(crate) fn close(&mut self, key: Key, is_abort: bool) {
        let host = self.host_of(key);
        if self.stream(key).is_some_and(|stream| stream.is_closed) {
            return; // its reset is under way
        }
        self.log(host, if is_abort { "abort" } else { "close" }, key, 0);
        let Some(sock) = self.sockets.get_mut(key) else { return };
        sock.owned = std::mem::replace(&mut sock.owner, Owner::Nobody);
        match &mut sock.kind {
            Kind::Raw(_) => {
                self.remove(key);
            }
            Kind::Datagram(datagram) => {
                let waiters = datagram.take_waiters();
                self.sockets.remove(key);
                self.datagrams.unbind(key);
                self.tell_waiters(waiters);
            }
            Kind::Listener(listener) => {
                let (address, queue) = (listener.address, std::mem::take(&mut listener.queue));
                self.remove(key);
                let machine = self.machine(host);
                self.addresses.unbind(machine, address, key);
                for server in queue {
                    match self.stream(server).is_some_and(|stream| stream.is_local) {
                        true => self.close_unix(server, false),
                        false => self.close(server, true),
                    }
                }
            }
            Kind::Stream(stream) if stream.is_local => self.close_unix(key, true),
            Kind::Stream(stream) => {
                stream.is_closed = true;
                let peer = stream.peer;
                if stream.is_connecting {
                    // The answer may be under way: it finds nobody, and is answered with a reset.
                    self.send_reset(key, peer);
                    self.forget(key);
                } else if stream.is_reset {
                    self.forget(key);
                // Whoever closes with unread bytes resets (RFC 1122, 4.2.2.13).
                } else if is_abort || !stream.received.is_empty() {
                    self.abort(key);
                } else {
                    self.send_end(key);
                    self.finish_end(key);
                }
            }
        }
    }
}
