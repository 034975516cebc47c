//! Binding datagram sockets, between turns and from callbacks.

use std::fmt::Display;
use std::io;

use log::{debug, info};

use super::any::{AnyDatagram, Calls};
use super::{DatagramOptions, DatagramState};
use crate::address::{Address, IntoAddress, SocketAddress};
use crate::command::{Command, Host as _};
use crate::context::Context;
use crate::core::{Core, Source};
use crate::driver::{DatagramConfig, Driver};
use crate::error::CloseReason;
use crate::handler::DatagramHandler;
use crate::key::Key;
use crate::limits::ReactorLimits;
use crate::reactor::places::{self, invalid};
use crate::reactor::{HandlerId, Reactor};

/// What the kernel gathers fits into one packet.
const GATHERED_BYTES_MAX: usize = 65_535;

/// An error of binding, with what was to be bound to.
fn explain(place: impl Display, error: &io::Error) -> io::Error {
    places::explain(format_args!("bind to {place}"), error)
}

/// A place as the place of datagrams, which one for streams may have, too.
fn shown(place: &SocketAddress) -> String {
    match place {
        SocketAddress::Inet(address) => format!("udp://{address}"),
        SocketAddress::Unix(name) => Address::UnixDatagram(name.clone()).to_string(),
        SocketAddress::Unnamed => "no name, as a Unix datagram socket".to_string(),
    }
}

impl Core {
    fn new_datagrams(
        &mut self,
        handler: u16,
        calls: &'static dyn AnyDatagram,
        options: &DatagramOptions,
    ) -> Key {
        self.stats.datagram_sockets += 1;
        let state = DatagramState::new(handler, calls, options);
        self.sources.insert(Source::Datagram(Box::new(state)))
    }

    /// Its key is good from now on, the driver hears of it in the flush phase.
    pub(super) fn bind(
        &mut self,
        handler: u16,
        calls: &'static dyn AnyDatagram,
        address: SocketAddress,
        options: &DatagramOptions,
    ) -> Key {
        if self.stopping {
            return Key::NONE;
        }
        let key = self.new_datagrams(handler, calls, options);
        let options = Box::new(options.clone());
        self.commands.push_back(Command::Bind { key, address, options });
        key
    }
}

impl Context<'_> {
    /// Binds a datagram socket for a handler, in this turn's flush phase, or the next one's if that has begun.
    /// [`on_bound`](DatagramHandler::on_bound) tells when it is bound,
    /// [`on_bind_failed`](DatagramHandler::on_bind_failed) why it is not. What is sent with the key before that
    /// leaves when it is bound. While the reactor stops it does nothing, and the key finds nothing. For the handler
    /// of the callback itself there is [`DatagramSocket::bind`](crate::DatagramSocket::bind).
    ///
    /// Names are not looked up here, which would block: it is an address, or a name of a Unix socket, or
    /// [`SocketAddress::Unnamed`] for one without.
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor.
    pub fn bind_for<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: impl Into<SocketAddress>,
        options: &DatagramOptions,
    ) -> Key {
        self.core.assert_own(handler);
        self.core.bind(handler.index, Calls::<H>::OBJECT, address.into(), options)
    }
}

/// A read buffer that all fits in that the kernel may gather.
pub(crate) fn check_gathering(limits: &ReactorLimits) -> io::Result<()> {
    if limits.read_buffer_bytes < GATHERED_BYTES_MAX {
        return Err(invalid("to gather, the limit read_buffer_bytes must be at least 65535"));
    }
    Ok(())
}

