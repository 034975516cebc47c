//! The example programs, end to end: the built programs over real sockets.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::example::{Example, path_of, run_client};
use crate::support::{self, DEADLINE};

/// Sends so many bytes and the end of file, and receives the same.
fn assert_comes_back(mut client: TcpStream, count: usize) {
    let sent = support::pattern(count);
    let mut writing = client.try_clone().unwrap();
    let (mut received, expected) = (Vec::new(), sent.clone());
    let writer = std::thread::spawn(move || {
        writing.write_all(&sent).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    client.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == expected, "{} bytes came back", received.len());
}

#[test]
fn echo_sends_back_what_it_is_sent() {
    let echo = Example::start("echo");
    assert_comes_back(support::connect(echo.address), 300_000);
}

#[test]
fn chat_sends_what_a_member_says_to_all() {
    let chat = Example::start("chat");
    let mut anna = Member::join(&chat, "anna");
    let mut bob = Member::join(&chat, "bob");
    anna.expect("* bob joined");
    anna.say("hello");
    anna.expect("anna: hello");
    bob.expect("anna: hello");
    bob.say("hello, anna\r"); // as telnet(1) ends lines
    anna.expect("bob: hello, anna");
    bob.expect("bob: hello, anna");
}

#[test]
fn chat_tells_of_members_that_leave() {
    let chat = Example::start("chat");
    let mut anna = Member::join(&chat, "anna");
    let mut bob = Member::join(&chat, "bob");
    let mut carol = Member::join(&chat, "carol");
    anna.expect("* bob joined");
    anna.expect("* carol joined");
    bob.say("/quit");
    anna.expect("* bob left");
    bob.expect("* carol joined");
    bob.expect_end();
    carol.expect("* bob left"); // what is left unread would make it a reset
    drop(carol);
    anna.expect("* carol left");
}

#[test]
fn chat_frees_the_name_of_a_member_that_leaves() {
    let chat = Example::start("chat");
    let mut anna = Member::join(&chat, "anna");
    let mut bob = Member::join(&chat, "bob");
    bob.say("/quit"); // and does not close its side
    anna.expect("* bob joined");
    anna.expect("* bob left");
    Member::join(&chat, "bob");
    anna.expect("* bob joined");
}

#[test]
fn chat_lists_its_members() {
    let chat = Example::start("chat");
    let mut bob = Member::join(&chat, "bob");
    let mut anna = Member::join(&chat, "anna");
    bob.expect("* anna joined");
    Member::connect(&chat).expect("* welcome, what is your name?"); // without a name nobody's member
    anna.say("/who");
    anna.expect("* here: anna, bob");
}

#[test]
fn chat_refuses_bad_names() {
    const NAME: &str = "* a name has letters, digits, spaces and - _ . ' in it, try again";
    let chat = Example::start("chat");
    let mut anna = Member::join(&chat, "anna");
    let mut other = Member::connect(&chat);
    other.expect("* welcome, what is your name?");
    let refusals = [
        ("", "* a name has 1 to 20 characters, try again"),
        ("   ", "* a name has 1 to 20 characters, try again"),
        ("abcdefghijklmnopqrstu", "* a name has 1 to 20 characters, try again"),
        ("an\x1b[2Jna", "* a line has no control characters"),
        ("anna", "* the name anna is taken, try again"),
        ("* anna", NAME),
        ("anna: hello", NAME),
        ("anna\u{ff1a} hello", NAME), // a colon of full width
        ("an\u{200b}na", NAME),       // a space of no width
        ("\u{202e}anna", NAME),       // from right to left
        ("/help", "* the commands are /who and /quit"),
    ];
    for (name, refusal) in refusals {
        other.say(name);
        other.expect(refusal);
    }
    other.send(b"\xff\xfe\n");
    other.expect("* a line is UTF-8 text");
    other.say("ánná 20 characters..");
    other.expect("* ánná 20 characters.. joined");
    anna.expect("* ánná 20 characters.. joined");
}

#[test]
fn chat_refuses_a_long_line_and_ends_an_endless_one() {
    let chat = Example::start("chat");
    let mut anna = Member::join(&chat, "anna");
    let mut bob = Member::join(&chat, "bob");
    anna.expect("* bob joined");
    let longest = "x".repeat(1000);
    bob.say(&format!("{longest}x"));
    bob.expect("* a line has at most 1000 bytes");
    bob.say(&longest);
    bob.expect(&format!("bob: {longest}"));
    anna.expect(&format!("bob: {longest}"));
    bob.send("x".repeat(5000).as_bytes());
    bob.expect("* a line has an end, good bye");
    bob.expect_end();
    drop(bob);
    anna.expect("* bob left: the peer sent what is no frame");
}

#[test]
fn chat_drops_a_member_that_does_not_read_and_delays_nobody() {
    let chat = Example::start("chat");
    let mut anna = Member::join(&chat, "anna");
    let mut slow = support::connect_small(chat.address);
    slow.write_all(b"slow\n").unwrap();
    anna.expect("* slow joined");
    let text = "x".repeat(900);
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    loop {
        assert!(start.elapsed() < DEADLINE, "the slow member is never dropped");
        let said = Instant::now();
        anna.say(&text);
        let line = anna.line();
        slowest = slowest.max(said.elapsed());
        if line.starts_with("* ") {
            assert_eq!(line, "* slow left: the peer does not take its output");
            break;
        }
        assert_eq!(line, format!("anna: {text}"));
    }
    // A round trip takes some 100 us; waiting for the slow one would take for ever.
    assert!(slowest < Duration::from_secs(5), "one line took {slowest:?}");
    anna.expect(&format!("anna: {text}"));
    anna.say("/who");
    anna.expect("* here: anna");
}

#[test]
fn chat_answers_a_member_that_asks_for_much_when_it_reads() {
    let chat = Example::start("chat");
    let mut anna = Member::join(&chat, "anna");
    let asked = 200_000;
    let mut asking = anna.connection.get_ref().try_clone().unwrap();
    let writer = std::thread::spawn(move || asking.write_all("/who\n".repeat(asked).as_bytes()));
    for _ in 0..asked {
        anna.expect("* here: anna");
    }
    writer.join().unwrap().unwrap();
}

#[test]
fn raw_source_serves_what_a_command_prints_to_all_clients() {
    let mut tail = Example::start_with("raw_source", "127.0.0.1:0", &["cat"]);
    let mut clients = [support::connect(tail.address), support::connect(tail.address)];
    tail.wait_for_line("a client came");
    tail.wait_for_line("a client came");
    let printed = support::pattern(500_000);
    let mut input = tail.take_input();
    input.write_all(&printed).unwrap();
    drop(input);
    for client in &mut clients {
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received == printed, "{} of {} bytes", received.len(), printed.len());
    }
    drop(clients);
    assert!(tail.wait().success());
}

