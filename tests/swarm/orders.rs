//! A server that does what it is told to, and knows how each of its connections has to end.

use std::time::Duration;

use oneloop::sim::{ClientId, End, Script, Simulation};
use oneloop::{
    CloseReason, Connection, Context, Error, Key, Limits, ReactorLimits, StreamHandler, Time,
    TimerId,
};

use super::{
    INPUT_BYTES_MAX, Life, Lives, assert_all_closed, conclude, pattern, serve_with, tight, within,
};

/// What a client tells the server to do.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Order {
    /// Send the answer and close, with more input on its way.
    AnswerAndClose,
    /// Send the answer and wait for the peer's end.
    AnswerAndWait,
    /// Send the answer and our end of file, and read on until the peer's.
    AnswerAndShutdown,
    /// Send what the peer does not take, and close.
    TooMuchAndClose,
    /// Send more than may wait.
    TooMuch,
    /// Send what fills the memory, if others do, too.
    Hog,
    /// Ask for more than will come, and send back what came.
    Tail,
    /// Close when a timer fires.
    Timer,
    Abort,
    CloseAndAbort,
    Fail,
    Misuse,
    /// Consume nothing, ever.
    Stuff,
    /// Wait for the peer's reset.
    Reset,
    /// The same, and read nothing.
    PausedReset,
}

use Order::*;

const ALL: [Order; 15] = [
    AnswerAndClose,
    AnswerAndWait,
    AnswerAndShutdown,
    TooMuchAndClose,
    TooMuch,
    Hog,
    Tail,
    Timer,
    Abort,
    CloseAndAbort,
    Fail,
    Misuse,
    Stuff,
    Reset,
    PausedReset,
];

/// An order is its number and a size in four bytes.
const ORDER_BYTES: usize = 5;

impl Order {
    fn bytes(self, size: usize) -> Vec<u8> {
        let mut bytes = vec![ALL.iter().position(|order| *order == self).expect("a number") as u8];
        bytes.extend((size as u32).to_be_bytes());
        bytes
    }

    /// How the connection has to end, if nothing is lost.
    fn reason(self) -> Option<CloseReason> {
        match self {
            AnswerAndClose | Timer | Tail | CloseAndAbort => Some(CloseReason::Closed),
            AnswerAndWait | AnswerAndShutdown => Some(CloseReason::PeerClosed),
            TooMuch | TooMuchAndClose => Some(CloseReason::SlowReader),
            Abort => Some(CloseReason::Aborted),
            Fail => Some(CloseReason::HandlerError),
            Misuse => Some(CloseReason::Misuse),
            Stuff => Some(CloseReason::InputTooLong),
            Reset | PausedReset => Some(CloseReason::Reset),
            Hog => None,
        }
    }
}

#[derive(Default)]
pub struct Orders {
    lives: Lives,
}

pub struct Session {
    life: Life,
    order: Option<Order>,
    /// No callback is due any more but the last one.
    is_over: bool,
    alarm: Option<(TimerId, Time)>,
    /// The turn in which it was aborted.
    aborted: Option<u64>,
}

fn answer(conn: &mut Connection<'_>, size: usize) {
    let mut sent = 0;
    while sent < size {
        let random = conn.random();
        let count = (1 + (random / 4) as usize % 20_000).min(size - sent);
        let piece = pattern(sent, count);
        match random % 4 {
            0 => conn.send_shared(piece.into()).ignore(),
            _ => conn.send(&piece).ignore(),
        }
        sent += count;
    }
}