impl<D: Driver> Reactor<D> {
    /// Binds a datagram socket for `handler`, with the default options: to `127.0.0.1:53`, `*:domain`,
    /// `localhost:7000`, `unix:/run/log.sock`, or what else stands for an [`Address`]. What is TCP or a Unix stream
    /// where one listens is UDP or a Unix datagram socket here; `udp://` and `unixgram:` may be said.
    /// `*:53` is `[::]:53`, which takes the senders of both families, and `0.0.0.0:53` where there is no IPv6; what is
    /// answered there leaves from the address that was asked, on Linux only ([`Datagram::to`](crate::Datagram::to)). If a
    /// name stands for several addresses, it is the first that can be bound. To send only, or from any port, bind to
    /// port 0. Call it again for more addresses.
    ///
    /// The handler is one that was [added](Self::add_datagram_handler) for datagrams, or for connections if it
    /// implements both traits.
    ///
    /// # Errors
    ///
    /// With the address: those of looking it up ([`Address::look_up`]), of socket(2), bind(2), connect(2) and
    /// epoll_ctl(2), `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`, ... `InvalidInput` if it cannot be read, or
    /// is an inherited socket, for which there is [`bind_fd`](Reactor::bind_fd).
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor.
    ///
    /// # Cost
    ///
    /// Names are looked up, which may block, also in simulation: give numbers there.
    pub fn bind<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: impl IntoAddress,
    ) -> io::Result<Key> {
        self.bind_with(handler, address, &DatagramOptions::new())
    }

    /// Binds a datagram socket with options.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind), and those of setsockopt(2) for the options; `InvalidInput` for limits that
    /// make no sense, `Unsupported` for options that such a socket cannot have.
    ///
    /// # Panics
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_with<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        address: impl IntoAddress,
        options: &DatagramOptions,
    ) -> io::Result<Key> {
        self.core.assert_own(handler);
        options.limits.check()?;
        let mut result = Err(invalid("the address stands for no place"));
        for place in self.datagram_places(address)? {
            result = self.bind_to(handler, &place, options);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Makes a Unix datagram socket without a name, for who only sends: nobody can send to it, not even an answer.
    ///
    /// # Errors
    ///
    /// As [`bind_with`](Self::bind_with).
    ///
    /// # Panics
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_unnamed<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        options: &DatagramOptions,
    ) -> io::Result<Key> {
        self.core.assert_own(handler);
        options.limits.check()?;
        self.bind_to(handler, &SocketAddress::Unnamed, options)
    }

    /// Where to bind, by an address. At least one place.
    fn datagram_places(&self, address: impl IntoAddress) -> io::Result<Vec<SocketAddress>> {
        let address =
            address.into_address().map_err(|error| explain("an address", &error.into()))?;
        let address = match address {
            Address::Tcp(endpoint) => Address::Udp(endpoint),
            Address::Unix(name) => Address::UnixDatagram(name),
            address => address,
        };
        self.places_of(&address, "bind_fd").map_err(|error| explain(&address, &error))
    }

    fn bind_to<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        place: &SocketAddress,
        options: &DatagramOptions,
    ) -> io::Result<Key> {
        let key = self.core.new_datagrams(handler.index, Calls::<H>::OBJECT, options);
        let result = self.open_datagrams(key, place, options);
        self.keep_if_open(key, result)
    }

    /// A key of which nobody has heard yet is forgotten if its socket could not be had.
    fn keep_if_open(&mut self, key: Key, result: io::Result<SocketAddress>) -> io::Result<Key> {
        match result {
            Ok(address) => {
                info!("{key}: datagrams, listening on {address}");
                Ok(key)
            }
            Err(error) => {
                self.core.sources.remove(key);
                self.core.stats.datagram_sockets -= 1;
                Err(error)
            }
        }
    }

    /// Makes the socket of a key, and binds it: to which address.
    fn open_datagrams(
        &mut self,
        key: Key,
        place: &SocketAddress,
        options: &DatagramOptions,
    ) -> io::Result<SocketAddress> {
        let explain = |error| explain(shown(place), &error);
        self.check_gathering(options).and_then(|()| options.check(place)).map_err(explain)?;
        let config = DatagramConfig { address: place, options };
        let (socket, guard) = self.sockets.driver.bind(&config).map_err(explain)?;
        let is_unix = place.inet().is_none();
        let peer = options.connect.clone();
        let address = self.install_datagrams(key, socket, is_unix, peer).map_err(explain)?;
        self.guards.extend(guard.map(|guard| (key, guard)));
        Ok(address)
    }

    fn check_gathering(&self, options: &DatagramOptions) -> io::Result<()> {
        if options.gather { check_gathering(&self.core.limits) } else { Ok(()) }
    }

    /// Gives a key its socket, which is bound, and connected to `peer` if that is anybody. To which address it is bound.
    fn install_datagrams(
        &mut self,
        key: Key,
        socket: D::Socket,
        is_unix: bool,
        peer: Option<SocketAddress>,
    ) -> io::Result<SocketAddress> {
        let driver = &self.sockets.driver;
        let address = driver.local_address(&socket)?;
        driver.register_datagram(&socket, key)?; // the last that can fail: it may be somebody else's, too
        let has_begun_draining = self.core.drain.as_ref().is_some_and(|drain| drain.has_begun);
        let Some(Source::Datagram(state)) = self.core.sources.get_mut(key) else {
            unreachable!("it was made for it");
        };
        let handler = &self.handlers[usize::from(state.handler)];
        state.context = state.calls.context(&**handler, state.handler);
        state.is_anywhere = address.inet().is_some_and(|address| address.ip().is_unspecified());
        state.is_unix = is_unix;
        state.peer = peer;
        state.is_unbound = false;
        state.owes_bound = true;
        state.drain_left = has_begun_draining.then_some(0);
        self.sockets.put(key, socket);
        self.core.queue(key);
        Ok(address)
    }

    /// The flush phase's part: a callback asked for a socket.
    pub(crate) fn begin_binding(
        &mut self,
        key: Key,
        address: &SocketAddress,
        options: &DatagramOptions,
    ) {
        if !self.core.is_live(key) {
            return; // it was closed meanwhile, which the reap phase tells
        }
        let limits = options.limits.check();
        let error = match limits.and_then(|()| self.open_datagrams(key, address, options)) {
            Ok(address) => return debug!("{key}: datagrams, listening on {address}"),
            Err(error) => error,
        };
        if let Some(state) = self.core.datagram_mut(key) {
            state.failure = Some(error);
            self.core.end(key, CloseReason::Closed);
        }
    }

    /// The reap phase's part: one that was never bound.
    pub(super) fn tell_bind_failed(&mut self, key: Key, state: &mut DatagramState) {
        let why = match state.reason {
            Some(CloseReason::Stopped) => "the reactor stopped before it was bound",
            _ => "it was closed before it was bound",
        };
        let never = || io::Error::new(io::ErrorKind::NotConnected, why);
        let error = state.failure.take().unwrap_or_else(never);
        let handler = &mut self.handlers[usize::from(state.handler)];
        let context = state.calls.context(&**handler, state.handler);
        let mut cx = Context { core: &mut self.core, host: &self.sockets, handler: context };
        state.calls.bind_failed(&mut **handler, key, error, &mut cx);
    }

    /// The address that a datagram socket is bound to: the port, when it was asked to bind to port 0.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2); `NotConnected` if the socket was closed, or is not bound yet.
    pub fn datagram_address(&self, socket: Key) -> io::Result<SocketAddress> {
        match self.core.sources.get(socket) {
            Some(Source::Datagram(_)) => self.sockets.local_address(socket),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

#[cfg(unix)]
impl Reactor {
    /// Takes in a datagram socket that is bound already: one that the process inherited (see `Inherited`, with the
    /// feature `systemd`), or that was made elsewhere, as by socketpair(2). One that is connected stays so; others
    /// are if the options [say](DatagramOptions::connect) so. Whoever shares the socket shares the options that
    /// are set on it, that it is made non-blocking, and its datagrams: each of them comes to one of those who
    /// receive. A path that it is bound to stays when it is closed: it is whose who made it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no socket, or none of UDP or Unix datagrams; if an option is asked for that has to
    /// be set before a socket is bound: [`reuse_address`](DatagramOptions::reuse_address),
    /// [`reuse_port`](DatagramOptions::reuse_port), [`only_v6`](DatagramOptions::only_v6),
    /// [`unix_mode`](DatagramOptions::unix_mode). Otherwise as [`bind_with`](Reactor::bind_with).
    ///
    /// # Panics
    ///
    /// As [`bind`](Reactor::bind).
    pub fn bind_fd<H: DatagramHandler>(
        &mut self,
        handler: HandlerId<H>,
        socket: std::os::fd::OwnedFd,
        options: &DatagramOptions,
    ) -> io::Result<Key> {
        self.core.assert_own(handler);
        options.limits.check()?;
        for (is_asked, name) in [
            (options.reuse_address, "reuse_address"),
            (options.reuse_port, "reuse_port"),
            (options.only_v6, "only_v6"),
            (options.unix_mode.is_some(), "unix_mode"),
        ] {
            if is_asked {
                let message =
                    format!("{name} is to be set before a socket is bound, and this one is");
                return Err(invalid(&message));
            }
        }
        self.check_gathering(options)?;
        let (address, peer) = crate::driver::Mio::adopt_datagrams(&socket, options)?;
        let key = self.core.new_datagrams(handler.index, Calls::<H>::OBJECT, options);
        if let Some(state) = self.core.datagram_mut(key) {
            state.is_shared = true;
        }
        let result = self.install_datagrams(key, socket, address.inet().is_none(), peer);
        self.keep_if_open(key, result)
    }
}

/// Serves `handler` on a datagram socket bound to `address`, until it calls [`Context::stop`] or
/// [`Context::drain`].
///
/// # Errors
///
/// As [`Reactor::new`], [`Reactor::bind`] and [`Reactor::run`].
pub fn serve_datagrams(address: impl IntoAddress, handler: impl DatagramHandler) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let handler = reactor.add_datagram_handler(handler);
    reactor.bind(handler, address)?;
    reactor.run()?;
    Ok(())
}
