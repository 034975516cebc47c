//! What can be changed while the reactor runs: listeners and limits.

use std::io;
use std::rc::Rc;

use log::{Level, info, log};

use crate::address::SocketAddress;
use crate::command::Command;
use crate::context::Context;
use crate::core::{Core, Source};
use crate::datagram::check_gathering;
use crate::driver::{Driver, ListenConfig};
use crate::error::CloseReason;
use crate::key::Key;
use crate::limits::{Limits, ReactorLimits};
use crate::listener::{ListenOptions, Listener, ListenerId};
use crate::reactor::Reactor;
use crate::reactor::listen::explain;

impl Core {
    /// Its key is good from now on, the driver hears of it in the flush phase.
    pub(crate) fn listen(
        &mut self,
        handler: u16,
        address: SocketAddress,
        options: &ListenOptions,
    ) -> ListenerId {
        if self.stopping {
            return ListenerId(Key::NONE);
        }
        let limits = Rc::new(options.limits.clone());
        let listener = Listener::new(handler, limits, options.backlog_or_default());
        let key = self.sources.insert(Source::Listener(Box::new(listener)));
        let options = Box::new(options.clone());
        self.commands.push_back(Command::Listen { key, handler, address, options });
        ListenerId(key)
    }

    pub(crate) fn close_listener(&mut self, listener: ListenerId) {
        if self.listener_mut(listener.0).is_some() {
            self.end(listener.0, CloseReason::Closed);
        }
    }

    /// For the connections that are accepted from now on; whether there is such a listener.
    pub(crate) fn set_listener_limits(&mut self, id: ListenerId, limits: Rc<Limits>) -> bool {
        let Some(listener) = self.listener_mut(id.0) else { return false };
        listener.limits = limits;
        // Who was full may not be any more.
        self.commands.push_back(Command::WakeListeners);
        true
    }
}

pub(super) fn drains() -> io::Error {
    io::Error::other("the reactor drains")
}

fn never_opened(address: &SocketAddress, why: &str) -> io::Error {
    explain(address, &io::Error::new(io::ErrorKind::NotConnected, why))
}

impl<D: Driver> Reactor<D> {
    /// Makes the socket of a listener that has its key.
    pub(super) fn open_listener(
        &mut self,
        key: Key,
        address: &SocketAddress,
        options: &ListenOptions,
    ) -> io::Result<SocketAddress> {
        let explain = |error| explain(address, &error);
        if self.core.drain.is_some() {
            return Err(explain(drains()));
        }
        options.socket.check().map_err(explain)?;
        options.check(address).map_err(explain)?;
        let config = ListenConfig {
            address: address.clone(),
            backlog: options.backlog_or_default(),
            reuse_port: options.reuse_port,
            only_v6: options.only_v6,
            options: options.socket.clone(),
            unix_mode: options.unix_mode,
            replace_stale: options.replace_stale,
        };
        let (socket, guard) = self.sockets.driver.listen(&config).map_err(explain)?;
        let address = self.install_listener(key, socket).map_err(explain)?;
        self.guards.extend(guard.map(|guard| (key, guard)));
        Ok(address)
    }

    /// Gives a listener that has its key its socket, which listens.
    pub(super) fn install_listener(
        &mut self,
        key: Key,
        socket: D::Socket,
    ) -> io::Result<SocketAddress> {
        let driver = &mut self.sockets.driver;
        let address = driver.local_address(&socket)?;
        driver.register_listener(&socket, key)?; // the last that can fail: it may be somebody else's, too
        info!("{key}: listening on {address}");
        let (connections_max, descriptors) =
            (self.core.limits.connections_max, driver.descriptors_max());
        if self.listeners.is_empty() && connections_max >= descriptors {
            let is_default = connections_max == ReactorLimits::new().connections_max;
            log!(
                if is_default { Level::Info } else { Level::Warn },
                "this process may have {descriptors} descriptors, which end before the limit connections_max \
                 ({connections_max}): clients are turned away then, and do not wait; raise_descriptor_limit raises it"
            );
        }
        self.sockets.put(key, socket);
        self.listeners.push(key);
        Ok(address)
    }

