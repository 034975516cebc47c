//! Floods: how long quiet connections wait while a few send as fast as they can, in the machine's time.
//! `fairness.rs` counts what is measured here.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use oneloop::{Connection, Error, StreamHandler};

use support::ticks::Ticks;
use support::*;

const FLOODERS: usize = 4;

/// What the first byte of a connection says that it is.
const SMALL: u8 = 0;
const ECHOED: u8 = 1;
const SWALLOWED: u8 = 2;

/// A small message: its answer tells in which turn it was served, and how long the server's thread had
/// been on a processor by then.
const SMALL_BYTES: usize = 16;

/// How long this thread has been on a processor, in nanoseconds.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How far the server was when its latest turn began.
#[derive(Default)]
struct Progress {
    turn: AtomicU64,
    nanos: AtomicU64,
}

/// Answers the small ones, and echoes or swallows the floods.
struct Flooded;

impl StreamHandler for Flooded {
    type Session = Option<u8>;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<u8> {
        None
    }

    fn on_data(
        &mut self,
        kind: &mut Option<u8>,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        match *kind.get_or_insert(data[0]) {
            SMALL => {
                if data.len() < SMALL_BYTES {
                    return Ok(0);
                }
                assert_eq!(data.len(), SMALL_BYTES, "one message at a time");
                let turn = conn.stats().turns;
                conn.send(&turn.to_le_bytes()).ignore();
                conn.send(&thread_nanos().to_le_bytes()).ignore();
            }
            ECHOED => conn.send(data).ignore(),
            _ => {}
        }
        Ok(data.len())
    }
}

/// Sends as fast as it can, until it is told to stop: echoed, a pipeline of 16 messages of 64 KiB each;
/// swallowed, without an end. Gives how many bytes it sent.
fn flood_for(address: SocketAddr, kind: u8, is_over: &AtomicBool) -> u64 {
    const MESSAGE: usize = 64 * 1024;
    let window = if kind == ECHOED { 16 * MESSAGE } else { usize::MAX };
    let message = vec![kind; MESSAGE];
    let mut buffer = vec![0; MESSAGE];
    let (mut sent, mut received) = (0, 0);
    let mut client = connect(address);
    client.set_nonblocking(true).unwrap();
    let done = |result: std::io::Result<usize>| match result {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    };
    while !is_over.load(Ordering::Relaxed) {
        let may_send = sent - received < window;
        let more = if may_send { done(client.write(&message[sent % MESSAGE..])) } else { 0 };
        let back = if kind == ECHOED { done(client.read(&mut buffer)) } else { 0 };
        sent += more;
        received += back;
        if more + back == 0 {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let out = if may_send { PollFlags::OUT } else { PollFlags::empty() };
            let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            poll(&mut [PollFd::new(&client, out | PollFlags::IN)], Some(&wait)).unwrap();
        }
    }
    sent as u64
}

/// One answer to a small message.
struct Sample {
    waited: Duration,
    /// Of it, what the server's thread was on a processor for.
    busy: Duration,
    turns: u64,
}

/// A hundred connections that each send one small message every 10 ms.
fn ping_for(address: SocketAddr, server: &Progress, duration: Duration) -> Vec<Vec<Sample>> {
    const CLIENTS: usize = 100;
    const INTERVAL: Duration = Duration::from_millis(10);
    const WINDOW: Duration = Duration::from_millis(250);
    struct Pinger {
        stream: TcpStream,
        next: Instant,
        sent: Option<Sent>,
    }
    /// A message, and how far the server was before.
    struct Sent {
        at: Instant,
        turn: u64,
        nanos: u64,
        is_prompt: bool,
    }
    let start = Instant::now();
    let mut pingers: Vec<Pinger> = (0..CLIENTS as u32)
        .map(|number| {
            let stream = connect(address);
            stream.set_nonblocking(true).unwrap();
            let next = start + INTERVAL * number / CLIENTS as u32;
            Pinger { stream, next, sent: None }
        })
        .collect();
    let mut poll = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(CLIENTS);
    for (number, pinger) in pingers.iter().enumerate() {
        use std::os::fd::AsRawFd;
        let fd = pinger.stream.as_raw_fd();
        let (token, interest) = (mio::Token(number), mio::Interest::READABLE);
        poll.registry().register(&mut mio::unix::SourceFd(&fd), token, interest).unwrap();
    }
    let mut windows: Vec<Vec<Sample>> = Vec::new();
    while start.elapsed() < duration {
        let mut answer = [0; SMALL_BYTES];
        for event in &events {
            let pinger = &mut pingers[event.token().0];
            let Ok(count) = pinger.stream.read(&mut answer) else { continue };
            assert_eq!(count, SMALL_BYTES);
            let sent = pinger.sent.take().expect("it asked");
            let (turn, nanos) = answer.split_first_chunk().expect("16 bytes");
            let turns = u64::from_le_bytes(*turn) - sent.turn;
            let nanos = u64::from_le_bytes(nanos.try_into().unwrap()) - sent.nanos;
            let window = (start.elapsed().as_nanos() / WINDOW.as_nanos()) as usize;
            windows.resize_with(windows.len().max(window + 1), Vec::new);
            let busy = Duration::from_nanos(nanos);
            if sent.is_prompt {
                windows[window].push(Sample { waited: sent.at.elapsed(), busy, turns });
            }
        }
        let now = Instant::now();
        for pinger in &mut pingers {
            if pinger.sent.is_none() && pinger.next <= now {
                // Before it is sent, so that what is counted is never less than what it waits.
                let turn = server.turn.load(Ordering::Acquire);
                let nanos = server.nanos.load(Ordering::Acquire);
                let sent = Instant::now();
                pinger.stream.write_all(&[SMALL; SMALL_BYTES]).unwrap();
                // Whether the server has begun more than one turn meanwhile: then this thread was kept from
                // sending it, and what it waits is not to be told from that.
                let is_prompt = server.turn.load(Ordering::Acquire) <= turn + 1;
                pinger.sent = Some(Sent { at: sent, turn, nanos, is_prompt });
                pinger.next = (pinger.next + INTERVAL).max(now);
            }
        }
        let next = pingers.iter().filter(|p| p.sent.is_none()).map(|p| p.next).min();
        let wait = next.map_or(INTERVAL, |next| next.saturating_duration_since(Instant::now()));
        poll.poll(&mut events, Some(wait.min(INTERVAL))).unwrap();
    }
    // A ping that was never answered is the worst of all.
    for pinger in &pingers {
        if let Some(Sent { at, .. }) = pinger.sent {
            assert!(at.elapsed() < Duration::from_secs(1), "a ping waits for {:?}", at.elapsed());
        }
    }
    windows
}

