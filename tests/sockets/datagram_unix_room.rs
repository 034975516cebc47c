//! Unix datagram sockets whose receivers have no room.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::{Duration, Instant};

use oneloop::address::UnixName;
use oneloop::{CloseReason, DatagramLimits, DatagramOptions, Queued, SocketAddress};

use crate::support::datagrams::*;
use crate::support::unix_datagrams::*;
use crate::support::*;

/// A socket that is connected is told of room by an event, for which it asks no longer than it waits.
#[test]
fn a_connected_socket_waits_for_room_and_sends_all_in_order() {
    let (receiver, name) = client();
    let options = DatagramOptions::new().connect(name.clone());
    let mut server = UnixServer::new(Datagrams::listens(), None, &options);
    let full = server.fill(None);
    for number in 0..100_u8 {
        assert_eq!(server.send(None, &[number]), Queued::Ok);
    }
    assert_idle(&mut server.reactor);
    assert_eq!(server.reactor.next_wait(), None, "it waits for an event");
    let mut came = Vec::new();
    run_until(&mut server.reactor, "all have come", |_| {
        came.extend(receive(&receiver));
        came.len() as u64 == full + 101
    });
    assert!(came[..=full as usize].iter().all(|data| data == b"full"));
    assert!((0..100_u8).eq(came[full as usize + 1..].iter().map(|data| data[0])));
    assert_idle(&mut server.reactor);
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_dropped, stats.datagram_bytes_waiting), (0, 0));
    assert_eq!(server.calls.borrow().len(), 1, "nothing failed");
}

/// Others have filled the receiver's queue: this socket is writable all the while, and no event tells it when
/// there is room.
#[test]
fn an_unconnected_socket_tries_again_by_itself() {
    let (receiver, name) = client();
    let mut other = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
    other.fill(Some(&name));
    let mut server = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
    server.send(Some(&name), b"patience").ignore();
    // One turn: it may be tried for the last time in any other.
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.reactor.stats().datagram_bytes_waiting, b"patience".len());
    assert!(receive(&receiver).is_some());
    server.until_sent(1);
    assert_eq!(server.calls.borrow().len(), 1, "nothing failed");
    assert_idle(&mut server.reactor);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
}

/// Even if it is connected to somebody else, whose room an event would tell of.
#[test]
fn a_connected_socket_tries_again_by_itself_whom_it_names() {
    let ((_peer, peer), (receiver, name)) = (client(), client());
    let mut other = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
    other.fill(Some(&name));
    let options = DatagramOptions::new().connect(peer);
    let mut server = UnixServer::new(Datagrams::listens(), None, &options);
    server.send(Some(&name), b"patience").ignore();
    // One turn: it may be tried for the last time in any other.
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.reactor.stats().datagram_bytes_waiting, b"patience".len());
    assert!(receive(&receiver).is_some());
    server.until_sent(1);
    assert_eq!(server.calls.borrow().len(), 1, "nothing failed");
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
}

#[test]
fn a_receiver_without_room_holds_nobody_up_and_is_given_up_in_time() {
    let ((_stuck, stuck), (receiver, name)) = (client(), client());
    let mut server = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
    server.fill(Some(&stuck));
    server.send(Some(&stuck), b"never").ignore();
    server.send(Some(&name), b"behind it").ignore();
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(receive(&receiver).unwrap(), b"behind it");
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "both are given up", |_| calls.borrow().len() == 3);
    let about = Some(SocketAddress::Unix(stuck));
    let failed = DatagramCall::Failed(about, ErrorKind::WouldBlock);
    assert_eq!(server.calls.borrow()[1..], [failed.clone(), failed]);
    assert_eq!(server.reactor.stats().datagrams_dropped, 2);
    assert_idle(&mut server.reactor);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
}

