//! The example programs that are tools: netcat, the small inet services, the echo server on a Unix socket. Other
//! programs talk to them, and the shell's descriptors are what they were.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::example::{Example, path_of, run_client, start_client};
use crate::support::{self, DEADLINE, pattern};

/// A path that no other test has, which is removed in the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let name = format!("oneloop-tools-{}-{name}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }

    fn holding(name: &str, content: &[u8]) -> Place {
        let place = Place::new(name);
        fs::write(&place.0, content).unwrap();
        place
    }

    fn file(&self) -> File {
        File::options().read(true).write(true).create(true).truncate(false).open(&self.0).unwrap()
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_file(format!("{}.lock", self.text()));
    }
}

/// A server for one client, which answers when that has said all: with how much it was, and then all of it.
fn answerer() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut question = Vec::new();
        client.read_to_end(&mut question).unwrap();
        client.write_all(&answer_to(&question)).unwrap();
    });
    (address, server)
}

fn answer_to(question: &[u8]) -> Vec<u8> {
    [format!("{} bytes\n", question.len()).as_bytes(), question].concat()
}

/// A server that says six bytes louder, and "BYE" to the end of what its client sends.
fn shouter() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut typed = [0; 6];
        client.read_exact(&mut typed).unwrap();
        client.write_all(&typed.to_ascii_uppercase()).unwrap();
        assert_eq!(client.read(&mut typed).unwrap(), 0);
        client.write_all(b"BYE").unwrap();
    });
    (address, server)
}

fn netcat(address: &str) -> Command {
    let mut command = Command::new(path_of("netcat"));
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A process that does not outlive its test.
struct Process(Child);

impl Process {
    fn wait(&mut self) -> ExitStatus {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "it does not end");
            thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "waited in vain");
        thread::yield_now();
    }
}

fn is_nonblocking(descriptor: &impl AsRawFd) -> bool {
    let info = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let info = fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    u32::from_str_radix(flags.trim(), 8).unwrap() & 0o4000 != 0
}

#[test]
fn netcat_prints_the_whole_answer_to_what_is_piped_into_it() {
    let (address, server) = answerer();
    let question = pattern(3_000_000);
    let program = path_of("netcat");
    let printed = run_client(program.to_str().unwrap(), &[&address], &question);
    assert!(printed == answer_to(&question), "{} bytes were printed", printed.len());
    server.join().unwrap();
}

/// epoll refuses both: a thread reads the one and writes the other, and nothing is lost when the program ends.
#[test]
fn netcat_reads_a_file_and_writes_a_file() {
    let question = pattern(2_000_000);
    let (from, to) = (Place::holding("from", &question), Place::holding("to", b"before\n"));
    let mut output = to.file();
    output.seek(std::io::SeekFrom::End(0)).unwrap();
    let (address, server) = answerer();
    let mut command = netcat(&address);
    command.stdin(File::open(&from.0).unwrap()).stdout(output);
    assert!(Process(command.spawn().unwrap()).wait().success());
    server.join().unwrap();
    let written = fs::read(&to.0).unwrap();
    assert!(written == [b"before\n", &answer_to(&question)[..]].concat(), "{}", written.len());
}

/// A shell's `(one; two) > file`: whoever writes goes on where the last one stopped.
#[test]
fn netcat_writes_behind_what_others_have_written_to_the_same_file_meanwhile() {
    let to = Place::new("shared");
    let mut output = to.file();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = netcat(&listener.local_addr().unwrap().to_string());
    let mut process = Process(command.stdout(output.try_clone().unwrap()).spawn().unwrap());
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"first\n").unwrap();
    wait_until(|| fs::read(&to.0).unwrap() == b"first\n");
    output.write_all(b"from elsewhere\n").unwrap();
    server.write_all(b"last\n").unwrap();
    drop(server);
    assert!(process.wait().success());
    assert_eq!(fs::read_to_string(&to.0).unwrap(), "first\nfrom elsewhere\nlast\n");
}

#[test]
fn netcat_refuses_an_input_that_cannot_be_read() {
    let (directory, to) = (File::open("/").unwrap(), Place::new("write-only"));
    let write_only = File::options().write(true).create(true).truncate(true).open(&to.0).unwrap();
    for input in [directory, write_only] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = netcat(&listener.local_addr().unwrap().to_string());
        let mut process = Process(command.stdin(input).spawn().unwrap());
        assert!(!process.wait().success());
        let mut complaint = String::new();
        process.0.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert_eq!(complaint, "netcat: standard input cannot be read\n");
    }
}

