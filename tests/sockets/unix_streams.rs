//! Unix streams in the loop: how often it is woken, output that waits for room, and connections that it makes itself.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use oneloop::address::UnixName;
use oneloop::{
    CloseReason, ConnectError, Limits, ListenOptions, Origin, ReactorLimits, SocketAddress,
};

use crate::support::*;

/// A name that no other test has.
fn name() -> UnixName {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    UnixName::from_abstract(format!("oneloop-streams-{}-{number}", process::id())).unwrap()
}

struct Echoes {
    reactor: Reactor,
    client: TcpStream,
}

impl Echoes {
    fn new(limits: Limits) -> Echoes {
        Echoes::with(Recorder::echo(), limits)
    }

    fn with(recorder: Recorder, limits: Limits) -> Echoes {
        let mut reactor =
            Reactor::with_limits(ReactorLimits::new().connections_max(8)).expect("good limits");
        let handler = reactor.add(recorder);
        let name = name();
        let options = ListenOptions::new().limits(limits);
        reactor.listen_with(handler, name.clone(), &options).expect("a name of its own");
        let client = connect_unix(&name).expect("it listens");
        client.set_nonblocking(true).unwrap();
        run_until(&mut reactor, "it is open", |reactor| reactor.connections() == 1);
        Echoes { reactor, client }
    }

    /// How many bytes there are to read now.
    fn read(&mut self) -> usize {
        let mut count = 0;
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.client.read(&mut buffer) {
                Ok(0) => panic!("an end of file"),
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn round_trip(&mut self) {
        self.client.write_all(b"hello").unwrap();
        let mut left = 5;
        while left > 0 {
            self.reactor.turn(Some(DEADLINE)).unwrap();
            left -= self.read();
        }
    }

    /// The events of so many round trips, and those that their end brings.
    fn events_of(&mut self, round_trips: u64) -> u64 {
        let before = self.reactor.stats().events;
        (0..round_trips).for_each(|_| self.round_trip());
        assert_idle(&mut self.reactor);
        self.reactor.stats().events - before
    }
}

/// The kernel says that a Unix socket is writable whenever its peer has read something.
#[test]
fn an_echo_wakes_the_loop_once() {
    let mut echoes = Echoes::new(Limits::new());
    assert_eq!(echoes.events_of(100), 100);
}

#[test]
fn after_output_that_waited_for_room_an_echo_wakes_the_loop_once_again() {
    let limits = Limits::new().output_bytes_high(1 << 20);
    let mut echoes = Echoes::new(limits);
    for _ in 0..3 {
        // More than the sockets hold.
        let mut data = &pattern(1 << 20)[..];
        let mut left = data.len();
        let before = echoes.reactor.stats().write_would_blocks;
        while !data.is_empty() && echoes.reactor.stats().write_would_blocks == before {
            match echoes.client.write(data) {
                Ok(count) => data = &data[count..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            echoes.reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
        }
        assert!(echoes.reactor.stats().write_would_blocks > before, "it had to wait");
        while left > 0 {
            if let Ok(count) = echoes.client.write(data) {
                data = &data[count..];
            }
            echoes.reactor.turn(Some(std::time::Duration::ZERO)).unwrap();
            left -= echoes.read();
        }
        assert_idle(&mut echoes.reactor);
        assert_eq!(echoes.events_of(100), 100);
    }
}

/// Both ends are the same reactor's: what is sent, with megabytes in both directions, and who the other side is.
#[test]
fn a_connection_that_we_make_is_open_at_once_and_carries_megabytes_both_ways() {
    const MUCH: usize = 8 << 20;
    let name = name();
    let (notes, seen) = noted();
    let received: Rc<RefCell<Vec<u8>>> = Rc::default();
    let all = Rc::clone(&received);
    let recorder = Recorder::new()
        .open(move |conn| {
            if conn.origin() == Origin::Connected(7) {
                let peer = conn.peer_address().unwrap();
                seen.borrow_mut().push((peer, conn.peer_credentials().unwrap().pid));
                conn.send(&pattern(MUCH)).ignore();
            }
        })
        .data(move |conn, data| {
            match conn.origin() {
                Origin::Accepted(_) => conn.send(data).ignore(),
                Origin::Adopted(_) => unreachable!("nothing is adopted here"),
                Origin::Connected(_) => {
                    all.borrow_mut().extend_from_slice(data);
                    if all.borrow().len() == MUCH {
                        conn.close();
                    }
                }
            }
            Ok(data.len())
        });
    let calls = recorder.calls.clone();
    let mut reactor = Reactor::with_limits(ReactorLimits::new().connections_max(8)).unwrap();
    let handler = reactor.add(recorder);
    reactor.listen_with(handler, name.clone(), &ListenOptions::new()).unwrap();
    let limits = Limits::new().output_bytes_high(2 * MUCH).output_bytes_max(4 * MUCH);
    reactor.set_connect_limits(limits).unwrap();
    reactor.context(handler).connect(name.clone(), 7);
    run_until(&mut reactor, "both are closed", |_| calls.closed().len() == 2);
    assert!(*received.borrow() == pattern(MUCH), "what came back is what was sent");
    assert_eq!(*notes.borrow(), [(SocketAddress::Unix(name), Some(process::id()))]);
    assert_eq!(reactor.stats().connects, 1);
    assert!(calls.reasons().contains(&CloseReason::Closed), "{:?}", calls.reasons());
    calls.check();
}

#[test]
fn a_connect_to_a_path_that_nobody_listens_on_is_refused() {
    let path = std::env::temp_dir().join(format!("oneloop-refused-{}.sock", process::id()));
    let _ = std::fs::remove_file(&path);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let recorder = Recorder::new();
    let calls = recorder.calls.clone();
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(recorder);
    let key = reactor.context(handler).connect(UnixName::from_path(&path).unwrap(), 7);
    let refused = Call::ConnectFailed(key, 7, ConnectError::Refused);
    run_until(&mut reactor, "it is refused", |_| calls.all().contains(&refused));
    std::fs::remove_file(&path).unwrap();
}

/// A Unix socket has no reset: who is aborted sees an end of file.
#[test]
fn an_abort_is_an_end_of_file() {
    let recorder = Recorder::new().data(|conn, data| {
        conn.send(b"dropped").ignore();
        conn.abort();
        Ok(data.len())
    });
    let mut echoes = Echoes::with(recorder, Limits::new());
    echoes.client.write_all(b"hello").unwrap();
    run_until(&mut echoes.reactor, "it is over", |reactor| reactor.connections() == 0);
    assert_eq!(echoes.client.read(&mut [0; 8]).unwrap(), 0);
}
