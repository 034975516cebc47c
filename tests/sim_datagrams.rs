//! Datagrams in a simulated network that loses, doubles and delays them, and in kernels that take none for a
//! while or fail.

#![cfg(feature = "sim")]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use oneloop::sim::{Call, Check, Faults, Kernel, ReactorId, Simulation};
use oneloop::{
    CloseReason, Context, Datagram, DatagramHandler, DatagramOptions, DatagramSocket, HandlerId,
    Key, Queued, ReactorLimits, SocketAddress, TimerId,
};

/// Sends back what it is sent.
struct Echo;

impl DatagramHandler for Echo {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        assert!(!datagram.is_truncated());
        socket.send_to(datagram.from, datagram.data).ignore();
    }
}

/// How often a question is asked before it is given up.
const TRIES: u32 = 20;

/// Asks so many questions, each again and again until it is answered, and knows every byte of the answers.
struct Asker {
    server: SocketAddr,
    seed: u64,
    left: u64,
    /// How often each open question was asked.
    open: BTreeMap<u64, u32>,
    asked: u64,
    answers: u64,
    repeated: u64,
    given_up: u64,
    failed: Vec<ErrorKind>,
    closed: Option<CloseReason>,
}

impl Asker {
    fn new(server: SocketAddr, seed: u64, questions: u64) -> Asker {
        Asker {
            server,
            seed,
            left: questions,
            open: BTreeMap::new(),
            asked: 0,
            answers: 0,
            repeated: 0,
            given_up: 0,
            failed: Vec::new(),
            closed: None,
        }
    }

    /// The datagram of a number: what is in it follows from that, and so does its length.
    fn question(&self, number: u64) -> Vec<u8> {
        let mut word = self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut data = number.to_be_bytes().to_vec();
        for _ in 0..word % 200 {
            word = word.rotate_left(7).wrapping_mul(31);
            data.push(word as u8);
        }
        data
    }

    fn ask(&mut self, socket: &mut DatagramSocket<'_>) {
        for _ in 0..4.min(self.left) {
            self.open.insert(self.left, 0);
            self.left -= 1;
        }
        let server = SocketAddress::from(self.server);
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            let tries = self.open.get_mut(&number).unwrap();
            *tries += 1;
            if *tries > TRIES {
                self.open.remove(&number);
                self.given_up += 1;
            } else if socket.send_to(&server, &self.question(number)) == Queued::Ok {
                self.asked += 1;
            }
        }
        if self.left == 0 && self.open.is_empty() {
            socket.close();
        } else {
            socket.set_timer(Duration::from_millis(50));
        }
    }
}

impl DatagramHandler for Asker {
    fn on_bound(&mut self, socket: &mut DatagramSocket<'_>) {
        self.ask(socket);
    }

    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, _: TimerId) {
        self.ask(socket);
    }

    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        assert_eq!(*datagram.from, self.server);
        let number = u64::from_be_bytes(datagram.data[..8].try_into().unwrap());
        assert_eq!(datagram.data, self.question(number), "every byte came back");
        match self.open.remove(&number) {
            Some(_) => self.answers += 1,
            None => self.repeated += 1,
        }
    }

    fn on_send_failed(
        &mut self,
        _: &mut DatagramSocket<'_>,
        _: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        self.failed.push(error.kind());
    }

    fn on_close(&mut self, _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.closed = Some(reason);
    }
}

/// An echo and somebody who asks it, on hosts of their own.
struct Pair {
    echo: ReactorId,
    asker: ReactorId,
    handler: HandlerId<Asker>,
    key: Key,
}

fn pair(sim: &mut Simulation, questions: u64, is_connected: bool) -> Pair {
    let seed = sim.seed();
    let echo = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let handler = sim[echo].add_datagram_handler(Echo);
    let ip = sim.ip(echo);
    let key = bind(sim, echo, handler, (ip, 0).into(), &DatagramOptions::new());
    let server = sim[echo].datagram_address(key).unwrap().inet().unwrap();
    let asker = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let handler = sim[asker].add_datagram_handler(Asker::new(server, seed, questions));
    let options = match is_connected {
        true => DatagramOptions::new().connect(server),
        false => DatagramOptions::new(),
    };
    bind(sim, asker, handler, ([0, 0, 0, 0], 0).into(), &options);
    Pair { echo, asker, handler, key }
}

