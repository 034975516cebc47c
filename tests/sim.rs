//! What the simulation promises: clients, the network, the harness, virtual time.

#![cfg(feature = "sim")]

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use oneloop::sim::{
    Check, End, Entry, Faults, Harness, Kernel, Network, Script, Served, SimSource, Simulation,
    all_splits,
};
use oneloop::{
    CloseReason, Connection, Context, Drained, Error, Interest, Key, Limits, ListenOptions,
    ReactorLimits, Readiness, SourceHandler, StreamHandler, Time, TimerId,
};

const SECOND: Duration = Duration::from_secs(1);

/// Sends back what it receives, and remembers how it was cut, and how connections ended.
#[derive(Default)]
struct Echo {
    pieces: Vec<Vec<u8>>,
    closed: Vec<CloseReason>,
    is_paused: bool,
}

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.pieces.push(data.to_vec());
        conn.send(data).ignore();
        if self.is_paused {
            conn.pause();
            conn.set_timer(SECOND);
        }
        Ok(data.len())
    }

    fn on_timer(&mut self, _: &mut (), conn: &mut Connection<'_>, _: TimerId) {
        conn.resume();
    }

    fn on_close(&mut self, _: (), _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.closed.push(reason);
    }
}

/// Sends that many bytes as soon as a connection opens.
struct Flood(usize);

impl StreamHandler for Flood {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(&vec![7; self.0]).ignore();
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

fn hello() -> Script {
    Script::new().send("hello").expect("hello")
}

fn served_echo(sim: &mut Simulation) -> Served<Echo> {
    sim.serve(Echo::default())
}

fn whats(sim: &Simulation, what: &str) -> Vec<Entry> {
    sim.trace().into_iter().filter(|entry| entry.what == what).collect()
}

fn run_with_faults(seed: u64) -> (u64, Vec<Entry>) {
    let mut sim = Simulation::with(seed, Kernel::Linux, Faults::some());
    sim.keep_trace(usize::MAX);
    let echo = served_echo(&mut sim);
    for _ in 0..10 {
        sim.client(echo.address, hello().shutdown().may_end());
    }
    sim.run_for(60 * SECOND);
    (sim.trace_hash(), sim.trace())
}

#[test]
fn the_same_seed_does_the_same_and_another_one_does_not() {
    assert_eq!(run_with_faults(1), run_with_faults(1));
    let hashes: HashSet<u64> = (0..20).map(|seed| run_with_faults(seed).0).collect();
    assert_eq!(hashes.len(), 20);
}

#[test]
fn the_trace_tells_other_bytes_apart() {
    let hash = |bytes: &str| {
        let mut sim = Simulation::new(1);
        let echo = served_echo(&mut sim);
        sim.client(echo.address, Script::new().send(bytes).close());
        sim.run_until_idle();
        sim.trace_hash()
    };
    assert_eq!(hash("hello, hello"), hash("hello, hello"));
    assert_ne!(hash("hello, hello"), hash("hello, hellp"));
}

#[test]
fn no_byte_is_lost_doubled_or_swapped_while_every_byte_arrives() {
    let faults = Faults::lossless();
    let name = "no_byte_is_lost_doubled_or_swapped_while_every_byte_arrives";
    Check::new(name).faults(faults).twice().run(|sim| {
        let echo = served_echo(sim);
        let bytes: Vec<u8> = (0..50_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
        let script = Script::new().send(&bytes).shutdown().expect(&bytes).expect_end();
        let client = sim.client(echo.address, script);
        sim.run_until_idle();
        sim.assert_done(client);
        sim.assert_empty(echo.reactor);
    });
}

// The harness.

#[test]
fn each_feed_is_shown_by_itself() {
    let mut harness = Harness::new(Echo::default());
    harness.feed("hel");
    harness.feed("");
    harness.feed("lo");
    assert_eq!(harness.handler().pieces, [b"hel".to_vec(), b"lo".to_vec()]);
    assert_eq!(harness.output(), b"hello");
    assert_eq!(harness.output(), b"");
    assert!(!harness.is_over());
    assert_eq!(harness.closed(), None);
}

#[test]
fn a_handler_that_pauses_is_fed_when_it_reads_again() {
    let mut harness = Harness::new(Echo { is_paused: true, ..Echo::default() });
    harness.feed("one");
    harness.feed("two");
    assert_eq!(harness.output(), b"one");
    harness.advance(SECOND - Duration::from_millis(1));
    assert_eq!(harness.output(), b"");
    harness.advance(Duration::from_millis(2));
    assert_eq!(harness.output(), b"two");
}

#[test]
#[should_panic(expected = "the handler does not read")]
fn a_handler_that_never_reads_cannot_be_fed_for_ever() {
    let mut harness = Harness::new(Echo { is_paused: true, ..Echo::default() });
    for _ in 0..100 {
        harness.feed([0; 10_000]);
    }
}

#[test]
fn an_end_comes_after_the_bytes_before_it() {
    let mut harness = Harness::new(Echo::default());
    harness.feed("hello");
    harness.end();
    assert_eq!((harness.output(), harness.is_over()), (b"hello".to_vec(), true));
    assert_eq!(harness.closed(), Some(CloseReason::PeerClosed));
    harness.feed("nobody is there");
    harness.end();
    harness.reset();
    assert_eq!(harness.handler().closed, [CloseReason::PeerClosed]);
}

#[test]
fn a_reset_closes_at_once() {
    let mut harness = Harness::new(Echo::default());
    harness.feed("hello");
    harness.reset();
    assert_eq!(harness.closed(), Some(CloseReason::Reset));
    assert_eq!(harness.output(), b"");
    assert_eq!(harness.handler().closed, [CloseReason::Reset]);
}

#[test]
fn an_output_larger_than_the_kernels_buffers_comes_whole() {
    let mut harness = Harness::new(Flood(900_000));
    assert_eq!(harness.output(), vec![7; 900_000]);
}

#[test]
fn a_short_input_is_split_in_all_ways_and_a_long_one_in_up_to_three_parts() {
    for (length, ways) in [(0, 1), (1, 1), (2, 2), (5, 16), (12, 2048), (13, 1 + 12 + 66)] {
        let input: Vec<u8> = (0..length).collect();
        let seen = RefCell::new(HashSet::new());
        all_splits(&input, Echo::default, |harness| {
            assert_eq!(harness.output(), input);
            assert!(seen.borrow_mut().insert(harness.handler().pieces.clone()), "twice the same");
        });
        assert_eq!(seen.into_inner().len(), ways, "{length} bytes");
    }
}

// Clients.

#[test]
#[should_panic(expected = r#"client 1: expected "hallo" and received "hello""#)]
fn other_bytes_than_expected_fail_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, hello());
    sim.client(echo.address, Script::new().send("hello").expect("hallo"));
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = r#"expected "hello" and received "hell", and then the end of file"#)]
fn an_end_before_what_is_expected_fails_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, Script::new().send("hell").shutdown().expect("hello"));
    sim.run_until_idle();
}

