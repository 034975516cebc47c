//! Datagram sockets: UDP and Unix.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

#[cfg(target_os = "linux")]
use super::destination;
use super::options::set_buffers;
use super::sockets::{from_kernel, local_address, no_name, peer_address, socket, unix_address};
use super::unix::{self, BoundPath};
use super::{platform, retrying};
use crate::address::SocketAddress;
use crate::datagram::options::{no_address_for_v6, no_group_of_v4};
use crate::datagram::{DatagramOptions, Interface};
use crate::driver::DatagramConfig;

pub(super) fn bind(config: &DatagramConfig<'_>) -> io::Result<(OwnedFd, Option<BoundPath>)> {
    let DatagramConfig { address, options } = *config;
    let socket = socket(address, SocketType::DGRAM)?;
    set_buffers(&socket, options.receive_buffer_bytes, options.send_buffer_bytes, Level::Warn)?;
    match address {
        SocketAddress::Inet(address) => {
            set_options(&socket, *address, options)?;
            gather(&socket, options)?;
            #[cfg(target_os = "linux")]
            destination::ask_for(&socket, *address)?;
            rustix::net::bind(&socket, address)?;
        }
        SocketAddress::Unix(_) | SocketAddress::Unnamed => {}
    }
    connect(&socket, options)?;
    // A path last: what fails before it leaves none behind.
    let path = match address {
        SocketAddress::Unix(name) => {
            unix::bind(&socket, name, options.unix_mode, options.replace_stale)?
        }
        SocketAddress::Inet(_) | SocketAddress::Unnamed => None,
    };
    Ok((socket, path))
}

fn connect(socket: &OwnedFd, options: &DatagramOptions) -> io::Result<()> {
    match &options.connect {
        Some(SocketAddress::Inet(peer)) => rustix::net::connect(socket, peer)?,
        Some(SocketAddress::Unix(peer)) => rustix::net::connect(socket, &unix_address(peer)?)?,
        Some(SocketAddress::Unnamed) => return Err(no_name()),
        None => {}
    }
    Ok(())
}

/// Takes in a socket that is bound: whom it is bound and connected to.
pub(super) fn adopt(
    socket: &OwnedFd,
    options: &DatagramOptions,
) -> io::Result<(SocketAddress, Option<SocketAddress>)> {
    let refuse = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    match sockopt::socket_type(socket) {
        Ok(SocketType::DGRAM) => {}
        Ok(_) => return refuse("the descriptor is no datagram socket"),
        Err(Errno::NOTSOCK) => return refuse("the descriptor is no socket"),
        Err(error) => return Err(error.into()),
    }
    let families = [AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX];
    if !families.contains(&rustix::net::getsockname(socket)?.address_family()) {
        return refuse("the descriptor is neither a UDP nor a Unix socket");
    }
    let address = local_address(socket)?;
    options.check(&address)?;
    // Of the open file, and so of everybody who shares it (open(2)).
    rustix::io::ioctl_fionbio(socket, true)?;
    set_buffers(socket, options.receive_buffer_bytes, options.send_buffer_bytes, Level::Warn)?;
    platform::prevent_sigpipe(socket)?;
    if let SocketAddress::Inet(address) = address {
        #[cfg(target_os = "linux")]
        destination::ask_for(socket, address)?;
        if options.broadcast {
            sockopt::set_socket_broadcast(socket, true)?;
        }
        let only_v6 = address.is_ipv6() && sockopt::ipv6_v6only(socket)?;
        set_multicast(socket, address, only_v6, options)?;
        gather(socket, options)?;
    }
    connect(socket, options)?;
    match peer_address(socket) {
        Ok(peer) => Ok((address, Some(peer))),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok((address, None)),
        Err(error) => Err(error),
    }
}

#[cfg(all(feature = "udp-batch", target_os = "linux"))]
fn gather(socket: &OwnedFd, options: &DatagramOptions) -> io::Result<()> {
    if options.gather { super::batches::gather(socket) } else { Ok(()) }
}

#[cfg(not(all(feature = "udp-batch", target_os = "linux")))]
fn gather(_: &OwnedFd, options: &DatagramOptions) -> io::Result<()> {
    options.no_gathering("without the feature udp-batch, and elsewhere than on Linux")
}

/// Whether it would be reported as writable: of an error the send tells.
pub(super) fn is_writable(socket: &OwnedFd) -> bool {
    let mut descriptors = [PollFd::new(socket, PollFlags::OUT)];
    let count = retrying(|| rustix::event::poll(&mut descriptors, Some(&Timespec::default())));
    count.is_ok_and(|count| count > 0)
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
    }
    set_multicast(socket, address, options.only_v6, options)
}

/// A socket that takes both families sends to groups of both, for which it has options of their own.
fn set_multicast(
    socket: &OwnedFd,
    address: SocketAddr,
    only_v6: bool,
    options: &DatagramOptions,
) -> io::Result<()> {
    let has_v6 = address.is_ipv6();
    let has_v4 = !has_v6 || address.ip().is_unspecified() && !only_v6;
    if let Some(hops) = options.multicast_ttl {
        if has_v6 {
            sockopt::set_ipv6_multicast_hops(socket, hops.into())?;
        }
        if has_v4 {
            sockopt::set_ip_multicast_ttl(socket, hops.into())?;
        }
    }
    if let Some(yes) = options.multicast_loop {
        if has_v6 {
            sockopt::set_ipv6_multicast_loop(socket, yes)?;
        }
        if has_v4 {
            sockopt::set_ip_multicast_loop(socket, yes)?;
        }
    }
    match &options.multicast_interface {
        Interface::Any => {}
        Interface::Address(_) if has_v6 => return Err(no_address_for_v6()),
        Interface::Address(ip) => sockopt::set_ip_multicast_if(socket, ip)?,
        Interface::Index(index) => {
            if has_v6 {
                sockopt::set_ipv6_multicast_if(socket, *index)?;
            }
            if has_v4 {
                set_interface(socket, *index)?;
            }
        }
    }
    Ok(())
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
    let is_v6 = rustix::net::getsockname(socket)?.address_family() == AddressFamily::INET6;
    let result = match (group, interface) {
        (IpAddr::V4(group), interface) => {
            if is_v6 && sockopt::ipv6_v6only(socket)? {
                return Err(no_group_of_v4());
            }
            let (address, index) = match interface {
                Interface::Any => (Ipv4Addr::UNSPECIFIED, 0),
                Interface::Address(address) => (*address, 0),
                Interface::Index(index) => (Ipv4Addr::UNSPECIFIED, *index),
            };
            set_membership_v4(socket, group, address, index, is_member)
        }
        (IpAddr::V6(_), Interface::Address(_)) => return Err(no_address_for_v6()),
        (IpAddr::V6(group), interface) => {
            let index = if let Interface::Index(index) = interface { *index } else { 0 };
            match is_member {
                true => sockopt::set_ipv6_add_membership(socket, &group, index),
                false => sockopt::set_ipv6_drop_membership(socket, &group, index),
            }
        }
    };
    result?;
    if is_member {
        platform::hear_own_groups(socket, is_v6)?;
    }
    Ok(())
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
