//! `oneloop bench`, from outside.

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::process::{Process, kill};
use support::{Program, connect, eventually, run, serve};

/// A file in the directory that cargo keeps for tests.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn target(address: impl ToString, more: &[&str]) -> support::Run {
    let address = address.to_string();
    let mut arguments = vec!["bench", "--target", &address, "--connections", "2"];
    arguments.extend(more);
    run(&arguments)
}

#[test]
fn a_small_run_prints_a_table_and_writes_json() {
    let json = file("small.json");
    let path = json.to_str().unwrap();
    let run = run(&[
        "bench",
        "--connections",
        "1,2",
        "--pipeline",
        "3",
        "--size",
        "10,1000",
        "--duration",
        "200ms",
        "--json",
        path,
    ]);
    assert!(run.is_clean(), "{run:?}");
    for head in
        ["messages/s", "p50", "p99.9", "CPU/message", "user/system", "memory/conn.", "errors"]
    {
        assert!(run.stdout.contains(head), "{run:?}");
    }
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert!(row["messages"].as_u64().unwrap() > 0, "{row}");
        assert!(row["latency"]["p50_nanos"].as_u64() <= row["latency"]["max_nanos"].as_u64());
        assert!(row["server"]["cpu_nanos_per_message"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["errors"], 0);
    }
}

#[test]
fn messages_larger_than_every_buffer_come_back() {
    let run = run(&[
        "bench",
        "--connections",
        "3",
        "--pipeline",
        "4",
        "--size",
        "1M",
        "--duration",
        "200ms",
    ]);
    assert!(run.is_clean(), "{run:?}");
}

#[test]
fn memory_is_told_where_there_are_connections_enough() {
    let json = file("memory.json");
    let path = json.to_str().unwrap();
    let run = run(&["bench", "--connections", "300", "--duration", "100ms", "--json", path]);
    assert!(run.status.success(), "{run:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert!(report["rows"][0]["server"]["resident_bytes_per_connection"].is_f64(), "{report}");
}

#[test]
fn any_server_and_its_process_can_be_measured() {
    let server = Program::start(&["echo", "--listen", "127.0.0.1:0"]);
    let address = server.address();
    let pid = server.pid().to_string();
    let run = target(address, &["--duration", "100ms", "--pid", &pid]);
    assert!(run.is_clean(), "{run:?}");
    assert!(run.stdout.contains(" ns "), "{run:?}");
    // It goes on.
    connect(address);
}

#[test]
fn a_refused_target_is_one_clear_line() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = target(address, &[]);
    let expected = format!("cannot connect to {address}: connection refused");
    assert!(run.failure().contains(&expected), "{run:?}");
}