/// Who reads nothing fills the queue, and then loses what it has stood aside for the longest.
#[test]
fn a_queue_that_is_full_of_what_stands_aside_has_room_for_others() {
    let ((_stuck, stuck), (receiver, name)) = (client(), client());
    let options = DatagramOptions::new().limits(DatagramLimits::new().queue_len_max(20));
    let mut server = UnixServer::new(Datagrams::listens(), None, &options);
    server.fill(Some(&stuck));
    for _ in 1..20 {
        assert_eq!(server.send(Some(&stuck), b"never"), Queued::Ok);
    }
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.send(Some(&stuck), b"never"), Queued::Full, "not for itself");
    for number in 0..5 {
        assert_eq!(server.send(Some(&name), &[number]), Queued::Ok);
    }
    let about = Some(SocketAddress::Unix(stuck));
    let failed = DatagramCall::Failed(about, ErrorKind::WouldBlock);
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is told", |_| calls.borrow().contains(&failed));
    assert!((0..5).all(|number| receive(&receiver) == Some(vec![number])));
    assert_eq!(server.calls.borrow()[1..], vec![failed; 5]);
    assert_eq!(server.reactor.stats().datagrams_dropped, 6);
}

/// If those that may be dropped are too small, they stay.
#[test]
fn who_finds_no_room_for_itself_has_pushed_nobody_out() {
    let ((_first, first), (_second, second), (receiver, name)) = (client(), client(), client());
    for stuck in [&first, &second] {
        UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new()).fill(Some(stuck));
    }
    let limits = DatagramLimits::new().queue_bytes_max(100).send_timeout(Duration::from_secs(60));
    let options = DatagramOptions::new().limits(limits);
    let mut server = UnixServer::new(Datagrams::listens(), None, &options);
    for (stuck, bytes) in [(&first, 10), (&second, 80)] {
        assert_eq!(server.send(Some(stuck), &vec![0; bytes]), Queued::Ok);
        server.reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(server.send(Some(&second), &[0; 50]), Queued::Full, "its own one would have to go");
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_dropped, stats.datagram_bytes_waiting), (1, 90));
    assert_eq!(server.calls.borrow().len(), 1, "nothing that waits has failed");
    assert_eq!(server.send(Some(&name), &[0; 50]), Queued::Ok, "others may go for a third one");
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(receive(&receiver), Some(vec![0; 50]));
    let failed = |to| DatagramCall::Failed(Some(SocketAddress::Unix(to)), ErrorKind::WouldBlock);
    assert_eq!(server.calls.borrow()[1..], [failed(first), failed(second), DatagramCall::Room]);
}

/// Of those that have stood aside for equally long, the ones to others go.
#[test]
fn who_came_in_the_same_turn_makes_room_for_one_to_another_receiver() {
    let ((_first, first), (_second, second)) = (client(), client());
    for stuck in [&first, &second] {
        UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new()).fill(Some(stuck));
    }
    let limits = DatagramLimits::new().queue_len_max(2).send_timeout(Duration::from_secs(60));
    let options = DatagramOptions::new().limits(limits);
    let mut server = UnixServer::new(Datagrams::listens(), None, &options);
    for stuck in [&first, &second] {
        assert_eq!(server.send(Some(stuck), b"together"), Queued::Ok);
    }
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.send(Some(&first), b"one more"), Queued::Ok);
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    let failed = DatagramCall::Failed(Some(SocketAddress::Unix(second)), ErrorKind::WouldBlock);
    assert_eq!(server.calls.borrow()[1..], [failed]);
}

/// Each of them costs a call, although nothing leaves.
#[test]
fn tries_on_receivers_without_room_are_within_the_budget_of_a_turn() {
    let full: Vec<_> = (0..5).map(|_| client()).collect();
    for (_, name) in &full {
        UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new()).fill(Some(name));
    }
    let options = DatagramOptions::new().limits(DatagramLimits::new().datagrams_per_turn_max(2));
    let mut server = UnixServer::new(Datagrams::listens(), None, &options);
    for (_, name) in &full {
        assert_eq!(server.send(Some(name), b"x"), Queued::Ok);
    }
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(server.reactor.next_wait(), Some(Duration::ZERO), "the rest is the next turn's");
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "all are given up", |_| calls.borrow().len() == 6);
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
}

