//! Names of simulated hosts, and who looks them up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::network::Network;
use super::world::Simulation;
use crate::address::{Endpoint, Host, Port};
use crate::key::Key;
use crate::names::{NameError, Resolver};

/// The resolver of all hosts. Look-ups are jobs, which have no access to the network: what a fault would do to the job
/// that is being done stands here, and whether it is a look-up.
#[derive(Default)]
pub(crate) struct SimNames {
    /// In small letters.
    addresses: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    /// The next look-up fails,
    is_to_fail: AtomicBool,
    /// ... and there was one.
    was_asked: AtomicBool,
}

impl fmt::Debug for SimNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNames").field("addresses", &*self.lock()).finish_non_exhaustive()
    }
}

impl SimNames {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<IpAddr>>> {
        // Nothing under the lock panics.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job is about to be done: whether it fails, if it is a look-up.
    pub(crate) fn begin_job(&self, is_to_fail: bool) {
        self.is_to_fail.store(is_to_fail, Ordering::Relaxed);
        self.was_asked.store(false, Ordering::Relaxed);
    }

    /// It is done: whether it was a look-up.
    pub(crate) fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }

    fn fail(&self) -> Result<(), NameError> {
        self.was_asked.store(true, Ordering::Relaxed);
        if self.is_to_fail.swap(false, Ordering::Relaxed) {
            return Err(NameError::Failed("the simulated look-up fails".into()));
        }
        Ok(())
    }
}

impl Resolver for SimNames {
    fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NameError> {
        self.fail()?;
        let Port::Number(port) = *endpoint.port() else {
            return Err(NameError::Failed("services have no names in the simulation".into()));
        };
        let Host::Name(name) = endpoint.host() else {
            return Err(NameError::Failed("interfaces have no names in the simulation".into()));
        };
        let names = self.lock();
        let found = names.get(&name.to_ascii_lowercase()).ok_or(NameError::NotFound)?;
        Ok(found.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
    }

    fn host_name(&self, ip: IpAddr) -> Result<String, NameError> {
        self.fail()?;
        let names = self.lock();
        let found = names.iter().find(|(_, addresses)| addresses.contains(&ip));
        found.map(|(name, _)| name.clone()).ok_or(NameError::NotFound)
    }
}

impl Network {
    /// Gives a name to these addresses, for all hosts, or to others than before; or, with none, takes it away. The
    /// first one is the best to connect to. In small letters or not, it is one name.
    ///
    /// Reactors [look it up](crate::Context::connect) as jobs, which take their time; there is no other name, not
    /// even `localhost`, and none of a service. An address's own name is the first by the alphabet.
    pub fn set_name(&self, name: &str, addresses: &[IpAddr]) {
        let mut net = self.net.borrow_mut();
        let mut names = net.names.lock();
        let name = name.to_ascii_lowercase();
        if addresses.is_empty() {
            names.remove(&name);
        } else {
            names.insert(name, addresses.to_vec());
        }
        drop(names);
        net.log(0, "name", Key::NONE, addresses.len() as u64);
    }
}

impl Simulation {
    /// Gives a name to these addresses: see [`Network::set_name`].
    ///
    /// ```
    /// use oneloop::sim::Simulation;
    /// use oneloop::{Address, Connection, Context, Error, StreamHandler};
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
    /// struct Caller(Address);
    ///
    /// impl StreamHandler for Caller {
    ///     type Session = ();
    ///
    ///     fn on_start(&mut self, cx: &mut Context<'_>) {
    ///         cx.connect(&self.0, 0);
    ///     }
    ///
    ///     fn on_open(&mut self, _: &mut Connection<'_>) {}
    ///
    ///     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
    ///         Ok(data.len())
    ///     }
    /// }
    ///
    /// let mut sim = Simulation::new(1);
    /// let echo = sim.serve(Echo);
    /// sim.set_name("echo.example", &[sim.ip(echo.reactor)]);
    /// let caller = sim.serve(Caller("echo.example:7000".parse().unwrap()));
    /// sim.run_until_idle();
    /// assert_eq!(sim[caller.reactor].stats().connects, 1);
    /// ```
    pub fn set_name(&mut self, name: &str, addresses: &[IpAddr]) {
        self.network().set_name(name, addresses);
    }
}
