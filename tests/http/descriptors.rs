//! Descriptors, of which each connection takes one, and each large file on its way another.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::answer::Answer;
use crate::site::{LARGE, Site, until};

fn send_request(client: &mut TcpStream, path: &str) {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
}

fn read_answer(client: &mut TcpStream) -> Answer {
    let (mut received, mut block) = (Vec::new(), [0; 4096]);
    loop {
        let count = client.read(&mut block).unwrap();
        assert!(count > 0, "the server has closed");
        received.extend_from_slice(&block[..count]);
        if let Some((answer, _)) = Answer::read(&received, "GET", false) {
            return answer;
        }
    }
}

fn ask(client: &mut TcpStream, path: &str) -> Answer {
    send_request(client, path);
    read_answer(client)
}

/// It is mostly 1024, for the sake of programs that use select(2).
#[test]
fn more_clients_are_served_than_the_soft_limit_has_descriptors() {
    let site = Site::start_limited("-S -n 64");
    let mut clients: Vec<_> = (0..100).map(|_| site.connect()).collect();
    for client in &mut clients {
        assert_eq!(ask(client, "/hello.txt").status, 200);
    }
}

#[test]
fn clients_leave_descriptors_for_files() {
    const CLIENTS: usize = 8;
    let site = Site::start_limited("-n 64");
    let mut clients: Vec<_> = (0..100).map(|_| site.connect()).collect();
    until("there are as many as may be", || {
        let stats = ask(&mut clients[0], "/api/stats");
        let stats: serde_json::Value = serde_json::from_slice(&stats.body).unwrap();
        stats["connections"].as_u64().unwrap() >= CLIENTS as u64
    });
    // All of those have a file that is open.
    for client in &mut clients[..CLIENTS] {
        send_request(client, "/large.bin");
    }
    for client in &mut clients[..CLIENTS] {
        let answer = read_answer(client);
        assert_eq!((answer.status, answer.body.len()), (200, LARGE), "{:?}", answer.fields);
    }
    // Who waits gets a place when there is one.
    let mut last = clients.pop().unwrap();
    drop(clients);
    assert_eq!(ask(&mut last, "/hello.txt").status, 200);
}

/// Each answer is so short that hundreds fit into what may wait, and each has a file of its own.
#[test]
fn who_asks_for_many_parts_of_files_and_takes_none_has_few_descriptors() {
    const ASKED: usize = 1500;
    let site = Site::start_limited("-n 64");
    let mut greedy = site.connect();
    let part = "GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-0\r\n\r\n";
    greedy.write_all(part.repeat(ASKED).as_bytes()).unwrap();
    let mut other = site.connect();
    let (mut last, mut count) = (0, 0);
    until("no more is written to it", || {
        let stats = ask(&mut other, "/api/stats");
        let stats: serde_json::Value = serde_json::from_slice(&stats.body).unwrap();
        let writes = stats["writes"].as_u64().unwrap();
        // One is the answer to the question before.
        count = if writes == last + 1 { count + 1 } else { 0 };
        last = writes;
        count == 50
    });
    for path in ["/large.bin", "/hello.txt", "/list/"] {
        assert_eq!(ask(&mut other, path).status, 200, "{path}");
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", site.server.pid())).unwrap();
    assert!(descriptors.count() < 32);
    greedy.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    greedy.read_to_end(&mut received).unwrap();
    let answers = Answer::read_all(&received, &["GET"; ASKED]);
    assert_eq!(answers.iter().filter(|answer| answer.status == 206).count(), ASKED);
}

#[test]
fn a_file_for_which_there_is_no_descriptor_may_be_asked_for_again() {
    let site = Site::start();
    let mut client = site.connect();
    assert_eq!(ask(&mut client, "/api/stats").status, 200);
    let server = Pid::from_raw(site.server.pid().try_into().unwrap());
    let limit = rustix::process::getrlimit(Resource::Nofile);
    prlimit(server, Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
    for path in ["/hello.txt", "/large.bin", "/list/"] {
        let answer = ask(&mut client, path);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.field("retry-after").is_some(), "{:?}", answer.fields);
    }
    prlimit(server, Resource::Nofile, limit).unwrap();
    for path in ["/hello.txt", "/large.bin", "/list/"] {
        assert_eq!(ask(&mut client, path).status, 200, "{path}");
    }
}