impl StreamHandler for Orders {
    type Session = Session;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Session {
        conn.need(ORDER_BYTES);
        let life = self.lives.open(conn);
        Session { life, order: None, is_over: false, alarm: None, aborted: None }
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert!(!session.is_over, "{:?}: on_data after the end", session.order);
        assert!(data.len() <= INPUT_BYTES_MAX, "shown {} bytes", data.len());
        let (order, size) = match (session.order, data) {
            (Some(Stuff), _) => return Ok(0),
            (Some(Tail), tail) => {
                // Half by half, the last byte with the close.
                let count = tail.len().div_ceil(2);
                session.life.consume(conn, &tail[..count]);
                conn.send(&tail[..count]).ignore();
                session.is_over = tail.len() == count;
                if session.is_over {
                    conn.close();
                } else {
                    conn.again();
                }
                return Ok(count);
            }
            (Some(_), rest) => {
                session.life.consume(conn, rest);
                return Ok(rest.len());
            }
            (None, [number, a, b, c, d, ..]) => {
                (ALL[usize::from(*number)], u32::from_be_bytes([*a, *b, *c, *d]) as usize)
            }
            (None, _) => return Ok(data.len()), // its client has left
        };
        session.order = Some(order);
        match order {
            AnswerAndClose | TooMuchAndClose => {
                conn.set_timer(Duration::from_millis(1)); // which never fires
                answer(conn, size);
                conn.close();
                session.is_over = true;
            }
            AnswerAndWait | TooMuch | Hog => answer(conn, size),
            AnswerAndShutdown => {
                answer(conn, size);
                conn.shutdown_write();
            }
            Tail => conn.need(size + 1),
            Timer => {
                let after = Duration::from_micros(size as u64);
                session.alarm = Some((conn.set_timer(after), conn.now() + after));
            }
            Abort => {
                conn.abort();
                session.is_over = true;
                session.aborted = Some(conn.stats().turns);
            }
            CloseAndAbort => {
                conn.close();
                conn.abort();
                session.is_over = true;
                session.aborted = Some(conn.stats().turns);
            }
            Fail => {
                session.is_over = true;
                return Err("told to".into());
            }
            Misuse => {
                session.is_over = true;
                return Ok(data.len() + 1);
            }
            Stuff => return Ok(0),
            Reset => {}
            PausedReset => {
                conn.pause();
                // Not every kernel tells of a reset to who does not read.
                conn.set_timer(Duration::from_secs(1000));
            }
        }
        Ok(ORDER_BYTES)
    }

    fn on_peer_closed(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        assert!(!session.is_over, "{:?}: on_peer_closed after the end", session.order);
        assert_ne!(session.order, Some(Tail), "the tail was not shown");
        conn.close();
        session.is_over = true;
    }

    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection<'_>, timer: TimerId) {
        assert!(!session.is_over, "{:?}: on_timer after the end", session.order);
        if session.order == Some(PausedReset) {
            return conn.resume();
        }
        let (alarm, at) = session.alarm.expect("a timer was set");
        assert_eq!(alarm, timer);
        assert!(conn.now() >= at, "a timer fired early");
        conn.close();
        session.is_over = true;
    }

    fn on_close(&mut self, session: Session, key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        self.lives.close(&session.life, key);
        let turn = cx.stats().turns;
        assert_eq!(session.aborted.unwrap_or(turn), turn, "told in a later turn");
        let due = session.order.and_then(Order::reason);
        assert_eq!(due.unwrap_or(reason), reason, "{:?} has another reason", session.order);
    }
}

/// Time for what a client still has to say, with a network on a bad day.
const LINGER: Duration = Duration::from_secs(3);

fn limits() -> Limits {
    tight().output_bytes_max(1_000_000).write_bytes_per_turn_max(100_000).linger_timeout(LINGER)
}

/// Every client gets exactly what it ordered, and every connection ends for exactly one reason.
pub fn orders(sim: &mut Simulation) {
    let own = ReactorLimits::new().connections_max(64).events_per_poll_max(7);
    let served = serve_with(sim, Orders::default(), own, limits());
    let clients: Vec<(Order, ClientId)> = (0..within(sim, 1..9))
        .map(|_| {
            let order = ALL[within(sim, 0..ALL.len())];
            let script = script(order, sim);
            (order, sim.client(served.address, script))
        })
        .collect();
    let ids: Vec<ClientId> = clients.iter().map(|(_, client)| *client).collect();
    sim.run_for(Duration::from_secs(500));
    sim.run_until_idle();
    conclude(sim, &[served.reactor], &ids, true);
    assert_all_closed(&sim.handler(served).lives);
    for (order, client) in clients {
        let due = match order {
            Abort | CloseAndAbort | TooMuch | TooMuchAndClose => End::Reset,
            Reset | PausedReset | Hog => End::Left,
            _ => End::Ended,
        };
        assert_eq!(sim.end(client), Some(due), "{order:?} has another end");
    }
}

