//! The key-value server's append-only file: what is in it after the server was killed, stopped, or cut off.

mod example;
#[path = "resp_kv/program.rs"]
mod program;
mod support;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use example::{Example, path_of, start_client};
use program::{Server, command};
use support::DEADLINE;

/// A file in a directory of its own, which goes with this value.
struct File {
    directory: PathBuf,
}

impl File {
    fn new(test: &str) -> File {
        let directory = std::env::temp_dir().join(format!("resp-kv-{}-{test}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        File { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("appendonly.aof")
    }

    /// Starts the server with this file.
    fn serve(&self, policy: &str) -> Server {
        let path = self.path();
        Server::start_with(&["--appendonly", path.to_str().unwrap(), "--appendfsync", policy])
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    /// Cuts so many bytes off its end.
    fn cut(&self, bytes: u64) {
        let file = OpenOptions::new().write(true).open(self.path()).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A failing test may have left nothing.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn nothing_that_was_acknowledged_under_always_is_lost_by_kill_9_in_mid_load() {
    const WRITERS: u64 = 8;
    let file = File::new("killed");
    // How many values of each writer were acknowledged, over all rounds.
    let acknowledged: Arc<Vec<AtomicU64>> =
        Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    let total = |counts: &[AtomicU64]| counts.iter().map(|c| c.load(Ordering::SeqCst)).sum::<u64>();
    for _ in 0..3 {
        let server = file.serve("always");
        let before = total(&acknowledged);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (address, counts) = (server.address, Arc::clone(&acknowledged));
                thread::spawn(move || {
                    write_until_the_end(writer, address, &counts[writer as usize])
                })
            })
            .collect();
        let start = Instant::now();
        while total(&acknowledged) < before + 1000 {
            assert!(start.elapsed() < DEADLINE, "nothing is acknowledged");
            thread::yield_now();
        }
        server.process.kill();
        for writer in writers {
            writer.join().unwrap();
        }
        let server = file.serve("always");
        let mut client = server.connect();
        for (writer, count) in acknowledged.iter().enumerate() {
            let count = count.load(Ordering::SeqCst);
            let length: u64 =
                client.ask(&["LLEN", &format!("list:{writer}")])[1..].parse().unwrap();
            assert!(length >= count, "writer {writer}: {length} of {count}");
            for i in 0..count {
                client.command(&["GET", &format!("key:{writer}:{i}")]);
            }
            for i in 0..count {
                assert_eq!(client.reply(), i.to_string());
            }
            // What was carried out and not acknowledged counts from now on.
            acknowledged[writer].store(length, Ordering::SeqCst);
        }
    }
}

/// Writes one key and one element after another, some at once, and counts those whose two answers have come.
fn write_until_the_end(writer: u64, address: SocketAddr, acknowledged: &AtomicU64) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut next = acknowledged.load(Ordering::SeqCst);
    loop {
        let batch = next..next + 1 + writer;
        for i in batch.clone() {
            let bytes = [
                command(&["SET", &format!("key:{writer}:{i}"), &i.to_string()]),
                command(&["RPUSH", &format!("list:{writer}"), &i.to_string()]),
            ];
            if stream.write_all(&bytes.concat()).is_err() {
                return;
            }
        }
        for i in batch {
            let (Some(Ok(set)), Some(Ok(pushed))) = (answers.next(), answers.next()) else {
                return;
            };
            assert_eq!((set.as_str(), pushed), ("+OK", format!(":{}", i + 1)));
            acknowledged.fetch_add(1, Ordering::SeqCst);
            next = i + 1;
        }
    }
}

#[test]
fn replies_that_wait_for_the_disk_come_before_the_end_of_their_connection() {
    let file = File::new("ends");
    let server = file.serve("always");
    for (last, expected) in [
        ("QUIT\r\n", "+OK\r\n:1\r\n+OK\r\n"),
        ("*1\r\n$x\r\n", "+OK\r\n:1\r\n-ERR Protocol error: invalid bulk length\r\n"),
    ] {
        let mut client = server.connect();
        client.send(format!("SET ended 0\r\nINCR ended\r\n{last}SET ended 9\r\n"));
        client.shutdown();
        let received = client.rest();
        assert_eq!(String::from_utf8_lossy(&received), expected, "{last:?}");
    }
    assert_eq!(server.connect().ask(&["GET", "ended"]), "1");
}

#[test]
fn a_torn_last_record_is_cut_off_with_a_warning() {
    let file = File::new("torn");
    file.serve("always").connect().ask(&["SET", "whole", "1"]);
    let whole = file.bytes().len();
    file.serve("always").connect().ask(&["SET", "torn", "2"]);
    file.cut(3);
    let path = file.path();
    let arguments = ["127.0.0.1:0", "--appendonly", path.to_str().unwrap()];
    Example::run("resp_kv", &arguments).wait_for_line("cut off");
    let server = file.serve("always");
    let mut client = server.connect();
    assert_eq!(client.ask(&["GET", "whole"]), "1");
    assert_eq!(client.ask(&["GET", "torn"]), "nil");
    assert!(file.bytes().len() >= whole);
    // The next record stands where the torn one did.
    client.ask(&["SET", "next", "3"]);
    drop(server);
    assert_eq!(
        file.serve("always").redis_cli(&[], "MGET whole torn next\nDBSIZE\n"),
        "1\n\n3\n2\n"
    );
}

#[test]
fn a_torn_transaction_is_cut_off_as_a_whole() {
    let file = File::new("torn-transaction");
    let server = file.serve("always");
    server.redis_cli(&[], "SET a 1\nMULTI\nINCR a\nSET b 2\nEXEC\n");
    drop(server);
    file.cut(2);
    assert_eq!(file.serve("always").redis_cli(&[], "MGET a b\n"), "1\n\n");
}

#[test]
fn a_file_that_is_broken_in_the_middle_is_not_loaded() {
    let file = File::new("broken");
    file.serve("always").redis_cli(&[], "SET a 1\nSET b 2\nSET c 3\n");
    let mut bytes = file.bytes();
    let middle = bytes.len() / 2;
    bytes[middle - 20..middle + 20].fill(b'!');
    fs::write(file.path(), &bytes).unwrap();
    let complaint = fails_to_start(&file.path());
    assert!(complaint.contains("appendonly.aof"), "{complaint}");
    assert_eq!(file.bytes(), bytes, "it is as it was");
}

#[test]
fn a_file_that_is_something_else_is_left_as_it_is() {
    let zeros = |count| vec![0; count];
    for other in [b"Dear Sir, this is no AOF at all".to_vec(), zeros(1), zeros(100_000)] {
        let file = File::new("other");
        fs::write(file.path(), &other).unwrap();
        let complaint = fails_to_start(&file.path());
        assert!(complaint.contains("appendonly.aof: damaged at byte 0"), "{complaint}");
        assert!(file.bytes() == other, "it is as it was");
    }
}

#[test]
fn zeros_behind_the_last_record_are_damage_however_many() {
    let file = File::new("zeros");
    file.serve("always").connect().ask(&["SET", "whole", "1"]);
    let whole = file.bytes();
    for count in [1, 100_000] {
        let bytes = [&whole[..], &vec![0; count]].concat();
        fs::write(file.path(), &bytes).unwrap();
        let complaint = fails_to_start(&file.path());
        let place = format!("damaged at byte {}", whole.len());
        assert!(complaint.contains(&place), "{count}: {complaint}");
        assert!(file.bytes() == bytes, "it is as it was");
    }
}

#[test]
fn what_is_no_regular_file_is_refused_in_one_line() {
    let file = File::new("pipe");
    let pipe = file.directory.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), Path::new("/dev/null")] {
        let complaint = fails_to_start(path);
        assert!(complaint.contains("no regular file"), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

/// A length that is damaged looks like a record that was not written to its end.
#[test]
fn what_is_cut_off_is_kept_beside_the_file() {
    let file = File::new("kept");
    let server = file.serve("everysec");
    let mut client = server.connect();
    (0..100).for_each(|i| _ = client.ask(&["SET", &format!("key{i}"), "value"]));
    client.command(&["SHUTDOWN"]);
    drop(client);
    server.process.wait();
    let mut bytes = file.bytes();
    let whole = bytes.len() / 2 + bytes[bytes.len() / 2..].iter().position(|b| *b == b'*').unwrap();
    let length = whole + "*3\r\n$".len();
    bytes.splice(length..=length, *b"90000");
    fs::write(file.path(), &bytes).unwrap();
    let kept = file.directory.join(format!("appendonly.aof.cut-{whole}"));
    let start = || {
        let path = file.path();
        let arguments = ["127.0.0.1:0", "--appendonly", path.to_str().unwrap()];
        let warning = Example::run("resp_kv", &arguments).wait_for_line("cut off");
        assert!(warning.contains(kept.to_str().unwrap()), "{warning}");
    };
    start();
    assert!(file.bytes() == bytes[..whole]);
    assert!(fs::read(&kept).unwrap() == bytes[whole..]);
}

#[test]
fn what_is_cut_off_stays_where_it_is_while_it_cannot_be_kept() {
    let file = File::new("not-kept");
    let record = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$90000\r\n";
    let bytes = [&record[..], &[b'x'; 50_000]].concat();
    fs::write(file.path(), &bytes).unwrap();
    let (program, path) = (path_of("resp_kv"), file.path());
    // A limit of the process stands for the disk.
    let script = "ulimit -f 8; trap '' XFSZ; exec \"$0\" 127.0.0.1:0 --appendonly \"$1\"";
    let arguments = ["-c", script, program.to_str().unwrap(), path.to_str().unwrap()];
    let (status, _, complaint) = start_client("sh", &arguments, Stdio::null()).end();
    assert_eq!(status.code(), Some(1));
    assert!(complaint.contains("appendonly.aof.cut-0: File too large"), "{complaint}");
    assert!(file.bytes() == bytes, "it is as it was");
}

#[test]
fn a_full_disk_ends_the_server_with_a_message_that_names_the_file() {
    let file = File::new("full");
    let (program, path) = (path_of("resp_kv"), file.path());
    // A limit of the process stands for the disk.
    let script = "ulimit -f 8; trap '' XFSZ; exec \"$0\" 127.0.0.1:0 --appendonly \"$1\"";
    let process = Example::start_command(Command::new("sh").args([
        "-c",
        script,
        program.to_str().unwrap(),
        path.to_str().unwrap(),
    ]));
    let server = Server { address: process.address, process };
    server.connect().command(&["SET", "large", &"x".repeat(100_000)]);
    server.process.wait_for_line("appendonly.aof: File too large");
    assert_eq!(server.process.wait().code(), Some(1));
}

/// A record for each member would say the key as often.
#[test]
fn a_pop_of_many_members_stands_in_the_file_with_its_key_once() {
    let file = File::new("pops");
    let server = file.serve("everysec");
    let mut client = server.connect();
    let long = "x".repeat(1 << 20);
    let members: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let sadd = ["SADD", &long].into_iter().chain(members.iter().map(String::as_str));
    assert_eq!(client.ask(&sadd.collect::<Vec<_>>()), ":1000");
    client.command(&["SPOP", &long, "999"]);
    assert_eq!(client.line(), "*999");
    (0..999).for_each(|_| _ = client.reply());
    client.command(&["SHUTDOWN"]);
    drop(client);
    server.process.wait();
    let bytes = file.bytes().len();
    assert!(bytes < 3 << 20, "{bytes}");
    assert_eq!(file.serve("everysec").connect().ask(&["SCARD", &long]), ":1");
}

/// The members do not fit in one record.
#[test]
fn a_pop_of_long_members_is_in_the_file_as_a_whole_or_not_at_all() {
    for pop in ["SPOP set 70\r\n", "MULTI\r\nSPOP set 70\r\nSET a 1\r\nEXEC\r\n"] {
        let file = File::new("long-pops");
        let server = file.serve("everysec");
        let mut client = server.connect();
        for half in ["a", "b"] {
            let members: Vec<String> =
                (0..35).map(|i| format!("{half}{i}:{}", "x".repeat(1 << 20))).collect();
            let sadd = ["SADD", "set"].into_iter().chain(members.iter().map(String::as_str));
            assert_eq!(client.ask(&sadd.collect::<Vec<_>>()), ":35");
        }
        client.send(format!("{pop}SHUTDOWN\r\n"));
        assert!(client.rest().len() > 70 << 20);
        drop(client);
        server.process.wait();
        let bytes = file.bytes().len() as u64;
        assert_eq!(file.serve("everysec").connect().ask(&["SCARD", "set"]), ":0", "{pop:?}");
        assert_eq!(file.bytes().len() as u64, bytes, "nothing of it is torn");
        file.cut(3);
        assert_eq!(file.serve("everysec").connect().ask(&["SCARD", "set"]), ":70", "{pop:?}");
    }
}

/// A random member stands in the record of its removal, beside its key; no command has two such arguments.
#[test]
fn a_record_of_two_arguments_of_any_length_is_read_again() {
    let file = File::new("long-record");
    let server = file.serve("everysec");
    let mut client = server.connect();
    let long = "x".repeat(33 << 20);
    assert_eq!(client.ask(&["SADD", "set", &long, "y"]), ":2");
    assert_eq!(client.ask(&["RENAME", "set", &long]), "+OK");
    client.command(&["SPOP", &long, "2"]);
    assert_eq!(client.line(), "*2");
    assert_eq!([client.reply().len(), client.reply().len()].iter().max(), Some(&long.len()));
    client.command(&["SHUTDOWN"]);
    drop(client);
    server.process.wait();
    assert_eq!(file.serve("everysec").connect().ask(&["DBSIZE"]), ":0");
}

#[test]
fn a_file_that_cannot_be_opened_is_told_in_one_line() {
    let file = File::new("directory");
    let complaint = fails_to_start(&file.directory);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
}

/// What a server says that ends with an error at its start.
fn fails_to_start(file: &Path) -> String {
    let program = path_of("resp_kv");
    let arguments = ["127.0.0.1:0", "--appendonly", file.to_str().unwrap()];
    let (status, _, complaint) =
        start_client(program.to_str().unwrap(), &arguments, Stdio::null()).end();
    assert_eq!(status.code(), Some(1), "{complaint}");
    complaint
}

#[test]
fn under_everysec_records_are_in_the_file_without_being_asked_for() {
    let file = File::new("everysec");
    let server = file.serve("everysec");
    server.connect().ask(&["SET", "key", "the value"]);
    let start = Instant::now();
    while !file.bytes().windows(9).any(|bytes| bytes == b"the value") {
        assert!(start.elapsed() < DEADLINE, "the record is never written");
    }
    server.process.kill();
    assert_eq!(file.serve("everysec").connect().ask(&["GET", "key"]), "the value");
}

#[test]
fn shutdown_ends_the_server_with_all_records_written() {
    for policy in ["always", "everysec"] {
        let file = File::new(&format!("shutdown-{policy}"));
        let server = file.serve(policy);
        let mut client = server.connect();
        client.send("RPUSH list x\r\n".repeat(1000));
        client.command(&["SHUTDOWN"]);
        let answers: String = (1..=1000).map(|i| format!(":{i}\r\n")).collect();
        assert_eq!(String::from_utf8(client.rest()).unwrap(), answers);
        drop(client); // which the server waits for
        assert!(server.process.wait().success());
        assert_eq!(file.serve(policy).connect().ask(&["LLEN", "list"]), ":1000", "{policy}");
    }
}

#[test]
fn sigterm_ends_the_server_with_all_records_written() {
    let file = File::new("sigterm");
    let server = file.serve("everysec");
    let mut client = server.connect();
    client.ask(&["SET", "key", "value"]);
    Command::new("kill").arg(server.process.pid().to_string()).status().unwrap();
    assert_eq!(client.rest(), b"");
    drop(client); // which the server waits for
    assert!(server.process.wait().success());
    assert_eq!(file.serve("everysec").connect().ask(&["GET", "key"]), "value");
}

/// The helper thread is slow to write; meanwhile changes are acknowledged, and then the loop fails.
#[test]
fn what_waits_to_be_written_is_written_when_the_loop_fails() {
    let file = File::new("loop-fails");
    let (program, path) = (path_of("resp_kv"), file.path());
    let failing = [
        "inject=write:delay_enter=200000",
        "inject=epoll_wait,epoll_pwait,epoll_pwait2:error=EIO:when=100",
    ];
    let strace = ["-f", "-qq", "-o/dev/null", "-e", failing[0], "-e", failing[1]];
    let mut command = Command::new("strace");
    command.args(strace).arg(program).args(["127.0.0.1:0", "--appendonly"]).arg(path);
    let process = Example::start_command(&mut command);
    let mut stream = TcpStream::connect(process.address).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut acknowledged = 0;
    while stream.write_all(b"INCR counter\r\n").is_ok()
        && let Some(Ok(answer)) = answers.next()
    {
        acknowledged += 1;
        assert_eq!(answer, format!(":{acknowledged}"));
    }
    process.wait_for_line("resp_kv: ");
    assert_eq!(process.wait().code(), Some(1));
    let counter: u64 = file.serve("everysec").connect().ask(&["GET", "counter"]).parse().unwrap();
    assert!(acknowledged > 0 && counter >= acknowledged, "{counter} of {acknowledged}");
}

/// Every command that the tests of families have, and what else changes keys.
#[test]
fn a_restart_brings_back_what_each_command_did() {
    let file = File::new("families");
    let server = file.serve("everysec");
    for family in [
        include_str!("resp_kv/redis_cli/connection.txt"),
        include_str!("resp_kv/redis_cli/transactions.txt"),
        include_str!("resp_kv/redis_cli/keys.txt"),
        include_str!("resp_kv/redis_cli/strings.txt"),
        include_str!("resp_kv/redis_cli/hashes.txt"),
        include_str!("resp_kv/redis_cli/lists.txt"),
        include_str!("resp_kv/redis_cli/sets.txt"),
    ] {
        let commands: Vec<&str> =
            family.lines().filter_map(|line| line.strip_prefix("> ")).collect();
        // Each on keys that the ones before left.
        server.redis_cli(&[], &commands.join("\n"));
    }
    server.redis_cli(
        &[],
        "SADD chance 1 2 3 4 5 6 7 8 9\nSPOP chance\nSPOP chance 4\nSET brief 1 PX 1\n\
         HSET hash a 1 b 2 c 3\nHDEL hash b\nHINCRBY hash a 5\nSELECT 3\nSET other 1\n\
         SELECT 0\nRPUSH elements a b c d\nLSET elements 1 x\nLREM elements 1 c\n",
    );
    let (sender, receiver) = (server.connect(), server.connect());
    let (mut sender, mut receiver) = (sender, receiver);
    receiver.command(&["BLPOP", "waited-for", "0"]);
    sender.ask(&["RPUSH", "waited-for", "1"]);
    receiver.expect("*2\r\n$10\r\nwaited-for\r\n$1\r\n1\r\n");
    let before = state(&server);
    assert!(before.lines().count() > 20, "{before}");
    sender.command(&["SHUTDOWN"]);
    drop((sender, receiver));
    server.process.wait();
    assert_eq!(state(&file.serve("everysec")), before);
}

/// All keys with their values and times to live, as text.
fn state(server: &Server) -> String {
    server.python("state.py", "3")
}
