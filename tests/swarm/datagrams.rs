//! Questions and answers in datagrams, which may be lost, doubled, late, or refused.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::sim::{ReactorId, Simulation};
use oneloop::{
    CloseReason, Context, Datagram, DatagramHandler, DatagramLimits, DatagramOptions,
    DatagramSocket, HandlerId, Key, Queued, ReactorLimits, SocketAddress, TimerId,
};

/// Sends back what it is sent.
pub(crate) struct Echo;

impl DatagramHandler for Echo {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        assert!(!datagram.is_truncated());
        socket.send_to(datagram.from, datagram.data).ignore();
    }
}

/// How often a question is asked before it is given up.
pub(crate) const TRIES: u32 = 20;

/// Asks so many questions, each again and again until it is answered, and knows every byte of the answers.
pub(crate) struct Asker {
    server: SocketAddress,
    seed: u64,
    left: u64,
    /// How often each open question was asked.
    open: BTreeMap<u64, u32>,
    pub(crate) asked: u64,
    pub(crate) answers: u64,
    pub(crate) repeated: u64,
    pub(crate) given_up: u64,
    /// Questions for which there was no room in the queue.
    full: u64,
    pub(crate) failed: Vec<ErrorKind>,
    pub(crate) closed: Option<CloseReason>,
}

impl Asker {
    fn new(server: SocketAddress, seed: u64, questions: u64) -> Asker {
        Asker {
            server,
            seed,
            left: questions,
            open: BTreeMap::new(),
            asked: 0,
            answers: 0,
            repeated: 0,
            given_up: 0,
            full: 0,
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
        let server = self.server.clone();
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            let tries = self.open.get_mut(&number).unwrap();
            *tries += 1;
            if *tries > TRIES {
                self.open.remove(&number);
                self.given_up += 1;
            } else {
                let queued = socket.send_to(&server, &self.question(number));
                self.asked += u64::from(queued == Queued::Ok);
                self.full += u64::from(queued == Queued::Full);
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
pub(crate) struct Pair {
    pub(crate) echo: ReactorId,
    pub(crate) asker: ReactorId,
    handler: HandlerId<Asker>,
    pub(crate) key: Key,
}

pub(crate) fn pair(sim: &mut Simulation, questions: u64, is_connected: bool) -> Pair {
    let seed = sim.seed();
    let echo = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let handler = sim[echo].add_datagram_handler(Echo);
    let ip = sim.ip(echo);
    let any = SocketAddress::Inet((ip, 0).into());
    let key = bind(sim, echo, handler, any, &DatagramOptions::new());
    let server = sim[echo].datagram_address(key).unwrap();
    let asker = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let handler = sim[asker].add_datagram_handler(Asker::new(server.clone(), seed, questions));
    let options = if is_connected { small(40).connect(server) } else { small(40) };
    bind(sim, asker, handler, SocketAddress::Inet(([0, 0, 0, 0], 0).into()), &options);
    Pair { echo, asker, handler, key }
}

/// Limits that are soon reached.
fn small(queue_len_max: usize) -> DatagramOptions {
    let limits = DatagramLimits::new().datagrams_per_turn_max(3).bytes_per_turn_max(400);
    DatagramOptions::new().limits(limits.queue_len_max(queue_len_max))
}

/// The same over Unix sockets of one machine.
fn unix_pair(sim: &mut Simulation, questions: u64, is_connected: bool) -> Pair {
    let seed = sim.seed();
    let limits = ReactorLimits::new().connections_max(16);
    let echo = sim.add_reactor(limits.clone());
    let handler = sim[echo].add_datagram_handler(Echo);
    let server = SocketAddress::Unix(UnixName::from_path("/run/echo.sock").unwrap());
    let key = bind(sim, echo, handler, server.clone(), &small(40));
    let asker = sim.add_reactor_beside(echo, limits);
    let handler = sim[asker].add_datagram_handler(Asker::new(server.clone(), seed, questions));
    // A queue may be full of what stands aside.
    let small = small(if sim.random().is_multiple_of(2) { 3 } else { 40 });
    let options = if is_connected { small.connect(server) } else { small };
    let name = SocketAddress::Unix(UnixName::from_abstract("asker").unwrap());
    bind(sim, asker, handler, name, &options);
    Pair { echo, asker, handler, key }
}

/// A registration may fail, by a fault.
fn bind<H: DatagramHandler>(
    sim: &mut Simulation,
    id: ReactorId,
    handler: HandlerId<H>,
    address: SocketAddress,
    options: &DatagramOptions,
) -> Key {
    loop {
        match sim[id].bind_with(handler, address.clone(), options) {
            Ok(key) => return key,
            Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull),
        }
    }
}

impl Pair {
    pub(crate) fn asker<'a>(&self, sim: &'a Simulation) -> &'a Asker {
        sim[self.asker].handler(self.handler)
    }
}

/// Runs to the end, in which the one who asks is closed and nothing is left.
pub(crate) fn run(sim: &mut Simulation, pair: &Pair) {
    sim.run_until(|sim| pair.asker(sim).closed.is_some());
    sim.run_until_idle();
    assert_eq!(pair.asker(sim).closed, Some(CloseReason::Closed));
    sim.assert_empty(pair.echo);
    sim.assert_empty(pair.asker);
}

/// Each answer is right, each question is answered or given up, every datagram is accounted for, and in the end
/// nothing is left.
pub(crate) fn datagrams(sim: &mut Simulation) {
    let (is_connected, is_gone) = (sim.random().is_multiple_of(2), sim.random().is_multiple_of(4));
    let pair = pair(sim, 50, is_connected);
    question(sim, &pair, is_gone);
    let (asker, dropped) = (pair.asker(sim), sim[pair.asker].stats().datagrams_dropped);
    assert!(dropped <= asker.full, "{dropped} dropped, {} told", asker.full);
}

/// The same where receivers without room make their senders wait, who name them or are connected. What finds no
/// room is told, too.
pub(crate) fn datagrams_by_name(sim: &mut Simulation) {
    let (is_connected, is_gone) = (sim.random().is_multiple_of(2), sim.random().is_multiple_of(4));
    let pair = unix_pair(sim, 50, is_connected);
    question(sim, &pair, is_gone);
    let (asker, dropped) = (pair.asker(sim), sim[pair.asker].stats().datagrams_dropped);
    let told = asker.full + asker.failed.len() as u64;
    assert!(dropped <= told, "{dropped} dropped, {told} told");
    let is_in_time = !asker.failed.contains(&ErrorKind::WouldBlock);
    assert!(is_gone || is_in_time, "given up, although the receiver reads");
}

/// Asks all questions, of somebody who may be gone before the end.
fn question(sim: &mut Simulation, pair: &Pair, is_gone: bool) {
    if is_gone {
        sim.run_for(Duration::from_millis(100));
        sim[pair.echo].stop();
        assert!(sim[pair.echo].datagram_address(pair.key).is_err());
    }
    sim.run_until(|sim| pair.asker(sim).closed.is_some());
    sim.heal();
    run(sim, pair);
    let asker = pair.asker(sim);
    assert_eq!(asker.answers + asker.given_up, 50);
    assert!(is_gone || asker.answers >= 40, "only {} answers", asker.answers);
}
