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

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{self, Command};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant as MachineInstant};

use oneloop::{
    CloseReason, ConnectError, Connection, Context, Error, HandlerId, Key, ListenOptions,
    ListenerId, ReactorLimits, StreamHandler, TimerId,
};

#[path = "../kernel/mod.rs"]
pub mod kernel;
pub mod world;

pub use crate::support::world::*;

/// Nothing takes so long unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The longest wait of one turn: what a condition that no event announces may be late.
const TICK: Duration = Duration::from_millis(2);

/// One call of a [`Recorder`].
#[derive(Clone, PartialEq, Debug)]
pub enum Call {
    Start,
    Accept(SocketAddr),
    Open(Key),
    Data(Key, Vec<u8>),
    Drained(Key),
    PeerClosed(Key),
    Timer(Key, TimerId),
    Poke(Key),
    Close(Key, CloseReason),
    ConnectFailed(Key, u64, ConnectError),
    HandlerTimer(TimerId),
}

/// The calls so far, in order; clones share them.
#[derive(Clone, Default)]
pub struct Calls(Rc<RefCell<Vec<Call>>>);

/// Long data is cut.
impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |call: &Call| match call {
            Call::Data(key, data) => {
                let start = &data[..data.len().min(40)];
                format!("Data({key}, {} bytes: {})", data.len(), start.escape_ascii())
            }
            call => format!("{call:?}"),
        };
        f.debug_list().entries(self.0.borrow().iter().map(entry)).finish()
    }
}

impl Calls {
    pub fn push(&self, call: Call) {
        self.0.borrow_mut().push(call);
    }

    pub fn all(&self) -> Vec<Call> {
        self.0.borrow().clone()
    }

    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    pub fn count(&self, is_meant: impl Fn(&Call) -> bool) -> usize {
        self.0.borrow().iter().filter(|call| is_meant(call)).count()
    }

    pub fn has(&self, call: &Call) -> bool {
        self.0.borrow().contains(call)
    }

    /// The keys of all connections that opened, in order.
    pub fn opened(&self) -> Vec<Key> {
        let calls = self.0.borrow();
        calls
            .iter()
            .filter_map(|c| if let Call::Open(key) = c { Some(*key) } else { None })
            .collect()
    }

    /// The connections that closed, in order.
    pub fn closed(&self) -> Vec<(Key, CloseReason)> {
        let calls = self.0.borrow();
        let closes = calls.iter().filter_map(|call| match call {
            Call::Close(key, reason) => Some((*key, *reason)),
            _ => None,
        });
        closes.collect()
    }

    pub fn reasons(&self) -> Vec<CloseReason> {
        self.closed().into_iter().map(|(_, reason)| reason).collect()
    }

    /// What each call of `on_data` for any connection was shown.
    pub fn shown(&self) -> Vec<Vec<u8>> {
        let calls = self.0.borrow();
        let data = calls.iter().filter_map(|call| match call {
            Call::Data(_, data) => Some(data.clone()),
            _ => None,
        });
        data.collect()
    }

    /// Checks what holds of every sequence of calls: `on_open` first and `on_close` last, each once.
    pub fn check(&self) {
        let calls = self.0.borrow();
        let mut open = std::collections::HashMap::new();
        for call in calls.iter() {
            match call {
                Call::Open(key) => {
                    assert_eq!(open.insert(*key, true), None, "{key} opened twice: {calls:?}");
                }
                Call::Close(key, _) => {
                    assert_eq!(open.insert(*key, false), Some(true), "{key} closed: {calls:?}");
                }
                Call::Data(key, _)
                | Call::Drained(key)
                | Call::PeerClosed(key)
                | Call::Timer(key, _)
                | Call::Poke(key) => {
                    assert_eq!(open.get(key), Some(&true), "{key} is not open: {calls:?}");
                }
                Call::Start | Call::Accept(_) | Call::ConnectFailed(..) | Call::HandlerTimer(_) => {
                }
            }
        }
    }
}

