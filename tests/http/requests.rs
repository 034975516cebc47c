//! Requests, connections and their ends, with curl(1) and with bare sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::process::{Pid, Signal, kill_process};

use crate::answer::Answer;
use crate::site::{HELLO, LARGE, Site, until};
use crate::support::pattern;

#[test]
fn curl_uses_one_connection_for_many_requests() {
    let site = Site::start();
    let url = site.url("/hello.txt");
    let count = ["--write-out", "%{num_connects} %{http_code};", "--output", "/dev/null"];
    let again = ["--output", "/dev/null", &url, "--output", "/dev/null", &url];
    let printed = site.curl("/hello.txt", &[&count[..], &again[..]].concat());
    assert_eq!(printed.escape_ascii().to_string(), "1 200;0 200;0 200;");
}

#[test]
fn options_tells_what_can_be_done() {
    let site = Site::start();
    for arguments in
        [&["--request", "OPTIONS", "--request-target", "*"][..], &["--request", "OPTIONS"]]
    {
        let answer = site.ask("/hello.txt", arguments);
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        let allow: Vec<_> = answer.must_have("allow").split(',').map(str::trim).collect();
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(allow.contains(&method), "{allow:?}");
        }
    }
}

#[test]
fn a_method_that_a_file_does_not_have_is_refused_with_those_that_it_has() {
    let site = Site::start();
    for method in ["POST", "PUT", "DELETE"] {
        let answer = site.ask("/hello.txt", &["--request", method, "--data", "x"]);
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.must_have("allow").contains("GET"));
    }
    assert_eq!(site.ask("/hello.txt", &["--request", "BREW"]).status, 501);
    let answer = site.ask("/api/echo", &[]);
    assert_eq!(answer.status, 405);
    assert!(answer.must_have("allow").contains("POST"));
}

#[test]
fn what_is_posted_to_the_echo_comes_back() {
    let site = Site::start();
    let body = site.place().join("body");
    let sent = pattern(60_000);
    std::fs::write(&body, &sent).unwrap();
    let body = format!("@{}", body.display());
    for coding in [&[][..], &["--header", "Transfer-Encoding: chunked"]] {
        let answer = site.ask("/api/echo", &[&["--data-binary", &body], coding].concat());
        assert_eq!(answer.status, 200);
        assert!(answer.body == sent, "{} bytes", answer.body.len());
    }
}

#[test]
fn the_figures_of_the_loop_are_json() {
    let site = Site::start();
    let answer = site.ask("/api/stats", &[]);
    assert_eq!(answer.status, 200);
    assert!(answer.is_chunked, "{:?}", answer.fields);
    let stats: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(stats.is_object(), "{stats}");
    // Who does not know chunks is not sent any.
    let answer = site.ask("/api/stats", &["--http1.0"]);
    assert!(!answer.is_chunked, "{:?}", answer.fields);
    let stats: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(stats.is_object(), "{stats}");
}

