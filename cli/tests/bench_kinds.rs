//! `oneloop bench` on all kinds of sockets: servers of datagrams that lose some, and kinds side by side.

mod support;

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::thread;

use serde_json::Value;
use support::process::terminate;
use support::{Program, eventually, file, run, target};

/// A server that is given every datagram, its place among those of its client, and what to answer with.
fn serve(
    mut answer: impl FnMut(u64, Vec<u8>, &mut dyn FnMut(&[u8])) + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut counts = HashMap::new();
        let mut buffer = [0; 70_000];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let count: &mut u64 = counts.entry(client).or_default();
            answer(*count, buffer[..length].to_vec(), &mut |data| {
                // Who is gone gets nothing.
                let _ = socket.send_to(data, client);
            });
            *count += 1;
        }
    });
    address
}

#[test]
fn every_kind_of_server_can_be_measured() {
    let name = format!("oneloop-bench-kinds-{}", std::process::id());
    let (unix, unixgram) = (format!("unix:@{name}"), format!("unixgram:@{name}-datagrams"));
    for address in ["udp://127.0.0.1:0", &unix, &unixgram] {
        let server = Program::start(&["echo", "--listen", address]);
        let line = server.line();
        let address = line.strip_prefix("listening on ").unwrap();
        let pid = server.pid().to_string();
        let more = ["--pipeline", "1,4", "--size", "8,3000", "--duration", "100ms", "--pid", &pid];
        let run = target(address, &more);
        assert!(run.is_clean(), "{run:?}");
        assert!(run.stdout.contains(&format!("the server on {address}")), "{run:?}");
        assert!(run.stdout.contains(" ns "), "{run:?}");
        let counts_datagrams = run.stdout.contains("datagrams sent");
        assert_eq!(counts_datagrams, !address.starts_with("unix:"), "{run:?}");
    }
}

