//! The key-value server, byte by byte: what is no command, what is too large, and readers that are too slow.

mod example;
#[path = "resp_kv/model.rs"]
mod model;
#[path = "resp_kv/program.rs"]
mod program;
mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use example::run_client;
use model::{Model, any_command};
use program::{Client, Server, command, is_ours};
use support::DEADLINE;

/// What is answered to bytes that are no command, before the connection is closed.
const REFUSALS: &[(&[u8], &str)] = &[
    (b"*x\r\n", "invalid multibulk length"),
    (b"*1x\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*-0\r\n", "invalid multibulk length"),
    (b"*1\r\n$-0\r\n\r\n", "invalid bulk length"),
    (b"*01\r\n$4\r\nPING\r\n", "invalid multibulk length"),
    (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
    (b"*99999999999999999999\r\n", "invalid multibulk length"),
    (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*1\r\n:1\r\n", "expected '$'"),
    (b"*1\r\nPING\r\n", "expected '$'"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$4294967295\r\n", "invalid bulk length"),
    (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
    (b"*2\r\n$3\r\nGET\r\n$-5\r\n", "invalid bulk length"),
    (b"SET \"a b\r\n", "unbalanced quotes in request"),
    (b"SET 'a b\r\n", "unbalanced quotes in request"),
    (b"SET \"a\"b\r\n", "unbalanced quotes in request"),
];

#[test]
fn what_is_no_command_is_refused_in_redis_words() {
    let server = Server::start();
    for (bytes, reason) in REFUSALS {
        let mut client = server.connect();
        // What came before it is answered.
        client.send([b"PING\r\n", *bytes].concat());
        let expected = format!("+PONG\r\n-ERR Protocol error: {reason}");
        let (bytes, answer) = (bytes.escape_ascii(), client.rest());
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&expected) && answer.ends_with("\r\n"), "{bytes}: {answer:?}");
    }
}

#[test]
fn what_never_ends_is_refused() {
    let server = Server::start();
    for start in ["x", "*", "*1\r\n$"] {
        let mut client = server.connect();
        client.send(start.as_bytes());
        client.send("1".repeat(70_000));
        let answer = client.rest();
        assert!(
            answer.starts_with(b"-ERR Protocol error: "),
            "{start:?}: {}",
            answer.escape_ascii()
        );
    }
}

#[test]
fn empty_commands_have_no_answer() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("\r\n   \r\n*0\r\n*-1\r\n\n*-5\r\nPING\r\n");
    client.expect("+PONG\r\n");
}

#[test]
fn inline_commands_have_quotes_and_any_line_end() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("SET \"a key\" 'it\\'s'\n");
    client.send(
        "GET \"a\\x20key\"\r\n  STRLEN   'a key'  \r\nSET e \"\"\r\nGET e\r\nset \"\\n\\\"\" x\r\n",
    );
    client.send("*2\r\n$3\r\nGET\r\n$2\r\n\n\"\r\n");
    client.expect("+OK\r\n$4\r\nit's\r\n:4\r\n+OK\r\n$0\r\n\r\n+OK\r\n$1\r\nx\r\n");
}

#[test]
fn what_a_browser_posts_is_not_carried_out() {
    let server = Server::start();
    for head in ["POST /form HTTP/1.1\r\nHost: a\r\n\r\n", "host: a\r\n\r\n", "post /\r\n"] {
        let mut client = server.connect();
        client.send([head, "SET posted 1\r\n"].concat());
        client.rest();
        assert_eq!(server.connect().ask(&["EXISTS", "posted"]), ":0", "{head:?}");
    }
}

#[test]
fn commands_may_come_byte_by_byte() {
    let server = Server::start();
    let mut client = server.connect();
    let mut bytes = command(&["SET", "key", "a\r\nb"]);
    bytes.extend_from_slice(b"STRLEN key\r\n");
    bytes.extend_from_slice(&command(&["GET", "key"]));
    for byte in bytes {
        client.send([byte]);
    }
    client.expect("+OK\r\n:4\r\n$4\r\na\r\nb\r\n");
}

/// What a length promises is not reserved before it comes.
#[test]
fn memory_does_not_grow_with_what_is_only_announced() {
    if !is_ours("a policy of allocation") {
        return;
    }
    let server = Server::start();
    server.connect().ask(&["PING"]);
    let before = server.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = server.connect();
        client.send("PING\r\n*1000000\r\n$10000000\r\nx");
        client.expect("+PONG\r\n");
        clients.push(client);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more, for 100 clients that sent nearly nothing");
}

