//! Timers and pokes: none is early, none is lost, none comes twice, none comes to whom it is not for.

use std::collections::BTreeMap;
use std::time::Duration;

use oneloop::sim::{ClientId, End, Script, Simulation};
use oneloop::{
    CloseReason, Connection, Context, Error, Key, ReactorLimits, StreamHandler, Time, TimerId,
};

use super::{Life, Lives, assert_all_closed, conclude, pattern, serve_with, tight, within};

/// Longer than any connection lives.
const LONG: Duration = Duration::from_secs(36_000);
/// A turn of a reactor that has work, and the next one.
const POKE_MAX: Duration = Duration::from_millis(1);

/// A timer that is set.
#[derive(Debug)]
struct Set {
    timer: TimerId,
    /// Whom it is to answer.
    key: Key,
    is_of_the_handler: bool,
    /// When it is due.
    at: Time,
    /// It was the so-many-th that was set, if its moment is still that of its setting.
    number: Option<u64>,
    period: Duration,
    /// With the last beat it answers, and is cancelled.
    beats: u64,
    /// The turn in which its moment was set.
    turn: u64,
}

/// Answers every byte with one, by a timer of the connection, a timer of its own, one that is moved, the
/// last of some beats, or a poke. Whoever is called moves timers of others, too.
#[derive(Default)]
struct Clocks {
    lives: Lives,
    set: Vec<Set>,
    /// Some that will never fire again: they fired, were cancelled, or their connection ended.
    gone: Vec<TimerId>,
    count: u64,
    /// When and which one the last one was that fired.
    fired: (Time, u64),
    /// The last two turns in which something was called, and when.
    turns: [(u64, Time); 2],
    /// So few timers fire in a turn that some are late.
    is_limited: bool,
    /// In which turn a connection was poked, and when.
    poked: BTreeMap<Key, (u64, Time)>,
    /// The clock does not jump, and nothing stalls: it only goes on by the turns.
    is_punctual: bool,
    /// What its next poke answers.
    owed: BTreeMap<Key, usize>,
    /// What was left of the last data.
    kept: BTreeMap<Key, usize>,
    /// The next call has to show what is left to this one: it was poked.
    shown_next: Option<Key>,
}

impl Clocks {
    /// Something is called.
    fn look(&mut self, cx: &Context<'_>) {
        let turn = cx.stats().turns;
        if turn > self.turns[1].0 {
            self.turns = [self.turns[1], (turn, cx.now())];
        }
        assert!(cx.now() == self.turns[1].1, "the time stands still within a turn");
        let (turn, then) = self.turns[0];
        for set in self.set.iter().filter(|_| !self.is_limited) {
            assert!(set.turn >= turn || set.at > then, "it was due in turn {turn}: {set:?}");
        }
    }

    fn note(&mut self, timer: TimerId, key: Key, is_of_the_handler: bool, at: Time) -> &mut Set {
        assert!(self.set.iter().all(|set| set.timer != timer), "{timer:?} names two timers");
        assert!(!self.gone.contains(&timer), "{timer:?} names two timers");
        self.count += 1;
        self.set.push(Set {
            timer,
            key,
            is_of_the_handler,
            at,
            number: Some(self.count),
            period: Duration::ZERO,
            beats: 1,
            turn: self.turns[1].0,
        });
        self.set.last_mut().expect("just pushed")
    }

    fn set_for(&mut self, conn: &mut Connection<'_>, is_of_the_handler: bool, after: Duration) {
        let timer = match is_of_the_handler {
            true => conn.set_handler_timer(after),
            false => conn.set_timer(after),
        };
        self.note(timer, conn.key(), is_of_the_handler, conn.now() + after);
    }

    fn set_beats_for(&mut self, conn: &mut Connection<'_>, is_of_the_handler: bool, random: u64) {
        let period = Duration::from_micros(random % 3000 + 1);
        let timer = match is_of_the_handler {
            true => conn.set_handler_interval(period),
            false => conn.set_interval(period),
        };
        let set = self.note(timer, conn.key(), is_of_the_handler, conn.now() + period);
        (set.period, set.beats) = (period, random / 4096 % 5 + 1);
    }

    /// Moves some timer, whosever it is.
    fn meddle(&mut self, cx: &mut Context<'_>) {
        let random = cx.random();
        let (choice, random) = (random % 8, random / 8);
        if choice > 1 {
            return;
        }
        let after = Duration::from_micros(random / 256 % 6 * 1000);
        let now = cx.now();
        if choice == 0 && !self.set.is_empty() {
            let place = random as usize % self.set.len();
            let set = &mut self.set[place];
            let after = if set.at > now + LONG / 2 { LONG } else { after };
            if !cx.rearm_timer(set.timer, after) {
                assert!(!set.is_of_the_handler && !cx.is_open(set.key), "it is set: {set:?}");
                return; // its connection closes, and nobody else need know
            }
            (set.at, set.number, set.turn) = (now + after, None, self.turns[1].0);
        } else if choice == 1 && !self.gone.is_empty() {
            let gone = self.gone[random as usize % self.gone.len()];
            assert!(!cx.rearm_timer(gone, after), "{gone:?} fired, or ended with its connection");
        }
    }

