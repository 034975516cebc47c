//! What the callbacks of a datagram socket are lent.

use std::io;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::{DatagramOptions, Interface, Queued};
use crate::address::SocketAddress;
use crate::command::Host;
use crate::context::Context;
use crate::core::Core;
use crate::error::CloseReason;
use crate::key::Key;
use crate::timer::{Purpose, TimerId};
use crate::watchdog::Lent;

/// The socket that a callback is about.
///
/// It is a [`Context`] that also knows which socket is meant, so all of the context's methods can be called
/// on it. One has the same name: for [`Context::send_to`], which sends to a connection, write
/// `Context::send_to(socket, key, data)`.
pub struct DatagramSocket<'a> {
    pub(super) context: Context<'a>,
    pub(super) key: Key,
    /// In the callback of a datagram: who sent it, and to which address of this machine.
    pub(super) came: Option<(&'a SocketAddress, IpAddr)>,
}

impl<'a> Deref for DatagramSocket<'a> {
    type Target = Context<'a>;

    fn deref(&self) -> &Context<'a> {
        &self.context
    }
}

impl<'a> DerefMut for DatagramSocket<'a> {
    fn deref_mut(&mut self) -> &mut Context<'a> {
        &mut self.context
    }
}

impl Lent for DatagramSocket<'_> {
    fn parts(&mut self) -> (&mut Core, &dyn Host) {
        self.context.parts()
    }
}

impl DatagramSocket<'_> {
    /// Its name, for [`Context::send_datagram`], from any callback of any handler.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The address that it is bound to, with the port that the kernel chose if it was to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    ///
    /// # Cost
    ///
    /// A system call.
    pub fn local_address(&self) -> io::Result<SocketAddress> {
        self.context.host.local_address(self.key)
    }

    /// Sends one datagram to `to`, which may be empty. An answer, to the sender of the datagram that the callback is
    /// about, leaves from the address that was asked ([`Datagram::to`](crate::Datagram::to)); to answer later is what
    /// [`Context::send_datagram_from`] is for. It leaves at the end of this run; what the kernel does
    /// not take is queued. What goes wrong on the way to the network,
    /// [`on_send_failed`](crate::DatagramHandler::on_send_failed) tells; what happens to it there, nobody does.
    ///
    /// # Cost
    ///
    /// A copy; sendto(2), when it leaves, or sendmsg(2) and an allocation if it says from where. With the feature
    /// `udp-batch`, on Linux, neighbours of one length for one receiver leave with one call, 64 at most (udp(7),
    /// `UDP_SEGMENT`).
    pub fn send_to(&mut self, to: &SocketAddress, data: &[u8]) -> Queued {
        let from = self.came.and_then(|(sender, asked)| (sender == to).then_some(asked));
        self.context.core.send_datagram(self.key, from, Some(to), data)
    }

    /// Sends one datagram to whom the socket is [connected](DatagramOptions::connect); otherwise as
    /// [`send_to`](Self::send_to). Of a socket that is not connected it fails (`EDESTADDRREQ`, a Unix socket's
    /// `ENOTCONN`), of which `on_send_failed` tells.
    pub fn send(&mut self, data: &[u8]) -> Queued {
        self.context.core.send_datagram(self.key, None, None, data)
    }

    /// Receives from now on what is sent to a multicast group, through this interface. What the socket
    /// is bound to still holds: to hear a group, bind to its address or to all. A socket that takes both families
    /// joins groups of both.
    ///
    /// # Platform notes
    ///
    /// On Linux a socket that is bound to all addresses and has joined no group hears on its port every group
    /// that any process of the machine has joined (ip(7), `IP_MULTICAST_ALL`). From its first join on it hears its own
    /// only, as everywhere else.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2) with `IP_ADD_MEMBERSHIP` (ip(7)) or `IPV6_JOIN_GROUP` (ipv6(7)): no multicast
    /// address, no such interface, joined already, too many groups (20 in all by default). `InvalidInput` for a group of
    /// IPv4 and a socket for [IPv6 only](DatagramOptions::only_v6), which would never hear it.
    pub fn join(&mut self, group: IpAddr, interface: &Interface) -> io::Result<()> {
        self.context.host.set_membership(self.key, group, interface, true)
    }

    /// Takes [`join`](Self::join) back.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2) with `IP_DROP_MEMBERSHIP` or `IPV6_LEAVE_GROUP`: it was not joined.
    pub fn leave(&mut self, group: IpAddr, interface: &Interface) -> io::Result<()> {
        self.context.host.set_membership(self.key, group, interface, false)
    }

    /// Sets a timer that ends with the socket: calls [`on_timer`](crate::DatagramHandler::on_timer) once, when
    /// `after` has passed since [`now`](Context::now), never earlier.
    ///
    /// # Cost
    ///
    /// O(1), however many timers there are.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.set(after, Duration::ZERO)
    }

    /// Sets an interval that ends with the socket: calls [`on_timer`](crate::DatagramHandler::on_timer) whenever
    /// another `period` has passed, until it is cancelled. Beats that were missed are left out.
    ///
    /// # Panics
    ///
    /// If the period is zero.
    pub fn set_interval(&mut self, period: Duration) -> TimerId {
        assert_ne!(period, Duration::ZERO, "an interval takes some time");
        self.set(period, period)
    }

    fn set(&mut self, after: Duration, period: Duration) -> TimerId {
        let core = &mut *self.context.core;
        if let Some(state) = core.datagram_mut(self.key) {
            state.has_timers = true;
        }
        core.timers.set(core.now + after, period, Purpose::Datagram(self.key))
    }

    /// Binds another socket for this handler: see [`Context::bind_for`].
    pub fn bind(&mut self, address: impl Into<SocketAddress>, options: &DatagramOptions) -> Key {
        let core = &mut *self.context.core;
        let Some(state) = core.datagram_mut(self.key) else { return Key::NONE };
        let (handler, calls) = (state.handler, state.calls);
        core.bind(handler, calls, address.into(), options)
    }

    /// Closes the socket at the end of this turn. What was given to send is handed to the kernel then, as
    /// far as it has room; the rest is dropped and counted.
    pub fn close(&mut self) {
        self.context.core.close(self.key, CloseReason::Closed);
    }
}