#[test]
fn a_command_with_too_many_or_too_long_arguments_is_refused() {
    if !is_ours("larger limits") {
        return;
    }
    let server = Server::start();
    for (bytes, reason) in [
        ("*1049601\r\n", "invalid multibulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
    ] {
        let mut client = server.connect();
        client.send(bytes);
        let expected = format!("-ERR Protocol error: {reason}\r\n");
        assert_eq!(String::from_utf8_lossy(&client.rest()), expected, "for {bytes:?}");
    }
}

#[test]
fn a_command_may_have_a_hundred_thousand_arguments() {
    let server = Server::start();
    let mut client = server.connect();
    let names: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    let arguments: Vec<&str> =
        ["SADD", "set"].into_iter().chain(names.iter().map(String::as_str)).collect();
    assert_eq!(client.ask(&arguments), ":100000");
    assert_eq!(client.ask(&["SCARD", "set"]), ":100000");
}

#[test]
fn a_half_closed_connection_gets_all_its_answers() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("INCR n\r\n".repeat(10_000));
    client.send("*2\r\n$3\r\nGET\r\n"); // the rest of it never comes
    client.shutdown();
    let expected: String = (1..=10_000).map(|i| format!(":{i}\r\n")).collect();
    assert!(client.rest() == expected.as_bytes());
}

/// As libraries send it.
#[test]
fn a_pipeline_may_be_sent_as_a_whole_before_the_first_reply_is_read() {
    const COUNT: usize = 200_000;
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.ask(&["SET", "key", &"x".repeat(200)]), "+OK");
    // Both are more than the buffers of the sockets hold.
    client.send(format!("GET {}key\r\n", " ".repeat(50)).repeat(COUNT));
    for _ in 0..COUNT {
        assert_eq!(client.reply().len(), 200);
    }
}

