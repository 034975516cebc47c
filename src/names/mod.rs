//! Names of hosts and services, looked up off the loop.

mod desk;
mod system;

use std::error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::address::Endpoint;
use crate::error::Error;

pub(crate) use self::desk::{Names, Outcome};
pub(crate) use self::system::SystemResolver;

/// Who knows what names stand for. The reactor's own asks the system (getaddrinfo(3), getnameinfo(3)); in
/// simulation it knows the names that `Simulation::set_name` gave.
/// [`Reactor::set_resolver`](crate::Reactor::set_resolver) takes another one.
///
/// Its methods are called on helper threads, by several at once, and may block. A panic is an answer: the look-up
/// has failed. One that never returns has its thread for good, and nobody can take it back: who waits for it is told in
/// time, by its [`connect_timeout`](crate::Limits::connect_timeout), but when all threads hang, no look-up is begun
/// any more. Those that come then wait until their own connects time out, or, when too many wait, fail at once as
/// [`ResolverBusy`](crate::ConnectError::ResolverBusy). So a resolver should have time-outs of its own, as the system's
/// has (resolv.conf(5), `timeout`).
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr, SocketAddr};
///
/// use oneloop::address::{Endpoint, Host, Port};
/// use oneloop::{NameError, Reactor, Resolver};
///
/// /// A hosts(5) file of one line.
/// struct OneHost;
///
/// impl Resolver for OneHost {
///     fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NameError> {
///         match (endpoint.host(), endpoint.port()) {
///             (Host::Name(name), Port::Number(port)) if name == "printer" => {
///                 Ok(vec![SocketAddr::from(([192, 0, 2, 7], *port))])
///             }
///             _ => Err(NameError::NotFound),
///         }
///     }
///
///     fn host_name(&self, ip: IpAddr) -> Result<String, NameError> {
///         if ip == Ipv4Addr::new(192, 0, 2, 7) { Ok("printer".into()) } else { Err(NameError::NotFound) }
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// reactor.set_resolver(OneHost, 1, 16);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Resolver: Send + Sync + 'static {
    /// The addresses that a host and a port stand for, one of which at least is a name; the best to connect to
    /// first. No address is [`NameError::NotFound`].
    ///
    /// # Errors
    ///
    /// There are none, or nobody could say.
    fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NameError>;

    /// The name of the host that has an address (getnameinfo(3)), for log lines. Whoever has the address may
    /// have chosen the name: it proves nothing. By default no host has one.
    ///
    /// It blocks, as its sibling does: give it to [`blocking`](crate::blocking()) work, with the
    /// [resolver](crate::Reactor::resolver) of the reactor.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use std::sync::Arc;
    ///
    /// use oneloop::{Blocking, Connection, Error, MessageHandler, Reactor, Resolver, StreamHandler};
    ///
    /// /// Logs who has come, by name.
    /// struct Greeter {
    ///     resolver: Arc<dyn Resolver>,
    ///     blocking: Blocking<(IpAddr, String)>,
    /// }
    ///
    /// impl StreamHandler for Greeter {
    ///     type Session = ();
    ///
    ///     fn on_open(&mut self, conn: &mut Connection<'_>) {
    ///         let Some(ip) = conn.peer_address().ok().and_then(|peer| peer.ip()) else { return };
    ///         let resolver = Arc::clone(&self.resolver);
    ///         let job = move || (ip, resolver.host_name(ip).unwrap_or_else(|_| ip.to_string()));
    ///         if self.blocking.run_for(conn.key(), job).is_err() {
    ///             log::info!("{ip} has come, and too many others");
    ///         }
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
    ///         Ok(data.len())
    ///     }
    /// }
    ///
    /// impl MessageHandler<(IpAddr, String)> for Greeter {
    ///     fn on_message(&mut self, _: &mut (), _: &mut Connection<'_>, (ip, name): (IpAddr, String)) {
    ///         log::info!("{ip} has come, {name}");
    ///     }
    /// }
    ///
    /// let mut reactor = Reactor::new()?;
    /// let (blocking, inbox) = oneloop::blocking(2, 64);
    /// let greeter = reactor.add(Greeter { resolver: reactor.resolver(), blocking });
    /// reactor.attach(greeter, inbox)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// It has none, or nobody could say.
    fn host_name(&self, ip: IpAddr) -> Result<String, NameError> {
        let _ = ip;
        Err(NameError::NotFound)
    }
}

/// Why a name, or the name of an address, was not found.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// There is none: no such host or service, or a host without an address.
    NotFound,
    /// Nobody could say. It may be known later.
    Failed(Error),
}

/// [`NotFound`](NameError::NotFound) as what it is called, and everything else as
/// [`Failed`](NameError::Failed).
impl From<io::Error> for NameError {
    fn from(error: io::Error) -> NameError {
        match error.kind() {
            io::ErrorKind::NotFound => NameError::NotFound,
            _ => NameError::Failed(error.into()),
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::NotFound => f.write_str("no such name"),
            NameError::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl error::Error for NameError {}