/// Of every ten one is lost, one comes twice, and one comes behind the next.
#[test]
fn what_a_network_does_to_datagrams_is_counted() {
    let mut held = None;
    let server = serve(move |count, data, send| match count % 10 {
        3 => {}
        5 => {
            send(&data);
            send(&data);
        }
        7 => held = Some(data),
        8 => [Some(data), held.take()].into_iter().flatten().for_each(|data| send(&data)),
        _ => send(&data),
    });
    let json = file("losses.json");
    let address = format!("udp://{server}");
    let run = run(&[
        "bench",
        "--target",
        &address,
        "--connections",
        "1",
        "--pipeline",
        "16",
        "--duration",
        "1s",
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(run.is_clean(), "{run:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let row = &report["rows"][0];
    let count = |name: &str| row["datagrams"][name].as_i64().unwrap();
    let sent = count("sent");
    assert!(sent > 100, "{row}");
    let is_about = |value: i64| (value - sent / 10).abs() <= 2;
    // On a machine that stops for a while some are late.
    assert!(is_about(count("lost") - count("late")), "{row}");
    assert!(is_about(count("duplicated")), "{row}");
    assert!((1..=sent / 10 + 2).contains(&count("out_of_order")), "{row}");
    assert_eq!(count("bad"), 0, "{row}");
    assert_eq!(count("sent"), row["messages"].as_i64().unwrap() + count("lost"), "{row}");
    let received = row["messages"].as_i64().unwrap() + count("late") + count("duplicated");
    assert_eq!(count("received"), received, "{row}");
    assert_eq!(row["errors"], 0);
}

#[test]
fn a_datagram_with_wrong_bytes_is_one_clear_line() {
    type Spoil = fn(&mut Vec<u8>);
    let spoils: [Spoil; 4] = [
        |data| data[20] ^= 1,
        |data| data[0] = 0xff, // a number that was never sent
        |data| data[7] ^= 1,   // another number, which the content is not that of
        |data| data.truncate(40),
    ];
    for spoil in spoils {
        let server = serve(move |count, mut data, send| {
            if count == 50 {
                spoil(&mut data);
            }
            send(&data);
        });
        let run = target(format!("udp://{server}"), &["--pipeline", "2", "--duration", "1s"]);
        assert!(run.failure().contains("wrong bytes: a datagram of "), "{run:?}");
    }
}

#[test]
fn a_server_of_datagrams_that_is_not_there_is_one_clear_line() {
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = target(format!("udp://{gone}"), &["--duration", "100ms"]);
    assert!(run.failure().contains("onnection refused"), "{run:?}");
}

#[test]
fn a_server_of_datagrams_that_answers_nothing_is_one_clear_line() {
    let server = serve(|_, _, _| {});
    let address = format!("udp://{server}");
    let run = target(&address, &["--duration", "100ms", "--pipeline", "3"]);
    assert!(run.failure().contains(" datagrams came back"), "{run:?}");
    let run = target(&address, &["--duration", "60s", "--stall-timeout", "100ms"]);
    assert!(run.failure().contains("no answer for 0.1 s"), "{run:?}");
}

#[test]
fn what_is_no_datagram_is_told() {
    let server = format!("udp://{}", serve(|_, data, send| send(&data)));
    for size in ["7", "65508"] {
        let run = target(&server, &["--size", size]);
        assert!(run.failure().contains("a datagram has 8 to 65,507 bytes"), "{run:?}");
    }
    let run = target(&server, &["--size", "8,65507", "--duration", "100ms", "--pipeline", "1"]);
    assert!(run.is_clean(), "{run:?}");
}

#[test]
fn kinds_are_measured_side_by_side() {
    let json = file("kinds.json");
    // A path of a socket must not be long.
    let directory = std::env::temp_dir().join(format!("oneloop-kinds-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let environment = format!("TMPDIR={}", directory.display());
    let run = Program::start_by(
        &["env", &environment],
        &[
            "bench",
            "--kinds",
            "tcp,unix,abstract,udp",
            "--no-counts",
            "--cycles",
            "6",
            "--connections",
            "2",
            "--pipeline",
            "3",
            "--json",
            json.to_str().unwrap(),
        ],
    )
    .wait();
    assert!(run.is_clean(), "{run:?}");
    let left = fs::read_dir(&directory).unwrap().count();
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(left, 0, "paths are left behind");
    let rows: Vec<Vec<&str>> =
        run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    for kind in ["tcp", "unix", "abstract", "udp"] {
        let row = rows.iter().find(|row| row.starts_with(&["2", "3", "64", kind]));
        let row = row.unwrap_or_else(|| panic!("{kind} is not in {run:?}"));
        let is_datagrams = kind == "udp";
        assert_eq!(row.last() == Some(&"%"), is_datagrams, "{run:?}");
    }
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["reference"], "tcp");
    for timing in report["timings"].as_array().unwrap() {
        assert!(timing["messages_per_second"].as_f64().unwrap() > 0.0, "{timing}");
        assert!(timing["cpu_nanos_per_message"].as_f64().unwrap() > 0.0, "{timing}");
        let (p99, p999) = (&timing["p99_nanos"], &timing["p999_nanos"]);
        assert!(p99.as_f64().unwrap() <= p999.as_f64().unwrap(), "{timing}");
        assert_eq!(timing["datagrams"].is_object(), timing["name"] == "udp", "{timing}");
    }
}

#[test]
fn the_calls_of_one_kind_are_counted() {
    let run = run(&["bench", "--kinds", "udp", "--cycles", "1", "--connections", "1"]);
    assert!(run.is_clean(), "{run:?}");
    let row =
        run.stdout.lines().find(|line| line.starts_with("system calls a message, pipeline 16"));
    let calls: f64 = row.unwrap().split_whitespace().last().unwrap().parse().unwrap();
    // With the feature `udp-batch`, which other packages of the workspace may turn on, sixteen leave as one.
    assert!((1.0..3.0).contains(&calls), "a datagram in and one out: {run:?}");
    assert!(!run.stdout.contains("instructions"), "{run:?}");
}

#[test]
fn a_kind_that_is_named_twice_is_told() {
    let run = run(&["bench", "--kinds", "unix,unix", "--no-counts"]);
    assert!(run.failure().contains("two servers are called unix"), "{run:?}");
}

#[test]
fn kinds_that_there_are_not_are_named() {
    let run = run(&["bench", "--kinds", "tcp,sctp"]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(run.stderr.contains("sctp") && run.stderr.contains("abstract"), "{run:?}");
}

#[test]
fn a_comparison_that_is_interrupted_leaves_no_directory_behind() {
    let program = Program::start(&["bench", "--kinds", "unix,tcp", "--no-counts"]);
    let name = format!("oneloop-bench-{}", program.pid());
    let directory = std::env::temp_dir().join(name);
    eventually("a server listens there", || directory.join("s").exists().then_some(()));
    terminate(program.pid());
    let run = program.wait();
    assert_eq!(run.status.signal(), Some(15), "{run:?}");
    assert!(!directory.exists(), "{}", directory.display());
}