/// Redis's policy for subscribers: at 32 MiB of output that waits, the connection is closed.
#[test]
fn a_subscriber_that_does_not_read_is_dropped_and_delays_nobody() {
    let server = Server::start();
    let mut slow = Client::new(support::connect_small(server.address));
    let mut quick = server.connect();
    for client in [&mut slow, &mut quick] {
        client.command(&["SUBSCRIBE", "news"]);
        client.expect("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    }
    let mut publisher = server.connect();
    let text = "x".repeat(64 << 10);
    let mut sent = 0;
    let start = Instant::now();
    let mut receivers = 2;
    while receivers == 2 {
        assert!(start.elapsed() < DEADLINE, "the slow subscriber is never dropped");
        receivers = publisher.ask(&["PUBLISH", "news", &text])[1..].parse().unwrap();
        sent += text.len();
        // Each message is awaited here, and the slow one takes none of them.
        quick.expect("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n");
        assert_eq!(quick.reply().len(), text.len());
    }
    assert_eq!(receivers, 1);
    assert!((30 << 20..48 << 20).contains(&sent), "dropped after {sent} bytes");
    // It was not told everything, and then the end.
    let received = slow.rest();
    assert!(received.len() < sent, "{}", received.len());
}

#[test]
fn a_client_that_does_not_read_its_answers_is_bounded_and_delays_nobody() {
    let server = Server::start();
    let mut other = server.connect();
    other.ask(&["SET", "large", &"x".repeat(1 << 20)]);
    let before = server.resident_bytes();
    let stream = support::connect_small(server.address);
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    // It asks for 400 MiB.
    let _ = (&stream).write_all(&b"GET large\r\n".repeat(400));
    for i in 0..1000 {
        assert_eq!(other.ask(&["INCR", "n"]), format!(":{}", i + 1));
    }
    if is_ours("no bound for other clients") {
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 100 << 20, "{grown} bytes wait for a client that reads nothing");
    }
}

/// The simulation compares the server with this model; and this is what compares the model with Redis.
#[test]
fn the_server_says_what_its_model_says() {
    let server = Server::start();
    let mut state = 1;
    for number in 0..50 {
        let (mut client, mut model) = (server.connect(), Model::default());
        for _ in 0..100 {
            let command = any_command(&format!("client{number}"), || support::random(&mut state));
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            client.command(&words);
            client.expect(model.reply(&command));
        }
    }
}

#[test]
fn who_asks_for_the_same_large_value_a_million_times_is_refused() {
    const VALUE_BYTES: usize = 1 << 20;
    if !is_ours("no bound for replies") {
        return;
    }
    let server = Server::start();
    let mut client = server.connect();
    let large = "x".repeat(VALUE_BYTES);
    assert_eq!(client.ask(&["MSET", "large", &large, "small", "x"]), "+OK");
    client.ask(&["HSET", "hash", "large", &large]);
    let mut wanted = vec!["large"; 1_000_000];
    wanted.insert(0, "MGET");
    assert!(client.ask(&wanted) == TOO_LARGE);
    wanted.splice(..1, ["HMGET", "hash"]);
    assert!(client.ask(&wanted) == TOO_LARGE);
    assert_eq!(client.ask(&["GET", "small"]), "x", "it goes on");
    let resident = server.resident_bytes();
    assert!(resident < 100 * VALUE_BYTES, "{resident} bytes are kept");
}

const TOO_LARGE: &str = "-ERR the reply would be too large";
const TOO_MUCH: &str = "-ERR too much would be kept for this client";
const TOO_MUCH_FOR_ALL: &str = "-ERR too much would be kept for all clients together";

#[test]
fn what_has_no_room_in_a_reply_is_not_taken_out() {
    const ELEMENTS: usize = 130;
    if !is_ours("no bound for replies") {
        return;
    }
    let server = Server::start();
    let mut client = server.connect();
    let large = "x".repeat(1 << 20);
    for i in 0..ELEMENTS {
        assert_eq!(client.ask(&["RPUSH", "list", &large]), format!(":{}", i + 1));
        assert_eq!(client.ask(&["SADD", "set", &format!("{i}{large}")]), ":1");
    }
    assert!(client.ask(&["LPOP", "list", "1000"]) == TOO_LARGE);
    assert!(client.ask(&["RPOP", "list", "1000"]) == TOO_LARGE);
    assert!(client.ask(&["SPOP", "set", "1000"]) == TOO_LARGE);
    assert_eq!(client.ask(&["LLEN", "list"]), format!(":{ELEMENTS}"));
    assert_eq!(client.ask(&["SCARD", "set"]), format!(":{ELEMENTS}"));
    assert_eq!(client.ask(&["SET", "old", "value"]), "+OK");
    // Behind what leaves no room for one of the largest strings.
    assert_eq!(client.ask(&["MULTI"]), "+OK");
    assert_eq!(client.ask(&["LRANGE", "list", "0", "69"]), "+QUEUED");
    let takers: [&[&str]; 7] = [
        &["LPOP", "list"],
        &["BLPOP", "list", "0"],
        &["SPOP", "set", "60"],
        &["GETDEL", "old"],
        &["GETSET", "old", "new"],
        &["SET", "old", "new", "GET"],
        &["RPOP", "list", "60"],
    ];
    takers.iter().for_each(|taker| assert_eq!(client.ask(taker), "+QUEUED"));
    assert_eq!(client.ask(&["EXEC"]), "*8");
    assert_eq!(client.reply(), "*70");
    (0..70).for_each(|_| assert_eq!(client.reply().len(), large.len()));
    takers.iter().for_each(|taker| assert!(client.reply() == TOO_LARGE, "{taker:?}"));
    assert_eq!(client.ask(&["LLEN", "list"]), format!(":{ELEMENTS}"));
    assert_eq!(client.ask(&["SCARD", "set"]), format!(":{ELEMENTS}"));
    assert_eq!(client.ask(&["GET", "old"]), "value");
}

#[test]
fn what_clients_queue_in_transactions_has_a_bound_for_each_and_one_for_all() {
    if !is_ours("no bound for transactions") {
        return;
    }
    let server = Server::start();
    let set = command(&["SET", "large", &"x".repeat(60 << 20)]);
    let queue = |client: &mut Client| {
        assert_eq!(client.ask(&["MULTI"]), "+OK");
        client.send(&set);
        client.reply()
    };
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(queue(client), "+QUEUED"));
    let mut last = server.connect();
    assert_eq!(queue(&mut last), TOO_MUCH_FOR_ALL);
    assert!(last.ask(&["EXEC"]).starts_with("-EXECABORT"));
    // What ends makes room, whichever way.
    clients[0].send(&set);
    assert_eq!(clients[0].reply(), TOO_MUCH);
    assert!(clients[0].ask(&["EXEC"]).starts_with("-EXECABORT"));
    assert_eq!(queue(&mut last), "+QUEUED");
    assert_eq!(last.ask(&["DISCARD"]), "+OK");
    assert_eq!(queue(&mut last), "+QUEUED");
    assert_eq!(last.ask(&["EXEC"]), "*1");
    assert_eq!(last.reply(), "+OK");
    drop(clients.pop());
    assert_eq!(queue(&mut last), "+QUEUED");
}

