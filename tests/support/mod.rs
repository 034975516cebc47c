//! What the integration tests share: a handler that records its calls, a server around it, clients.
//!
//! The reactor and its clients live on one thread: what a client waits for is awaited by turning the
//! reactor, always with a deadline.
//!
//! Which world it is in, the kernel's or a simulated one, the test crate says: `crate::support::world`
//! is `world.rs` in a test file of its own, and `sim.rs` where such files are modules of one crate
//! (`sim_linux.rs`, `sim_contract.rs`).

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::type_complexity, reason = "a handler is a row of closures, each of its own type")]
#![allow(unused_imports, reason = "... or of the world")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{self, Command};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant as MachineInstant};

use oneloop::{HandlerId, Key, ListenOptions, ListenerId, ReactorLimits, Stats};

mod apart;
mod client;
pub mod datagrams;
pub mod deadline;
mod echo;
mod file;
#[path = "../kernel/mod.rs"]
pub mod kernel;
pub mod office;
#[path = "../../src/random.rs"]
mod random;
pub mod raw;
mod recorder;
mod test_name;
pub mod ticks;
pub mod unix_datagrams;
pub mod world;

pub(crate) use self::apart::apart;
pub use self::client::*;
pub use self::echo::Echo;
pub use self::file::file_of;
pub(crate) use self::random::random;
pub use self::recorder::*;
pub(crate) use self::test_name::full_name_of;
pub use crate::support::world::*;

/// Nothing takes so long unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The longest wait of one turn: what a condition that no event announces may be late.
const TICK: Duration = Duration::from_millis(2);

/// Turns the reactor until `is_done`, which is asked before every turn.
///
/// # Panics
///
/// After the deadline, naming what did not happen.
pub fn run_until(reactor: &mut Reactor, what: &str, mut is_done: impl FnMut(&mut Reactor) -> bool) {
    // Not generic, because it would be compiled hundreds of times.
    turn_until(reactor, what, &mut is_done);
}

fn turn_until(reactor: &mut Reactor, what: &str, is_done: &mut dyn FnMut(&mut Reactor) -> bool) {
    let (start, machine_start) = (Instant::now(), MachineInstant::now());
    while !is_done(reactor) {
        let is_late = start.elapsed() > DEADLINE || machine_start.elapsed() > 2 * DEADLINE;
        assert!(!is_late, "waited in vain until {what}: {:?}", reactor.stats());
        reactor.turn(Some(TICK)).expect("the poll works");
    }
}

/// Turns the reactor until nothing is left to do, and checks that it then rests: it waits in the
/// kernel, and does nothing to its sockets. An event or two may still come for a connection, such as
/// when a delayed acknowledgement of its end of file arrives.
pub fn assert_idle(reactor: &mut Reactor) {
    let counts = |reactor: &Reactor| {
        let stats = reactor.stats();
        (stats.busy_turns, stats.accepts, stats.reads, stats.writes, stats.closes_total())
    };
    let mut before = None;
    run_until(reactor, "the reactor is idle", |reactor| {
        let now = (counts(reactor), reactor.stats().events);
        let is_quiet = reactor.next_wait() != Some(Duration::ZERO) && before == Some(now);
        before = Some(now);
        is_quiet
    });
    let (before, events) = before.expect("at least one look");
    for _ in 0..5 {
        reactor.turn(Some(TICK)).expect("the poll works");
    }
    assert_eq!(counts(reactor), before, "busy turns, accepts, reads, writes, closes while idle");
    let events = reactor.stats().events - events;
    assert!(events <= 2 * reactor.connections() as u64, "{events} events while idle");
}

/// A reactor with one recorder that listens on a port of the kernel's choice.
pub struct Server {
    pub reactor: Reactor,
    pub handler: HandlerId<Recorder>,
    pub listener: ListenerId,
    pub address: SocketAddr,
    pub calls: Calls,
}

impl Server {
    pub fn new(recorder: Recorder) -> Server {
        Server::with(recorder, &ListenOptions::new(), ReactorLimits::new().connections_max(512))
    }

