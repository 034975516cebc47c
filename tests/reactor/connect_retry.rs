//! Outbound connections that are tried again.

use std::io::Read;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oneloop::{Backoff, ConnectError, ConnectOptions, Key, Limits, Sent};

use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// So many tries more, each of which may take so long.
fn again(times: u32, timeout: Duration) -> ConnectOptions {
    let limits = Limits::new().connect_timeout(timeout);
    ConnectOptions::new().limits(limits).retry(times, Backoff::new(20 * MS, 40 * MS))
}

/// A client whose first try has failed, or is about to.
fn begun(to: SocketAddr, options: ConnectOptions) -> (Client, Key) {
    let mut client = Client::new(Recorder::new());
    let key = client.cx().connect_with(to, 7, &Rc::new(options));
    client.until("it begins", |calls| calls.has(&Call::Start));
    (client, key)
}

/// A client whose first try has failed, and whose second one is far.
fn between_two_tries(to: SocketAddr, options: ConnectOptions) -> (Client, Key) {
    let long = Duration::from_secs(1000);
    let limits = Limits::new().connect_timeout(2 * DEADLINE);
    let (mut client, key) = begun(to, options.limits(limits).retry(1, Backoff::new(long, long)));
    run_until(&mut client.reactor, "nothing is due before the second one", |reactor| {
        reactor.next_wait().is_some_and(|wait| wait > long / 3)
    });
    (client, key)
}

#[test]
fn an_attempt_is_told_to_have_failed_after_its_last_try_and_once() {
    let (_socket, nobody) = nobody();
    let start = Instant::now();
    let (mut client, key) = begun(nobody, again(3, DEADLINE));
    assert_eq!(client.cx().send_to(key, b"anybody?"), Sent::Ok);
    assert_eq!(client.failed(1), [(key, 7, ConnectError::Refused)]);
    // Half of 20, 40 and 40 ms at least.
    assert!(start.elapsed() >= 50 * MS, "{:?}", start.elapsed());
    assert_eq!(client.reactor.next_wait(), None, "no timer is left behind");
    assert_eq!(client.reactor.stats().memory_bytes, 0);
}

#[test]
fn no_try_more_is_one_try() {
    let (_socket, nobody) = nobody();
    let (mut client, key) = begun(nobody, again(0, DEADLINE));
    assert_eq!(client.failed(1), [(key, 7, ConnectError::Refused)]);
}

#[test]
fn each_try_has_the_whole_time_of_a_connect() {
    let hole = BlackHole::new();
    let start = Instant::now();
    let (mut client, key) = begun(hole.address, again(2, 60 * MS));
    assert_eq!(client.failed(1), [(key, 7, ConnectError::TimedOut)]);
    // Three of them, and half of 20 and 40 ms.
    assert!(start.elapsed() >= 210 * MS, "{:?}", start.elapsed());
}

#[test]
fn a_later_try_opens_the_connection_that_the_first_one_was_for() {
    let hole = BlackHole::new();
    let (mut client, key) = begun(hole.address, again(1000, 60 * MS));
    assert_eq!(client.cx().send_to(key, b"early"), Sent::Ok);
    let start = Instant::now();
    run_until(&mut client.reactor, "a try has failed", |_| start.elapsed() > 100 * MS);
    assert_eq!(client.calls.all(), [Call::Start], "nobody is told of it");
    let (listener, _accepted, _filler) = hole.open();
    client.until("it opens", |calls| !calls.opened().is_empty());
    assert_eq!(client.calls.opened(), [key]);
    assert!(client.cx().is_open(key));
    let (mut peer, _) = listener.accept().unwrap();
    let mut received = [0; 5];
    run_until(&mut client.reactor, "it is sent", |reactor| reactor.stats().bytes_out == 5);
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"early");
    assert_idle(&mut client.reactor);
    let stats = client.reactor.stats();
    assert_eq!((stats.connects, stats.connect_failures), (1, 0));
}

#[test]
fn an_attempt_can_be_cancelled_and_stopped_between_two_tries() {
    let (_socket, nobody) = nobody();
    for (end, reason) in [
        ("close", ConnectError::Cancelled),
        ("abort", ConnectError::Cancelled),
        ("stop", ConnectError::Stopped),
    ] {
        let (mut client, key) = between_two_tries(nobody, ConnectOptions::new());
        match end {
            "close" => client.cx().close_key(key),
            "abort" => client.cx().abort_key(key),
            _ => client.reactor.stop(),
        }
        assert_eq!(client.failed(1), [(key, 7, reason)], "{end}");
        assert_eq!(client.reactor.next_wait(), None, "{end}: no timer is left behind");
    }
}

#[test]
fn a_connection_that_met_itself_is_tried_again_from_the_same_port() {
    let (_socket, address) = shared_nobody();
    let (mut client, key) = begun(address, again(2, DEADLINE).from(address));
    assert_eq!(client.failed(1), [(key, 7, ConnectError::SelfConnected)]);
}

/// The server for which it waits needs it.
#[test]
fn the_port_of_a_connection_that_met_itself_is_free_until_the_next_try() {
    if !needs_kernel("TIME_WAIT") {
        return;
    }
    let (address, _client) = {
        let (_socket, address) = shared_nobody();
        (address, between_two_tries(address, ConnectOptions::new().from(address)))
    };
    // Without SO_REUSEADDR, which overlooks what is in TIME_WAIT.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).expect("it is free");
}

#[test]
fn what_the_reactor_refuses_is_not_tried_again() {
    let hole = BlackHole::new();
    let long = Duration::from_secs(1000);
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
    let options = ConnectOptions::new().retry(9, Backoff::new(long, long)).from(v6);
    let (mut client, key) = begun(hole.address, options);
    let error = ConnectError::Io(std::io::ErrorKind::InvalidInput);
    assert_eq!(client.failed(1), [(key, 7, error)]);
}