#[test]
fn a_queued_command_counts_as_what_it_takes() {
    if !is_ours("no bound for transactions") {
        return;
    }
    let server = Server::start();
    let mut client = server.connect();
    client.ask(&["MULTI"]);
    let before = server.resident_bytes_peak();
    let mut queued = 0;
    loop {
        client.send("PING\r\n".repeat(10_000));
        let replies: Vec<_> = (0..10_000).map(|_| client.reply()).collect();
        queued += replies.iter().filter(|reply| *reply == "+QUEUED").count();
        if replies.iter().any(|reply| reply.starts_with(TOO_MUCH)) {
            break;
        }
    }
    let grown = server.resident_bytes_peak().saturating_sub(before);
    assert!(queued > 100_000 && grown < 88 << 20, "{grown} bytes more for {queued} commands");
}

/// Where its arguments stand takes more memory than they do, if they are short.
#[test]
fn memory_does_not_grow_with_the_arguments_of_a_command_that_is_not_whole() {
    if !is_ours("a policy of allocation") {
        return;
    }
    const ARGUMENTS: usize = 100_000;
    let server = Server::start();
    let mut other = server.connect();
    let before = server.resident_bytes();
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    let start = format!("*{}\r\n", ARGUMENTS + 1) + "$3\r\nDEL\r\n";
    let bytes = start + &"$0\r\n\r\n".repeat(ARGUMENTS - 1);
    clients.iter_mut().for_each(|client| client.send(&bytes));
    let received = clients.len() * bytes.len();
    let start = Instant::now();
    while number(&mut other, "total_net_input_bytes:") < received {
        assert!(start.elapsed() < DEADLINE, "it is not read");
    }
    let counted = number(&mut other, "loop_buffer_bytes:");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < counted + (8 << 20), "{grown} bytes more, and {counted} are accounted for");
    clients.iter_mut().for_each(|client| client.send("$0\r\n\r\n"));
    clients.iter_mut().for_each(|client| client.expect(":0\r\n"));
}

/// A number of INFO.
fn number(client: &mut Client, name: &str) -> usize {
    let info = client.ask(&["INFO"]);
    info.split(name).nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap()
}

#[test]
fn what_a_client_watches_or_waits_for_has_a_bound() {
    if !is_ours("no bound for watched keys") {
        return;
    }
    let server = Server::start();
    let mut client = server.connect();
    let names: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (names, more) = names.split_at(50_000);
    assert_eq!(client.ask(&[&["WATCH"], names].concat()), "+OK");
    assert_eq!(client.ask(&[&["WATCH"], more].concat()), TOO_MUCH);
    assert_eq!(client.ask(&["WATCH", "1"]), "+OK", "one that it watches already");
    assert_eq!(client.ask(&["UNWATCH"]), "+OK");
    assert_eq!(client.ask(&["WATCH", &"x".repeat(45 << 20)]), TOO_MUCH);
    assert_eq!(client.ask(&["WATCH", "1"]), "+OK");
    let pop = [&["BLPOP"], names, more, &["0"]].concat();
    assert_eq!(client.ask(&pop), TOO_MUCH);
}

/// Only the keys that somebody watches are looked at one by one.
#[test]
fn flushing_many_keys_takes_no_memory_for_each_while_somebody_watches_one() {
    let server = Server::start();
    let (mut client, mut watching) = (server.connect(), server.connect());
    for batch in 0..4 {
        let names: Vec<String> = (0..100_000).map(|i| format!("{batch}:{i}")).collect();
        let pairs = names.iter().flat_map(|name| [name.as_str(), "x"]);
        assert_eq!(client.ask(&[&["MSET"], &pairs.collect::<Vec<_>>()[..]].concat()), "+OK");
    }
    assert_eq!(watching.ask(&["WATCH", "1:7"]), "+OK");
    let before = server.resident_bytes_peak();
    assert_eq!(client.ask(&["FLUSHALL"]), "+OK");
    let grown = server.resident_bytes_peak().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes more for 400,000 keys");
    assert_eq!(watching.ask(&["MULTI"]), "+OK");
    assert_eq!(watching.ask(&["EXEC"]), "*-1");
}

