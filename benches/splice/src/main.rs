//! What forwarding by splice(2) would save: bytes go from one TCP connection to another one, on loopback, once
//! by recv(2) and send(2) through a buffer, as the reactor does it, and once by two splices through a pipe, which
//! hands the kernel's own pages on.
//!
//! One thread sends, one forwards, one receives and looks at nothing. The sockets of who forwards do not block,
//! and it polls when there is nothing to do. Printed is the processor time of that thread for each GiB, which a
//! reactor would have for others, and that of all three: what is saved in one place may be paid for in another.
//!
//! All ways take turns within one run. Compare the lines of one run: the milliseconds are the machine's.
//!
//! ```sh
//! cargo run --release -p oneloop-splice [MIB [ROUNDS]]     1024 MiB at a time, 5 rounds
//! ```

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use rustix::time::{ClockId, clock_gettime};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// How the bytes go on, and how many at most at once. The first one is the reactor's.
const WAYS: [Way; 6] = [
    Way::Copy(64 * KIB),
    Way::Copy(256 * KIB),
    Way::Copy(MIB),
    Way::Splice(64 * KIB),
    Way::Splice(256 * KIB),
    Way::Splice(MIB),
];

#[derive(Clone, Copy)]
enum Way {
    Copy(usize),
    /// Also the size of the pipe, which takes two descriptors.
    Splice(usize),
}

/// What one run of a way took.
struct Cost {
    forwarder: Duration,
    all: Duration,
    elapsed: Duration,
    calls: usize,
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mib = number(arguments.next(), 1024);
    let rounds = number(arguments.next(), 5);
    let mut costs: Vec<Vec<Cost>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (way, costs) in WAYS.iter().zip(&mut costs) {
            costs.push(measure(*way, mib * MIB)?);
        }
    }
    println!("{mib} MiB at a time, median of {rounds} rounds; processor time in ms for each GiB");
    println!(
        "{:>14} {:>10} {:>9} {:>8} {:>6} {:>11}",
        "", "forwarder", "of first", "all", "GiB/s", "calls/MiB"
    );
    let gib = mib as f64 / 1024.0;
    let mut first = None;
    for (way, costs) in WAYS.iter().zip(&costs) {
        let of = |what: fn(&Cost) -> f64| median(costs.iter().map(what).collect());
        let forwarder = of(|cost| cost.forwarder.as_secs_f64()) * 1e3 / gib;
        let all = of(|cost| cost.all.as_secs_f64()) * 1e3 / gib;
        let speed = gib / of(|cost| cost.elapsed.as_secs_f64());
        let calls = of(|cost| cost.calls as f64) / mib as f64;
        let share = 100.0 * forwarder / *first.get_or_insert(forwarder);
        let name = match way {
            Way::Copy(bytes) => format!("copy {} KiB", bytes / KIB),
            Way::Splice(bytes) => format!("splice {} KiB", bytes / KIB),
        };
        println!(
            "{name:>14} {forwarder:>10.0} {share:>8.0}% {all:>8.0} {speed:>6.2} {calls:>11.1}"
        );
    }
    Ok(())
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(way: Way, bytes: usize) -> io::Result<Cost> {
    let (mut source, from) = connection()?;
    let (to, mut sink) = connection()?;
    from.set_nonblocking(true)?;
    to.set_nonblocking(true)?;
    let sender = thread::spawn(move || -> io::Result<()> {
        let block = vec![0x55; MIB];
        for start in (0..bytes).step_by(MIB) {
            source.write_all(&block[..MIB.min(bytes - start)])?;
        }
        Ok(())
    });
    let receiver = thread::spawn(move || -> io::Result<usize> {
        let (mut block, mut received) = (vec![0; MIB], 0);
        loop {
            match sink.read(&mut block)? {
                0 => return Ok(received),
                count => received += count,
            }
        }
    });
    let (start, own, all) =
        (Instant::now(), time(ClockId::ThreadCPUTime), time(ClockId::ProcessCPUTime));
    let calls = match way {
        Way::Copy(room) => copy(from.into(), to.into(), room)?,
        Way::Splice(room) => splice_through(from.into(), to.into(), room)?,
    };
    let forwarder = time(ClockId::ThreadCPUTime) - own;
    sender.join().expect("it does not panic")?;
    assert_eq!(receiver.join().expect("it does not panic")?, bytes);
    let all = time(ClockId::ProcessCPUTime) - all;
    Ok(Cost { forwarder, all, elapsed: start.elapsed(), calls })
}

fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    for end in [&one, &other] {
        end.set_nodelay(true)?;
    }
    Ok((one, other))
}

fn time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// To the end of file; gives how many system calls it took.
fn copy(from: OwnedFd, to: OwnedFd, room: usize) -> io::Result<usize> {
    let mut buffer = vec![0; room];
    let mut calls = 0;
    loop {
        calls += 1;
        let count = match recv(&from, &mut buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => return Ok(calls),
            Ok((count, _)) => count,
            Err(Errno::AGAIN) => {
                wait(&from, PollFlags::IN, &mut calls)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut sent = 0;
        while sent < count {
            calls += 1;
            match send(&to, &buffer[sent..count], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN) => wait(&to, PollFlags::OUT, &mut calls)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The same through a pipe.
fn splice_through(from: OwnedFd, to: OwnedFd, room: usize) -> io::Result<usize> {
    let (pipe_out, pipe_in) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&pipe_in, room)?;
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    let mut calls = 0;
    loop {
        calls += 1;
        let mut left = match splice(&from, None, &pipe_in, None, room, flags) {
            Ok(0) => return Ok(calls),
            Ok(count) => count,
            Err(Errno::AGAIN) => {
                // Not because the pipe were full: it is emptied below.
                wait(&from, PollFlags::IN, &mut calls)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        while left > 0 {
            calls += 1;
            match splice(&pipe_out, None, &to, None, left, flags) {
                Ok(count) => left -= count,
                Err(Errno::AGAIN) => wait(&to, PollFlags::OUT, &mut calls)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn wait(socket: &OwnedFd, what: PollFlags, calls: &mut usize) -> io::Result<()> {
    *calls += 1;
    poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), what)], None)?;
    Ok(())
}
