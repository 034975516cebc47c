//! The server under test, `examples/resp_kv`, as a child process.
//!
//! What is expected of it is what Redis does. `ONELOOP_RESP_KV=redis-server` runs the same tests against that, to see
//! whether they expect the right thing; those that are about our own (its limits, its file) are then left out.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::example::{Example, run_client};
use crate::support::{self, DEADLINE};

/// The server, which ends with this value.
pub struct Server {
    pub process: Example,
    pub address: SocketAddr,
}

impl Server {
    pub fn start() -> Server {
        match redis() {
            Some(program) => start_redis(&program),
            None => Server::start_with(&[]),
        }
    }

    /// Ours, with arguments behind the address.
    pub fn start_with(arguments: &[&str]) -> Server {
        let process = Example::start_with("resp_kv", "127.0.0.1:0", arguments);
        Server { address: process.address, process }
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub fn connect(&self) -> Client {
        Client::new(support::connect(self.address))
    }

    /// What redis-cli prints for these lines of commands, one to each line.
    pub fn redis_cli(&self, options: &[&str], commands: &str) -> String {
        let port = self.port();
        let arguments = [&["-p", &port], options].concat();
        let printed = run_client("redis-cli", &arguments, commands.as_bytes());
        String::from_utf8_lossy(&printed).into_owned()
    }

    /// What a script in Python prints that talks to it in a version of the protocol. `./test` installs the library of
    /// clients where it is looked for; it is for Debian's Python, before which another one may stand in the path.
    pub fn python(&self, script: &str, version: &str) -> String {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/python");
        let library = format!("PYTHONPATH={}", library.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resp_kv").join(script);
        let python = [&library, "/usr/bin/python3", "-B", script.to_str().unwrap()];
        let printed = run_client("env", &[&python[..], &[&self.port(), version]].concat(), b"");
        String::from_utf8(printed).unwrap()
    }

    /// Bytes of the server that are resident now.
    pub fn resident_bytes(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.pid())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// The most bytes of it that were resident at a time.
    pub fn resident_bytes_peak(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }
}

/// The program to test instead of ours.
fn redis() -> Option<String> {
    std::env::var("ONELOOP_RESP_KV").ok()
}

/// False, and said so, where the tests run against Redis.
pub fn is_ours(why: &str) -> bool {
    if redis().is_some() {
        println!("left out, Redis has {why} of its own");
    }
    redis().is_none()
}

/// It does not take port 0 for a port of the kernel's choice.
fn start_redis(program: &str) -> Server {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = format!("--bind 127.0.0.1 --port {} --save '' --appendonly no", address.port());
    let script = format!("echo listening on {address}; exec {program} {options}");
    let process = Example::start_command(Command::new("sh").args(["-c", &script]));
    process.wait_for_line("Ready to accept connections");
    Server { process, address }
}

/// A connection that speaks the protocol's bytes.
pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Client { stream, reader }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends a command, an array of bulk strings.
    pub fn command(&mut self, arguments: &[&str]) {
        self.send(command(arguments));
    }

    /// Sends a command, and gives its reply, which is complete in one line or is a bulk string.
    pub fn ask(&mut self, arguments: &[&str]) -> String {
        self.command(arguments);
        self.reply()
    }

    /// The next reply, of one line or a bulk string, of which it gives the text (`nil` if there is none).
    pub fn reply(&mut self) -> String {
        let line = self.line();
        let Some(length) = line.strip_prefix('$') else { return line };
        let Ok(length) = length.parse::<usize>() else { return "nil".to_string() };
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes.truncate(length);
        String::from_utf8(bytes).unwrap()
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "{line:?} is no whole line");
        line.truncate(line.len() - 2);
        line
    }

    /// Receives exactly this.
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let expected = bytes.as_ref();
        let mut received = vec![0; expected.len()];
        self.reader.read_exact(&mut received).unwrap();
        let (received, expected) = (received.escape_ascii(), expected.escape_ascii());
        assert_eq!(received.to_string(), expected.to_string());
    }

    /// Says that no more comes, and goes on to read.
    pub fn shutdown(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// All that comes until the server ends the connection, by an end of file or a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection is not ended: {error}"),
        }
        bytes
    }
}

/// A command's bytes.
pub fn command(arguments: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
    bytes
}
