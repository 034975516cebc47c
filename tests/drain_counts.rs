//! A drain, counted: a thousand clients send numbered requests all the time, and each request that had
//! arrived when the drain began is answered. What came later was answered, or is in the report.

mod support;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use oneloop::{
    CloseReason, Connection, Context, Ended, Error, Key, Limits, ListenOptions, Reactor,
    StreamHandler,
};
use support::{DEADLINE, alone, kernel, may_open};

const CLIENTS: usize = 1000;
const REQUEST_BYTES: usize = 8;
/// Requests that a client has on their way at once.
const AHEAD_MAX: u64 = 4;

/// Answers each request with itself.
#[derive(Default)]
struct Answers {
    answered: u64,
    /// Bytes received from each client's port.
    received: BTreeMap<u16, usize>,
}

impl StreamHandler for Answers {
    type Session = u16;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> u16 {
        conn.peer_address().expect("it is connected").port().expect("TCP")
    }

    fn on_data(
        &mut self,
        port: &mut u16,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let whole = data.len() - data.len() % REQUEST_BYTES;
        self.answered += (whole / REQUEST_BYTES) as u64;
        conn.send(&data[..whole]).ignore();
        self.received.insert(*port, conn.bytes_in() as usize);
        Ok(whole)
    }

    fn on_close(&mut self, _: u16, _: Key, reason: CloseReason, _: &mut Context<'_>) {
        assert!(matches!(reason, CloseReason::Closed | CloseReason::PeerClosed), "{reason}");
    }
}

/// A client, which does not block.
struct Client {
    socket: TcpStream,
    port: u16,
    sent: u64,
    answered: u64,
    is_over: bool,
    /// It stood at the door when that was closed, and came too late for the drain.
    is_turned_away: bool,
}

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        Ok(Client { socket, port, sent: 0, answered: 0, is_over: false, is_turned_away: false })
    }

    /// Sends what it may and reads what there is; checks the order of the answers.
    fn go_on(&mut self) {
        while self.sent < self.answered + AHEAD_MAX {
            match self.socket.write(&self.sent.to_be_bytes()) {
                Ok(REQUEST_BYTES) => self.sent += 1,
                Ok(count) => panic!("{count} bytes of a request of eight"),
                Err(error) => {
                    self.note(&error);
                    break;
                }
            }
        }
        if self.is_over {
            return;
        }
        let mut answers = [0; REQUEST_BYTES * AHEAD_MAX as usize];
        match self.socket.read(&mut answers) {
            Ok(0) => {
                self.is_over = true;
                self.socket.shutdown(Shutdown::Write).expect("it is connected");
            }
            Ok(count) => {
                assert_eq!(count % REQUEST_BYTES, 0, "an answer in two parts");
                for answer in answers[..count].chunks(REQUEST_BYTES) {
                    assert_eq!(answer, self.answered.to_be_bytes());
                    self.answered += 1;
                }
            }
            Err(error) => self.note(&error),
        }
    }

    fn note(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::WouldBlock {
            assert_eq!(self.answered, 0, "{error}");
            (self.is_over, self.is_turned_away) = (true, true);
        }
    }
}

/// Each of them goes on until the server has ended it.
fn run_clients(mut clients: Vec<Client>) -> Vec<Client> {
    let start = Instant::now();
    while clients.iter().any(|client| !client.is_over) {
        assert!(start.elapsed() < DEADLINE, "not all are ended");
        for client in clients.iter_mut().filter(|client| !client.is_over) {
            client.go_on();
        }
    }
    clients
}

#[test]
fn each_request_that_had_arrived_when_the_drain_began_is_answered() {
    let name = "each_request_that_had_arrived_when_the_drain_began_is_answered";
    if !alone(name) || !may_open(2 * CLIENTS as u64 + 100) {
        return;
    }
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Answers::default());
    // So small a budget that a drain takes many turns.
    let limits = Limits::new().reads_per_turn_max(1).read_bytes_per_turn_max(REQUEST_BYTES);
    let options = ListenOptions::new().limits(limits);
    let listener = reactor.listen_with(handler, "127.0.0.1:0", &options).unwrap();
    let address = reactor.listener_address(listener).unwrap().inet().unwrap();
    let may_begin = Arc::new(AtomicBool::new(false));
    let clients = thread::spawn({
        let may_begin = Arc::clone(&may_begin);
        move || {
            // The last hundred need not be accepted yet when the drain begins.
            let mut all: Vec<Client> = Vec::new();
            for number in 0..CLIENTS {
                if number == CLIENTS - 100 {
                    all.iter_mut().for_each(Client::go_on);
                    may_begin.store(true, Ordering::SeqCst);
                }
                match Client::connect(address) {
                    Ok(client) => all.push(client),
                    Err(_) => break, // the door is closed
                }
                all.iter_mut().rev().take(50).for_each(Client::go_on);
            }
            run_clients(all)
        }
    });
    let answered_at_least = 1_000 + seed % 5_000;
    reactor
        .run_until(|reactor| {
            may_begin.load(Ordering::SeqCst)
                && reactor.handler(handler).answered > answered_at_least
        })
        .unwrap();

    let waiting = kernel::received_of(address.port());
    let before = reactor.handler(handler).received.clone();
    reactor.drain(DEADLINE);
    let report = reactor.run().unwrap();

    let clients = clients.join().expect("the clients' own checks");
    println!("{report}; {} clients", clients.len());
    let (turned_away, clients): (Vec<Client>, Vec<Client>) =
        clients.into_iter().partition(|client| client.is_turned_away);
    for client in turned_away {
        assert_eq!(waiting.get(&client.port), None, "it was there when the drain began");
    }
    let mut had_to_wait = 0;
    for client in &clients {
        let waiting = waiting.get(&client.port).copied().unwrap_or(0);
        had_to_wait += waiting / REQUEST_BYTES;
        let arrived = waiting + before.get(&client.port).copied().unwrap_or(0);
        let due = (arrived / REQUEST_BYTES) as u64;
        assert!(client.answered >= due, "{} answers to {due} requests", client.answered);
    }
    println!("{had_to_wait} requests waited when the drain began");
    let sent: u64 = clients.iter().map(|client| client.sent).sum();
    let answered: u64 = clients.iter().map(|client| client.answered).sum();
    assert_eq!(answered, reactor.handler(handler).answered);
    assert_eq!(
        sent * REQUEST_BYTES as u64,
        answered * REQUEST_BYTES as u64 + report.bytes_unaccepted
    );
    assert_eq!(report.end, Ended::Drained);
    assert_eq!(report.connections_finished, clients.len() as u64);
    assert_eq!((report.connections_cut, report.connections_failed), (0, 0));
    assert_eq!(report.bytes_undelivered, 0);
    assert!(report.duration < DEADLINE);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(reactor.next_wait() != Some(Duration::ZERO));
}

