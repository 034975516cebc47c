//! What the swarm does to the loop: servers and clients of several kinds, each of which checks itself.
//!
//! Every byte of every stream is known from its place in it, so a byte that is lost, doubled or out of
//! order is found where it is shown. Shared by the test and by the long runs of `benches/swarm`.

#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

mod clocks;
mod doors;
mod orders;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{ClientId, End, Faults, ReactorId, Script, Served, Simulation};
use oneloop::{
    CloseReason, ConnectError, Connection, Context, Error, Key, Limits, ListenOptions, Origin,
    ReactorLimits, StreamHandler, TimerId,
};

/// A name, the faults that it holds out against, and what it does.
pub type Workload = (&'static str, fn() -> Faults, fn(&mut Simulation));

pub const ALL: &[Workload] = &[
    ("echo", Faults::some, echo),
    ("echo without loss", Faults::lossless, echo_without_loss),
    ("requests", Faults::some, requests),
    ("chat", Faults::some, chat),
    ("proxy", Faults::some, proxy),
    ("proxy without loss", Faults::lossless, proxy_without_loss),
    ("slow readers", Faults::some, slow_readers),
    ("descriptors run out", Faults::some, descriptors_run_out),
    ("half-closed", Faults::lossless, half_closed),
    ("orders", Faults::lossless, orders::orders),
    ("memory", Faults::lossless, orders::memory),
    ("clocks", lossless_with_clock_jumps, clocks::clocks),
    ("full house", Faults::lossless, doors::full_house),
    ("told", Faults::lossless, doors::told),
    ("callers", lossless_with_silence, doors::callers),
];

fn lossless_with_clock_jumps() -> Faults {
    Faults::lossless().clock_jumps(0.01)
}

fn lossless_with_silence() -> Faults {
    Faults::lossless().unanswered_connects(0.3)
}

/// Deterministic numbers for what a workload chooses itself (SplitMix64).
pub struct Numbers(u64);

impl Numbers {
    pub fn of(sim: &Simulation) -> Numbers {
        Numbers(sim.seed() ^ 0x5eed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + self.next() as usize % (range.end - range.start)
    }
}

/// Byte number `place` of every stream.
fn byte_at(place: usize) -> u8 {
    (place.wrapping_mul(31) ^ place >> 8) as u8
}

fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(byte_at).collect()
}

/// What is common to all handlers: a life's order of calls, keys that name one thing only, and bytes
/// in their order.
struct Life {
    key: Key,
    received: usize,
}

#[derive(Default)]
struct Lives {
    ever: BTreeSet<Key>,
    open: usize,
}

impl Lives {
    fn open(&mut self, conn: &Connection<'_>) -> Life {
        assert!(self.ever.insert(conn.key()), "{} names two connections", conn.key());
        self.open += 1;
        Life { key: conn.key(), received: 0 }
    }

    fn close(&mut self, life: &Life, key: Key) {
        assert_eq!(life.key, key);
        self.open -= 1;
    }

    /// Some connection that there is, or was.
    fn any(&self, random: u64) -> Key {
        let place = random as usize % self.ever.len().max(1);
        self.ever.iter().nth(place).copied().unwrap_or(Key::from_bits(0))
    }
}

fn assert_all_closed(lives: &Lives) {
    assert_eq!(lives.open, 0, "on_close was not called for all who had opened");
}

impl Life {
    fn consume(&mut self, conn: &Connection<'_>, data: &[u8]) {
        assert_eq!(self.key, conn.key());
        assert_eq!(data, pattern(self.received, data.len()), "at byte {}", self.received);
        self.received += data.len();
    }
}

/// Sends back what it is sent, at its own pace: all or a part of what it is shown, now or later.
#[derive(Default)]
struct Echo {
    lives: Lives,
}

impl StreamHandler for Echo {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert!(!conn.is_paused(), "called while it is paused");
        let random = conn.random();
        let count = match random % 8 {
            0 => 1 + random as usize / 8 % data.len(),
            _ => data.len(),
        };
        life.consume(conn, &data[..count]);
        match random / 8 % 4 {
            0 => conn.send_shared(data[..count].into()).ignore(),
            1 => {
                let (one, other) = data[..count].split_at(count / 2);
                conn.send(one).ignore();
                conn.send(other).ignore();
            }
            _ => conn.send(&data[..count]).ignore(),
        }
        if (random / 32).is_multiple_of(16) {
            conn.pause();
            conn.set_timer(Duration::from_micros(random / 512 % 5000));
        } else if count < data.len() {
            conn.again();
        }
        Ok(count)
    }

    fn on_timer(&mut self, _: &mut Life, conn: &mut Connection<'_>, _: TimerId) {
        conn.resume();
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&life, key);
    }
}

