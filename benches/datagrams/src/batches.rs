//! The ways to echo.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrStorage, recvmmsg, sendmmsg,
    sendmsg,
};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

/// Echoes until it is over: how many datagrams, and in how many system calls.
pub(crate) type Echo = fn(&UdpSocket, &AtomicBool) -> io::Result<(usize, usize)>;

/// The first one is the reactor's, the second one that with the feature `udp-batch`.
pub(crate) const WAYS: [(&str, Echo); 5] = [
    ("recvfrom, sendto", single::<false>),
    ("recvfrom, GSO", single::<true>),
    ("recvmmsg 8, sendmmsg", batches::<8>),
    ("recvmmsg 32, sendmmsg", batches::<32>),
    ("quinn-udp, GSO", quinn),
];

/// What a datagram may have, so that none is cut; and a little more, so that the beginnings of buffers which stand side
/// by side do not share a place in the processor's cache.
const LENGTH_MAX: usize = 64 * 1024 + 192;

/// As many as the reactor receives and sends before it looks at others.
const BUDGET: usize = 64;

/// As many are cut from one by the kernel; of those here, which are small, no more bytes than it takes.
const GSO_LEN_MAX: usize = 48;

/// Waits for datagrams, or for the end, which is false.
fn wait(socket: &UdpSocket, is_over: &AtomicBool, calls: &mut usize) -> io::Result<bool> {
    let timeout = Duration::from_millis(20).try_into().expect("it is short");
    loop {
        *calls += 1;
        if poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout))? > 0 {
            return Ok(true);
        }
        if is_over.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
}

/// As the reactor: each is received and queued, a budget of them, and then each is sent, or neighbours of one length for
/// one receiver as one.
fn single<const AS_ONE: bool>(
    socket: &UdpSocket,
    is_over: &AtomicBool,
) -> io::Result<(usize, usize)> {
    let mut buffer = vec![0; LENGTH_MAX];
    let (mut queue, mut data) = (Vec::with_capacity(BUDGET), Vec::with_capacity(LENGTH_MAX));
    let (mut echoed, mut calls) = (0, 0);
    while wait(socket, is_over, &mut calls)? {
        let mut is_drained = false;
        while !is_drained {
            while queue.len() < BUDGET && !is_drained {
                calls += 1;
                match recvfrom(socket, &mut buffer[..], RecvFlags::TRUNC) {
                    Ok((count, _, from)) => {
                        data.extend_from_slice(&buffer[..count]);
                        queue.push((address(from), count));
                    }
                    Err(Errno::AGAIN) => is_drained = true,
                    Err(error) => return Err(error.into()),
                }
            }
            let (mut start, mut rest) = (0, &queue[..]);
            while let [(to, length), ..] = rest {
                let most = if AS_ONE { GSO_LEN_MAX } else { 1 };
                let alike = rest.iter().take(most).take_while(|next| **next == (*to, *length));
                let count = alike.count();
                let end = start + count * length;
                calls += 1;
                match count {
                    1 => {
                        sendto(socket, &data[start..end], SendFlags::NOSIGNAL, to)?;
                    }
                    _ => send_as_one(socket, &data[start..end], *length, *to)?,
                }
                (start, rest) = (end, &rest[count..]);
            }
            echoed += queue.len();
            queue.clear();
            data.clear();
        }
    }
    Ok((echoed, calls))
}

fn send_as_one(socket: &UdpSocket, data: &[u8], length: usize, to: SocketAddr) -> io::Result<()> {
    let length = u16::try_from(length).expect("it was received");
    let (data, segments) = ([IoSlice::new(data)], [ControlMessage::UdpGsoSegments(&length)]);
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &data, &segments, MsgFlags::MSG_NOSIGNAL, Some(&to))?;
    Ok(())
}

fn address(from: Option<rustix::net::SocketAddrAny>) -> SocketAddr {
    from.and_then(|from| from.try_into().ok()).expect("it is one of UDP")
}

