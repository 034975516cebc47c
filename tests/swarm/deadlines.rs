//! Deadlines: none is early, none late, none is of another kind than what was missed; and whoever says
//! nothing, or takes nothing, does not stay.
//!
//! The handler keeps a model of each connection, from what it is told and what it does itself. Of output
//! it sees only how much is gone whenever it is called, so there the model knows a first and a last moment
//! at which it may have gone.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{ClientId, Faults, Script, Simulation};
use oneloop::{
    CloseReason, Connection, Context, Deadline, Error, Key, Limits, ReactorLimits, StreamHandler,
    Time, TimerId,
};

use super::{
    INPUT_BYTES_MAX, Life, Lives, assert_all_closed, conclude, pattern, serve_with, tight, within,
};

/// What is consumed at once; less is the beginning of a message.
const MESSAGE_BYTES: usize = 100;
/// So much every socket takes at once, if it was sent no more before.
const TAKEN_AT_ONCE: u64 = 4096;
/// What a reactor may be late: some turns, each of which takes a microsecond.
const SLACK: i128 = 1_000_000;
const NEVER: i128 = 1 << 64;

const KINDS: [Deadline; 7] = [
    Deadline::FirstByte,
    Deadline::Idle,
    Deadline::WriteStall,
    Deadline::OutputSoft,
    Deadline::Message,
    Deadline::InputRate,
    Deadline::Expect,
];

fn nanos(duration: Duration) -> i128 {
    i128::from(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn moment(time: Time) -> i128 {
    i128::from(time.as_nanos())
}

fn millis(range: std::ops::Range<u64>, random: u64) -> Duration {
    Duration::from_millis(range.start + random % (range.end - range.start))
}

/// The times of a set of limits, and the limits.
struct Times {
    first_byte: i128,
    idle: i128,
    stall: i128,
    soft_bytes: usize,
    soft: i128,
    message: i128,
    rate: usize,
    grace: i128,
    limits: Rc<Limits>,
}

/// Of what is not for ever.
impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = [self.first_byte, self.idle, self.stall, self.soft, self.message, self.grace];
        let names = ["first_byte", "idle", "stall", "soft", "message", "grace"];
        let times = names.into_iter().zip(times).filter(|(_, time)| *time < NEVER >> 8);
        f.debug_map().entries(times).entry(&"rate", &self.rate).finish()
    }
}

impl Times {
    /// One in three is for ever, but for the idle time: that ends everybody.
    fn random(sim: &mut Simulation) -> Times {
        let mut short = || match sim.random() % 3 {
            0 => Duration::MAX,
            _ => millis(5..1500, sim.random()),
        };
        let (first_byte, stall, soft, message) = (short(), short(), short(), short());
        let idle = millis(20..1500, sim.random());
        let grace = millis(0..500, sim.random());
        let rate = [0, 100, 1000][within(sim, 0..3)];
        let soft_bytes = [2000, 5000][within(sim, 0..2)];
        let write_bytes = [2500, 50_000][within(sim, 0..2)];
        let limits = tight()
            .output_bytes_max(1 << 20)
            .output_bytes_soft(soft_bytes)
            .write_bytes_per_turn_max(write_bytes)
            .linger_timeout(Duration::from_millis(200))
            .first_byte_timeout(first_byte)
            .idle_timeout(idle)
            .write_stall_timeout(stall)
            .output_soft_timeout(soft)
            .message_timeout(message)
            .input_rate_min(rate)
            .input_rate_grace(grace);
        Times {
            first_byte: nanos(first_byte),
            idle: nanos(idle),
            stall: nanos(stall),
            soft_bytes,
            soft: nanos(soft),
            message: nanos(message),
            rate,
            grace: nanos(grace),
            limits: Rc::new(limits),
        }
    }
}

/// Between these something happened.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: i128,
    last: i128,
}

impl Span {
    fn at(moment: i128) -> Span {
        Span { first: moment, last: moment }
    }

