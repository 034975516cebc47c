//! The program as a service: sockets that are passed on, and word to systemd.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::process::terminate;
use support::{DEADLINE, ONELOOP, connect, eventually};

/// A directory of one test, which is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("oneloop-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn assert_echoes(mut client: impl Read + Write) {
    client.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

/// A shell that becomes the program, with `socket` as descriptor 3.
fn launch(socket: OwnedFd, environment: &str, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("exec 3<&0 0</dev/null; {environment} exec {ONELOOP} echo {arguments}"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn a_socket_is_taken_by_its_descriptor_or_its_name() {
    for (names, address) in [("", "fd:3"), ("", "systemd:unknown"), ("echo", "systemd:echo")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let environment = format!("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={names}");
        let arguments = format!("--listen {address}");
        let child = launch(listener.into(), &environment, &arguments).spawn().unwrap();
        let mut process = Process(child);
        let client = connect(at);
        assert_echoes(&client);
        terminate(process.0.id());
        drop(client);
        assert!(process.0.wait().unwrap().success());
        let mut said = String::new();
        process.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.starts_with(&format!("listening on {at}\n")), "{said}");
    }
}

#[test]
fn what_was_not_passed_on_is_one_clear_line() {
    let one = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=echo";
    let only = "only descriptor 3 was, \"echo\"";
    let nothing = "nothing was (LISTEN_FDS, LISTEN_PID)";
    for (environment, arguments, reason) in [
        (one, "--listen fd:4", format!("fd:4: descriptor 4 was not passed on: {only}")),
        (one, "--listen fd:0", "fd:0: descriptor 0 is no socket".into()),
        (
            one,
            "--listen systemd:http",
            format!("systemd:http: the name \"http\" was not passed on: {only}"),
        ),
        (one, "--listen fd:3 --listen fd:3", "fd:3: descriptor 3 was taken before".into()),
        (one, "--listen fd:3 --only-v6", "fd:3: only_v6 is to be set before".into()),
        // Names that are empty are none, and so are those that are missing.
        (
            "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=",
            "--listen systemd:echo",
            "only descriptor 3 was, \"unknown\"".into(),
        ),
        (
            "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=:echo",
            "--listen systemd:echo",
            "only descriptor 3 was, \"unknown\"".into(),
        ),
        ("", "--listen fd:3", format!("fd:3: descriptor 3 was not passed on: {nothing}")),
        ("LISTEN_PID=1 LISTEN_FDS=1", "--listen fd:3", nothing.into()),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let output = launch(listener.into(), environment, arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(&reason), "{arguments}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("oneloop: listen on "), "{stderr}");
    }
}

#[test]
fn what_is_no_listener_is_one_clear_line() {
    let nothing = OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let output = launch(nothing, "LISTEN_PID=$$ LISTEN_FDS=1", "--listen fd:3").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains("descriptor 3 is no socket of IP or Unix"), "{stderr}");
}

#[test]
fn a_socket_for_datagrams_is_served() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let environment = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=echo";
    let child = launch(socket.into(), environment, "--listen systemd:echo").spawn().unwrap();
    let mut process = Process(child);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(at).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send(b"hello").unwrap();
    let mut answer = [0; 10];
    assert_eq!(client.recv(&mut answer).unwrap(), 5);
    assert_eq!(&answer[..5], b"hello");
    terminate(process.0.id());
    assert!(process.0.wait().unwrap().success());
    let mut said = String::new();
    process.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.starts_with(&format!("listening on udp://{at}\n")), "{said}");
}

/// As inetd(8) starts a service that it waits for: the socket that listens is its standard input.
#[test]
fn inetd_starts_it_once_with_the_socket_that_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let socket = || Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    let mut command = Command::new(ONELOOP);
    command.args(["echo", "--listen", "fd:0"]).stdin(socket()).stdout(socket()).stderr(socket());
    let mut process = Process(command.spawn().unwrap());
    let clients = [connect(at), connect(at)];
    clients.iter().for_each(assert_echoes);
    drop(clients);
    terminate(process.0.id());
    assert!(process.0.wait().unwrap().success());
}

