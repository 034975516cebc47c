//! When a simulation is at rest, and what it takes for progress.

use oneloop::sim::Simulation;
use oneloop::{
    Connection, Context, Datagram, DatagramHandler, DatagramSocket, Error, ReactorLimits,
    StreamHandler, TimerId,
};

use super::SECOND;

/// Counts the seconds.
#[derive(Default)]
struct Beat(u64);

impl StreamHandler for Beat {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.set_handler_interval(SECOND);
    }

    fn on_handler_timer(&mut self, _: TimerId, _: &mut Context<'_>) {
        self.0 += 1;
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.set_handler_timer(SECOND);
        Ok(data.len())
    }
}

#[test]
fn a_reactor_whose_handler_has_an_interval_is_empty() {
    let mut sim = Simulation::new(1);
    let beat = sim.serve(Beat::default());
    sim.run_until_idle();
    sim.assert_empty(beat.reactor);
    sim.run_for(10 * SECOND + SECOND / 2);
    assert_eq!(sim.handler(beat).0, 10);
    sim.assert_empty(beat.reactor);
}

#[test]
#[should_panic(expected = "a timer is left")]
fn a_reactor_whose_handler_has_set_a_timer_is_not() {
    use oneloop::sim::Script;
    let mut sim = Simulation::new(1);
    let beat = sim.serve(Beat::default());
    sim.client(beat.address, Script::new().send("x").close());
    sim.run_until_idle();
    sim.assert_empty(beat.reactor);
}

/// Sends back what comes, so many times.
struct Pong(u64);

impl DatagramHandler for Pong {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        if self.0 > 0 {
            self.0 -= 1;
            socket.send_to(datagram.from, datagram.data).ignore();
        }
    }
}

/// As bytes are.
#[test]
fn datagrams_are_progress() {
    const COUNT: u64 = 120_000;
    let mut sim = Simulation::new(1);
    let id = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let pong = sim[id].add_datagram_handler(Pong(COUNT));
    let key = sim[id].bind(pong, "127.0.0.1:0").unwrap();
    let itself = sim[id].datagram_address(key).unwrap();
    sim[id].context(pong).send_datagram(key, Some(&itself), b"x").ignore();
    sim.run_until_idle();
    assert_eq!(sim[id].stats().datagrams_in, COUNT + 1);
}
