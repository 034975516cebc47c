//! The calls on a simulated socket: accept(2), connect(2), recv(2), send(2), shutdown(2), close(2), as tcp(7) has them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::calls::os_error;
use super::decisions::Matter;
use super::faults::Kernel;
use super::net::{Event, Net};
use super::orders::Cut;
use super::socket::{Kind, Owner};
use super::trace::{self, Head, error_name};
use crate::key::Key;
use crate::readiness::Readiness;

impl Net {
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
        if is_short {
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
            && !stream.is_local
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
        let is_condemned = stream.reset_after.is_some();
        if let Some(size) = self.orders.size(Cut::Writes, link) {
            count = count.min(size);
            self.orders.note(Cut::Writes, link, count);
        }
        // No network resets a Unix socket, and what is behind the reset of another one does not arrive.
        let reset_after = match is_local || is_condemned {
            true => None,
            false => self.orders.take_reset(link, count).map(|rest| before + rest),
        };
        let tells_of_room = count < wanted && !is_local && self.kernel == Kernel::Linux;
        let Some(stream) = self.stream(key) else { return Ok(0) };
        stream.is_short_of_room |= tells_of_room;
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
        if tells_of_room {
            self.wake(key); // there may be some left, whatever the kernel took
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
                let unread = std::mem::take(&mut datagram.received);
                self.remove(key);
                self.datagrams.unbind(key);
                self.tell_waiters(waiters);
                unread.iter().for_each(|one| self.give_back(one.sender, one.len()));
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