/// A registration may fail, by a fault.
fn bind<H: DatagramHandler>(
    sim: &mut Simulation,
    id: ReactorId,
    handler: HandlerId<H>,
    address: SocketAddr,
    options: &DatagramOptions,
) -> Key {
    loop {
        match sim[id].bind_with(handler, address, options) {
            Ok(key) => return key,
            Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull),
        }
    }
}

impl Pair {
    fn asker<'a>(&self, sim: &'a Simulation) -> &'a Asker {
        sim[self.asker].handler(self.handler)
    }

    /// What both reactors sent, received and dropped.
    fn counts(&self, sim: &Simulation) -> (u64, u64, u64) {
        let stats = [self.echo, self.asker].map(|id| sim[id].stats().clone());
        let sum = |count: fn(&oneloop::Stats) -> u64| stats.iter().map(count).sum();
        (
            sum(|stats| stats.datagrams_out),
            sum(|stats| stats.datagrams_in),
            sum(|stats| stats.datagrams_dropped),
        )
    }
}

const KERNELS: [Kernel; 2] = [Kernel::Linux, Kernel::Contract];

/// Runs to the end, in which the one who asks is closed and nothing is left.
fn run(sim: &mut Simulation, pair: &Pair) {
    sim.run_until(|sim| pair.asker(sim).closed.is_some());
    sim.run_until_idle();
    assert_eq!(pair.asker(sim).closed, Some(CloseReason::Closed));
    sim.assert_empty(pair.echo);
    sim.assert_empty(pair.asker);
}

#[test]
fn without_faults_every_question_is_asked_and_answered_once() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let pair = pair(&mut sim, 100, false);
        run(&mut sim, &pair);
        let asker = pair.asker(&sim);
        assert_eq!((asker.asked, asker.answers, asker.repeated), (100, 100, 0));
        assert_eq!(pair.counts(&sim), (200, 200, 0));
    }
}

#[test]
fn what_is_lost_does_not_come_and_what_is_doubled_comes_twice() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none().lost_datagrams(1.0));
        let lost = pair(&mut sim, 4, false);
        run(&mut sim, &lost);
        assert_eq!(lost.asker(&sim).given_up, 4);
        assert_eq!(lost.counts(&sim), (4 * u64::from(TRIES), 0, 0));

        let mut sim = Simulation::with(1, kernel, Faults::none().duplicated_datagrams(1.0));
        let doubled = pair(&mut sim, 4, false);
        run(&mut sim, &doubled);
        assert_eq!((doubled.asker(&sim).answers, doubled.asker(&sim).repeated), (4, 12));
    }
}

#[test]
fn what_is_late_comes_after_what_was_sent_later() {
    struct Notes(Vec<u8>);

    impl DatagramHandler for Notes {
        fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
            self.0.extend(datagram.data);
        }
    }

    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().late_datagrams(0.3));
    let id = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let handler = sim[id].add_datagram_handler(Notes(Vec::new()));
    let key = sim[id].bind(handler, "127.0.0.1:0").unwrap();
    let to = sim[id].datagram_address(key).unwrap();
    for number in 0..50 {
        sim[id].context(handler).send_datagram(key, Some(&to), &[number]).ignore();
    }
    sim.run_until_idle();
    let mut came = sim[id].handler(handler).0.clone();
    assert!(!came.is_sorted(), "{came:?}");
    came.sort_unstable();
    assert_eq!(came, (0..50).collect::<Vec<u8>>(), "each of them once");
}

