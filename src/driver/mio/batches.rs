//! Datagrams in batches, by generic segmentation offload: udp(7), `UDP_SEGMENT` and `UDP_GRO`.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::UdpGroSegment;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt};

use super::destination::Source;
use crate::address::SocketAddress;
use crate::driver::Batch;

/// Has the kernel hand over together what belongs together.
pub(super) fn gather(socket: &OwnedFd) -> io::Result<()> {
    Ok(setsockopt(socket, UdpGroSegment, &true)?)
}

/// Sends them as one, which the kernel cuts as late as it can. None if it cannot, and has sent nothing, or if there is
/// only one.
pub(super) fn send(socket: &OwnedFd, batch: Batch<'_>) -> Option<io::Result<()>> {
    if batch.len() == 1 {
        return None;
    }
    let length = u16::try_from(batch.length).ok()?;
    let to = match batch.to {
        Some(SocketAddress::Inet(to)) => Some(*to),
        Some(SocketAddress::Unix(_) | SocketAddress::Unnamed) => return None,
        None => None,
    };
    let data = [IoSlice::new(batch.data)];
    let source = match batch.from.zip(to) {
        Some((from, to)) => Some(Source::new(from, to)?),
        None => None,
    };
    let segments = ControlMessage::UdpGsoSegments(&length);
    let both;
    let controls = match &source {
        Some(source) => {
            both = [segments, source.control()];
            &both[..]
        }
        None => &[segments][..],
    };
    let to = to.map(SockaddrStorage::from);
    loop {
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg(socket.as_raw_fd(), &data, controls, flags, to.as_ref()) {
            Ok(_) => return Some(Ok(())),
            Err(Errno::EINTR) => {}
            // It is no UDP socket, or one that asks for no checksums; the device makes none; or they would have to be
            // sent in fragments.
            Err(Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE | Errno::EOPNOTSUPP) => return None,
            Err(error) => return Some(Err(error.into())),
        }
    }
}
