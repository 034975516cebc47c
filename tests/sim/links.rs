//! Who reaches whom: links with faults of their own, partitions, one-way loss.

use std::io;
use std::net::SocketAddr;

use oneloop::sim::{
    ClientOptions, End, Faults, Kernel, Party, ReactorId, Script, Served, Simulation,
};
use oneloop::{CloseReason, ConnectError, Connection, Context, Error, Key, StreamHandler, Time};

use super::{Echo, SECOND, hello, served_echo};

/// Says a word to a server each second, and counts the answers.
struct Heart {
    server: SocketAddr,
    beats: usize,
    failed: Option<(ConnectError, Time)>,
    closed: Option<(CloseReason, Time)>,
}

impl Heart {
    fn of(server: SocketAddr) -> Heart {
        Heart { server, beats: 0, failed: None, closed: None }
    }
}

impl StreamHandler for Heart {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.connect(self.server, 0);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(b"beat").ignore();
        conn.set_timer(SECOND);
    }

    fn on_timer(&mut self, _: &mut (), conn: &mut Connection<'_>, _: oneloop::TimerId) {
        conn.send(b"beat").ignore();
        conn.set_timer(SECOND);
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        self.beats += data.len() / 4;
        Ok(data.len() / 4 * 4)
    }

    fn on_connect_failed(&mut self, _: Key, _: u64, error: ConnectError, cx: &mut Context<'_>) {
        self.failed = Some((error, cx.now()));
    }

    fn on_close(&mut self, _: (), _: Key, reason: CloseReason, cx: &mut Context<'_>) {
        self.closed = Some((reason, cx.now()));
    }
}

fn beating() -> (Simulation, Served<Echo>, Served<Heart>) {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let heart = sim.serve(Heart::of(echo.address));
    sim.run_for(10 * SECOND);
    assert_eq!(sim.handler(heart).beats, 10);
    (sim, echo, heart)
}

#[test]
fn parted_hosts_hear_nothing_of_each_other_until_they_are_rejoined() {
    let (mut sim, echo, heart) = beating();
    let client = sim.client(echo.address, hello().wait(20 * SECOND).send("on").expect("on"));
    sim.run_for(SECOND / 100);
    sim.partition(echo.reactor, heart.reactor);
    let before = sim.handler(heart).beats;
    sim.run_for(60 * SECOND);
    assert_eq!(sim.handler(heart).beats, before);
    sim.assert_done(client);
    sim.rejoin(heart.reactor, echo.reactor);
    sim.run_for(120 * SECOND);
    let beats = sim.handler(heart).beats;
    assert!(beats > 180, "nothing is lost: {beats}");
}

#[test]
fn parted_hosts_give_up_in_the_end() {
    let (mut sim, echo, heart) = beating();
    sim.partition(echo.reactor, heart.reactor);
    sim.run_for(930 * SECOND);
    let (reason, at) = sim.handler(heart).closed.expect("an end");
    assert_eq!(reason, CloseReason::Io(io::ErrorKind::TimedOut));
    let waited = at.since(Time::from_nanos(0)).as_secs() - 10;
    assert!((924..926).contains(&waited), "{waited} s");
    assert_eq!(sim.handler(echo).closed, [], "it has nothing to send");
}

#[test]
fn who_is_silenced_is_not_heard_and_hears_the_other() {
    for (echo_is_silent, shown) in [(true, true), (false, false)] {
        let (mut sim, echo, heart) = beating();
        let (from, to): (ReactorId, ReactorId) = match echo_is_silent {
            true => (echo.reactor, heart.reactor),
            false => (heart.reactor, echo.reactor),
        };
        let before = sim.handler(echo).pieces.len();
        sim.silence(from, to);
        sim.run_for(20 * SECOND);
        assert_eq!(sim.handler(heart).beats, 10, "no answer comes");
        assert_eq!(sim.handler(echo).pieces.len() > before, shown);
        // Neither the bytes nor their acknowledgement: whoever sends gives up.
        sim.run_for(930 * SECOND);
        let (reason, _) = sim.handler(heart).closed.expect("an end");
        assert_eq!(reason, CloseReason::Io(io::ErrorKind::TimedOut));
    }
}

#[test]
fn who_hears_nothing_of_its_end_of_file_gives_up() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = Script::new().wait(SECOND).shutdown().expect_end();
    let client = sim.client_with(echo.address, script, ClientOptions::new());
    sim.run_for(SECOND / 2);
    sim.silence(echo.reactor, client);
    sim.run_for(1000 * SECOND);
    assert_eq!(sim.handler(echo).closed.len(), 1, "it was heard");
    assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::TimedOut)));
}

#[test]
fn healing_ends_a_partition_at_once() {
    let (mut sim, echo, heart) = beating();
    sim.partition(echo.reactor, heart.reactor);
    sim.run_for(60 * SECOND);
    sim.heal();
    sim.run_for(SECOND);
    let beats = sim.handler(heart).beats;
    assert!(beats >= 70, "{beats}");
}