/// A server of `handler` with limits that are soon reached.
fn serve<H: StreamHandler>(sim: &mut Simulation, handler: H, limits: Limits) -> Served<H> {
    let own = ReactorLimits::new().connections_max(64).events_per_poll_max(7);
    serve_with(sim, handler, own.memory_bytes_max(512 * 1024), limits)
}

fn serve_with<H: StreamHandler>(
    sim: &mut Simulation,
    handler: H,
    own: ReactorLimits,
    limits: Limits,
) -> Served<H> {
    let reactor = sim.add_reactor(own);
    let handler = sim[reactor].add(handler);
    // A mark that is met exactly, and one that hardly ever is.
    let limits = if sim.seed() % 2 == 1 { limits.output_bytes_low(0) } else { limits };
    let options = ListenOptions::new().limits(limits).backlog(8);
    let address = SocketAddr::new([10, 0, 0, 2].into(), 7000);
    sim[reactor].listen_with(handler, address, &options).expect("the port is free");
    Served { reactor, handler, address }
}

const INPUT_BYTES_MAX: usize = 5000;

fn tight() -> Limits {
    Limits::new()
        .accepts_per_turn_max(3)
        .read_bytes_per_turn_max(3000)
        .reads_per_turn_max(3)
        .write_bytes_per_turn_max(2500)
        .input_bytes_max(INPUT_BYTES_MAX)
        .output_bytes_low(500)
        .output_bytes_high(2000)
        .output_bytes_max(64 * 1024)
}

fn talker(numbers: &mut Numbers) -> Script {
    let mut script = Script::new().may_end();
    let mut sent = 0;
    for _ in 0..numbers.within(1..6) {
        let size = numbers.within(1..9000);
        script = script.send(pattern(sent, size)).expect(pattern(sent, size));
        sent += size;
        if numbers.within(0..3) == 0 {
            script = script.wait(Duration::from_micros(numbers.within(0..20_000) as u64));
        }
    }
    script
}

/// Every client came to the end of its script, or of its connection; and when the faults end and all
/// have left, the server is as it was at the start.
fn conclude(
    sim: &mut Simulation,
    reactors: &[ReactorId],
    clients: &[ClientId],
    without_loss: bool,
) {
    sim.run_for(Duration::from_millis(300));
    if !without_loss {
        sim.heal();
    }
    // Long enough for whoever tries again, for lingering and for retransmissions.
    sim.run_for(Duration::from_secs(2000));
    sim.run_until_idle();
    for client in clients {
        let end = sim.end(*client);
        let is_over = sim.is_done(*client) || !without_loss && end.is_some();
        assert!(is_over, "{client:?} is stuck, its end is {end:?}");
    }
    for reactor in reactors {
        sim.assert_empty(*reactor);
    }
}

fn echo_clients(sim: &mut Simulation, address: SocketAddr) -> Vec<ClientId> {
    let mut numbers = Numbers::of(sim);
    let count = numbers.within(1..12);
    (0..count)
        .map(|_| {
            let script = talker(&mut numbers);
            let script = match numbers.within(0..4) {
                0 => script.shutdown().expect_end(),
                1 => script.send(pattern(0, 0)).reset(),
                _ => script.close(),
            };
            sim.client(address, script)
        })
        .collect()
}

fn echo(sim: &mut Simulation) {
    let served = serve(sim, Echo::default(), tight());
    let clients = echo_clients(sim, served.address);
    conclude(sim, &[served.reactor], &clients, false);
    assert_all_closed(&sim.handler(served).lives);
}

fn echo_without_loss(sim: &mut Simulation) {
    let served = serve(sim, Echo::default(), tight());
    let clients = echo_clients(sim, served.address);
    conclude(sim, &[served.reactor], &clients, true);
    assert_all_closed(&sim.handler(served).lives);
}

/// Half of what is sent is still to come when the client ends its side; all of it comes back.
fn half_closed(sim: &mut Simulation) {
    let served = serve(sim, Echo::default(), tight());
    let mut numbers = Numbers::of(sim);
    let clients: Vec<ClientId> = (0..numbers.within(1..6))
        .map(|_| {
            let size = numbers.within(1..60_000);
            let script = Script::new().send(pattern(0, size)).shutdown();
            sim.client(served.address, script.expect(pattern(0, size)).expect_end().close())
        })
        .collect();
    conclude(sim, &[served.reactor], &clients, true);
    assert_all_closed(&sim.handler(served).lives);
}

/// Requests of a length in two bytes and as many bytes; the answer is the same. It asks for what it
/// needs.
#[derive(Default)]
struct Requests {
    lives: Lives,
}