fn percentile<T: Ord + Copy>(sorted: &[T], per_mille: usize) -> T {
    sorted[(sorted.len() * per_mille / 1000).min(sorted.len() - 1)]
}

/// The p99.9 of each window, from the best to the worst.
fn by_window<T: Ord + Copy>(windows: &[Vec<Sample>], of: impl Fn(&Sample) -> T) -> Vec<T> {
    let full = windows.iter().filter(|window| !window.is_empty());
    let mut late: Vec<T> = full.map(|window| percentile(&sorted(window, &of), 999)).collect();
    late.sort_unstable();
    late
}

fn sorted<'a, T: Ord>(
    samples: impl IntoIterator<Item = &'a Sample>,
    of: impl Fn(&Sample) -> T,
) -> Vec<T> {
    let mut all: Vec<T> = samples.into_iter().map(of).collect();
    all.sort_unstable();
    all
}

/// Four that send as fast as they can and a hundred that say little.
///
/// How long these wait is counted in turns of the server, in the time that its thread is on a
/// processor, neither of which a busy machine makes longer, and in plain time. A server that lets the
/// four have their way is late in every window of a quarter of a second, and a machine that is busy with
/// something else in some, or in most: so it is the better windows that tell about the server, and of
/// plain time, which has in it all that the machine does besides, the best one.
fn measure(kind: u8) {
    // Each needs the machine for itself.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 5 });
    let progress = Arc::new(Progress::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let server = std::thread::spawn({
        let (progress, is_over) = (Arc::clone(&progress), Arc::clone(&is_over));
        move || {
            let mut reactor = Reactor::new().unwrap();
            let handler = reactor.add(Flooded);
            let listener = reactor.listen(handler, "127.0.0.1:0").unwrap();
            tell.send(reactor.listener_address(listener).unwrap().inet().unwrap()).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                progress.turn.store(reactor.stats().turns, Ordering::Release);
                progress.nanos.store(thread_nanos(), Ordering::Release);
                reactor.turn(Some(Duration::from_millis(10))).unwrap();
            }
            reactor.stats().clone()
        }
    });
    let address = told.recv_timeout(DEADLINE).unwrap();
    let before = Ticks::now();
    let flooders: Vec<_> = (0..FLOODERS)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || flood_for(address, kind, &is_over))
        })
        .collect();
    let windows = ping_for(address, &progress, duration);
    is_over.store(true, Ordering::Relaxed);
    let floods: Vec<u64> = flooders.into_iter().map(|flooder| flooder.join().unwrap()).collect();
    let stats = server.join().unwrap();

    // The first window is that of the connects; the last one is cut short.
    let windows = &windows[1..windows.len() - 1];
    let waited = sorted(windows.iter().flatten(), |sample| sample.waited);
    let busy = sorted(windows.iter().flatten(), |sample| sample.busy);
    let turns = sorted(windows.iter().flatten(), |sample| sample.turns);
    let late = by_window(windows, |sample| sample.waited);
    // A virtual machine's processor time has in it what its host took away.
    let late_busy = by_window(windows, |sample| sample.busy);
    let late_turns = by_window(windows, |sample| sample.turns);
    println!(
        "{} answers; waited p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}; p99.9 by window {late:?}",
        waited.len(),
        percentile(&waited, 500),
        percentile(&waited, 990),
        percentile(&waited, 999),
        percentile(&waited, 1000),
    );
    println!(
        "of it with the server on a processor p99.9 {:?}, max {:?}; in turns p99.9 {}, max {}; flood {:?} bytes",
        percentile(&busy, 999),
        percentile(&busy, 1000),
        percentile(&turns, 999),
        percentile(&turns, 1000),
        floods,
    );
    // The turn that was about to begin when it was sent, the next one, which finds it in the kernel,
    // and one for what the kernel itself defers.
    assert!(percentile(&late_turns, 500) <= 3, "{late_turns:?} turns");
    if before.was_much_stolen_since() {
        return;
    }
    assert!(floods.iter().all(|bytes| *bytes > 16 << 20), "it was no flood: {floods:?} bytes");
    assert!(waited.len() > 1000, "only {} answers", waited.len());
    assert!(stats.budgets_exhausted > 100, "{stats:?}");
    let wait_max = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 20 });
    assert!(percentile(&late_busy, 500) < wait_max, "{late_busy:?} on a processor");
    assert!(late[0] < wait_max, "{late:?}");
}

#[test]
fn a_hundred_quiet_connections_are_served_while_four_flood_and_are_echoed() {
    measure(ECHOED);
}

#[test]
fn a_hundred_quiet_connections_are_served_while_four_flood_without_an_end() {
    measure(SWALLOWED);
}
