//! Unix sockets of a simulated machine.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::sim::{Call, Faults, Kernel, Network, ReactorId, SimDriver, Simulation};
use oneloop::{
    CloseReason, Context, HandlerId, Key, ListenOptions, ListenerId, Reactor, ReactorLimits,
    SocketAddress, StreamHandler,
};

use super::Echo;

fn path() -> UnixName {
    UnixName::from_path("/run/app.sock").unwrap()
}

fn reactor(driver: SimDriver) -> (Reactor<SimDriver>, HandlerId<Echo>) {
    let limits = ReactorLimits::new().connections_max(16);
    let mut reactor = Reactor::with_driver(driver, limits).unwrap();
    let echo = reactor.add(Echo::default());
    (reactor, echo)
}

fn listen(
    (reactor, echo): &mut (Reactor<SimDriver>, HandlerId<Echo>),
    options: &ListenOptions,
) -> std::io::Result<ListenerId> {
    reactor.listen_with(*echo, path(), options)
}

#[test]
fn a_path_is_one_machines_and_goes_with_its_listener() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let network = Network::new(1, kernel);
        let host = network.host(Faults::none());
        let error = host.connect(path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let mut server = reactor(host.driver(Faults::none()));
        let listener = listen(&mut server, &ListenOptions::new()).unwrap();
        let address = SocketAddress::Unix(path());
        assert_eq!(server.0.listener_address(listener).unwrap(), address);
        let elsewhere = network.host(Faults::none()).connect(path()).unwrap_err();
        assert_eq!(elsewhere.kind(), ErrorKind::NotFound);
        let mut client = host.connect(path()).unwrap();
        assert_eq!(client.local_address(), SocketAddress::Unnamed);
        client.connect_result().unwrap();
        client.write_all(b"hello").unwrap();
        while server.0.stats().bytes_out < 5 {
            server.0.turn(Some(Duration::from_millis(1))).unwrap();
        }
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
        let second = listen(&mut reactor(host.driver(Faults::none())), &ListenOptions::new());
        assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(server);
        assert_eq!(host.connect(path()).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_full_backlog_is_no_room_and_not_a_wait() {
    let network = Network::new(1, Kernel::Linux);
    let host = network.host(Faults::none());
    let mut server = reactor(host.driver(Faults::none()));
    listen(&mut server, &ListenOptions::new().backlog(1)).unwrap();
    let _waiting = [host.connect(path()).unwrap(), host.connect(path()).unwrap()];
    assert_eq!(host.connect(path()).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Who waits when the door is closed is reset.
    let [mut first, _] = _waiting;
    drop(server);
    assert_eq!(first.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    assert_eq!(first.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

fn listen_in(sim: &mut Simulation, reactor: ReactorId, options: &ListenOptions) -> bool {
    let echo = sim[reactor].add(Echo::default());
    sim[reactor].listen_with(echo, path(), options).is_ok()
}

#[test]
fn a_process_that_ends_without_warning_leaves_its_path_behind() {
    for crashes in [false, true] {
        let mut sim = Simulation::new(1);
        let limits = ReactorLimits::new().connections_max(16);
        let first = sim.add_reactor(limits.clone());
        assert!(listen_in(&mut sim, first, &ListenOptions::new()));
        match crashes {
            true => sim.crash(first),
            false => sim.remove(first),
        }
        let second = sim.add_reactor_beside(first, limits);
        let careful = ListenOptions::new().replace_stale(false);
        assert!(!listen_in(&mut sim, second, &careful), "it is there");
        assert!(listen_in(&mut sim, second, &ListenOptions::new()), "and it is stale");
    }
}

/// Sends much when it opens, and notes its end.
struct Sender(Option<CloseReason>);

impl StreamHandler for Sender {
    type Session = ();

    fn on_open(&mut self, conn: &mut oneloop::Connection<'_>) {
        conn.send(&[7; 1 << 20]).ignore();
    }

    fn on_data(
        &mut self,
        _: &mut (),
        _: &mut oneloop::Connection<'_>,
        data: &[u8],
    ) -> Result<usize, oneloop::Error> {
        Ok(data.len())
    }

    fn on_close(&mut self, _: (), _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.0 = Some(reason);
    }
}

#[test]
fn a_connection_that_the_kernel_will_not_tell_of_room_is_over() {
    let mut sim = Simulation::new(1);
    let limits = ReactorLimits::new().connections_max(16);
    let server = sim.add_reactor(limits.clone());
    assert!(listen_in(&mut sim, server, &ListenOptions::new()));
    let client = sim.add_reactor_beside(server, limits);
    let sender = sim[client].add(Sender(None));
    sim.fail_next(client, Call::AskWritable, ErrorKind::OutOfMemory);
    sim[client].context(sender).connect(path(), 7);
    sim.run_for(Duration::from_secs(1));
    let reason = sim[client].handler(sender).0;
    assert_eq!(reason, Some(CloseReason::Io(ErrorKind::OutOfMemory)));
    assert_eq!(sim[client].connections(), 0);
}

#[test]
fn orders_cut_reads_and_writes_of_unix_sockets_and_no_network_resets_them() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let limits = ReactorLimits::new().connections_max(16);
        let server = sim.add_reactor(limits.clone());
        let echo = sim[server].add(Echo::default());
        sim[server].listen_with(echo, path(), &ListenOptions::new()).unwrap();
        let client = sim.add_reactor_beside(server, limits);
        let sender = sim[client].add(Sender(None));
        sim.cut_writes(client, server, [11]);
        sim.cut_reads(client, server, [3, 5]);
        sim.reset_after(client, server, 7);
        sim[client].context(sender).connect(path(), 7);
        sim.run_for(Duration::from_secs(1));
        let pieces = &sim[server].handler(echo).pieces;
        assert_eq!((pieces[0].len(), pieces[1].len()), (3, 5), "{kernel:?}");
        assert_eq!(sim[client].handler(sender).0, None, "{kernel:?}: it was reset");
        sim.heal(); // of the reset
    }
}
