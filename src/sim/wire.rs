//! What a socket sends on its way, and what reaches it: bytes, ends, resets.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::decisions::Matter;
use super::faults::{Faults, Kernel};
use super::net::{Event, Net, TURN};
use super::socket::{Kind, Sock};
use super::trace::error_name;
use crate::key::Key;

/// How long what is not acknowledged is sent again, before `ETIMEDOUT` (tcp(7), `tcp_retries2`: "the
/// default value of 15 corresponds to a duration of approximately between 13 to 30 minutes").
const RETRIES: u32 = 15;

/// The longest wait between two of them.
const RETRY_MAX: Duration = Duration::from_secs(120);

impl Net {
    /// Sends what was written on its way.
    pub(super) fn carry(&mut self, from: Key, count: usize, faults: &Faults) {
        let of = from.index();
        if self.decisions.chance(Matter::VanishingPeer, of, faults.vanishing_peers).is_some() {
            self.vanish(from);
        }
        let latency = self.latency(faults, Matter::Latency, from);
        let cut = self.decisions.chance(Matter::Reset, of, faults.resets);
        let split = if cut.is_none() { faults.split_deliveries } else { 0.0 };
        let split = self.decisions.chance(Matter::SplitDelivery, of, split);
        let now = self.now;
        let Some(stream) = self.stream(from) else { return };
        // One byte goes out after the other.
        let nanos = (count as u64).saturating_mul(1_000_000_000) / faults.bandwidth;
        stream.busy_until = stream.busy_until.max(now) + Duration::from_nanos(nanos);
        let mut at = (stream.busy_until + latency).max(stream.not_before);
        let (first, rest_at) = if let Some(mut how) = cut {
            (how.part(count as u64 + 1) as usize - 1, None)
        } else if let Some(mut how) = split {
            let first = how.part(count as u64) as usize;
            let late = faults.latency_min + Duration::from_nanos(how.below(faults.latencies()));
            (first, Some(at + late + Duration::from_micros(10)))
        } else {
            (count, Some(at))
        };
        self.send(at, Event::Bytes { from, count: first, tries: 0 });
        match rest_at {
            None => self.send(at, Event::Cut { of: from, rest: count - first }),
            Some(later) if first < count => {
                at = later;
                self.send(at, Event::Bytes { from, count: count - first, tries: 0 });
            }
            Some(_) => {}
        }
        if let Some(stream) = self.stream(from) {
            stream.not_before = at;
        }
    }

    /// Whether what `from` sends is lost on its way.
    pub(super) fn is_lost(&mut self, from: Key) -> bool {
        let host = self.host_of(from);
        let Some(stream) = self.stream(from) else { return false };
        let (is_vanished, to) = (stream.is_vanished, stream.remote_host);
        is_vanished || self.is_severed(host, to)
    }

    /// Sends something of `from` again, for the so-many-th time, or gives up.
    fn retry(&mut self, from: Key, tries: u32, event: impl FnOnce(u32) -> Event) {
        if tries > RETRIES {
            return self.arrive_reset(from, io::ErrorKind::TimedOut);
        }
        self.log(self.host_of(from), "again", from, u64::from(tries) + 1);
        let wait = Duration::from_millis(200 << tries).min(RETRY_MAX);
        let at = self.now + wait;
        self.send(at, event(tries + 1));
    }

    pub(crate) fn arrive_bytes(&mut self, from: Key, count: usize, tries: u32) {
        if count == 0 && self.stream(from).is_none_or(|stream| stream.arrived == 0) {
            return self.finish_end(from); // a window that nobody waits for
        }
        if self.is_lost(from) {
            return self.retry(from, tries, |tries| Event::Bytes { from, count, tries });
        }
        let Some(stream) = self.stream(from) else { return };
        stream.arrived = (stream.arrived + count).min(stream.unsent.len());
        self.have_acknowledged(from);
        self.transfer(from);
    }

    /// Something has arrived, of which the sender may not hear.
    fn have_acknowledged(&mut self, from: Key) {
        let host = self.host_of(from);
        let Some(stream) = self.stream(from) else { return };
        let (to, is_told) = (stream.remote_host, stream.is_unacknowledged);
        if self.is_severed(to, host) && !is_told {
            self.arrive_unacknowledged(from, 0);
        }
    }

    /// The sender does not hear that what it sent has arrived, and so it sends that again.
    pub(crate) fn arrive_unacknowledged(&mut self, from: Key, tries: u32) {
        let host = self.host_of(from);
        let Some(stream) = self.stream(from) else { return };
        let to = stream.remote_host;
        let is_unheard = self.is_severed(to, host);
        if let Some(stream) = self.stream(from) {
            stream.is_unacknowledged = is_unheard;
        }
        if is_unheard {
            return self.retry(from, tries, |tries| Event::Unacknowledged { from, tries });
        }
        // Whose answer was a reset is given it again.
        self.transfer(from);
    }