/// Many are received with a call, queued, and sent with a call.
fn batches<const N: usize>(socket: &UdpSocket, is_over: &AtomicBool) -> io::Result<(usize, usize)> {
    let mut buffers = vec![0; N * LENGTH_MAX];
    let mut incoming = MultiHeaders::<SockaddrIn>::preallocate(N, None);
    let mut outgoing = MultiHeaders::<SockaddrIn>::preallocate(N, None);
    let (mut data, mut queue) = (Vec::new(), Vec::with_capacity(N));
    let (mut echoed, mut calls) = (0, 0);
    while wait(socket, is_over, &mut calls)? {
        loop {
            calls += 1;
            if !receive::<N>(socket, &mut incoming, &mut buffers, &mut queue, &mut data)? {
                break;
            }
            let count = queue.len();
            let mut start = 0;
            let mut slices = Vec::with_capacity(N);
            let mut receivers = Vec::with_capacity(N);
            for (to, length) in queue.drain(..) {
                slices.push([IoSlice::new(&data[start..start + length])]);
                receivers.push(Some(to));
                start += length;
            }
            let mut sent = 0;
            while sent < count {
                calls += 1;
                let (slices, receivers) = (&slices[sent..], &receivers[sent..]);
                let flags = MsgFlags::MSG_NOSIGNAL;
                let results =
                    sendmmsg(socket.as_raw_fd(), &mut outgoing, slices, receivers, [], flags)?;
                sent += results.count();
            }
            echoed += count;
            data.clear();
            if count < N {
                break;
            }
        }
    }
    Ok((echoed, calls))
}

/// One recvmmsg(2), whose datagrams are queued; false if there is none.
fn receive<const N: usize>(
    socket: &UdpSocket,
    incoming: &mut MultiHeaders<SockaddrIn>,
    buffers: &mut [u8],
    queue: &mut Vec<(SockaddrIn, usize)>,
    data: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut chunks = buffers.chunks_mut(LENGTH_MAX);
    let mut slices: [[IoSliceMut<'_>; 1]; N] =
        std::array::from_fn(|_| [IoSliceMut::new(chunks.next().expect("one for each"))]);
    let flags = MsgFlags::MSG_TRUNC;
    let received = match recvmmsg(socket.as_raw_fd(), incoming, &mut slices, flags, None) {
        Ok(received) => received,
        Err(nix::Error::EAGAIN) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    for message in received {
        data.extend_from_slice(message.iovs().next().unwrap_or_default());
        queue.push((message.address.expect("it is one of UDP"), message.bytes));
    }
    Ok(true)
}

/// Neighbours of one length for one receiver are sent as one.
fn quinn(socket: &UdpSocket, is_over: &AtomicBool) -> io::Result<(usize, usize)> {
    const N: usize = quinn_udp::BATCH_SIZE;
    let state = UdpSocketState::new(socket.into())?;
    let mut buffers = vec![0; N * LENGTH_MAX];
    let mut metas = [RecvMeta::default(); N];
    let (mut data, mut queue) = (Vec::new(), Vec::new());
    let (mut echoed, mut calls) = (0, 0);
    while wait(socket, is_over, &mut calls)? {
        loop {
            let mut chunks = buffers.chunks_mut(LENGTH_MAX);
            let mut slices: [IoSliceMut<'_>; N] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().expect("one for each")));
            calls += 1;
            let count = match state.recv(socket.into(), &mut slices, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            for (meta, slice) in metas[..count].iter().zip(&slices) {
                for datagram in slice[..meta.len].chunks(meta.stride) {
                    data.extend_from_slice(datagram);
                    queue.push((meta.addr, datagram.len()));
                }
            }
            let (mut start, mut rest) = (0, &queue[..]);
            while let [(to, length), ..] = rest {
                let most = state.max_gso_segments().min(GSO_LEN_MAX).min(rest.len());
                let equal = rest[..most].iter().take_while(|next| **next == (*to, *length)).count();
                let end = start + equal * length;
                let transmit = Transmit {
                    destination: *to,
                    ecn: None,
                    contents: &data[start..end],
                    segment_size: (equal > 1).then_some(*length),
                    src_ip: None,
                };
                calls += 1;
                state.try_send(socket.into(), &transmit)?;
                (start, rest) = (end, &rest[equal..]);
            }
            echoed += queue.len();
            queue.clear();
            data.clear();
            if count < N {
                break;
            }
        }
    }
    Ok((echoed, calls))
}
