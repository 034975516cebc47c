//! What callbacks ask of the half of the reactor that has the driver.

use std::io;
use std::net::IpAddr;
use std::sync::Weak;
use std::time::SystemTime;

use crate::address::SocketAddress;
use crate::clock::Time;
use crate::credentials::Credentials;
use crate::datagram::{DatagramOptions, Interface};
use crate::key::Key;
use crate::listener::ListenOptions;
use crate::names::Outcome;

/// What callbacks ask for that needs the driver; done in the flush phase.
#[derive(Debug)]
pub(crate) enum Command {
    Connect {
        key: Key,
    },
    Listen {
        key: Key,
        /// Who is told what came of it, also when the listener is gone by then.
        handler: u16,
        address: SocketAddress,
        options: Box<ListenOptions>,
    },
    /// What became of the look-up of a name for a connection.
    LookedUp {
        key: Key,
        /// Which of the look-ups for it.
        look_up: Weak<()>,
        outcome: Outcome,
    },
    Bind {
        key: Key,
        address: SocketAddress,
        options: Box<DatagramOptions>,
    },
    /// Limits have changed: a listener that was full may not be any more.
    WakeListeners,
    /// A drain was asked for.
    Drain,
    /// A connection that the drain has spared so far takes part in it from now on.
    DrainOne {
        key: Key,
    },
    /// The connection that it forwards to, or is fed by, has ended.
    OtherSideEnded {
        key: Key,
        is_orderly: bool,
    },
}

/// What callbacks may ask of the world right away.
pub(crate) trait Host {
    fn local_address(&self, key: Key) -> io::Result<SocketAddress>;
    fn peer_address(&self, key: Key) -> io::Result<SocketAddress>;
    /// Joins a multicast group or leaves it.
    fn set_membership(
        &self,
        key: Key,
        group: IpAddr,
        interface: &Interface,
        is_member: bool,
    ) -> io::Result<()>;
    fn peer_credentials(&self, key: Key) -> io::Result<Credentials>;
    fn now(&self) -> Time;
    fn wall_clock(&self) -> SystemTime;
}
