//! Fairness: how long a connection can be made to wait by the others.
//!
//! The bound: bytes that are in the kernel when the poll returns are shown in that turn, after at most
//! one budget of each other ready connection; bytes that arrive during a turn, in the next one; and
//! where more sources are ready than a poll reports, within ⌈ready / events⌉ turns.

mod kernel;
mod support;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use oneloop::{
    Connection, Error, Key, Limits, ListenOptions, Reactor, ReactorLimits, StreamHandler,
};

use support::*;

const BUDGET: usize = 8 * 1024;
const FLOODERS: usize = 4;

/// What was shown: turn, connection, bytes.
type Shown = Rc<RefCell<Vec<(u64, Key, usize)>>>;

fn server_with(events_per_poll_max: usize, limits: Limits) -> (Server, Shown) {
    let shown = Shown::default();
    let log = Rc::clone(&shown);
    let recorder = Recorder::new().data(move |conn, data| {
        log.borrow_mut().push((conn.stats().turns, conn.key(), data.len()));
        conn.send(data).ignore();
        Ok(data.len())
    });
    let options = ListenOptions::new().limits(limits);
    let limits = ReactorLimits::new().connections_max(64).events_per_poll_max(events_per_poll_max);
    (Server::with(recorder, &options, limits), shown)
}

/// So many clients, whose connections are open and idle.
fn idle_clients(server: &mut Server, count: usize) -> Vec<(TcpStream, Key)> {
    let clients = (0..count).map(|_| server.open()).collect();
    server.assert_idle();
    clients
}

/// Fills what a client's connection has to read, with several budgets.
fn flood(server: &Server, client: &mut TcpStream) {
    client.write_all(&pattern(4 * BUDGET)).unwrap();
    kernel::until_received(server.address, client, 4 * BUDGET);
}

#[test]
fn a_ready_connection_is_served_within_the_turn_after_at_most_a_budget_of_each_other_one() {
    let kinds = [
        Limits::new().read_bytes_per_turn_max(BUDGET),
        // The budget of calls.
        Limits::new().input_bytes_max(BUDGET / 4).reads_per_turn_max(4),
        // Where every read is cut short by the room there is.
        Limits::new().read_bytes_per_turn_max(BUDGET).input_bytes_max(1000),
    ];
    for limits in kinds {
        let (mut server, shown) = server_with(1024, limits.clone());
        let mut clients = idle_clients(&mut server, FLOODERS + 1);
        let (mut small, small_key) = clients.pop().unwrap();
        for (client, _) in &mut clients {
            flood(&server, client);
        }
        // The last one to become ready.
        small.write_all(b"ping").unwrap();
        kernel::until_received(server.address, &small, 4);

        server.reactor.turn(Some(DEADLINE)).unwrap();
        let log = shown.borrow();
        let turn = server.reactor.stats().turns;
        assert!(log.contains(&(turn, small_key, 4)), "not in its turn: {log:?}");
        for (_, key) in &clients {
            let bytes: usize = log.iter().filter(|(_, k, _)| k == key).map(|(_, _, n)| n).sum();
            assert!(bytes > 0, "{key} had nothing: {log:?}");
            assert!(bytes <= BUDGET, "{key} had {bytes} bytes in one turn: {limits:?}");
        }
        drop(log);
        small.read_exact(&mut [0; 4]).unwrap();
        // And so on, turn by turn, as long as the flood lasts.
        let mut pings = 0;
        while server.reactor.stats().bytes_in < (4 * FLOODERS * BUDGET) as u64 {
            small.write_all(b"ping").unwrap();
            kernel::until_received(server.address, &small, 4);
            server.reactor.turn(Some(DEADLINE)).unwrap();
            let turn = server.reactor.stats().turns;
            assert!(shown.borrow().contains(&(turn, small_key, 4)), "not in its turn");
            small.read_exact(&mut [0; 4]).unwrap();
            pings += 1;
        }
        assert!(pings >= 2, "it was no flood");
    }
}

/// It becomes ready while the others are served; their next budgets are ahead of it, one each.
#[test]
fn a_connection_that_becomes_ready_during_a_turn_is_served_in_the_next_one() {
    let limits = Limits::new().read_bytes_per_turn_max(BUDGET);
    let small: Rc<RefCell<Option<TcpStream>>> = Rc::default();
    let ready_in = Rc::new(Cell::new(0));
    let shown = Shown::default();
    let (log, client, turn) = (Rc::clone(&shown), Rc::clone(&small), Rc::clone(&ready_in));
    let recorder = Recorder::new().data(move |conn, data| {
        if let Some(mut client) = client.borrow_mut().take() {
            client.write_all(b"ping").unwrap();
            kernel::until_received(client.peer_addr().unwrap(), &client, 4);
            turn.set(conn.stats().turns);
        }
        log.borrow_mut().push((conn.stats().turns, conn.key(), data.len()));
        Ok(data.len())
    });
    let mut server = Server::with_limits(recorder, limits);
    let mut clients = idle_clients(&mut server, FLOODERS + 1);
    let (client, small_key) = clients.pop().unwrap();
    for (client, _) in &mut clients {
        flood(&server, client);
    }
    *small.borrow_mut() = Some(client.try_clone().unwrap());
    run_until(&mut server.reactor, "it is served", |_| {
        shown.borrow().iter().any(|(_, key, _)| *key == small_key)
    });
    let log = shown.borrow();
    assert!(log.contains(&(ready_in.get() + 1, small_key, 4)), "{log:?}");
    let ahead = log.iter().take_while(|(_, key, _)| *key != small_key);
    let bytes: usize = ahead.map(|(_, _, count)| count).sum();
    assert!(bytes <= 2 * FLOODERS * BUDGET, "{bytes} bytes were ahead of it");
}

