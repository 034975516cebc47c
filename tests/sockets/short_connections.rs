//! Short connections, more than one address has ports for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;

use crate::support::*;
use socket2::{Domain, Socket, Type};

/// Of loopback, each with its own 28,000 ports (net.ipv4.ip_local_port_range), in which an ended connection stays for a
/// minute (TIME_WAIT).
const SOURCES: u8 = 8;

/// A debug build checks more after every turn.
const EACH: usize = if cfg!(debug_assertions) { 500 } else { 5_000 };

fn connect_from_source(source: u8, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 38, source), 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    TcpStream::from(socket)
}

/// Ephemeral ports and TIME_WAIT: 40,000 clients that ask once and go, in a release build, and none of them is refused,
/// because they come from several addresses. The server keeps nothing of them.
#[test]
fn forty_thousand_short_connections_exhaust_no_ephemeral_ports_and_leave_nothing() {
    let mut server = Server::new(Recorder::echo());
    let address = server.address;
    let clients = thread::spawn(move || {
        for number in 0..EACH * usize::from(SOURCES) {
            let mut client =
                connect_from_source(1 + (number % usize::from(SOURCES)) as u8, address);
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
    });
    let count = (EACH * usize::from(SOURCES)) as u64;
    while server.reactor.stats().closes_total() < count && !clients.is_finished() {
        server.reactor.turn(Some(std::time::Duration::from_millis(2))).unwrap();
    }
    clients.join().unwrap();
    run_until(&mut server.reactor, "all have closed", |reactor| {
        reactor.stats().closes_total() == count
    });
    let stats = server.reactor.stats();
    assert_eq!((stats.accepts, stats.connections, stats.memory_bytes), (count, 0, 0));
    server.assert_idle();
}
