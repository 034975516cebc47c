//! Datagrams of sockets that are bound to all addresses of the machine: to which of them they were sent, and from
//! which they leave (ip(7), `IP_PKTINFO`; ipv6(7), `IPV6_PKTINFO`).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};

use crate::address::SocketAddress;

/// What the kernel writes beside a datagram: both structures with their headers, and room for what else somebody may
/// have asked for on a socket that was made elsewhere. As it is read in place, it stands where such a header may.
#[repr(align(8))]
struct Control([u8; 128]);

/// Has the kernel tell where datagrams were sent, if the socket is bound to all addresses.
pub(super) fn ask_for(socket: &OwnedFd, bound_to: SocketAddr) -> io::Result<()> {
    match bound_to.ip() {
        ip if !ip.is_unspecified() => Ok(()),
        IpAddr::V4(_) => Ok(setsockopt(socket, Ipv4PacketInfo, &true)?),
        IpAddr::V6(_) => {
            setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
            // For what comes over IPv4: only this tells a broadcast from what is for this machine alone.
            Ok(setsockopt(socket, Ipv4PacketInfo, &true)?)
        }
    }
}

fn retrying<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// How many bytes came, who sent them, to which address if that was asked for, and how many bytes each datagram has, if
/// several were gathered.
pub(super) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddress, Option<IpAddr>, usize)> {
    let mut control = Control([0; 128]);
    retrying(|| {
        let mut slices = [IoSliceMut::new(&mut *buffer)];
        // With MSG_TRUNC the length is that of the whole datagram (recv(2)).
        let (control, flags) = (Some(&mut control.0[..]), MsgFlags::MSG_TRUNC);
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, control, flags)?;
        let from = message.address.as_ref().and_then(inet).ok_or(Errno::EAFNOSUPPORT)?;
        let (mut to, mut each) = (None, message.bytes);
        // None if somebody asked for more than fits.
        for told in message.cmsgs().into_iter().flatten() {
            match told {
                ControlMessageOwned::UdpGroSegments(bytes) => {
                    each = usize::try_from(bytes).unwrap_or(each);
                }
                told => to = to.or_else(|| destination(&told)),
            }
        }
        let to = to.map(|to| of_family(from, to));
        Ok((message.bytes, SocketAddress::Inet(from), to, each))
    })
}

fn inet(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

/// The address of this machine, if it is one: neither a group's, nor a broadcast address, whose datagrams have another
/// one that an answer may leave from. A link-local one is none without its interface, by which the kernel finds it
/// again.
fn destination(told: &ControlMessageOwned) -> Option<IpAddr> {
    match told {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let is_own = info.ipi_addr.s_addr == info.ipi_spec_dst.s_addr;
            is_own.then(|| Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let is_own = !ip.is_multicast() && !ip.is_unicast_link_local();
            (is_own && ip.to_ipv4_mapped().is_none()).then_some(ip.into())
        }
        _ => None,
    }
}

/// The addresses of a socket for both families are all of IPv6.
fn of_family(other: SocketAddr, ip: IpAddr) -> IpAddr {
    match (other, ip) {
        (SocketAddr::V6(_), IpAddr::V4(ip)) => ip.to_ipv6_mapped().into(),
        (_, ip) => ip,
    }
}

/// Where a datagram is to leave from, as the kernel wants to be told.
pub(super) enum Source {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl Source {
    /// None if they are of different families, of which the kernel would say nothing.
    pub(super) fn new(from: IpAddr, to: SocketAddr) -> Option<Source> {
        let from = from.to_canonical();
        if from.is_ipv4() != to.ip().to_canonical().is_ipv4() {
            return None;
        }
        Some(match of_family(to, from) {
            IpAddr::V4(ip) => {
                let (source, none) = (u32::from_ne_bytes(ip.octets()), in_addr { s_addr: 0 });
                let source = in_addr { s_addr: source };
                Source::V4(in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: none })
            }
            IpAddr::V6(ip) => {
                let source = in6_addr { s6_addr: ip.octets() };
                Source::V6(in6_pktinfo { ipi6_addr: source, ipi6_ifindex: 0 })
            }
        })
    }

    pub(super) fn control(&self) -> ControlMessage<'_> {
        match self {
            Source::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Source::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

/// An allocation of some bytes (nix), beside the call.
pub(super) fn send(
    socket: &OwnedFd,
    data: &[u8],
    from: IpAddr,
    to: &SocketAddress,
) -> io::Result<()> {
    let SocketAddress::Inet(to) = to else { return Err(io::ErrorKind::InvalidInput.into()) };
    let source = Source::new(from, *to).ok_or(io::ErrorKind::InvalidInput)?;
    let (slices, to) = ([IoSlice::new(data)], SockaddrStorage::from(*to));
    let (control, flags) = ([source.control()], MsgFlags::MSG_NOSIGNAL);
    retrying(|| sendmsg(socket.as_raw_fd(), &slices, &control, flags, Some(&to)))?;
    Ok(())
}
