//! Callbacks that take their time, and the watchdog that has to notice exactly these.

use std::time::Duration;

use oneloop::sim::{ClientId, Network, Simulation};
use oneloop::{CloseReason, Connection, Context, Error, Key, StreamHandler, Time};

use super::{Life, Lives, assert_all_closed, conclude, serve, talker, tight, within};

/// For how long callbacks are timed after a slow turn.
const TIMING: Duration = Duration::from_secs(10);

/// An echo that holds up the loop now and then, and foresees what the watchdog counts.
struct Sluggard {
    lives: Lives,
    network: Network,
    threshold: Duration,
    /// The turn of the last callback, when it began, and for how long it was held up.
    turn: u64,
    began: Time,
    held: Duration,
    timing_until: Time,
    slow_turns: u64,
    slow_callbacks: u64,
}

impl Sluggard {
    /// The turns before this callback's are over, and judged.
    fn judge(&mut self, turn: u64, now: Time) {
        if turn == self.turn {
            return;
        }
        if self.held >= self.threshold {
            self.slow_turns += 1;
            self.timing_until = self.timing_until.max(self.began + self.held + TIMING);
        }
        (self.turn, self.began, self.held) = (turn, now, Duration::ZERO);
    }

    fn hold_up(&mut self, cx: &mut Context<'_>) {
        self.judge(cx.stats().turns, cx.now());
        assert_eq!(cx.stats().slow_turns, self.slow_turns);
        let random = cx.random();
        if !random.is_multiple_of(4) {
            return;
        }
        // Rarely so long that callbacks are not timed any more.
        let steps = if (random / 4).is_multiple_of(16) { 2000 } else { random / 64 % 8 };
        let duration = Duration::from_millis(10) * steps as u32;
        let is_timed = self.began < self.timing_until;
        self.slow_callbacks += u64::from(is_timed && duration >= self.threshold);
        self.held += duration;
        self.network.pass(duration);
    }
}

impl StreamHandler for Sluggard {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        self.hold_up(conn);
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        life.consume(conn, data);
        self.hold_up(conn);
        conn.send(data).ignore();
        Ok(data.len())
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, cx: &mut Context<'_>) {
        self.hold_up(cx);
        self.lives.close(&life, key);
    }
}

pub(super) fn slow_callbacks(sim: &mut Simulation) {
    let threshold = Duration::from_millis(10) * within(sim, 1..7) as u32;
    let zero = sim.now();
    let sluggard = Sluggard {
        lives: Lives::default(),
        network: sim.network().clone(),
        threshold,
        turn: 0,
        began: zero,
        held: Duration::ZERO,
        timing_until: zero,
        slow_turns: 0,
        slow_callbacks: 0,
    };
    let served = serve(sim, sluggard, tight());
    sim[served.reactor].set_watchdog(Some(threshold));
    let clients: Vec<ClientId> = (0..within(sim, 1..8))
        .map(|_| {
            let script = talker(sim).close();
            sim.client(served.address, script)
        })
        .collect();
    conclude(sim, &[served.reactor], &clients, true);
    let stats = sim[served.reactor].stats().clone();
    let sluggard = sim[served.reactor].handler_mut(served.handler);
    sluggard.judge(u64::MAX, zero);
    let foreseen = (sluggard.slow_turns, sluggard.slow_callbacks);
    assert_eq!((stats.slow_turns, stats.slow_callbacks), foreseen);
    assert_all_closed(&sim.handler(served).lives);
}
