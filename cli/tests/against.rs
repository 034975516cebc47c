//! `oneloop bench --against`: the comparison runs, and what is wrong with a server is said.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

const ONELOOP: &str = env!("CARGO_BIN_EXE_oneloop");

fn compare(against: &str) -> Output {
    Command::new(ONELOOP)
        .args(["bench", "--no-counts", "--cycles", "6", "--against", against])
        .args(["--connections", "2", "--pipeline", "3", "--size", "100"])
        .output()
        .unwrap()
}

fn assert_fails(output: &Output, what: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains(what), "{error}");
}

#[test]
fn a_server_is_about_as_good_as_itself() {
    let output = compare(&format!("twin={ONELOOP} echo --listen 127.0.0.1:0"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for name in ["oneloop", "twin"] {
        let row = rows.iter().find(|row| row.starts_with(&["2", "3", "100", name]));
        let row = row.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
        let ratio: f64 = row[5].parse().unwrap();
        // On a busy machine, over six cycles: only not absurd.
        assert!((0.2..5.0).contains(&ratio), "{text}");
    }
    assert!(text.contains("CPU a message, 2 x 100 B, pipeline 3"), "{text}");
}

#[test]
fn a_command_that_is_no_server_is_reported() {
    assert_fails(&compare("none=/no/such/program"), "none does not start");
    assert_fails(&compare("false=false"), "false ended before it listened");
}

#[test]
fn a_server_that_sends_other_bytes_back_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count) = stream.read(&mut buffer) {
                    buffer[..count].iter_mut().for_each(|byte| *byte ^= 1);
                    if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let output = compare(&format!("liar=sh -c 'echo listening on {address}; exec cat'"));
    assert_fails(&output, "the load of liar");
}
