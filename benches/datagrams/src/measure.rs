//! Clients, rounds, and the table.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};

use crate::batches::{Echo, WAYS};
use crate::flow;

/// How many clients there are, how many datagrams each has in flight, and how many bytes they have.
const LOADS: [(usize, usize, usize); 4] = [(1, 128, 64), (16, 8, 64), (16, 8, 1200), (128, 1, 64)];

/// How long an answer may take; then the datagram is lost, and the client sends another one.
const PATIENCE: Duration = Duration::from_millis(20);

struct Cost {
    server: Duration,
    elapsed: Duration,
    calls: usize,
    echoed: usize,
    lost: usize,
}

pub(crate) fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse().expect("a number"));
    let count = arguments.next().unwrap_or(100) * 1000;
    let rounds = arguments.next().unwrap_or(7);
    for (clients, window, bytes) in LOADS {
        let mut costs: Vec<Vec<Cost>> = WAYS.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((_, echo), costs) in WAYS.iter().zip(&mut costs) {
                costs.push(measure(*echo, clients, window, bytes, count)?);
            }
        }
        println!(
            "{clients} clients, {window} of {bytes} bytes in flight each; {count} at a time, median of {rounds}"
        );
        println!(
            "{:>24} {:>10} {:>9} {:>14} {:>15} {:>5}",
            "", "ns CPU", "of first", "datagrams/s", "calls/datagram", "lost"
        );
        let mut first = None;
        for ((name, _), costs) in WAYS.iter().zip(&costs) {
            let of = |what: fn(&Cost) -> f64| median(costs.iter().map(what).collect());
            let server = of(|cost| cost.server.as_secs_f64() * 1e9 / cost.echoed as f64);
            let speed = of(|cost| cost.echoed as f64 / cost.elapsed.as_secs_f64());
            let calls = of(|cost| cost.calls as f64 / cost.echoed as f64);
            let share = 100.0 * server / *first.get_or_insert(server);
            let lost: usize = costs.iter().map(|cost| cost.lost).sum();
            println!(
                "{name:>24} {server:>10.0} {share:>8.0}% {speed:>14.0} {calls:>15.2} {lost:>5}"
            );
        }
    }
    flow::main(count, rounds)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(
    echo: Echo,
    clients: usize,
    window: usize,
    bytes: usize,
    count: usize,
) -> io::Result<Cost> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let server = socket.local_addr()?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let served = scope.spawn(|| {
            let (before, start) = (clock_gettime(ClockId::ThreadCPUTime), Instant::now());
            let (echoed, calls) = echo(&socket, &is_over)?;
            let after = clock_gettime(ClockId::ThreadCPUTime);
            let server = Duration::try_from(after - before).expect("time passes");
            io::Result::Ok(Cost { server, elapsed: start.elapsed(), calls, echoed, lost: 0 })
        });
        let lost = load(server, clients, window, bytes, count)?;
        is_over.store(true, Ordering::Relaxed);
        Ok(Cost { lost, ..served.join().expect("it does not panic")? })
    })
}

/// Sends so many datagrams and waits for their answers: how many got none.
fn load(
    server: std::net::SocketAddr,
    clients: usize,
    window: usize,
    bytes: usize,
    count: usize,
) -> io::Result<usize> {
    let sockets: Vec<UdpSocket> = (0..clients)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect::<io::Result<_>>()?;
    let (message, mut buffer) = (vec![0x55; bytes], vec![0; 2048]);
    let (mut sent, mut answered, mut lost) = (0, 0, 0);
    for socket in &sockets {
        for _ in 0..window {
            socket.send(&message)?;
            sent += 1;
        }
    }
    let mut last = Instant::now();
    while answered + lost < count {
        let mut is_idle = true;
        for socket in &sockets {
            // All of its answers, and then as many new ones.
            let mut room = 0;
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => assert_eq!(length, bytes),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
                room += 1;
            }
            answered += room;
            for _ in 0..room.min(count.saturating_sub(sent)) {
                socket.send(&message)?;
                sent += 1;
            }
            is_idle &= room == 0;
        }
        if !is_idle {
            last = Instant::now();
        } else if last.elapsed() > PATIENCE {
            let missing = sent - answered - lost;
            lost += missing;
            for number in 0..missing.min(count.saturating_sub(sent)) {
                sockets[number % clients].send(&message)?;
                sent += 1;
            }
            last = Instant::now();
        } else {
            let mut all: Vec<PollFd<'_>> =
                sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            poll(&mut all, Some(&Duration::from_millis(5).try_into().expect("it is short")))?;
        }
    }
    Ok(lost)
}