/// The kernel takes nothing for a while: what waits leaves when it tells that there is room.
#[test]
fn a_full_kernel_delays_and_loses_nothing() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none().full_sends(0.5));
        let pair = pair(&mut sim, 100, true);
        run(&mut sim, &pair);
        assert_eq!(pair.asker(&sim).answers, 100);
        assert_eq!(pair.counts(&sim), (200, 200, 0));
        assert_eq!(pair.asker(&sim).failed, []);
    }
}

/// ... of which it cannot be asked: better an end than a wait for ever.
#[test]
fn a_socket_that_cannot_be_told_of_room_is_closed() {
    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().full_sends(1.0));
    let pair = pair(&mut sim, 4, false);
    sim.fail_next(pair.asker, Call::AskDatagramWritable, ErrorKind::OutOfMemory);
    sim.run_until_idle();
    let reason = CloseReason::Io(ErrorKind::OutOfMemory);
    assert_eq!(pair.asker(&sim).closed, Some(reason));
    sim.assert_empty(pair.asker);
}

#[test]
fn an_error_of_a_call_is_told_and_survived() {
    for (call, is_dropped) in [(Call::SendDatagram, true), (Call::Receive, false)] {
        let mut sim = Simulation::new(1);
        let pair = pair(&mut sim, 4, false);
        sim.fail_next(pair.asker, call, ErrorKind::NetworkUnreachable);
        run(&mut sim, &pair);
        assert_eq!(pair.asker(&sim).failed, [ErrorKind::NetworkUnreachable], "{call:?}");
        assert_eq!(pair.asker(&sim).answers, 4);
        assert_eq!(pair.counts(&sim).2, u64::from(is_dropped));
    }
}

#[test]
fn a_socket_that_gives_nothing_but_errors_is_closed() {
    let mut sim = Simulation::new(1);
    let pair = pair(&mut sim, 4, false);
    for _ in 0..64 {
        sim.fail_next(pair.echo, Call::Receive, ErrorKind::OutOfMemory);
    }
    sim.run_until(|sim| sim[pair.echo].stats().datagram_sockets == 0);
    assert_eq!(sim[pair.echo].stats().datagram_errors, 64);
    assert!(sim[pair.echo].datagram_address(pair.key).is_err());
}

/// A receive queue that is full drops, of which nobody is told.
#[test]
fn what_a_receiver_has_no_room_for_is_lost() {
    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().receive_buffer_bytes(1));
    let pair = pair(&mut sim, 4, false);
    run(&mut sim, &pair);
    let (sent, received, dropped) = pair.counts(&sim);
    assert!(received < sent && dropped == 0, "{received} of {sent}");
    assert_eq!(pair.asker(&sim).answers, 4, "one at a time");
}

/// Nobody is there for a while, of which a socket that is connected is told.
#[test]
fn who_asks_goes_on_while_nobody_is_there() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let pair = pair(&mut sim, 8, true);
        sim[pair.echo].stop();
        run(&mut sim, &pair);
        let asker = pair.asker(&sim);
        assert_eq!((asker.answers, asker.given_up), (0, 8));
        assert!(asker.failed.iter().all(|kind| *kind == ErrorKind::ConnectionRefused));
        assert!(asker.failed.len() > 20, "{}", asker.failed.len());
        assert_eq!(pair.counts(&sim).2, 0, "all have left");
    }
}

/// Everything at once, under many seeds: each answer is right, every datagram is accounted for, and in the
/// end nothing is left.
#[test]
fn a_swarm_of_faults_breaks_nothing() {
    for kernel in KERNELS {
        for is_connected in [false, true] {
            let name = format!("datagrams, {kernel:?}, connected {is_connected}");
            let check = Check::new(name).seeds(40).kernel(kernel).faults(Faults::some());
            check.run(move |sim| {
                let pair = pair(sim, 50, is_connected);
                sim.run_until(|sim| pair.asker(sim).closed.is_some());
                sim.heal();
                run(sim, &pair);
                let asker = pair.asker(sim);
                assert_eq!(asker.answers + asker.given_up, 50);
                assert!(asker.answers >= 40, "only {} answers", asker.answers);
                assert_eq!(pair.counts(sim).2, 0, "none was dropped here");
            });
        }
    }
}
