//! Outbound connections, until they are open.

use log::debug;

use crate::address::SocketAddress;
use crate::core::Source;
use crate::driver::{ConnectConfig, Connecting, Driver, StreamKind};
use crate::error::{CloseReason, ConnectError};
use crate::key::Key;
use crate::reactor::Reactor;
use crate::stream::flag::*;

/// What a connection to, or from, such an address is made of.
pub(crate) fn kind_of(address: &SocketAddress) -> StreamKind {
    match address {
        SocketAddress::Inet(_) => StreamKind::Tcp,
        SocketAddress::Unix(_) | SocketAddress::Unnamed => StreamKind::Unix,
    }
}

/// The flags with which a connection of this kind begins.
pub(crate) fn flags_of(kind: StreamKind) -> u32 {
    match kind {
        StreamKind::Tcp => 0,
        StreamKind::Unix => GENERAL,
    }
}

impl<D: Driver> Reactor<D> {
    /// The flush phase's part: carries out [`Context::connect`](crate::Context::connect).
    pub(crate) fn begin_connect(&mut self, key: Key, address: &SocketAddress) {
        let Some(stream) = self.core.stream_mut(key) else { return };
        if stream.has(DEAD) {
            return; // cancelled before it began
        }
        let timeout = stream.limits.connect_timeout;
        let kind = kind_of(address);
        let driver = &self.sockets.driver;
        let config = ConnectConfig { to: address, nodelay: true };
        let result = driver.connect(&config).and_then(|connecting| {
            let (socket, is_done) = match connecting {
                Connecting::Done(socket) => (socket, true),
                Connecting::UnderWay(socket) => (socket, false),
            };
            driver.register_stream(&socket, key, kind)?;
            Ok((socket, is_done))
        });
        match result {
            Ok((socket, is_done)) => {
                debug!("{key}: connecting to {address}");
                self.sockets.put(key, socket);
                let core = &mut self.core;
                let stream = core.sources.live(key);
                stream.phase_deadline = core.now + timeout;
                stream.flags |= flags_of(kind);
                core.arm(key);
                if is_done {
                    // No event will tell.
                    core.sources.live(key).flags |= WRITABLE;
                    core.queue(key);
                }
            }
            Err(error) => {
                debug!("{key}: connect to {address}: {error}");
                self.fail_connect(key, ConnectError::of_error(&error));
            }
        }
    }

    /// The ready phase's part: the socket is writable or has an error, so the connect is through,
    /// unless the hint was spurious.
    pub(crate) fn finish_connect(&mut self, key: Key) {
        let Some((driver, socket)) = self.sockets.with(key) else { return };
        match driver.connect_result(socket) {
            Ok(()) => {
                let core = &mut self.core;
                let Some(Source::Stream(stream)) = core.sources.get_mut(key) else { return };
                stream.flags &= !CONNECTING;
                stream.flags |= WRITABLE;
                core.stats.connects += 1;
                debug!("{key}: connected");
                self.open(key);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if let Some(stream) = self.core.stream_mut(key) {
                    stream.flags &= !(READABLE | WRITABLE | ERROR);
                }
            }
            Err(error) => {
                debug!("{key}: connect: {error}");
                self.fail_connect(key, ConnectError::of_error(&error));
            }
        }
    }

    /// The timer phase's part.
    pub(crate) fn time_out_connect(&mut self, key: Key) {
        self.fail_connect(key, ConnectError::TimedOut);
    }

    fn fail_connect(&mut self, key: Key, error: ConnectError) {
        let Some(stream) = self.core.stream_mut(key) else { return };
        if stream.has(DEAD) {
            return; // ended otherwise, in this very turn
        }
        stream.failure = Some(error);
        debug!("{key}: did not connect: {error}");
        self.core.end(key, CloseReason::Closed);
    }
}