impl StreamHandler for Requests {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        conn.need(2);
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert_eq!(life.key, conn.key());
        let mut consumed = 0;
        while let [high, low, rest @ ..] = &data[consumed..] {
            let length = usize::from(*high) << 8 | usize::from(*low);
            if rest.len() < length {
                conn.need(2 + length);
                break;
            }
            assert_eq!(rest[..length], pattern(length, length), "request {}", life.received);
            life.received += 1;
            let answer = &data[consumed..consumed + 2 + length];
            let sent = conn.send(answer);
            consumed += answer.len();
            if sent == oneloop::Sent::OverHigh {
                break; // on_drained brings the rest
            }
        }
        Ok(consumed)
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&life, key);
    }
}

fn requests(sim: &mut Simulation) {
    let served = serve(sim, Requests::default(), tight());
    let mut numbers = Numbers::of(sim);
    let clients: Vec<ClientId> = (0..numbers.within(1..10))
        .map(|_| {
            let mut all = Vec::new();
            for _ in 0..numbers.within(1..40) {
                let length = numbers.within(0..700);
                all.extend((length as u16).to_be_bytes());
                all.extend(pattern(length, length));
            }
            let script = Script::new().may_end().send(&all).expect(&all);
            sim.client(served.address, script.shutdown().expect_end().close())
        })
        .collect();
    conclude(sim, &[served.reactor], &clients, false);
    assert_all_closed(&sim.handler(served).lives);
}

/// Passes every line on to everybody.
#[derive(Default)]
struct Chat {
    lives: Lives,
    members: BTreeSet<Key>,
}

impl StreamHandler for Chat {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        self.members.insert(conn.key());
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert_eq!(life.key, conn.key());
        let end = data.iter().position(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        if end > 0 {
            let line: Rc<[u8]> = data[..end].into();
            for member in &self.members {
                conn.send_shared_to(*member, Rc::clone(&line)).ignore();
            }
            conn.again();
        }
        Ok(end)
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, cx: &mut Context<'_>) {
        self.members.remove(&key);
        for member in &self.members {
            cx.send_to(*member, b"left 0\n").ignore();
        }
        self.lives.close(&life, key);
    }
}

fn chat(sim: &mut Simulation) {
    let served = serve(sim, Chat::default(), tight());
    let mut numbers = Numbers::of(sim);
    let clients: Vec<ClientId> = (0..numbers.within(2..8))
        .map(|name| {
            let mut script = Script::new().may_end();
            if numbers.within(0..5) == 0 {
                script = script.read_slowly(100, Duration::from_millis(1));
            }
            for number in 0..numbers.within(1..30) {
                let filler = "x".repeat(numbers.within(0..900));
                script = script.send(format!("{name} {number} {filler}\n"));
                script = script.wait(Duration::from_micros(numbers.within(0..3000) as u64));
            }
            sim.client(served.address, script.wait(Duration::from_secs(1)).close())
        })
        .collect();
    conclude(sim, &[served.reactor], &clients, false);
    assert_all_closed(&sim.handler(served).lives);
    for client in clients {
        assert_lines_in_order(sim.received(client));
    }
}

/// Of each member the numbers of its lines come one after another, from wherever they begin.
fn assert_lines_in_order(received: &[u8]) {
    let mut last = BTreeMap::new();
    let text = str::from_utf8(received).expect("text");
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let number: usize = words.next().unwrap_or_default().trim().parse().expect("a number");
        let previous = last.insert(name.to_string(), number);
        assert!(
            name == "left" || previous.is_none_or(|previous| number == previous + 1),
            "{name}: {number} after {previous:?}"
        );
    }
}

/// Passes everything on, both ways, with the pressure of each side on the other.
struct Proxy {
    lives: Lives,
    backend: SocketAddr,
}

/// One side: its own life, and the other side's key.
struct Side {
    life: Life,
    other: Key,
}

impl StreamHandler for Proxy {
    type Session = Side;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Side {
        let life = self.lives.open(conn);
        let other = match conn.origin() {
            Origin::Accepted(_) => {
                // Nothing is read before there is somebody to give it to.
                conn.pause();
                let own = conn.key();
                conn.connect(self.backend, own.to_bits())
            }
            Origin::Connected(tag) => {
                let front = Key::from_bits(tag);
                if conn.is_open(front) {
                    conn.resume_key(front);
                } else {
                    conn.close();
                }
                front
            }
        };
        Side { life, other }
    }

    fn on_data(
        &mut self,
        side: &mut Side,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        side.life.consume(conn, data);
        if conn.send_to(side.other, data) == oneloop::Sent::OverHigh {
            conn.pause();
        }
        Ok(data.len())
    }

