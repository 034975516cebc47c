//! The proxy, end to end: `examples/tcp_proxy.rs` between programs that others wrote, and between sockets of
//! the test's own where it has to hold one of them still.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::example::{Example, path_of, run_client, start_client};
use crate::support::{self, DEADLINE, kernel};

/// socat(1) waits for so many seconds for the other direction after one has ended.
const PATIENCE: &str = "-t20";

/// Only errors on its second output, and no proxy but ours.
const CURL: &[&str] = &["-sS", "--noproxy", "*"];

fn proxy_to(server: SocketAddr) -> Example {
    Example::start_with("tcp_proxy", "127.0.0.1:0", &[&server.to_string()])
}

/// A server of the test's own, and the proxy in front of it.
fn proxied() -> (TcpListener, Example) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = proxy_to(server.local_addr().unwrap());
    server.set_nonblocking(true).unwrap();
    (server, proxy)
}

/// The proxy's next connection to that server.
fn accept(server: &TcpListener) -> TcpStream {
    let mut accepted = None;
    kernel::until("the proxy connects", || {
        accepted = server.accept().ok();
        accepted.is_some()
    });
    let (connection, _) = accepted.unwrap();
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    connection.set_write_timeout(Some(DEADLINE)).unwrap();
    connection
}

/// A directory that ends with this value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("oneloop-proxy-{name}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    /// A file's path in it, as a word of a command.
    fn path(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A socat that listens for one client, and passes everything on to and from an address of its own kind.
fn socat_server(behind: &str) -> Example {
    let listen = "TCP4-LISTEN:0,bind=127.0.0.1";
    Example::start_command(Command::new("socat").args(["-dd", PATIENCE, listen, behind]))
}

#[test]
fn curl_downloads_a_file_through_it() {
    const SERVER: &str = r#"
import functools, http.server, sys
serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
print("listening on %s:%d" % server.server_address, flush=True)
server.serve_forever()
"#;
    let directory = Directory::new("curl");
    let file = support::pattern(20 << 20);
    fs::write(directory.path("file"), &file).unwrap();
    let server =
        Example::start_command(Command::new("python3").args(["-c", SERVER, &directory.path("")]));
    let proxy = proxy_to(server.address);
    let url = format!("http://{}/file", proxy.address);
    let downloaded = run_client("curl", &[CURL, &[&url]].concat(), b"");
    assert!(downloaded == file, "{} of {} bytes", downloaded.len(), file.len());
}

#[test]
fn the_end_of_a_client_goes_to_the_server_and_its_answer_comes_back() {
    let directory = Directory::new("client");
    let file = directory.path("received");
    // It answers when it has heard of the end.
    let server = socat_server(&format!("SYSTEM:cat >{file}; cat {file}"));
    let proxy = proxy_to(server.address);
    let sent = support::pattern(3_000_000);
    let target = format!("TCP4:{}", proxy.address);
    let answer = run_client("socat", &[PATIENCE, "-", &target], &sent);
    assert!(answer == sent, "{} of {} bytes", answer.len(), sent.len());
    assert!(server.wait().success());
}

#[test]
fn the_end_of_a_server_goes_to_the_client_which_goes_on_sending() {
    let directory = Directory::new("server");
    let (first, second) = (support::pattern(300_000), support::pattern(3_000_000));
    fs::write(directory.path("first"), &first).unwrap();
    let received = directory.path("second");
    // It sends the one file and then its end, and writes what it receives to the other.
    let files = format!("OPEN:{},rdonly!!OPEN:{received},creat,wronly", directory.path("first"));
    let server = socat_server(&files);
    let proxy = proxy_to(server.address);
    let mut client = support::connect(proxy.address);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert!(bytes == first, "{} of {} bytes", bytes.len(), first.len());
    client.write_all(&second).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(server.wait().success());
    assert!(fs::read(received).unwrap() == second);
}

#[test]
fn a_reset_by_the_server_is_one_for_curl() {
    const RECEIVING_FAILED: i32 = 56; // curl(1), exit codes
    let (server, proxy) = proxied();
    let url = format!("http://{}/", proxy.address);
    let mut curl = start_client("curl", &[CURL, &[&url]].concat(), Stdio::null());
    let mut connection = accept(&server);
    connection.read_exact(&mut [0]).unwrap();
    support::reset(connection);
    let (status, _, complaints) = curl.end();
    assert_eq!(status.code(), Some(RECEIVING_FAILED), "{complaints}");
    assert!(complaints.contains("reset by peer"), "{complaints}");
}

#[test]
fn a_reset_by_the_client_is_one_for_the_server() {
    let (server, proxy) = proxied();
    let mut client = support::connect(proxy.address);
    client.write_all(b"x").unwrap();
    let mut connection = accept(&server);
    connection.read_exact(&mut [0]).unwrap();
    support::reset(client);
    let error = connection.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn who_cannot_be_connected_is_reset_and_the_log_says_why() {
    let (_socket, nobody) = support::nobody();
    let proxy = proxy_to(nobody);
    let mut client = support::connect(proxy.address);
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    proxy.wait_for_line(&format!("no connection to {nobody}: connection refused"));
}

#[test]
fn a_server_that_nobody_can_connect_to_is_refused_at_the_start() {
    for server in ["udp://127.0.0.1:7000", "unixgram:@name", "fd:0"] {
        let output = Command::new(path_of("tcp_proxy")).args(["127.0.0.1:0", server]).output();
        let complaint = String::from_utf8(output.unwrap().stderr).unwrap();
        assert_eq!(complaint, format!("tcp_proxy: {server} is no server to connect to\n"));
    }
}

#[test]
fn a_client_that_does_not_read_holds_the_server_up_and_takes_no_memory() {
    const BLOCKS: usize = 200;
    let (server, proxy) = proxied();
    let mut client = support::connect(proxy.address);
    let mut connection = accept(&server);
    let block = Arc::new(support::pattern(1 << 20));
    let mut received = vec![0; block.len()];
    let mut receive = |client: &mut TcpStream| {
        client.read_exact(&mut received).unwrap();
        assert!(received == *block, "bytes were lost or changed");
    };
    connection.write_all(&block).unwrap();
    receive(&mut client);
    let memory = kernel::resident_peak_of(proxy.pid());
    let sent = Arc::new(AtomicUsize::new(0));
    let writer = thread::spawn({
        let (block, sent) = (Arc::clone(&block), Arc::clone(&sent));
        move || {
            for _ in 0..BLOCKS {
                connection.write_all(&block).unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let (mut before, mut looks) = (None, 0);
    kernel::until("nobody can do anything", || {
        let now = (sent.load(Ordering::Relaxed), kernel::cpu_time(proxy.pid()));
        looks = if before == Some(now) { looks + 1 } else { 0 };
        before = Some(now);
        looks == 100
    });
    let sent_unread = sent.load(Ordering::Relaxed);
    assert!(sent_unread < BLOCKS, "the server was not held up");
    for _ in 0..BLOCKS {
        receive(&mut client);
    }
    writer.join().unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let grown = kernel::resident_peak_of(proxy.pid()) - memory;
    println!(
        "{sent_unread} MiB went into the kernel's buffers, {grown} bytes of memory were taken"
    );
    assert!(grown < 1 << 20, "{grown} bytes of memory were taken");
}
