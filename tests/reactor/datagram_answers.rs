//! From where the answers of a socket leave that is bound to all addresses of the machine.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use oneloop::{
    Datagram, DatagramHandler, DatagramLimits, DatagramOptions, DatagramSocket, HandlerId, Key,
    SocketAddress, TimerId,
};

use crate::support::*;

/// Answers at once, or a little later; and notes for where the datagrams were, and what failed.
struct Answering {
    is_later: bool,
    asked: Option<(SocketAddress, IpAddr)>,
    seen: Rc<RefCell<Vec<Option<IpAddr>>>>,
    failed: Rc<RefCell<Vec<ErrorKind>>>,
}

impl DatagramHandler for Answering {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        self.seen.borrow_mut().push(datagram.to);
        if self.is_later {
            self.asked = datagram.to.map(|to| (datagram.from.clone(), to));
            socket.set_timer(Duration::from_millis(1));
        } else {
            socket.send_to(datagram.from, datagram.data).ignore();
        }
    }

    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, _: TimerId) {
        let (to, from) = self.asked.take().unwrap();
        let key = socket.key();
        socket.send_datagram_from(key, from, &to, b"hello").ignore();
    }

    fn on_send_failed(
        &mut self,
        _: &mut DatagramSocket<'_>,
        _: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        self.failed.borrow_mut().push(error.kind());
    }
}

struct Server {
    reactor: Reactor,
    handler: HandlerId<Answering>,
    key: Key,
    port: u16,
    seen: Rc<RefCell<Vec<Option<IpAddr>>>>,
    failed: Rc<RefCell<Vec<ErrorKind>>>,
}

impl Server {
    fn new(address: &str, is_later: bool, options: &DatagramOptions) -> Server {
        let mut reactor = Reactor::new().unwrap();
        let (seen, failed) = (Rc::default(), Rc::default());
        let handler = reactor.add_datagram_handler(Answering {
            is_later,
            asked: None,
            seen: Rc::clone(&seen),
            failed: Rc::clone(&failed),
        });
        let key = reactor.bind_with(handler, address, options).unwrap();
        let port = reactor.datagram_address(key).unwrap().port().unwrap();
        Server { reactor, handler, key, port, seen, failed }
    }

    fn at(address: &str) -> Server {
        Server::new(address, false, &DatagramOptions::new())
    }

    /// Asks at one of the machine's addresses: from where the answer comes.
    fn answer(&mut self, client: &UdpSocket, ip: IpAddr) -> SocketAddr {
        client.send_to(b"hello", SocketAddr::new(ip, self.port)).unwrap();
        self.receive(client)
    }

