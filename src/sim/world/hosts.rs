//! What happens to a reactor's host: its calls fail, its clock jumps, it ends and comes back.

use std::net::IpAddr;
use std::time::Duration;

use super::{ReactorId, Served, Simulation, small};
use crate::handler::StreamHandler;
use crate::limits::ReactorLimits;
use crate::listener::ListenOptions;
use crate::signal::Signal;
use crate::sim::addresses::numbered;
use crate::sim::sim_driver::SimDriver;

impl Simulation {
    #[track_caller]
    pub(super) fn host(&self, id: ReactorId) -> u32 {
        self.hosts[self.reactor_index(id)]
    }

    #[track_caller]
    fn machine(&self, id: ReactorId) -> u32 {
        self.network.net.borrow().machine(self.host(id))
    }

    /// The address of a reactor's host.
    ///
    /// # Panics
    ///
    /// If the reactor is another simulation's. So do all methods that take an id.
    #[track_caller]
    pub fn ip(&self, id: ReactorId) -> IpAddr {
        IpAddr::V4(numbered(self.machine(id)).0)
    }

    /// Its IPv6 address.
    #[track_caller]
    pub fn ip_v6(&self, id: ReactorId) -> IpAddr {
        IpAddr::V6(numbered(self.machine(id)).1)
    }

    /// Makes a system call of a reactor's host fail: the next one is number 1. Each call fails with
    /// an error that it may have. [`fail_next`](Simulation::fail_next) names the call and the error.
    /// Several calls are told to fail one by one; [`calls_failed`](Simulation::calls_failed) tells
    /// whether it came to that.
    ///
    /// # Panics
    ///
    /// If the number is 0.
    #[track_caller]
    pub fn fail_call(&mut self, id: ReactorId, number: u64) {
        assert!(number > 0, "the next system call is number 1");
        let host = self.host(id);
        self.log("fail call", host, number);
        let mut net = self.network.net.borrow_mut();
        let host = net.host(host);
        host.failing_calls.insert(host.calls.saturating_add(number));
    }

    /// How many of the system calls that were told to fail have been made, and failed. A test that makes
    /// fewer of them tests something else than it says.
    #[track_caller]
    pub fn calls_failed(&self, id: ReactorId) -> u64 {
        let host = self.host(id);
        self.network.net.borrow_mut().host(host).failed_calls.len() as u64
    }

    /// Has the clock of a reactor's host jump ahead.
    #[track_caller]
    pub fn jump_clock(&mut self, id: ReactorId, by: Duration) {
        let host = self.host(id);
        self.log("clock jump", host, u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
        let mut net = self.network.net.borrow_mut();
        let ahead = &mut net.host(host).ahead;
        *ahead = ahead.saturating_add(by);
    }

    /// How many descriptors a reactor's host may have open, as `RLIMIT_NOFILE` says.
    #[track_caller]
    pub fn set_descriptors_max(&mut self, id: ReactorId, descriptors: usize) {
        self.log("descriptors", self.host(id), descriptors as u64);
        self[id].sockets.driver.set_descriptors_max(descriptors);
    }

    /// Sends a reactor's process a signal.
    ///
    /// # Panics
    ///
    /// If the reactor does not watch it: a process would be ended by it.
    #[track_caller]
    pub fn signal(&mut self, id: ReactorId, signal: Signal) {
        self[id].sockets.driver.signal(signal);
    }

    /// Adds an empty reactor on the machine of another one, or of one that is no more: it has the same
    /// addresses; descriptors, faults and clock are its own.
    ///
    /// # Panics
    ///
    /// If the limits make no sense.
    #[track_caller]
    pub fn add_reactor_beside(&mut self, id: ReactorId, limits: ReactorLimits) -> ReactorId {
        let host = self.network.beside(self.host(id), self.faults.clone());
        let driver = SimDriver::new(&self.network, host);
        self.add(driver, limits)
    }

    /// Ends a reactor as a signal ends a process (`SIGKILL`): its handlers are dropped without another
    /// call, and the kernel closes its sockets, with a reset where something was not read. Paths of Unix sockets
    /// stay.
    ///
    /// # Panics
    ///
    /// If it was removed before. So does every other use of it.
    #[track_caller]
    pub fn remove(&mut self, id: ReactorId) {
        let host = self.host(id);
        self.log("removed", host, 0);
        let reactor = self.reactors[id.index].take();
        assert!(reactor.is_some(), "reactor {} was removed before", id.index);
        self.network.net.borrow_mut().unix.outlive(host);
        drop(reactor);
        self.network.net.borrow_mut().forget_raw(host);
    }

    /// Ends a reactor as a loss of power does: nobody hears of it. All others on its machine end with
    /// it. Until another reactor is added [beside](Simulation::add_reactor_beside) it, nothing there
    /// answers; from then on, what belongs to the time before is answered with a reset.
    #[track_caller]
    pub fn crash(&mut self, id: ReactorId) {
        let machine = self.machine(id);
        assert!(self.reactors[id.index].is_some(), "reactor {} was removed before", id.index);
        self.log("crash", self.host(id), 0);
        self.network.net.borrow_mut().crash(machine);
        for number in 0..self.reactors.len() {
            if self.machine(ReactorId { index: number, of: self.number }) == machine {
                self.reactors[number] = None;
            }
        }
    }

    /// Serves `handler` where another one was served: [removes](Simulation::remove) that one's reactor,
    /// unless it has ended already, and adds one beside it, with the limits of
    /// [`serve`](Simulation::serve).
    ///
    /// ```
    /// use oneloop::sim::{End, Script, Simulation};
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
    /// let before = sim.client(echo.address, Script::new().send("a").expect("a").expect_end());
    /// sim.run_until_idle();
    /// let again = sim.restart(echo, Echo);
    /// let after = sim.client(again.address, Script::new().send("b").expect("b"));
    /// sim.run_until_idle();
    /// assert_eq!(sim.end(before), Some(End::Ended));
    /// sim.assert_done(after);
    /// ```
    #[track_caller]
    pub fn restart<H: StreamHandler, G>(&mut self, served: Served<G>, handler: H) -> Served<H> {
        if self.reactors[self.reactor_index(served.reactor)].is_some() {
            self.remove(served.reactor);
        }
        let reactor = self.add_reactor_beside(served.reactor, small());
        self.listen(reactor, handler, &ListenOptions::new())
    }
}
