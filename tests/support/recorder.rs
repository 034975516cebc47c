//! A handler that records its calls.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{
    CloseReason, ConnectError, Connection, Context, Deadline, Error, Key, ListenerId, Peer, Signal,
    SocketAddress, StreamHandler, TimerId,
};

/// What stands for the address of a Unix socket.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

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
    Deadline(Key, Deadline),
    Poke(Key),
    Drain(Key),
    Close(Key, CloseReason),
    ConnectFailed(Key, u64, ConnectError),
    HandlerTimer(TimerId),
    Listening(ListenerId, Result<SocketAddr, io::ErrorKind>),
    Signal(Signal),
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

    /// The signals that were told of, in order.
    pub fn signals(&self) -> Vec<Signal> {
        let calls = self.0.borrow();
        calls
            .iter()
            .filter_map(|c| if let Call::Signal(signal) = c { Some(*signal) } else { None })
            .collect()
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
                | Call::Deadline(key, _)
                | Call::Poke(key)
                | Call::Drain(key) => {
                    assert_eq!(open.get(key), Some(&true), "{key} is not open: {calls:?}");
                }
                Call::Start
                | Call::Accept(_)
                | Call::ConnectFailed(..)
                | Call::HandlerTimer(_)
                | Call::Listening(..)
                | Call::Signal(_) => {}
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
    deadline: Box<dyn FnMut(&mut Connection<'_>, Deadline) -> Option<Duration>>,
    poke: Box<Each>,
    drain: Box<Each>,
    close: Box<dyn FnMut(Key, CloseReason, &mut Context<'_>)>,
    connect_failed: Box<dyn FnMut(Key, u64, ConnectError, &mut Context<'_>)>,
    handler_timer: Box<dyn FnMut(TimerId, &mut Context<'_>)>,
    listening: Box<dyn FnMut(ListenerId, io::Result<SocketAddr>, &mut Context<'_>)>,
    signal: Box<dyn FnMut(Signal, &mut Context<'_>)>,
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
            deadline: Box::new(|_, _| None),
            poke: Box::new(|_| {}),
            drain: Box::new(|conn| {
                if !(conn.is_paused() || conn.is_over_high()) {
                    conn.close();
                }
            }),
            close: Box::new(|_, _, _| {}),
            connect_failed: Box::new(|_, _, _, _| {}),
            handler_timer: Box::new(|_, _| {}),
            listening: Box::new(|_, _, _| {}),
            signal: Box::new(|_, _| {}),
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

    pub fn drain(mut self, f: impl FnMut(&mut Connection<'_>) + 'static) -> Recorder {
        self.drain = Box::new(f);
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

    pub fn deadline(
        mut self,
        f: impl FnMut(&mut Connection<'_>, Deadline) -> Option<Duration> + 'static,
    ) -> Recorder {
        self.deadline = Box::new(f);
        self
    }

    pub fn handler_timer(mut self, f: impl FnMut(TimerId, &mut Context<'_>) + 'static) -> Recorder {
        self.handler_timer = Box::new(f);
        self
    }

    pub fn listening(
        mut self,
        f: impl FnMut(ListenerId, io::Result<SocketAddr>, &mut Context<'_>) + 'static,
    ) -> Recorder {
        self.listening = Box::new(f);
        self
    }

    pub fn signal(mut self, f: impl FnMut(Signal, &mut Context<'_>) + 'static) -> Recorder {
        self.signal = Box::new(f);
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

    fn accept(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> bool {
        let peer = peer.address().inet().unwrap_or(NO_ADDRESS);
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

    fn on_drain(&mut self, session: &mut Key, conn: &mut Connection<'_>) {
        assert_eq!(*session, conn.key());
        let _inside = self.enter(Call::Drain(*session));
        (self.drain)(conn);
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

    fn on_deadline(
        &mut self,
        session: &mut Key,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        assert_eq!(*session, conn.key());
        let _inside = self.enter(Call::Deadline(*session, deadline));
        (self.deadline)(conn, deadline)
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        let _inside = self.enter(Call::HandlerTimer(timer));
        (self.handler_timer)(timer, cx);
    }

    fn on_listening(
        &mut self,
        listener: ListenerId,
        result: io::Result<SocketAddress>,
        cx: &mut Context<'_>,
    ) {
        let result = result.map(|address| address.inet().unwrap_or(NO_ADDRESS));
        let outcome = result.as_ref().map_err(io::Error::kind).copied();
        let _inside = self.enter(Call::Listening(listener, outcome));
        (self.listening)(listener, result, cx);
    }

    fn on_signal(&mut self, signal: Signal, cx: &mut Context<'_>) {
        let _inside = self.enter(Call::Signal(signal));
        (self.signal)(signal, cx);
    }
}
