//! When the deadlines of a connection are, as far as its handler can know: from what it is told and what it
//! does itself. Of output it sees only how much is gone whenever it is called, so there the model knows a
//! first and a last moment at which it may have gone.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::Simulation;
use oneloop::{Connection, Deadline, Limits, Time};

use super::{tight, within};

/// What is consumed at once; less is the beginning of a message.
pub const MESSAGE_BYTES: usize = 100;

/// So much every socket takes at once, if it was sent no more before.
pub const TAKEN_AT_ONCE: u64 = 4096;
/// So much is written in the turn in which it is sent; the rest may be left to the next one.
const WRITTEN_AT_ONCE: u64 = 2500;

/// What a reactor may be late: some turns, each of which takes a microsecond.
pub const SLACK: i128 = 1_000_000;
pub const NEVER: i128 = 1 << 64;

pub const KINDS: [Deadline; 7] = [
    Deadline::FirstByte,
    Deadline::Idle,
    Deadline::WriteStall,
    Deadline::OutputSoft,
    Deadline::Message,
    Deadline::InputRate,
    Deadline::Expect,
];

pub fn nanos(duration: Duration) -> i128 {
    i128::from(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

pub fn moment(time: Time) -> i128 {
    i128::from(time.as_nanos())
}

pub fn millis(range: std::ops::Range<u64>, random: u64) -> Duration {
    Duration::from_millis(range.start + random % (range.end - range.start))
}

/// The times of a set of limits, and the limits.
pub struct Times {
    pub first_byte: i128,
    pub idle: i128,
    pub stall: i128,
    /// Bytes to be taken in each stall time that output waits all the time.
    pub taken_min: u64,
    pub soft_bytes: usize,
    pub soft: i128,
    pub message: i128,
    pub rate: usize,
    pub grace: i128,
    pub limits: Rc<Limits>,
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
    pub fn random(sim: &mut Simulation) -> Times {
        let mut short = || match sim.random() % 3 {
            0 => Duration::MAX,
            _ => millis(5..1500, sim.random()),
        };
        let (first_byte, stall, soft, message) = (short(), short(), short(), short());
        let idle = millis(20..1500, sim.random());
        let grace = millis(0..500, sim.random());
        let rate = [0, 100, 1000][within(sim, 0..3)];
        let output_rate = [0, 1000, 10_000][within(sim, 0..3)];
        let soft_bytes = [2000, 5000][within(sim, 0..2)];
        let write_bytes = [WRITTEN_AT_ONCE as usize, 50_000][within(sim, 0..2)];
        let limits = tight()
            .output_bytes_max(1 << 20)
            .output_bytes_soft(soft_bytes)
            .write_bytes_per_turn_max(write_bytes)
            .linger_timeout(Duration::from_millis(200))
            .first_byte_timeout(first_byte)
            .idle_timeout(idle)
            .write_stall_timeout(stall)
            .output_rate_min(output_rate)
            .output_soft_timeout(soft)
            .message_timeout(message)
            .input_rate_min(rate)
            .input_rate_grace(grace);
        Times {
            first_byte: nanos(first_byte),
            idle: nanos(idle),
            stall: nanos(stall),
            taken_min: (nanos(stall) as u64 as u128 * output_rate as u128).div_ceil(1_000_000_000)
                as u64,
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
pub struct Span {
    pub first: i128,
    pub last: i128,
}

impl Span {
    pub fn at(moment: i128) -> Span {
        Span { first: moment, last: moment }
    }

    /// As if it had happened later, so that so long after it is not before `to`.
    pub fn put_off(self, after: i128, to: i128) -> Span {
        let later = |moment: i128| moment + (to - (moment + after).min(NEVER)).max(0);
        Span { first: later(self.first), last: later(self.last) }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub since: i128,
    /// How many bytes had come before it.
    pub from: u64,
}

/// Output that waits all the time, of which enough has to be taken in each stall time. Nobody tells the handler when it
/// was: so there is a least and a most that may be.
#[derive(Clone, Copy, Debug)]
pub struct Taking {
    /// When it was last found to be enough.
    pub since: Span,
    /// How many bytes were gone by then.
    pub from_min: u64,
    pub from_max: u64,
}

/// What is known of a connection since the last call.
#[derive(Debug)]
pub struct Model {
    pub times: Rc<Times>,
    /// What a write leaves goes when an event tells of room, also if there is some.
    pub waits_for_room: bool,
    /// When that call was.
    pub seen: i128,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub output: usize,
    pub active: Span,
    /// The last call gave it more time to be idle, which what that call sent does not change.
    pub was_given_time: bool,
    /// When output last went, or began to wait.
    pub moved: Span,
    pub taking: Option<Taking>,
    pub over_soft_since: Option<i128>,
    pub message: Option<Message>,
    /// Since when it is not read from.
    pub rests_since: Option<i128>,
    /// The first byte or what is expected, and until when.
    pub phase: (Deadline, i128),
    pub is_paused: bool,
    pub is_over_high: bool,
    pub is_half_closed: bool,
}

impl Model {
    pub fn new(now: i128, times: &Rc<Times>, waits_for_room: bool) -> Model {
        Model {
            times: Rc::clone(times),
            waits_for_room,
            seen: now,
            bytes_in: 0,
            bytes_out: 0,
            output: 0,
            active: Span::at(now),
            was_given_time: false,
            moved: Span::at(now),
            taking: None,
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
    pub fn due(&self, deadline: Deadline) -> Option<Span> {
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
            Deadline::WriteStall => (self.output > 0).then(|| {
                let (stall, rate) = (after(self.moved, times.stall), self.taking_due());
                Span { first: stall.first.min(rate.first), last: stall.last.min(rate.last) }
            }),
            Deadline::OutputSoft => {
                Some(Span::at(self.over_soft_since.filter(|_| self.output > 0)? + times.soft))
            }
            _ => unreachable!("{deadline:?} is new here"),
        }
    }

    /// Between which moments too little was taken, with what is gone by now.
    fn taking_due(&self) -> Span {
        let (stall, min) = (self.times.stall, self.times.taken_min);
        let Some(taking) = self.taking.filter(|_| min > 0) else { return Span::at(NEVER) };
        let may_fail = self.bytes_out < taking.from_max.saturating_add(min);
        let has_failed = self.bytes_out < taking.from_min + min;
        Span {
            first: taking.since.first + if may_fail { stall } else { 2 * stall },
            last: if has_failed { taking.since.last + stall } else { NEVER },
        }
    }

    /// Whatever was looked at meanwhile, without a call, was found to be enough.
    fn note_taken(&mut self, now: i128, is_punctual: bool) {
        let (stall, min, seen) = (self.times.stall, self.times.taken_min, self.seen);
        let Some(taking) = &mut self.taking else { return };
        if taking.since.first + 2 * stall <= now {
            taking.from_max = u64::MAX;
        }
        while is_punctual && min > 0 && (taking.since.last + stall).max(seen) + SLACK <= now {
            let last = (taking.since.last + stall).max(seen) + SLACK;
            taking.since = Span { first: taking.since.first + stall, last };
            taking.from_min += min;
            let (gone, due) = (self.bytes_out, taking.from_min);
            assert!(
                gone >= due,
                "{gone} bytes were found to be enough in place of {due}: {taking:?}"
            );
            taking.from_max = u64::MAX;
        }
        taking.from_max = taking.from_max.min(self.bytes_out);
    }

    /// Other limits hold from now on.
    pub fn set_times(&mut self, now: i128, times: &Rc<Times>) {
        if let Some(taking) = &mut self.taking
            && taking.since.first + self.times.stall <= now
        {
            taking.since.last = now; // it may have been looked at by the old ones
        }
        self.times = Rc::clone(times);
    }

    pub fn rate_due(&self, message: Message) -> i128 {
        let came = i128::from(self.bytes_in - message.from);
        message.since + self.times.grace + came * 1_000_000_000 / self.times.rate.max(1) as i128
    }

    /// A call begins: what has happened since the last one. `reads` is whether it may be for new bytes.
    pub fn enter(&mut self, conn: &Connection<'_>, is_punctual: bool, reads: bool) {
        let now = moment(conn.now());
        let (bytes_out, output) = (conn.bytes_out(), conn.output_len());
        let has_sent = bytes_out != self.bytes_out;
        if has_sent {
            let last = if bytes_out <= TAKEN_AT_ONCE { self.seen } else { now };
            self.moved = Span { first: self.seen, last };
            if !self.was_given_time {
                self.active = self.moved;
            } else if self.waits_for_room
                || bytes_out > TAKEN_AT_ONCE
                || bytes_out - self.bytes_out > WRITTEN_AT_ONCE
            {
                // The rest of it went later, which is a sign of life.
                let Span { first, last } = self.active;
                self.active = Span { first: first.min(self.seen), last: last.max(now) };
            }
        }
        self.was_given_time = false;
        if output <= self.times.soft_bytes {
            self.over_soft_since = None;
        }
        if output == 0 {
            self.taking = None;
        }
        self.output = output;
        self.bytes_out = bytes_out;
        for deadline in KINDS.into_iter().filter(|_| is_punctual) {
            // What was due before the last call was due right after it.
            let late = |due: Span| now - due.last.max(self.seen);
            let late = self.due(deadline).map_or(0, late);
            assert!(late <= SLACK, "{deadline:?} is {late} ns late: {self:?}");
        }
        self.note_taken(now, is_punctual);
        if conn.bytes_in() != self.bytes_in {
            assert!(reads, "bytes that were not shown");
            self.bytes_in = conn.bytes_in();
            self.active = Span::at(now);
        }
    }

    /// A call ends.
    pub fn leave(&mut self, conn: &Connection<'_>) {
        let now = moment(conn.now());
        let output = conn.output_len();
        if self.output == 0 && output > 0 {
            self.moved = Span::at(now);
        }
        if output == 0 {
            self.taking = None;
        } else {
            let (from_min, from_max) = (conn.bytes_out(), u64::MAX);
            self.taking.get_or_insert(Taking { since: Span::at(now), from_min, from_max });
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

    pub fn note_rest(&mut self, now: i128) {
        if self.is_paused || self.is_over_high {
            self.rests_since.get_or_insert(now);
        } else if let Some(since) = self.rests_since.take()
            && let Some(message) = &mut self.message
        {
            message.since += (now - since.max(message.since)).max(0);
        }
    }

    pub fn show(&mut self, now: i128, shown: usize, consumed: usize) {
        if consumed == shown {
            self.message = None;
        } else if consumed > 0 || self.message.is_none() {
            let from = self.bytes_in - (shown - consumed) as u64;
            self.message = Some(Message { since: now, from });
        }
    }

    pub fn resume(&mut self, now: i128) {
        if !std::mem::replace(&mut self.is_paused, false) {
            return;
        }
        self.active = Span::at(now);
        self.end_rest(now);
    }

    pub fn end_rest(&mut self, now: i128) {
        if self.phase.0 == Deadline::FirstByte {
            self.phase.1 = self.phase.1.max(now + self.times.first_byte);
        }
        self.note_rest(now);
    }

    pub fn put_off(&mut self, deadline: Deadline, to: i128) {
        let times = Rc::clone(&self.times);
        match deadline {
            Deadline::Idle => {
                self.active = Span::at((to - times.idle).max(0));
                self.was_given_time = true;
            }
            Deadline::WriteStall => {
                self.moved = self.moved.put_off(times.stall, to);
                if let Some(taking) = &mut self.taking {
                    taking.since = taking.since.put_off(times.stall, to);
                }
            }
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