/// Each of them costs a search, although nothing is tried.
#[test]
fn datagrams_that_stand_aside_untried_are_within_the_budget_of_a_turn() {
    let ((_stuck, stuck), (receiver, name)) = (client(), client());
    let limits = DatagramLimits::new().datagrams_per_turn_max(2);
    let options = DatagramOptions::new().limits(limits.send_timeout(Duration::from_secs(60)));
    let mut server = UnixServer::new(Datagrams::listens(), None, &options);
    server.fill(Some(&stuck));
    for _ in 0..10 {
        assert_eq!(server.send(Some(&stuck), b"behind the first"), Queued::Ok);
    }
    assert_eq!(server.send(Some(&name), b"behind it"), Queued::Ok);
    for _ in 0..2 {
        server.reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(receive(&receiver), None);
        assert_eq!(server.reactor.next_wait(), Some(Duration::ZERO), "the rest is the next turn's");
    }
    let sent = server.reactor.stats().datagrams_out;
    server.until_sent(sent + 1);
    assert_eq!(receive(&receiver).unwrap(), b"behind it");
    assert_eq!(server.calls.borrow().len(), 1, "nothing failed");
}

/// A socket whose queue of two is full of datagrams that stand aside, one of whom was dropped.
fn full(to: &UnixName) -> UnixServer {
    let options = DatagramOptions::new().limits(DatagramLimits::new().queue_len_max(2));
    let mut server = UnixServer::new(Datagrams::listens(), None, &options);
    server.fill(Some(to));
    assert_eq!(server.send(Some(to), b"the second"), Queued::Ok);
    assert_eq!(server.send(Some(to), b"too many"), Queued::Full);
    server
}

#[test]
fn who_was_told_that_the_queue_is_full_is_told_of_room_when_the_last_leave_from_standing_aside() {
    let (receiver, name) = client();
    let mut server = full(&name);
    // One turn: they may be tried for the last time in any other.
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    while receive(&receiver).is_some() {}
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is told of room", |_| {
        calls.borrow().contains(&DatagramCall::Room)
    });
    assert_eq!(calls.borrow().len(), 2, "once, and nothing failed");
    assert_idle(&mut server.reactor);
}

#[test]
fn who_was_told_that_the_queue_is_full_is_told_of_room_when_the_last_are_given_up() {
    let (_stuck, stuck) = client();
    let mut server = full(&stuck);
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is told of room", |_| {
        calls.borrow().contains(&DatagramCall::Room)
    });
    let failed = DatagramCall::Failed(Some(SocketAddress::Unix(stuck)), ErrorKind::WouldBlock);
    assert_eq!(calls.borrow()[1..], [failed.clone(), failed, DatagramCall::Room]);
    assert_idle(&mut server.reactor);
}

/// Not even as long as it takes for those who are closed: each gets what it has room for.
#[test]
fn a_socket_that_is_closed_hands_over_what_others_have_room_for() {
    let ((_stuck, stuck), (receiver, name)) = (client(), client());
    let mut server = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
    let full = server.fill(Some(&stuck));
    server.send(Some(&stuck), b"never").ignore();
    server.send(Some(&name), b"last words").ignore();
    server.reactor.context(server.handler).close_key(server.key);
    run_until(&mut server.reactor, "it is closed", |reactor| reactor.stats().datagram_sockets == 0);
    assert_eq!(receive(&receiver).unwrap(), b"last words");
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_out, stats.datagrams_dropped), (full + 1, 2));
}

