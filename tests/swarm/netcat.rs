//! Pipes on both sides of a connection, as netcat has them: joined in one direction, or in both.

use std::net::SocketAddr;
use std::time::Duration;

use oneloop::sim::{Faults, ReactorId, SimSocket, Simulation};
use oneloop::{
    CloseReason, ConnectError, Connection, Context, Ended, Error, HandlerId, Key, Origin,
    ReactorLimits, StreamHandler, TimerId,
};

use super::{Life, Lives, assert_all_closed, conclude, pattern, serve, tight, within};

/// How long a server stays that has been told of the end: longer than a drain may take.
const STAYING: Duration = Duration::from_secs(500);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(100);

/// A connection and what it is joined to.
#[derive(Clone, Copy)]
struct Joint {
    input: Option<Key>,
    output: Option<Key>,
}

impl Joint {
    fn close(&self, cx: &mut Context<'_>) {
        self.input.into_iter().chain(self.output).for_each(|pipe| cx.close_key(pipe));
    }
}

/// Whoever is joined in one direction only has the other one for itself: it sends so many bytes, and looks at
/// what comes back.
struct Netcat {
    lives: Lives,
    server: SocketAddr,
    size: usize,
    joints: Vec<Joint>,
    drains: bool,
    without_loss: bool,
}

/// A connection, or a pipe that is joined to one.
struct Side {
    life: Life,
    joint: Joint,
    is_pipe: bool,
    was_told: bool,
}

impl StreamHandler for Netcat {
    type Session = Side;

    fn on_start(&mut self, cx: &mut Context<'_>) {
        for number in 0..self.joints.len() as u64 {
            cx.connect(self.server, number);
        }
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Side {
        let (number, is_pipe) = match conn.origin() {
            Origin::Connected(number) => (number, false),
            Origin::Adopted(number) => (number, true),
            Origin::Accepted(_) => unreachable!("nobody calls"),
        };
        let (own, joint) = (conn.key(), self.joints[number as usize]);
        if is_pipe {
            conn.pause(); // until it is joined
        } else {
            let joined = joint.input.is_none_or(|input| conn.forward(input, own))
                && joint.output.is_none_or(|output| conn.forward(own, output));
            assert!(joined || !self.without_loss, "they are open");
            if !joined {
                conn.close();
                joint.close(conn);
            }
            if joint.input.is_none() {
                conn.send(&pattern(0, self.size)).ignore();
            }
        }
        Side { life: self.lives.open(conn), joint, is_pipe, was_told: false }
    }

    fn on_data(
        &mut self,
        side: &mut Side,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert!(!side.is_pipe && side.joint.output.is_none(), "shown what is forwarded");
        side.life.consume(conn, data);
        Ok(data.len())
    }

    fn on_peer_closed(&mut self, side: &mut Side, conn: &mut Connection<'_>) {
        let is_joined_twice = side.joint.input.is_some() && side.joint.output.is_some();
        assert!(!side.is_pipe && !is_joined_twice, "told of an end that is forwarded");
        side.was_told = true;
        conn.close();
    }

    fn on_drain(&mut self, side: &mut Side, conn: &mut Connection<'_>) {
        // A pipe that is not joined yet is going to be.
        if !side.is_pipe {
            conn.close();
        }
    }

    fn on_close(&mut self, side: Side, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&side.life, key);
        if self.without_loss && !self.drains && !side.is_pipe && side.joint.input.is_none() {
            assert!(side.was_told, "not told of the end that a pipe has taken: {reason}");
        }
    }

    fn on_connect_failed(&mut self, _: Key, tag: u64, _: ConnectError, cx: &mut Context<'_>) {
        self.joints[tag as usize].close(cx);
    }
}

/// Whoever is at the other ends of the pipes: fills the one, and empties the other.
struct Program {
    lives: Lives,
    size: usize,
    emptied: usize,
}

const FILLS: u64 = 0;

impl StreamHandler for Program {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        if conn.origin() == Origin::Adopted(FILLS) {
            conn.send(&pattern(0, self.size)).ignore();
            let random = conn.random();
            conn.set_timer(Duration::from_micros(random % 100_000));
        }
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        life.consume(conn, data);
        let random = conn.random();
        if random.is_multiple_of(8) {
            conn.pause();
            conn.set_timer(Duration::from_micros(random / 8 % 5000));
        }
        Ok(data.len())
    }

    fn on_timer(&mut self, _: &mut Life, conn: &mut Connection<'_>, _: TimerId) {
        match conn.origin() {
            Origin::Adopted(FILLS) => conn.shutdown_write(),
            _ => conn.resume(),
        }
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.emptied += usize::from(life.received == self.size);
        self.lives.close(&life, key);
    }
}