/// The server gets what could be read, and its answer is printed.
#[test]
fn netcat_says_that_its_input_could_not_be_read_to_its_end() {
    let (address, server) = answerer();
    let mut command = netcat(&address);
    command.stdin(File::open("/proc/self/mem").unwrap()); // nothing is at address 0
    let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    assert_eq!(process.wait().code(), Some(1));
    let (mut printed, mut complaint) = (Vec::new(), String::new());
    process.0.stdout.take().unwrap().read_to_end(&mut printed).unwrap();
    process.0.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(printed, answer_to(b""));
    assert_eq!(complaint, "netcat: standard input: Input/output error (os error 5)\n");
    server.join().unwrap();
}

/// Which is one of two addresses in most places, and nobody listens at the other.
#[test]
fn netcat_connects_to_a_name() {
    let (address, server) = answerer();
    let (_, port) = address.split_once(':').unwrap();
    let mut command = netcat(&format!("localhost:{port}"));
    assert!(Process(command.spawn().unwrap()).wait().success());
    server.join().unwrap();
}

#[test]
fn netcat_takes_dev_null_for_both() {
    let (address, server) = answerer();
    assert!(Process(netcat(&address).spawn().unwrap()).wait().success());
    server.join().unwrap();
}

#[test]
fn netcat_says_that_the_disk_is_full() {
    let (address, server) = answerer();
    let mut command = netcat(&address);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let mut process = Process(command.spawn().unwrap());
    assert!(!process.wait().success());
    let mut complaint = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert!(complaint.contains("No space left on device"), "{complaint}");
    server.join().unwrap();
}

#[test]
fn netcat_leaves_the_flags_of_shared_pipes_alone() {
    let (address, server) = answerer();
    let (input, mut question) = std::io::pipe().unwrap();
    let (mut answer, output) = std::io::pipe().unwrap();
    let mut command = netcat(&address);
    command.stdin(OwnedFd::from(input.try_clone().unwrap()));
    command.stdout(OwnedFd::from(output.try_clone().unwrap()));
    let mut process = Process(command.spawn().unwrap());
    drop(command); // which has the ends open, too
    question.write_all(b"x").unwrap();
    drop(question);
    server.join().unwrap(); // so it has read, and the answer is on its way
    assert!(!is_nonblocking(&input) && !is_nonblocking(&output));
    assert!(process.wait().success());
    assert!(!is_nonblocking(&input) && !is_nonblocking(&output));
    drop(output);
    let mut printed = Vec::new();
    answer.read_to_end(&mut printed).unwrap();
    assert_eq!(printed, b"1 bytes\nx");
}

/// As a shell does that starts it in a terminal, which is its own as well.
#[test]
fn netcat_leaves_the_flags_of_a_terminal_alone() {
    const SHELL: &str = r#"
import fcntl, os, pty, subprocess, sys
keyboard, terminal = pty.openpty()
process = subprocess.Popen(sys.argv[1:], stdin=terminal, stdout=terminal, stderr=terminal)
def flags():
    return fcntl.fcntl(terminal, fcntl.F_GETFL)
before = flags()
os.write(keyboard, b"hello\n")
screen = b""
while b"HELLO" not in screen:  # the answer: it runs, and has read the terminal
    screen += os.read(keyboard, 1000)
assert flags() == before, f"while it runs: {flags():o}"
os.write(keyboard, b"\x04")  # the end of what is typed
while b"BYE" not in screen:
    screen += os.read(keyboard, 1000)
assert process.wait(20) == 0, process.returncode
assert flags() == before, f"after it has ended: {flags():o}"
"#;
    let (address, server) = shouter();
    let program = path_of("netcat");
    run_client("python3", &["-c", SHELL, program.to_str().unwrap(), &address], b"");
    server.join().unwrap();
}

/// The other side of a terminal, which a program has that runs another one in it. Opened anew it would be another
/// terminal's.
#[test]
fn netcat_reads_what_a_program_prints_to_its_terminal() {
    const TERMINAL: &str = r#"
import os, pty, subprocess, sys
inside, program = pty.openpty()
process = subprocess.Popen(sys.argv[1:], stdin=inside, stdout=subprocess.PIPE)
os.write(program, b"hello!")
assert process.stdout.read(6) == b"HELLO!"
os.close(program)  # which ends the input
assert process.stdout.read() == b"BYE"
assert process.wait(20) == 0, process.returncode
"#;
    let (address, server) = shouter();
    let program = path_of("netcat");
    run_client("python3", &["-c", TERMINAL, program.to_str().unwrap(), &address], b"");
    server.join().unwrap();
}

