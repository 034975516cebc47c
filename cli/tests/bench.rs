//! `oneloop bench`, from outside.

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use rustix::process::Signal;
use serde_json::Value;
use support::process::{Process, kill, signal, terminate};
use support::{Program, connect, eventually, file, run, serve, target};

/// What a run wrote with --json.
fn report(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
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
    let report = report(&json);
    assert_eq!(report["is_complete"], true);
    assert!(!run.stdout.contains("Incomplete"), "{run:?}");
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
    let report = report(&json);
    assert!(report["rows"][0]["server"]["resident_bytes_per_connection"].is_f64(), "{report}");
}

/// An echo server that keeps 20 KB for each of its first connections for ever.
const KEEPS_MEMORY: &str = r#"
import selectors, socket
listener = socket.create_server(("127.0.0.1", 0), backlog=500)
print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
kept, sources = [], selectors.DefaultSelector()
sources.register(listener, selectors.EVENT_READ)
while True:
    for ready, _ in sources.select():
        source = ready.fileobj
        if source is listener:
            sources.register(source.accept()[0], selectors.EVENT_READ)
            if len(kept) < 400:
                kept.append(b"x" * 20000)
            continue
        try:
            data = source.recv(65536)
        except ConnectionError:
            data = b""
        if data:
            source.sendall(data)
        else:
            sources.unregister(source)
            source.close()
"#;

#[test]
fn memory_of_a_server_that_goes_on_is_told_until_there_are_fewer_connections() {
    let server = Program::start_by(&["python3", "-c", KEEPS_MEMORY], &[]);
    let (address, pid) = (server.address().to_string(), server.pid().to_string());
    let json = file("memory-of-another.json");
    let mut arguments = vec!["bench", "--target", &address, "--pid", &pid];
    arguments.extend(["--connections", "400,300", "--pipeline", "1,2", "--duration", "50ms"]);
    arguments.extend(["--json", json.to_str().unwrap()]);
    let run = run(&arguments);
    assert!(run.is_clean(), "{run:?}");
    let report = report(&json);
    let bytes = |row: usize| &report["rows"][row]["server"]["resident_bytes_per_connection"];
    for row in [0, 1] {
        assert!(bytes(row).as_f64().is_some_and(|bytes| bytes > 15_000.0), "{report}");
    }
    assert!(bytes(2).is_null() && bytes(3).is_null(), "{report}");
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
fn what_was_measured_before_an_error_is_told_and_is_not_complete() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let address = serve(|stream| {
        let is_first = NEXT.fetch_add(1, Ordering::Relaxed) == 0;
        echo(stream, |_, _| is_first);
    });
    let json = file("incomplete.json");
    let (address, path) = (address.to_string(), json.to_str().unwrap());
    let arguments = ["bench", "--target", &address, "--connections", "1,2", "--pipeline", "1"];
    let more = ["--duration", "50ms", "--json", path];
    let first = run(&[&arguments[..], &more].concat());
    assert!(first.failure().contains("connection"), "{first:?}");
    assert!(first.stdout.contains("messages/s"), "{first:?}");
    assert!(first.stdout.contains("Incomplete: "), "{first:?}");
    let written = report(&json);
    assert_eq!(written["is_complete"], false);
    assert_eq!(written["rows"].as_array().unwrap().len(), 1);

    // When nothing was measured, the file stays as it is.
    let second = run(&[&arguments[..], &more].concat());
    assert_eq!((second.failure().is_empty(), &second.stdout[..]), (false, ""));
    assert_eq!(report(&json), written);
}

#[test]
fn what_was_measured_before_a_signal_is_told_and_no_file_is_left() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let address = serve(|mut stream| match NEXT.fetch_add(1, Ordering::Relaxed) {
        0 => echo(stream, |_, _| true),
        _ => drop(stream.read_to_end(&mut Vec::new())),
    });
    let directory = file("interrupted");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    let json = directory.join("report.json");
    let (address, path) = (address.to_string(), json.to_str().unwrap());
    let arguments = ["bench", "--target", &address, "--connections", "1,2", "--pipeline", "1"];
    let more = ["--duration", "50ms", "--stall-timeout", "60s", "--json", path];
    let program = Program::start(&[&arguments[..], &more].concat());
    eventually("the second row begins", || (NEXT.load(Ordering::Relaxed) > 1).then_some(()));
    signal(program.pid(), Signal::INT);
    let run = program.wait();
    assert_eq!(run.status.signal(), Some(2), "{run:?}");
    assert!(run.stdout.contains("messages/s"), "{run:?}");
    assert!(run.stdout.contains("Incomplete: "), "{run:?}");
    assert_eq!(report(&json)["is_complete"], false);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn figures_can_be_written_to_what_is_no_regular_file() {
    let script = "\"$@\" --json /dev/stdout | cat";
    let table = ["bench", "--connections", "1", "--pipeline", "1", "--duration", "50ms"];
    let run = Program::start_by(&["sh", "-c", script, "sh"], &table).wait();
    assert!(run.is_clean() && run.stdout.contains("\"is_complete\": true"), "{run:?}");
}

