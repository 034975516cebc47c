//! `oneloop echo` on Unix sockets, with socat(1) as the client.

mod support;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};

use support::process::terminate;
use support::{Program, run};

/// A path of a test's own.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let directory = std::env::temp_dir().join(format!("oneloop-cli-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        Place(directory.join("echo.sock"))
    }

    fn address(&self) -> String {
        format!("unix:{}", self.0.display())
    }

    fn assert_echoes(&self) {
        assert_echoes(&format!("UNIX-CONNECT:{}", self.0.display()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// Has socat send much and half-close, and expects all of it back.
fn assert_echoes(target: &str) {
    let sent: Vec<u8> = (0..1 << 20).map(|i: u32| (i ^ i >> 8) as u8).collect();
    let mut socat = Command::new("socat")
        .args(["-t60", "-", target])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("socat is installed");
    let mut input = socat.stdin.take().unwrap();
    let data = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&data).unwrap());
    let output = socat.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == sent, "{} bytes of {}", output.stdout.len(), sent.len());
}

fn start(address: &str) -> Program {
    let program = Program::start(&["echo", "--listen", address]);
    assert_eq!(program.line(), format!("listening on {address}"));
    program
}

#[test]
fn it_serves_a_path_and_takes_it_away_with_it() {
    let place = Place::new("path");
    let program = start(&place.address());
    place.assert_echoes();
    terminate(program.pid());
    let run = program.wait();
    assert!(run.status.success(), "{run:?}");
    assert!(!place.0.exists());
}

#[test]
fn it_serves_an_abstract_name() {
    let name = format!("oneloop-cli-{}", process::id());
    let _program = start(&format!("unix:@{name}"));
    assert_echoes(&format!("ABSTRACT-CONNECT:{name}"));
}

#[test]
fn it_takes_over_the_path_of_one_that_was_killed_and_of_nobody_else() {
    let place = Place::new("killed");
    let first = start(&place.address());
    let refused = run(&["echo", "--listen", &place.address()]);
    let expected = format!("listen on {}: somebody listens there", place.address());
    assert!(refused.failure().contains(&expected), "{refused:?}");
    place.assert_echoes();
    drop(first); // SIGKILL
    assert!(place.0.exists(), "nobody took it away");
    let _second = start(&place.address());
    place.assert_echoes();
}