/// Echoes; `spoil` sees every piece and its place in the stream, and says whether to go on.
fn echo(mut stream: TcpStream, spoil: impl Fn(usize, &mut Vec<u8>) -> bool) {
    let mut total = 0;
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer)
        && count > 0
    {
        let mut piece = buffer[..count].to_vec();
        let goes_on = spoil(total, &mut piece);
        total += count;
        if !goes_on || stream.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

#[test]
fn wrong_bytes_are_one_clear_line() {
    let address = serve(|stream| {
        echo(stream, |before, piece| {
            if before > 10_000 {
                piece[0] ^= 1;
            }
            true
        });
    });
    let run = target(address, &[]);
    assert!(run.failure().contains("wrong bytes"), "{run:?}");
}

#[test]
fn messages_in_the_wrong_order_are_noticed() {
    let address = serve(|stream| {
        echo(stream, |_, piece| {
            if piece.len() >= 128 {
                piece.rotate_left(64);
            }
            true
        });
    });
    let run = target(address, &["--pipeline", "4"]);
    assert!(run.failure().contains("wrong bytes"), "{run:?}");
}

#[test]
fn more_than_was_sent_is_noticed() {
    let address = serve(|stream| {
        echo(stream, |before, piece| {
            if before > 10_000 {
                piece.extend_from_within(..);
            }
            true
        });
    });
    let run = target(address, &["--pipeline", "1"]);
    let line = run.failure();
    assert!(line.contains("wrong bytes") || line.contains("more than it was sent"), "{run:?}");
}

#[test]
fn a_server_that_closes_in_mid_run_is_one_clear_line() {
    let address = serve(|stream| echo(stream, |before, _| before < 10_000));
    let run = target(address, &[]);
    let line = run.failure();
    assert!(line.contains("the server closed it") || line.contains("was lost"), "{run:?}");
}

#[test]
fn a_server_that_never_answers_is_one_clear_line() {
    let address = serve(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let run = target(address, &["--stall-timeout", "100ms"]);
    assert!(run.failure().contains("no answer for 0.1 s"), "{run:?}");
}

/// Echoes a byte for every 10 ms that the client is silent. Gives up when the client is gone.
fn drip(mut stream: TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut owed = VecDeque::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => owed.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let byte = owed.pop_front();
                if byte.is_some_and(|byte| stream.write_all(&[byte]).is_err()) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
}

#[test]
fn a_server_that_echoes_a_byte_now_and_then_is_one_clear_line() {
    // A message takes 10 s, and no 100 ms are without a byte.
    let more = ["--size", "1000", "--stall-timeout", "500ms", "--duration", "1s"];
    let started = Instant::now();
    let run = target(serve(drip), &more);
    assert!(run.failure().contains("no answer for 0.5 s, with 2 messages"), "{run:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_server_that_speaks_without_being_asked_is_one_clear_line() {
    let address = serve(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        // A byte a round, for ever, whatever the client sends.
        while stream.write_all(b"x").is_ok() && !matches!(stream.read(&mut [0; 4096]), Ok(0)) {}
    });
    let run = target(address, &[]);
    let line = run.failure();
    assert!(line.contains("wrong bytes") || line.contains("more than it was sent"), "{run:?}");
}

#[test]
fn a_server_that_never_accepts_is_one_clear_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let run = target(listener.local_addr().unwrap(), &["--stall-timeout", "100ms"]);
    assert!(run.failure().contains("no answer for 0.1 s"), "{run:?}");
}

/// The bench's own server, once it listens and has its two connections.
fn own_server(bench: &Program) -> Process {
    eventually("the server has connections", || {
        Process::children_of(bench.pid()).into_iter().find(|server| server.sockets() >= 3)
    })
}

#[test]
fn a_server_of_our_own_that_dies_in_mid_run_is_one_clear_line() {
    let program = Program::start(&["bench", "--connections", "2", "--duration", "60s"]);
    kill(own_server(&program).pid.unsigned_abs());
    let run = program.wait();
    assert!(run.failure().contains("the server oneloop died in mid-run"), "{run:?}");
    assert!(run.failure().contains("signal: 9"), "{run:?}");
}

#[test]
fn a_bench_that_is_killed_leaves_no_server_of_its_own_behind() {
    let program = Program::start(&["bench", "--connections", "2", "--duration", "60s"]);
    let server = own_server(&program);
    assert!(server.arguments.contains(&"--until-stdin-closes".into()), "{server:?}");
    kill(program.pid());
    eventually("the server ends", || server.is_gone().then_some(()));
}

#[test]
fn what_the_machine_does_not_have_is_told_before_it_starts() {
    let run = run(&["bench", "--connections", "1,100000000"]);
    assert!(run.failure().contains("at most --connections "), "{run:?}");
    assert_eq!(run.stdout, "");
}

/// What is said when the program may have so many descriptors.
fn failure_with_descriptors(limit: u32, arguments: &[&str]) -> String {
    let script = format!("ulimit -n {limit} && exec \"$@\"");
    let run = Program::start_by(&["sh", "-c", &script, "sh"], arguments).wait();
    assert_eq!(run.stdout, "");
    run.failure().to_owned()
}

#[test]
fn too_few_descriptors_for_even_one_connection_are_the_fault_of_the_limit() {
    for arguments in [&["bench"][..], &["bench", "--against", "x=yes", "--no-counts"]] {
        let line = failure_with_descriptors(60, arguments);
        assert!(line.contains("ulimit -n") && !line.contains("--connections"), "{line}");
    }
    let line = failure_with_descriptors(100, &["bench"]);
    assert!(line.contains("at most --connections 36"), "{line}");
}

#[test]
fn a_comparison_is_told_of_too_few_descriptors_before_it_starts() {
    let line = failure_with_descriptors(500, &["bench", "--against", "x=yes", "--no-counts"]);
    assert!(line.contains("1,000 connections"), "{line}");
    assert!(line.contains("at most --connections 436"), "{line}");
    // The counts always have as many connections, whatever the flags say.
    let few = ["bench", "--against", "x=yes", "--connections", "2"];
    let line = failure_with_descriptors(500, &few);
    assert!(line.contains("--no-counts") && !line.contains("--connections"), "{line}");
}

#[test]
fn what_cannot_be_written_or_measured_is_one_clear_line() {
    let json = run(&["bench", "--json", "/nowhere/at/all"]);
    assert!(json.failure().contains("cannot write /nowhere/at/all"), "{json:?}");
    let script = ["sh", "-c", "exec \"$@\" >/dev/full", "sh"];
    let table = ["bench", "--connections", "1", "--pipeline", "1", "--duration", "50ms"];
    let table = Program::start_by(&script, &table).wait();
    assert!(table.failure().contains("printing the figures: No space left"), "{table:?}");
    let pid = target("127.0.0.1:1", &["--pid", "8388608"]);
    assert!(pid.failure().contains("no process 8388608"), "{pid:?}");
}

#[test]
fn an_error_that_cannot_be_written_ends_it_like_any_other() {
    let script = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"];
    let run = Program::start_by(&script, &["bench", "--target", "127.0.0.1:1"]).wait();
    assert_eq!(run.status.code(), Some(1), "{run:?}");
}

#[test]
fn bad_arguments_are_named() {
    for arguments in [
        ["--connections", "0"],
        ["--pipeline", "some"],
        ["--size", "1,-2"],
        ["--duration", "0s"],
        ["--target", "nowhere"],
        ["--pid", "1"],
        ["--against", "floor"],
    ] {
        let run = run(&["bench", arguments[0], arguments[1]]);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(run.stderr.contains(arguments[0]), "{run:?}");
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn a_target_that_cannot_be_looked_up_is_no_error_of_usage() {
    let run = run(&["bench", "--target", "no-such-host.invalid:7000"]);
    assert!(run.failure().starts_with("oneloop: --target no-such-host.invalid:7000: "), "{run:?}");
    assert_eq!(run.status.code(), Some(1));
}
