//! Pipes that are forwarded to a connection, or from one: each has one direction, and ends with it.

#![allow(clippy::useless_conversion, reason = "only in simulation an end is what a reactor adopts")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::support::*;
use oneloop::{CloseReason, Ended, Key};

/// Longer than any of these drains takes.
const LONG: Duration = Duration::from_secs(3600);

/// What netcat is: a connection between an input and an output.
struct Netcat {
    server: Server,
    client: TcpStream,
    writer: PipeEnd,
    reader: PipeEnd,
    input: Key,
    socket: Key,
    output: Key,
}

impl Netcat {
    fn new() -> Netcat {
        let mut server = Server::new(Recorder::new());
        let (client, socket) = server.open();
        let (input, writer) = pipe_ends();
        let (reader, output) = pipe_ends();
        let input = server.reactor.adopt(server.handler, input.into(), 1).unwrap();
        let output = server.reactor.adopt(server.handler, output.into(), 2).unwrap();
        server.until("all are open", |calls| calls.opened().len() == 3);
        Netcat { server, client, writer, reader, input, socket, output }
    }

    fn forward(&mut self, from: Key, to: Key) {
        assert!(self.server.reactor.context(self.server.handler).forward(from, to));
    }

    fn both_ways(mut self) -> Netcat {
        self.forward(self.input, self.socket);
        self.forward(self.socket, self.output);
        self
    }

    /// The client has said all, and the output has that.
    fn end_output(&mut self) {
        self.client.shutdown(Shutdown::Write).unwrap();
        let output = self.output;
        self.server.until("the output is closed", |calls| {
            calls.closed() == [(output, CloseReason::Closed)]
        });
        assert_eq!(self.reader.read(&mut [0]).unwrap(), 0);
    }

    fn is_told_of_the_end(&self) -> bool {
        self.server.calls.has(&Call::PeerClosed(self.socket))
    }
}

/// The input ends, and the answer to it is still to come.
#[test]
fn the_end_of_a_pipe_half_closes_the_connection_that_it_feeds() {
    let Netcat { mut server, mut client, mut writer, mut reader, .. } = Netcat::new().both_ways();
    writer.write_all(b"the question").unwrap();
    drop(writer);
    assert_eq!(server.read_to_end(&mut client), (b"the question".to_vec(), None));
    server.until("the input is closed", |calls| calls.reasons() == [CloseReason::PeerClosed]);
    client.write_all(b"the answer").unwrap();
    drop(client);
    server.until_closed(3);
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"the answer");
    server.assert_idle();
}

/// The peer has said all, and there is still something for it.
#[test]
fn the_end_of_what_is_forwarded_to_a_pipe_leaves_the_other_direction_open() {
    let mut netcat = Netcat::new().both_ways();
    netcat.end_output();
    netcat.server.assert_idle();
    netcat.writer.write_all(b"still").unwrap();
    assert_eq!(netcat.server.read(&mut netcat.client, 5), b"still");
    drop(netcat.writer);
    assert_eq!(netcat.server.read_to_end(&mut netcat.client), (vec![], None));
    netcat.server.until_closed(3);
    let calls = &netcat.server.calls;
    assert!(!calls.has(&Call::PeerClosed(netcat.socket)), "it was forwarded, and both are done");
}

#[test]
fn an_end_that_a_pipe_has_taken_is_told_to_the_handler_when_the_pipe_is_closed() {
    let mut netcat = Netcat::new();
    netcat.forward(netcat.socket, netcat.output);
    netcat.end_output();
    let socket = netcat.socket;
    netcat.server.until("it is told", |calls| calls.has(&Call::PeerClosed(socket)));
    netcat.server.until_closed(2);
    assert_eq!(netcat.server.calls.closed()[1], (socket, CloseReason::PeerClosed));
}

#[test]
fn an_end_that_a_pipe_has_taken_is_told_to_the_handler_when_nothing_is_forwarded_any_more() {
    let mut netcat = Netcat::new().both_ways();
    netcat.end_output();
    netcat.server.assert_idle();
    assert!(!netcat.is_told_of_the_end());
    let input = netcat.input;
    assert!(netcat.server.reactor.context(netcat.server.handler).end_forward(input));
    let socket = netcat.socket;
    netcat.server.until("it is told", |calls| calls.has(&Call::PeerClosed(socket)));
}

/// It was the handler's own, and is no news.
#[test]
fn an_end_that_was_told_is_not_told_again_when_a_pipe_no_longer_feeds_the_connection() {
    let mut server = Server::new(Recorder::new().peer_closed(|_| {}));
    let (client, socket) = server.open();
    let (input, _writer) = pipe_ends();
    let input = server.reactor.adopt(server.handler, input.into(), 1).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.until("it is told", |calls| calls.has(&Call::PeerClosed(socket)));
    let mut cx = server.reactor.context(server.handler);
    assert!(cx.forward(input, socket) && cx.end_forward(input));
    server.assert_idle();
    assert_eq!(server.calls.count(|call| *call == Call::PeerClosed(socket)), 1);
}

#[test]
fn who_was_fed_by_a_pipe_that_has_ended_is_in_the_drain() {
    let mut netcat = Netcat::new();
    netcat.forward(netcat.input, netcat.socket);
    netcat.server.reactor.drain(LONG);
    netcat.server.until("the output is drained", |calls| calls.closed().len() == 1);
    let Netcat { mut server, mut client, mut writer, socket, .. } = netcat;
    server.assert_idle();
    writer.write_all(b"the last").unwrap();
    drop(writer);
    assert_eq!(server.read_to_end(&mut client), (b"the last".to_vec(), None));
    server.until("it is told", |calls| calls.has(&Call::Drain(socket)));
    drop(client);
    run_until(&mut server.reactor, "the drain is over", |reactor| !reactor.is_draining());
    assert_eq!(server.reactor.report().unwrap().connections_finished, 3);
}

#[test]
fn who_was_forwarded_to_a_pipe_that_has_ended_is_in_the_drain() {
    let mut netcat = Netcat::new();
    netcat.forward(netcat.socket, netcat.output);
    netcat.server.reactor.drain(LONG);
    let socket = netcat.socket;
    netcat.server.until("the input is drained", |calls| calls.closed().len() == 1);
    netcat.client.write_all(b"the last").unwrap();
    netcat.client.shutdown(Shutdown::Write).unwrap();
    let server = &mut netcat.server;
    run_until(&mut server.reactor, "the drain is over", |reactor| !reactor.is_draining());
    assert_eq!(server.reactor.report().unwrap().end, Ended::Drained);
    assert!(server.calls.has(&Call::PeerClosed(socket)) || server.calls.has(&Call::Drain(socket)));
    let mut last = Vec::new();
    netcat.reader.read_to_end(&mut last).unwrap();
    assert_eq!(last, b"the last");
}