#[test]
fn a_client_that_may_end_leaves_instead() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = Script::new().send("hell").shutdown().expect("hello").may_end();
    let client = sim.client(echo.address, script);
    sim.run_until_idle();
    assert!(!sim.is_done(client));
    assert_eq!(sim.end(client), Some(End::Ended));
    sim.assert_empty(echo.reactor);
}

#[test]
#[should_panic(expected = r#"expected the end of file and received "hello""#)]
fn bytes_before_the_expected_end_fail_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, Script::new().send("hello").shutdown().expect_end());
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = r#"client 0 is not done: expecting "more""#)]
fn a_client_that_is_not_done_says_what_it_waits_for() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().expect("more"));
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn a_slow_reader_reads_that_many_bytes_each_time() {
    let mut sim = Simulation::new(1);
    let flood = sim.serve(Flood(100));
    let script = Script::new().read_slowly(10, SECOND).expect_bytes(100).close();
    let client = sim.client(flood.address, script);
    sim.run_for(4 * SECOND + SECOND / 2);
    assert_eq!(sim.received(client).len(), 50);
    sim.run_until_idle();
    assert_eq!(sim.received(client).len(), 100);
    sim.assert_done(client);
    assert_eq!(sim.end(client), Some(End::Left));
}

#[test]
fn a_slow_reader_with_nothing_to_read_is_at_rest() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = Script::new().read_slowly(1, SECOND).send("hello").expect("hello");
    let client = sim.client(echo.address, script);
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn a_client_that_stops_reading_is_sent_the_rest_when_it_reads_on() {
    let mut sim = Simulation::new(1);
    let flood = sim.serve(Flood(900_000));
    let script = Script::new().stop_reading().wait(SECOND).read_on().expect_bytes(900_000).close();
    let client = sim.client(flood.address, script);
    sim.run_for(SECOND / 2);
    assert_eq!(sim.received(client), b"");
    assert!(sim[flood.reactor].stats().memory_bytes > 400_000, "what the kernels do not hold");
    sim.run_until_idle();
    sim.assert_done(client);
    sim.assert_empty(flood.reactor);
}