/// curl(1) waits for the server's word before it sends a long body, and here for longer than the test.
#[test]
fn curl_is_told_to_go_on_with_a_body() {
    let site = Site::start();
    let body = site.place().join("body");
    let sent = pattern(40_000);
    std::fs::write(&body, &sent).unwrap();
    let body = format!("@{}", body.display());
    let patience = ["--expect100-timeout", "3600", "--header", "Expect: 100-continue", "--include"];
    for coding in [&[][..], &["--header", "Transfer-Encoding: chunked"]] {
        let arguments = [&["--data-binary", &body], coding, &patience[..]].concat();
        let printed = site.curl("/api/echo", &arguments);
        assert!(printed.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "));
        assert!(printed.ends_with(&sent));
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_and_curl_hears_why() {
    let site = Site::start();
    let body = site.place().join("body");
    std::fs::write(&body, vec![b' '; 20 << 20]).unwrap();
    let body = format!("@{}", body.display());
    // As ever: with `Expect: 100-continue`, and told before anything is sent.
    assert_eq!(site.ask("/api/echo", &["--data-binary", &body]).status, 413);
    // Without, it is in the middle of sending.
    let answer = site.ask("/api/echo", &["--data-binary", &body, "--header", "Expect:"]);
    assert_eq!(answer.status, 413);
    assert!(answer.is_last());
}

#[test]
fn a_target_or_a_field_that_is_too_long_is_refused() {
    let site = Site::start();
    assert_eq!(site.ask(&format!("/{}", "a".repeat(9_000)), &[]).status, 414);
    let field = format!("X: {}", "a".repeat(100_000));
    assert_eq!(site.ask("/hello.txt", &["--header", &field]).status, 431);
    let many: Vec<_> = (0..300).map(|i| format!("X{i}: a")).collect();
    let many: Vec<_> = many.iter().flat_map(|field| ["--header", field]).collect();
    assert_eq!(site.ask("/hello.txt", &many).status, 431);
}

/// Not by a wrong order of its answers, nor by one that is left out.
#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let site = Site::start();
    let mut sent = Vec::new();
    for i in 0..1_000 {
        let end = i % HELLO.len();
        let close = if i == 999 { "Connection: close\r\n" } else { "" };
        write!(
            sent,
            "GET /hello.txt HTTP/1.1\r\nHost: a\r\nRange: bytes={end}-{end}\r\n{close}\r\n"
        )
        .unwrap();
    }
    let answers = Answer::read_all(&site.exchange(&sent), &["GET"; 1_000]);
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!((answer.status, &answer.body[..]), (206, &HELLO[i % 13..][..1]), "number {i}");
    }
}

#[test]
fn a_client_that_has_sent_its_last_request_is_answered() {
    let site = Site::start();
    let mut client = site.connect();
    client
        .write_all(
            b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    let answers = Answer::read_all(&received, &["GET"; 2]);
    assert_eq!(answers[0].body, HELLO);
    assert!(answers[1].body == pattern(LARGE));
}

#[test]
fn half_a_request_at_the_end_has_no_answer() {
    let site = Site::start();
    let mut client = site.connect();
    client.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    let (answer, length) = Answer::read(&received, "GET", true).unwrap();
    assert_eq!(answer.body, HELLO);
    // Or one that says so.
    if length < received.len() {
        let (answer, _) = Answer::read(&received[length..], "GET", true).unwrap();
        assert!(matches!(answer.status, 400 | 408), "{answer:?}");
    }
}

/// An answer that is under way when the drain begins comes to its end, and says that it is the last one.
#[test]
fn a_drain_finishes_what_was_asked_and_says_that_it_closes() {
    let site = Site::start();
    std::fs::write(site.files().join("huge.bin"), pattern(8 << 20)).unwrap();
    let mut idle = site.connect();
    idle.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut first = [0; 1];
    idle.read_exact(&mut first).unwrap();
    let mut busy = site.connect();
    // Not all of it fits into the sockets, so it is under way.
    busy.write_all(
        b"GET /huge.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .unwrap();
    let mut received = vec![0; 1];
    busy.read_exact(&mut received).unwrap();
    let pid = Pid::from_raw(site.server.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    // It ends by itself, as it owes nothing.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    busy.read_to_end(&mut received).unwrap();
    let answers = Answer::read_all(&received, &["GET", "GET"]);
    assert!(answers[0].body == pattern(8 << 20));
    assert_eq!(answers[1].body, HELLO);
    assert!(answers[1].is_last(), "{:?}", answers[1].fields);
    drop(busy); // as clients do who are told; for the other one it waits a moment
    assert!(site.server.wait().success());
}

#[test]
fn an_address_has_no_more_connections_than_it_may() {
    let site = Site::start_with(&["--per-address", "2"]);
    let sent = b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let is_served = |client: &mut TcpStream| {
        client.write_all(sent).is_ok() && client.read(&mut [0; 1]).is_ok_and(|count| count > 0)
    };
    let mut clients: Vec<_> = (0..3).map(|_| site.connect()).collect();
    assert_eq!(clients.iter_mut().map(is_served).collect::<Vec<_>>(), [true, true, false]);
    drop(clients);
    until("there is a place again", || is_served(&mut site.connect()));
}

/// A peer may write what it likes into a log, if it can: escape sequences for a terminal, and lines.
#[test]
fn a_target_with_control_characters_is_refused() {
    let site = Site::start();
    for target in ["/\x1b[31m", "/a\x7f", "/a\x01"] {
        let sent = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answers = Answer::read_all(&site.exchange(sent.as_bytes()), &["GET"]);
        assert_eq!(answers[0].status, 400, "{target:?}");
    }
}

/// RFC 9112, section 3.2.2, and RFC 3986, section 3.2: a host ends where a path or a query begins.
#[test]
fn a_target_with_a_host_may_have_a_query_and_no_path() {
    let site = Site::start();
    for target in ["http://a", "http://a/", "http://a?x", "http://a?x=/hello.txt", "http://a/?x=/y"]
    {
        let sent = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answers = Answer::read_all(&site.exchange(sent.as_bytes()), &["GET"]);
        let index = &b"<h1>index</h1>\n"[..];
        assert_eq!((answers[0].status, &answers[0].body[..]), (200, index), "{target}");
    }
}

/// Of whatever spelling (RFC 9110, section 4.2.3), with a host or without.
#[test]
fn a_service_is_found_by_what_its_path_means() {
    let site = Site::start();
    for path in ["/api/stats", "/%61pi/stats", "//api/stats", "/./api//stats", "http://a/api/stats"]
    {
        let sent = format!("DELETE {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answers = Answer::read_all(&site.exchange(sent.as_bytes()), &["DELETE"]);
        assert_eq!(answers[0].status, 405, "{path}");
        assert_eq!(answers[0].must_have("allow"), "GET, HEAD, OPTIONS", "{path}");
        let answers =
            site.exchange(sent.replace("DELETE", "GET").replace("stats", "echo").as_bytes());
        let answers = Answer::read_all(&answers, &["GET"]);
        assert_eq!(answers[0].must_have("allow"), "POST, OPTIONS", "{path}");
    }
}

/// RFC 9112, section 3.2.4.
#[test]
fn only_options_may_ask_about_the_server_itself() {
    let site = Site::start();
    for method in ["GET", "POST", "DELETE", "CONNECT"] {
        let sent = format!("{method} * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answers = Answer::read_all(&site.exchange(sent.as_bytes()), &[method]);
        assert_eq!(answers[0].status, 400, "{method}");
    }
    // The other form without a path, of which there is a method that has it.
    let sent = b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n";
    assert_eq!(Answer::read_all(&site.exchange(sent), &["CONNECT"])[0].status, 405);
}

/// RFC 9110, section 9.3.2; also where the connection ends with the answer.
#[test]
fn no_refusal_of_a_head_has_a_body() {
    let site = Site::start();
    for (line_end, field, status) in [
        ("\r\n", "Expect: the-unexpected", 417),
        ("\r\n", "Content-Length: 99999999", 413),
        ("\r\n", "Content-Length: x", 400),
        ("\r\n", "Host : a", 400),
        ("\n", "X: a", 400),
    ] {
        let sent = format!("HEAD / HTTP/1.1\r\nHost: a{line_end}{field}\r\n\r\n");
        let answers = Answer::read_all(&site.exchange(sent.as_bytes()), &["HEAD"]);
        assert_eq!(answers[0].status, status, "{field}");
        assert!(answers[0].is_last(), "{field}");
    }
}

/// RFC 9110, sections 4.2.1 and 4.2.4, and RFC 9112, section 3: the host of a target is one as well as that of a Host.
#[test]
fn a_target_that_is_none_is_refused() {
    let site = Site::start();
    for line in [
        "GET http:///hello.txt HTTP/1.1",
        "GET http://?a HTTP/1.1",
        "GET http://[::1/ HTTP/1.1",
        "GET http://[a]/ HTTP/1.1",
        "GET http://a\\@b/ HTTP/1.1",
        "GET http://user:word@a/ HTTP/1.1",
        "GET http://a:b/ HTTP/1.1",
        "GET http://a b/ HTTP/1.1",
        "GET GET / HTTP/1.1",
    ] {
        let sent = format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answers = Answer::read_all(&site.exchange(sent.as_bytes()), &["GET"]);
        assert_eq!(answers[0].status, 400, "{line}");
    }
    for host in ["a:80", "127.0.0.1", "[::1]:80", "a-b.example:"] {
        let sent = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n");
        let sent = format!("{sent}Connection: close\r\n\r\n");
        let answers = Answer::read_all(&site.exchange(sent.as_bytes()), &["GET"]);
        assert_eq!(answers[0].status, 200, "{host}");
    }
}
