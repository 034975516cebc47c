//! Where to listen, and where to bind, by an address.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{Address, Host, SocketAddress};
use crate::driver::Driver;
use crate::reactor::Reactor;

/// An error, with what it came of.
pub(crate) fn explain(what: fmt::Arguments<'_>, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

pub(crate) fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl<D: Driver> Reactor<D> {
    /// The places that an address stands for, at least one. What is inherited is no place, but given to `call`.
    pub(crate) fn places_of(
        &self,
        address: &Address,
        call: &str,
    ) -> io::Result<Vec<SocketAddress>> {
        let port = match address {
            Address::Unix(name) | Address::UnixDatagram(name) => {
                return Ok(vec![name.clone().into()]);
            }
            Address::Fd(_) | Address::Systemd(_) => {
                let message =
                    format!("an inherited socket is taken with Inherited, and given to {call}");
                return Err(invalid(&message));
            }
            Address::Tcp(endpoint) if *endpoint.host() == Host::All => {
                endpoint.look_up_tcp_port()?
            }
            Address::Udp(endpoint) if *endpoint.host() == Host::All => {
                endpoint.look_up_udp_port()?
            }
            Address::Tcp(_) | Address::Udp(_) => {
                return Ok(address.look_up()?.into_iter().map(SocketAddress::Inet).collect());
            }
        };
        let all: IpAddr = match self.sockets.driver.has_ipv6() {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        Ok(vec![SocketAddress::Inet((all, port).into())])
    }
}