    /// As if it had happened later, so that so long after it is not before `to`.
    fn put_off(self, after: i128, to: i128) -> Span {
        let later = |moment: i128| moment + (to - (moment + after).min(NEVER)).max(0);
        Span { first: later(self.first), last: later(self.last) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Message {
    since: i128,
    /// How many bytes had come before it.
    from: u64,
}

/// What is known of a connection since the last call.
#[derive(Debug)]
struct Model {
    times: Rc<Times>,
    /// When that call was.
    seen: i128,
    bytes_in: u64,
    bytes_out: u64,
    output: usize,
    active: Span,
    /// The last call gave it more time to be idle, which what that call sent does not change.
    was_given_time: bool,
    /// When output last went, or began to wait.
    moved: Span,
    over_soft_since: Option<i128>,
    message: Option<Message>,
    /// Since when it is not read from.
    rests_since: Option<i128>,
    /// The first byte or what is expected, and until when.
    phase: (Deadline, i128),
    is_paused: bool,
    is_over_high: bool,
    is_half_closed: bool,
}

impl Model {
    fn new(now: i128, times: &Rc<Times>) -> Model {
        Model {
            times: Rc::clone(times),
            seen: now,
            bytes_in: 0,
            bytes_out: 0,
            output: 0,
            active: Span::at(now),
            was_given_time: false,
            moved: Span::at(now),
            over_soft_since: None,
            message: None,
            rests_since: None,
            phase: (Deadline::FirstByte, now + times.first_byte),
            is_paused: false,
            is_over_high: false,
            is_half_closed: false,
        }
    }

    /// Between which moments this deadline is due, if it holds.
    fn due(&self, deadline: Deadline) -> Option<Span> {
        let times = &*self.times;
        let is_read = !self.is_paused && !self.is_over_high && !self.is_half_closed;
        let after =
            |span: Span, time: i128| Span { first: span.first + time, last: span.last + time };
        match deadline {
            Deadline::Idle => (!self.is_paused).then(|| after(self.active, times.idle)),
            Deadline::FirstByte => (self.phase.0 == deadline && self.bytes_in == 0 && is_read)
                .then_some(Span::at(self.phase.1)),
            Deadline::Expect => (self.phase.0 == deadline).then_some(Span::at(self.phase.1)),
            Deadline::Message => {
                let message = self.message.filter(|_| is_read)?;
                Some(Span::at(message.since + times.message))
            }
            Deadline::InputRate => {
                let message = self.message.filter(|_| is_read && times.rate > 0)?;
                Some(Span::at(self.rate_due(message)))
            }
            Deadline::WriteStall => (self.output > 0).then(|| after(self.moved, times.stall)),
            Deadline::OutputSoft => {
                Some(Span::at(self.over_soft_since.filter(|_| self.output > 0)? + times.soft))
            }
            _ => unreachable!("{deadline:?} is new here"),
        }
    }

    fn rate_due(&self, message: Message) -> i128 {
        let came = i128::from(self.bytes_in - message.from);
        message.since + self.times.grace + came * 1_000_000_000 / self.times.rate.max(1) as i128
    }

    /// A call begins: what has happened since the last one. `reads` is whether it may be for new bytes.
    fn enter(&mut self, conn: &Connection<'_>, is_punctual: bool, reads: bool) {
        let now = moment(conn.now());
        let (bytes_out, output) = (conn.bytes_out(), conn.output_len());
        let has_sent = bytes_out != self.bytes_out;
        if has_sent {
            let last = if bytes_out <= TAKEN_AT_ONCE { self.seen } else { now };
            self.moved = Span { first: self.seen, last };
            if !self.was_given_time {
                self.active = self.moved;
            } else if bytes_out > TAKEN_AT_ONCE {
                let Span { first, last } = self.active;
                self.active = Span { first: first.min(self.seen), last: last.max(now) };
            }
        }
        self.was_given_time = false;
        if output <= self.times.soft_bytes {
            self.over_soft_since = None;
        }
        self.output = output;
        self.bytes_out = bytes_out;
        for deadline in KINDS.into_iter().filter(|_| is_punctual) {
            // What was due before the last call was due right after it.
            let late = |due: Span| now - due.last.max(self.seen);
            let late = self.due(deadline).map_or(0, late);
            assert!(late <= SLACK, "{deadline:?} is {late} ns late: {self:?}");
        }
        if conn.bytes_in() != self.bytes_in {
            assert!(reads, "bytes that were not shown");
            self.bytes_in = conn.bytes_in();
            self.active = Span::at(now);
        }
    }

    /// A call ends.
    fn leave(&mut self, conn: &Connection<'_>) {
        let now = moment(conn.now());
        let output = conn.output_len();
        if self.output == 0 && output > 0 {
            self.moved = Span::at(now);
        }
        if output <= self.times.soft_bytes {
            self.over_soft_since = None; // under other limits
        } else if self.over_soft_since.is_none() {
            self.over_soft_since = Some(now);
        }
        self.output = output;
        self.is_over_high = conn.is_over_high();
        self.note_rest(now);
        self.seen = now;
    }

    fn note_rest(&mut self, now: i128) {
        if self.is_paused || self.is_over_high {
            self.rests_since.get_or_insert(now);
        } else if let Some(since) = self.rests_since.take()
            && let Some(message) = &mut self.message
        {
            message.since += (now - since.max(message.since)).max(0);
        }
    }

    fn show(&mut self, now: i128, shown: usize, consumed: usize) {
        if consumed == shown {
            self.message = None;
        } else if consumed > 0 || self.message.is_none() {
            let from = self.bytes_in - (shown - consumed) as u64;
            self.message = Some(Message { since: now, from });
        }
    }

    fn resume(&mut self, now: i128) {
        if !std::mem::replace(&mut self.is_paused, false) {
            return;
        }
        self.active = Span::at(now);
        self.end_rest(now);
    }

    fn end_rest(&mut self, now: i128) {
        if self.phase.0 == Deadline::FirstByte {
            self.phase.1 = self.phase.1.max(now + self.times.first_byte);
        }
        self.note_rest(now);
    }

    fn put_off(&mut self, deadline: Deadline, to: i128) {
        let times = Rc::clone(&self.times);
        match deadline {
            Deadline::Idle => {
                self.active = Span::at((to - times.idle).max(0));
                self.was_given_time = true;
            }
            Deadline::WriteStall => self.moved = self.moved.put_off(times.stall, to),
            Deadline::FirstByte | Deadline::Expect => self.phase.1 = self.phase.1.max(to),
            Deadline::OutputSoft => {
                let since = self.over_soft_since.map(Span::at);
                self.over_soft_since = since.map(|since| since.put_off(times.soft, to).first);
            }
            Deadline::Message | Deadline::InputRate => {
                let Some(message) = self.message else { return };
                let due = match deadline {
                    Deadline::Message => message.since + times.message,
                    _ if times.rate == 0 => return, // by other limits, which were set with it
                    _ => self.rate_due(message),
                };
                let since = message.since + (to - due.min(NEVER)).max(0);
                self.message = Some(Message { since, ..message });
            }
            _ => unreachable!("{deadline:?} is new here"),
        }
    }
}

struct Deadlines {
    lives: Lives,
    times: Vec<Rc<Times>>,
    /// Nothing makes the reactor stand still.
    is_punctual: bool,
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
                model.times = Rc::clone(&self.times[random as usize % self.times.len()]);
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
        let model = Model::new(moment(conn.now()), &self.times[0]);
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
    let handler = Deadlines { lives: Lives::default(), times, is_punctual };
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
