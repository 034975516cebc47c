//! Unix datagram sockets between the processes of a simulated machine.

use std::io::{self, ErrorKind};
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::driver::{DatagramConfig, Driver};
use oneloop::sim::{
    Call, Faults, Kernel, Network, ReactorId, SimDriver, SimHost, SimSocket, Simulation,
};
use oneloop::{
    Datagram, DatagramHandler, DatagramOptions, DatagramSocket, HandlerId, Key, ListenOptions,
    Reactor, ReactorLimits, SocketAddress, Time,
};

use super::KERNELS;

/// Notes what came, and what failed and when.
#[derive(Default)]
struct Notes {
    came: Vec<(SocketAddress, Vec<u8>)>,
    failed: Vec<(Time, Option<SocketAddress>, ErrorKind)>,
}

impl DatagramHandler for Notes {
    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        self.came.push((datagram.from.clone(), datagram.data.to_vec()));
    }

    fn on_send_failed(
        &mut self,
        socket: &mut DatagramSocket<'_>,
        to: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        self.failed.push((socket.now(), to.cloned(), error.kind()));
    }
}

/// A process with one handler.
#[derive(Clone, Copy)]
struct Process {
    id: ReactorId,
    handler: HandlerId<Notes>,
}

fn limits() -> ReactorLimits {
    ReactorLimits::new().connections_max(16)
}

fn path() -> UnixName {
    UnixName::from_path("/run/app.sock").unwrap()
}

fn name(name: &str) -> UnixName {
    UnixName::from_abstract(name).unwrap()
}

impl Process {
    fn new(sim: &mut Simulation) -> Process {
        let id = sim.add_reactor(limits());
        Process::of(sim, id)
    }

    fn beside(sim: &mut Simulation, other: Process) -> Process {
        let id = sim.add_reactor_beside(other.id, limits());
        Process::of(sim, id)
    }

    fn of(sim: &mut Simulation, id: ReactorId) -> Process {
        let handler = sim[id].add_datagram_handler(Notes::default());
        Process { id, handler }
    }

    fn bind(self, sim: &mut Simulation, to: &UnixName) -> io::Result<Key> {
        sim[self.id].bind(self.handler, to.clone())
    }

    /// One that has no name, and is connected if it has a peer.
    fn unnamed(self, sim: &mut Simulation, peer: Option<&UnixName>) -> io::Result<Key> {
        let options = match peer {
            Some(peer) => DatagramOptions::new().connect(peer.clone()),
            None => DatagramOptions::new(),
        };
        sim[self.id].bind_unnamed(self.handler, &options)
    }

    fn send(self, sim: &mut Simulation, key: Key, to: Option<&UnixName>, data: &[u8]) {
        let to = to.cloned().map(SocketAddress::Unix);
        let mut cx = sim[self.id].context(self.handler);
        cx.send_datagram(key, to.as_ref(), data).ignore();
    }

    fn notes(self, sim: &Simulation) -> &Notes {
        sim[self.id].handler(self.handler)
    }

    /// The first bytes of what came.
    fn came(self, sim: &Simulation) -> Vec<u8> {
        self.notes(sim).came.iter().map(|(_, data)| data[0]).collect()
    }

    fn failed(self, sim: &Simulation) -> Vec<ErrorKind> {
        self.notes(sim).failed.iter().map(|(_, _, kind)| *kind).collect()
    }
}

#[test]
fn what_is_sent_comes_at_once_with_its_senders_name() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none().lost_datagrams(1.0));
        let server = Process::new(&mut sim);
        let client = Process::beside(&mut sim, server);
        server.bind(&mut sim, &path()).unwrap();
        let (named, unnamed) =
            (client.bind(&mut sim, &name("client")).unwrap(), client.unnamed(&mut sim, None));
        client.send(&mut sim, named, Some(&path()), b"1");
        client.send(&mut sim, unnamed.unwrap(), Some(&path()), b"2");
        sim.run_until_idle();
        let came = &server.notes(&sim).came;
        let expected =
            [(name("client").into(), b"1".to_vec()), (SocketAddress::Unnamed, b"2".to_vec())];
        assert_eq!(*came, expected, "nothing is lost where there is no network");
        assert_eq!(sim[client.id].datagram_address(named).unwrap().unix(), Some(&name("client")));
    }
}

