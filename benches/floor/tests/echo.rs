//! The floor is only worth comparing with while it is correct.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

struct Floor {
    child: Child,
    address: SocketAddr,
}

impl Floor {
    fn start() -> Floor {
        let mut child = Command::new(env!("CARGO_BIN_EXE_floor"))
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Floor { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn assert_alive(&self) {
        let mut stream = self.connect();
        stream.write_all(b"alive").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"alive");
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[test]
fn every_byte_comes_back_when_the_client_writes_ahead_and_half_closes() {
    let floor = Floor::start();
    let mut stream = floor.connect();
    let sent = pattern(32 << 20);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    // Until the writer is stuck: nobody reads, so all queues on the way are full.
    thread::sleep(Duration::from_millis(300));
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent);
}

#[test]
fn data_and_end_of_file_at_once_are_answered_with_both() {
    let floor = Floor::start();
    for length in [1, 64, 65_536, 200_000] {
        let mut stream = floor.connect();
        let sent = pattern(length);
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == sent, "{length} bytes");
    }
}

#[test]
fn a_reset_with_unsent_output_costs_only_its_connection() {
    let floor = Floor::start();
    let mut stream = floor.connect();
    stream.set_nonblocking(true).unwrap();
    let chunk = pattern(65_536);
    let mut stuck = 0;
    while stuck < 20 {
        let written = stream.write(&chunk);
        match written {
            Ok(_) => stuck = 0,
            Err(_) => {
                stuck += 1;
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    drop(stream); // with unread input: a reset
    floor.assert_alive();
}

#[test]
fn a_burst_of_clients_is_served() {
    let floor = Floor::start();
    let mut streams: Vec<_> = (0..300).map(|_| floor.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"hello").unwrap();
    }
    for stream in &mut streams {
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
}

#[test]
fn it_ends_when_stdin_closes() {
    let mut floor = Floor::start();
    let _connected = floor.connect();
    drop(floor.child.stdin.take());
    assert!(floor.child.wait().unwrap().success());
}