    /// The flush phase's part: a callback asked for a listener.
    pub(super) fn begin_listening(
        &mut self,
        key: Key,
        handler: u16,
        address: &SocketAddress,
        options: &ListenOptions,
    ) {
        let is_wanted = self.core.listener_mut(key).is_some_and(|listener| !listener.dead);
        let result = match is_wanted {
            true => self.open_listener(key, address, options),
            false => Err(never_opened(address, "it was closed before it opened")),
        };
        if result.is_err() {
            self.core.end(key, CloseReason::Closed);
        }
        self.tell_listening(key, handler, result);
    }

    fn tell_listening(&mut self, key: Key, handler: u16, result: io::Result<SocketAddress>) {
        let mut cx = Context { core: &mut self.core, host: &self.sockets, handler };
        self.handlers[usize::from(handler)].listening(ListenerId(key), result, &mut cx);
    }

    /// A stop's part: what callbacks asked for is not done any more, and who asked for a listener is told.
    pub(super) fn drop_commands(&mut self) {
        // Off the list before its callback, which may panic.
        while let Some(command) = self.core.commands.pop_front() {
            if let Command::Listen { key, handler, address, .. } = command {
                let error = never_opened(&address, "the reactor stopped before it opened");
                self.tell_listening(key, handler, Err(error));
            }
        }
    }

    /// The limits of the connections that a listener accepts.
    pub fn listener_limits(&self, listener: ListenerId) -> Option<&Limits> {
        match self.core.sources.get(listener.0) {
            Some(Source::Listener(listener)) => Some(&listener.limits),
            _ => None,
        }
    }

    /// Sets the limits of the connections that a listener accepts from now on, and how many these may
    /// be. Those that are open keep theirs; connections are counted by client address from when that
    /// limit is first set.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for limits that make no sense, `NotConnected` if the listener was closed.
    pub fn set_listener_limits(&mut self, listener: ListenerId, limits: Limits) -> io::Result<()> {
        limits.check()?;
        if !self.core.set_listener_limits(listener, Rc::new(limits)) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(())
    }

    /// The reactor's own limits.
    pub fn limits(&self) -> &ReactorLimits {
        &self.core.limits
    }

    /// Changes the reactor's own limits, between turns. With more connections than the new
    /// `connections_max`, nobody is closed, and nobody is accepted until there are fewer; over the new
    /// `memory_bytes_max`, the largest are shed at once.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, and nothing is changed: for limits that make no sense; for more connections than the reactor was
    /// made for, whose table cannot grow; and for a `read_buffer_bytes` under 65,535 while a socket
    /// [gathers](crate::DatagramOptions::gather).
    ///
    /// # Cost
    ///
    /// A walk over all sources.
    pub fn set_limits(&mut self, limits: ReactorLimits) -> io::Result<()> {
        limits.check()?;
        let made_for = self.made_for;
        if limits.connections_max > made_for {
            let message = format!(
                "the limit connections_max is {}; the reactor was made for {made_for}",
                limits.connections_max
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let gathers =
            |source: &Source| matches!(source, Source::Datagram(state) if state.gathers());
        if self.core.sources.iter().any(|(_, source)| gathers(source)) {
            check_gathering(&limits)?;
        }
        if limits.events_per_poll_max != self.core.limits.events_per_poll_max {
            self.sockets.driver.set_events_max(limits.events_per_poll_max);
        }
        if limits.read_buffer_bytes != self.input.len() {
            self.input = vec![0; limits.read_buffer_bytes].into_boxed_slice();
        }
        self.core.limits = limits;
        self.hold_to_memory();
        self.core.commands.push_back(Command::WakeListeners);
        Ok(())
    }
}
