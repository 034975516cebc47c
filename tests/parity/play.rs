//! Plays one script in the world that its parent module names.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant as MachineInstant};

use oneloop::address::UnixName;
use oneloop::{ConnectError, ConnectOptions, HandlerId, Key, ListenOptions, ReactorLimits};

use super::world::*;
use crate::seen::{ClientSaw, HandlerSaw, Seen};
use crate::support::{Call, Calls, DEADLINE, Recorder, pattern};
use crate::{Script, Step};

struct Player {
    reactor: Reactor,
    handler: HandlerId<Recorder>,
    calls: Calls,
    client: Option<TcpStream>,
    saw: Vec<ClientSaw>,
}

pub(crate) fn play(script: &Script) -> Seen {
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(16)).unwrap();
    let recorder = (script.recorder)();
    let calls = recorder.calls.clone();
    let handler = reactor.add(recorder);
    let client = if script.is_outbound {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        reactor.context(handler).connect(listener.local_addr().unwrap(), 7);
        for _ in 0..2 {
            reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
        listener.accept().unwrap().0
    } else if script.is_unix {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("oneloop-parity-{}-{number}", std::process::id());
        let name = UnixName::from_abstract(name).unwrap();
        let options = ListenOptions::new().limits(script.limits.clone());
        reactor.listen_with(handler, name.clone(), &options).unwrap();
        connect_unix(&name).unwrap()
    } else {
        let options = ListenOptions::new().limits(script.limits.clone());
        let listener = reactor.listen_with(handler, "127.0.0.1:0", &options).unwrap();
        let address = reactor.listener_address(listener).unwrap().inet().unwrap();
        let buffer_bytes = if script.is_small { 16 * 1024 } else { 0 };
        connect_from(std::net::Ipv4Addr::LOCALHOST, buffer_bytes, address)
    };
    client.set_nonblocking(true).unwrap();
    let client = Some(client);
    let mut player = Player { reactor, handler, calls, client, saw: Vec::new() };
    for step in &script.steps {
        player.step(step);
    }
    // Whatever is left: the client goes, and so does the connection.
    player.client = None;
    player.until("the connection closes", |player| player.calls.closed().len() == 1);
    player.calls.check();
    Seen { handler: player.handler_saw(), client: player.saw }
}

/// Asks a nobody for a connection: what a handler and what a client is told.
pub(crate) fn refused() -> (Vec<Call>, ErrorKind) {
    let (_socket, nobody) = nobody();
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(16)).unwrap();
    let recorder = Recorder::new();
    let calls = recorder.calls.clone();
    let handler = reactor.add(recorder);
    reactor.context(handler).connect(nobody, 7);
    for _ in 0..20 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    (calls.all(), try_connect(nobody).unwrap_err().kind())
}

/// Connects from an address: to a listener, or, from `its own`, to itself. Where it comes from, or why it
/// does not.
pub(crate) fn come_from(from: &str) -> Result<IpAddr, ConnectError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = listener.local_addr().unwrap();
    let (_socket, own) = shared_nobody();
    let (from, to) = match from {
        "its own" => (own, own),
        "the peer's" => (listening, listening),
        ip => (SocketAddr::new(ip.parse().unwrap(), 0), listening),
    };
    let seen = std::rc::Rc::new(std::cell::Cell::new(None));
    let (opened, failed) = (std::rc::Rc::clone(&seen), std::rc::Rc::clone(&seen));
    let recorder = Recorder::new()
        .open(move |conn| {
            opened.set(Some(Ok(conn.local_address().unwrap().inet().unwrap().ip())));
        })
        .connect_failed(move |_, _, error, _| failed.set(Some(Err(error))));
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(16)).unwrap();
    let handler = reactor.add(recorder);
    let options = ConnectOptions::new().from(from);
    reactor.context(handler).connect_with(to, 1, &options.into());
    for _ in 0..20 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    seen.get().expect("it is over")
}

/// Connects to whichever answers first of several: `listens`, or IPv4 or IPv6 addresses that refuse. Which of them
/// that is, or why it is none.
pub(crate) fn race(places: &[&str]) -> Result<usize, ConnectError> {
    let (_socket, refusing) = nobody();
    let mut listeners = Vec::new();
    let addresses = places.iter().map(|place| match *place {
        "listens" => {
            listeners.push(TcpListener::bind("127.0.0.1:0").unwrap());
            listeners.last().unwrap().local_addr().unwrap()
        }
        ip => SocketAddr::new(ip.parse().unwrap(), refusing.port()),
    });
    let addresses: Vec<SocketAddr> = addresses.collect();
    let seen = std::rc::Rc::new(std::cell::Cell::new(None));
    let (opened, failed) = (std::rc::Rc::clone(&seen), std::rc::Rc::clone(&seen));
    let recorder = Recorder::new()
        .open(move |conn| opened.set(Some(Ok(conn.peer_address().unwrap().inet().unwrap()))))
        .connect_failed(move |_, _, error, _| failed.set(Some(Err(error))));
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(16)).unwrap();
    let handler = reactor.add(recorder);
    reactor.context(handler).connect(&addresses[..], 1);
    for _ in 0..20 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    let winner = seen.get().expect("it is over")?;
    Ok(addresses.iter().position(|address| *address == winner).expect("one of them"))
}

