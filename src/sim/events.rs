//! How a host hears of its sockets: epoll(7), as Linux does it, or as little as mio promises.

use super::decisions::{Matter, Numbers};
use super::faults::Kernel;
use super::net::Net;
use super::socket::{Kind, Owner};
use crate::driver::{Event, StreamKind};
use crate::key::Key;
use crate::readiness::Readiness;
use crate::signal::Signals;

/// How many sockets are remembered for spurious events.
const LATELY_MAX: usize = 32;

pub(super) const BOTH: Readiness = Readiness(Readiness::READABLE.0 | Readiness::WRITABLE.0);

/// What is asked for by registering.
fn asked(kind: StreamKind, is_writable: bool) -> Readiness {
    match kind {
        StreamKind::Tcp => BOTH,
        _ if is_writable => BOTH,
        _ => Readiness::READABLE,
    }
}

impl Net {
    /// Something about a socket has changed.
    pub(crate) fn wake(&mut self, key: Key) {
        let kernel = self.kernel;
        let Some(sock) = self.sockets.get_mut(key) else { return };
        match sock.owner {
            Owner::Nobody => {}
            Owner::Client(index) => self.clients_due.push_back(index),
            Owner::Reactor(_) => {
                if kernel == Kernel::Contract {
                    let news = Readiness(sock.told().0 & sock.armed.0);
                    sock.pending = sock.pending | news;
                    if sock.pending == Readiness::EMPTY {
                        return;
                    }
                }
                if !std::mem::replace(&mut sock.is_queued, true) {
                    let host = sock.host;
                    self.host(host).ready.push_back(key);
                }
            }
        }
    }

    /// A socket has become writable, and nothing else.
    pub(crate) fn wake_writable(&mut self, key: Key) {
        if self.sockets.get(key).is_some_and(|sock| sock.asked.contains(Readiness::WRITABLE)) {
            self.wake(key);
        }
    }

    /// A call said `WouldBlock`: the next change may be reported.
    pub(crate) fn arm(&mut self, key: Key, what: Readiness) {
        if let Some(sock) = self.sockets.get_mut(key) {
            sock.armed = sock.armed | what;
        }
    }

    pub(crate) fn register(&mut self, socket: Key, key: Key, kind: StreamKind) {
        let Some(sock) = self.sockets.get_mut(socket) else { return };
        sock.owner = Owner::Reactor(key);
        sock.armed = BOTH;
        sock.asked = asked(kind, false);
        let (host, is_ready) = (sock.host, sock.readiness() != Readiness::EMPTY);
        let lately = &mut self.host(host).lately;
        if lately.len() == LATELY_MAX {
            lately.pop_front();
        }
        lately.push_back(socket);
        self.log(host, "register", socket, 0);
        if is_ready {
            self.wake(socket);
        }
    }

    /// Has a socket that is not TCP reported as writable, or not. What is possible already is told, as with
    /// every registration.
    pub(crate) fn ask_writable(&mut self, socket: Key, yes: bool) {
        let Some(sock) = self.sockets.get_mut(socket) else { return };
        sock.armed = BOTH;
        sock.asked = asked(StreamKind::Unix, yes);
        sock.pending = Readiness(sock.pending.0 & sock.asked.0);
        let host = sock.host;
        self.log(host, "ask writable", socket, u64::from(yes));
        self.wake(socket);
    }

    /// Has a listener reported, or not.
    pub(crate) fn set_listening(&mut self, socket: Key, on: bool) {
        let Some(sock) = self.sockets.get_mut(socket) else { return };
        if let Kind::Listener(listener) = &mut sock.kind {
            listener.is_on = on;
        }
        if on {
            self.wake(socket);
        }
    }