/// socat(1) starts it for every client, as inetd(8) does with a service that it does not wait for ("nowait").
#[test]
fn inetd_starts_it_for_each_client() {
    let directory = Directory::new("inetd");
    let path = directory.path("s.sock");
    let mut socat = Command::new("socat");
    socat
        .arg(format!("UNIX-LISTEN:{},fork", path.display()))
        .arg(format!("EXEC:{ONELOOP} echo --listen fd\\:0,nofork"));
    let _socat = Process(socat.spawn().expect("socat has to be installed, which ./test does"));
    for _ in 0..2 {
        let mut client = eventually("socat listens", || UnixStream::connect(&path).ok());
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_echoes(&client);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        // The program has said nothing to its client, and ends.
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}

/// The program as inetd(8) starts it for a client, which has the other end of its standard input, output and error.
fn start_for_a_client(options: &[&str]) -> (Process, UnixStream) {
    let (client, guest) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let guest = || Stdio::from(OwnedFd::from(guest.try_clone().unwrap()));
    let mut command = Command::new(ONELOOP);
    command.args(["echo", "--listen", "fd:0"]).args(options).env_remove("RUST_LOG");
    command.stdin(guest()).stdout(guest()).stderr(guest());
    (Process(command.spawn().unwrap()), client)
}

#[test]
fn nothing_but_the_echo_reaches_a_client_of_inetd() {
    // Every turn is a slow one, of which the log has a word, and rates are told in many of them.
    let (_process, client) = start_for_a_client(&["--stats", "1ms", "--watchdog", "1us"]);
    for _ in 0..1000 {
        assert_echoes(&client);
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    (&client).read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn what_makes_no_sense_for_a_client_of_inetd_is_refused() {
    for (option, expected) in [
        (&["--until-stdin-closes"][..], "standard input is a socket that is served, fd:0"),
        (&["--backlog", "8"], "a connection that was passed on has no --backlog"),
        (&["--only-v6", "--idle", "1m"], "a connection that was passed on has no --only-v6\n"),
    ] {
        let (mut process, mut client) = start_for_a_client(option);
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert!(said.contains(expected), "{said}");
        assert!(!process.0.wait().unwrap().success());
    }
}

/// It starts the program when the first client comes; the port is not known before, a path is.
#[test]
fn systemd_socket_activate_passes_two_sockets_on() {
    const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";
    if !Path::new(ACTIVATE).exists() {
        return eprintln!("not run: there is no {ACTIVATE}");
    }
    let directory = Directory::new("activate");
    let paths = [directory.path("one.sock"), directory.path("two.sock")];
    let child = Command::new(ACTIVATE)
        .args(paths.iter().map(|path| format!("--listen={}", path.display())))
        .args(["--fdname=echo:echo", ONELOOP, "echo", "--listen", "systemd:echo"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    for path in &paths {
        let client = eventually("systemd listens", || UnixStream::connect(path).ok());
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_echoes(client);
    }
    terminate(process.0.id());
    assert!(process.0.wait().unwrap().success());
    let mut said = String::new();
    process.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let expected = paths.map(|path| format!("listening on unix:{}", path.display()));
    assert_eq!(said.lines().take(2).collect::<Vec<_>>(), expected);
}

/// What systemd hears, until it is told this.
fn hear(systemd: &UnixDatagram, expected: &str) -> Vec<String> {
    let mut heard: Vec<String> = Vec::new();
    while heard.last().is_none_or(|last| last != expected) {
        let mut buffer = [0; 100];
        let count = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("{heard:?}: {error}"));
        heard.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
    }
    heard
}

#[test]
fn systemd_is_told_when_it_is_ready_and_alive_and_stops() {
    let directory = Directory::new("notify");
    let path = directory.path("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let environment = format!(
        "LISTEN_FDS=1 LISTEN_PID=$$ NOTIFY_SOCKET={} WATCHDOG_USEC=20000 WATCHDOG_PID=$$",
        path.display()
    );
    let command = &mut launch(listener.into(), &environment, "--listen fd:3 --notify");
    let mut process = Process(command.spawn().unwrap());
    assert_eq!(hear(&systemd, "READY=1"), ["READY=1"]);
    for _ in 0..3 {
        assert_eq!(hear(&systemd, "WATCHDOG=1"), ["WATCHDOG=1"]);
    }
    // Held up by its client, it is still alive.
    let client = connect(at);
    assert_echoes(&client);
    terminate(process.0.id());
    hear(&systemd, "STOPPING=1");
    hear(&systemd, "WATCHDOG=1");
    drop(client);
    assert!(process.0.wait().unwrap().success());
}

#[test]
fn nobody_is_told_who_does_not_want_to_know() {
    let directory = Directory::new("silent");
    let path = directory.path("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_nonblocking(true).unwrap();
    let not_asked = format!("LISTEN_FDS=1 NOTIFY_SOCKET={}", path.display());
    for (environment, arguments) in
        [(&not_asked[..], "--listen fd:3"), ("LISTEN_FDS=1", "--listen fd:3 --notify")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let mut process = Process(launch(listener.into(), environment, arguments).spawn().unwrap());
        assert_echoes(connect(at));
        terminate(process.0.id());
        assert!(process.0.wait().unwrap().success());
        let error = systemd.recv(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn the_unit_files_have_flags_that_the_program_has() {
    let unit = include_str!("../../docs/deploy/oneloop-echo.service");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let (program, arguments) = command.split_once(" echo ").unwrap();
    assert_eq!(program, "/usr/local/bin/oneloop");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let environment = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=echo";
    let mut process = Process(launch(listener.into(), environment, arguments).spawn().unwrap());
    assert_echoes(connect(at));
    terminate(process.0.id());
    assert!(process.0.wait().unwrap().success());
}
