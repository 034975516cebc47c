//! A reactor with a Unix datagram socket, and peers of it.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::{DatagramOptions, HandlerId, Key, Queued, SocketAddress};

use super::datagrams::*;
use super::*;

/// An abstract name that nobody else has.
pub fn name() -> UnixName {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    UnixName::from_abstract(format!("oneloop-{}-{number}", process::id())).unwrap()
}

/// A client with a name.
pub fn client() -> (UnixDatagram, UnixName) {
    let name = name();
    let address = SocketAddr::from_abstract_name(name.as_abstract().unwrap()).unwrap();
    let client = UnixDatagram::bind_addr(&address).unwrap();
    client.set_nonblocking(true).unwrap();
    (client, name)
}

pub struct UnixServer {
    pub reactor: Reactor,
    pub handler: HandlerId<Datagrams>,
    pub key: Key,
    pub calls: DatagramCalls,
}

impl UnixServer {
    pub fn new(
        datagrams: Datagrams,
        name: Option<&UnixName>,
        options: &DatagramOptions,
    ) -> UnixServer {
        let mut reactor = Reactor::new().unwrap();
        let calls = Rc::clone(&datagrams.calls);
        let handler = reactor.add_datagram_handler(datagrams);
        let key = match name {
            Some(name) => reactor.bind_with(handler, name.clone(), options),
            None => reactor.bind_unnamed(handler, options),
        };
        let key = key.unwrap();
        UnixServer { reactor, handler, key, calls }
    }

    pub fn send(&mut self, to: Option<&UnixName>, data: &[u8]) -> Queued {
        let to = to.cloned().map(SocketAddress::Unix);
        self.reactor.context(self.handler).send_datagram(self.key, to.as_ref(), data)
    }

    pub fn until_sent(&mut self, count: u64) {
        run_until(&mut self.reactor, "they are sent", |reactor| {
            reactor.stats().datagrams_out == count
        });
    }

    /// Fills the queue of a receiver: how many it holds.
    pub fn fill(&mut self, to: Option<&UnixName>) -> u64 {
        while self.reactor.stats().datagram_bytes_waiting == 0 {
            assert_eq!(self.send(to, b"full"), Queued::Ok);
            self.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        self.reactor.stats().datagrams_out
    }
}

pub fn receive(client: &UnixDatagram) -> Option<Vec<u8>> {
    let mut buffer = [0; 100];
    match client.recv(&mut buffer) {
        Ok(count) => Some(buffer[..count].to_vec()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            None
        }
    }
}

pub fn to(name: &UnixName) -> SocketAddr {
    SocketAddr::from_abstract_name(name.as_abstract().unwrap()).unwrap()
}