    fn on_drained(&mut self, side: &mut Side, conn: &mut Connection<'_>) {
        conn.resume_key(side.other);
    }

    fn on_peer_closed(&mut self, side: &mut Side, conn: &mut Connection<'_>) {
        // The end goes on to the other side; both are over when both sides have ended.
        if conn.is_open(side.other) {
            conn.shutdown_write_key(side.other);
            // A run of the other side would send its end, too.
            if conn.random().is_multiple_of(2) {
                conn.poke(side.other);
            }
        } else {
            conn.close();
        }
    }

    fn on_close(&mut self, side: Side, key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        match reason {
            CloseReason::Closed | CloseReason::PeerClosed => cx.close_key(side.other),
            _ => cx.abort_key(side.other),
        }
        self.lives.close(&side.life, key);
    }

    fn on_connect_failed(&mut self, _: Key, tag: u64, _: ConnectError, cx: &mut Context<'_>) {
        cx.close_key(Key::from_bits(tag));
    }
}

fn run_proxy(sim: &mut Simulation, without_loss: bool) {
    let front = serve(
        sim,
        Proxy { lives: Lives::default(), backend: ([10, 0, 0, 3], 7000).into() },
        tight(),
    );
    let back = sim.serve(Echo::default());
    assert_eq!(back.address, ([10, 0, 0, 3], 7000).into());
    let mut numbers = Numbers::of(sim);
    let clients: Vec<ClientId> = (0..numbers.within(1..6))
        .map(|_| {
            let script = talker(&mut numbers);
            sim.client(front.address, script.close())
        })
        .collect();
    conclude(sim, &[front.reactor, back.reactor], &clients, without_loss);
    assert_all_closed(&sim.handler(front).lives);
    assert_all_closed(&sim.handler(back).lives);
}

fn proxy(sim: &mut Simulation) {
    run_proxy(sim, false);
}

fn proxy_without_loss(sim: &mut Simulation) {
    run_proxy(sim, true);
}

/// Clients that send much and read late, little or nothing.
fn slow_readers(sim: &mut Simulation) {
    let limits = tight().output_bytes_max(4000).linger_timeout(Duration::from_millis(200));
    let served = serve(sim, Echo::default(), limits);
    let mut numbers = Numbers::of(sim);
    let mut clients = Vec::new();
    for _ in 0..numbers.within(1..8) {
        let size = numbers.within(1..100_000);
        let script = Script::new().may_end();
        let script = match numbers.within(0..3) {
            0 => script.read_slowly(numbers.within(1..2000), Duration::from_millis(1)),
            _ => script.stop_reading(),
        };
        let script = script.send(pattern(0, size)).read_on();
        clients.push(sim.client(served.address, script.expect(pattern(0, size)).close()));
    }
    for _ in 0..3 {
        clients.push(sim.client(served.address, talker(&mut numbers).close()));
    }
    sim.run_for(Duration::from_millis(300));
    // Who sends and does not read is held up by its own doing, until it leaves.
    conclude_slow(sim, served.reactor, &clients);
}

fn conclude_slow(sim: &mut Simulation, reactor: ReactorId, clients: &[ClientId]) {
    sim.heal();
    sim.run_for(Duration::from_secs(2000));
    sim.run_until_idle();
    for client in clients {
        let is_over = sim.is_done(*client) || sim.end(*client).is_some();
        // Both buffers are full, and the client does not read before it has sent all: its own fault.
        if !is_over {
            assert!(sim[reactor].connections() > 0, "{client:?} {:?}", sim[reactor].stats());
        }
    }
}

/// Many clients, few descriptors: those that come are served or turned away, and afterwards a new one
/// is served.
fn descriptors_run_out(sim: &mut Simulation) {
    let served = serve(sim, Echo::default(), tight());
    let mut numbers = Numbers::of(sim);
    sim.set_descriptors_max(served.reactor, numbers.within(3..8));
    let clients: Vec<ClientId> = (0..numbers.within(5..40))
        .map(|_| {
            let script = talker(&mut numbers);
            sim.client(served.address, script.close())
        })
        .collect();
    sim.run_for(Duration::from_secs(numbers.within(0..5) as u64));
    conclude(sim, &[served.reactor], &clients, false);
    assert_all_closed(&sim.handler(served).lives);
    let late = sim
        .client(served.address, Script::new().send(pattern(0, 10)).expect(pattern(0, 10)).close());
    sim.run_for(Duration::from_secs(2));
    assert!(sim.is_done(late), "accepting has not resumed: {:?}", sim.end(late));
    assert_eq!(sim.end(late), Some(End::Left));
}
