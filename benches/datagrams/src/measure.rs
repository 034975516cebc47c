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
    let mut arguments = std::env::args().skip(1);
    let count = number(arguments.next(), 100) * 1000;
    let rounds = number(arguments.next(), 7);
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

/// Of the command line: at least one, or what is usual.
fn number(argument: Option<String>, usual: usize) -> usize {
    let Some(text) = argument else { return usual };
    match text.parse() {
        Ok(number @ 1..=1_000_000) => number,
        _ => {
            eprintln!("\"{text}\" is no whole number from 1 to 1000000");
            std::process::exit(2);
        }
    }
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
            let before = clock_gettime(ClockId::ThreadCPUTime);
            let (echoed, calls) = echo(&socket, &is_over)?;
            let after = clock_gettime(ClockId::ThreadCPUTime);
            let server = Duration::try_from(after - before).expect("time passes");
            io::Result::Ok((server, calls, echoed))
        });
        let loaded = load(server, clients, window, bytes, count);
        is_over.store(true, Ordering::Relaxed);
        let (lost, elapsed) = loaded?;
        let (server, calls, echoed) = served.join().expect("it does not panic")?;
        Ok(Cost { server, elapsed, calls, echoed, lost })
    })
}

/// Sends so many datagrams and waits for their answers: how many got none in time, and how long it took until the last
/// answer was there.
fn load(
    server: std::net::SocketAddr,
    clients: usize,
    window: usize,
    bytes: usize,
    count: usize,
) -> io::Result<(usize, Duration)> {
    let sockets: Vec<UdpSocket> = (0..clients)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect::<io::Result<_>>()?;
    let (mut message, mut buffer) = (vec![0x55; bytes], vec![0; 2048]);
    let (mut sent, mut answered, mut lost) = (0, 0, 0);
    // A datagram begins with how often others were given up before it: so an answer that comes too late is told from
    // those that are waited for, and nothing is sent in its place again.
    let mut losses = 0_u64;
    message[..8].copy_from_slice(&losses.to_be_bytes());
    let start = Instant::now();
    for socket in &sockets {
        for _ in 0..window {
            socket.send(&message)?;
            sent += 1;
        }
    }
    let (mut answered_at, mut patient_since) = (start, start);
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
                room += usize::from(buffer[..8] == message[..8]);
            }
            answered += room;
            for _ in 0..room.min(count.saturating_sub(sent)) {
                socket.send(&message)?;
                sent += 1;
            }
            is_idle &= room == 0;
        }
        if !is_idle {
            answered_at = Instant::now();
            patient_since = answered_at;
        } else if patient_since.elapsed() > PATIENCE {
            let missing = sent - answered - lost;
            lost += missing;
            losses += 1;
            message[..8].copy_from_slice(&losses.to_be_bytes());
            for number in 0..missing.min(count.saturating_sub(sent)) {
                sockets[number % clients].send(&message)?;
                sent += 1;
            }
            patient_since = Instant::now();
        } else {
            let mut all: Vec<PollFd<'_>> =
                sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            poll(&mut all, Some(&Duration::from_millis(5).try_into().expect("it is short")))?;
        }
    }
    Ok((lost, answered_at - start))
}
