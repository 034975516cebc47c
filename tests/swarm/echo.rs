//! Echoes: at their own pace, to slow readers, to who has ended already, and without descriptors.

use std::net::SocketAddr;
use std::time::Duration;

use oneloop::sim::{ClientId, End, ReactorId, Script, Simulation};
use oneloop::{CloseReason, Connection, Context, Error, Key, StreamHandler, TimerId};

use super::{Life, Lives, assert_all_closed, conclude, pattern, serve, talker, tight, within};

/// Sends back what it is sent, at its own pace: all or a part of what it is shown, now or later.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) lives: Lives,
    /// It does not care for a drain.
    pub(super) goes_on: bool,
}

impl StreamHandler for Echo {
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
        assert!(!conn.is_paused(), "called while it is paused");
        let random = conn.random();
        let count = match random % 8 {
            0 => 1 + random as usize / 8 % data.len(),
            _ => data.len(),
        };
        life.consume(conn, &data[..count]);
        match random / 8 % 4 {
            0 => conn.send_shared(data[..count].into()).ignore(),
            1 => {
                let (one, other) = data[..count].split_at(count / 2);
                conn.send(one).ignore();
                conn.send(other).ignore();
            }
            _ => conn.send(&data[..count]).ignore(),
        }
        if (random / 32).is_multiple_of(16) {
            conn.pause();
            conn.set_timer(Duration::from_micros(random / 512 % 5000));
        } else if count < data.len() {
            conn.again();
        }
        Ok(count)
    }

    fn on_timer(&mut self, _: &mut Life, conn: &mut Connection<'_>, _: TimerId) {
        conn.resume();
    }

    fn on_drain(&mut self, _: &mut Life, conn: &mut Connection<'_>) {
        if !self.goes_on && !conn.is_paused() {
            conn.close();
        }
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&life, key);
    }
}

fn echo_clients(sim: &mut Simulation, address: SocketAddr) -> Vec<ClientId> {
    let count = within(sim, 1..12);
    (0..count)
        .map(|_| {
            let script = talker(sim);
            let script = match within(sim, 0..4) {
                0 => script.shutdown().expect_end(),
                1 => script.send(pattern(0, 0)).reset(),
                _ => script.close(),
            };
            sim.client(address, script)
        })
        .collect()
}

pub fn echo(sim: &mut Simulation) {
    let served = serve(sim, Echo::default(), tight());
    let clients = echo_clients(sim, served.address);
    conclude(sim, &[served.reactor], &clients, false);
    assert_all_closed(&sim.handler(served).lives);
}

pub fn echo_without_loss(sim: &mut Simulation) {
    let served = serve(sim, Echo::default(), tight());
    let clients = echo_clients(sim, served.address);
    conclude(sim, &[served.reactor], &clients, true);
    assert_all_closed(&sim.handler(served).lives);
}

/// Half of what is sent is still to come when the client ends its side; all of it comes back.
pub fn half_closed(sim: &mut Simulation) {
    let served = serve(sim, Echo::default(), tight());
    let clients: Vec<ClientId> = (0..within(sim, 1..6))
        .map(|_| {
            let size = within(sim, 1..60_000);
            let script = Script::new().send(pattern(0, size)).shutdown();
            sim.client(served.address, script.expect(pattern(0, size)).expect_end().close())
        })
        .collect();
    conclude(sim, &[served.reactor], &clients, true);
    assert_all_closed(&sim.handler(served).lives);
}

/// Clients that send much and read late, little or nothing.
pub fn slow_readers(sim: &mut Simulation) {
    let limits = tight().output_bytes_max(4000).linger_timeout(Duration::from_millis(200));
    let served = serve(sim, Echo::default(), limits);
    let mut clients = Vec::new();
    for _ in 0..within(sim, 1..8) {
        let size = within(sim, 1..100_000);
        let script = Script::new().may_end();
        let script = match within(sim, 0..3) {
            0 => script.read_slowly(within(sim, 1..2000), Duration::from_millis(1)),
            _ => script.stop_reading(),
        };
        let script = script.send(pattern(0, size)).read_on();
        clients.push(sim.client(served.address, script.expect(pattern(0, size)).close()));
    }
    for _ in 0..3 {
        let script = talker(sim).close();
        clients.push(sim.client(served.address, script));
    }
    sim.run_for(Duration::from_millis(300));
    // Who sends and does not read is held up by its own doing, until it leaves.
    conclude_slow(sim, served.reactor, &clients);
}

fn conclude_slow(sim: &mut Simulation, reactor: ReactorId, clients: &[ClientId]) {
    sim.heal();
    sim.run_for(Duration::from_secs(2000));
    sim.run_until_idle();
    for client in clients {
        let is_over = sim.is_done(*client) || sim.end(*client).is_some();
        // Both buffers are full, and the client does not read before it has sent all: its own fault.
        if !is_over {
            assert!(sim[reactor].connections() > 0, "{client:?} {:?}", sim[reactor].stats());
        }
    }
}

/// Many clients, few descriptors: those that come are served or turned away, and afterwards a new one
/// is served.
pub fn descriptors_run_out(sim: &mut Simulation) {
    let served = serve(sim, Echo::default(), tight());
    let descriptors = within(sim, 3..8);
    sim.set_descriptors_max(served.reactor, descriptors);
    let clients: Vec<ClientId> = (0..within(sim, 5..40))
        .map(|_| {
            let script = talker(sim);
            sim.client(served.address, script.close())
        })
        .collect();
    let seconds = within(sim, 0..5) as u64;
    sim.run_for(Duration::from_secs(seconds));
    conclude(sim, &[served.reactor], &clients, false);
    assert_all_closed(&sim.handler(served).lives);
    let late = sim
        .client(served.address, Script::new().send(pattern(0, 10)).expect(pattern(0, 10)).close());
    sim.run_for(Duration::from_secs(2));
    assert!(sim.is_done(late), "accepting has not resumed: {:?}", sim.end(late));
    assert_eq!(sim.end(late), Some(End::Left));
}