    /// Moves what has arrived into the receiver's buffer, as far as there is room.
    pub(crate) fn transfer(&mut self, from: Key) {
        let kernel = self.kernel;
        let Some(sender) = self.stream(from) else { return };
        let (peer, arrived) = (sender.peer, sender.arrived);
        let is_gone =
            self.stream(peer).is_none_or(|receiver| receiver.is_closed || receiver.is_reset);
        if is_gone {
            if arrived > 0 {
                // Nobody there reads any more: the answer is a reset.
                self.send_reset(peer, from);
            }
            return self.finish_end(from);
        }
        let Some(receiver) = self.stream(peer) else { return };
        let mut count = arrived.min(receiver.received_max - receiver.received.len());
        if kernel == Kernel::Linux && count > 1 {
            // It is the reader whose reads are short, and here the rest comes later.
            let (of, short) = (peer.index(), self.faults_from(peer).short_reads);
            if let Some(mut how) = self.decisions.chance(Matter::ShortRead, of, short) {
                count = how.part(count as u64) as usize;
                let faults = self.faults_from(from);
                let late = faults.latency_min + Duration::from_nanos(how.below(faults.latencies()));
                // Not in the very turn that is to read the first part.
                let at = self.now + late + 4 * TURN;
                self.send(at, Event::Window { from });
            }
        }
        let reset_after = self.stream(from).and_then(|sender| sender.reset_after);
        count = count.min(reset_after.unwrap_or(count));
        if kernel == Kernel::Linux && count > 0 {
            count = self.cut_read(peer, count);
        }
        let reset_after = reset_after.map(|left| left - count);
        if count > 0 {
            let Some(sender) = self.stream(from) else { return };
            let mut unsent = std::mem::take(&mut sender.unsent);
            sender.arrived -= count;
            sender.reset_after = reset_after;
            if let Some(receiver) = self.stream(peer) {
                let (front, back) = unsent.as_slices();
                let from_front = front.len().min(count);
                receiver.received.extend(&front[..from_front]);
                receiver.received.extend(&back[..count - from_front]);
                unsent.drain(..count);
                receiver.check();
            }
            let is_short_of_room = match self.stream(from) {
                Some(sender) => {
                    if !unsent.is_empty() || unsent.capacity() <= 1024 {
                        sender.unsent = unsent;
                    }
                    sender.check();
                    sender.is_short_of_room && sender.has_room()
                }
                None => false,
            };
            self.log(self.host_of(peer), "receive", peer, count as u64);
            self.wake(peer);
            if is_short_of_room {
                if let Some(sender) = self.stream(from) {
                    sender.is_short_of_room = false;
                }
                self.wake(from);
            }
        }
        if reset_after == Some(0) {
            return self.arrive_cut(from, 0);
        }
        self.finish_end(from);
    }

    pub(crate) fn arrive_fin(&mut self, from: Key, tries: u32) {
        if self.is_lost(from) {
            return self.retry(from, tries, |tries| Event::Fin { from, tries });
        }
        let Some(stream) = self.stream(from) else { return };
        stream.has_end_arrived = true;
        self.have_acknowledged(from);
        self.transfer(from);
    }

    /// Tells the peer of the end of file, when all before it is there; and forgets a closed socket
    /// that has nothing left to do.
    pub(super) fn finish_end(&mut self, from: Key) {
        let Some(sender) = self.stream(from) else { return };
        if !sender.has_end_arrived || !sender.unsent.is_empty() {
            return;
        }
        let (peer, is_closed) = (sender.peer, sender.is_closed && !sender.is_aborted);
        if let Some(receiver) = self.stream(peer)
            && !receiver.is_ended
            && !receiver.is_reset
        {
            receiver.is_ended = true;
            self.log(self.host_of(peer), "end", peer, 0);
            self.wake(peer);
        }
        if is_closed {
            self.forget(from);
        }
    }

    pub(super) fn send_end(&mut self, key: Key) {
        let faults = self.faults_from(key);
        let late = self.decisions.chance(Matter::LateEnd, key.index(), faults.late_ends);
        let late = late.map_or(0, |mut how| how.below(1_000_000_000));
        let latency = self.latency(&faults, Matter::EndLatency, key);
        let at = self.now + latency + Duration::from_nanos(late);
        let Some(stream) = self.stream(key) else { return };
        if !std::mem::replace(&mut stream.is_shut, true) {
            let at = at.max(stream.not_before);
            stream.not_before = at;
            self.send(at, Event::Fin { from: key, tries: 0 });
        }
    }

