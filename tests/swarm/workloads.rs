//! What the swarm does to the loop: servers and clients of several kinds, each of which checks itself.
//!
//! Every byte of every stream is known from its place in it, so a byte that is lost, doubled or out of
//! order is found where it is shown. Shared by the test and by the long runs of `benches/swarm`.

#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

mod clocks;
pub(crate) mod datagrams;
mod deadline_model;
mod deadlines;
mod doors;
mod drains;
mod echo;
mod frame_model;
mod frame_plan;
mod frames;
mod letters;
mod mail;
mod names;
mod netcat;
mod orders;
mod proxy;
mod races;
mod slow;
mod talk;
mod unix;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use oneloop::sim::{ClientId, Faults, ReactorId, Script, Served, Simulation};
use oneloop::{Connection, Key, Limits, ListenOptions, ReactorLimits, StreamHandler, Wait};

#[allow(unused_imports, reason = "for tests that choose the moment")]
pub use drains::drains_at;

/// A name, the faults that it holds out against, and what it does.
pub type Workload = (&'static str, fn() -> Faults, fn(&mut Simulation));

pub const ALL: &[Workload] = &[
    ("echo", Faults::some, echo::echo),
    ("echo without loss", Faults::lossless, echo::echo_without_loss),
    ("requests", Faults::some, talk::requests),
    ("requests without loss", Faults::lossless, talk::requests_without_loss),
    ("chat", Faults::some, talk::chat),
    ("proxy", Faults::some, proxy::proxy),
    ("proxy without loss", Faults::lossless, proxy::proxy_without_loss),
    ("forwarding", Faults::some, proxy::forwarding),
    ("forwarding without loss", Faults::lossless, proxy::forwarding_without_loss),
    ("netcat", Faults::some, netcat::netcat),
    ("netcat without loss", Faults::lossless, netcat::netcat_without_loss),
    ("slow readers", Faults::some, echo::slow_readers),
    ("frames", Faults::some, frames::frames),
    ("frames without loss", Faults::lossless, frames::frames_without_loss),
    ("descriptors run out", Faults::some, echo::descriptors_run_out),
    ("half-closed", Faults::lossless, echo::half_closed),
    ("orders", Faults::lossless, orders::orders),
    ("memory", Faults::lossless, orders::memory),
    ("clocks", deadlines::punctual, clocks::clocks),
    ("clocks that jump", lossless_with_clock_jumps, clocks::clocks_that_jump),
    ("deadlines", deadlines::punctual, deadlines::deadlines),
    (
        "deadlines missed by the clock",
        lossless_with_clock_jumps,
        deadlines::deadlines_missed_by_the_clock,
    ),
    ("full house", Faults::lossless, doors::full_house),
    ("told", Faults::lossless, doors::told),
    ("callers", lossless_with_silence, doors::callers),
    ("races", Faults::lossless, races::races),
    ("names", names::slow_host, names::names),
    ("drains", Faults::some, drains::drains),
    ("mail", Faults::some, mail::mail),
    ("slow callbacks", lossless_with_clock_jumps, slow::slow_callbacks),
    ("datagrams", Faults::some, datagrams::datagrams),
    ("datagrams by name", some_with_short_clock_jumps, datagrams::datagrams_by_name),
    ("unix sockets", unix::small, unix::unix),
];

fn lossless_with_clock_jumps() -> Faults {
    Faults::lossless().clock_jumps(0.01)
}

/// None that takes the time in which what found no room is tried again.
fn some_with_short_clock_jumps() -> Faults {
    Faults::some().clock_jump_max(Duration::from_millis(100))
}

fn lossless_with_silence() -> Faults {
    Faults::lossless().unanswered_connects(0.3)
}

/// One of the range, as the seed will have it.
fn within(sim: &mut Simulation, range: Range<usize>) -> usize {
    range.start + sim.random() as usize % (range.end - range.start)
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
    // A mark that is met exactly, and one that hardly ever is.
    let limits = if sim.seed() % 2 == 1 { limits.output_bytes_low(0) } else { limits };
    let served = sim.serve_with(handler, own, &ListenOptions::new().limits(limits).backlog(8));
    if sim.seed() % 5 == 4 {
        sim[served.reactor].set_wait(Wait::Spin(Duration::from_micros(15)));
    }
    served
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

fn talker(sim: &mut Simulation) -> Script {
    let mut script = Script::new().may_end();
    let mut sent = 0;
    for _ in 0..within(sim, 1..6) {
        let size = within(sim, 1..9000);
        script = script.send(pattern(sent, size)).expect(pattern(sent, size));
        sent += size;
        if within(sim, 0..3) == 0 {
            script = script.wait(Duration::from_micros(within(sim, 0..20_000) as u64));
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