#[test]
fn raw_source_goes_on_when_a_client_leaves() {
    let mut tail = Example::start_with("raw_source", "127.0.0.1:0", &["cat"]);
    let leaves = support::connect(tail.address);
    tail.wait_for_line("a client came");
    let mut stays = support::connect(tail.address);
    tail.wait_for_line("a client came");
    drop(leaves);
    tail.wait_for_line("a client left: the peer closed");
    let mut input = tail.take_input();
    input.write_all(b"still there\n").unwrap();
    let mut line = [0; 12];
    stays.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"still there\n");
}

#[test]
fn raw_source_ends_with_its_command() {
    let tail = Example::start_with("raw_source", "127.0.0.1:0", &["true"]);
    assert!(tail.wait().success());
}

#[test]
fn ticker_sends_its_ticks_and_what_is_typed_to_all_clients() {
    let mut ticker = Example::start("ticker");
    let mut clients = [(); 2].map(|()| BufReader::new(support::connect(ticker.address)));
    let line = |client: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        client.read_line(&mut line).expect("a line comes in time");
        line
    };
    // Who has had a tick has come.
    for client in &mut clients {
        assert!(line(client).starts_with("tick "));
    }
    let mut input = ticker.take_input();
    input.write_all(b"one\ntwo\n").unwrap();
    drop(input);
    for client in &mut clients {
        let mut lines: Vec<String> = Vec::new();
        while lines.iter().filter(|line| line.starts_with("tick")).count() < 2 || lines.len() < 4 {
            lines.push(line(client));
        }
        lines.retain(|line| !line.starts_with("tick"));
        assert_eq!(lines, ["one\n", "two\n"]);
    }
}

