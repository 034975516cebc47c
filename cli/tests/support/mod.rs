//! What the tests of the program share: running it, with a deadline for everything.

// Each test file uses a part of it.
#![allow(dead_code)]

pub(crate) mod process;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const ONELOOP: &str = env!("CARGO_BIN_EXE_oneloop");

/// Long, because the machine may be busy; no test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A run of the program that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// A success, without a word on standard error but that a turn took long: that may be the machine's doing.
    pub(crate) fn is_clean(&self) -> bool {
        let is_slow = |line: &str| line.contains(" WARN  oneloop::watchdog] ");
        self.status.success() && self.stderr.lines().all(is_slow)
    }

    /// The one line on standard error, after a failure.
    pub(crate) fn failure(&self) -> &str {
        assert!(!self.status.success(), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("oneloop: "), "{self:?}");
        // Errors as `Debug` prints them.
        for debug in ["Os {", "kind:", "Error(", "Some(", "Err(", "\\\""] {
            assert!(!self.stderr.contains(debug), "{self:?}");
        }
        self.stderr.trim_end()
    }
}

/// The program, running. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    pub(crate) fn start(arguments: &[&str]) -> Program {
        Program::start_by(&[], arguments)
    }

    /// By a command that becomes the program.
    pub(crate) fn start_by(prefix: &[&str], arguments: &[&str]) -> Program {
        let mut words = prefix.iter().chain([&ONELOOP]).chain(arguments);
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let (sender, stderr) = channel();
        thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            let _ = sender.send(text);
        });
        Program { child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line on its standard output.
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(DEADLINE).expect("a line on standard output")
    }

    /// The address in its next line.
    pub(crate) fn address(&self) -> SocketAddr {
        let line = self.line();
        line.strip_prefix("listening on ").expect(&line).parse().unwrap()
    }

    pub(crate) fn close_stdin(&mut self) {
        self.child.stdin.take();
    }

    /// Waits for it, and for everything that it started and that has its standard error: so nothing
    /// survives it.
    pub(crate) fn wait(mut self) -> Run {
        let stderr = self.stderr.recv_timeout(DEADLINE).expect("the program ends in time");
        let mut stdout = String::new();
        while let Ok(line) = self.stdout.recv_timeout(DEADLINE) {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        Run { status: self.child.wait().unwrap(), stdout, stderr }
    }
}

/// A file in the directory that cargo keeps for tests.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs a benchmark of another server to its end, with two connections.
pub(crate) fn target(address: impl ToString, more: &[&str]) -> Run {
    let address = address.to_string();
    run(&[&["bench", "--target", &address, "--connections", "2"], more].concat())
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Run {
    Program::start(arguments).wait()
}

fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Connects, with deadlines for reading and writing.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A server on threads that does `serve` with each connection, until the test ends.
pub(crate) fn serve(serve: impl Fn(TcpStream) + Copy + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}
