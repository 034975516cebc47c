//! A million connections to one reactor: opened, echoed and closed.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use oneloop::sim::{Faults, Kernel, Network, SimDriver, SimSocket};
use oneloop::{Limits, ListenOptions, Reactor, ReactorLimits};

use crate::echo::Echo;

/// Connections from one address: there are no more ports.
const AN_ADDRESS: usize = 28_000;

/// Bytes that are resident, of a line of /proc/self/status.
fn resident(line: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("proc(5)");
    let line = status.lines().find(|text| text.starts_with(line)).expect("proc(5)");
    let kib = line.split_whitespace().nth(1).and_then(|word| word.parse::<usize>().ok());
    kib.expect("a number of KiB") * 1024
}

fn settle(reactor: &mut Reactor<SimDriver>, is_done: impl Fn(&Reactor<SimDriver>) -> bool) {
    while !is_done(reactor) {
        reactor.turn(Some(Duration::from_millis(1))).expect("the simulated poll works");
    }
}

pub(crate) fn run(connections: usize) {
    let start = Instant::now();
    let network = Network::new(1, Kernel::Linux);
    let before = resident("VmRSS");
    let limits = ReactorLimits::new().connections_max(connections);
    let mut reactor =
        Reactor::with_driver(network.driver(Faults::none()), limits).expect("there is memory");
    let own = resident("VmRSS") - before;
    let echo = reactor.add(Echo);
    let options = ListenOptions::new().limits(Limits::new().accepts_per_turn_max(1024));
    let listener = reactor.listen_with(echo, "10.0.0.1:7000", &options).expect("a free port");
    let address = reactor.listener_address(listener).expect("it listens").inet().expect("TCP");

    let host = network.host(Faults::none());
    let mut clients: Vec<SimSocket> = Vec::with_capacity(connections);
    while clients.len() < connections {
        let from =
            IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0001 + (clients.len() / AN_ADDRESS) as u32));
        for _ in 0..4000.min(connections - clients.len()) {
            clients.push(host.connect_from(from, address).expect("a free port"));
        }
        let open = clients.len();
        settle(&mut reactor, |reactor| reactor.connections() == open);
    }
    let opened = start.elapsed();
    let mut answer = [0; 64];
    for (number, part) in clients.chunks_mut(4000).enumerate() {
        for client in &mut *part {
            assert_eq!(client.write(&[number as u8; 64]).expect("there is room"), 64);
        }
        let sent = 64 * (4000 * number + part.len()) as u64;
        settle(&mut reactor, |reactor| reactor.stats().bytes_out == sent);
        network.pass(Duration::from_millis(1));
        for client in part {
            assert_eq!(client.read(&mut answer).expect("the answer is there"), 64);
            assert_eq!(answer, [number as u8; 64]);
        }
    }
    let echoed = start.elapsed();
    while !clients.is_empty() {
        clients.truncate(clients.len().saturating_sub(4000));
        let open = clients.len();
        settle(&mut reactor, |reactor| reactor.connections() == open);
    }
    reactor.verify();
    let events = reactor.stats().events;
    println!("{connections} connections to one reactor");
    println!(
        "opened in {opened:.1?}, echoed in {:.1?}, closed in {:.1?}",
        echoed - opened,
        start.elapsed() - echoed
    );
    println!("{events} events, {:.0} a second", events as f64 / start.elapsed().as_secs_f64());
    println!("at most {:.2} GiB resident", resident("VmHWM") as f64 / f64::from(1 << 30));
    println!(
        "{} bytes a connection in the reactor, all of it reserved at its start",
        own / connections
    );
}
