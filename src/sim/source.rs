//! A raw source that a test makes ready.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::calls::Call;
use super::network::Network;
use super::sim_driver::SimDriver;
use super::socket::{Kind, Sock};
use crate::driver::{RawSource, StreamKind};
use crate::key::Key;
use crate::readiness::{Interest, Readiness};

/// A raw source for simulations: it is ready for what [`set`](SimSource::set) says. Clones are the same
/// source, so that a test keeps one and gives the reactor the other.
#[derive(Clone, Debug, Default)]
pub struct SimSource {
    registered: Rc<RefCell<Option<(Network, Key, Interest)>>>,
    readiness: Rc<RefCell<Option<Readiness>>>,
}

impl SimSource {
    /// Not ready for anything.
    pub fn new() -> SimSource {
        SimSource::default()
    }

    /// It is ready for this from now on, which is reported as an edge.
    pub fn set(&self, readiness: Readiness) {
        *self.readiness.borrow_mut() = Some(readiness);
        if let Some((network, key, interest)) = &*self.registered.borrow() {
            let mut net = network.net.borrow_mut();
            let readiness = asked_for(readiness, *interest);
            if let Some(sock) = net.sockets.get_mut(*key) {
                sock.kind = Kind::Raw(readiness);
                sock.armed = sock.armed | readiness;
            }
            net.wake(*key);
        }
    }

    /// What it is ready for.
    pub fn readiness(&self) -> Readiness {
        self.readiness.borrow().unwrap_or(Readiness::EMPTY)
    }
}

/// The part that is reported: hang-ups and errors always are (epoll_ctl(2)).
fn asked_for(readiness: Readiness, interest: Interest) -> Readiness {
    let hidden = match interest {
        Interest::Readable => Readiness::WRITABLE,
        Interest::Writable => Readiness::READABLE,
        Interest::Both => Readiness::EMPTY,
    };
    Readiness(readiness.0 & !hidden.0)
}

impl RawSource<SimDriver> for SimSource {
    fn register(&mut self, driver: &mut SimDriver, key: Key, interest: Interest) -> io::Result<()> {
        let mut net = driver.network().net.borrow_mut();
        net.call(driver.host(), Call::Register)?;
        let readiness = asked_for(self.readiness(), interest);
        let socket = net.sockets.insert(Sock::new(driver.host(), Kind::Raw(readiness)));
        net.register(socket, key, StreamKind::Tcp); // told of everything
        *self.registered.borrow_mut() = Some((driver.network().clone(), socket, interest));
        Ok(())
    }

    fn deregister(&mut self, driver: &mut SimDriver) -> io::Result<()> {
        if let Some((_, socket, _)) = self.registered.borrow_mut().take() {
            driver.network().net.borrow_mut().close(socket, false);
        }
        Ok(())
    }
}
