//! A proxy: two connections, each of which holds up and ends the other.

use std::net::SocketAddr;
use std::time::Duration;

use oneloop::sim::{ClientId, Script, Simulation};
use oneloop::{
    CloseReason, ConnectError, Connection, Context, Error, Key, Origin, Sent, StreamHandler,
};

use super::echo::Echo;
use super::{Life, Lives, assert_all_closed, conclude, pattern, serve, talker, tight, within};

/// Passes everything on, both ways, with the pressure of each side on the other.
pub(super) struct Proxy {
    pub(super) lives: Lives,
    pub(super) backend: SocketAddr,
    /// It leaves the passing on to the reactor.
    pub(super) forwards: bool,
}

/// How long a slow reader waits between two reads.
const SLOWLY: Duration = Duration::from_millis(1);

/// Finds nothing.
const NOBODY: Key = Key::from_bits(0);

/// One side: its own life, and the other side's key.
pub(super) struct Side {
    life: Life,
    other: Key,
}

impl StreamHandler for Proxy {
    type Session = Side;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Side {
        let life = self.lives.open(conn);
        let other = match conn.origin() {
            // What comes first is kept, and forwarded once there is somebody to forward it to.
            Origin::Accepted(_) if self.forwards && conn.random().is_multiple_of(2) => NOBODY,
            Origin::Accepted(_) => {
                // Nothing is read before there is somebody to give it to.
                conn.pause();
                let own = conn.key();
                conn.connect(self.backend, own.to_bits())
            }
            Origin::Adopted(_) => unreachable!("nothing is adopted here"),
            Origin::Connected(tag) => {
                let (own, front) = (conn.key(), Key::from_bits(tag));
                let goes_on = if self.forwards {
                    conn.forward(own, front) && conn.forward(front, own)
                } else {
                    conn.resume_key(front);
                    conn.is_open(front)
                };
                if !goes_on {
                    conn.close();
                }
                front
            }
        };
        Side { life, other }
    }

    fn on_data(
        &mut self,
        side: &mut Side,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        if self.forwards {
            assert_eq!(side.other, NOBODY, "shown what is forwarded");
            let own = conn.key();
            conn.pause();
            side.other = conn.connect(self.backend, own.to_bits());
            return Ok(0);
        }
        side.life.consume(conn, data);
        if conn.send_to(side.other, data) == Sent::OverHigh {
            conn.pause();
        }
        Ok(data.len())
    }

    fn on_drained(&mut self, side: &mut Side, conn: &mut Connection<'_>) {
        if !self.forwards {
            conn.resume_key(side.other);
        }
    }

    fn on_peer_closed(&mut self, side: &mut Side, conn: &mut Connection<'_>) {
        if self.forwards {
            assert_eq!(side.other, NOBODY, "told of an end that is forwarded");
            return conn.close();
        }
        // The end goes on to the other side; both are over when both sides have ended.
        if conn.is_open(side.other) {
            conn.shutdown_write_key(side.other);
            // A run of the other side would send its end, too.
            if conn.random().is_multiple_of(2) {
                conn.poke(side.other);
            }
        } else {
            conn.close();
        }
    }

    fn on_close(&mut self, side: Side, key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        match reason {
            CloseReason::Closed | CloseReason::PeerClosed => cx.close_key(side.other),
            _ => cx.abort_key(side.other),
        }
        self.lives.close(&side.life, key);
    }

    fn on_connect_failed(&mut self, _: Key, tag: u64, _: ConnectError, cx: &mut Context<'_>) {
        cx.close_key(Key::from_bits(tag));
    }
}

fn run_proxy(sim: &mut Simulation, without_loss: bool, forwards: bool) {
    let front = serve(
        sim,
        Proxy { lives: Lives::default(), backend: ([10, 0, 0, 3], 7000).into(), forwards },
        tight(),
    );
    let back = sim.serve(Echo::default());
    assert_eq!(back.address, ([10, 0, 0, 3], 7000).into());
    let mut clients: Vec<ClientId> = (0..within(sim, 1..6))
        .map(|_| {
            let script = talker(sim);
            sim.client(front.address, script.close())
        })
        .collect();
    if forwards {
        // More than is let wait, for a peer that takes it slowly.
        let size = within(sim, 1..200_000);
        let script = Script::new().may_end().read_slowly(within(sim, 200..2000), SLOWLY);
        let script = script.send(pattern(0, size)).expect(pattern(0, size));
        clients.push(sim.client(front.address, script.close()));
    }
    conclude(sim, &[front.reactor, back.reactor], &clients, without_loss);
    for reactor in [front.reactor, back.reactor] {
        let idle = sim[reactor].stats().closes(CloseReason::IdleTimeout);
        assert!(!without_loss || idle == 0, "{idle} connections never heard of the end");
    }
    assert_all_closed(&sim.handler(front).lives);
    assert_all_closed(&sim.handler(back).lives);
}

pub fn proxy(sim: &mut Simulation) {
    run_proxy(sim, false, false);
}

pub fn proxy_without_loss(sim: &mut Simulation) {
    run_proxy(sim, true, false);
}

pub fn forwarding(sim: &mut Simulation) {
    run_proxy(sim, false, true);
}

pub fn forwarding_without_loss(sim: &mut Simulation) {
    run_proxy(sim, true, true);
}