#[test]
fn a_client_that_closes_with_unread_bytes_resets() {
    for (read_first, reason) in [(true, CloseReason::PeerClosed), (false, CloseReason::Reset)] {
        let mut sim = Simulation::new(1);
        let echo = served_echo(&mut sim);
        let script = Script::new().send("hello");
        let script = if read_first { script } else { script.stop_reading() };
        sim.client(echo.address, script.wait(SECOND).close());
        sim.run_until_idle();
        assert_eq!(sim.handler(echo).closed, [reason]);
        sim.assert_empty(echo.reactor);
    }
}

#[test]
fn a_client_that_resets_is_a_reset_to_the_server() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().reset());
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Left));
    assert_eq!(sim.handler(echo).closed, [CloseReason::Reset]);
}

#[test]
fn a_peer_that_vanished_times_out_at_the_end_of_the_retransmissions() {
    let mut sim = Simulation::new(1);
    let flood = sim.serve(Echo { is_paused: true, ..Echo::default() });
    let client = sim.client(flood.address, hello().send("more").wait(SECOND / 2).vanish());
    // The answer to "more" is written when the timer resumes, and then nobody is there.
    sim.run_for(600 * SECOND);
    assert_eq!(sim.handler(flood).closed, []);
    sim.run_for(1800 * SECOND);
    assert_eq!(sim.handler(flood).closed, [CloseReason::Io(io::ErrorKind::TimedOut)]);
    assert_eq!(sim.received(client), b"hello");
    sim.assert_empty(flood.reactor);
}

#[test]
fn a_connect_without_an_answer_times_out_after_its_retries() {
    let faults = Faults::none().unanswered_connects(1.0);
    let mut sim = Simulation::with(1, Kernel::Linux, faults);
    let echo = served_echo(&mut sim);
    let start = sim.now();
    let client = sim.client(echo.address, hello());
    sim.run_for(60 * SECOND);
    assert_eq!(sim.end(client), None);
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::TimedOut)));
    assert_eq!(sim.now().since(start).as_secs(), 1 + 2 + 4 + 8 + 16 + 32, "six retries");
}

#[test]
fn a_connect_to_nobody_is_refused() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let nobody = SocketAddr::new(echo.address.ip(), 7001);
    let client = sim.client(nobody, hello());
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::ConnectionRefused)));
}

// Time.

#[test]
fn an_hour_passes_in_milliseconds() {
    let start = Instant::now();
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
    let mut script = Script::new();
    for _ in 0..1200 {
        script = script.send("hello").expect("hello").wait(3 * SECOND);
    }
    let client = sim.client(echo.address, script.close());
    sim.run_for(3600 * SECOND + SECOND);
    sim.assert_done(client);
    assert_eq!(sim.received(client).len(), 5 * 1200);
    assert!(start.elapsed() < 5 * SECOND, "hundreds of times faster: {:?}", start.elapsed());
}

#[test]
fn being_idle_waits_for_the_network_and_not_for_a_timer() {
    let mut sim = Simulation::new(1);
    let way = SECOND / 10;
    sim.set_faults(Faults::none().latency_min(way).latency_max(way));
    let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
    sim.set_faults(Faults::none());
    let client = sim.client(echo.address, hello().send("more"));
    let start = sim.now();
    sim.run_until_idle();
    assert_eq!(sim.received(client), b"hello");
    let passed = sim.now().since(start);
    assert!(passed >= way && passed < SECOND, "{passed:?}");
    sim.run_for(3 * SECOND);
    assert_eq!(sim.received(client), b"hellomore");
}

#[test]
fn running_for_a_while_takes_exactly_that() {
    let mut sim = Simulation::new(1);
    served_echo(&mut sim);
    sim.run_until_idle();
    let start = sim.now();
    sim.run_for(17 * SECOND);
    assert_eq!(sim.now().since(start), 17 * SECOND);
}

#[test]
#[should_panic(expected = "nothing happens any more")]
fn waiting_for_what_never_happens_fails_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().expect("more"));
    sim.run_until(|sim| sim.is_done(client));
}

// Limits of the kernel.

