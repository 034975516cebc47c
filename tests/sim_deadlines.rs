//! Many deadlines and timers, for long, in virtual time: what no machine waits for.

#![cfg(feature = "sim")]

#[path = "../src/random.rs"]
mod random;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use oneloop::sim::{Faults, Kernel, Network, SimDriver, SimSocket};
use oneloop::{
    CloseReason, Connection, Context, Deadline, Error, HandlerId, Key, Limits, ListenOptions,
    Reactor, ReactorLimits, StreamHandler, Time, TimerId,
};
use random::random;

/// For what a debug build checks after every turn there is less of it.
const SCALE: usize = if cfg!(debug_assertions) { 10 } else { 1 };

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        random(&mut self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// `ONELOOP_SEED`, or always the same; printed for a run that fails.
fn seed() -> u64 {
    let seed = std::env::var("ONELOOP_SEED").ok();
    let seed = seed.map_or(1, |seed| seed.parse().expect("ONELOOP_SEED is a number"));
    println!("ONELOOP_SEED={seed}");
    seed
}

const IDLE: Duration = Duration::from_secs(2 * 3600);
const MESSAGE: Duration = Duration::from_secs(1800);

/// Answers lines, and notes when each connection last said something, and how its time ended.
#[derive(Default)]
struct Office {
    /// In the order of opening: when it last sent something, and when the line that is not complete began.
    connections: Vec<Visitor>,
    answers: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Visitor {
    active: Time,
    began: Option<Time>,
    missed: Option<(Deadline, Time)>,
    closed: Option<CloseReason>,
}

impl StreamHandler for Office {
    type Session = usize;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> usize {
        self.connections.push(Visitor { active: conn.now(), ..Visitor::default() });
        self.connections.len() - 1
    }

    fn on_data(
        &mut self,
        number: &mut usize,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let visitor = &mut self.connections[*number];
        visitor.active = conn.now();
        let lines = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if lines == data.len() {
            visitor.began = None;
        } else if lines > 0 || visitor.began.is_none() {
            visitor.began = Some(conn.now());
        }
        if lines > 0 {
            self.answers += 1;
            conn.send(&data[..lines]).ignore();
        }
        Ok(lines)
    }

    fn on_deadline(
        &mut self,
        number: &mut usize,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        let missed = &mut self.connections[*number].missed;
        assert_eq!(missed.replace((deadline, conn.now())), None, "asked twice");
        None
    }

    fn on_close(&mut self, number: usize, _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.connections[number].closed = Some(reason);
    }
}

/// What a client does with its day.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Habit {
    /// Sends a line now and then.
    Pings,
    /// The same until some hour, and then nothing any more.
    FallsSilent(Duration),
    /// The same until some hour, and then a line a byte at a time.
    Drips(Duration),
}

struct Client {
    socket: SimSocket,
    habit: Habit,
    next: Time,
    sent: usize,
    received: usize,
    ended: bool,
}

/// All of it in turns of the reactor itself, which waits for the next client or deadline.
#[test]
fn a_day_of_ten_thousand_clients_ends_those_that_fall_silent_or_drip_in_their_minute() {
    let mut random = Random(seed());
    let count = 10_000 / SCALE;
    let network = Network::new(1, Kernel::Linux);
    let own = ReactorLimits::new().connections_max(count);
    let mut reactor = Reactor::with_driver(network.driver(Faults::none()), own).unwrap();
    let office = reactor.add(Office::default());
    let limits =
        Limits::new().idle_timeout(IDLE).message_timeout(MESSAGE).accepts_per_turn_max(count);
    let options = ListenOptions::new().limits(limits).backlog(1024);
    let listener = reactor.listen_with(office, "10.0.0.1:7000", &options).unwrap();
    let address = reactor.listener_address(listener).unwrap();
    let host = network.host(Faults::none());
    let start = network.now();
    let mut clients = Vec::new();
    for _ in 0..count {
        let hour = SECOND * u32::try_from(random.below(20 * 3600)).unwrap();
        let habit = match random.below(4) {
            0 => Habit::FallsSilent(hour),
            1 => Habit::Drips(hour),
            _ => Habit::Pings,
        };
        let next = start + SECOND * u32::try_from(random.below(3600)).unwrap();
        let socket = host.connect(address).unwrap();
        clients.push(Client { socket, habit, next, sent: 0, received: 0, ended: false });
        if clients.len() % 500 == 0 || clients.len() == count {
            while reactor.connections() < clients.len() {
                reactor.turn(Some(MS)).unwrap();
            }
        }
    }
    // Who acts next: by minutes, so that many do at once.
    let end = start + DAY;
    let mut minute = start;
    let mut lines = 0;
    while network.now() < end {
        minute = minute + MINUTE;
        for client in clients.iter_mut().filter(|client| client.next <= minute && !client.ended) {
            lines += usize::from(client.act(&mut random, start, minute));
        }
        while network.now() < minute || reactor.next_wait() == Some(Duration::ZERO) {
            reactor.turn(Some((minute - network.now()).max(Duration::from_nanos(1)))).unwrap();
        }
    }
    reactor.verify();
    let mut ends = [0; 3];
    for (number, client) in clients.iter_mut().enumerate() {
        let visitor = reactor.handler(office).connections[number];
        let due = match client.habit {
            Habit::Pings => {
                assert_eq!((visitor.missed, visitor.closed), (None, None), "client {number}");
                ends[0] += 1;
                continue;
            }
            Habit::FallsSilent(_) => {
                (Deadline::Idle, visitor.active + IDLE, CloseReason::IdleTimeout)
            }
            Habit::Drips(_) => {
                let began = visitor.began.expect("a line that does not end");
                (Deadline::Message, began + MESSAGE, CloseReason::MessageTimeout)
            }
        };
        let (deadline, at) =
            visitor.missed.unwrap_or_else(|| panic!("client {number}: {visitor:?}"));
        assert_eq!(
            (deadline, visitor.closed),
            (due.0, Some(due.2)),
            "client {number}: {visitor:?}"
        );
        // Exactly: a turn takes a microsecond, and there may be some at one moment.
        assert!(at >= due.1 && at - due.1 < MS, "client {number}: {:?} late", at - due.1);
        ends[usize::from(deadline == Deadline::Message) + 1] += 1;
        client.receive();
        assert!(client.ended, "client {number} was not told");
    }
    assert!(ends.iter().all(|ends| *ends > count / 10), "{ends:?}");
    let office = reactor.handler(office);
    assert_eq!(office.answers, lines, "a line was not answered");
    let turns = reactor.stats().turns;
    println!("{count} clients: {ends:?} stayed, idle, dripping; {lines} lines in {turns} turns");
}

impl Client {
    /// Sends something, having received what was answered; whether it was a line.
    fn act(&mut self, random: &mut Random, start: Time, now: Time) -> bool {
        self.receive();
        let drips = matches!(self.habit, Habit::Drips(hour) if start + hour <= now);
        if self.ended {
            assert!(self.habit != Habit::Pings, "who talks stays");
            return false;
        }
        assert!(drips || self.received == self.sent, "the answer is there within a minute");
        if matches!(self.habit, Habit::FallsSilent(hour) if start + hour <= now) {
            self.next = Time::NEVER;
            return false;
        }
        // Always within the time of an idle connection, and so often that a line does not come to its end.
        self.next = now + if drips { 5 * MINUTE } else { MINUTE * (20 + random.below(90) as u32) };
        let text: &[u8] = if drips { b"." } else { b"hello\n" };
        // Its connection may have ended since.
        if self.socket.write(text).is_ok() {
            self.sent += text.len();
        }
        !drips
    }

    fn receive(&mut self) {
        let mut answer = [0; 64];
        loop {
            match self.socket.read(&mut answer) {
                Ok(0) => break self.ended = true,
                Ok(count) => self.received += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break self.ended = true,
            }
        }
    }
}

/// Notes what fires.
#[derive(Default)]
struct Clock {
    fired: Vec<(TimerId, Time)>,
}

impl StreamHandler for Clock {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        self.fired.push((timer, cx.now()));
    }
}

