//! Deadlines: none is early, none late, none is of another kind than what was missed; and whoever says
//! nothing, or takes nothing, does not stay. The handler keeps a model of each connection.

use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{ClientId, Faults, Kernel, Script, Simulation};
use oneloop::{
    CloseReason, Connection, Context, Deadline, Error, Key, Limits, ReactorLimits, StreamHandler,
    TimerId,
};

use super::deadline_model::*;
use super::{
    INPUT_BYTES_MAX, Life, Lives, assert_all_closed, conclude, pattern, serve_with, within,
};

struct Deadlines {
    lives: Lives,
    times: Vec<Rc<Times>>,
    /// Nothing makes the reactor stand still.
    is_punctual: bool,
    waits_for_room: bool,
}

pub struct Session {
    life: Life,
    model: Model,
    /// Ends its pause.
    resumes: Option<TimerId>,
    extensions: u64,
    /// No callback is due any more but the last one, which gives this reason if we know it.
    end: Option<Option<CloseReason>>,
}

impl Deadlines {
    /// Something or other that has to do with deadlines.
    fn act(&self, session: &mut Session, conn: &mut Connection<'_>) {
        let random = conn.random();
        let (choice, random) = (random % 24, random / 24);
        let model = &mut session.model;
        let now = moment(conn.now());
        match choice {
            0 => {
                conn.pause();
                model.is_paused = true;
                if let Some(timer) = session.resumes {
                    conn.rearm_timer(timer, millis(0..2000, random));
                } else {
                    session.resumes = Some(conn.set_timer(millis(0..2000, random)));
                }
            }
            1 => {
                conn.resume();
                model.resume(now);
            }
            2 | 3 => {
                let within = millis(0..1500, random);
                conn.expect_within(within);
                model.phase = (Deadline::Expect, now + nanos(within));
            }
            4 => {
                conn.expect_nothing();
                model.phase = (Deadline::Expect, NEVER);
            }
            5 => {
                model.set_times(now, &self.times[random as usize % self.times.len()]);
                conn.set_limits(&model.times.limits);
            }
            6 => conn.send(&pattern(0, (random % 60_000) as usize)).ignore(),
            7 => conn.send(&pattern(0, (random % 6_000) as usize)).ignore(),
            8..16 => conn.send(b"answer").ignore(),
            _ => {}
        }
    }
}

impl StreamHandler for Deadlines {
    type Session = Session;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Session {
        let life = self.lives.open(conn);
        let model = Model::new(moment(conn.now()), &self.times[0], self.waits_for_room);
        let mut session = Session { life, model, resumes: None, extensions: 0, end: None };
        self.act(&mut session, conn);
        session.model.leave(conn);
        session
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert!(session.end.is_none(), "on_data after the end");
        assert!(data.len() <= INPUT_BYTES_MAX);
        session.model.enter(conn, self.is_punctual, true);
        let consumed = data.len() - data.len() % MESSAGE_BYTES;
        session.life.consume(conn, &data[..consumed]);
        session.model.show(moment(conn.now()), data.len(), consumed);
        self.act(session, conn);
        session.model.leave(conn);
        Ok(consumed)
    }

    fn on_drained(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        session.model.enter(conn, self.is_punctual, false);
        session.model.is_over_high = false;
        session.model.end_rest(moment(conn.now()));
        if conn.random().is_multiple_of(2) {
            conn.send(&pattern(0, 6000)).ignore();
        }
        self.act(session, conn);
        session.model.leave(conn);
    }

