//! Listening, between turns.

#[cfg(unix)]
mod inherited;

use std::fmt::Display;
use std::io;
use std::rc::Rc;

use crate::address::{Address, IntoAddress, SocketAddress};
use crate::command::Host as _;
use crate::core::Source;
use crate::driver::Driver;
use crate::handler::StreamHandler;
use crate::key::Key;
use crate::listener::{ListenOptions, Listener, ListenerId};
use crate::reactor::places::{self, invalid};
use crate::reactor::{HandlerId, Reactor};

/// An error of listening, with what was to be listened on.
pub(super) fn explain(place: impl Display, error: &io::Error) -> io::Error {
    places::explain(format_args!("listen on {place}"), error)
}

impl<D: Driver> Reactor<D> {
    /// Listens for `handler` with the default options: on `127.0.0.1:7000`, `localhost:http`,
    /// `unix:/run/app.sock`, or what else stands for an [`Address`] of a stream. `*:7000` is `[::]:7000`, which takes
    /// the clients of both families, and `0.0.0.0:7000` where there is no IPv6. If a name stands for several
    /// addresses, it is the first that can be bound; [`listen_all`](Self::listen_all) takes all of them. Call it
    /// again for more addresses.
    ///
    /// # Errors
    ///
    /// With the address: those of looking it up ([`Address::look_up`]), of socket(2), bind(2), listen(2) and
    /// epoll_ctl(2), `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`, ... `InvalidInput` if it cannot be
    /// read, is a datagram socket's, or is an inherited socket, for which there is
    /// [`listen_fd`](Reactor::listen_fd).
    ///
    /// # Cost
    ///
    /// Names are looked up, which may block, also in simulation: give numbers there.
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor, or from
    /// [`add_datagram_handler`](Reactor::add_datagram_handler).
    pub fn listen<H: StreamHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: impl IntoAddress,
    ) -> io::Result<ListenerId> {
        self.listen_with(handler, address, &ListenOptions::new())
    }

    /// Listens with options.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen); `InvalidInput` for limits and options that make no sense, `Unsupported` for
    /// [socket options](crate::SocketOptions) that such a socket cannot have.
    ///
    /// # Panics
    ///
    /// As [`listen`](Self::listen).
    pub fn listen_with<H: StreamHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: impl IntoAddress,
        options: &ListenOptions,
    ) -> io::Result<ListenerId> {
        self.core.assert_serves(handler);
        options.limits.check()?;
        let places = self.places(address)?;
        self.listen_first(handler.index, &places, options)
    }

    /// Listens on all addresses that a name stands for, or on none. With port 0 each of them gets a port of its
    /// own.
    ///
    /// # Errors
    ///
    /// As [`listen_with`](Self::listen_with), for the first one that cannot be bound.
    ///
    /// # Panics
    ///
    /// As [`listen`](Self::listen).
    pub fn listen_all<H: StreamHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: impl IntoAddress,
        options: &ListenOptions,
    ) -> io::Result<Vec<ListenerId>> {
        self.core.assert_serves(handler);
        options.limits.check()?;
        let places = self.places(address)?;
        self.listen_everywhere(handler.index, &places, options)
    }

    /// Where to listen, by an address. At least one place.
    fn places(&self, address: impl IntoAddress) -> io::Result<Vec<SocketAddress>> {
        let address =
            address.into_address().map_err(|error| explain("an address", &error.into()))?;
        let places = match &address {
            Address::Udp(_) | Address::UnixDatagram(_) => {
                Err(invalid("a datagram socket has no connections to accept"))
            }
            address => self.places_of(address, "listen_fd"),
        };
        places.map_err(|error| explain(&address, &error))
    }

    fn listen_first(
        &mut self,
        handler: u16,
        places: &[SocketAddress],
        options: &ListenOptions,
    ) -> io::Result<ListenerId> {
        let mut result = Err(invalid("the address stands for no place"));
        for place in places {
            result = self.listen_on(handler, place, options);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn listen_everywhere(
        &mut self,
        handler: u16,
        places: &[SocketAddress],
        options: &ListenOptions,
    ) -> io::Result<Vec<ListenerId>> {
        let mut listeners = Vec::new();
        for place in places {
            match self.listen_on(handler, place, options) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    // At once, because nobody has heard of them: nobody gets in by what failed.
                    listeners.into_iter().for_each(|listener| self.forget_listener(listener));
                    return Err(error);
                }
            }
        }
        Ok(listeners)
    }

    fn listen_on(
        &mut self,
        handler: u16,
        place: &SocketAddress,
        options: &ListenOptions,
    ) -> io::Result<ListenerId> {
        let key = self.new_listener(handler, options, options.backlog_or_default());
        if let Err(error) = self.open_listener(key, place, options) {
            self.core.sources.remove(key);
            return Err(error);
        }
        Ok(ListenerId(key))
    }

    fn new_listener(&mut self, handler: u16, options: &ListenOptions, backlog: u32) -> Key {
        let limits = Rc::new(options.limits.clone());
        let listener = Listener::new(handler, limits, backlog);
        self.core.sources.insert(Source::Listener(Box::new(listener)))
    }

    fn forget_listener(&mut self, listener: ListenerId) {
        self.core.sources.remove(listener.0);
        self.sockets.take(listener.0);
        self.listeners.retain(|key| *key != listener.0);
    }

    /// The address that a listener really has: the port, when it was asked to bind to port 0.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2); `NotConnected` if the listener was closed.
    pub fn listener_address(&self, listener: ListenerId) -> io::Result<SocketAddress> {
        match self.core.sources.get(listener.0) {
            Some(Source::Listener(_)) => self.sockets.local_address(listener.0),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Closes a listener, in the next turn; its connections go on. The kernel resets the connections
    /// in its backlog that were not accepted.
    pub fn close_listener(&mut self, listener: ListenerId) {
        self.core.close_listener(listener);
    }
}

#[cfg(test)]
mod tests;
