//! Datagram sockets: UDP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::UdpSocket;
use rustix::io::Errno;
use socket2::{InterfaceIndexOrAddress, SockRef, Type};

use super::socket::{Kind, Socket, inet, lacks, make};
use crate::address::SocketAddress;
use crate::datagram::options::{no_address_for_v6, no_group_of_v4};
use crate::datagram::{DatagramOptions, Interface};
use crate::driver::DatagramConfig;

pub(super) fn bind(config: &DatagramConfig<'_>) -> io::Result<Socket> {
    let address = inet(config.address)?;
    let socket = make(address, Type::DGRAM)?;
    set_options(&socket, address, config.options)?;
    socket.bind(&address.into())?;
    if let Some(peer) = &config.options.connect {
        socket.connect(&inet(peer)?.into())?;
    }
    Ok(Kind::Datagram(UdpSocket::from_std(socket.into())).into())
}

fn set_options(
    socket: &socket2::Socket,
    address: SocketAddr,
    options: &DatagramOptions,
) -> io::Result<()> {
    options.no_gathering("elsewhere than on Linux")?;
    if options.reuse_port {
        return Err(lacks("reuse_port"));
    }
    socket.set_reuse_address(options.reuse_address)?;
    socket.set_broadcast(options.broadcast)?;
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?;
    }
    set_multicast(socket, address, options)
}

/// A socket that takes both families sends to groups of both, for which it has options of their own.
fn set_multicast(
    socket: &socket2::Socket,
    address: SocketAddr,
    options: &DatagramOptions,
) -> io::Result<()> {
    let has_v6 = address.is_ipv6();
    let has_v4 = !has_v6 || address.ip().is_unspecified() && !options.only_v6;
    if let Some(hops) = options.multicast_ttl {
        if has_v6 {
            socket.set_multicast_hops_v6(hops.into())?;
        }
        if has_v4 {
            socket.set_multicast_ttl_v4(hops.into())?;
        }
    }
    if let Some(yes) = options.multicast_loop {
        if has_v6 {
            socket.set_multicast_loop_v6(yes)?;
        }
        if has_v4 {
            socket.set_multicast_loop_v4(yes)?;
        }
    }
    match &options.multicast_interface {
        Interface::Any => {}
        Interface::Address(_) if has_v6 => return Err(no_address_for_v6()),
        Interface::Address(ip) => socket.set_multicast_if_v4(ip)?,
        Interface::Index(index) => {
            if has_v6 {
                socket.set_multicast_if_v6(*index)?;
            }
            if has_v4 {
                // An address in 0.0.0.0/8 is taken for an interface's number (IP_MULTICAST_IF).
                socket.set_multicast_if_v4(&Ipv4Addr::from(*index))?;
            }
        }
    }
    Ok(())
}

/// Of a datagram that was cut only that is told: it counts as one byte longer than what fits, and from nobody.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddress)> {
    match socket.datagram().recv_from(buffer) {
        Ok((length, from)) => Ok((length, from.into())),
        Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
            Ok((buffer.len() + 1, SocketAddress::Unnamed))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn send(socket: &Socket, data: &[u8], to: Option<&SocketAddress>) -> io::Result<()> {
    let socket = socket.datagram();
    match to {
        None => socket.send(data)?,
        Some(to) => socket.send_to(data, inet(to)?)?,
    };
    Ok(())
}

pub(super) fn set_membership(
    socket: &Socket,
    group: IpAddr,
    interface: &Interface,
    is_member: bool,
) -> io::Result<()> {
    let datagram = socket.datagram();
    let socket = SockRef::from(&*datagram);
    match (group, interface) {
        (IpAddr::V4(group), interface) => {
            if socket.local_addr()?.is_ipv6() && socket.only_v6()? {
                return Err(no_group_of_v4());
            }
            let interface = match interface {
                Interface::Any => InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED),
                Interface::Address(address) => InterfaceIndexOrAddress::Address(*address),
                Interface::Index(index) => InterfaceIndexOrAddress::Index(*index),
            };
            match is_member {
                true => socket.join_multicast_v4_n(&group, &interface),
                false => socket.leave_multicast_v4_n(&group, &interface),
            }
        }
        (IpAddr::V6(_), Interface::Address(_)) => Err(no_address_for_v6()),
        (IpAddr::V6(group), interface) => {
            let index = if let Interface::Index(index) = interface { *index } else { 0 };
            match is_member {
                true => socket.join_multicast_v6(&group, index),
                false => socket.leave_multicast_v6(&group, index),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The interface is left out: Wine takes no number for IPv4.
    #[test]
    fn a_socket_for_both_families_has_the_multicast_options_of_both() {
        let options = DatagramOptions::new().multicast_ttl(7).multicast_loop(false);
        let address = "[::]:0".parse::<SocketAddr>().unwrap().into();
        let socket = bind(&DatagramConfig { address: &address, options: &options }).unwrap();
        let datagram = socket.datagram();
        let socket = SockRef::from(&*datagram);
        let hops = (socket.multicast_hops_v6().unwrap(), socket.multicast_ttl_v4().unwrap());
        assert_eq!(hops, (7, 7));
        let loops = (socket.multicast_loop_v6().unwrap(), socket.multicast_loop_v4().unwrap());
        assert_eq!(loops, (false, false));
    }
}