fn clock(network: &Network, own: ReactorLimits) -> (Reactor<SimDriver>, HandlerId<Clock>) {
    let driver = network.driver(Faults::none());
    let mut reactor = Reactor::with_driver(driver, own.connections_max(16)).unwrap();
    let clock = reactor.add(Clock::default());
    (reactor, clock)
}

#[test]
fn a_million_timers_fire_in_the_order_of_their_moments() {
    let mut random = Random(seed());
    let count = 1_000_000 / SCALE;
    let network = Network::new(1, Kernel::Linux);
    let own = ReactorLimits::new();
    let max = 1024;
    let (mut reactor, clock) = clock(&network, own.timers_per_turn_max(max));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let mut cx = reactor.context(clock);
    let start = cx.now();
    let mut after = || Duration::from_nanos(random.below(3600 * 1_000_000_000));
    let mut timers: Vec<(TimerId, Time)> = Vec::with_capacity(count);
    for _ in 0..count {
        let after = after();
        timers.push((cx.set_handler_timer(after), start + after));
    }
    // A third is moved, to earlier and later moments, and a third is cancelled.
    for (number, (timer, at)) in timers.iter_mut().enumerate() {
        match number % 3 {
            0 => {
                let after = after();
                assert!(cx.rearm_timer(*timer, after));
                *at = start + after;
            }
            1 => {
                assert!(cx.cancel_timer(*timer));
                *at = Time::NEVER;
            }
            _ => {}
        }
    }
    timers.retain(|(_, at)| *at != Time::NEVER);
    timers.sort_by_key(|(_, at)| *at);
    while reactor.handler(clock).fired.len() < timers.len() {
        assert!(network.now() < start + 4000 * SECOND, "a timer is lost");
        // Now and then the loop comes late, and there are too many for a turn.
        if reactor.stats().turns.is_multiple_of(1000) {
            network.pass(20 * SECOND);
        }
        let before = reactor.handler(clock).fired.len();
        reactor.turn(None).unwrap();
        assert!(reactor.handler(clock).fired.len() - before <= max, "too many in a turn");
    }
    let fired = &reactor.handler(clock).fired;
    for ((timer, at), (due, moment)) in fired.iter().zip(&timers) {
        // Two of one moment, of which one was moved, come in either order.
        let is_it = timer == due || timers.iter().any(|other| other == &(*timer, *moment));
        assert!(is_it, "{timer:?} instead of {due:?}, which is due at {moment:?}");
        assert!(at >= moment, "early");
    }
    assert_eq!(fired.len(), timers.len());
    assert_eq!(reactor.next_wait(), None);
}