#[test]
fn who_waits_may_have_sent_more_behind_it_than_is_kept() {
    const VALUE_BYTES: usize = 30 << 20;
    let server = Server::start();
    let mut waiting = server.connect();
    let sender = std::thread::spawn(move || {
        waiting.command(&["BLPOP", "list", "0"]);
        let set = command(&["SET", "large", &"x".repeat(VALUE_BYTES)]);
        (0..4).for_each(|_| waiting.send(&set));
        waiting
    });
    let mut other = server.connect();
    let start = Instant::now();
    while number(&mut other, "total_net_input_bytes:") < 2 * VALUE_BYTES {
        assert!(start.elapsed() < DEADLINE, "it is not read");
    }
    other.ask(&["RPUSH", "list", "x"]);
    let mut waiting = sender.join().unwrap();
    waiting.expect("*2\r\n$4\r\nlist\r\n$1\r\nx\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
}

/// An idle client may stay for ever; so the kernel asks whether it is still there (ss(8) shows its timer).
#[test]
fn a_peer_that_has_vanished_is_noticed() {
    let server = Server::start();
    let mut client = server.connect();
    client.ask(&["PING"]);
    let filter = format!("sport = :{}", server.port());
    let shown = run_client("ss", &["-tnoH", "state", "established", &filter], b"");
    let shown = String::from_utf8_lossy(&shown);
    assert!(
        shown.contains("timer:(keepalive,4min") || shown.contains("timer:(keepalive,5min"),
        "{shown}"
    );
}

/// A message is another one for each pattern, and nothing of it leaves before all are made.
#[test]
fn messages_to_many_patterns_have_a_bound() {
    const TEXT_BYTES: usize = 8 << 20;
    if !is_ours("no bound for messages") {
        return;
    }
    let server = Server::start();
    let (mut subscriber, mut publisher) = (server.connect(), server.connect());
    let patterns: Vec<String> = (1..=32).map(|stars| "*".repeat(stars)).collect();
    patterns.iter().for_each(|pattern| subscriber.command(&["PSUBSCRIBE", pattern]));
    while subscriber.line() != ":32" {}
    let text = "x".repeat(TEXT_BYTES);
    let refusal = "-ERR the messages for all patterns that match would be too large";
    assert_eq!(publisher.ask(&["PUBLISH", "news", &text]), refusal);
    assert_eq!(publisher.ask(&["PUBLISH", "news", &text[..TEXT_BYTES / 4]]), ":32");
    // Also of several in one transaction.
    let mut patient = server.connect();
    patterns.iter().for_each(|pattern| patient.command(&["PSUBSCRIBE", pattern]));
    while patient.line() != ":32" {}
    assert_eq!(publisher.ask(&["MULTI"]), "+OK");
    for _ in 0..5 {
        let queued = publisher.ask(&["PUBLISH", "news", &text[..TEXT_BYTES / 8]]);
        assert_eq!(queued, "+QUEUED");
    }
    assert_eq!(publisher.ask(&["EXEC"]), "*5");
    let replies: Vec<String> = (0..5).map(|_| publisher.reply()).collect();
    assert_eq!(replies[4], refusal);
    let peak = server.resident_bytes_peak();
    assert!(peak < 60 * TEXT_BYTES, "{peak} bytes were in use");
}

/// Each message is tried with all patterns of all clients, and channels take memory.
#[test]
fn the_channels_and_patterns_of_a_client_have_a_bound() {
    if !is_ours("no bound for patterns") {
        return;
    }
    let server = Server::start();
    let mut client = server.connect();
    client.send("HELLO 3\r\n");
    while client.line() != "*0" {} // the last line of what it is told
    let names: Vec<String> = (0..90_000).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let more: Vec<&str> = names[..256].to_vec();
    client.command(&[&["PSUBSCRIBE"], &more[..]].concat());
    (1..=256).for_each(|count| while client.line() != format!(":{count}") {});
    let refusal = "-ERR a client has too many patterns";
    assert_eq!(client.ask(&["PSUBSCRIBE", "more"]), refusal);
    assert_eq!(client.ask(&["PSUBSCRIBE", "7"]), ">3", "one that it has already");
    client.command(&[&["SUBSCRIBE"], &names[..]].concat());
    while client.line() != TOO_MUCH {}
    let mut other = server.connect();
    assert_eq!(other.ask(&["PSUBSCRIBE", "more"]), "*3");
}

/// The memory of channels is none that the reactor knows.
#[test]
fn the_channels_of_all_clients_have_a_bound() {
    const NAMES: usize = 40_000;
    if !is_ours("no bound for channels") {
        return;
    }
    let server = Server::start();
    server.connect().ask(&["PING"]);
    let before = server.resident_bytes();
    let subscribe = |number: usize| {
        let mut client = server.connect();
        let mut names: Vec<String> = (0..NAMES).map(|i| format!("{i:x>250}:{number}")).collect();
        names.insert(0, "SUBSCRIBE".to_string());
        client.command(&names.iter().map(String::as_str).collect::<Vec<_>>());
        client
    };
    let mut clients: Vec<_> = (0..5).map(subscribe).collect();
    let (last, others) = clients.split_last_mut().unwrap();
    for client in others {
        while client.line() != format!(":{NAMES}") {}
    }
    while last.line() != TOO_MUCH_FOR_ALL {}
    let grown = server.resident_bytes().saturating_sub(before);
    assert!((80 << 20..256 << 20).contains(&grown), "{grown} bytes more");
    let mut other = server.connect();
    assert_eq!(other.ask(&["WATCH", &"x".repeat(1 << 20)]), TOO_MUCH_FOR_ALL);
    // Who leaves makes room.
    drop(clients.remove(0));
    let start = Instant::now();
    while other.ask(&["SUBSCRIBE", "news"]) == TOO_MUCH_FOR_ALL {
        assert!(start.elapsed() < DEADLINE, "there is no room again");
    }
}

/// Each message is tried with all of them, so that many clients could take all the time.
#[test]
fn the_patterns_of_all_clients_have_a_bound() {
    if !is_ours("no bound for patterns") {
        return;
    }
    let server = Server::start();
    let subscribe = |number: usize| {
        let mut client = server.connect();
        let names: Vec<String> = (0..256).map(|i| format!("{number}:{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        client.command(&[&["PSUBSCRIBE"], &names[..]].concat());
        client
    };
    let mut clients: Vec<_> = (0..4).map(subscribe).collect();
    clients.iter_mut().for_each(|client| while client.line() != ":256" {});
    let mut other = server.connect();
    let refusal = "-ERR all clients together have too many patterns";
    assert_eq!(other.ask(&["PSUBSCRIBE", "more"]), refusal);
    assert_eq!(other.ask(&["PSUBSCRIBE", "3:7"]), "*3", "one that others have already");
    let mut channels = server.connect();
    assert_eq!(channels.ask(&["SUBSCRIBE", "news"]), "*3", "channels are looked up");
    // Who leaves makes room.
    drop(clients.remove(0));
    let start = Instant::now();
    let mut more = server.connect();
    while more.ask(&["PSUBSCRIBE", "more"]) == refusal {
        assert!(start.elapsed() < DEADLINE, "there is no room again");
    }
}

/// Matching takes as long as the product of their lengths, for each message and pattern; and a client keeps its name.
#[test]
fn names_and_patterns_have_a_bound() {
    if !is_ours("no bound for names") {
        return;
    }
    let server = Server::start();
    let (mut client, mut publisher) = (server.connect(), server.connect());
    let (long, too_long) = ("x".repeat(256), "x".repeat(257));
    for command in [&["CLIENT", "SETNAME", &too_long][..], &["HELLO", "2", "SETNAME", &too_long]] {
        let answer = client.ask(command);
        assert_eq!(answer, "-ERR a name or pattern has at most 256 bytes", "{}", command[1]);
    }
    assert_eq!(client.ask(&["CLIENT", "SETNAME", &long]), "+OK");
    for command in
        [&["SUBSCRIBE", &too_long][..], &["PSUBSCRIBE", &too_long], &["PUBLISH", &too_long, "text"]]
    {
        let answer = client.ask(command);
        assert_eq!(answer, "-ERR a name or pattern has at most 256 bytes", "{}", command[0]);
    }
    assert_eq!(publisher.ask(&["PUBLISH", "news", "text"]), ":0", "it subscribed to nothing");
    assert_eq!(client.ask(&["SET", &too_long, "1"]), "+OK", "a key may be longer");
    client.command(&["SUBSCRIBE", &long]);
    client.expect(format!("*3\r\n$9\r\nsubscribe\r\n$256\r\n{long}\r\n:1\r\n"));
    assert_eq!(publisher.ask(&["PUBLISH", &long, "text"]), ":1");
}
