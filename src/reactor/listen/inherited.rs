//! Listening on descriptors that others made.

use std::io;
use std::os::fd::OwnedFd;

use crate::driver::Mio;
use crate::handler::StreamHandler;
use crate::listener::{ListenOptions, ListenerId};
use crate::reactor::places::invalid;
use crate::reactor::reconfigure::drains;
use crate::reactor::{HandlerId, Reactor};

/// Hardly anybody has a backlog of more (listen(2), `net.core.somaxconn`).
const INHERITED_BACKLOG_MAX: u32 = 65_535;

impl Reactor {
    /// Listens on a socket that listens already: one that the process inherited (see `Inherited`, with the feature
    /// `systemd`), or that was made elsewhere. It gets the [socket options](ListenOptions::socket) that are given,
    /// and the [backlog](ListenOptions::backlog) if one is. Whoever shares the socket shares these, and that it
    /// is made non-blocking; as long as somebody else has it, closing it here does not close the door, and who comes
    /// then waits.
    ///
    /// # Platform notes
    ///
    /// On Unix only. On macOS it cannot be seen whether a socket listens, unless it is connected.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no socket, none of TCP or a Unix stream, or does not listen; if an option is asked
    /// for that has to be set before a socket is bound: [`reuse_port`](ListenOptions::reuse_port),
    /// [`only_v6`](ListenOptions::only_v6), [`unix_mode`](ListenOptions::unix_mode),
    /// [`device`](crate::SocketOptions::device),
    /// [`freebind`](crate::SocketOptions::freebind). Otherwise as
    /// [`listen_with`](Reactor::listen_with).
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor, or from
    /// [`add_datagram_handler`](Reactor::add_datagram_handler).
    pub fn listen_fd<H: StreamHandler>(
        &mut self,
        handler: HandlerId<H>,
        socket: OwnedFd,
        options: &ListenOptions,
    ) -> io::Result<ListenerId> {
        self.core.assert_serves(handler);
        options.limits.check()?;
        options.socket.check()?;
        for (is_asked, name) in [
            (options.reuse_port, "reuse_port"),
            (options.only_v6, "only_v6"),
            (options.unix_mode.is_some(), "unix_mode"),
            (options.socket.device.is_some(), "device"),
            (options.socket.freebind, "freebind"),
        ] {
            if is_asked {
                let message =
                    format!("{name} is to be set before a socket is bound, and this one is");
                return Err(invalid(&message));
            }
        }
        if self.core.drain.is_some() {
            return Err(drains());
        }
        Mio::adopt_listener(&socket, options.backlog, &options.socket)?;
        // Whoever made it has chosen its backlog, which is not asked for: a drain takes in the most that may wait.
        let backlog = options.backlog.unwrap_or(INHERITED_BACKLOG_MAX);
        let key = self.new_listener(handler.index, options, backlog);
        if let Err(error) = self.install_listener(key, socket) {
            self.core.sources.remove(key);
            return Err(error);
        }
        Ok(ListenerId(key))
    }
}