/// The same in simulation, where everything else is left to chance: clients and reactor go on in any
/// order, on both kernels, with faults that delay and cut.
#[cfg(feature = "sim")]
mod simulated {
    use super::*;
    use oneloop::ReactorLimits;
    use oneloop::sim::{Faults, Kernel, Network, SimSocket};

    struct Simulated {
        socket: Option<SimSocket>,
        to_send: Vec<u8>,
        /// Bytes that the network took.
        sent: usize,
        received: Vec<u8>,
        /// What had arrived when the drain began.
        due: usize,
    }

    impl Simulated {
        fn go_on(&mut self) {
            let Some(socket) = &mut self.socket else { return };
            if socket.connect_result().is_err() {
                return;
            }
            let requests = (self.sent + self.to_send.len()) / REQUEST_BYTES;
            if self.to_send.is_empty() && requests < self.received.len() / REQUEST_BYTES + 4 {
                self.to_send.extend((requests as u64).to_be_bytes());
            }
            if let Ok(count) = socket.write(&self.to_send) {
                self.to_send.drain(..count);
                self.sent += count;
            }
            let mut bytes = [0; 64];
            match socket.read(&mut bytes) {
                Ok(0) => self.socket = None,
                Ok(count) => self.received.extend(&bytes[..count]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
        }
    }

    fn drain_at(seed: u64, kernel: Kernel, clients: usize) {
        let network = Network::new(seed, kernel);
        let mut faults = Faults::lossless().send_buffer_bytes(24).receive_buffer_bytes(24);
        if kernel == Kernel::Linux {
            // There it takes back what had arrived.
            faults = faults.short_reads(0.0);
        }
        let driver = network.driver(faults.clone());
        let address = SocketAddr::new(driver.ip(), 7000);
        let limits = ReactorLimits::new().connections_max(clients);
        let mut reactor = Reactor::with_driver(driver, limits).unwrap();
        let handler = reactor.add(Answers::default());
        let limits = Limits::new().reads_per_turn_max(1).read_bytes_per_turn_max(7);
        reactor.listen_with(handler, address, &ListenOptions::new().limits(limits)).unwrap();
        let host = network.host(faults);
        let mut numbers = seed;
        let mut chance = move |below: u64| {
            numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (numbers >> 33) % below
        };
        let mut all: Vec<Simulated> = (0..clients)
            .map(|_| Simulated {
                socket: Some(host.connect(address).unwrap()),
                to_send: Vec::new(),
                sent: 0,
                received: Vec::new(),
                due: 0,
            })
            .collect();
        let drain_turn = 20 + chance(200);
        for turn in 0.. {
            assert!(turn < 100_000, "seed {seed}, {kernel:?}: no end");
            for _ in 0..chance(2 * clients as u64) {
                all[chance(clients as u64) as usize].go_on();
            }
            if turn == drain_turn {
                // All that was sent arrives, as far as there is room for it.
                network.pass(Duration::from_secs(1));
                for client in &mut all {
                    // What the server's socket has no room for has not arrived.
                    let room = client.received.len() + 24;
                    client.due = client.sent.min(room) / REQUEST_BYTES * REQUEST_BYTES;
                }
                reactor.drain(Duration::from_secs(60));
            }
            reactor.turn(Some(Duration::from_micros(chance(500)))).unwrap();
            if turn > drain_turn && !reactor.is_draining() {
                break;
            }
        }
        for client in &mut all {
            // What is still under way arrives.
            network.pass(Duration::from_millis(100));
            for _ in 0..100 {
                client.go_on();
            }
            assert!(client.socket.is_none(), "seed {seed}, {kernel:?}: told of the end");
            let answers = client.received.len();
            assert!(answers >= client.due, "seed {seed}, {kernel:?}: {answers} of {}", client.due);
        }
        let report = reactor.report().unwrap();
        assert_eq!(report.end, Ended::Drained, "seed {seed}, {kernel:?}: {report}");
        assert_eq!(report.connections_cut + report.connections_failed, 0, "seed {seed}: {report}");
        let answered: usize = all.iter().map(|client| client.received.len()).sum();
        assert_eq!(
            reactor.stats().bytes_in,
            answered as u64 + report.bytes_unaccepted,
            "seed {seed}, {kernel:?}: {report}"
        );
    }
    #[test]
    fn each_request_that_had_arrived_when_the_drain_began_is_answered() {
        for kernel in [Kernel::Linux, Kernel::Contract] {
            for seed in 0..if cfg!(debug_assertions) { 60 } else { 600 } {
                drain_at(seed, kernel, 1 + seed as usize % 30);
            }
            drain_at(1000, kernel, 1000);
        }
    }
}
