//! What holds on every platform, and what is an error where it is lacking. These tests use nothing but the standard
//! library and oneloop, so that they can be built and run anywhere; see tests/platforms.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use oneloop::{
    CloseReason, ConnectError, ConnectOptions, Connection, Context, Datagram, DatagramHandler,
    DatagramSocket, Error, Handle, Key, ListenOptions, Reactor, SocketOptions, StreamHandler,
};

const DEADLINE: Duration = Duration::from_secs(20);

struct Echo;

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }
}

impl DatagramHandler for Echo {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        socket.send_to(datagram.from, datagram.data).ignore();
    }
}

/// A server on a thread of its own, which another thread wakes to stop it.
struct Server {
    address: SocketAddr,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(
        start: impl FnOnce(&mut Reactor) -> std::io::Result<SocketAddr> + Send + 'static,
    ) -> Server {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let address = start(&mut reactor).unwrap();
            sender.send((address, reactor.handle().unwrap())).unwrap();
            reactor.run().unwrap();
        });
        let (address, handle) = receiver.recv_timeout(DEADLINE).expect("the server starts");
        Server { address, handle, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.handle.stop();
        let ended = self.thread.take().expect("it ends once").join();
        if !thread::panicking() {
            stopped.unwrap();
            ended.expect("the server does not panic");
        }
    }
}

fn listen(reactor: &mut Reactor) -> std::io::Result<SocketAddr> {
    let echo = reactor.add(Echo);
    let listener = reactor.listen(echo, "127.0.0.1:0")?;
    Ok(reactor.listener_address(listener)?.inet().expect("TCP"))
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    client
}

/// A client that reads nothing until nobody takes any more from it: the reactor has to be told of room.
#[test]
fn megabytes_come_back_whole_and_then_the_end() {
    const PERIOD: usize = 3 * 256;
    let server = Server::new(listen);
    let mut client = connect(server.address);
    client.set_nonblocking(true).unwrap();
    let pattern: Vec<u8> = (0..100 * PERIOD).map(|n| (n / 3) as u8).collect();
    let mut sent = 0;
    let mut taken_at = Instant::now();
    while taken_at.elapsed() < Duration::from_millis(200) {
        match client.write(&pattern[sent % PERIOD..]) {
            Ok(count) => {
                sent += count;
                taken_at = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
    client.shutdown(Shutdown::Write).unwrap();
    client.set_nonblocking(false).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), sent);
    assert!(received.iter().enumerate().all(|(n, byte)| *byte == (n / 3) as u8));
}

#[test]
fn clients_are_served_side_by_side() {
    let server = Server::new(listen);
    let mut clients: Vec<_> = (0..100).map(|_| connect(server.address)).collect();
    for round in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            write!(client, "{round:03} {number:03}").unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut answer = [0; 7];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, format!("{round:03} {number:03}").as_bytes());
        }
    }
}

#[test]
fn datagrams_come_back_also_when_nobody_heard_the_one_before() {
    let server = Server::new(|reactor| {
        let echo = reactor.add_datagram_handler(Echo);
        let socket = reactor.bind(echo, "127.0.0.1:0")?;
        Ok(reactor.datagram_address(socket)?.inet().expect("UDP"))
    });
    let client = || {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client
    };
    client().send_to(b"I will be gone", server.address).unwrap();
    let client = client();
    let mut buffer = [0; 100];
    for data in [&b"one"[..], b"", b"three"] {
        client.send_to(data, server.address).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (data, server.address));
    }
}

/// Tells what became of the connections that it makes.
struct Caller {
    to: [(SocketAddr, ConnectOptions); 2],
    told: Rc<RefCell<Vec<String>>>,
}

impl Caller {
    fn tell(&mut self, what: String) {
        self.told.borrow_mut().push(what);
    }
}

impl StreamHandler for Caller {
    type Session = Vec<u8>;

    fn on_start(&mut self, cx: &mut Context<'_>) {
        for (tag, (to, options)) in self.to.iter().enumerate() {
            cx.connect_with(*to, tag as u64, &Rc::new(options.clone()));
        }
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Vec<u8> {
        conn.send(b"anybody?").ignore();
        Vec::new()
    }

    fn on_data(
        &mut self,
        session: &mut Vec<u8>,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        session.extend_from_slice(data);
        if session.len() == 8 {
            self.tell(String::from_utf8(session.clone())?);
            conn.close();
        }
        Ok(data.len())
    }

    fn on_connect_failed(&mut self, _: Key, tag: u64, error: ConnectError, _: &mut Context<'_>) {
        self.tell(format!("{tag}: {error:?}"));
    }

    fn on_close(&mut self, _: Vec<u8>, _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.tell(format!("{reason:?}"));
    }
}

#[test]
fn an_outbound_connection_opens_or_is_refused() {
    let server = Server::new(listen);
    // Who has connected has a port on which nobody listens, and keeps it.
    let client = connect(server.address);
    let to = [server.address, client.local_addr().unwrap()];
    let told = told_of(to.map(|to| (to, ConnectOptions::new())), 3);
    assert_eq!(told, ["1: Refused", "Closed", "anybody?"]);
}

/// What so many times is told of connections, in the order of the alphabet.
fn told_of(to: [(SocketAddr, ConnectOptions); 2], times: usize) -> Vec<String> {
    let told: Rc<RefCell<Vec<String>>> = Rc::default();
    let mut reactor = Reactor::new().unwrap();
    reactor.add(Caller { to, told: Rc::clone(&told) });
    let start = Instant::now();
    while told.borrow().len() < times {
        assert!(start.elapsed() < DEADLINE, "no more than {told:?}");
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
    let mut told = told.take();
    told.sort();
    told
}

#[test]
fn a_socket_option_that_a_platform_lacks_is_an_error_of_the_connect() {
    let server = Server::new(listen);
    let socket = |options| (server.address, ConnectOptions::new().socket(options));
    let options = SocketOptions::new;
    let to = [socket(options().nodelay(false)), socket(options().user_timeout(DEADLINE))];
    match cfg!(target_os = "linux") {
        true => assert_eq!(told_of(to, 4), ["Closed", "Closed", "anybody?", "anybody?"]),
        false => assert_eq!(told_of(to, 3), ["1: Io(Unsupported)", "Closed", "anybody?"]),
    }
}

/// Only on Linux is all of it there; elsewhere nothing is left out in silence.
#[test]
fn what_a_platform_lacks_is_an_error_with_its_name() {
    let linux = cfg!(target_os = "linux");
    let new = ListenOptions::new;
    let socket = |options: SocketOptions| new().socket(options);
    let second = Duration::from_secs(1);
    for (address, options, name, is_there) in [
        ("127.0.0.1:0", new(), "", true),
        ("127.0.0.1:0", socket(SocketOptions::new().nodelay(false)), "nodelay", true),
        ("127.0.0.1:0", socket(SocketOptions::new().user_timeout(second)), "user_timeout", linux),
        ("127.0.0.1:0", socket(SocketOptions::new().traffic_class(8)), "traffic_class", linux),
        ("127.0.0.1:0", new().reuse_port(true), "reuse_port", linux || cfg!(target_os = "freebsd")),
        ("unix:@oneloop-portable", new(), "Unix socket", linux),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let echo = reactor.add(Echo);
        match reactor.listen_with(echo, address, &options) {
            Ok(_) => assert!(is_there, "{name} is taken"),
            Err(error) => {
                assert!(!is_there, "{name}: {error}");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
                assert!(error.to_string().contains(name), "{name}: {error}");
            }
        }
    }
}