fn script(order: Order, sim: &mut Simulation) -> Script {
    let is_slow = within(sim, 0..3) == 0;
    let size = if is_slow { 60_000 } else { within(sim, 0..60_000) };
    let junk = pattern(0, if within(sim, 0..2) == 0 { 0 } else { within(sim, 1..30_000) });
    let script = match is_slow {
        // Five times as long as the deadline for lingering, which is one for progress.
        true => Script::new().read_slowly(400, Duration::from_millis(100)),
        false => Script::new(),
    };
    match order {
        AnswerAndClose => {
            let script = script.send(order.bytes(size)).send(junk);
            script.expect(pattern(0, size)).expect_end().close()
        }
        AnswerAndWait => {
            let script = script.send(order.bytes(size)).send(junk).expect(pattern(0, size));
            script.shutdown().expect_end().close()
        }
        AnswerAndShutdown => {
            let script = script.send(order.bytes(size)).expect(pattern(0, size)).expect_end();
            script.send(junk).shutdown().close()
        }
        TooMuch | TooMuchAndClose => {
            let size = if order == TooMuch { 1_500_000 } else { 500_000 };
            let script = Script::new().stop_reading().send(order.bytes(size));
            script.wait(Duration::from_secs(60)).read_on()
        }
        Hog => {
            let script = script.send(order.bytes(size)).expect_bytes(size);
            script.close()
        }
        Tail => {
            // Less than the limit of input, so that only the end of file shows it.
            let tail = within(sim, 1..4000);
            let script = script.send(order.bytes(tail)).send(pattern(0, tail)).shutdown();
            script.expect(pattern(0, tail)).expect_end().close()
        }
        Timer => script.send(order.bytes(within(sim, 0..3_000_000))).expect_end().close(),
        Abort | CloseAndAbort => script.send(order.bytes(0)),
        Fail | Misuse => script.send(order.bytes(0)).send(junk).expect_end().close(),
        Stuff => script.send(order.bytes(0)).send(pattern(0, 20_000)).expect_end().close(),
        Reset | PausedReset => script.send(order.bytes(0)).wait(Duration::from_secs(2)).reset(),
    }
}

/// Some take all the memory and read nothing; it is they who are cut, and not those who hold little.
pub fn memory(sim: &mut Simulation) {
    let own = ReactorLimits::new().connections_max(64).memory_bytes_max(500_000);
    let served = serve_with(sim, Orders::default(), own, limits());
    let mut clients = Vec::new();
    let mut hogs = Vec::new();
    for _ in 0..10 {
        let pause = Duration::from_micros(within(sim, 0..200_000) as u64);
        let script = Script::new().wait(pause);
        if within(sim, 0..2) == 0 {
            let size = within(sim, 100_000..200_000);
            let script = script.stop_reading().send(Hog.bytes(size));
            hogs.push(sim.client(served.address, script.wait(Duration::from_secs(60)).close()));
        } else {
            // It holds little, but for a while: ten of them are no trouble.
            let size = within(sim, 0..20_000);
            let script = script.read_slowly(600, Duration::from_millis(100));
            let script = script.send(AnswerAndWait.bytes(size)).expect(pattern(0, size));
            clients.push(sim.client(served.address, script.shutdown().expect_end().close()));
        }
    }
    conclude(sim, &[served.reactor], &clients, true);
    assert_all_closed(&sim.handler(served).lives);
    for hog in hogs {
        assert!(matches!(sim.end(hog), Some(End::Left | End::Reset)), "{:?}", sim.end(hog));
    }
}
