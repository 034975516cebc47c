//! Scripted clients: where they are, and how they are added.

use std::net::{IpAddr, SocketAddr};

use super::{ClientId, Simulation};
use crate::sim::client::Client;
use crate::sim::faults::Faults;
use crate::sim::network::SimSocket;
use crate::sim::script::Script;

/// What is particular about one client: [`Simulation::client_with`].
///
/// ```
/// use std::time::Duration;
/// use oneloop::sim::{ClientOptions, Faults};
///
/// let far = Faults::none().latency_min(Duration::from_secs(1));
/// let options = ClientOptions::new().ip("10.1.2.3".parse().unwrap()).faults(far);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    ip: Option<IpAddr>,
    faults: Option<Faults>,
}

impl ClientOptions {
    /// A host of its own, with an address of its own and the faults that new hosts have.
    pub fn new() -> ClientOptions {
        ClientOptions::default()
    }

    /// It connects from this address. Clients may share one; that of a reactor's host is on that host.
    #[must_use]
    pub fn ip(mut self, ip: IpAddr) -> ClientOptions {
        self.ip = Some(ip);
        self
    }

    /// Its host has these faults.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> ClientOptions {
        self.faults = Some(faults);
        self
    }
}

impl Simulation {
    /// Adds a client, which connects at once and then does what its script says. All clients that are
    /// added this way are on one host, 10.0.0.1, with the faults that the simulation began with.
    ///
    /// Whether it came to the end is asked by the id ([`assert_done`](Simulation::assert_done)), or for
    /// all clients with [`assert_all_done`](Simulation::assert_all_done): a client that waits for ever
    /// fails nothing else.
    #[track_caller]
    pub fn client(&mut self, address: impl Into<SocketAddr>, script: Script) -> ClientId {
        let socket = self.clients_host.connect(address.into());
        self.own_hosts.push(None);
        self.start(socket, script)
    }

    /// The same on a host of its own: with another address, other faults, or so that
    /// [`partition`](Simulation::partition) and its kin can be about this client alone.
    ///
    /// # Panics
    ///
    /// If the client's address is no host's (loopback, or the unspecified one), or of another family than the server's.
    ///
    /// ```
    /// use oneloop::sim::{ClientOptions, Script, Simulation};
    /// # use oneloop::{Connection, Error, StreamHandler};
    /// # struct Echo;
    /// # impl StreamHandler for Echo {
    /// #     type Session = ();
    /// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
    /// #     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
    /// #         conn.send(data).ignore();
    /// #         Ok(data.len())
    /// #     }
    /// # }
    ///
    /// let mut sim = Simulation::new(1);
    /// let echo = sim.serve(Echo);
    /// let from = ClientOptions::new().ip("10.1.2.3".parse().unwrap());
    /// let client = sim.client_with(echo.address, Script::new().send("a").expect("a"), from);
    /// sim.run_until_idle();
    /// sim.assert_done(client);
    /// ```
    #[track_caller]
    pub fn client_with(
        &mut self,
        address: impl Into<SocketAddr>,
        script: Script,
        options: ClientOptions,
    ) -> ClientId {
        let faults = options.faults.unwrap_or_else(|| self.faults.clone());
        let address = address.into();
        if let Some(ip) = options.ip {
            assert!(!ip.is_loopback() && !ip.is_unspecified(), "{ip} is no host's address");
            let is_same = ip.is_ipv4() == address.ip().to_canonical().is_ipv4();
            assert!(is_same, "nobody connects from {ip} to {address}, of another family");
        }
        let host = self.network.host_at(options.ip, faults);
        let socket = match options.ip {
            // Whoever talks to itself does so from loopback.
            Some(ip) if !address.ip().is_loopback() => host.connect_from(ip, address),
            _ => host.connect(address),
        };
        self.own_hosts.push(Some(host));
        self.start(socket, script)
    }

    /// A plain socket of the clients' host.
    pub(in crate::sim) fn connect(&self, address: SocketAddr) -> SimSocket {
        self.clients_host.connect(address).expect("a fresh host has ports")
    }

    fn start(&mut self, socket: std::io::Result<SimSocket>, script: Script) -> ClientId {
        let index = self.clients.len();
        if let Ok(socket) = &socket {
            self.network.tell_client(socket, index);
        }
        self.clients.push(Client::new(socket, script));
        ClientId { index, of: self.number }
    }
}