/// A client of another language's standard library: requests sent ahead, the longest and the shortest, and one
/// that is too long, and one that is no numbers.
#[test]
fn length_prefixed_answers_each_message_in_order() {
    const CLIENT: &str = r#"
import socket, struct, sys

def connect():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)

def request(numbers):
    body = b"".join(struct.pack("!Q", number) for number in numbers)
    return struct.pack("!I", len(body)) + body

requests = [[40, 2], [], range(1024), [2 ** 64 - 1, 3]]
server = connect()
server.sendall(b"".join(map(request, requests)))
for numbers in requests:
    length, total = struct.unpack("!IQ", server.recv(12, socket.MSG_WAITALL))
    assert (length, total) == (8, sum(numbers) % 2 ** 64), (numbers, length, total)

for bad in [struct.pack("!I", 8193), struct.pack("!I", 3) + b"abc"]:
    server = connect()
    server.sendall(bad)
    assert server.recv(1) == b"", "it is closed"
print("all answered")
"#;
    let adder = Example::start("length_prefixed");
    let port = adder.address.port().to_string();
    assert_eq!(run_client("python3", &["-c", CLIENT, &port], b""), b"all answered\n");
    adder.wait_for_line("a frame is over its limit of 8192 bytes");
    adder.wait_for_line("a message is not made of numbers of eight bytes");
}

