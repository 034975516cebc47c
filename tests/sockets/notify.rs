//! Word to systemd: what a test hears in its place. The reactor is in a process of its own, because the environment
//! tells it where to speak.

#![cfg(feature = "systemd")]

use std::env;
use std::fs;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio, id};
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Recorder, apart, full_name_of};
use oneloop::Reactor;

/// What the process says behind all that its reactor says.
const END: &str = "END";

/// Names the socket at which the process says that it has tried.
const TRIED: &str = "ONELOOP_TEST_TRIED";

/// A test that listens where systemd would.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn new(name: &str) -> Systemd {
        let path = env::temp_dir().join(format!("oneloop-notify-{}-{name}", id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Systemd { socket, path }
    }

    /// Starts a service: the ignored test `name` of this file.
    fn start(&self, name: &str) -> Service {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args([&full_name_of(name), "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", "20000")
            .env(TRIED, self.tried())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Service(apart(|| command.spawn()).unwrap())
    }

    fn tried(&self) -> PathBuf {
        self.path.with_extension("tried")
    }

    fn hear(&self) -> String {
        let mut word = [0; 100];
        let length = self.socket.recv(&mut word).expect("somebody says something");
        String::from_utf8_lossy(&word[..length]).into_owned()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.tried());
    }
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A reactor that tells systemd, and stops after a few words of the watchdog.
fn notifying_reactor() -> (Reactor, oneloop::HandlerId<Recorder>) {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Recorder::new().handler_timer(|_, cx| cx.stop()));
    assert!(reactor.notify_systemd().unwrap());
    (reactor, handler)
}

#[test]
fn every_run_is_ready_and_watched_and_stops() {
    let systemd = Systemd::new("runs");
    let _service = systemd.start("service_that_runs_twice");
    let mut words = vec![systemd.hear()];
    while words.last().is_none_or(|last| last != END) {
        words.push(systemd.hear());
    }
    // How often the watchdog is told depends on the machine.
    words.dedup();
    let run = ["READY=1", "WATCHDOG=1", "STOPPING=1"];
    assert_eq!(words, [&run[..], &run[..], &[END]].concat());
}

#[test]
#[ignore = "it is the service of another test"]
fn service_that_runs_twice() {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let (mut reactor, handler) = notifying_reactor();
    assert!(reactor.notify_systemd().unwrap(), "it tells already");
    for _ in 0..2 {
        reactor.context(handler).set_handler_timer(Duration::from_millis(100));
        reactor.run().unwrap();
    }
    UnixDatagram::unbound().unwrap().send_to(END.as_bytes(), path).unwrap();
}

/// Starts a service while there is no room for what it says, and makes room when it has tried.
fn start_in_a_crowd(systemd: &Systemd, name: &str) -> Service {
    let others = UnixDatagram::unbound().unwrap();
    others.set_nonblocking(true).unwrap();
    let crowd = (0..100_000).take_while(|_| others.send_to(b"others", &systemd.path).is_ok());
    let crowd = crowd.count();
    assert!((1..100_000).contains(&crowd), "{crowd} words fit into the queue");
    let tried = UnixDatagram::bind(systemd.tried()).unwrap();
    tried.set_read_timeout(Some(DEADLINE)).unwrap();
    let service = systemd.start(name);
    tried.recv(&mut []).expect("it says that it has tried");
    for _ in 0..crowd {
        assert_eq!(systemd.hear(), "others");
    }
    service
}

fn say_that_it_has_tried() {
    UnixDatagram::unbound().unwrap().send_to(b"tried", env::var_os(TRIED).unwrap()).unwrap();
}

#[test]
fn ready_is_said_again_until_there_is_room_for_it() {
    let systemd = Systemd::new("full");
    let _service = start_in_a_crowd(&systemd, "service_that_says_when_it_has_tried");
    // The watchdog's words go on, and the waits before another try get longer, up to a second.
    let start = Instant::now();
    while systemd.hear() != "READY=1" {
        assert!(start.elapsed() < DEADLINE, "it is never said again");
    }
}

#[test]
#[ignore = "it is the service of another test"]
fn service_that_says_when_it_has_tried() {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let (mut reactor, _) = notifying_reactor();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    say_that_it_has_tried();
    reactor.run().unwrap();
}

/// It would be ready for good: nobody says a second time that it stops.
#[test]
fn a_service_that_drains_does_not_say_any_more_that_it_is_ready() {
    let systemd = Systemd::new("drains");
    let _service = start_in_a_crowd(&systemd, "service_that_drains_when_it_has_tried");
    // The watchdog's words go on, for far longer than the first waits before another try.
    for _ in 0..50 {
        assert_eq!(systemd.hear(), "WATCHDOG=1");
    }
}

#[test]
#[ignore = "it is the service of another test"]
fn service_that_drains_when_it_has_tried() {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Recorder::new().drain(|_| {}));
    let (own, _peer) = UnixStream::pair().unwrap();
    reactor.adopt(handler, own.into(), 0).unwrap();
    assert!(reactor.notify_systemd().unwrap());
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.drain(DEADLINE);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    say_that_it_has_tried();
    reactor.run().unwrap();
}
