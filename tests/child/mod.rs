//! An echo server in a process of its own, for tests that take its descriptors away or have its
//! system calls fail.
//!
//! The child is this test binary again, running its ignored test `child`. It connects to its parent,
//! says where it listens, and answers questions over that connection; when the connection ends, so
//! does the child.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oneloop::{CloseReason, Connection, Context, Error, Key, Reactor, StreamHandler};

use crate::support::{DEADLINE, Echo, apart};

const CONTROL: &str = "ONELOOP_TEST_CONTROL";
const DESCRIPTORS: &str = "ONELOOP_TEST_DESCRIPTORS";

/// The parent's end.
pub struct Child {
    process: std::process::Child,
    control: BufReader<TcpStream>,
    pub pid: u32,
    pub address: SocketAddr,
}

/// What the child's loop did so far.
pub struct Report(HashMap<String, u64>);

impl Report {
    pub fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", self.0))
    }
}

impl Child {
    /// Starts a server with the usual number of descriptors, or fewer.
    pub fn start(descriptors: Option<u64>) -> Child {
        Child::start_under(&[], descriptors)
    }

    /// Starts a server whose system calls fail as strace(1) is told to make them.
    pub fn start_with_failing(call: &str, inject: &str) -> Child {
        Child::start_short_and_failing(None, call, inject)
    }

    /// Both.
    pub fn start_short_and_failing(descriptors: Option<u64>, call: &str, inject: &str) -> Child {
        let only = format!("trace={call}");
        let inject = format!("inject={call}:{inject}");
        let strace = ["strace", "-f", "-qq", "-o/dev/null", "-e", &only, "-e", &inject];
        Child::start_under(&strace, descriptors)
    }

    fn start_under(prefix: &[&str], descriptors: Option<u64>) -> Child {
        let this = std::env::current_exe().unwrap();
        let this = this.to_str().unwrap();
        let run = [this, "child", "--exact", "--ignored", "--test-threads=1"];
        let words = [prefix, &run[..]].concat();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env(CONTROL, listener.local_addr().unwrap().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(descriptors) = descriptors {
            command.env(DESCRIPTORS, descriptors.to_string());
        }
        let mut process = apart(|| command.spawn())
            .unwrap_or_else(|e| panic!("{} has to be installed: {e}", words[0]));
        listener.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let control = loop {
            match listener.accept() {
                Ok((control, _)) => break control,
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
            if let Some(status) = process.try_wait().unwrap() {
                panic!("the server ended before it began: {status}");
            }
            assert!(start.elapsed() < DEADLINE, "the server does not come up");
            std::thread::sleep(Duration::from_millis(1));
        };
        control.set_nonblocking(false).unwrap();
        control.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut control = BufReader::new(control);
        let mut line = String::new();
        control.read_line(&mut line).expect("the server says where it listens");
        let (pid, address) = line.trim().split_once(' ').expect("two words");
        let (pid, address) = (pid.parse().unwrap(), address.parse().unwrap());
        Child { process, control, pid, address }
    }

    pub fn report(&mut self) -> Report {
        self.control.get_mut().write_all(b"?").unwrap();
        let mut line = String::new();
        self.control.read_line(&mut line).expect("the server answers its parent");
        let words = line.split_whitespace().map(|word| word.split_once('=').expect("name=value"));
        Report(words.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    /// Asks until the answer is right.
    pub fn until(&mut self, what: &str, is_done: impl Fn(&Report) -> bool) {
        let start = Instant::now();
        while !is_done(&self.report()) {
            let report = self.report();
            assert!(start.elapsed() < DEADLINE, "waited in vain until {what}: {:?}", report.0);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.control.get_ref().shutdown(std::net::Shutdown::Both);
        let start = Instant::now();
        while let Ok(None) = self.process.try_wait() {
            if start.elapsed() > Duration::from_secs(5) {
                let _ = self.process.kill();
                let _ = self.process.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a client gets its answer; if not, it has to be told.
pub fn is_served(client: &mut TcpStream) -> bool {
    // Writing to a connection that was closed already may or may not be an error.
    let _ = client.write_all(b"x");
    // A read that has a timeout is not begun again after a signal (signal(7)), unless it is this one.
    match client.read_exact(&mut [0; 1]) {
        Ok(()) => true,
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "neither served nor turned away");
            false
        }
    }
}

/// Answers the parent.
struct Control {
    parent: SocketAddr,
    listening: SocketAddr,
}

impl StreamHandler for Control {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.connect(self.parent, 0);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(format!("{} {}\n", std::process::id(), self.listening).as_bytes()).ignore();
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let stats = conn.stats();
        let line = format!(
            "connections={} accepts={} refusals={} sheds={} accept_errors={} turns={}\n",
            // Without this one.
            stats.connections - 1,
            stats.accepts,
            stats.refusals,
            stats.sheds,
            stats.accept_errors,
            stats.turns,
        );
        for _ in data {
            conn.send(line.as_bytes()).ignore();
        }
        Ok(data.len())
    }

    fn on_close(&mut self, (): (), _: Key, _: CloseReason, cx: &mut Context<'_>) {
        cx.stop();
    }
}

/// The child's end; does nothing in a process that is no child.
pub fn serve() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Ok(parent) = std::env::var(CONTROL) else { return };
    if let Ok(descriptors) = std::env::var(DESCRIPTORS) {
        let current = Some(descriptors.parse().unwrap());
        setrlimit(Resource::Nofile, Rlimit { current, ..getrlimit(Resource::Nofile) }).unwrap();
    }
    let mut reactor = Reactor::new().unwrap();
    let echo = reactor.add(Echo);
    let listener = reactor.listen(echo, "127.0.0.1:0").unwrap();
    let listening = reactor.listener_address(listener).unwrap().inet().unwrap();
    reactor.add(Control { parent: parent.parse().unwrap(), listening });
    reactor.run().unwrap();
}