    /// Takes what a host has to be told, at most so much; whether the poll goes on, as there is nothing, and it is not interrupted.
    pub(crate) fn collect(
        &mut self,
        host: u32,
        events_per_poll_max: usize,
        events: &mut Vec<Event>,
    ) -> bool {
        events.clear();
        let faults = self.faults(host);
        let waiting = self.host(host).ready.len();
        let of = host as usize;
        let interrupted = if waiting > 0 { faults.interrupted_polls } else { 0.0 };
        if self.decisions.chance(Matter::InterruptedPoll, of, interrupted).is_some() {
            self.log_error(host, "poll", Key::NONE, "Interrupted");
            return false;
        }
        if self.host(host).mail.take_wake() {
            events.push(Event { key: Key::WAKER, readiness: Readiness::READABLE });
        }
        let mut take = waiting.min(events_per_poll_max - events.len());
        let truncated = if take > 1 { faults.truncated_events } else { 0.0 };
        if let Some(mut how) = self.decisions.chance(Matter::TruncatedEvents, of, truncated) {
            take -= how.below(take as u64) as usize;
        }
        // Each that waits is looked at once; one that has nothing to tell any more takes nobody's place.
        let events_max = events.len() + take;
        for _ in 0..waiting {
            if events.len() == events_max {
                break;
            }
            let Some(socket) = self.host(host).ready.pop_front() else { break };
            events.extend(self.report(host, socket));
        }
        let mut spurious_at = None;
        let has_room = events.len() < events_per_poll_max;
        let spurious = if has_room { faults.spurious_events } else { 0.0 };
        if let Some(how) = self.decisions.chance(Matter::SpuriousEvent, of, spurious) {
            let event = self.spurious(host, how);
            spurious_at = event.is_some().then_some(events.len());
            events.extend(event);
        }
        let reordered = if events.len() > 1 { faults.reordered_events } else { 0.0 };
        if let Some(mut how) = self.decisions.chance(Matter::ReorderedEvents, of, reordered) {
            for index in (1..events.len()).rev() {
                let other = how.below(index as u64 + 1) as usize;
                events.swap(index, other);
                spurious_at = match spurious_at {
                    Some(at) if at == index => Some(other),
                    Some(at) if at == other => Some(index),
                    at => at,
                };
            }
        }
        if self.host(host).signals != Signals::default() {
            events.push(Event { key: Key::SIGNALS, readiness: Readiness::READABLE });
        }
        for (index, event) in events.iter().enumerate() {
            if event.key == Key::WAKER {
                self.log(host, "woken", Key::NONE, 0);
                continue;
            }
            let what = if spurious_at == Some(index) { "spurious" } else { "event" };
            self.log_event(host, what, *event);
        }
        events.is_empty()
    }

    fn report(&mut self, host: u32, socket: Key) -> Option<Event> {
        let kernel = self.kernel;
        let sock = self.sockets.get_mut(socket)?;
        sock.is_queued = false;
        let Owner::Reactor(key) = sock.owner else { return None };
        let readiness = sock.told();
        if kernel == Kernel::Contract {
            return self.report_contract(socket, key);
        }
        if let Kind::Listener(listener) = &sock.kind {
            if !listener.is_on {
                return None;
            }
            if readiness != Readiness::EMPTY {
                // A level: it is reported again as long as it is true.
                sock.is_queued = true;
                self.host(host).ready.push_back(socket);
            }
        }
        (readiness != Readiness::EMPTY).then_some(Event { key, readiness })
    }

    fn report_contract(&mut self, socket: Key, key: Key) -> Option<Event> {
        let sock = self.sockets.get_mut(socket)?;
        let mut readiness = std::mem::take(&mut sock.pending);
        let hints = Readiness(sock.readiness().0 & !BOTH.0);
        // Two news of one socket may be two events.
        let split = if readiness == BOTH { 0.25 } else { 0.0 };
        let of = socket.index();
        if let Some(mut how) = self.decisions.chance(Matter::SplitEvent, of, split) {
            let later = [Readiness::READABLE, Readiness::WRITABLE];
            let later = later[how.below(2) as usize];
            readiness = Readiness(readiness.0 & !later.0);
            let sock = self.sockets.get_mut(socket)?;
            sock.pending = later;
            sock.is_queued = true;
            let host = sock.host;
            self.host(host).ready.push_back(socket);
        }
        let sock = self.sockets.get_mut(socket)?;
        sock.armed = Readiness(sock.armed.0 & !readiness.0);
        if readiness == Readiness::EMPTY {
            return None;
        }
        // What else is true may be told, or not.
        let missing = if hints == Readiness::EMPTY { 0.0 } else { 0.5 };
        let is_told = self.decisions.chance(Matter::MissingHint, of, missing).is_none();
        Some(Event { key, readiness: if is_told { readiness | hints } else { readiness } })
    }

    fn spurious(&mut self, host: u32, mut how: Numbers) -> Option<Event> {
        let count = self.host(host).lately.len() as u64;
        let index = how.below(count) as usize;
        let socket = *self.host(host).lately.get(index)?;
        let sock = self.sockets.get(socket)?;
        let Owner::Reactor(key) = sock.owner else { return None };
        let hints = [Readiness::READABLE, Readiness::WRITABLE, BOTH];
        let readiness = hints[how.below(3) as usize];
        Some(Event { key, readiness })
    }
}