    pub fn with_limits(recorder: Recorder, limits: oneloop::Limits) -> Server {
        let options = ListenOptions::new().limits(limits);
        Server::with(recorder, &options, ReactorLimits::new().connections_max(512))
    }

    pub fn with(recorder: Recorder, options: &ListenOptions, limits: ReactorLimits) -> Server {
        let mut reactor = Reactor::with_limits(limits).expect("limits are valid");
        let calls = recorder.calls.clone();
        let handler = reactor.add(recorder);
        let (listener, address) = listen(&mut reactor, handler, options);
        Server { reactor, handler, listener, address, calls }
    }

    /// Connects a client; the server need not have accepted it yet.
    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Connects a client and waits until the server has opened its connection, whose key it gives.
    pub fn open(&mut self) -> (TcpStream, Key) {
        let before = self.calls.opened().len();
        let client = self.connect();
        self.until("the connection opens", |calls| calls.opened().len() > before);
        (client, self.calls.opened()[before])
    }

    /// Turns until the calls are as they should be.
    pub fn until(&mut self, what: &str, is_done: impl Fn(&Calls) -> bool) {
        let calls = self.calls.clone();
        run_until(&mut self.reactor, &format!("{what}: {calls:?}"), |_| is_done(&calls));
    }

    /// Turns until so many connections have closed.
    pub fn until_closed(&mut self, count: usize) {
        self.until(&format!("{count} closed"), |calls| calls.closed().len() >= count);
        self.calls.check();
    }

    /// Turns until the client has read so many bytes.
    pub fn read(&mut self, client: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_while(client, |received| {
            bytes.extend_from_slice(received);
            bytes.len() < count
        });
        let last = &bytes[bytes.len().saturating_sub(40)..];
        assert_eq!(bytes.len(), count, "the last of them: {}", last.escape_ascii());
        bytes
    }

    /// Turns until the client has read to the end of file or an error, which it gives.
    pub fn read_to_end(&mut self, client: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut bytes = Vec::new();
        let error = self.read_while(client, |received| {
            bytes.extend_from_slice(received);
            true
        });
        (bytes, error)
    }

    /// Turns until the client has read something, or nothing at the end of file.
    pub fn read_some(&mut self, client: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let error = self.read_while(client, |received| {
            bytes.extend_from_slice(received);
            false
        });
        assert_eq!(error, None);
        bytes
    }

    /// One turn, and what the client can read without waiting.
    pub fn try_read(&mut self, client: &mut TcpStream) -> Vec<u8> {
        self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let count = match client.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        };
        buffer.truncate(count);
        buffer
    }

    fn read_while(
        &mut self,
        client: &mut TcpStream,
        mut goes_on: impl FnMut(&[u8]) -> bool,
    ) -> Option<io::ErrorKind> {
        client.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let mut error = None;
        run_until(&mut self.reactor, "the client has read what it waits for", |_| {
            loop {
                match client.read(&mut buffer) {
                    Ok(0) => return true,
                    Ok(count) => {
                        if !goes_on(&buffer[..count]) {
                            return true;
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(e) => {
                        error = Some(e.kind());
                        return true;
                    }
                }
            }
        });
        client.set_nonblocking(false).unwrap();
        error
    }

    /// Writes all of it from the client, turning whenever its socket is full; stops at an error,
    /// which it gives.
    pub fn write(&mut self, client: &mut TcpStream, mut data: &[u8]) -> Option<io::ErrorKind> {
        client.set_nonblocking(true).unwrap();
        let mut error = None;
        run_until(&mut self.reactor, "the client has written what it has", |_| {
            while !data.is_empty() {
                match client.write(data) {
                    Ok(count) => data = &data[count..],
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(e) => {
                        error = Some(e.kind());
                        return true;
                    }
                }
            }
            true
        });
        client.set_nonblocking(false).unwrap();
        error
    }

    /// A round trip of a connection that a broken one must not have harmed.
    pub fn assert_echoes(&mut self, client: &mut TcpStream) {
        client.write_all(b"still there?").unwrap();
        assert_eq!(self.read(client, 12), b"still there?");
    }

    /// Turns until `is_done`, and gives the largest step that `counter` took in one turn.
    pub fn largest_step(
        &mut self,
        counter: fn(&Stats) -> u64,
        mut is_done: impl FnMut(&Stats) -> bool,
    ) -> u64 {
        let mut before = counter(self.reactor.stats());
        let mut largest = 0;
        run_until(&mut self.reactor, "the steps are made", |reactor| {
            let now = counter(reactor.stats());
            largest = largest.max(now - before);
            before = now;
            is_done(reactor.stats())
        });
        largest
    }

    pub fn assert_idle(&mut self) {
        assert_idle(&mut self.reactor);
    }
}

/// Ends the whole test process if it is not dropped within the deadline: for waits that nothing in
/// this process could end, such as those of `run` and `turn(None)`.
#[must_use]
pub struct Watchdog(#[allow(dead_code, reason = "what it is for is to be dropped")] Sender<()>);

impl Watchdog {
    pub fn new(what: &'static str) -> Watchdog {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            if receiver.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("waited in vain until {what}");
                process::abort();
            }
        });
        Watchdog(sender)
    }
}

