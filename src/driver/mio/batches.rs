//! Datagrams in batches, by generic segmentation offload: udp(7), `UDP_SEGMENT`.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use crate::address::SocketAddress;

/// Sends datagrams of one length as one, which the kernel cuts as late as it can. None if it cannot, and has sent
/// nothing.
pub(super) fn send(
    socket: &OwnedFd,
    data: &[u8],
    length: usize,
    to: Option<&SocketAddress>,
) -> Option<io::Result<()>> {
    let length = u16::try_from(length).ok()?;
    let to = match to {
        Some(SocketAddress::Inet(to)) => Some(SockaddrStorage::from(*to)),
        Some(SocketAddress::Unix(_) | SocketAddress::Unnamed) => return None,
        None => None,
    };
    let (data, segments) = ([IoSlice::new(data)], [ControlMessage::UdpGsoSegments(&length)]);
    loop {
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg(socket.as_raw_fd(), &data, &segments, flags, to.as_ref()) {
            Ok(_) => return Some(Ok(())),
            Err(Errno::EINTR) => {}
            // It is no UDP socket, or one that asks for no checksums; the device makes none; or they would have to be
            // sent in fragments.
            Err(Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE | Errno::EOPNOTSUPP) => return None,
            Err(error) => return Some(Err(error.into())),
        }
    }
}