    fn receive(&mut self, client: &UdpSocket) -> SocketAddr {
        let (mut buffer, mut came) = ([0; 10], None);
        run_until(&mut self.reactor, "an answer comes", |_| {
            came = client.recv_from(&mut buffer).ok();
            came.is_some()
        });
        let (length, from) = came.unwrap();
        assert_eq!(buffer[..length], *b"hello");
        from
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Each with whom a client has to be bound to, to ask there.
const ASKED: [(&str, &str, &str); 5] = [
    ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.1"),
    ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"),
    ("[::]:0", "127.0.0.1:0", "127.0.0.2"),
    ("[::]:0", "[::1]:0", "::1"),
    ("*:0", "127.0.0.1:0", "127.0.0.3"),
];

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    for (bound, client, asked) in ASKED {
        let (mut server, client) = (Server::at(bound), udp_at(client));
        let expected = SocketAddr::new(ip(asked), server.port);
        assert_eq!(server.answer(&client, ip(asked)), expected, "{bound}");
        let seen = server.seen.borrow()[0].map(|seen| seen.to_canonical());
        assert_eq!(seen, Some(ip(asked)));
    }
}

#[test]
fn an_answer_that_is_given_later_leaves_from_where_it_is_said() {
    for (bound, client, asked) in ASKED {
        let mut server = Server::new(bound, true, &DatagramOptions::new());
        let expected = SocketAddr::new(ip(asked), server.port);
        assert_eq!(server.answer(&udp_at(client), ip(asked)), expected, "{bound}");
    }
}

#[test]
fn what_waits_in_the_queue_leaves_from_where_it_was_asked() {
    let options = DatagramOptions::new().limits(DatagramLimits::new().datagrams_per_turn_max(3));
    let mut server = Server::new("0.0.0.0:0", false, &options);
    let client = udp();
    let asked: Vec<_> = (1..=8).map(|last| IpAddr::from([127, 0, 0, last])).collect();
    for ip in &asked {
        client.send_to(b"hello", SocketAddr::new(*ip, server.port)).unwrap();
    }
    let from: Vec<_> = asked.iter().map(|_| server.receive(&client).ip()).collect();
    assert_eq!(from, asked);
}

/// It has one only, and the kernel is not asked.
#[test]
fn of_a_socket_with_an_address_of_its_own_it_is_not_told() {
    let mut server = Server::at("127.0.0.2:0");
    let from = server.answer(&udp(), ip("127.0.0.2"));
    assert_eq!(from.ip(), ip("127.0.0.2"));
    assert_eq!(*server.seen.borrow(), [None]);
}

/// What is for somebody else than the sender leaves as the routes say.
#[test]
fn only_an_answer_to_the_sender_leaves_from_where_it_was_asked() {
    let mut server = Server::at("0.0.0.0:0");
    let (client, key) = (udp(), server.key);
    let to = client.local_addr().unwrap().into();
    let mut cx = server.reactor.context(server.handler);
    cx.send_datagram(key, Some(&to), b"hello").ignore();
    assert_eq!(server.receive(&client).ip(), ip("127.0.0.1"));
}

#[test]
fn to_leave_from_an_address_that_the_machine_does_not_have_is_told() {
    // Seen on Linux 6.18: each family has an error of its own.
    for (bound, to, foreign, error) in [
        ("0.0.0.0:0", "127.0.0.1:9", "192.0.2.1", ErrorKind::NetworkUnreachable),
        ("[::]:0", "127.0.0.1:9", "192.0.2.1", ErrorKind::NetworkUnreachable),
        ("[::]:0", "[::1]:9", "2001:db8::1", ErrorKind::InvalidInput),
        // As one family shows it to the other one,
        ("0.0.0.0:0", "127.0.0.1:9", "::ffff:192.0.2.1", ErrorKind::NetworkUnreachable),
        // ... and of another family than the receiver's, of which the kernel takes no notice, or complains.
        ("0.0.0.0:0", "127.0.0.1:9", "::1", ErrorKind::InvalidInput),
        ("[::]:0", "127.0.0.1:9", "::1", ErrorKind::InvalidInput),
        ("[::]:0", "[::1]:9", "127.0.0.1", ErrorKind::InvalidInput),
    ] {
        let mut server = Server::at(bound);
        let to = to.parse::<SocketAddr>().unwrap().into();
        let mut cx = server.reactor.context(server.handler);
        cx.send_datagram_from(server.key, ip(foreign), &to, b"hello").ignore();
        let failed = Rc::clone(&server.failed);
        run_until(&mut server.reactor, "it is told", |_| !failed.borrow().is_empty());
        assert_eq!(*failed.borrow(), [error]);
    }
}

#[test]
fn what_is_closed_hands_its_answers_over_from_where_they_were_asked() {
    let mut server = Server::at("0.0.0.0:0");
    let client = udp();
    let to = client.local_addr().unwrap().into();
    let mut cx = server.reactor.context(server.handler);
    cx.send_datagram_from(server.key, ip("127.0.0.2"), &to, b"hello").ignore();
    cx.close_key(server.key);
    assert_eq!(server.receive(&client).ip(), ip("127.0.0.2"));
}