#[test]
fn who_has_nothing_to_send_outlives_a_partition() {
    let mut sim = Simulation::new(1);
    let flood = sim.serve(super::Flood(600_000));
    let script = Script::new()
        .read_slowly(1000, SECOND / 100)
        .expect_bytes(600_000)
        .wait(10_000 * SECOND)
        .send("on")
        .shutdown()
        .expect_end();
    let client = sim.client_with(flood.address, script, ClientOptions::new());
    sim.run_for(20 * SECOND);
    assert_eq!(sim.received(client).len(), 600_000);
    sim.partition(client, flood.reactor);
    sim.run_for(5000 * SECOND);
    sim.rejoin(client, flood.reactor);
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn who_is_parted_cannot_connect() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = || hello().close();
    let near = sim.client_with(echo.address, script(), ClientOptions::new());
    let far = sim.client_with(echo.address, script(), ClientOptions::new());
    sim.partition(far, echo.reactor);
    let later = sim.client(echo.address, script());
    sim.silence(echo.reactor, Party::Clients);
    sim.run_until_idle();
    sim.assert_done(near);
    for client in [far, later] {
        assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::TimedOut)));
    }
}

#[test]
#[should_panic(expected = "client 0 shares its host with others")]
fn a_client_among_others_is_not_parted_alone() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello());
    sim.partition(client, echo.reactor);
}

#[test]
fn one_clients_faults_are_its_own() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let slow = Faults::none().latency_min(10 * SECOND).latency_max(10 * SECOND);
    let far = ClientOptions::new().faults(slow);
    let far = sim.client_with(echo.address, hello(), far);
    let near = sim.client_with(echo.address, hello(), ClientOptions::new());
    let plain = sim.client(echo.address, hello());
    sim.run_for(SECOND);
    sim.assert_done(near);
    sim.assert_done(plain);
    assert!(!sim.is_done(far));
    sim.run_for(60 * SECOND);
    sim.assert_done(far);
}

#[test]
fn the_faults_of_a_link_hold_for_its_connects_buffers_and_reads() {
    let none = Faults::none;
    let connect = |faults: Faults| {
        let mut sim = Simulation::new(1);
        let echo = served_echo(&mut sim);
        let reactor = sim.add_reactor(oneloop::ReactorLimits::new().connections_max(4));
        sim.set_link_faults(echo.reactor, reactor, faults);
        let handler = sim[reactor].add(Heart::of(echo.address));
        sim.run_for(SECOND / 2);
        let heart = sim[reactor].handler(handler);
        (heart.beats, heart.failed.map(|(error, _)| error))
    };
    assert_eq!(connect(none()), (1, None));
    assert_eq!(connect(none().refused_connects(1.0)), (0, Some(ConnectError::Refused)));
    assert_eq!(connect(none().unanswered_connects(1.0)), (0, None));
    assert_eq!(connect(none().latency_min(SECOND).latency_max(SECOND)), (0, None));
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let pieces = |seed, faults: Faults| {
            let mut sim = Simulation::with(seed, kernel, none());
            let echo = served_echo(&mut sim);
            let client = ClientOptions::new();
            let bytes = [7; 5000];
            let script = Script::new().wait(SECOND).send(bytes).expect(bytes);
            let client = sim.client_with(echo.address, script, client);
            sim.set_link_faults(client, echo.reactor, faults);
            sim.run_until_idle();
            sim.assert_done(client);
            sim.handler(echo).pieces.len()
        };
        assert_eq!(pieces(0, none()), 1, "{kernel:?}");
        let short = none().short_reads(1.0);
        let all: usize = (0..10).map(|seed| pieces(seed, short.clone())).sum();
        assert!(all > 25, "{kernel:?}: {all}");
    }
}

/// Nor of one by the network.
#[test]
fn who_is_parted_or_has_vanished_hears_of_no_reset() {
    for vanishes in [false, true] {
        let mut sim = Simulation::new(1);
        let echo = served_echo(&mut sim);
        let options = ClientOptions::new().faults(Faults::none().latency_min(SECOND).resets(1.0));
        let script = Script::new().send("a");
        let script = if vanishes { script.vanish() } else { script };
        let client = sim.client_with(echo.address, script.expect("a"), options);
        // Its request is under way for a second, and then what it sends.
        sim.run_for(3 * SECOND / 2);
        if !vanishes {
            sim.partition(client, echo.reactor);
        }
        sim.run_for(100 * SECOND);
        assert_eq!(sim.end(client), None, "vanishes: {vanishes}");
        assert_eq!(sim.handler(echo).closed, [], "vanishes: {vanishes}");
    }
}

/// With the third segment of its handshake (RFC 9293, 3.5).
#[test]
fn a_server_accepts_when_the_client_has_answered_its_answer() {
    let beginning = |sim: &mut Simulation| {
        let echo = served_echo(sim);
        let client = sim.client_with(echo.address, hello(), ClientOptions::new());
        (echo, client)
    };
    let new = || Simulation::with(1, Kernel::Linux, Faults::none().latency_min(SECOND));
    let accepts = |sim: &Simulation, id: ReactorId| sim[id].stats().accepts;
    let mut sim = new();
    let (echo, client) = beginning(&mut sim);
    sim.run_for(29 * SECOND / 10);
    assert_eq!(accepts(&sim, echo.reactor), 0, "two of three trips are over");
    sim.run_for(SECOND / 5);
    assert_eq!(accepts(&sim, echo.reactor), 1);
    sim.run_until_idle();
    sim.assert_done(client);

    // Who is cut off before that is asked again, for a minute, and is nobody's connection.
    let mut sim = new();
    let (echo, client) = beginning(&mut sim);
    sim.run_for(5 * SECOND / 2);
    sim.partition(client, echo.reactor);
    sim.run_for(100 * SECOND);
    sim.rejoin(client, echo.reactor);
    sim.run_until_idle();
    assert_eq!(accepts(&sim, echo.reactor), 0);
    assert_eq!(sim.end(client), Some(End::Reset));
    sim.assert_empty(echo.reactor);
}