    /// Whom to answer, if it is time for that.
    fn fire(&mut self, timer: TimerId, key: Option<Key>, cx: &mut Context<'_>) -> Option<Key> {
        self.look(cx);
        let now = cx.now();
        let place = self.set.iter().position(|set| set.timer == timer);
        let place = place.expect("it is set, and once");
        let set = &mut self.set[place];
        assert!(now >= set.at, "a timer fired early");
        assert_eq!(key, Some(set.key).filter(|_| !set.is_of_the_handler), "of somebody else");
        let last = self.fired;
        let is_after = match set.number {
            Some(number) => last <= (set.at, number),
            None => last.0 <= set.at,
        };
        assert!(is_after, "timers fire in the order of their times");
        let number = set.number.unwrap_or(if set.at == last.0 { last.1 } else { 0 });
        self.fired = (set.at, number);
        set.beats -= 1;
        if set.beats > 0 {
            // In the old beat; what was missed is left out.
            while set.at <= now {
                set.at = set.at + set.period;
            }
            (set.number, set.turn) = (None, self.turns[1].0);
            return None;
        }
        let set = self.set.swap_remove(place);
        assert_eq!(cx.cancel_timer(timer), set.period > Duration::ZERO, "{set:?}");
        assert!(!cx.rearm_timer(timer, Duration::ZERO), "it is no more: {set:?}");
        self.gone.push(timer);
        Some(set.key)
    }
}

impl StreamHandler for Clocks {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        self.look(conn);
        // They end with the connection.
        self.set_for(conn, false, LONG);
        let beats = conn.set_interval(LONG);
        self.note(beats, conn.key(), false, conn.now() + LONG).period = LONG;
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.look(conn);
        self.meddle(conn);
        let key = conn.key();
        let shown_next = self.shown_next.take();
        assert!(shown_next.is_none_or(|next| next == key), "poked, and not shown what is kept");
        let turn = conn.stats().turns;
        let (poked, _) = self.poked.get(&key).copied().unwrap_or((turn, conn.now()));
        assert!(poked + 1 >= turn, "poked in turn {poked}, and not told in {turn}");
        // One after the other, so that some input is always kept.
        life.consume(conn, &data[..1]);
        self.kept.insert(key, data.len() - 1);
        if data.len() > 1 {
            conn.again();
        }
        let random = conn.random();
        let after = Duration::from_micros(random / 256 % 8 * 1000);
        match random % 8 {
            0 => {
                self.set_for(conn, false, after);
                // Another one, which is cancelled.
                let other = conn.set_timer(after / 2);
                assert!(conn.cancel_timer(other), "{other:?} was set");
                assert!(!conn.cancel_timer(other), "{other:?} was cancelled");
                self.gone.push(other);
            }
            1 => self.set_for(conn, true, after),
            2 | 3 => {
                let first = Duration::from_micros(random / 2048 % 20_000);
                self.set_for(conn, random % 8 == 2, first);
                let set = self.set.last_mut().expect("just set");
                assert!(conn.rearm_timer(set.timer, after), "it was set");
                (set.at, set.number) = (conn.now() + after, None);
            }
            4 => self.set_beats_for(conn, false, random / 2048),
            5 => self.set_beats_for(conn, true, random / 2048),
            _ => {
                *self.owed.entry(key).or_default() += 1;
                self.poked.entry(key).or_insert((turn, conn.now()));
                conn.poke(key);
            }
        }
        // And somebody else, for nothing.
        let other = self.lives.any(random / 4096);
        if (random / 64).is_multiple_of(4) && conn.is_open(other) {
            self.poked.entry(other).or_insert((turn, conn.now()));
            conn.poke(other);
        }
        Ok(1)
    }

    fn on_timer(&mut self, _: &mut Life, conn: &mut Connection<'_>, timer: TimerId) {
        let key = conn.key();
        if self.fire(timer, Some(key), conn).is_some() {
            conn.send(b".").ignore();
        }
        self.meddle(conn);
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        if let Some(owner) = self.fire(timer, None, cx) {
            cx.send_to(owner, b".").ignore();
        }
        self.meddle(cx);
    }

    fn on_poke(&mut self, _: &mut Life, conn: &mut Connection<'_>) {
        self.look(conn);
        self.meddle(conn);
        let key = conn.key();
        let poked = self.poked.remove(&key);
        let (_, at) = poked.unwrap_or_else(|| panic!("nobody poked {key}"));
        let waited = conn.now().since(at);
        assert!(!self.is_punctual || waited <= POKE_MAX, "a poke waited for {waited:?}");
        assert_eq!(self.shown_next, None, "poked, and not shown what is kept");
        self.shown_next = Some(key).filter(|key| self.kept.get(key).is_some_and(|kept| *kept > 0));
        let Some(owed) = self.owed.get_mut(&key) else { return };
        conn.send(b".").ignore();
        *owed -= 1;
        if *owed > 0 {
            self.poked.insert(key, (conn.stats().turns, conn.now()));
            conn.poke(key);
        } else {
            self.owed.remove(&key);
        }
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, cx: &mut Context<'_>) {
        self.look(cx);
        let ended = |set: &mut Set| set.key == key && !set.is_of_the_handler;
        self.gone.extend(self.set.extract_if(.., ended).map(|set| set.timer));
        self.meddle(cx);
        self.poked.remove(&key);
        self.lives.close(&life, key);
    }
}

pub fn clocks(sim: &mut Simulation) {
    run(sim, true);
}

pub fn clocks_that_jump(sim: &mut Simulation) {
    run(sim, false);
}

fn run(sim: &mut Simulation, is_punctual: bool) {
    let own = ReactorLimits::new().connections_max(64).events_per_poll_max(7);
    let is_limited = within(sim, 0..3) == 0;
    let own = if is_limited { own.timers_per_turn_max(within(sim, 1..4)) } else { own };
    let clocks = Clocks { is_limited, is_punctual, ..Clocks::default() };
    let served = serve_with(sim, clocks, own, tight());
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