#[test]
fn a_server_without_descriptors_sheds_and_accepts_again_when_it_has_some() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    // The listener, the reserve, and two connections.
    sim.set_descriptors_max(echo.reactor, 4);
    let stay = |seconds| hello().wait(seconds * SECOND).close().may_end();
    let first: Vec<_> = (0..5).map(|_| sim.client(echo.address, stay(10))).collect();
    sim.run_for(SECOND);
    assert_eq!(sim[echo.reactor].connections(), 2);
    assert!(whats(&sim, "accept").iter().any(|entry| entry.error == Some("EMFILE")));
    assert!(sim[echo.reactor].stats().sheds > 0);
    sim.run_for(20 * SECOND);
    assert_eq!(first.iter().filter(|client| sim.is_done(**client)).count(), 2);
    let later = sim.client(echo.address, stay(1));
    sim.run_for(20 * SECOND);
    sim.assert_done(later);
    sim.assert_empty(echo.reactor);
}

#[test]
fn a_full_backlog_drops_requests_and_they_are_sent_again() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let address = SocketAddr::new(echo.address.ip(), 7001);
    let options = ListenOptions::new().backlog(2);
    sim[echo.reactor].listen_with(echo.handler, address, &options).unwrap();
    let clients: Vec<_> = (0..10).map(|_| sim.client(address, hello())).collect();
    let done = |sim: &Simulation| clients.iter().filter(|client| sim.is_done(**client)).count();
    // Linux queues one more than it was told (listen(2)); the others try again after 1, 2, 4 s.
    for (at_least, count) in [(0, 3), (1, 6), (3, 9), (7, 10)] {
        let until = Duration::from_secs(at_least) + SECOND / 2;
        let passed = sim.now().since(whats(&sim, "listen")[0].at);
        sim.run_for(until - passed);
        assert_eq!(done(&sim), count, "after {until:?}");
    }
    assert_eq!(whats(&sim, "backlog full").len(), 7 + 4 + 1);
}

#[test]
fn a_host_has_as_many_ports_as_linux_gives_out_and_gets_them_back() {
    let network = Network::new(1, Kernel::Linux);
    let host = network.host(Faults::none());
    let address = SocketAddr::from(([10, 9, 9, 9], 7000));
    let mut sockets: Vec<_> = (0..28_232).map(|_| host.connect(address).unwrap()).collect();
    let ports: HashSet<u16> = sockets.iter().map(|socket| socket.local_address().port()).collect();
    assert_eq!(ports.len(), sockets.len());
    let error = host.connect(address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    host.connect(SocketAddr::from(([10, 9, 9, 8], 7000))).expect("another peer, the same port");
    sockets.pop();
    host.connect(address).expect("one is free again");
    drop(sockets);
    assert_eq!(network.descriptors(), 0);
}

// The network.

/// Asks for an echo as soon as it runs, and remembers when it came.
struct Asker {
    address: SocketAddr,
    answered: Option<Time>,
}

impl StreamHandler for Asker {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.connect(self.address, 0);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(b"hello").ignore();
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.answered = Some(conn.now());
        conn.close();
        Ok(data.len())
    }
}

#[test]
fn the_faults_of_a_link_are_those_of_two_reactors_only() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let asker = || Asker { address: echo.address, answered: None };
    let (near, far) = (sim.serve(asker()), sim.serve(asker()));
    let slow = Faults::none().latency_min(SECOND).latency_max(SECOND);
    sim.set_link_faults(echo.reactor, far.reactor, slow);
    let start = sim.now();
    sim.run_until_idle();
    let took = |answered: Option<Time>| answered.expect("an answer").since(start);
    assert!(took(sim.handler(near).answered) < SECOND / 10);
    assert!(took(sim.handler(far).answered) >= 2 * SECOND);
    sim.assert_empty(echo.reactor);
}

#[test]
fn bandwidth_bounds_what_comes_through() {
    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().bandwidth(10_000));
    let flood = sim.serve(Flood(100_000));
    let client = sim.client(flood.address, Script::new().expect_bytes(100_000).close());
    let start = sim.now();
    sim.run_until_idle();
    sim.assert_done(client);
    let seconds = sim.now().since(start).as_secs();
    assert!((9..=11).contains(&seconds), "{seconds} s for 100 kB at 10 kB/s");
}

#[test]
fn one_call_can_be_made_to_fail() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().expect("more"));
    sim.run_until_idle();
    // The poll is the first one, the accept the second one.
    sim.fail_call(echo.reactor, 2);
    let other = sim.client(echo.address, hello());
    sim.run_until_idle();
    assert_eq!(sim[echo.reactor].stats().accept_errors, 1);
    sim.assert_done(other);
    assert!(sim.end(client).is_none());
}