#[test]
fn a_signal_that_came_ignored_stays_so() {
    let script = "trap '' HUP; exec \"$@\"";
    let endless = ["--no-counts", "--connections", "2", "--cycles", "100000"];
    let arguments = [&["bench", "--kinds", "tcp"], &endless[..]].concat();
    let program = Program::start_by(&["sh", "-c", script, "sh"], &arguments);
    own_server(&program);
    signal(program.pid(), Signal::HUP);
    terminate(program.pid());
    let run = program.wait();
    assert_eq!(run.status.signal(), Some(15), "{run:?}");
}

#[test]
fn a_time_in_which_nothing_can_be_sent_is_too_short() {
    let run = target(serve(|stream| echo(stream, |_, _| true)), &["--duration", "1us"]);
    let expected = "the time was over before anything was sent: a longer --duration";
    assert!(run.failure().contains(expected), "{run:?}");
}

#[test]
fn a_process_that_is_not_the_server_is_no_figure() {
    let other = Program::start(&["echo", "--listen", "127.0.0.1:0"]);
    other.address();
    let pid = other.pid().to_string();
    let address = serve(|stream| echo(stream, |_, _| true));
    let run = target(address, &["--duration", "100ms", "--pid", &pid]);
    let expected = format!("the server answered without CPU time of process {pid}");
    assert!(run.failure().contains(&expected), "{run:?}");
}

#[test]
fn a_server_that_takes_no_connection_is_given_up_like_one_that_does_not_answer() {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    // There is room for one.
    listen(&listener, 0).unwrap();
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().unwrap();
    let _first = connect(address);
    let started = Instant::now();
    let run = target(address, &["--stall-timeout", "100ms"]);
    assert!(run.failure().contains("cannot connect to "), "{run:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
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
    // Each of the two servers has its own, and the load has those of both.
    assert!(line.contains("at most --connections 186"), "{line}");
    let three = ["bench", "--kinds", "tcp,unix,udp", "--connections", "200", "--no-counts"];
    let line = failure_with_descriptors(500, &three);
    assert!(line.contains("at most --connections 102"), "{line}");
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
fn options_that_would_be_ignored_are_refused() {
    for (arguments, options) in [
        ("--counts --connections 2", ["--counts", "--connections"]),
        ("--counts --pipeline 2", ["--counts", "--pipeline"]),
        ("--counts --size 2", ["--counts", "--size"]),
        ("--counts --duration 2s", ["--counts", "--duration"]),
        ("--counts --against x=y --cycles 2", ["--counts", "--cycles"]),
        ("--against x=y --duration 2s", ["--against", "--duration"]),
        ("--spin 50us --duration 2s", ["--spin", "--duration"]),
        ("--kinds tcp --duration 2s", ["--kinds", "--duration"]),
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let run = run(&[&["bench"], &words[..]].concat());
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        let names_them = options.iter().all(|option| run.stderr.contains(option));
        assert!(names_them && run.stderr.contains("cannot be used with"), "{run:?}");
    }
}

#[test]
fn a_spin_that_a_comparison_cannot_have_is_refused() {
    for (spin, reason) in [
        ("0.5us", "it is no whole number of us"),
        ("1.7us", "it is no whole number of us"),
        ("101ms", "it may be at most 100ms"),
    ] {
        let run = run(&["bench", "--spin", spin]);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(run.stderr.contains(reason), "{run:?}");
    }
}

#[test]
fn a_target_that_cannot_be_looked_up_is_no_error_of_usage() {
    let run = run(&["bench", "--target", "no-such-host.invalid:7000"]);
    assert!(run.failure().starts_with("oneloop: --target no-such-host.invalid:7000: "), "{run:?}");
    assert_eq!(run.status.code(), Some(1));
}