/// Listens at one address, and on the same port at another one: how that fails. `only` before an
/// address is for IPv6 clients only, `shared` shares the port.
pub(crate) fn listen_twice(first: &str, second: &str) -> Option<ErrorKind> {
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(16)).unwrap();
    let handler = reactor.add(Recorder::new());
    let mut listen = |text: &str, port: u16| {
        let (options, ip) = match text.split_once(' ') {
            Some(("only", ip)) => (ListenOptions::new().only_v6(true), ip),
            Some((_, ip)) => (ListenOptions::new().reuse_port(true), ip),
            None => (ListenOptions::new(), text),
        };
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        let listener = reactor.listen_with(handler, address, &options)?;
        Ok(reactor.listener_address(listener)?.port().expect("TCP"))
    };
    let port = match listen(first, 0) {
        Ok(port) => port,
        Err(error) => return Some(std::io::Error::kind(&error)),
    };
    listen(second, port).err().map(|error: std::io::Error| error.kind())
}

/// Whether a client that connects to `address` reaches who listens at `listens`, and the two addresses
/// that the handler sees.
pub(crate) fn reach(listens: &str, address: &str) -> Result<(IpAddr, IpAddr), ErrorKind> {
    let seen = std::rc::Rc::new(std::cell::Cell::new(None));
    let saw = std::rc::Rc::clone(&seen);
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(16)).unwrap();
    let handler = reactor.add(Recorder::new().open(move |conn| {
        let ips = (
            conn.local_address().unwrap().inet().unwrap().ip(),
            conn.peer_address().unwrap().inet().unwrap().ip(),
        );
        saw.set(Some(ips));
    }));
    let listener = reactor.listen(handler, (listens.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let port = reactor.listener_address(listener).unwrap().inet().unwrap().port();
    let _client = try_connect(SocketAddr::new(address.parse().unwrap(), port))
        .map_err(|error| error.kind())?;
    for _ in 0..20 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    Ok(seen.get().expect("it is connected"))
}

/// Whether each of two listeners that share a port gets a fair part of the clients.
pub(crate) fn is_spread() -> bool {
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(200)).unwrap();
    let recorders = [Recorder::new(), Recorder::new()];
    let calls = recorders.each_ref().map(|recorder| recorder.calls.clone());
    let options = ListenOptions::new().reuse_port(true);
    let mut port = 0;
    for recorder in recorders {
        let handler = reactor.add(recorder);
        let listener = reactor.listen_with(handler, ("127.0.0.1", port), &options).unwrap();
        port = reactor.listener_address(listener).unwrap().inet().unwrap().port();
    }
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let _clients: Vec<_> = (0..100).map(|_| connect(address)).collect();
    for _ in 0..100 {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    let counts = calls.map(|calls| calls.opened().len());
    assert_eq!(counts.iter().sum::<usize>(), 100, "{counts:?}");
    counts.iter().all(|count| *count >= 20)
}

impl Player {
    fn until(&mut self, what: &str, mut is_done: impl FnMut(&mut Player) -> bool) {
        let start = MachineInstant::now();
        while !is_done(self) {
            assert!(start.elapsed() < DEADLINE, "waited in vain until {what}: {:?}", self.calls);
            self.reactor.turn(Some(Duration::from_millis(2))).unwrap();
        }
    }

    /// Turns until nothing has happened for a while.
    fn settle(&mut self) {
        let (mut before, mut quiet) = (None, 0);
        self.until("nothing happens", |player| {
            let is_quiet = player.reactor.next_wait() != Some(Duration::ZERO);
            let stats = player.reactor.stats();
            let now = (stats.events, stats.reads, stats.writes, player.calls.all().len());
            quiet = if is_quiet && before == Some(now) { quiet + 1 } else { 0 };
            before = Some(now);
            quiet == 4
        });
    }

    fn key(&self) -> Key {
        self.calls.opened().first().copied().unwrap_or(Key::from_bits(0))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Settle => self.settle(),
            Step::Send(count) => self.send(&pattern(*count)),
            Step::Read(count) => self.read(*count, usize::MAX),
            Step::ReadToEnd => self.read(usize::MAX, usize::MAX),
            Step::ReadSlowly => self.read(usize::MAX, 1000),
            Step::ReadWhatIsThere => self.read_what_is_there(),
            Step::SendAndRead(count) => self.send_and_read(*count),
            Step::HalfClose => {
                if let Some(client) = &self.client {
                    // The connection may be reset.
                    let _ = client.shutdown(Shutdown::Write);
                }
            }
            Step::Close => self.client = None,
            Step::Reset => {
                if let Some(client) = self.client.take() {
                    reset(client);
                }
            }
            Step::Do(act) => {
                let key = self.key();
                act(&mut self.reactor.context(self.handler), key);
            }
            Step::UntilShown(count) => self.until("so much is shown", |player| {
                player.calls.shown().iter().map(Vec::len).sum::<usize>() >= *count
            }),
            Step::UntilOpen => self.until("it opens", |player| !player.calls.opened().is_empty()),
            Step::UntilClosed => {
                self.until("it closes", |player| player.calls.closed().len() == 1);
            }
        }
    }

    fn send(&mut self, mut data: &[u8]) {
        let Some(mut client) = self.client.take() else { return };
        let mut error = None;
        self.until("it is sent", |_| {
            while !data.is_empty() {
                match client.write(data) {
                    Ok(count) => data = &data[count..],
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                    Err(e) => {
                        error = Some(e.kind());
                        return true;
                    }
                }
            }
            true
        });
        self.client = Some(client);
        self.saw.push(ClientSaw::Wrote(error));
    }

    /// Reads so many bytes, or to the end; at most `per_turn` in a turn.
    fn read(&mut self, count: usize, per_turn: usize) {
        let Some(mut client) = self.client.take() else { return };
        let mut saw = Vec::new();
        let mut buffer = vec![0; per_turn.min(64 * 1024)];
        let mut end = None;
        self.until("it is read", |_| {
            let mut in_turn = 0;
            while saw.len() < count && in_turn < per_turn {
                let room = buffer.len().min(count - saw.len());
                match client.read(&mut buffer[..room]) {
                    Ok(0) => end = Some(Ok(())),
                    Ok(count) => {
                        in_turn += count;
                        saw.extend_from_slice(&buffer[..count]);
                        continue;
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                    Err(e) => end = Some(Err(e.kind())),
                }
                return true;
            }
            saw.len() == count
        });
        self.client = Some(client);
        self.saw.push(ClientSaw::Read(saw, end));
    }

    fn read_what_is_there(&mut self) {
        let Some(client) = &mut self.client else { return };
        let mut saw = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let end = loop {
            match client.read(&mut buffer) {
                Ok(0) => break Some(Ok(())),
                Ok(count) => saw.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break None,
                Err(e) => break Some(Err(e.kind())),
            }
        };
        self.saw.push(ClientSaw::Read(saw, end));
    }

    /// Sends so many bytes, and reads as many meanwhile.
    fn send_and_read(&mut self, count: usize) {
        let Some(mut client) = self.client.take() else { return };
        let sent = pattern(count);
        let mut rest = &sent[..];
        let mut saw = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        self.until("all came back", |_| {
            if let Ok(count) = client.write(rest) {
                rest = &rest[count..];
            }
            while let Ok(count @ 1..) = client.read(&mut buffer) {
                saw.extend_from_slice(&buffer[..count]);
            }
            saw.len() >= count
        });
        self.client = Some(client);
        self.saw.push(ClientSaw::Read(saw, None));
    }

    /// The calls, without regard to how data was cut and how often output drained.
    fn handler_saw(&self) -> Vec<HandlerSaw> {
        let mut saw: Vec<HandlerSaw> = Vec::new();
        for call in self.calls.all() {
            let next = match call {
                Call::Data(_, data) => {
                    if let Some(HandlerSaw::Data(before)) = saw.last_mut() {
                        before.extend(data);
                        continue;
                    }
                    HandlerSaw::Data(data)
                }
                Call::Open(_) => HandlerSaw::Open,
                Call::PeerClosed(_) => HandlerSaw::PeerClosed,
                Call::Close(_, reason) => HandlerSaw::Close(reason),
                Call::Drained(_) if saw.contains(&HandlerSaw::Drained) => continue,
                Call::Drained(_) => HandlerSaw::Drained,
                Call::Start | Call::Accept(_) => continue,
                call => panic!("{call:?} is in no script"),
            };
            saw.push(next);
        }
        saw
    }
}