#[test]
fn a_clock_that_jumps_fires_what_is_due() {
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
    let client = sim.client(echo.address, hello().send("more"));
    sim.run_for(SECOND / 2);
    assert_eq!(sim.received(client), b"hello");
    let before = sim.now();
    sim.jump_clock(echo.reactor, SECOND);
    sim.run_until_idle();
    assert_eq!(sim.received(client), b"hellomore");
    assert!(sim.now().since(before) < SECOND / 10, "only its own clock jumped");
}

/// Counts how often its source was readable.
struct Counter(Rc<RefCell<Vec<Readiness>>>);

impl SourceHandler for Counter {
    type Source = SimSource;

    fn on_readable(&mut self, _: Key, source: &mut SimSource, _: &mut Context<'_>) -> Drained {
        self.0.borrow_mut().push(source.readiness());
        source.set(Readiness::EMPTY);
        Drained::Yes
    }
}

#[test]
fn a_raw_source_wakes_its_handler_once_for_each_change() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let reactor = sim.add_reactor(ReactorLimits::new());
        let (source, seen) = (SimSource::new(), Rc::new(RefCell::new(Vec::new())));
        let handler = Counter(Rc::clone(&seen));
        sim[reactor].add_source(handler, source.clone(), Interest::Readable).unwrap();
        sim.run_until_idle();
        assert_eq!(*seen.borrow(), []);
        for count in 1..=3 {
            source.set(Readiness::READABLE);
            sim.run_until_idle();
            assert_eq!(*seen.borrow(), vec![Readiness::READABLE; count], "{kernel:?}");
        }
        assert_eq!(source.readiness(), Readiness::EMPTY);
    }
}

#[test]
fn every_kind_of_fault_happens_and_is_in_the_trace() {
    let faults = Faults::some().vanishing_peers(0.01).clock_jumps(0.01);
    let expected = [
        ("accept", Some("EMFILE")),
        ("accept", Some("OutOfMemory")),
        ("register", Some("StorageFull")),
        ("poll", Some("Interrupted")),
        ("read", Some("WouldBlock")),
        ("read", Some("ConnectionReset")),
        ("reset", Some("ConnectionRefused")),
        ("clock jump", None),
        ("vanish", None),
    ];
    let mut missing: HashSet<_> = expected.into();
    for seed in 0..50 {
        let mut sim = Simulation::with(seed, Kernel::Contract, faults.clone());
        sim.keep_trace(usize::MAX);
        let echo = served_echo(&mut sim);
        for _ in 0..20 {
            sim.client(echo.address, hello().send("more").expect("more").close().may_end());
        }
        sim.run_for(60 * SECOND);
        for entry in sim.trace() {
            missing.remove(&(entry.what, entry.error));
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

// What a test can ask.

#[test]
fn a_reactor_that_everybody_left_is_empty() {
    let mut sim = Simulation::new(1);
    let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
    for _ in 0..10 {
        sim.client(echo.address, hello().close());
    }
    sim.run_for(2 * SECOND);
    assert_eq!(sim[echo.reactor].stats().closes(CloseReason::PeerClosed), 10);
    sim.assert_empty(echo.reactor);
}

#[test]
#[should_panic(expected = "connections are left")]
fn a_connection_that_is_left_is_found() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, hello());
    sim.run_until_idle();
    sim.assert_empty(echo.reactor);
}

/// Sets a timer that belongs to no connection.
struct Ticker;

impl StreamHandler for Ticker {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.set_handler_timer(3600 * SECOND);
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, _: &[u8]) -> Result<usize, Error> {
        panic!("the handler's own words")
    }
}

#[test]
#[should_panic(expected = "a timer is left")]
fn a_timer_that_is_left_is_found() {
    let mut sim = Simulation::new(1);
    let ticker = sim.serve(Ticker);
    sim.run_until_idle();
    sim.assert_empty(ticker.reactor);
}

#[test]
#[should_panic(expected = "the handler's own words")]
fn a_handler_that_panics_fails_the_test() {
    let mut sim = Simulation::new(1);
    let ticker = sim.serve(Ticker);
    sim.client(ticker.address, hello());
    sim.run_until_idle();
}

#[test]
fn a_reactor_of_a_simulation_takes_all_limits() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let address = SocketAddr::new(echo.address.ip(), 7001);
    let options = ListenOptions::new().limits(Limits::new().connections_per_address_max(1));
    sim[echo.reactor].listen_with(echo.handler, address, &options).unwrap();
    sim.client(address, hello());
    sim.run_until_idle();
    let second = sim.client(address, Script::new().expect_end());
    sim.run_until_idle();
    sim.assert_done(second);
    assert_eq!(sim[echo.reactor].stats().refusals, 1);
}