type Data = dyn FnMut(&mut Connection<'_>, &[u8]) -> Result<usize, Error>;
type Each = dyn FnMut(&mut Connection<'_>);

/// A handler that notes every call and then does what its closures say; without any it consumes
/// everything, says nothing and leaves the rest to the trait's defaults.
///
/// It checks that no callback is entered from inside another one (also of another recorder with the
/// same `depth`), and that every connection is given its own session.
pub struct Recorder {
    pub calls: Calls,
    pub depth: Rc<Cell<u32>>,
    start: Box<dyn FnMut(&mut Context<'_>)>,
    accept: Box<dyn FnMut(SocketAddr, &mut Context<'_>) -> bool>,
    open: Box<Each>,
    data: Box<Data>,
    drained: Box<Each>,
    peer_closed: Box<Each>,
    timer: Box<dyn FnMut(&mut Connection<'_>, TimerId)>,
    poke: Box<Each>,
    close: Box<dyn FnMut(Key, CloseReason, &mut Context<'_>)>,
    connect_failed: Box<dyn FnMut(Key, u64, ConnectError, &mut Context<'_>)>,
    handler_timer: Box<dyn FnMut(TimerId, &mut Context<'_>)>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder::new()
    }
}

impl Recorder {
    pub fn new() -> Recorder {
        Recorder {
            calls: Calls::default(),
            depth: Rc::default(),
            start: Box::new(|_| {}),
            accept: Box::new(|_, _| true),
            open: Box::new(|_| {}),
            data: Box::new(|_, data| Ok(data.len())),
            drained: Box::new(|_| {}),
            peer_closed: Box::new(|conn| conn.close()),
            timer: Box::new(|_, _| {}),
            poke: Box::new(|_| {}),
            close: Box::new(|_, _, _| {}),
            connect_failed: Box::new(|_, _, _, _| {}),
            handler_timer: Box::new(|_, _| {}),
        }
    }

    /// Sends back what it is sent.
    pub fn echo() -> Recorder {
        Recorder::new().data(|conn, data| {
            conn.send(data).ignore();
            Ok(data.len())
        })
    }

    pub fn start(mut self, f: impl FnMut(&mut Context<'_>) + 'static) -> Recorder {
        self.start = Box::new(f);
        self
    }

    pub fn accept(
        mut self,
        f: impl FnMut(SocketAddr, &mut Context<'_>) -> bool + 'static,
    ) -> Recorder {
        self.accept = Box::new(f);
        self
    }

    pub fn open(mut self, f: impl FnMut(&mut Connection<'_>) + 'static) -> Recorder {
        self.open = Box::new(f);
        self
    }

    pub fn data(
        mut self,
        f: impl FnMut(&mut Connection<'_>, &[u8]) -> Result<usize, Error> + 'static,
    ) -> Recorder {
        self.data = Box::new(f);
        self
    }

    pub fn drained(mut self, f: impl FnMut(&mut Connection<'_>) + 'static) -> Recorder {
        self.drained = Box::new(f);
        self
    }

    pub fn peer_closed(mut self, f: impl FnMut(&mut Connection<'_>) + 'static) -> Recorder {
        self.peer_closed = Box::new(f);
        self
    }

    pub fn timer(mut self, f: impl FnMut(&mut Connection<'_>, TimerId) + 'static) -> Recorder {
        self.timer = Box::new(f);
        self
    }

    pub fn poke(mut self, f: impl FnMut(&mut Connection<'_>) + 'static) -> Recorder {
        self.poke = Box::new(f);
        self
    }

    pub fn close(
        mut self,
        f: impl FnMut(Key, CloseReason, &mut Context<'_>) + 'static,
    ) -> Recorder {
        self.close = Box::new(f);
        self
    }

    pub fn connect_failed(
        mut self,
        f: impl FnMut(Key, u64, ConnectError, &mut Context<'_>) + 'static,
    ) -> Recorder {
        self.connect_failed = Box::new(f);
        self
    }

    pub fn handler_timer(mut self, f: impl FnMut(TimerId, &mut Context<'_>) + 'static) -> Recorder {
        self.handler_timer = Box::new(f);
        self
    }

    fn enter(&self, call: Call) -> Inside {
        self.calls.push(call);
        self.depth.set(self.depth.get() + 1);
        assert_eq!(self.depth.get(), 1, "a callback inside a callback: {:?}", self.calls);
        Inside(Rc::clone(&self.depth))
    }
}

/// Lowers the depth again, also when the callback panics.
struct Inside(Rc<Cell<u32>>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl StreamHandler for Recorder {
    type Session = Key;

    fn accept(&mut self, peer: SocketAddr, cx: &mut Context<'_>) -> bool {
        let _inside = self.enter(Call::Accept(peer));
        (self.accept)(peer, cx)
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Key {
        let _inside = self.enter(Call::Open(conn.key()));
        (self.open)(conn);
        conn.key()
    }

    fn on_data(
        &mut self,
        session: &mut Key,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        assert_eq!(*session, conn.key());
        assert!(!data.is_empty());
        let _inside = self.enter(Call::Data(*session, data.to_vec()));
        (self.data)(conn, data)
    }

    fn on_drained(&mut self, session: &mut Key, conn: &mut Connection<'_>) {
        assert_eq!(*session, conn.key());
        let _inside = self.enter(Call::Drained(*session));
        (self.drained)(conn);
    }

    fn on_peer_closed(&mut self, session: &mut Key, conn: &mut Connection<'_>) {
        assert_eq!(*session, conn.key());
        let _inside = self.enter(Call::PeerClosed(*session));
        (self.peer_closed)(conn);
    }

    fn on_timer(&mut self, session: &mut Key, conn: &mut Connection<'_>, timer: TimerId) {
        assert_eq!(*session, conn.key());
        let _inside = self.enter(Call::Timer(*session, timer));
        (self.timer)(conn, timer);
    }

    fn on_poke(&mut self, session: &mut Key, conn: &mut Connection<'_>) {
        assert_eq!(*session, conn.key());
        let _inside = self.enter(Call::Poke(*session));
        (self.poke)(conn);
    }

    fn on_close(&mut self, session: Key, key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        assert_eq!(session, key);
        let _inside = self.enter(Call::Close(key, reason));
        (self.close)(key, reason, cx);
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        let _inside = self.enter(Call::Start);
        (self.start)(cx);
    }

    fn on_connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        let _inside = self.enter(Call::ConnectFailed(key, tag, error));
        (self.connect_failed)(key, tag, error, cx);
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        let _inside = self.enter(Call::HandlerTimer(timer));
        (self.handler_timer)(timer, cx);
    }
}

/// Turns the reactor until `is_done`, which is asked before every turn.
///
/// # Panics
///
/// After the deadline, naming what did not happen.
pub fn run_until(reactor: &mut Reactor, what: &str, mut is_done: impl FnMut(&mut Reactor) -> bool) {
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
        let listener = reactor.listen_with(handler, "127.0.0.1:0", options).expect("a free port");
        let address = reactor.listener_address(listener).expect("it listens");
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
        assert_eq!(bytes.len(), count, "{:?}", bytes.escape_ascii().to_string());
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

/// For tests of what only a kernel has: false in a simulation.
pub fn needs_kernel(why: &str) -> bool {
    if !HAS_KERNEL {
        println!("left out of the simulation: {why}");
    }
    HAS_KERNEL
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
/// test `name` of this file again, alone in a process of its own. False in the first process, where
/// there is nothing left to do then; true in the second.
///
/// # Panics
///
/// If the test fails there, with its output.
pub fn alone(name: &str) -> bool {
    // A simulation has descriptors of its own.
    !HAS_KERNEL || is_alone(name)
}

/// The same for what belongs to the process in a simulation, too, such as its logger: there `file` is
/// the module that the test is in.
pub fn alone_also_in_simulation(file: &str, name: &str) -> bool {
    match file.split_once("::") {
        Some((_, modules)) => is_alone(&format!("{modules}::{name}")),
        None => is_alone(name),
    }
}

fn is_alone(name: &str) -> bool {
    const ALONE: &str = "ONELOOP_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        // Large blocks go back to the system when they are freed (mallopt(3)), so that what is
        // resident tells what is held.
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .output()
        .unwrap();
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