/// Sends everything back. Having received it all, it says that there is no more, or does not.
struct Server {
    lives: Lives,
    size: usize,
    stays: bool,
}

impl StreamHandler for Server {
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
        life.consume(conn, data);
        conn.send(data).ignore();
        if life.received == self.size && !self.stays {
            conn.shutdown_write();
        }
        Ok(data.len())
    }

    fn on_peer_closed(&mut self, _: &mut Life, conn: &mut Connection<'_>) {
        match self.stays {
            true => drop(conn.set_timer(STAYING)),
            false => conn.close(),
        }
    }

    fn on_timer(&mut self, _: &mut Life, conn: &mut Connection<'_>, _: TimerId) {
        conn.close();
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&life, key);
    }
}

/// What both ends of a pipe are adopted by.
struct Ends {
    netcat: (ReactorId, HandlerId<Netcat>),
    program: (ReactorId, HandlerId<Program>),
}

impl Ends {
    fn input(&self, sim: &mut Simulation, number: u64) -> Key {
        let (read, written) = sim.network().host(small()).pipe();
        adopt(sim, self.program, written, FILLS);
        adopt(sim, self.netcat, read, number)
    }

    fn output(&self, sim: &mut Simulation, number: u64) -> Key {
        let (read, written) = sim.network().host(small()).pipe();
        adopt(sim, self.program, read, FILLS + 1);
        adopt(sim, self.netcat, written, number)
    }
}

/// A key that finds nothing if the poll does not take it.
fn adopt<H: StreamHandler>(
    sim: &mut Simulation,
    (reactor, handler): (ReactorId, HandlerId<H>),
    end: SimSocket,
    tag: u64,
) -> Key {
    sim[reactor].adopt(handler, end, tag).unwrap_or(Key::from_bits(0))
}

/// Pipes that are soon full.
fn small() -> Faults {
    Faults::none().send_buffer_bytes(4000).receive_buffer_bytes(4000)
}

fn run_netcat(sim: &mut Simulation, without_loss: bool) {
    let drains = within(sim, 0..2) == 0;
    let stays = drains && within(sim, 0..2) == 0;
    let size = within(sim, 1..40_000);
    let server = Server { lives: Lives::default(), size, stays };
    // It goes on reading, however much it has sent: its client may wait for that.
    let served = serve(sim, server, tight().output_bytes_high(64 * 1024));
    let [reactor, beside] = [(); 2].map(|()| {
        let reactor = sim.add_reactor(ReactorLimits::new().connections_max(32));
        sim[reactor].set_connect_limits(tight()).expect("good limits");
        reactor
    });
    let netcat = Netcat {
        lives: Lives::default(),
        server: served.address,
        size,
        joints: Vec::new(),
        drains,
        without_loss,
    };
    let netcat = sim[reactor].add(netcat);
    let program = sim[beside].add(Program { lives: Lives::default(), size, emptied: 0 });
    let ends = Ends { netcat: (reactor, netcat), program: (beside, program) };
    let mut outputs = 0;
    for number in 0..within(sim, 1..6) as u64 {
        // With a server that stays only a drain ends it.
        let mode = if stays { 0 } else { within(sim, 0..3) };
        let input = (mode != 1).then(|| ends.input(sim, number));
        let output = (mode != 0).then(|| ends.output(sim, number));
        outputs += usize::from(output.is_some());
        sim[reactor].handler_mut(netcat).joints.push(Joint { input, output });
    }
    if drains {
        let moment = within(sim, 0..100_000) as u64;
        sim.run_for(Duration::from_micros(moment));
        sim[reactor].drain(DRAIN_TIMEOUT);
    }
    conclude(sim, &[served.reactor, reactor, beside], &[], without_loss);
    if without_loss {
        let report = sim[reactor].report();
        assert!(report.is_none_or(|report| report.end == Ended::Drained), "{report:?}");
        let emptied = sim[beside].handler(program).emptied;
        assert!(drains || emptied == outputs, "{emptied} of {outputs} came whole");
    }
    assert_all_closed(&sim[reactor].handler(netcat).lives);
    assert_all_closed(&sim[beside].handler(program).lives);
    assert_all_closed(&sim.handler(served).lives);
}

pub fn netcat(sim: &mut Simulation) {
    run_netcat(sim, false);
}

pub fn netcat_without_loss(sim: &mut Simulation) {
    run_netcat(sim, true);
}