    fn on_peer_closed(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        session.model.enter(conn, self.is_punctual, false);
        session.model.is_half_closed = true;
        if conn.random().is_multiple_of(2) {
            conn.close();
            session.end = Some(None);
        } else {
            self.act(session, conn);
        }
        session.model.leave(conn);
    }

    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection<'_>, timer: TimerId) {
        assert!(session.end.is_none(), "on_timer after the end");
        assert_eq!(session.resumes.take(), Some(timer));
        session.model.enter(conn, self.is_punctual, false);
        conn.resume();
        session.model.resume(moment(conn.now()));
        session.model.leave(conn);
    }

    fn on_deadline(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        assert!(session.end.is_none(), "on_deadline after the end");
        session.model.enter(conn, self.is_punctual, false);
        let now = moment(conn.now());
        let due = session.model.due(deadline);
        let due = due.unwrap_or_else(|| panic!("no {deadline:?} is due: {:?}", session.model));
        assert!(due.first <= now, "{deadline:?} is early at {now}: {:?}", session.model);
        let random = conn.random();
        let more = if session.extensions < 5 { random / 8 % 4 } else { 3 };
        let more = match more {
            0 => Some(millis(1..1000, random / 32)),
            1 if (random / 32).is_multiple_of(2) => Some(Duration::MAX),
            1 | 2 => Some(Duration::ZERO),
            _ => None,
        };
        // For ever is for deadlines that something will still end.
        let more = more.filter(|more| *more < Duration::MAX || deadline != Deadline::Idle);
        if random % 8 < 4 {
            self.act(session, conn);
        }
        match more {
            Some(more) if more > Duration::ZERO => {
                session.extensions += 1;
                session.model.put_off(deadline, (now + nanos(more)).min(NEVER));
            }
            _ => session.end = Some(Some(reason(deadline))),
        }
        session.model.leave(conn);
        more
    }

    fn on_close(&mut self, session: Session, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&session.life, key);
        match session.end {
            Some(Some(due)) => assert_eq!(reason, due, "{:?}", session.model),
            _ => assert!(
                !KINDS.map(self::reason).contains(&reason),
                "{reason}, and nobody was asked: {:?}",
                session.model
            ),
        }
    }
}

fn reason(deadline: Deadline) -> CloseReason {
    match deadline {
        Deadline::FirstByte => CloseReason::FirstByteTimeout,
        Deadline::Idle => CloseReason::IdleTimeout,
        Deadline::WriteStall => CloseReason::WriteStallTimeout,
        Deadline::OutputSoft => CloseReason::OutputSoftTimeout,
        Deadline::Message => CloseReason::MessageTimeout,
        Deadline::InputRate => CloseReason::InputTooSlow,
        Deadline::Expect => CloseReason::ExpectTimeout,
        _ => unreachable!("{deadline:?} is new here"),
    }
}

/// What does not make the reactor stand still.
pub fn punctual() -> Faults {
    Faults::lossless().stalls(0.0)
}

pub fn deadlines(sim: &mut Simulation) {
    run(sim, true);
}

pub fn deadlines_missed_by_the_clock(sim: &mut Simulation) {
    run(sim, false);
}

fn run(sim: &mut Simulation, is_punctual: bool) {
    let own = ReactorLimits::new().connections_max(64).events_per_poll_max(7);
    let own = own.timers_per_turn_max(within(sim, 1..5));
    let times: Vec<Rc<Times>> = (0..4).map(|_| Rc::new(Times::random(sim))).collect();
    let limits = Limits::clone(&times[0].limits);
    let waits_for_room = sim.kernel() == Kernel::Linux;
    let handler = Deadlines { lives: Lives::default(), times, is_punctual, waits_for_room };
    let served = serve_with(sim, handler, own, limits);
    let clients: Vec<ClientId> = (0..within(sim, 1..9))
        .map(|_| {
            let script = script(sim);
            sim.client(served.address, script)
        })
        .collect();
    // None of them has to leave: it is the deadlines that end them.
    sim.run_for(Duration::from_secs(60));
    conclude(sim, &[served.reactor], &clients, false);
    assert_all_closed(&sim.handler(served).lives);
}

/// Talks, drips, asks for more than it reads, or says nothing; and leaves, half or at all, or stays.
fn script(sim: &mut Simulation) -> Script {
    let mut script = Script::new().may_end();
    script = match within(sim, 0..6) {
        0 => script.stop_reading(),
        1 => script.read_slowly(within(sim, 1..2000), millis(1..300, sim.random())),
        2 => script.read_slowly(within(sim, 1..100), millis(10..300, sim.random())),
        _ => script,
    };
    let mut sent = 0;
    let is_dripping = within(sim, 0..3) == 0;
    for _ in 0..within(sim, 0..12) {
        let size =
            if is_dripping { within(sim, 1..40) } else { MESSAGE_BYTES * within(sim, 1..20) };
        script = script.send(pattern(sent, size)).wait(millis(0..1000, sim.random()));
        sent += size;
    }
    match within(sim, 0..4) {
        0 => script.shutdown(),
        1 => script.close(),
        _ => script,
    }
}