#[test]
fn a_socket_that_waits_ends_with_what_waits_and_its_timer() {
    let (_stuck, stuck) = client();
    let mut server = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
    server.fill(Some(&stuck));
    server.reactor.context(server.handler).close_key(server.key);
    let closed = DatagramCall::Close(server.key, CloseReason::Closed);
    let calls = Rc::clone(&server.calls);
    run_until(&mut server.reactor, "it is closed", |_| calls.borrow().contains(&closed));
    assert_eq!(server.reactor.next_wait(), None, "no timer is left");
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_dropped, stats.datagram_bytes_waiting), (1, 0));
}

/// Clients that ask an echo with many datagrams in flight, each with its number.
struct Clients {
    sockets: Vec<UnixDatagram>,
    /// What each is to send and to receive next.
    next: Vec<(u32, u32)>,
}

const IN_FLIGHT_MAX: u32 = 128;

impl Clients {
    /// They are connected, so that not their own queues are full, but the echo's buffer.
    fn new(count: usize, server: &UnixName) -> Clients {
        let connected = || {
            let (client, _) = client();
            client.connect_addr(&to(server)).unwrap();
            client
        };
        let sockets = std::iter::repeat_with(connected).take(count).collect();
        Clients { sockets, next: vec![(0, 0); count] }
    }

    /// Sends what there is room for, of so many each: how many left.
    fn send(&mut self, each: u32) -> usize {
        let mut count = 0;
        for (socket, (sent, received)) in self.sockets.iter().zip(&mut self.next) {
            while *sent < each && *sent - *received < IN_FLIGHT_MAX {
                match socket.send(&sent.to_be_bytes()) {
                    Ok(_) => (*sent, count) = (*sent + 1, count + 1),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
        }
        count
    }

    fn receive(&mut self) {
        for (socket, (_, received)) in self.sockets.iter().zip(&mut self.next) {
            while let Some(data) = receive(socket) {
                assert_eq!(data, received.to_be_bytes(), "all come, and in order");
                *received += 1;
            }
        }
    }
}

/// They read all, but not before the echo's buffer is full, and some of the times late, as clients do that share a
/// processor.
#[test]
fn receivers_that_read_lose_nothing() {
    const EACH: u32 = 25_000;
    let name = name();
    // A machine that stands still for a second would be taken for receivers that do.
    let options = DatagramOptions::new().limits(DatagramLimits::new().send_timeout(DEADLINE));
    let mut server = UnixServer::new(Datagrams::echo(), Some(&name), &options);
    let mut clients = Clients::new(4, &name);
    let (mut times_late, mut since) = (0, None);
    run_until(&mut server.reactor, "all are answered", |reactor| {
        if clients.send(EACH) > 0 {
            return false;
        }
        let since_when = *since.get_or_insert_with(Instant::now);
        if reactor.stats().datagram_bytes_waiting > 0 && times_late < 20 {
            if since_when.elapsed() < Duration::from_millis(25) {
                return false;
            }
            times_late += 1;
        }
        since = None;
        clients.receive();
        clients.next.iter().all(|(_, received)| *received == EACH)
    });
    assert_eq!(times_late, 20);
    let stats = server.reactor.stats();
    assert_eq!((stats.datagrams_dropped, stats.datagram_errors), (0, 0));
    assert_eq!(stats.datagrams_out, u64::from(4 * EACH));
}

#[test]
fn one_that_cannot_leave_from_an_address_is_not_put_behind_those_that_wait_for_room() {
    let (_receiver, name) = client();
    let mut server = UnixServer::new(Datagrams::listens(), None, &DatagramOptions::new());
    server.fill(Some(&name));
    let (calls, to) = (server.calls.borrow().len(), SocketAddress::Unix(name));
    let mut cx = server.reactor.context(server.handler);
    cx.send_datagram_from(server.key, Ipv4Addr::LOCALHOST.into(), &to, b"x").ignore();
    server.reactor.turn(Some(Duration::ZERO)).unwrap();
    let error = DatagramCall::Failed(Some(to), ErrorKind::InvalidInput);
    assert_eq!(server.calls.borrow()[calls..], [error]);
}
