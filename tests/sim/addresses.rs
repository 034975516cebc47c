//! Addresses and listeners: bind(2), ip(7), ipv6(7).

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};

use oneloop::driver::{ConnectConfig, Driver};
use oneloop::sim::{ClientOptions, End, Faults, Kernel, Network, ReactorId, Script, Simulation};
use oneloop::{
    ConnectError, Connection, Context, Error, HandlerId, Key, Limits, ListenOptions, ReactorLimits,
    SocketOptions, StreamHandler, Time,
};

use super::{Echo, SECOND, hello, served_echo};

/// Two empty reactors with a handler each, on hosts of their own.
fn two_hosts() -> (Simulation, [ReactorId; 2], [HandlerId<Echo>; 2]) {
    let mut sim = Simulation::new(1);
    let mut add = || {
        let reactor = sim.add_reactor(ReactorLimits::new().connections_max(16));
        (reactor, sim[reactor].add(Echo::default()))
    };
    let ((one, first), (other, second)) = (add(), add());
    (sim, [one, other], [first, second])
}

#[test]
fn hosts_have_ports_of_their_own() {
    let (mut sim, reactors, handlers) = two_hosts();
    for (reactor, handler) in reactors.into_iter().zip(handlers) {
        sim[reactor].listen(handler, "0.0.0.0:9000").unwrap();
        sim[reactor].listen(handler, "127.0.0.1:9001").unwrap();
    }
    for (number, handler) in (2..4).zip(handlers) {
        let address = SocketAddr::from(([10, 0, 0, number], 9000));
        let client = sim.client(address, hello().close());
        sim.run_until_idle();
        sim.assert_done(client);
        let reactor = reactors[usize::from(number) - 2];
        assert_eq!(sim[reactor].handler(handler).pieces.len(), 1);
    }
}

#[test]
fn loopback_stays_on_its_host() {
    let (mut sim, [one, _], [handler, _]) = two_hosts();
    sim[one].listen(handler, "127.0.0.1:9000").unwrap();
    let client = sim.client(SocketAddr::from(([127, 0, 0, 1], 9000)), hello());
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::ConnectionRefused)));
}

