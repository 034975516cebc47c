//! One direction: a flow of datagrams to who only receives, which are gathered by the kernel or not (GRO; udp(7),
//! `UDP_GRO`).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::UdpGroSegment;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recvfrom};
use rustix::time::{ClockId, clock_gettime};

use crate::measure::median;

/// How many datagrams the sender has in a burst, and how many bytes these have.
const LOADS: [(usize, usize); 4] = [(1, 64), (16, 64), (16, 1200), (48, 1200)];

/// As many bursts at most are under way.
const BURSTS_MAX: usize = 2;

/// After so long a burst that was not received is lost.
const PATIENCE: Duration = Duration::from_millis(20);

/// Whether a burst is sent as one datagram that the kernel cuts (GSO), and whether it is gathered again.
const WAYS: [(&str, bool, bool); 4] = [
    ("sendto, recvfrom", false, false),
    ("sendto, GRO", false, true),
    ("GSO, recvfrom", true, false),
    ("GSO, GRO", true, true),
];

struct Cost {
    received: usize,
    receiver: Duration,
    both: Duration,
}

pub(crate) fn main(count: usize, rounds: usize) -> io::Result<()> {
    for (burst, bytes) in LOADS {
        let mut costs: Vec<Vec<Cost>> = WAYS.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((_, sends_as_one, gathers), costs) in WAYS.iter().zip(&mut costs) {
                costs.push(measure(*sends_as_one, *gathers, burst, bytes, count)?);
            }
        }
        println!(
            "a flow of {bytes} bytes in bursts of {burst}; {count} at a time, median of {rounds}"
        );
        println!("{:>24} {:>12} {:>9} {:>12}", "", "ns receiver", "of first", "ns both");
        let mut first = None;
        for ((name, ..), costs) in WAYS.iter().zip(&costs) {
            let of = |time: fn(&Cost) -> Duration| {
                let each = |cost: &Cost| time(cost).as_secs_f64() * 1e9 / cost.received as f64;
                median(costs.iter().map(each).collect())
            };
            let (receiver, both) = (of(|cost| cost.receiver), of(|cost| cost.both));
            let share = 100.0 * receiver / *first.get_or_insert(receiver);
            println!("{name:>24} {receiver:>12.0} {share:>8.0}% {both:>12.0}");
        }
    }
    Ok(())
}

fn since(clock: ClockId, start: rustix::time::Timespec) -> Duration {
    Duration::try_from(clock_gettime(clock) - start).expect("time passes")
}

fn measure(
    sends_as_one: bool,
    gathers: bool,
    burst: usize,
    bytes: usize,
    count: usize,
) -> io::Result<Cost> {
    let (receiver, sender) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    receiver.set_nonblocking(true)?;
    sender.connect(receiver.local_addr()?)?;
    setsockopt(&receiver, UdpGroSegment, &gathers)?;
    let (received, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let all = clock_gettime(ClockId::ProcessCPUTime);
    thread::scope(|scope| {
        let receives = scope.spawn(|| {
            let start = clock_gettime(ClockId::ThreadCPUTime);
            receive(&receiver, gathers, &received, &is_over)?;
            io::Result::Ok(since(ClockId::ThreadCPUTime, start))
        });
        send(&sender, sends_as_one, burst, bytes, count, &received)?;
        is_over.store(true, Ordering::Relaxed);
        let receiver = receives.join().expect("it does not panic")?;
        let both = since(ClockId::ProcessCPUTime, all);
        Ok(Cost { received: received.load(Ordering::Relaxed), receiver, both })
    })
}

fn send(
    socket: &UdpSocket,
    as_one: bool,
    burst: usize,
    bytes: usize,
    count: usize,
    received: &AtomicUsize,
) -> io::Result<()> {
    let data = vec![0x55; burst * bytes];
    let (mut sent, mut lost) = (0, 0);
    while sent < count {
        if as_one && burst > 1 {
            let length = u16::try_from(bytes).expect("it is short");
            let (slices, segments) =
                ([IoSlice::new(&data)], [ControlMessage::UdpGsoSegments(&length)]);
            let none = None::<&SockaddrStorage>;
            sendmsg(socket.as_raw_fd(), &slices, &segments, MsgFlags::empty(), none)?;
        } else {
            for datagram in data.chunks(bytes) {
                socket.send(datagram)?;
            }
        }
        sent += burst;
        let start = Instant::now();
        // What was given up may have come after all.
        let under_way = || (sent - lost).saturating_sub(received.load(Ordering::Relaxed));
        while under_way() > (BURSTS_MAX - 1) * burst && start.elapsed() < PATIENCE {
            thread::yield_now();
        }
        if start.elapsed() >= PATIENCE {
            lost += under_way();
        }
    }
    Ok(())
}

/// Receives a budget of datagrams, as the reactor does, and looks at each.
fn receive(
    socket: &UdpSocket,
    gathers: bool,
    received: &AtomicUsize,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let timeout = Duration::from_millis(20).try_into().expect("it is short");
    while poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout))? > 0
        || !is_over.load(Ordering::Relaxed)
    {
        loop {
            let came = match gathers {
                true => receive_gathered(socket, &mut buffer)?,
                false => match recvfrom(socket, &mut buffer[..], RecvFlags::TRUNC) {
                    Ok((count, ..)) => Some((count, count)),
                    Err(Errno::AGAIN) => None,
                    Err(error) => return Err(error.into()),
                },
            };
            let Some((count, length)) = came else { break };
            let datagrams = buffer[..count].chunks(length);
            received.fetch_add(datagrams.map(std::hint::black_box).count(), Ordering::Relaxed);
        }
    }
    Ok(())
}

/// How many bytes came, and how many of them each datagram has.
fn receive_gathered(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, usize)>> {
    let mut control = nix::cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(buffer)];
    let (control, flags) = (Some(&mut control[..]), MsgFlags::MSG_TRUNC);
    let message = match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, control, flags)
    {
        Ok(message) => message,
        Err(nix::Error::EAGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = message.cmsgs()?.find_map(|told| match told {
        ControlMessageOwned::UdpGroSegments(length) => usize::try_from(length).ok(),
        _ => None,
    });
    Ok(Some((message.bytes, length.unwrap_or(message.bytes))))
}
