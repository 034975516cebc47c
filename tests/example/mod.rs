//! The built example programs as child processes, and the outside clients that talk to them.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::DEADLINE;

/// An example that runs, and listens on a port of the kernel's choice. It ends with this value.
pub struct Example {
    process: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    pub address: SocketAddr,
}

impl Example {
    pub fn start(name: &str) -> Example {
        Example::start_with(name, "127.0.0.1:0", &[])
    }

    /// Starts `name address arguments...`, and waits until it says where it listens.
    pub fn start_with(name: &str, address: &str, arguments: &[&str]) -> Example {
        let mut example = Example::run(name, &[&[address], arguments].concat());
        example.wait_for_address();
        example
    }

    /// Starts any program that listens on a port of the kernel's choice, and waits until it says which.
    pub fn start_command(command: &mut Command) -> Example {
        let mut example = Example::run_command(command);
        example.wait_for_address();
        example
    }

    /// Starts `name arguments...`, of which the address is not known.
    pub fn run(name: &str, arguments: &[&str]) -> Example {
        let mut command = Command::new(path_of(name));
        Example::run_command(command.args(arguments))
    }

    fn run_command(command: &mut Command) -> Example {
        let mut process = command
            .env("RUST_LOG", "info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}, which ./test installs: {error}"));
        let (sender, lines) = mpsc::channel();
        forward_lines(process.stdout.take().unwrap(), sender.clone());
        forward_lines(process.stderr.take().unwrap(), sender);
        let input = process.stdin.take();
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        Example { process, input, lines, address: unknown }
    }

    fn wait_for_address(&mut self) {
        let line = self.wait_for_line("listening on ");
        // socat(1) has the address family between the words and the address.
        let address = line.rsplit(' ').next().unwrap();
        self.address = address.parse().expect("it says where it listens");
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits until the program prints a line that contains `what`, on whichever of its outputs.
    pub fn wait_for_line(&self, what: &str) -> String {
        let start = Instant::now();
        let mut others = Vec::new();
        loop {
            let left = DEADLINE.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => others.push(line),
                Err(error) => panic!("no line says {what:?}: {error}; others: {others:?}"),
            }
        }
    }

    /// The program's standard input; dropping it is its end of file.
    pub fn take_input(&mut self) -> ChildStdin {
        self.input.take().expect("it is taken once")
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the end of the program by itself.
    pub fn wait(mut self) -> ExitStatus {
        // Its outputs are closed when it ends.
        let start = Instant::now();
        while self.lines.recv_timeout(DEADLINE.saturating_sub(start.elapsed()))
            != Err(mpsc::RecvTimeoutError::Disconnected)
        {
            assert!(start.elapsed() < DEADLINE, "the program does not end");
        }
        self.process.wait().unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Cargo builds the examples of the same profile beside the tests, which are in `deps`.
pub fn path_of(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "there is no {}: build it with `cargo build --examples` (`cargo test` does, unless it is \
         told which tests to build)",
        path.display()
    );
    path
}

fn forward_lines(output: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

/// Runs an outside client: gives it `input` and then an end of file, and returns what it printed.
///
/// # Panics
///
/// If it is not installed, fails, or does not end in time.
pub fn run_client(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut client = start_client(program, arguments, Stdio::piped());
    let mut stdin = client.process.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = client.output();
    // The server may end the connection before it was told everything.
    let _ = writer.join().unwrap();
    output
}

/// A program that talks to a server. It ends with this value.
pub struct Client {
    name: String,
    process: Child,
    output: Receiver<(Vec<u8>, Vec<u8>)>,
}

pub fn start_client(program: &str, arguments: &[&str], input: Stdio) -> Client {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} has to be installed, which ./test does: {e}"));
    let (mut stdout, mut stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    let (sender, output) = mpsc::channel();
    thread::spawn(move || {
        let (mut printed, mut complaints) = (Vec::new(), Vec::new());
        stdout.read_to_end(&mut printed).unwrap();
        stderr.read_to_end(&mut complaints).unwrap();
        // Nobody may be waiting for it any more.
        let _ = sender.send((printed, complaints));
    });
    let name = format!("{program} {}", arguments.join(" "));
    Client { name, process, output }
}

impl Client {
    /// Waits for its end, which must be a success, and returns what it printed.
    pub fn output(&mut self) -> Vec<u8> {
        let (status, printed, complaints) = self.end();
        assert!(status.success(), "{}: {status}: {complaints}", self.name);
        printed
    }

    /// Waits for its end, and returns what it printed on its two outputs.
    pub fn end(&mut self) -> (ExitStatus, Vec<u8>, String) {
        self.end_within(DEADLINE)
    }

    /// The same for a client that has much to do.
    pub fn end_within(&mut self, deadline: Duration) -> (ExitStatus, Vec<u8>, String) {
        let (printed, complaints) = self
            .output
            .recv_timeout(deadline)
            .unwrap_or_else(|e| panic!("{} does not end: {e}", self.name));
        let status = self.process.wait().unwrap();
        (status, printed, String::from_utf8_lossy(&complaints).into_owned())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