#[test]
fn addresses_overlap_as_on_linux() {
    // Who listens already, and who wants to; whether it may. All on one port.
    let cases = [
        ("0.0.0.0", "0.0.0.0", false),
        ("0.0.0.0", "127.0.0.1", false),
        ("0.0.0.0", "10.0.0.2", false),
        ("10.0.0.2", "0.0.0.0", false),
        ("10.0.0.2", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", true),
        ("0.0.0.0", "[::]", false),
        ("[::]", "0.0.0.0", false),
        ("[::]", "10.0.0.2", false),
        ("10.0.0.2", "[::]", false),
        ("[::]", "[::1]", false),
        ("0.0.0.0", "[::1]", true),
        ("only [::]", "0.0.0.0", true),
        ("0.0.0.0", "only [::]", true),
        ("only [::]", "[::1]", false),
    ];
    for (first, second, may) in cases {
        let (mut sim, [reactor, _], [handler, _]) = two_hosts();
        let mut listen = |text: &str| {
            let options = ListenOptions::new().only_v6(text.starts_with("only "));
            let address = format!("{}:9000", text.trim_start_matches("only "));
            sim[reactor].listen_with(handler, address.as_str(), &options)
        };
        listen(first).unwrap();
        let error = listen(second).err().map(|error| error.kind());
        let expected = (!may).then_some(io::ErrorKind::AddrInUse);
        assert_eq!(error, expected, "{first}, then {second}");
    }
}

#[test]
fn nobody_listens_on_another_hosts_address() {
    let (mut sim, [one, _], [handler, _]) = two_hosts();
    for address in ["10.0.0.3:9000", "10.9.9.9:9000", "203.0.113.1:9000"] {
        let error = sim[one].listen(handler, address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{address}");
    }
}

#[test]
fn listeners_that_share_a_port_share_the_clients() {
    for shared in [9000, 0] {
        let (mut sim, [reactor, _], [first, _]) = two_hosts();
        let second = sim[reactor].add(Echo::default());
        let options = ListenOptions::new().reuse_port(true);
        let address = SocketAddr::from(([10, 0, 0, 2], shared));
        let listener = sim[reactor].listen_with(first, address, &options).unwrap();
        let address = sim[reactor].listener_address(listener).unwrap().inet().unwrap();
        sim[reactor].listen_with(second, address, &options).unwrap();
        let plain = sim[reactor].listen(first, address).unwrap_err();
        assert_eq!(plain.kind(), io::ErrorKind::AddrInUse);
        for _ in 0..100 {
            sim.client(address, hello().close());
        }
        sim.run_until_idle();
        let pieces = [first, second].map(|handler| sim[reactor].handler(handler).pieces.len());
        assert_eq!(pieces.iter().sum::<usize>(), 100);
        assert!(pieces.iter().all(|pieces| *pieces > 25), "{pieces:?}");
    }
}

/// Connects, and remembers why that failed.
struct Caller {
    address: SocketAddr,
    failed: Option<(ConnectError, Time)>,
    peer: Option<SocketAddr>,
}

impl Caller {
    fn of(address: SocketAddr) -> Caller {
        Caller { address, failed: None, peer: None }
    }
}

impl StreamHandler for Caller {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.connect(self.address, 0);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.peer = conn.peer_address().ok().and_then(|peer| peer.inet());
        conn.close();
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_connect_failed(&mut self, _: Key, _: u64, error: ConnectError, cx: &mut Context<'_>) {
        self.failed = Some((error, cx.now()));
    }
}

#[test]
fn an_address_that_nobody_has_is_unreachable_after_three_seconds() {
    let mut sim = Simulation::new(1);
    let nobody = SocketAddr::from(([10, 9, 9, 9], 7000));
    let client = sim.client(nobody, hello());
    let caller = sim.serve(Caller::of(nobody));
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::HostUnreachable)));
    let (error, at) = sim.handler(caller).failed.expect("an error");
    assert_eq!(error, ConnectError::Unreachable);
    assert_eq!(at.since(Time::from_nanos(0)).as_secs(), 3);
}

#[test]
fn there_is_no_way_out_of_the_hosts_network() {
    let mut sim = Simulation::new(1);
    let outside = SocketAddr::from(([203, 0, 113, 1], 7000));
    let client = sim.client(outside, hello());
    let caller = sim.serve(Caller::of(outside));
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::NetworkUnreachable)));
    let (error, _) = sim.handler(caller).failed.expect("an error");
    assert_eq!(error, ConnectError::Unreachable);
}

#[test]
fn the_unspecified_address_connects_to_loopback() {
    for (listens, connects, reached) in [
        ("0.0.0.0:9000", "0.0.0.0:9000", "127.0.0.1:9000"),
        ("127.0.0.1:9000", "0.0.0.0:9000", "127.0.0.1:9000"),
        ("[::]:9000", "[::]:9000", "[::1]:9000"),
    ] {
        let (mut sim, [one, _], [handler, _]) = two_hosts();
        sim[one].listen(handler, listens).unwrap();
        let caller = sim[one].add(Caller::of(connects.parse().unwrap()));
        sim.run_until_idle();
        let peer = sim[one].handler(caller).peer;
        assert_eq!(peer, Some(reached.parse().unwrap()), "{listens}");
    }
}

#[test]
fn errors_have_the_numbers_of_the_system() {
    let network = Network::new(1, Kernel::Linux);
    let driver = network.driver(Faults::none());
    driver.set_descriptors_max(0);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 1));
    let number = |error: io::Error| error.raw_os_error();
    assert_eq!(
        number(
            driver
                .connect(&ConnectConfig {
                    to: &loopback.into(),
                    from: None,
                    options: &SocketOptions::new()
                })
                .unwrap_err()
        ),
        Some(24),
        "EMFILE"
    );
    let mut socket = network.host(Faults::none()).connect(loopback).unwrap();
    assert_eq!(number(socket.read(&mut [0]).unwrap_err()), Some(11), "EAGAIN");
    network.pass(SECOND);
    assert_eq!(number(socket.connect_result().unwrap_err()), Some(111), "ECONNREFUSED");
}

