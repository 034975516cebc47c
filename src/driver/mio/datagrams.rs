//! Datagram sockets: UDP and Unix.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, sockopt};

use super::sockets::{from_kernel, no_name, socket, unix_address};
use super::{platform, retrying};
use crate::address::SocketAddress;
use crate::datagram::{DatagramOptions, Interface};
use crate::driver::DatagramConfig;

pub(super) fn bind(config: &DatagramConfig<'_>) -> io::Result<OwnedFd> {
    let DatagramConfig { address, options } = *config;
    let socket = socket(address, SocketType::DGRAM)?;
    match address {
        SocketAddress::Inet(address) => {
            set_options(&socket, *address, options)?;
            rustix::net::bind(&socket, address)?;
        }
        SocketAddress::Unix(_) | SocketAddress::Unnamed => {}
    }
    match &options.connect {
        Some(SocketAddress::Inet(peer)) => rustix::net::connect(&socket, peer)?,
        Some(SocketAddress::Unix(peer)) => rustix::net::connect(&socket, &unix_address(peer)?)?,
        Some(SocketAddress::Unnamed) => return Err(no_name()),
        None => {}
    }
    // A path last: what fails before it leaves none behind.
    if let SocketAddress::Unix(name) = address {
        rustix::net::bind(&socket, &unix_address(name)?)?;
    }
    Ok(socket)
}

fn set_options(socket: &OwnedFd, address: SocketAddr, options: &DatagramOptions) -> io::Result<()> {
    if options.reuse_address {
        sockopt::set_socket_reuseaddr(socket, true)?;
    }
    if options.reuse_port {
        platform::set_reuse_port(socket)?;
    }
    if options.broadcast {
        sockopt::set_socket_broadcast(socket, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(socket, options.only_v6)?;
        if let Some(hops) = options.multicast_ttl {
            sockopt::set_ipv6_multicast_hops(socket, hops.into())?;
        }
        if let Some(yes) = options.multicast_loop {
            sockopt::set_ipv6_multicast_loop(socket, yes)?;
        }
    } else {
        if let Some(hops) = options.multicast_ttl {
            sockopt::set_ip_multicast_ttl(socket, hops.into())?;
        }
        if let Some(yes) = options.multicast_loop {
            sockopt::set_ip_multicast_loop(socket, yes)?;
        }
    }
    match (&options.multicast_interface, address.is_ipv6()) {
        (Interface::Any, _) => {}
        (Interface::Address(ip), false) => sockopt::set_ip_multicast_if(socket, ip)?,
        (Interface::Address(_), true) => return Err(address_of_v6()),
        (Interface::Index(index), false) => set_interface(socket, *index)?,
        (Interface::Index(index), true) => sockopt::set_ipv6_multicast_if(socket, *index)?,
    }
    Ok(())
}

fn address_of_v6() -> io::Error {
    let message = "for IPv6 an interface is named by its number";
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn set_interface(socket: &OwnedFd, index: u32) -> rustix::io::Result<()> {
    let (none, any) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
    sockopt::set_ip_multicast_if_with_ifindex(socket, &none, &any, index)
}

pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddress)> {
    let (length, from) = retrying(|| platform::receive(socket, buffer))?;
    // A Unix socket without a name has no address.
    let from = from.map_or(Ok(SocketAddress::Unnamed), from_kernel)?;
    Ok((length, from))
}

pub(super) fn send(socket: &OwnedFd, data: &[u8], to: Option<&SocketAddress>) -> io::Result<()> {
    let flags = platform::NOSIGNAL;
    match to {
        None => retrying(|| rustix::net::send(socket, data, flags))?,
        Some(SocketAddress::Inet(to)) => retrying(|| rustix::net::sendto(socket, data, flags, to))?,
        Some(SocketAddress::Unix(name)) => {
            let to = unix_address(name)?;
            retrying(|| rustix::net::sendto(socket, data, flags, &to))?
        }
        Some(SocketAddress::Unnamed) => return Err(no_name()),
    };
    Ok(())
}

pub(super) fn set_membership(
    socket: &OwnedFd,
    group: IpAddr,
    interface: &Interface,
    is_member: bool,
) -> io::Result<()> {
    let result = match (group, interface) {
        (IpAddr::V4(group), interface) => {
            let (address, index) = match interface {
                Interface::Any => (Ipv4Addr::UNSPECIFIED, 0),
                Interface::Address(address) => (*address, 0),
                Interface::Index(index) => (Ipv4Addr::UNSPECIFIED, *index),
            };
            set_membership_v4(socket, group, address, index, is_member)
        }
        (IpAddr::V6(_), Interface::Address(_)) => return Err(address_of_v6()),
        (IpAddr::V6(group), interface) => {
            let index = if let Interface::Index(index) = interface { *index } else { 0 };
            match is_member {
                true => sockopt::set_ipv6_add_membership(socket, &group, index),
                false => sockopt::set_ipv6_drop_membership(socket, &group, index),
            }
        }
    };
    Ok(result?)
}

fn set_membership_v4(
    socket: &OwnedFd,
    group: Ipv4Addr,
    address: Ipv4Addr,
    index: u32,
    is_member: bool,
) -> rustix::io::Result<()> {
    match is_member {
        true => sockopt::set_ip_add_membership_with_ifindex(socket, &group, &address, index),
        false => sockopt::set_ip_drop_membership_with_ifindex(socket, &group, &address, index),
    }
}