/// A person is not asked for another line when the server has said all.
#[test]
fn netcat_in_a_terminal_ends_with_its_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"good day\r\n"));
    let typed = format!("{} {address}", path_of("netcat").display());
    let mut client =
        start_client("script", &["--return", "--quiet", "-c", &typed, "/dev/null"], idle_input());
    let screen = String::from_utf8(client.output()).unwrap();
    assert!(screen.contains("good day"), "{screen}");
    server.join().unwrap().unwrap();
}

/// An input that neither says anything nor ends, as long as the test process lives.
fn idle_input() -> Stdio {
    let (input, never) = std::io::pipe().unwrap();
    std::mem::forget(never);
    input.into()
}

#[test]
fn netcat_ends_when_nobody_reads_its_output_any_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, endless) = (listener.local_addr().unwrap().to_string(), pattern(1 << 20));
    let server = thread::spawn(move || {
        let mut client = listener.accept().unwrap().0;
        while client.write_all(&endless).is_ok() {}
    });
    let script = r#""$0" "$1" | head -c 10"#;
    let program = path_of("netcat");
    let mut client =
        start_client("sh", &["-c", script, program.to_str().unwrap(), &address], idle_input());
    let (_, printed, complaints) = client.end();
    assert_eq!(printed, &pattern(10)[..]);
    assert_eq!(complaints, "netcat: nobody reads the output any more\n");
    server.join().unwrap();
}

