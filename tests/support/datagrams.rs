//! A datagram handler that notes its calls, and does in each what a test says.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use oneloop::{
    CloseReason, Context, Datagram, DatagramHandler, DatagramOptions, DatagramSocket, Key,
    SocketAddress, TimerId,
};

use super::*;

/// What a datagram handler was called for.
#[derive(Clone, PartialEq, Debug)]
pub enum DatagramCall {
    Bound,
    /// Its bytes, who sent it, and how many bytes were sent.
    Datagram(Vec<u8>, SocketAddress, usize),
    Room,
    Failed(Option<SocketAddress>, ErrorKind),
    Timer(TimerId),
    Drain,
    Close(Key, CloseReason),
    /// What it says.
    BindFailed(Key, ErrorKind, String),
}

pub type DatagramCalls = Rc<RefCell<Vec<DatagramCall>>>;

type Act = Box<dyn FnMut(&mut DatagramSocket<'_>, &DatagramCall)>;

/// Notes every call, and then acts.
pub struct Datagrams {
    pub calls: DatagramCalls,
    act: Act,
}

impl Datagrams {
    pub fn new(act: impl FnMut(&mut DatagramSocket<'_>, &DatagramCall) + 'static) -> Datagrams {
        Datagrams { calls: DatagramCalls::default(), act: Box::new(act) }
    }

    pub fn echo() -> Datagrams {
        Datagrams::new(|socket, call| {
            if let DatagramCall::Datagram(data, from, _) = call {
                socket.send_to(from, data).ignore();
            }
            closes_on_drain(socket, call);
        })
    }

    /// Does nothing, but closes when the reactor drains.
    pub fn listens() -> Datagrams {
        Datagrams::new(closes_on_drain)
    }

    fn called(&mut self, socket: &mut DatagramSocket<'_>, call: DatagramCall) {
        self.calls.borrow_mut().push(call.clone());
        (self.act)(socket, &call);
    }
}

pub fn closes_on_drain(socket: &mut DatagramSocket<'_>, call: &DatagramCall) {
    if *call == DatagramCall::Drain {
        socket.close();
    }
}

impl DatagramHandler for Datagrams {
    fn on_bound(&mut self, socket: &mut DatagramSocket<'_>) {
        self.called(socket, DatagramCall::Bound);
    }

    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        let Datagram { data, from, length, .. } = datagram;
        assert_eq!(datagram.is_truncated(), length != data.len());
        self.called(socket, DatagramCall::Datagram(data.to_vec(), from.clone(), length));
    }

    fn on_room(&mut self, socket: &mut DatagramSocket<'_>) {
        self.called(socket, DatagramCall::Room);
    }

    fn on_send_failed(
        &mut self,
        socket: &mut DatagramSocket<'_>,
        to: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        self.called(socket, DatagramCall::Failed(to.cloned(), error.kind()));
    }

    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, timer: TimerId) {
        self.called(socket, DatagramCall::Timer(timer));
    }

    fn on_drain(&mut self, socket: &mut DatagramSocket<'_>) {
        self.called(socket, DatagramCall::Drain);
    }

    fn on_close(&mut self, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.calls.borrow_mut().push(DatagramCall::Close(key, reason));
    }

    fn on_bind_failed(&mut self, key: Key, error: io::Error, _: &mut Context<'_>) {
        let call = DatagramCall::BindFailed(key, error.kind(), error.to_string());
        self.calls.borrow_mut().push(call);
    }
}

/// A reactor with one socket, bound to loopback.
pub struct Bound {
    pub reactor: Reactor,
    pub handler: HandlerId<Datagrams>,
    pub key: Key,
    pub address: SocketAddr,
    pub calls: DatagramCalls,
}

impl Bound {
    pub fn new(datagrams: Datagrams) -> Bound {
        Bound::with(datagrams, "127.0.0.1:0", &DatagramOptions::new())
    }

    pub fn with(datagrams: Datagrams, address: &str, options: &DatagramOptions) -> Bound {
        Bound::with_buffer(datagrams, address, options, 64 * 1024)
    }

    pub fn with_buffer(
        datagrams: Datagrams,
        address: &str,
        options: &DatagramOptions,
        read_buffer_bytes: usize,
    ) -> Bound {
        let limits = ReactorLimits::new().connections_max(16).read_buffer_bytes(read_buffer_bytes);
        let mut reactor = Reactor::with_limits(limits).unwrap();
        let calls = Rc::clone(&datagrams.calls);
        let handler = reactor.add_datagram_handler(datagrams);
        let key = reactor.bind_with(handler, address, options).unwrap();
        let address = reactor.datagram_address(key).unwrap().inet().unwrap();
        Bound { reactor, handler, key, address, calls }
    }

    pub fn until(&mut self, what: &str, is_done: impl Fn(&[DatagramCall]) -> bool) {
        let calls = Rc::clone(&self.calls);
        run_until(&mut self.reactor, what, |_| is_done(&calls.borrow()));
    }

    /// Sends with the socket from outside of its callbacks.
    pub fn send(&mut self, to: SocketAddr, data: &[u8]) -> oneloop::Queued {
        self.reactor.context(self.handler).send_datagram(self.key, Some(&to.into()), data)
    }

    /// The bytes of all datagrams that were shown.
    pub fn shown(&self) -> Vec<Vec<u8>> {
        let calls = self.calls.borrow();
        let shown = calls.iter().filter_map(|call| match call {
            DatagramCall::Datagram(data, ..) => Some(data.clone()),
            _ => None,
        });
        shown.collect()
    }

    /// Whom each failure was about, and what it was.
    pub fn failed(&self) -> Vec<(Option<SocketAddress>, ErrorKind)> {
        let calls = self.calls.borrow();
        let failed = calls.iter().filter_map(|call| match call {
            DatagramCall::Failed(to, kind) => Some((to.clone(), *kind)),
            _ => None,
        });
        failed.collect()
    }

    /// What comes to a client next.
    pub fn received(&mut self, client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 70_000];
        let mut received = None;
        run_until(&mut self.reactor, "a datagram comes", |_| {
            match client.recv_from(&mut buffer) {
                Ok(came) => received = Some(came),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            received.is_some()
        });
        let (count, from) = received.expect("it came");
        (buffer[..count].to_vec(), from)
    }
}