#[test]
fn a_host_has_an_ipv6_address_too() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let v6 = sim.ip_v6(echo.reactor);
    assert_eq!(v6, "fd00::2".parse::<IpAddr>().unwrap());
    let caller = sim.serve(Caller::of(SocketAddr::new(v6, 9000)));
    sim[echo.reactor].listen(echo.handler, SocketAddr::new(v6, 9000)).unwrap();
    let client = sim.client((v6, 9000), hello().close());
    sim.run_until_idle();
    sim.assert_done(client);
    assert_eq!(sim.handler(caller).peer, Some(SocketAddr::new(v6, 9000)));
}

/// Remembers the addresses of both sides.
#[derive(Default)]
struct Addresses(Vec<(SocketAddr, SocketAddr)>);

impl StreamHandler for Addresses {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.0.push((
            conn.local_address().unwrap().inet().unwrap(),
            conn.peer_address().unwrap().inet().unwrap(),
        ));
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

#[test]
fn an_ipv6_listener_shows_ipv4_addresses_as_mapped_ones() {
    let mut sim = Simulation::new(1);
    let reactor = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let handler = sim[reactor].add(Addresses::default());
    sim[reactor].listen(handler, "[::]:9000").unwrap();
    sim.client((sim.ip(reactor), 9000), Script::new());
    sim.client((sim.ip_v6(reactor), 9000), Script::new());
    sim.run_until_idle();
    let seen = &sim[reactor].handler(handler).0;
    let ips: Vec<_> = seen.iter().map(|(local, peer)| [local.ip(), peer.ip()]).collect();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(ips[0], [ip("::ffff:10.0.0.2"), ip("::ffff:10.0.0.1")]);
    assert_eq!(ips[1], [ip("fd00::2"), ip("fd00::1")]);
}

#[test]
fn clients_have_the_addresses_that_they_are_told() {
    let mut sim = Simulation::new(1);
    let own = ReactorLimits::new().connections_max(10);
    let options = ListenOptions::new().limits(Limits::new().connections_per_address_max(2));
    let echo = sim.serve_with(Echo::default(), own, &options);
    let mut add = |ip: &str| {
        let from = ClientOptions::new().ip(ip.parse().unwrap());
        let client = sim.client_with(echo.address, hello().wait(SECOND).close().may_end(), from);
        sim.run_for(SECOND / 100);
        client
    };
    let clients = ["10.1.0.1", "10.1.0.1", "10.1.0.1", "10.1.0.2", "192.0.2.1"].map(&mut add);
    sim.run_for(2 * SECOND);
    let done = clients.map(|client| sim.is_done(client));
    assert_eq!(done, [true, true, false, true, true], "two of each address");
}

#[test]
fn a_client_on_a_reactors_host_reaches_its_loopback() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim[echo.reactor].listen(echo.handler, "127.0.0.1:9000").unwrap();
    let there = ClientOptions::new().ip(sim.ip(echo.reactor));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9000));
    let client = sim.client_with(loopback, hello().close(), there.clone());
    let other = sim.client_with(echo.address, hello().close(), there);
    sim.run_until_idle();
    sim.assert_done(client);
    sim.assert_done(other);
}

#[test]
fn reactors_on_one_host_share_a_port_if_they_say_so() {
    let mut sim = Simulation::new(1);
    let options = ListenOptions::new().reuse_port(true);
    let own = || ReactorLimits::new().connections_max(200);
    let first = sim.serve_with(Echo::default(), own(), &options);
    let second = sim.add_reactor_beside(first.reactor, own());
    let handler = sim[second].add(Echo::default());
    let alone = sim[second].listen(handler, first.address).unwrap_err();
    assert_eq!(alone.kind(), io::ErrorKind::AddrInUse);
    sim[second].listen_with(handler, first.address, &options).unwrap();
    for _ in 0..100 {
        sim.client(first.address, hello().close());
    }
    sim.run_until_idle();
    let served = [first.reactor, second].map(|reactor| sim[reactor].stats().accepts);
    assert_eq!(served.iter().sum::<u64>(), 100);
    assert!(served.iter().all(|count| *count > 25), "{served:?}");
}
