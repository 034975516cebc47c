//! The key-value server, and the clients of Redis: redis-cli, redis-benchmark, and the library for Python.

mod example;
#[path = "resp_kv/program.rs"]
mod program;
mod support;

use std::process::Stdio;

use example::{Client, Example, run_client, start_client};
use program::{Server, command};
use support::DEADLINE;

#[test]
fn redis_cli_has_the_answers_of_redis_about_strings() {
    check_family(include_str!("resp_kv/redis_cli/strings.txt"), &[]);
}

#[test]
fn redis_cli_has_the_answers_of_redis_about_keys() {
    check_family(include_str!("resp_kv/redis_cli/keys.txt"), &[]);
}

#[test]
fn redis_cli_has_the_answers_of_redis_about_hashes() {
    check_family(include_str!("resp_kv/redis_cli/hashes.txt"), &[]);
}

#[test]
fn redis_cli_has_the_answers_of_redis_about_lists() {
    check_family(include_str!("resp_kv/redis_cli/lists.txt"), &[]);
}

#[test]
fn redis_cli_has_the_answers_of_redis_about_sets() {
    check_family(include_str!("resp_kv/redis_cli/sets.txt"), &[]);
}

#[test]
fn redis_cli_has_the_answers_of_redis_about_transactions() {
    check_family(include_str!("resp_kv/redis_cli/transactions.txt"), &[]);
}

#[test]
fn redis_cli_has_the_answers_of_redis_about_the_connection() {
    check_family(include_str!("resp_kv/redis_cli/connection.txt"), &[]);
}

#[test]
fn redis_cli_has_the_answers_of_redis_in_the_third_protocol() {
    check_family(include_str!("resp_kv/redis_cli/resp3.txt"), &["-3"]);
}

/// Each command of the script stands behind `> `, and below it what redis-cli prints for it.
fn check_family(script: &str, options: &[&str]) {
    let mut commands = Vec::new();
    let mut expected = Vec::new();
    for line in script.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("> ") {
            Some(command) => commands.push(command),
            None => expected.push((line, *commands.last().unwrap())),
        }
    }
    let server = Server::start();
    let printed = server.redis_cli(&[&["--no-raw"], options].concat(), &commands.join("\n"));
    let mut printed = printed.lines();
    for (number, (line, command)) in expected.iter().enumerate() {
        let printed = printed.next().unwrap_or("nothing more");
        assert_eq!(printed, *line, "is what {command:?} prints, line {} of all output", number + 1);
    }
    assert_eq!(printed.next(), None, "is more than all commands print");
}

#[test]
fn redis_cli_pipes_100_000_commands() {
    const COUNT: usize = 100_000;
    let server = Server::start();
    let commands = (0..COUNT).flat_map(|i| match i % 4 {
        0 => command(&["SET", &format!("key:{}", i / 4), &i.to_string()]),
        1 => command(&["INCR", "counter"]),
        2 => command(&["RPUSH", "list", "element"]),
        _ => command(&["HSET", "hash", &format!("field:{}", i / 4), "value"]),
    });
    let input: Vec<u8> = commands.collect();
    let printed = run_client("redis-cli", &["-p", &server.port(), "--pipe"], &input);
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.contains("errors: 0, replies: 100000"), "{printed}");
    let commands = "DBSIZE\nGET counter\nLLEN list\nHLEN hash\nGET key:24999\n";
    assert_eq!(server.redis_cli(&[], commands), "25003\n25000\n25000\n25000\n99996\n");
}

#[test]
fn redis_cli_is_served_on_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("resp-kv-{}.sock", std::process::id()));
    let path = path.to_str().unwrap();
    let server = Example::run("resp_kv", &[&format!("unix:{path}")]);
    server.wait_for_line("listening on ");
    assert_eq!(run_client("redis-cli", &["-s", path, "INCR", "counter"], b""), b"1\n");
    let clients = run_client("redis-cli", &["-s", path, "CLIENT", "LIST"], b"");
    assert!(clients.starts_with(b"id=2 "), "{}", clients.escape_ascii());
}

/// Its own tests, but for sorted sets; and how many lines it prints for them: a headline, two kinds of PING, a list and
/// four kinds of LRANGE.
const TESTS: &str = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,lrange,mset";
const LINES: usize = 1 + 2 + 10 + 5 + 1;

#[test]
fn redis_benchmark_runs_without_a_pipeline() {
    benchmark(TESTS, LINES, &["-c", "50", "-P", "1", "-n", "1000"]);
}

#[test]
fn redis_benchmark_runs_with_a_pipeline() {
    benchmark(TESTS, LINES, &["-c", "50", "-P", "16", "-n", "3000", "-r", "1000"]);
}

#[test]
fn redis_benchmark_runs_with_a_thousand_connections() {
    benchmarks_by_twos(&["-c", "1000", "-P", "1", "-n", "3000"]);
}

#[test]
fn redis_benchmark_runs_with_a_thousand_connections_and_a_pipeline() {
    benchmarks_by_twos(&["-c", "1000", "-P", "16", "-n", "4000"]);
}

#[test]
fn redis_benchmark_runs_in_the_third_protocol() {
    benchmark(TESTS, LINES, &["-c", "10", "-P", "4", "-n", "1000", "-3"]);
}

fn benchmark(tests: &str, lines: usize, options: &[&str]) {
    let server = Server::start();
    assert_eq!(end_benchmark(start_benchmark(&server, tests, options)), lines);
}

/// All tests, two at a time: it sleeps most of a second for each that has so many connections.
fn benchmarks_by_twos(options: &[&str]) {
    let server = Server::start();
    let tests: Vec<_> = TESTS.split(',').collect();
    let lines = |two: &[&str]| -> usize {
        let clients: Vec<_> =
            two.iter().map(|test| start_benchmark(&server, test, options)).collect();
        clients.into_iter().map(end_benchmark).sum()
    };
    let lines: usize = tests.chunks(2).map(lines).sum();
    let headlines = tests.len();
    assert_eq!(lines, LINES - 1 + headlines);
}

fn start_benchmark(server: &Server, tests: &str, options: &[&str]) -> Client {
    let port = server.port();
    let arguments = [&["-p", &port, "--csv", "-t", tests], options].concat();
    start_client("redis-benchmark", &arguments, Stdio::null())
}

/// How many lines it has printed.
fn end_benchmark(mut client: Client) -> usize {
    // The slowest takes eight seconds, if nothing else runs.
    let (status, printed, complaints) = client.end_within(6 * DEADLINE);
    let printed = String::from_utf8(printed).unwrap();
    assert!(status.success() && complaints.is_empty(), "{status}: {complaints}{printed}");
    println!("{printed}");
    printed.lines().count()
}

#[test]
fn python_gets_and_sets_strings() {
    python("strings.py");
}

#[test]
fn python_uses_hashes_lists_and_sets() {
    python("collections_of_values.py");
}

/// Redis has no such bounds.
#[test]
fn python_asks_for_what_would_take_long() {
    if program::is_ours("bounds") {
        python("costs.py");
    }
}

#[test]
fn python_publishes_and_subscribes() {
    python("pubsub.py");
}

#[test]
fn python_waits_for_lists() {
    python("blocking.py");
}

#[test]
fn python_runs_transactions() {
    python("transactions.py");
}

#[test]
fn python_manages_clients() {
    python("clients.py");
}

#[test]
fn python_speaks_the_third_protocol() {
    python("resp3.py");
}

/// Runs the tests of a file in both versions of the protocol.
fn python(file: &str) {
    let server = Server::start();
    for version in ["2", "3"] {
        server.python(file, version);
    }
}
