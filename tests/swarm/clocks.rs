//! Timers and pokes: none is early, none is lost, none comes twice, none comes to whom it is not for.

use std::collections::BTreeMap;
use std::time::Duration;

use oneloop::sim::{ClientId, End, Script, Simulation};
use oneloop::{
    CloseReason, Connection, Context, Error, Key, ReactorLimits, StreamHandler, Time, TimerId,
};

use super::{Life, Lives, assert_all_closed, conclude, pattern, serve_with, tight, within};

/// Answers every byte with one, by a timer of the connection, a timer of its own, or a poke.
#[derive(Default)]
struct Clocks {
    lives: Lives,
    /// Timers that are set: whose, when, and the so-many-th.
    set: Vec<(TimerId, Option<Key>, Time, u64)>,
    count: u64,
    /// When and which one the last one was that fired.
    fired: (Time, u64),
    /// In which turn a connection was poked.
    poked: BTreeMap<Key, u64>,
    /// What its next poke answers.
    owed: BTreeMap<Key, usize>,
    /// What was left of the last data.
    kept: BTreeMap<Key, usize>,
    /// The next call has to show what is left to this one: it was poked.
    shown_next: Option<Key>,
}

impl Clocks {
    fn note(&mut self, timer: TimerId, key: Option<Key>, at: Time) {
        assert!(self.set.iter().all(|set| set.0 != timer), "{timer:?} names two timers");
        self.count += 1;
        self.set.push((timer, key, at, self.count));
    }

    fn fire(&mut self, timer: TimerId, key: Option<Key>, now: Time) -> u64 {
        let place = self.set.iter().position(|set| set.0 == timer);
        let (_, owner, at, number) = self.set.swap_remove(place.expect("it is set, and once"));
        assert!(now >= at, "a timer fired early");
        assert!(key.is_none() || key == owner, "a timer of somebody else");
        assert!(self.fired <= (at, number), "timers fire in the order of their times");
        self.fired = (at, number);
        number
    }
}

impl StreamHandler for Clocks {
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
        let key = conn.key();
        let shown_next = self.shown_next.take();
        assert!(shown_next.is_none_or(|next| next == key), "poked, and not shown what is kept");
        let turn = conn.stats().turns;
        let poked = self.poked.get(&key).copied().unwrap_or(turn);
        assert!(poked + 1 >= turn, "poked in turn {poked}, and not told in {turn}");
        // One after the other, so that some input is always kept.
        life.consume(conn, &data[..1]);
        self.kept.insert(key, data.len() - 1);
        if data.len() > 1 {
            conn.again();
        }
        let random = conn.random();
        let after = Duration::from_micros(random / 256 % 8 * 1000);
        match random % 3 {
            0 => {
                let timer = conn.set_timer(after);
                self.note(timer, Some(key), conn.now() + after);
                // Another one, which is cancelled.
                let other = conn.set_timer(after / 2);
                assert!(conn.cancel_timer(other), "{other:?} was set");
                assert!(!conn.cancel_timer(other), "{other:?} was cancelled");
            }
            1 => {
                let timer = conn.set_handler_timer(after);
                self.note(timer, Some(key), conn.now() + after);
            }
            _ => {
                *self.owed.entry(key).or_default() += 1;
                self.poked.entry(key).or_insert(turn);
                conn.poke(key);
            }
        }
        // And somebody else, for nothing.
        let other = self.lives.any(random / 4096);
        if (random / 64).is_multiple_of(4) && conn.is_open(other) {
            self.poked.entry(other).or_insert(turn);
            conn.poke(other);
        }
        Ok(1)
    }

    fn on_timer(&mut self, _: &mut Life, conn: &mut Connection<'_>, timer: TimerId) {
        self.fire(timer, Some(conn.key()), conn.now());
        conn.send(b".").ignore();
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        let owner = self.set.iter().find(|set| set.0 == timer).and_then(|set| set.1);
        self.fire(timer, None, cx.now());
        if let Some(owner) = owner {
            cx.send_to(owner, b".").ignore();
        }
    }

    fn on_poke(&mut self, _: &mut Life, conn: &mut Connection<'_>) {
        let key = conn.key();
        assert!(self.poked.remove(&key).is_some(), "nobody poked {key}");
        assert_eq!(self.shown_next, None, "poked, and not shown what is kept");
        self.shown_next = Some(key).filter(|key| self.kept.get(key).is_some_and(|kept| *kept > 0));
        let Some(owed) = self.owed.get_mut(&key) else { return };
        conn.send(b".").ignore();
        *owed -= 1;
        if *owed > 0 {
            self.poked.insert(key, conn.stats().turns);
            conn.poke(key);
        } else {
            self.owed.remove(&key);
        }
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.poked.remove(&key);
        self.lives.close(&life, key);
    }
}

pub fn clocks(sim: &mut Simulation) {
    let own = ReactorLimits::new().connections_max(64).events_per_poll_max(7);
    let served = serve_with(sim, Clocks::default(), own, tight());
    let clients: Vec<ClientId> = (0..within(sim, 1..8))
        .map(|_| {
            let (mut script, mut sent) = (Script::new(), 0);
            for _ in 0..within(sim, 1..5) {
                let count = within(sim, 1..40);
                script = script.send(pattern(sent, count)).expect(vec![b'.'; count]);
                sent += count;
            }
            sim.client(served.address, script.close())
        })
        .collect();
    conclude(sim, &[served.reactor], &clients, true);
    for client in clients {
        assert_eq!(sim.end(client), Some(End::Left));
    }
    let handler = sim.handler(served);
    assert_all_closed(&handler.lives);
    assert!(handler.set.is_empty() && handler.owed.is_empty(), "a timer or a poke is left");
}