#[test]
fn another_machine_has_names_of_its_own() {
    let mut sim = Simulation::new(1);
    let (server, client) = (Process::new(&mut sim), Process::new(&mut sim));
    server.bind(&mut sim, &path()).unwrap();
    let key = client.unnamed(&mut sim, None).unwrap();
    client.send(&mut sim, key, Some(&path()), b"1");
    sim.run_until_idle();
    assert_eq!(client.failed(&sim), [ErrorKind::NotFound]);
    client.bind(&mut sim, &path()).expect("it is free there");
}

#[test]
fn whom_nobody_is_at_is_told_as_unix_tells_it() {
    let mut sim = Simulation::new(1);
    let client = Process::new(&mut sim);
    let (key, other) = (client.unnamed(&mut sim, None).unwrap(), Process::beside(&mut sim, client));
    other.bind(&mut sim, &name("taken")).unwrap();
    let options = DatagramOptions::new().connect(name("taken"));
    sim[other.id].bind_with(other.handler, name("connected"), &options).unwrap();
    struct Door;
    impl oneloop::StreamHandler for Door {
        type Session = ();
        fn on_open(&mut self, _: &mut oneloop::Connection<'_>) {}
        fn on_data(
            &mut self,
            (): &mut (),
            _: &mut oneloop::Connection<'_>,
            data: &[u8],
        ) -> Result<usize, oneloop::Error> {
            Ok(data.len())
        }
    }
    let door = sim[other.id].add(Door);
    let door_path = UnixName::from_path("/run/door.sock").unwrap();
    sim[other.id].listen_with(door, door_path.clone(), &ListenOptions::new()).unwrap();
    for to in [name("nobody"), path(), name("connected"), door_path] {
        client.send(&mut sim, key, Some(&to), b"x");
    }
    client.send(&mut sim, key, None, b"x");
    sim.run_until_idle();
    let expected = [
        ErrorKind::ConnectionRefused,
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,             // it hears its peer only
        io::Error::from_raw_os_error(91).kind(), // EPROTOTYPE
        ErrorKind::NotConnected,
    ];
    assert_eq!(client.failed(&sim), expected);
    assert_eq!(sim[client.id].stats().datagrams_dropped, 5);
}

/// A process that sends, and beside it others that read when they are told to.
struct World {
    reactor: Reactor<SimDriver>,
    handler: HandlerId<Notes>,
    key: Key,
}

/// A socket of a process that does not run.
struct Stuck {
    driver: SimDriver,
    socket: SimSocket,
}

impl World {
    /// With sockets of these names; the process that sends is connected to the first one if it is to be.
    fn new<const N: usize>(
        kernel: Kernel,
        names: [&str; N],
        is_connected: bool,
    ) -> (World, [Stuck; N]) {
        let host = Network::new(1, kernel).host(Faults::none());
        let others = names.map(|other| Stuck::new(&host, other, &DatagramOptions::new()));
        let mut reactor = Reactor::with_driver(host.driver(Faults::none()), limits()).unwrap();
        let handler = reactor.add_datagram_handler(Notes::default());
        let options = match is_connected {
            true => DatagramOptions::new().connect(name(names[0])),
            false => DatagramOptions::new(),
        };
        let key = reactor.bind_unnamed(handler, &options).unwrap();
        (World { reactor, handler, key }, others)
    }

    /// With a socket that has a name, and clients of these names that are connected to it.
    fn with_clients<const N: usize>(kernel: Kernel, names: [&str; N]) -> (World, [Stuck; N]) {
        let host = Network::new(1, kernel).host(Faults::none());
        let mut reactor = Reactor::with_driver(host.driver(Faults::none()), limits()).unwrap();
        let handler = reactor.add_datagram_handler(Notes::default());
        let key = reactor.bind(handler, name("server")).unwrap();
        let options = DatagramOptions::new().connect(name("server"));
        let clients = names.map(|client| Stuck::new(&host, client, &options));
        (World { reactor, handler, key }, clients)
    }

    fn now(&mut self) -> Time {
        self.reactor.context(self.handler).now()
    }

    fn send(&mut self, to: Option<&str>, data: &[u8]) {
        let to = to.map(|to| SocketAddress::Unix(name(to)));
        let mut cx = self.reactor.context(self.handler);
        cx.send_datagram(self.key, to.as_ref(), data).ignore();
    }

    fn run_for(&mut self, millis: u64) {
        let end = self.now() + Duration::from_millis(millis);
        while self.now() < end {
            self.reactor.turn(Some(Duration::from_micros(100))).unwrap();
        }
    }

    fn out(&self) -> u64 {
        self.reactor.stats().datagrams_out
    }

    fn failed(&self) -> &[(Time, Option<SocketAddress>, ErrorKind)] {
        &self.reactor.handler(self.handler).failed
    }
}

impl Stuck {
    fn new(host: &SimHost, own: &str, options: &DatagramOptions) -> Stuck {
        let driver = host.driver(Faults::none());
        let address = name(own).into();
        let (socket, _) = driver.bind(&DatagramConfig { address: &address, options }).unwrap();
        Stuck { driver, socket }
    }

    fn receive(&self) -> Vec<u8> {
        self.try_receive().expect("something has come")
    }

    fn try_receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 100];
        match self.driver.receive(&self.socket, &mut buffer) {
            Ok((length, _)) => Some(buffer[..length].to_vec()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.try_receive().is_none()
    }
}

/// A receiver has room for eleven. One more stands aside, until it is given up; others pass meanwhile, and those to the
/// same receiver keep their order.
#[test]
fn who_has_no_room_holds_nobody_up_and_what_it_is_sent_is_given_up_after_a_second() {
    for kernel in KERNELS {
        let (mut world, [_stuck, slow, quick]) =
            World::new(kernel, ["stuck", "slow", "quick"], false);
        for to in ["stuck", "slow"].repeat(11) {
            world.send(Some(to), b"full");
        }
        world.run_for(1);
        assert_eq!(world.out(), 22);
        let start = world.now();
        world.send(Some("stuck"), b"never");
        world.run_for(5);
        for (to, data) in [("slow", b"1"), ("slow", b"2"), ("quick", b"q")] {
            world.send(Some(to), data);
        }
        world.run_for(1);
        assert_eq!(quick.receive(), b"q", "it passed them");
        world.run_for(980);
        assert_eq!(world.failed(), [], "they are still tried");
        for _ in 0..11 {
            assert_eq!(slow.receive(), b"full");
        }
        world.run_for(30);
        assert_eq!((slow.receive(), slow.receive()), (b"1".to_vec(), b"2".to_vec()));
        let [(at, to, kind)] = world.failed() else { panic!("{:?}", world.failed()) };
        assert_eq!((to, *kind), (&Some(name("stuck").into()), ErrorKind::WouldBlock));
        let waited = at.since(start);
        let range = Duration::from_millis(1000)..Duration::from_millis(1011);
        assert!(range.contains(&waited), "{waited:?}");
        assert_eq!(world.reactor.next_wait(), None, "nothing is left to try");
    }
}

/// Once a receiver has room again, those that stood aside for it do not wait for their time.
#[test]
fn who_has_room_again_gets_all_that_stood_aside_in_order() {
    for kernel in KERNELS {
        let (mut world, [slow]) = World::new(kernel, ["slow"], false);
        for _ in 0..11 {
            world.send(Some("slow"), b"full");
        }
        for number in 0..8 {
            world.send(Some("slow"), &[number]);
            world.run_for(1);
        }
        for _ in 0..11 {
            assert_eq!(slow.receive(), b"full");
        }
        assert!(slow.is_empty());
        world.send(Some("slow"), &[8]); // there is room, and others are before it
        world.run_for(11);
        for number in 0..9 {
            assert_eq!(slow.receive(), [number]);
        }
        assert_eq!(world.failed(), []);
    }
}

/// What a receiver that is connected to the sender has not read fills the sender's own buffer. When that has room, an
/// event tells: nothing waits until it is due.
#[test]
fn a_full_buffer_of_its_own_is_waited_for_and_nothing_is_lost() {
    for kernel in KERNELS {
        let (mut world, [slow, other]) = World::with_clients(kernel, ["slow", "other"]);
        for number in 0..600_u32 {
            world.send(Some("slow"), &number.to_be_bytes());
        }
        world.send(Some("other"), b"x");
        world.run_for(100);
        let fit = world.out();
        assert!((200..300).contains(&fit), "{fit}");
        assert!(other.is_empty(), "there is no room for anybody");
        let mut came = (0..fit as u32).map(|_| slow.receive()).collect::<Vec<_>>();
        assert!(slow.is_empty());
        world.reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(world.out() > fit, "at once");
        for _ in 0..10 {
            came.extend(std::iter::from_fn(|| slow.try_receive()));
            world.run_for(1);
        }
        let numbers = came.iter().map(|data| u32::from_be_bytes(data[..].try_into().unwrap()));
        assert!(numbers.eq(0..600));
        assert_eq!(other.receive(), b"x");
        world.run_for(20);
        assert_eq!(world.failed(), []);
        assert_eq!(world.reactor.next_wait(), None, "nothing is left to try");
    }
}

/// Of the room in a buffer that stays full, who stands aside is given some before those that come later.
#[test]
fn who_stands_aside_for_a_full_buffer_is_not_overtaken_by_those_that_come_later() {
    for kernel in KERNELS {
        let (mut world, [busy, other]) = World::with_clients(kernel, ["busy", "other"]);
        for _ in 0..300 {
            world.send(Some("busy"), b"full");
        }
        world.run_for(1);
        world.send(Some("other"), b"x");
        world.run_for(50);
        // Of the busy one, more stand aside: it has its turn, too.
        for _ in 0..2 {
            busy.receive();
            world.send(Some("later"), b"nobody is there, if there is room to find that out");
            world.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(other.receive(), b"x");
        assert_eq!(world.failed(), []);
    }
}

#[test]
fn who_is_connected_is_told_of_room_and_whom_it_names_is_tried_again() {
    for kernel in KERNELS {
        let (mut world, [peer, other]) = World::new(kernel, ["peer", "other"], true);
        for _ in 0..12 {
            world.send(None, b"to the peer");
        }
        world.run_for(100);
        assert_eq!(world.out(), 11);
        assert_eq!(world.reactor.next_wait(), None, "it waits for an event");
        peer.receive();
        world.run_for(1);
        assert_eq!(world.out(), 12);
        for _ in 0..12 {
            world.send(Some("other"), b"to the other one");
        }
        world.run_for(5);
        other.receive();
        world.run_for(10);
        assert_eq!((world.out(), world.failed()), (24, &[][..]));
        // Its peer's end wakes it, and what waits is refused.
        world.send(None, b"too much");
        world.run_for(1);
        drop(peer);
        world.run_for(1);
        let kinds: Vec<_> = world.failed().iter().map(|(_, _, kind)| *kind).collect();
        assert_eq!(kinds, [ErrorKind::ConnectionRefused, ErrorKind::NotConnected]);
    }
}

#[test]
fn a_path_ends_with_its_socket_and_stays_after_a_crash() {
    let mut sim = Simulation::new(1);
    let server = Process::new(&mut sim);
    let key = server.bind(&mut sim, &path()).unwrap();
    let in_use = server.bind(&mut sim, &path()).unwrap_err();
    assert_eq!(in_use.kind(), ErrorKind::AddrInUse);
    sim[server.id].context(server.handler).close_key(key);
    sim.run_until_idle();
    let plain = DatagramOptions::new().replace_stale(false);
    sim[server.id].bind_with(server.handler, path(), &plain).expect("the path is gone");
    sim.crash(server.id);
    let server = Process::beside(&mut sim, server);
    let stale = sim[server.id].bind_with(server.handler, path(), &plain).unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::AddrInUse);
    server.bind(&mut sim, &path()).expect("it is taken over");
}

#[test]
fn a_registration_that_fails_leaves_no_path() {
    let mut sim = Simulation::new(1);
    let server = Process::new(&mut sim);
    sim.fail_next(server.id, Call::Register, ErrorKind::OutOfMemory);
    assert_eq!(server.bind(&mut sim, &path()).unwrap_err().kind(), ErrorKind::OutOfMemory);
    let plain = DatagramOptions::new().replace_stale(false);
    sim[server.id].bind_with(server.handler, path(), &plain).expect("the path is gone");
}

/// The kernel takes nothing for a while, whoever the receiver is: what is named is tried again.
#[test]
fn a_full_kernel_delays_what_is_named_and_loses_nothing() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(3, kernel, Faults::none().full_sends(0.3));
        let server = Process::new(&mut sim);
        let client = Process::beside(&mut sim, server);
        server.bind(&mut sim, &path()).unwrap();
        let key = client.unnamed(&mut sim, None).unwrap();
        for number in 0..200 {
            client.send(&mut sim, key, Some(&path()), &[number]);
            sim.run_for(Duration::from_millis(1));
        }
        sim.run_until_idle();
        assert!((0..200).eq(server.came(&sim)));
        assert_eq!(client.failed(&sim), []);
    }
}
