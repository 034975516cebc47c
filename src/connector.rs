//! Outbound connections, until they are open.

use std::net::SocketAddr;

use log::debug;

use crate::core::Source;
use crate::driver::Driver;
use crate::error::{CloseReason, ConnectError};
use crate::key::Key;
use crate::reactor::Reactor;
use crate::stream::flag::*;

impl<D: Driver> Reactor<D> {
    /// The flush phase's part: carries out [`Context::connect`](crate::Context::connect).
    pub(crate) fn begin_connect(&mut self, key: Key, address: SocketAddr) {
        let Some(stream) = self.core.stream_mut(key) else { return };
        if stream.has(DEAD) {
            return; // cancelled before it began
        }
        let timeout = stream.limits.connect_timeout;
        let driver = &mut self.sockets.driver;
        let result = driver.connect(address, true).and_then(|socket| {
            driver.register_stream(&socket, key)?;
            Ok(socket)
        });
        match result {
            Ok(socket) => {
                debug!("{key}: connecting to {address}");
                self.sockets.put(key, socket);
                let core = &mut self.core;
                core.sources.live(key).phase_deadline = core.now + timeout;
                core.arm(key);
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