#[test]
fn blocking_work_answers_each_client_in_order() {
    let resolver = Example::start("blocking_work");
    let clients: Vec<TcpStream> = (0..4).map(|_| support::connect(resolver.address)).collect();
    for mut client in &clients {
        client.write_all(b"127.0.0.1\n::1\r\nlocalhost\n127.0.0.2\nno\0host\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    for mut client in clients {
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        let answers: Vec<&str> = answers.lines().collect();
        assert_eq!(answers.len(), 5, "{answers:?}");
        assert_eq!(answers[..2], ["127.0.0.1: 127.0.0.1", "::1: ::1"]);
        assert!(answers[2].starts_with("localhost: ") && answers[2].contains("127.0.0.1"));
        assert_eq!(answers[3], "127.0.0.2: 127.0.0.2");
        assert!(answers[4].starts_with("no\0host: "), "{answers:?}");
    }
}

#[test]
fn blocking_work_refuses_a_name_that_is_too_long_also_with_the_end_of_its_line() {
    let resolver = Example::start("blocking_work");
    let mut client = support::connect(resolver.address);
    client.write_all(format!("{}\n", "x".repeat(256)).as_bytes()).unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    assert_eq!(answers, "a name is too long\n");
}

/// Its times divided by 10: half a second for a hello or the rest of a line, a second of silence, and
/// another half after the warning.
fn idle_kick() -> Example {
    Example::start_with("idle_kick", "127.0.0.1:0", &["10"])
}

#[test]
fn idle_kick_warns_whoever_says_nothing_and_then_sees_them_off() {
    let kick = idle_kick();
    let mut member = Member::connect(&kick);
    let start = Instant::now();
    member.say("hello");
    member.expect("welcome");
    member.expect("still there?");
    assert!(start.elapsed() >= Duration::from_millis(1000), "early: {:?}", start.elapsed());
    member.expect("bye: idle for too long");
    assert!(start.elapsed() >= Duration::from_millis(1500), "early: {:?}", start.elapsed());
    member.expect_end();
}

#[test]
fn idle_kick_warns_again_whoever_has_answered() {
    let kick = idle_kick();
    let mut member = Member::connect(&kick);
    member.say("hello");
    member.expect("welcome");
    for _ in 0..2 {
        member.expect("still there?");
        member.say("yes");
        member.expect("yes");
    }
    member.expect("still there?");
    member.expect("bye: idle for too long");
    member.expect_end();
}

#[test]
fn idle_kick_does_not_wait_for_a_hello_for_ever() {
    let kick = idle_kick();
    let start = Instant::now();
    let mut stranger = Member::connect(&kick);
    stranger.say("good morning");
    stranger.expect("say hello first");
    stranger.expect("bye: what the handler expected did not come in time");
    assert!(start.elapsed() >= Duration::from_millis(500), "early: {:?}", start.elapsed());
    stranger.expect_end();
}

#[test]
fn idle_kick_does_not_wait_for_the_rest_of_a_line_for_ever() {
    let kick = idle_kick();
    let mut member = Member::connect(&kick);
    member.say("hello");
    member.expect("welcome");
    let start = Instant::now();
    member.send(b"half a li");
    member.expect("bye: a message was not complete in time");
    assert!(start.elapsed() >= Duration::from_millis(500), "early: {:?}", start.elapsed());
    member.expect_end();
}

/// One who takes part in the chat.
struct Member {
    connection: BufReader<TcpStream>,
}

impl Member {
    fn connect(chat: &Example) -> Member {
        Member { connection: BufReader::new(support::connect(chat.address)) }
    }

    fn join(chat: &Example, name: &str) -> Member {
        let mut member = Member::connect(chat);
        member.expect("* welcome, what is your name?");
        member.say(name);
        member.expect(&format!("* {name} joined"));
        member
    }

    fn send(&mut self, bytes: &[u8]) {
        self.connection.get_mut().write_all(bytes).unwrap();
    }

    fn say(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.connection.read_line(&mut line).expect("a line comes in time");
        assert_eq!(line.pop(), Some('\n'), "the chat ended the connection");
        line
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    fn expect_end(&mut self) {
        let mut line = String::new();
        assert_eq!(self.connection.read_line(&mut line).expect("an end in time"), 0, "{line:?}");
    }
}

/// What a program says that cannot go on.
fn complaint(name: &str, arguments: &[&OsStr], output: Stdio) -> String {
    let mut command = Command::new(path_of(name));
    let done = command.args(arguments).env("RUST_LOG", "off").stdout(output).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn an_example_whose_output_is_full_ends_and_says_why() {
    let names = ["blocking_work", "chat", "dns", "idle_kick", "length_prefixed", "ticker"];
    for name in names {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let complaint = complaint(name, &["127.0.0.1:0".as_ref()], full.into());
        assert_eq!(complaint, format!("{name}: No space left on device (os error 28)\n"));
    }
}

#[test]
fn an_address_that_cannot_be_read_is_one_clear_line() {
    for name in ["dns", "echo", "udp_echo"] {
        let complaint = complaint(name, &["127.0.0.1:70000".as_ref()], Stdio::null());
        assert!(complaint.contains("port 70000 is over 65535"), "{complaint}");
        assert!(complaint.starts_with(&format!("{name}: ")) && complaint.lines().count() == 1);
    }
    let complaint = complaint("dns", &["unix:/no/such".as_ref()], Stdio::null());
    assert_eq!(complaint, "dns: unix:/no/such is no address for both TCP and UDP\n");
}

#[test]
fn unix_echo_takes_a_path_that_is_no_text() {
    let path = OsStr::from_bytes(b"/no/such/\xff/directory");
    let complaint = complaint("unix_echo", &[path], Stdio::null());
    assert!(complaint.contains("No such file or directory"), "{complaint}");
}

#[test]
fn blocking_work_says_what_is_wrong_with_a_line() {
    let resolver = Example::start("blocking_work");
    let mut client = support::connect(resolver.address);
    client.write_all(b"\xff\n").unwrap();
    client.write_all(&[b'x'; 300]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "a name is UTF-8\na name is too long\n");
}
