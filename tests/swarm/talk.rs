//! Messages: requests of a known length, and lines that everybody gets.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{ClientId, Script, Simulation};
use oneloop::{CloseReason, Connection, Context, Error, Key, Sent, StreamHandler};

use super::{Life, Lives, assert_all_closed, conclude, pattern, serve, tight, within};

/// Requests of a length in two bytes and as many bytes; the answer is the same. It asks for what it
/// needs.
#[derive(Default)]
struct Requests {
    lives: Lives,
}

impl StreamHandler for Requests {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        conn.need(2);
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert_eq!(life.key, conn.key());
        let mut consumed = 0;
        while let [high, low, rest @ ..] = &data[consumed..] {
            let length = usize::from(*high) << 8 | usize::from(*low);
            if rest.len() < length {
                conn.need(2 + length);
                break;
            }
            assert_eq!(rest[..length], pattern(length, length), "request {}", life.received);
            life.received += 1;
            let answer = &data[consumed..consumed + 2 + length];
            let sent = conn.send(answer);
            consumed += answer.len();
            if sent == Sent::OverHigh {
                break; // on_drained brings the rest
            }
        }
        Ok(consumed)
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&life, key);
    }
}

pub fn requests(sim: &mut Simulation) {
    run_requests(sim, false);
}

pub fn requests_without_loss(sim: &mut Simulation) {
    run_requests(sim, true);
}

fn run_requests(sim: &mut Simulation, without_loss: bool) {
    let served = serve(sim, Requests::default(), tight());
    let clients: Vec<ClientId> = (0..within(sim, 1..10))
        .map(|_| {
            let mut all = Vec::new();
            for _ in 0..within(sim, 1..40) {
                let length = within(sim, 0..700);
                all.extend((length as u16).to_be_bytes());
                all.extend(pattern(length, length));
            }
            let script = Script::new().may_end().send(&all).expect(&all);
            sim.client(served.address, script.shutdown().expect_end().close())
        })
        .collect();
    conclude(sim, &[served.reactor], &clients, without_loss);
    assert_all_closed(&sim.handler(served).lives);
}

/// Passes every line on to everybody.
#[derive(Default)]
struct Chat {
    lives: Lives,
    members: BTreeSet<Key>,
}

impl StreamHandler for Chat {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        self.members.insert(conn.key());
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert_eq!(life.key, conn.key());
        let end = data.iter().position(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        if end > 0 {
            let line: Rc<[u8]> = data[..end].into();
            for member in &self.members {
                conn.send_shared_to(*member, Rc::clone(&line)).ignore();
            }
            conn.again();
        }
        Ok(end)
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, cx: &mut Context<'_>) {
        self.members.remove(&key);
        for member in &self.members {
            cx.send_to(*member, b"left 0\n").ignore();
        }
        self.lives.close(&life, key);
    }
}

pub fn chat(sim: &mut Simulation) {
    let served = serve(sim, Chat::default(), tight());
    let clients: Vec<ClientId> = (0..within(sim, 2..8))
        .map(|name| {
            let mut script = Script::new().may_end();
            if within(sim, 0..5) == 0 {
                script = script.read_slowly(100, Duration::from_millis(1));
            }
            for number in 0..within(sim, 1..30) {
                let filler = "x".repeat(within(sim, 0..900));
                script = script.send(format!("{name} {number} {filler}\n"));
                script = script.wait(Duration::from_micros(within(sim, 0..3000) as u64));
            }
            sim.client(served.address, script.wait(Duration::from_secs(1)).close())
        })
        .collect();
    conclude(sim, &[served.reactor], &clients, false);
    assert_all_closed(&sim.handler(served).lives);
    for client in clients {
        assert_lines_in_order(sim.received(client));
    }
}

/// Of each member the numbers of its lines come one after another, from wherever they begin.
fn assert_lines_in_order(received: &[u8]) {
    let mut last = BTreeMap::new();
    let text = str::from_utf8(received).expect("text");
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let number: usize = words.next().unwrap_or_default().trim().parse().expect("a number");
        let previous = last.insert(name.to_string(), number);
        assert!(
            name == "left" || previous.is_none_or(|previous| number == previous + 1),
            "{name}: {number} after {previous:?}"
        );
    }
}
