//! What goes over the wire: how fast, in which order, how often again, and what a reset takes along.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use oneloop::driver::{Driver, ListenConfig};
use oneloop::sim::{ClientOptions, Faults, Kernel, Network, Script, Simulation};
use oneloop::{CloseReason, Connection, Error, StreamHandler, Time, TimerId};

use super::{Echo, SECOND, hello, served_echo};

#[test]
fn an_end_of_file_that_does_not_arrive_is_given_up_like_bytes() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().vanish().shutdown());
    let start = sim.now();
    sim.run_until_idle();
    let ended = oneloop::sim::End::Failed(io::ErrorKind::TimedOut);
    assert_eq!(sim.end(client), Some(ended));
    // Of 15 retransmissions and the wait after the last one (tcp(7), tcp_retries2).
    assert_eq!(sim.now().since(start).as_secs(), 924);
}

#[test]
fn an_end_of_file_of_a_server_whose_peer_vanishes_is_given_up() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = Script::new().send("hello").wait(SECOND).shutdown().expect_end();
    sim.client(echo.address, script);
    sim.set_faults_of(echo.reactor, Faults::none().vanishing_peers(1.0));
    sim.run_until_idle();
    assert_eq!(sim.handler(echo).closed, [CloseReason::Io(io::ErrorKind::TimedOut)]);
}

#[test]
fn bandwidth_is_shared_by_what_is_written_one_after_another() {
    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().bandwidth(1000));
    let echo = served_echo(&mut sim);
    let mut script = Script::new();
    for _ in 0..10 {
        script = script.send([7; 1000]);
    }
    sim.client(echo.address, script.stop_reading());
    let start = sim.now();
    sim.run_until(|sim| sim.handler(echo).pieces.iter().map(Vec::len).sum::<usize>() == 10_000);
    assert_eq!(sim.now().since(start).as_secs(), 10);
}

#[test]
fn the_faults_of_a_host_cut_what_it_reads_and_not_what_others_do() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let pieces = |seed, of_server: bool| {
            let cut = Faults::none().short_reads(1.0);
            let faults = if of_server { Faults::none() } else { cut.clone() };
            let mut sim = Simulation::with(seed, kernel, faults);
            sim.set_faults(Faults::none());
            let echo = served_echo(&mut sim);
            if of_server {
                sim.set_faults_of(echo.reactor, cut);
            }
            sim.client(echo.address, Script::new().send([7; 1000]).stop_reading());
            sim.run_until_idle();
            sim.handler(echo).pieces.len()
        };
        assert!((0..10).map(|seed| pieces(seed, true)).sum::<usize>() > 25, "{kernel:?}");
        assert!((0..10).all(|seed| pieces(seed, false) == 1), "{kernel:?}");
    }
}

#[test]
fn a_short_read_may_be_of_a_byte_or_lack_one_however_much_there_is() {
    let (mut few, mut nearly_all) = (0, 0);
    for seed in 0..100 {
        let mut sim = Simulation::new(seed);
        let echo = served_echo(&mut sim);
        sim.set_faults_of(echo.reactor, Faults::none().short_reads(1.0));
        sim.client(echo.address, Script::new().send([7; 10_000]).stop_reading());
        sim.run_until(|sim| !sim.handler(echo).pieces.is_empty());
        let first = sim.handler(echo).pieces[0].len();
        few += u32::from(first <= 4);
        nearly_all += u32::from(first >= 9_996);
    }
    assert!(few > 15 && nearly_all > 15, "{few} and {nearly_all} of 100");
}

#[test]
fn what_was_sent_before_a_reset_arrives_before_it() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, Script::new().send("hello").reset());
    sim.run_until_idle();
    assert_eq!(sim.handler(echo).pieces, [b"hello"]);
    assert_eq!(sim.handler(echo).closed, [CloseReason::Reset]);
    sim.assert_empty(echo.reactor);
}

#[test]
fn a_reset_is_no_end_of_file_however_long_it_takes() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let way = Faults::none().latency_min(SECOND).latency_max(10 * SECOND);
    let far = ClientOptions::new().faults(way);
    sim.client_with(echo.address, Script::new().send("hello").reset(), far);
    sim.run_until_idle();
    assert_eq!(sim.handler(echo).closed, [CloseReason::Reset]);
    let ends = super::whats(&sim, "end");
    assert_eq!(ends, []);
}

#[test]
fn behind_a_reset_there_is_no_end_of_file() {
    for seed in 0..1000 {
        let mut sim = Simulation::with(seed, Kernel::Linux, Faults::some());
        sim.keep_trace(usize::MAX);
        let echo = served_echo(&mut sim);
        sim.client(echo.address, Script::new().send([7; 10_000]).shutdown().stop_reading());
        sim.run_until_idle();
        let mut is_reset = Vec::new();
        for entry in sim.trace() {
            let socket = (entry.host, entry.socket);
            match entry.what {
                "reset" => is_reset.push(socket),
                "end" => assert!(!is_reset.contains(&socket), "seed {seed}: {entry:?}"),
                _ => {}
            }
        }
    }
}