/// More are ready than a poll reports: each poll goes on where the last one ended.
#[test]
fn with_more_ready_than_a_poll_reports_each_is_served_within_its_share_of_turns() {
    const SMALL: usize = 13;
    for events in [1, 2, 3, 5, 16] {
        let limits = Limits::new().read_bytes_per_turn_max(BUDGET);
        let (mut server, shown) = server_with(events, limits);
        let mut clients = idle_clients(&mut server, FLOODERS + SMALL);
        let mut small = clients.split_off(FLOODERS);
        for (client, _) in &mut clients {
            flood(&server, client);
        }
        for (client, _) in &mut small {
            client.write_all(b"ping").unwrap();
            kernel::until_received(server.address, client, 4);
        }
        let before = server.reactor.stats().turns;
        let within = (FLOODERS + SMALL).div_ceil(events);
        for _ in 0..within {
            server.reactor.turn(Some(DEADLINE)).unwrap();
        }
        let log = shown.borrow();
        for (_, key) in &small {
            let served = log.iter().find(|(_, k, _)| k == key);
            assert!(served.is_some(), "{key} not within {within} turns of {events} events");
        }
        for (turn, key, _) in log.iter() {
            assert!(*turn > before);
            let in_turn = log.iter().filter(|(t, k, _)| (t, k) == (turn, key));
            let bytes: usize = in_turn.map(|(_, _, count)| count).sum();
            assert!(bytes <= BUDGET, "{key} had {bytes} bytes in turn {turn}");
        }
    }
}

/// Sends back what it is sent; to the small ones with the turn in which that happens.
struct Echo;

/// A small message: how long it waited is told by its answer.
const SMALL_BYTES: usize = 8;

impl StreamHandler for Echo {
    type Session = Option<bool>;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<bool> {
        None
    }

    fn on_data(
        &mut self,
        is_small: &mut Option<bool>,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        // The first bytes tell who it is: flooders send many more of them, and ones.
        if *is_small.get_or_insert(data[0] == 0) {
            if data.len() < SMALL_BYTES {
                return Ok(0);
            }
            assert_eq!(data.len(), SMALL_BYTES, "one message at a time");
            let turn = conn.stats().turns;
            conn.send(&turn.to_le_bytes()).ignore();
        } else {
            conn.send(data).ignore();
        }
        Ok(data.len())
    }
}

/// Keeps 64 KiB on their way on each of four connections, until it is told to stop; gives how many
/// bytes came back.
fn flood_for(address: SocketAddr, is_over: &AtomicBool) -> u64 {
    const PIPELINE: usize = 64 * 1024;
    let piece = vec![1; PIPELINE];
    let mut buffer = vec![0; PIPELINE];
    let mut back = 0;
    let mut clients: Vec<(TcpStream, usize)> = (0..FLOODERS)
        .map(|_| {
            let client = connect(address);
            client.set_nonblocking(true).unwrap();
            (client, 0)
        })
        .collect();
    let is_fine = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::WouldBlock);
    while !is_over.load(Ordering::Relaxed) {
        let mut is_stuck = true;
        for (client, on_its_way) in &mut clients {
            if *on_its_way < PIPELINE {
                match client.write(&piece[*on_its_way..]) {
                    Ok(count) => {
                        *on_its_way += count;
                        is_stuck = false;
                    }
                    Err(error) => is_fine(error),
                }
            }
            match client.read(&mut buffer) {
                Ok(count) => {
                    *on_its_way -= count;
                    back += count as u64;
                    is_stuck = false;
                }
                Err(error) => is_fine(error),
            }
        }
        if is_stuck {
            // The server has them all: let it run.
            std::thread::yield_now();
        }
    }
    back
}

/// One answer to a small message.
struct Sample {
    waited: Duration,
    turns: u64,
}