#[test]
fn a_timer_of_sixty_days_fires_then_and_the_loop_sleeps_until_then() {
    // epoll_wait(2) takes at most 24.8 days at a time, and the driver may wake up early.
    let network = Network::new(1, Kernel::Linux);
    let (mut reactor, clock) = clock(&network, ReactorLimits::new());
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let start = network.now();
    let timer = reactor.context(clock).set_handler_timer(60 * DAY);
    let beat = reactor.context(clock).set_handler_interval(50 * DAY);
    while reactor.handler(clock).fired.len() < 3 {
        reactor.turn(Some(2 * DAY)).unwrap(); // as such a driver
        assert!(reactor.stats().turns < 70, "{:?}", reactor.stats());
    }
    let fired = reactor.handler(clock).fired.clone();
    let due = [(beat, 50), (timer, 60), (beat, 100)];
    for ((timer, at), (due, days)) in fired.into_iter().zip(due) {
        let after = at - start;
        assert!(timer == due && after >= days * DAY && after < days * DAY + MS, "{after:?}");
    }
}

/// In one turn so many timers fire.
const TIMERS_PER_TURN: usize = 10;
/// A ping that is there when a turn begins is answered within so many turns.
const TURNS: u64 = 1;

/// Answers pings and swallows floods, among timers of zero that are set again whenever they fire.
struct Busy {
    timers: usize,
    /// How many timers fired in each turn that fired some.
    fired: Vec<(u64, usize)>,
    /// Which timers are set, and how often each has fired before.
    each: HashMap<TimerId, usize>,
    flooded: usize,
}

impl StreamHandler for Busy {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.each = (0..self.timers).map(|_| (cx.set_handler_timer(Duration::ZERO), 0)).collect();
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        match data[0] {
            b'f' => self.flooded += data.len(),
            _ => conn.send(data).ignore(),
        }
        Ok(data.len())
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        let turn = cx.stats().turns;
        match self.fired.last_mut() {
            Some(last) if last.0 == turn => last.1 += 1,
            _ => self.fired.push((turn, 1)),
        }
        let count = self.each.remove(&timer).expect("it is set");
        self.each.insert(cx.set_handler_timer(Duration::ZERO), count + 1);
    }
}

