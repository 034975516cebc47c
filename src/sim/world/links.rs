//! Who can be reached by whom, and with which faults.

use std::rc::Rc;

use super::{ClientId, ReactorId, Simulation};
use crate::sim::faults::Faults;

/// One of those that have to do with each other: a reactor, a client, or all clients that share a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Party {
    /// A reactor.
    Reactor(ReactorId),
    /// A client with a host of its own: [`Simulation::client_with`].
    Client(ClientId),
    /// All others: those of [`Simulation::client`].
    Clients,
}

impl From<ReactorId> for Party {
    fn from(id: ReactorId) -> Party {
        Party::Reactor(id)
    }
}

impl From<ClientId> for Party {
    fn from(id: ClientId) -> Party {
        Party::Client(id)
    }
}

impl Simulation {
    /// The host of a party alone.
    ///
    /// # Panics
    ///
    /// If it is a client that shares its host with others.
    #[track_caller]
    pub(super) fn host_of(&self, party: Party) -> u32 {
        match party {
            Party::Reactor(id) => self.hosts[self.reactor_index(id)],
            Party::Clients => self.clients_host.number(),
            Party::Client(id) if id.of != self.number => panic!("{id:?} is another simulation's"),
            Party::Client(id) => match &self.own_hosts[id.index] {
                Some(host) => host.number(),
                None => panic!(
                    "client {} shares its host with others: add it by client_with, or name all of \
                     them as Party::Clients",
                    id.index
                ),
            },
        }
    }

    /// Other faults, for the hosts that are added from now on. The clients' host keeps those that the
    /// simulation was made with.
    pub fn set_faults(&mut self, faults: Faults) {
        self.log("faults", 0, 0);
        self.faults = faults;
    }

    /// Other faults of a host, from now on: of what it sends, how it reads, and its kernel. A socket that is open keeps
    /// the buffers that it has.
    ///
    /// # Panics
    ///
    /// If it is a client that shares its host with others. So do the other methods that name a
    /// [`Party`].
    #[track_caller]
    pub fn set_faults_of(&mut self, of: impl Into<Party>, faults: Faults) {
        let host = self.host_of(of.into());
        self.log("faults", host, 0);
        self.network.net.borrow_mut().host(host).faults = Rc::new(faults);
    }

    /// Other faults of whatever two hosts have to do with each other, from now on: both of what each
    /// sends to the other and of how it reads that. For connections between them they stand in place of
    /// the hosts' own faults; those of a kernel (events, accepts, stalls, clocks) remain the hosts'. A connection that is
    /// open keeps the buffers that it has.
    #[track_caller]
    pub fn set_link_faults(
        &mut self,
        one: impl Into<Party>,
        other: impl Into<Party>,
        faults: Faults,
    ) {
        let (one, other) = (self.host_of(one.into()), self.host_of(other.into()));
        self.log("link faults", one, u64::from(other));
        self.network.net.borrow_mut().set_link(one, other, Rc::new(faults));
    }

    /// Parts two hosts: nothing reaches the one from the other any more, neither what is under way nor
    /// what is sent. Both send again until they give up (`ETIMEDOUT`), unless they are
    /// [rejoined](Simulation::rejoin) before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use oneloop::sim::{Party, Script, Simulation};
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
    /// let client = sim.client(echo.address, Script::new().send("a").expect("a"));
    /// sim.partition(echo.reactor, Party::Clients);
    /// sim.run_for(Duration::from_secs(60));
    /// assert!(!sim.is_done(client));
    /// sim.rejoin(echo.reactor, Party::Clients);
    /// sim.run_for(Duration::from_secs(60));
    /// sim.assert_done(client);
    /// ```
    #[track_caller]
    pub fn partition(&mut self, one: impl Into<Party>, other: impl Into<Party>) {
        let (one, other) = (one.into(), other.into());
        self.silence(one, other);
        self.silence(other, one);
    }

    /// The same in one direction: `to` hears nothing of `from` any more, not even that something
    /// arrived, so that it sends that again and gives up in the end.
    #[track_caller]
    pub fn silence(&mut self, from: impl Into<Party>, to: impl Into<Party>) {
        let (from, to) = (self.host_of(from.into()), self.host_of(to.into()));
        self.network.net.borrow_mut().sever(from, to, true);
    }

    /// Ends what [`partition`](Simulation::partition) and [`silence`](Simulation::silence) did between
    /// two hosts. What was lost comes when it is sent again, which may be two minutes later.
    #[track_caller]
    pub fn rejoin(&mut self, one: impl Into<Party>, other: impl Into<Party>) {
        let (one, other) = (self.host_of(one.into()), self.host_of(other.into()));
        let mut net = self.network.net.borrow_mut();
        net.sever(one, other, false);
        net.sever(other, one, false);
    }
}
