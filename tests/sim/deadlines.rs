//! Many deadlines, for long, in virtual time: what no machine waits for.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::long::*;
use oneloop::sim::{Faults, Kernel, Network, SimSocket};
use oneloop::{
    CloseReason, Connection, Context, Deadline, Error, Key, Limits, ListenOptions, Reactor,
    ReactorLimits, StreamHandler, Time,
};

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
    let address = reactor.listener_address(listener).unwrap().inet().unwrap();
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
