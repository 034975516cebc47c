//! Events a second: the same handlers in a simulation and over loopback, one run after the other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oneloop::driver::Driver;
use oneloop::sim::Simulation;
use oneloop::{Connection, Error, HandlerId, Reactor, ReactorLimits, StreamHandler};

use crate::echo::Echo;

const CONNECTIONS: usize = 64;
const MESSAGES: u64 = 5_000;
const ROUNDS: usize = 5;

/// Sends a message, and when it is back the next one.
struct Ping;

impl StreamHandler for Ping {
    type Session = u64;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> u64 {
        conn.send(&[7; 64]).ignore();
        1
    }

    fn on_data(
        &mut self,
        sent: &mut u64,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        if data.len() < 64 {
            return Ok(0);
        }
        if *sent == MESSAGES {
            conn.close();
        } else {
            *sent += 1;
            conn.send(&[7; 64]).ignore();
        }
        Ok(64)
    }
}

fn connect<D: Driver>(client: &mut Reactor<D>, ping: HandlerId<Ping>, address: SocketAddr) {
    for tag in 0..CONNECTIONS {
        client.context(ping).connect(address, tag as u64);
    }
}

/// Events of both reactors, and the time that they took.
type Measured = (u64, Duration);

fn in_simulation() -> Measured {
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo);
    let client = sim.add_reactor(ReactorLimits::new().connections_max(CONNECTIONS));
    let ping = sim[client].add(Ping);
    connect(&mut sim[client], ping, echo.address);
    let start = Instant::now();
    sim.run_until_idle();
    let time = start.elapsed();
    assert_eq!(sim[echo.reactor].stats().bytes_in, 64 * MESSAGES * CONNECTIONS as u64);
    (sim[echo.reactor].stats().events + sim[client].stats().events, time)
}

/// On one thread as well: the two reactors take turns.
fn over_loopback() -> Measured {
    let mut server = Reactor::new().expect("an epoll instance");
    let echo = server.add(Echo);
    let listener = server.listen(echo, "127.0.0.1:0").expect("a port");
    let address = server.listener_address(listener).expect("it listens").inet().expect("TCP");
    let mut client = Reactor::new().expect("an epoll instance");
    let ping = client.add(Ping);
    connect(&mut client, ping, address);
    let all = CONNECTIONS as u64;
    let start = Instant::now();
    while server.stats().closes_total() < all || client.stats().closes_total() < all {
        server.turn(Some(Duration::ZERO)).expect("the poll works");
        client.turn(Some(Duration::ZERO)).expect("the poll works");
    }
    let time = start.elapsed();
    assert_eq!(server.stats().bytes_in, 64 * MESSAGES * all);
    (server.stats().events + client.stats().events, time)
}

pub(crate) fn compare() {
    println!(
        "{CONNECTIONS} connections, {MESSAGES} messages of 64 bytes on each; events a second, on one thread"
    );
    let rate = |(events, time): Measured| events as f64 / time.as_secs_f64();
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (simulated, real) = (rate(in_simulation()), rate(over_loopback()));
        println!(
            "simulation {simulated:>9.0}  loopback {real:>9.0}  ratio {:.1}",
            simulated / real
        );
        ratios.push(simulated / real);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.1}", ratios[ROUNDS / 2]);
}
