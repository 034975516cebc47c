//! Clients that others wrote: nc(1) of OpenBSD and socat(1) talk to the example programs.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::thread;

use oneloop::{DatagramOptions, Reactor};

use crate::example::{Example, run_client, start_client};
use crate::support::datagrams::Datagrams;
use crate::support::{self, run_until};

/// socat waits for so many seconds for the other direction after one has ended.
const PATIENCE: &str = "-t20";

#[test]
fn echo_answers_nc() {
    let echo = Example::start("echo");
    assert_eq!(nc(&echo, b"x\n"), b"x\n");
}

#[test]
fn echo_sends_everything_to_an_nc_that_half_closed() {
    let echo = Example::start("echo");
    let sent = support::pattern(1 << 20);
    assert!(nc(&echo, &sent) == sent);
}

#[test]
fn echo_sends_everything_to_a_socat_that_half_closed() {
    let echo = Example::start("echo");
    let sent = support::pattern(1 << 20);
    let target = format!("TCP:{}", echo.address);
    assert!(run_client("socat", &[PATIENCE, "-", &target], &sent) == sent);
}

#[test]
fn echo_answers_small_blocks() {
    let echo = Example::start("echo");
    let sent = support::pattern(10_000);
    let target = format!("TCP:{},nodelay", echo.address);
    assert!(run_client("socat", &[PATIENCE, "-b7", "-", &target], &sent) == sent);
}

#[test]
fn udp_echo_answers_socat() {
    let echo = Example::start("udp_echo");
    let target = format!("UDP:{}", echo.address);
    // Datagrams have no end: socat ends when it has waited for so long after its own input's.
    let printed = run_client("socat", &["-t1", "-", &target], b"hello, datagram\n");
    assert_eq!(printed, b"hello, datagram\n");
}

/// What has a server's port for a sender may be forged, and an answer would come back as the next question.
#[test]
fn udp_echo_leaves_senders_with_its_own_port_alone() {
    let echo = Example::start("udp_echo");
    let alike = UdpSocket::bind(("127.0.0.2", echo.address.port())).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(support::DEADLINE)).unwrap();
    alike.send_to(b"first", echo.address).unwrap();
    client.send_to(b"second", echo.address).unwrap();
    assert_eq!(client.recv(&mut [0; 100]).unwrap(), 6, "answers come in order");
    alike.set_nonblocking(true).unwrap();
    let error = alike.recv(&mut [0; 100]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

/// Whoever a spoofed datagram names as its sender gets one of the same length, and no other.
#[test]
fn udp_echo_does_not_amplify_what_a_spoofed_sender_may_get() {
    let echo = Example::start("udp_echo");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(support::DEADLINE)).unwrap();
    let mut buffer = [0; 10_000];
    for bytes in [0, 1, 7, 512, 1472, 9000] {
        client.send_to(&support::pattern(bytes), echo.address).unwrap();
        // In order: one that there is too much of would be the next one's.
        assert_eq!(client.recv(&mut buffer).unwrap(), bytes);
    }
}

#[test]
fn udp_echo_answers_socat_over_both_families_and_at_each_address() {
    let echo = Example::start_with("udp_echo", "*:0", &[]);
    let port = echo.address.port();
    for ip in ["UDP4:127.0.0.1", "UDP4:127.0.0.2", "UDP6:[::1]"] {
        let target = format!("{ip}:{port}");
        assert_eq!(run_client("socat", &["-t1", "-", &target], b"hello\n"), b"hello\n", "{target}");
    }
}

/// Who has bound to a path of its own, so as to be answered.
#[test]
fn a_unix_datagram_socket_answers_socat() {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add_datagram_handler(Datagrams::echo());
    let place = |name| {
        let name = format!("oneloop-interop-{name}-{}", std::process::id());
        std::env::temp_dir().join(name).display().to_string()
    };
    let (server, client) = (place("server"), place("client"));
    let options = DatagramOptions::new().replace_stale(false);
    reactor.bind_with(handler, format!("unixgram:{server}"), &options).unwrap();
    let target = format!("UNIX-SENDTO:{server},bind={client}");
    let client = thread::spawn(move || run_client("socat", &["-t1", "-", &target], b"hello\n"));
    run_until(&mut reactor, "socat has ended", |_| client.is_finished());
    assert_eq!(client.join().unwrap(), b"hello\n");
}

#[test]
fn echo_answers_over_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        return println!("this machine has no ::1, nothing was tested");
    }
    let echo = Example::start_with("echo", "[::1]:0", &[]);
    assert!(echo.address.is_ipv6());
    assert_eq!(nc(&echo, b"six\n"), b"six\n");
    let target = format!("TCP6:{}", echo.address);
    assert_eq!(run_client("socat", &[PATIENCE, "-", &target], b"six\n"), b"six\n");
}

#[test]
fn a_listener_on_all_addresses_takes_both_families() {
    if TcpListener::bind("[::1]:0").is_err() {
        return println!("this machine has no ::1, nothing was tested");
    }
    let echo = Example::start_with("echo", "[::]:0", &[]);
    let port = echo.address.port();
    for target in [format!("TCP4:127.0.0.1:{port}"), format!("TCP6:[::1]:{port}")] {
        assert_eq!(run_client("socat", &[PATIENCE, "-", &target], b"hello\n"), b"hello\n");
    }
}

#[test]
fn echo_survives_a_scan_of_its_port() {
    let echo = Example::start("echo");
    let port = echo.address.port().to_string();
    for _ in 0..20 {
        run_client("nc", &["-z", "127.0.0.1", &port], b"");
    }
    assert_eq!(nc(&echo, b"x\n"), b"x\n");
}

#[test]
fn chat_takes_an_nc_through_a_session() {
    let chat = Example::start("chat");
    let transcript = nc(&chat, b"nora\nhello\n/who\n/quit\nnot said\n");
    assert_eq!(
        String::from_utf8(transcript).unwrap(),
        "* welcome, what is your name?\n* nora joined\nnora: hello\n* here: nora\n"
    );
}

#[test]
fn chat_takes_a_socat_that_ends_lines_as_telnet_does() {
    let chat = Example::start("chat");
    let target = format!("TCP:{},crlf", chat.address);
    let transcript = run_client("socat", &[PATIENCE, "-", &target], b"sam\nhello\n");
    assert_eq!(
        String::from_utf8(transcript).unwrap(),
        "* welcome, what is your name?\n* sam joined\nsam: hello\n"
    );
}

#[test]
fn raw_source_serves_a_socat_that_only_reads() {
    let mut tail = Example::start_with("raw_source", "127.0.0.1:0", &["cat"]);
    let target = format!("TCP:{}", tail.address);
    let mut client = start_client("socat", &["-u", &target, "-"], Stdio::null());
    tail.wait_for_line("a client came");
    tail.take_input().write_all(b"one\ntwo\n").unwrap();
    assert_eq!(client.output(), b"one\ntwo\n");
    assert!(tail.wait().success());
}

/// `printf INPUT | nc -N HOST PORT`: -N half-closes after the input.
fn nc(server: &Example, input: &[u8]) -> Vec<u8> {
    let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
    run_client("nc", &["-N", &host, &port], input)
}