/// A hundred connections that each send one small message every 10 ms.
fn ping_for(address: SocketAddr, turn: &AtomicU64, duration: Duration) -> Vec<Vec<Sample>> {
    const CLIENTS: usize = 100;
    const INTERVAL: Duration = Duration::from_millis(10);
    const WINDOW: Duration = Duration::from_millis(500);
    struct Pinger {
        stream: TcpStream,
        next: Instant,
        sent: Option<(Instant, u64)>,
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
            let (sent, turn_then) = pinger.sent.take().expect("it asked");
            let turns = u64::from_le_bytes(answer) - turn_then;
            let window = (start.elapsed().as_nanos() / WINDOW.as_nanos()) as usize;
            windows.resize_with(windows.len().max(window + 1), Vec::new);
            windows[window].push(Sample { waited: sent.elapsed(), turns });
        }
        let now = Instant::now();
        for pinger in &mut pingers {
            if pinger.sent.is_none() && pinger.next <= now {
                // Before it is sent, so that what is counted is never less than what it waits.
                pinger.sent = Some((Instant::now(), turn.load(Ordering::Acquire)));
                pinger.stream.write_all(&[0; SMALL_BYTES]).unwrap();
                pinger.next = (pinger.next + INTERVAL).max(now);
            }
        }
        let next = pingers.iter().filter(|p| p.sent.is_none()).map(|p| p.next).min();
        let wait = next.map_or(INTERVAL, |next| next.saturating_duration_since(Instant::now()));
        poll.poll(&mut events, Some(wait.min(INTERVAL))).unwrap();
    }
    // A ping that was never answered is the worst of all.
    for pinger in &pingers {
        if let Some((sent, _)) = pinger.sent {
            assert!(
                sent.elapsed() < Duration::from_secs(1),
                "a ping waits for {:?}",
                sent.elapsed()
            );
        }
    }
    windows
}

fn percentile<T: Ord + Copy>(sorted: &[T], per_mille: usize) -> T {
    sorted[(sorted.len() * per_mille / 1000).min(sorted.len() - 1)]
}

/// The p99.9 of each window, and of these the middle one.
fn median_of_windows<T: Ord + Copy>(windows: &[Vec<Sample>], of: impl Fn(&Sample) -> T) -> T {
    let full = windows.iter().filter(|window| !window.is_empty());
    let mut late: Vec<T> = full
        .map(|window| {
            let mut all: Vec<T> = window.iter().map(&of).collect();
            all.sort_unstable();
            percentile(&all, 999)
        })
        .collect();
    late.sort_unstable();
    percentile(&late, 500)
}

/// Four that send as fast as they can and a hundred that say little.
///
/// The wait is counted in turns of the server, which no load of the machine can change, and in time,
/// as the median of the percentiles of short windows: a server that lets the four have their way is
/// late in every window, a machine that is busy with something else in some.
#[test]
fn a_hundred_quiet_connections_are_served_while_four_flood() {
    let duration = Duration::from_secs(if cfg!(debug_assertions) { 2 } else { 5 });
    let turn = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let server = std::thread::spawn({
        let (turn, is_over) = (Arc::clone(&turn), Arc::clone(&is_over));
        move || {
            let mut reactor = Reactor::new().unwrap();
            let handler = reactor.add(Echo);
            let listener = reactor.listen(handler, "127.0.0.1:0").unwrap();
            tell.send(reactor.listener_address(listener).unwrap()).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                turn.store(reactor.stats().turns, Ordering::Release);
                reactor.turn(Some(Duration::from_millis(10))).unwrap();
            }
            reactor.stats().clone()
        }
    });
    let address = told.recv_timeout(DEADLINE).unwrap();
    let flooders = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || flood_for(address, &is_over)
    });
    let windows = ping_for(address, &turn, duration);
    is_over.store(true, Ordering::Relaxed);
    let flooded = flooders.join().unwrap();
    let stats = server.join().unwrap();

    // The first window is that of the connects; the last one is cut short.
    let windows = &windows[1..windows.len() - 1];
    let mut turns: Vec<u64> = windows.iter().flatten().map(|sample| sample.turns).collect();
    turns.sort_unstable();
    let mut waits: Vec<Duration> = windows.iter().flatten().map(|sample| sample.waited).collect();
    waits.sort_unstable();
    let late = median_of_windows(windows, |sample| sample.waited);
    let late_turns = median_of_windows(windows, |sample| sample.turns);
    println!(
        "{} answers: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}; median of the windows' p99.9 {:?}; \
         turns p50 {}, p99.9 {}, max {}; median of the windows' p99.9 {}; {:.0} MB/s of flood",
        waits.len(),
        percentile(&waits, 500),
        percentile(&waits, 990),
        percentile(&waits, 999),
        waits[waits.len() - 1],
        late,
        percentile(&turns, 500),
        percentile(&turns, 999),
        turns[turns.len() - 1],
        late_turns,
        flooded as f64 / duration.as_secs_f64() / 1e6,
    );
    assert!(flooded > 16 << 20, "it was no flood: {flooded} bytes");
    assert!(waits.len() > 1000, "only {} answers", waits.len());
    assert!(stats.budgets_exhausted > 100, "{stats:?}");
    // The turn that was about to begin when it was sent, the next one, which finds it in the kernel,
    // and one for what the kernel itself defers.
    assert!(late_turns <= 3, "{late_turns} turns");
    let wait_max = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 20 });
    assert!(late < wait_max, "{late:?}");
}