#[test]
fn a_close_with_unread_input_resets_behind_the_answer() {
    let network = Network::new(1, Kernel::Linux);
    let driver = network.driver(Faults::none());
    let address = SocketAddr::from(([10, 0, 0, 1], 7000));
    let (listener, _) = driver.listen(&ListenConfig::new(address, 8)).unwrap();
    let mut client = network.host(Faults::none()).connect(address).unwrap();
    client.connect_result().unwrap_err();
    network.pass(Duration::ZERO);
    let (mut server, _) = driver.accept(&listener).unwrap();
    client.write_all(b"unread").unwrap();
    network.pass(Duration::ZERO);
    server.write_all(b"answer").unwrap();
    drop(server);
    network.pass(Duration::ZERO);
    let mut buffer = [0; 16];
    assert_eq!(client.read(&mut buffer).unwrap(), 6);
    assert_eq!(client.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn what_was_decided_before_is_undone_by_healing() {
    let mut sim = Simulation::new(1);
    let hour = 3600 * SECOND;
    let echo = served_echo(&mut sim);
    sim.client(echo.address, Script::new().wait(SECOND).send("hello").stop_reading());
    sim.run_for(SECOND / 2);
    sim.set_faults_of(echo.reactor, Faults::none().resets(1.0).latency_min(hour).latency_max(hour));
    sim.run_for(SECOND);
    assert_eq!(sim.handler(echo).pieces, [b"hello"]);
    // The answer is under way, and so is its reset.
    sim.heal();
    let script = hello().send("more").expect("more").shutdown().expect_end();
    let next = sim.client(echo.address, script);
    sim.run_for(SECOND);
    sim.assert_done(next);
    assert_eq!(sim.handler(echo).closed, [CloseReason::PeerClosed]);
}

#[test]
fn a_connect_that_was_refused_by_a_fault_is_not_once_healed() {
    let faults = Faults::none().refused_connects(1.0).latency_min(SECOND).latency_max(SECOND);
    let mut sim = Simulation::with(1, Kernel::Linux, faults);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().close());
    sim.run_for(SECOND / 2);
    sim.heal();
    sim.run_for(SECOND);
    sim.assert_done(client);
}

#[test]
fn a_connect_without_an_answer_is_given_up_after_the_last_wait() {
    let faults = Faults::none().unanswered_connects(1.0);
    let mut sim = Simulation::with(1, Kernel::Linux, faults);
    let echo = served_echo(&mut sim);
    let client = sim.client(SocketAddr::new(echo.address.ip(), 7000), hello());
    let start = sim.now();
    sim.run_until_idle();
    assert!(sim.end(client).is_some());
    assert_eq!(sim.now().since(start).as_secs(), 127, "tcp(7), tcp_syn_retries");
}

// Time.

/// Says goodbye a second after a connection opened, and remembers when.
#[derive(Default)]
struct Impatient(Option<Time>);

impl StreamHandler for Impatient {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.set_timer(SECOND);
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }

    fn on_timer(&mut self, _: &mut (), conn: &mut Connection<'_>, _: TimerId) {
        self.0 = Some(conn.now());
        conn.send(b"bye").ignore();
    }
}

#[test]
fn a_timer_that_is_due_before_the_next_arrival_fires_before_it() {
    for seed in 0..20 {
        let mut sim = Simulation::new(seed);
        let impatient = sim.serve(Impatient::default());
        let client = sim.client(impatient.address, hello().wait(10 * SECOND).expect("bye").close());
        sim.run_until_idle();
        sim.assert_done(client);
        let fired = sim.handler(impatient).0.expect("it is due");
        assert_eq!(fired.since(Time::from_nanos(0)).as_secs(), 1);
    }
}

/// Two of them talk for ever.
#[derive(Default)]
struct Talker(Option<SocketAddr>);

impl StreamHandler for Talker {
    type Session = ();

    fn on_start(&mut self, cx: &mut oneloop::Context<'_>) {
        if let Some(other) = self.0 {
            cx.connect(other, 0);
        }
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(b"a").ignore();
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }
}

fn endless() -> Simulation {
    let mut sim = Simulation::new(1);
    let one = sim.serve(Talker::default());
    sim.serve(Talker(Some(one.address)));
    sim.client(one.address, Script::new().expect("ab"));
    sim
}

#[test]
#[should_panic(expected = "no rest after")]
fn what_never_rests_is_told_soon() {
    endless().run_until_idle();
}

#[test]
#[should_panic(expected = "not so after")]
fn what_never_comes_while_much_happens_is_told_as_that() {
    endless().run_until(|_| false);
}

#[test]
fn a_step_of_a_client_that_is_slow_to_read_is_no_endless_loop() {
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo::default());
    let script = Script::new().send([7; 10_000]).read_slowly(10, SECOND).expect_bytes(10_000);
    let client = sim.client(echo.address, script);
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn writing_nothing_writes_nothing_however_short_writes_are() {
    let network = Network::new(1, Kernel::Linux);
    let driver = network.driver(Faults::none());
    let address = SocketAddr::from(([10, 0, 0, 1], 7000));
    let _listener = driver.listen(&ListenConfig::new(address, 8)).unwrap();
    let mut client = network.host(Faults::none().short_writes(1.0)).connect(address).unwrap();
    client.connect_result().unwrap_err();
    network.pass(Duration::ZERO);
    assert_eq!(client.write(&[]).unwrap(), 0);
    assert_eq!(client.write(b"x").unwrap(), 1);
}