#[test]
fn netcat_that_waits_for_a_client_serves_nc_and_nobody_after_it() {
    let mut listens = Example::start_with("netcat", "-l", &["127.0.0.1:0"]);
    let address = listens.address;
    listens.take_input().write_all(b"from the server\n").unwrap();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let printed = run_client("nc", &["-N", &host, &port], b"from the client\n");
    assert_eq!(printed, b"from the server\n");
    listens.wait_for_line("from the client");
    assert!(listens.wait().success());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn netcat_says_why_it_cannot_connect() {
    let (_socket, nobody) = support::nobody();
    let mut process = Process(netcat(&nobody.to_string()).spawn().unwrap());
    assert!(!process.wait().success());
    let mut complaint = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(complaint, "netcat: cannot connect: connection refused\n");
}

/// The ten of them: where each listens.
struct Services {
    _example: Example,
    addresses: Vec<(String, SocketAddr)>,
}

impl Services {
    fn start() -> Services {
        let example = Example::run("inet_services", &["127.0.0.1", "any"]);
        let protocols = ["tcp", "udp"];
        let listening = (0..10).map(|number| {
            let line = example.wait_for_line(&format!("/{}: listening on ", protocols[number % 2]));
            let (name, address) = line.split_once(": listening on ").unwrap();
            (name.into(), address.parse().unwrap())
        });
        let addresses = listening.collect();
        Services { _example: example, addresses }
    }

    fn at(&self, name: &str) -> SocketAddr {
        self.addresses.iter().find(|(other, _)| other == name).expect("it is one of them").1
    }

    /// What `socat` prints that is given this.
    fn over_tcp(&self, name: &str, input: &[u8]) -> Vec<u8> {
        let target = format!("TCP:{}", self.at(&format!("{name}/tcp")));
        run_client("socat", &["-t20", "-", &target], input)
    }

    /// The same with datagrams: one goes, and what comes within a second is printed.
    fn over_udp(&self, name: &str, input: &[u8]) -> Vec<u8> {
        let target = format!("UDP:{}", self.at(&format!("{name}/udp")));
        run_client("socat", &["-t1", "-", &target], input)
    }
}

#[test]
fn inet_services_answer_socat() {
    let services = Services::start();
    assert_eq!(services.over_tcp("echo", b"hello"), b"hello");
    assert_eq!(services.over_udp("echo", b"hello"), b"hello");
    assert_eq!(services.over_tcp("discard", b"hello"), b"");
    assert_eq!(services.over_udp("discard", b"hello"), b"");
}

#[test]
fn inet_services_have_a_port_each_or_none() {
    let example = Example::run("inet_services", &["127.0.0.1", "65535"]);
    example.wait_for_line("echo would be at 7 and 65535, which is no port");
    assert!(!example.wait().success());
}

/// date(1) reads what it wrote.
#[test]
fn inet_services_know_the_time() {
    let services = Services::start();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for word in [services.over_tcp("daytime", b""), services.over_udp("daytime", b"x")] {
        let word = String::from_utf8(word).unwrap();
        assert_eq!(word.lines().count(), 1, "one answer to one datagram: {word:?}");
        let text = word.strip_suffix("-UTC\r\n").expect("the zone, and the end of the line");
        let read = run_client("date", &["-u", "-d", text, "+%s %A, %B %-d, %Y %T"], b"");
        let read = String::from_utf8(read).unwrap();
        let (seconds, written) = read.trim_end().split_once(' ').unwrap();
        assert_eq!(written, text);
        assert!(now().abs_diff(seconds.parse().unwrap()) <= 5, "{word}");
    }
    for word in [services.over_tcp("time", b""), services.over_udp("time", b"x")] {
        let since_1900 = u32::from_be_bytes(word.try_into().unwrap());
        assert!(now().abs_diff(u64::from(since_1900) - 2_208_988_800) <= 5, "{since_1900}");
    }
}

#[test]
fn chargen_goes_on_until_its_client_has_enough_of_it() {
    let services = Services::start();
    let target = format!("TCP:{}", services.at("chargen/tcp"));
    let script = r#"socat -u "$0" - | head -c 740000"#;
    let printed = start_client("sh", &["-c", script, &target], Stdio::null()).output();
    let lines: Vec<&[u8]> = printed.chunks(74).collect();
    assert_eq!(lines.len(), 10_000);
    assert!(lines[0].starts_with(b" !\"#$%&'()*+,-./0123456789:;<=>?@AB"), "{:?}", lines[0]);
    for pair in lines.windows(2) {
        assert_eq!(pair[0][1..72], pair[1][..71]);
        assert!(pair[1].ends_with(b"\r\n"));
    }
}

/// Nobody is sent more than they could have been sent by whoever forged their address.
#[test]
fn chargen_over_udp_sends_no_more_than_it_was_sent() {
    let services = Services::start();
    for length in [1, 10, 500] {
        let printed = services.over_udp("chargen", &vec![b'x'; length]);
        assert_eq!(printed.len(), length.min(74));
    }
}

/// Two echo services would keep a datagram for ever.
#[test]
fn inet_services_do_not_answer_services() {
    let services = Services::start();
    let echo = services.at("echo/udp");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    match UdpSocket::bind("127.0.0.1:921") {
        Ok(service) => {
            service.send_to(b"hello", echo).unwrap();
            client.send_to(b"behind it", echo).unwrap();
            assert_eq!(client.recv(&mut [0; 100]).unwrap(), 9);
            service.set_nonblocking(true).unwrap();
            let error = service.recv(&mut [0; 100]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        }
        Err(error) => println!("not run: only root may send from the port of a service: {error}"),
    }
}

fn owner_and_mode(path: &Path) -> (u32, u32) {
    let file = fs::symlink_metadata(path).unwrap();
    assert!(file.file_type().is_socket());
    (file.uid(), file.mode() & 0o777)
}

#[test]
fn unix_echo_answers_socat_and_says_who_it_was() {
    let place = Place::new("echo.sock");
    let echo = Example::run("unix_echo", &[place.text(), "660"]);
    echo.wait_for_line("listening on unix:");
    let (user, mode) = owner_and_mode(&place.0);
    assert_eq!(mode, 0o660);
    let target = format!("UNIX-CONNECT:{}", place.text());
    assert_eq!(run_client("socat", &["-t20", "-", &target], b"hello\n"), b"hello\n");
    let line = echo.wait_for_line("process ");
    assert!(line.contains(&format!("user {user}, group ")), "{line}");
    echo.wait_for_line("the peer closed");
}

#[test]
fn unix_echo_takes_over_a_path_that_a_killed_one_has_left_and_no_other() {
    let place = Place::new("stale.sock");
    let first = Example::run("unix_echo", &[place.text()]);
    first.wait_for_line("listening on unix:");
    let second = Example::run("unix_echo", &[place.text()]);
    second.wait_for_line("somebody listens there");
    assert!(!second.wait().success());
    first.kill();
    let third = Example::run("unix_echo", &[place.text()]);
    third.wait_for_line("listening on unix:");
    let target = format!("UNIX-CONNECT:{}", place.text());
    assert_eq!(run_client("socat", &["-t20", "-", &target], b"x"), b"x");
}

#[test]
fn unix_echo_refuses_whom_the_mode_of_its_path_keeps_out() {
    let place = Place::new("mode.sock");
    let echo = Example::run("unix_echo", &[place.text(), "600"]);
    echo.wait_for_line("listening on unix:");
    assert_eq!(owner_and_mode(&place.0).1, 0o600);
    // Root may everything, so it is another user who tries.
    let target = format!("UNIX-CONNECT:{}", place.text());
    if owner_and_mode(&place.0).0 != 0 {
        fs::set_permissions(&place.0, Permissions::from_mode(0o000)).unwrap();
    }
    let output = Command::new("sh")
        .args(["-c", r#"[ "$(id -u)" != 0 ] || exec setpriv --reuid=65534 --clear-groups socat -u "$0" -; exec socat -u "$0" -"#, &target])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("Permission denied"), "{complaint}");
}