#[test]
fn a_storm_of_timers_floods_and_pings_do_not_starve_each_other() {
    for (kernel, timers) in [(Kernel::Linux, 1000), (Kernel::Contract, 1000), (Kernel::Linux, 5)] {
        let network = Network::new(seed(), kernel);
        let own = ReactorLimits::new().connections_max(64).timers_per_turn_max(TIMERS_PER_TURN);
        let mut reactor = Reactor::with_driver(network.driver(Faults::none()), own).unwrap();
        let (fired, each) = (Vec::new(), HashMap::new());
        let busy = reactor.add(Busy { timers, fired, each, flooded: 0 });
        let limits = Limits::new().read_bytes_per_turn_max(4096);
        let options = ListenOptions::new().limits(limits);
        let listener = reactor.listen_with(busy, "10.0.0.1:7000", &options).unwrap();
        let address = reactor.listener_address(listener).unwrap();
        let host = network.host(Faults::none());
        let mut floods: Vec<SimSocket> = (0..4).map(|_| host.connect(address).unwrap()).collect();
        let mut pinging = host.connect(address).unwrap();
        while reactor.connections() < 5 {
            reactor.turn(Some(MS)).unwrap();
        }
        for number in 0..200 {
            for flood in &mut floods {
                while flood.write(&[b'f'; 8192]).is_ok() {}
            }
            pinging.write_all(b"p").unwrap();
            network.pass(Duration::from_micros(1)); // it arrives
            let before = reactor.stats().turns;
            let flooded = reactor.handler(busy).flooded;
            let mut answer = [0; 2];
            loop {
                reactor.turn(Some(MS)).unwrap();
                network.pass(Duration::from_micros(1));
                let turns = reactor.stats().turns - before;
                assert!(turns <= TURNS, "{turns} turns, and no answer to ping {number}");
                match pinging.read(&mut answer) {
                    Ok(count) => break assert_eq!(answer[..count], *b"p"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            assert!(reactor.handler(busy).flooded > flooded, "the floods go on, too");
        }
        let busy = reactor.handler(busy);
        let (first, share) = (busy.fired[0].0, TIMERS_PER_TURN.min(timers));
        for (number, turn) in (first..).zip(&busy.fired) {
            assert_eq!(*turn, (number, share), "a share of the timers in every turn");
        }
        let (least, most) = (busy.each.values().min(), busy.each.values().max());
        let (least, most) = (least.unwrap(), most.unwrap());
        assert!(most - least <= 1 && *most > 0, "each in its turn: {least} to {most} times");
    }
}

/// Sends everything back.
#[derive(Default)]
struct Echo {
    opened: Vec<Key>,
    late: Vec<Key>,
}

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.opened.push(conn.key());
    }

    fn on_data(
        &mut self,
        (): &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }

    fn on_deadline(
        &mut self,
        (): &mut (),
        conn: &mut Connection<'_>,
        _: Deadline,
    ) -> Option<Duration> {
        self.late.push(conn.key());
        None
    }
}

/// The loop stood still for longer than the deadline, and its polls tell of one source at a time.
#[test]
fn nobody_is_late_whose_bytes_the_loop_has_not_looked_for() {
    const CLIENTS: usize = 4;
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let network = Network::new(seed(), kernel);
        let driver = network.driver(Faults::none());
        let address = std::net::SocketAddr::new(driver.ip(), 7000);
        let limits = ReactorLimits::new().connections_max(CLIENTS).events_per_poll_max(1);
        let mut reactor = Reactor::with_driver(driver, limits).unwrap();
        let echo = reactor.add(Echo::default());
        let limits = Limits::new().idle_timeout(200 * MS);
        reactor.listen_with(echo, address, &ListenOptions::new().limits(limits)).unwrap();
        let host = network.host(Faults::none());
        let mut clients: Vec<SimSocket> =
            (0..CLIENTS).map(|_| host.connect(address).unwrap()).collect();
        network.pass(MS);
        while reactor.handler(echo).opened.len() < CLIENTS {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        clients.iter().for_each(|client| client.connect_result().unwrap());
        // All but the last one say something.
        for client in &mut clients[..CLIENTS - 1] {
            client.write_all(b"here I am").unwrap();
        }
        network.pass(250 * MS);
        for _ in 0..3 * CLIENTS {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        let Echo { opened, late } = reactor.handler(echo);
        assert_eq!(late, &opened[CLIENTS - 1..], "{kernel:?}");
    }
}