/// A raw source that is readable, and what keeps it open.
pub fn signal() -> (PipeSender, PipeReceiver) {
    let (mut sender, receiver) = pipe();
    sender.write_all(b"x").unwrap();
    (sender, receiver)
}

/// A client whose socket holds little, so that the server's output backs up.
pub fn connect_small(address: SocketAddr) -> TcpStream {
    connect_from(Ipv4Addr::LOCALHOST, 16 * 1024, address)
}

/// What a test's callbacks note of themselves.
pub type Noted<T> = Rc<RefCell<Vec<T>>>;

/// Two of it: one for the test, one for a callback.
pub fn noted<T>() -> (Noted<T>, Noted<T>) {
    let notes = Noted::default();
    (Rc::clone(&notes), notes)
}

/// As a callback that takes too long: everything else has to wait.
pub fn stall(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {}
}

/// For tests of what only a kernel has: false in a simulation.
pub fn needs_kernel(why: &str) -> bool {
    if !HAS_KERNEL {
        println!("left out of the simulation: {why}");
    }
    HAS_KERNEL
}

/// For tests of what TCP does and Unix sockets do not: false where clients come over those.
pub fn needs_tcp(why: &str) -> bool {
    if !IS_TCP {
        println!("left out over Unix sockets: {why}");
    }
    IS_TCP
}

/// For tests that count what depends on how Linux reports events: false in a simulation that grants
/// only what drivers promise.
pub fn needs_linux(why: &str) -> bool {
    if !COUNTS_AS_LINUX {
        println!("left out of the simulation: {why}");
    }
    COUNTS_AS_LINUX
}

/// Bytes that tell where they stand, so that a piece lost, doubled or swapped is seen.
pub fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i ^ (i >> 8) ^ (i >> 16).wrapping_mul(7)) as u8).collect()
}

/// For tests that count descriptors or memory, or change what belongs to the whole process: runs the
/// test `name` again, alone in a process of its own. False in the first process, where
/// there is nothing left to do then; true in the second.
///
/// # Panics
///
/// If the test fails there, with its output.
pub fn alone(name: &str) -> bool {
    // A simulation has descriptors of its own.
    !HAS_KERNEL || needs_tcp("it is run by itself") && alone_also_in_simulation(name)
}

/// The same for what belongs to the process in a simulation, too, such as its logger.
pub fn alone_also_in_simulation(name: &str) -> bool {
    const ALONE: &str = "ONELOOP_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &full_name_of(name), "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        // Large blocks go back to the system when they are freed (mallopt(3)), so that what is
        // resident tells what is held.
        .env("MALLOC_MMAP_THRESHOLD_", "65536");
    let output = apart(|| command.output()).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name} alone: {}\n{out}{err}", output.status);
    assert!(out.contains("1 passed"), "no test is called {name}:\n{out}");
    false
}

/// Bytes of this process that are resident now.
pub fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