    /// Frees a socket, and its port if it was the one that connected.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some(Sock { host, kind: Kind::Stream(stream), .. }) = self.remove(key) {
            let machine = self.machine(host);
            self.addresses.disconnect(machine, stream.local, stream.remote);
        }
    }

    /// Closes with a reset, which keeps its place behind what is under way; or destroys that, as a
    /// network may.
    pub(super) fn abort(&mut self, key: Key) {
        let faults = self.faults_from(key);
        let Some(stream) = self.stream(key) else { return };
        let peer = stream.peer;
        let lost = faults.destructive_resets;
        if self.decisions.chance(Matter::DestructiveReset, key.index(), lost).is_some() {
            self.send_reset(key, peer);
            return self.forget(key);
        }
        let at = self.now + self.latency(&faults, Matter::ResetLatency, key);
        let Some(stream) = self.stream(key) else { return };
        stream.is_aborted = true;
        let at = at.max(stream.not_before);
        self.send(at, Event::Abort { of: key });
    }

    pub(crate) fn arrive_abort(&mut self, of: Key) {
        let Some(stream) = self.stream(of) else { return };
        let peer = stream.peer;
        // Nobody sends a reset again.
        if !self.is_lost(of) {
            self.arrive_reset(peer, io::ErrorKind::ConnectionReset);
        }
        self.forget(of);
    }

    pub(super) fn send_reset(&mut self, from: Key, to: Key) {
        let Some(stream) = self.stream(to) else { return };
        if stream.is_vanished {
            return;
        }
        let (from_host, to_host) = (stream.remote_host, self.host_of(to));
        let faults = self.link(from_host, to_host);
        let mut at = self.now + self.latency(&faults, Matter::ResetLatency, from);
        if let Some(stream) = self.stream(from) {
            at = at.max(stream.not_before);
        }
        self.send(at, Event::Reset { to });
    }

    pub(crate) fn arrive_sent_reset(&mut self, to: Key) {
        let host = self.host_of(to);
        let Some(stream) = self.stream(to) else { return };
        let (from, is_vanished) = (stream.remote_host, stream.is_vanished);
        if !is_vanished && !self.is_severed(from, host) {
            self.arrive_reset(to, io::ErrorKind::ConnectionReset);
        }
    }

    pub(crate) fn arrive_reset(&mut self, to: Key, error: io::ErrorKind) {
        let host = self.host_of(to);
        let Some(stream) = self.stream(to) else { return };
        // Once both ends have come, there is nothing left that could be reset.
        let is_over = stream.is_ended && stream.has_end_arrived && stream.unsent.is_empty();
        if stream.is_reset || is_over {
            return;
        }
        let error = match error {
            io::ErrorKind::ConnectionReset if stream.is_connecting => {
                io::ErrorKind::ConnectionRefused
            }
            // The peer has ended already, so a reset is the answer to what we wrote.
            io::ErrorKind::ConnectionReset if stream.is_ended && !stream.is_shut => {
                io::ErrorKind::BrokenPipe
            }
            error => error,
        };
        stream.is_connecting = false;
        stream.is_reset = true;
        stream.error = Some(error);
        stream.unsent = VecDeque::new();
        stream.arrived = 0;
        let is_closed = stream.is_closed;
        self.log_error(host, "reset", to, error_name(error));
        if is_closed {
            self.forget(to);
        } else {
            self.wake(to);
        }
    }

    /// The network resets a connection in both directions, in place of so many bytes of `of`, unless they are lost.
    pub(crate) fn arrive_cut(&mut self, of: Key, rest: usize) {
        if self.is_lost(of) {
            return self.arrive_bytes(of, rest, 0);
        }
        let host = self.host_of(of);
        let Some(stream) = self.stream(of) else { return };
        let (peer, to) = (stream.peer, stream.remote_host);
        self.arrive_reset(peer, io::ErrorKind::ConnectionReset);
        if !self.is_severed(to, host) {
            self.arrive_reset(of, io::ErrorKind::ConnectionReset);
        }
    }

    /// From now on nothing reaches the other side of this connection, in either direction.
    pub(crate) fn vanish(&mut self, key: Key) {
        self.log(self.host_of(key), "vanish", key, 0);
        let Some(stream) = self.stream(key) else { return };
        stream.is_vanished = true;
        let peer = stream.peer;
        if let Some(peer) = self.stream(peer) {
            peer.is_vanished = true;
        }
    }

    /// A connection without faults any more. What was lost is on its way again already, except for a
    /// reset: whose peer has gone meanwhile learns of it now.
    pub(super) fn heal_stream(&mut self, key: Key) {
        let now = self.now;
        let Some(stream) = self.stream(key) else { return };
        stream.is_vanished = false;
        stream.reset_after = None;
        stream.not_before = now;
        stream.busy_until = now;
        let is_open = !stream.is_connecting && !stream.is_ended && !stream.is_reset;
        let peer = stream.peer;
        if is_open && self.stream(peer).is_none_or(|peer| peer.is_reset) {
            self.send(now, Event::Reset { to: key });
        }
    }
}
