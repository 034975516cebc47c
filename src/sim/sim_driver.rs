//! The driver of a simulated host, as tests hold it. What it does for a reactor stands in `driver.rs`.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use super::addresses::numbered;
use super::decisions::Matter;
use super::faults::Faults;
use super::net::{Net, TURN};
use super::network::Network;
use crate::driver::Event;
use crate::key::Key;
use crate::signal::{Signal, Signals};

/// The driver of a simulated host.
#[derive(Debug)]
pub struct SimDriver {
    pub(super) network: Network,
    pub(super) host: u32,
    pub(super) events: Vec<Event>,
    pub(super) events_max: usize,
}

impl SimDriver {
    pub(super) fn new(network: &Network, host: u32) -> SimDriver {
        SimDriver { network: network.clone(), host, events: Vec::new(), events_max: 1 }
    }

    /// The network that the host is in.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The host's number, as in the trace.
    pub fn host(&self) -> u32 {
        self.host
    }

    /// The host's address.
    pub fn ip(&self) -> IpAddr {
        IpAddr::V4(numbered(self.network.net.borrow().machine(self.host)).0)
    }

    /// Its IPv6 address.
    pub fn ip_v6(&self) -> IpAddr {
        IpAddr::V6(numbered(self.network.net.borrow().machine(self.host)).1)
    }

    /// Other faults, from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.network.net.borrow_mut().host(self.host).faults = Rc::new(faults);
    }

    /// How many descriptors the host may have open, as `RLIMIT_NOFILE` says.
    pub fn set_descriptors_max(&self, descriptors: usize) {
        self.network.net.borrow_mut().host(self.host).descriptors_max = descriptors;
    }

    /// Sends the host's process a signal.
    ///
    /// # Panics
    ///
    /// If its reactor does not watch it: a process would be ended by it.
    pub fn signal(&self, signal: Signal) {
        let mut net = self.network.net.borrow_mut();
        let host = net.host(self.host);
        assert!(host.watched.contains(signal), "nobody watches {signal}");
        host.signals.insert(signal);
        net.log(self.host, "signal", Key::NONE, signal as u64);
    }

    /// Whether the next poll would report something.
    pub(crate) fn has_events(&self) -> bool {
        let mut net = self.network.net.borrow_mut();
        let host = net.host(self.host);
        !host.ready.is_empty() || host.signals != Signals::default() || host.mail.is_woken()
    }

    /// Jobs that were submitted since are under way from now on.
    pub(crate) fn begin_jobs(&self) {
        self.network.net.borrow_mut().begin_jobs(self.host);
    }

    pub(super) fn has_descriptor(&self) -> bool {
        let mut net = self.network.net.borrow_mut();
        let host = net.host(self.host);
        host.descriptors < host.descriptors_max
    }

    pub(super) fn no_descriptor() -> io::Error {
        Errno::MFILE.into()
    }
}

impl Net {
    /// What a turn costs, and what a host may suffer in it.
    pub(super) fn begin_turn(&mut self, host: u32) {
        let faults = self.faults(host);
        self.host(host).calls_before_turn = self.host(host).calls;
        let mut until = self.now + TURN;
        let of = host as usize;
        if let Some(mut how) = self.decisions.chance(Matter::Stall, of, faults.stalls) {
            let nanos = faults.stall_max.as_nanos() as u64;
            let stall = Duration::from_nanos(how.below(nanos));
            until = until + stall;
            self.log(host, "stall", Key::NONE, stall.as_nanos() as u64);
        }
        if let Some(mut how) = self.decisions.chance(Matter::ClockJump, of, faults.clock_jumps) {
            let nanos = faults.clock_jump_max.as_nanos() as u64;
            let jump = Duration::from_nanos(how.below(nanos));
            let ahead = self.host(host).ahead;
            self.host(host).ahead = ahead.saturating_add(jump);
            self.log(host, "clock jump", Key::NONE, jump.as_nanos() as u64);
        }
        self.pass(until);
    }
}
