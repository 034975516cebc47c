//! Who connects, and where nobody answers.

use std::net::SocketAddr;

use oneloop::{ConnectError, Context, HandlerId, Key, ReactorLimits};

use super::*;

/// A port that does not answer: its backlog is full, so the kernel drops every SYN.
pub struct BlackHole {
    listener: TcpListener,
    filler: TcpStream,
    pub address: SocketAddr,
}

impl BlackHole {
    pub fn new() -> BlackHole {
        let listener = listen_with_backlog(0);
        let address = listener.local_addr().unwrap();
        BlackHole { filler: connect(address), listener, address }
    }

    /// Makes room, and gives both ends of what made it.
    pub fn open(self) -> (TcpListener, TcpStream, TcpStream) {
        let (accepted, _) = self.listener.accept().unwrap();
        (self.listener, accepted, self.filler)
    }
}

/// A reactor that only connects.
pub struct Client {
    pub reactor: Reactor,
    pub handler: HandlerId<Recorder>,
    pub calls: Calls,
}

impl Client {
    pub fn new(recorder: Recorder) -> Client {
        Client::with(recorder, ReactorLimits::new().connections_max(64))
    }

    pub fn with(recorder: Recorder, limits: ReactorLimits) -> Client {
        let mut reactor = Reactor::with_limits(limits).unwrap();
        let calls = recorder.calls.clone();
        let handler = reactor.add(recorder);
        Client { reactor, handler, calls }
    }

    pub fn cx(&mut self) -> Context<'_> {
        self.reactor.context(self.handler)
    }

    pub fn until(&mut self, what: &str, is_done: impl Fn(&Calls) -> bool) {
        let calls = self.calls.clone();
        run_until(&mut self.reactor, &format!("{what}: {calls:?}"), |_| is_done(&calls));
    }

    /// Waits until so many attempts have failed, and some more, and gives which.
    pub fn failed(&mut self, count: usize) -> Vec<(Key, u64, ConnectError)> {
        self.until("attempts fail", |calls| failures(calls).len() >= count);
        assert_idle(&mut self.reactor);
        let failures = failures(&self.calls);
        assert_eq!(failures.len(), count, "{failures:?}");
        assert_eq!(self.calls.opened(), []);
        assert_eq!(self.calls.closed(), []);
        assert_eq!(self.reactor.stats().connect_failures, count as u64);
        assert_eq!(self.reactor.connections(), 0);
        failures
    }
}

pub fn failures(calls: &Calls) -> Vec<(Key, u64, ConnectError)> {
    let all = calls.all();
    all.iter()
        .filter_map(|call| match call {
            Call::ConnectFailed(key, tag, error) => Some((*key, *tag, *error)),
            _ => None,
        })
        .collect()
}
