//! The example `dns`: what dig(1) makes of it, and what it makes of what no client would send.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

use crate::example::{Example, path_of, run_client};
use crate::support::{self, DEADLINE};

/// Not where clients' sockets are: TCP and UDP have to have the same port.
const ADDRESS: &str = "127.0.0.53:0";

const A: u16 = 1;

fn serve(arguments: &[&str]) -> Example {
    let dns = Example::start_with("dns", ADDRESS, arguments);
    // The port for TCP was first.
    dns.wait_for_line("datagrams, listening on ");
    dns
}

fn dig(dns: &Example, arguments: &str) -> String {
    let at = format!("@{}", dns.address.ip());
    let port = dns.address.port().to_string();
    let mut all = vec!["-b", "127.0.0.1", &at, "-p", &port, "+tries=1", "+time=30"];
    all.extend(arguments.split_whitespace());
    String::from_utf8(run_client("dig", &all, b"")).unwrap()
}

#[track_caller]
fn assert_says(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(answer.contains(part), "no {part:?} in {answer}");
    }
}

/// A file with a zone, of one test.
struct ZoneFile(PathBuf);

impl ZoneFile {
    fn new(name: &str, records: &str) -> ZoneFile {
        let name = format!("oneloop-dns-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let soa = "example.test 3600 SOA ns.example.test root.example.test 1 7200 3600 1209600 60";
        fs::write(&path, format!("{soa}\n{records}")).unwrap();
        ZoneFile(path)
    }

    fn serve(&self) -> Example {
        serve(&[self.0.to_str().unwrap()])
    }
}

impl Drop for ZoneFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn dig_is_answered_over_udp_and_over_tcp() {
    let dns = serve(&[]);
    for transport in ["+notcp", "+tcp"] {
        let answer = dig(&dns, &format!("{transport} host.example.test A"));
        assert_says(&answer, &["status: NOERROR", "flags: qr aa rd;", "ANSWER: 1", "127.0.0.3"]);
        let server = format!("({})", if transport == "+tcp" { "TCP" } else { "UDP" });
        assert_says(&answer, &[&server]);
        assert_eq!(dig(&dns, &format!("{transport} +short host.example.test AAAA")), "::1\n");
    }
    assert_eq!(dig(&dns, "+short HOST.eXaMpLe.TeSt A"), "127.0.0.3\n");
    assert_eq!(dig(&dns, "+short example.test NS"), "ns.example.test.\n");
    assert_eq!(dig(&dns, "+short +dnssec ns.example.test A"), "127.0.0.1\n");
    assert_eq!(dig(&dns, "+short +noedns ns.example.test A"), "127.0.0.1\n");
}

#[test]
fn an_alias_is_followed_within_the_zone() {
    let file = ZoneFile::new(
        "alias",
        "www.example.test 60 CNAME web.example.test\n\
         web.example.test 60 CNAME host.example.test\n\
         host.example.test 60 A 192.0.2.1\n\
         out.example.test 60 CNAME host.elsewhere.test\n\
         gone.example.test 60 CNAME nobody.example.test\n\
         one.example.test 60 CNAME two.example.test\n\
         two.example.test 60 CNAME one.example.test",
    );
    let dns = file.serve();
    let chain = "web.example.test.\nhost.example.test.\n192.0.2.1\n";
    assert_eq!(dig(&dns, "+short www.example.test A"), chain);
    assert_eq!(dig(&dns, "+short www.example.test CNAME"), "web.example.test.\n");
    let out = dig(&dns, "out.example.test A");
    assert_says(&out, &["status: NOERROR", "ANSWER: 1,", "AUTHORITY: 0"]);
    assert_says(&dig(&dns, "gone.example.test A"), &["status: NXDOMAIN", "ANSWER: 1,", "SOA"]);
    assert_says(&dig(&dns, "one.example.test A"), &["status: SERVFAIL"]);
}

#[test]
fn what_is_not_there_is_said_with_the_soa() {
    let file = ZoneFile::new("nothing", "deep.below.example.test 60 A 192.0.2.1");
    let dns = file.serve();
    for (query, status) in [
        ("nobody.example.test A", "NXDOMAIN"),
        ("below.example.test A", "NOERROR"), // nothing, but something is below it
        ("deep.below.example.test AAAA", "NOERROR"),
    ] {
        let answer = dig(&dns, query);
        assert_says(&answer, &[&format!("status: {status}"), "ANSWER: 0", "AUTHORITY: 1"]);
        // For so long nothing is nothing.
        assert_says(&answer, &["example.test.\t\t60\tIN\tSOA"]);
    }
}

#[test]
fn what_is_not_ours_is_refused() {
    let dns = serve(&[]);
    for query in [
        "www.example.com A",
        "test A",
        "wwwexample.test A",
        ". NS",
        "-c CH version.bind TXT",
        "example.test IXFR=1",
    ] {
        let answer = dig(&dns, query);
        let is_refused = answer.contains("status: REFUSED") && answer.contains("ANSWER: 0");
        assert!(is_refused || answer.contains("Transfer failed"), "{query}: {answer}");
    }
    let transfer = dig(&dns, "example.test AXFR");
    assert!(transfer.contains("Transfer failed") && !transfer.contains("SOA"), "{transfer}");
    assert_says(&dig(&dns, "+opcode=notify example.test SOA"), &["status: NOTIMP"]);
    assert_says(&dig(&dns, "example.test TYPE65400"), &["status: NOTIMP"]);
}

#[test]
fn of_any_there_is_one_type() {
    let dns = serve(&[]);
    assert_says(&dig(&dns, "+notcp example.test ANY"), &["status: NOERROR", "ANSWER: 1,"]);
}

/// A text of about so many bytes.
fn text(name: &str, bytes: usize) -> String {
    let words: Vec<String> = (0..bytes / 100).map(|i| format!("{i:0>99}")).collect();
    format!("{name}.example.test 60 TXT {}\n", words.join(" "))
}

#[test]
fn what_does_not_fit_is_truncated_and_comes_over_tcp() {
    let records =
        text("t700", 700) + &text("t2000", 2000) + &text("t5000", 5000) + &text("t70000", 70_000);
    let file = ZoneFile::new("large", &records);
    let dns = file.serve();
    for (name, options, is_truncated) in [
        ("t700", "+noedns", true),
        ("t700", "+bufsize=512", true),
        ("t700", "+bufsize=0", true),
        ("t700", "+bufsize=1232", false),
        ("t5000", "+bufsize=1232", true),
        ("t2000", "+bufsize=4096", true), // it is nobody's to have so much sent to somebody
        ("t5000", "+tcp", false),
        ("t70000", "+tcp", true), // more than a message can be
    ] {
        let answer = dig(&dns, &format!("+ignore {options} {name}.example.test TXT"));
        let expected = if is_truncated { "flags: qr aa tc rd;" } else { "flags: qr aa rd;" };
        assert_says(&answer, &["status: NOERROR", expected]);
        assert_says(&answer, &[if is_truncated { "ANSWER: 0" } else { "ANSWER: 1," }]);
    }
    // Told so, dig asks again.
    let answer = dig(&dns, "t5000.example.test TXT");
    assert_says(&answer, &["retrying in TCP mode", "(TCP)", &format!("{:0>99}", 49)]);
}

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn with_length(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn read_message(stream: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

#[test]
fn several_queries_at_once_are_answered_in_order_over_tcp() {
    let dns = serve(&[]);
    let mut client = support::connect(dns.address);
    let queries: Vec<u8> =
        (0..2000).flat_map(|id| with_length(&query(id, "host.example.test", A))).collect();
    // The last one comes in two pieces.
    let (most, rest) = queries.split_at(queries.len() - 7);
    client.write_all(most).unwrap();
    for expected in 0..1999 {
        let answer = read_message(&mut client);
        assert_eq!(id(&answer), expected);
        assert!(answer.ends_with(&[127, 0, 0, 3]), "{answer:?}");
    }
    client.write_all(rest).unwrap();
    assert_eq!(id(&read_message(&mut client)), 1999);
}

#[test]
fn the_longest_message_is_read_to_its_end_over_tcp() {
    let dns = serve(&[]);
    let mut client = support::connect(dns.address);
    let mut long = query(7, "host.example.test", A);
    long[5] = 2; // as it would be with much more behind it
    long.resize(65_535, 0);
    client.write_all(&with_length(&long)).unwrap();
    assert_eq!(failure(Some(read_message(&mut client))), 1);
    client.write_all(&with_length(&query(8, "host.example.test", A))).unwrap();
    assert_eq!(id(&read_message(&mut client)), 8);
}

/// Whoever a spoofed query names as its sender gets what is answered: no more than 512 bytes, or for a query with EDNS no
/// more than fit into a packet that no network cuts, whatever it says that it takes.
#[test]
fn no_answer_to_a_sender_that_may_be_spoofed_amplifies_beyond_its_bound() {
    const ANY: u16 = 255;
    const TXT: u16 = 16;
    let host = "host.example.test 60 A 127.0.0.3\n".to_string();
    let records = host + &text("t400", 400) + &text("t1100", 1100) + &text("t60000", 60_000);
    let file = ZoneFile::new("spoofed", &records);
    let dns = file.serve();
    let socket = udp(dns.address);
    for name in ["t400", "t1100", "t60000", "nobody"] {
        for kind in [TXT, ANY] {
            let plain = query(1, &format!("{name}.example.test"), kind);
            let mut edns = plain.clone();
            edns[11] = 1; // a record more, of no name: OPT, with 65,535 for a size
            edns.extend([0, 0, 41, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
            for (query, bytes_max) in [(plain, 512), (edns, 1232)] {
                let answer = answer_to(&socket, &query).expect("an answer");
                let (bytes, fits) = (answer.len(), answer[2] & 2 == 0);
                assert!(bytes <= bytes_max, "{name}: {bytes} bytes for {}", query.len());
                // Who is told to ask over TCP is told no more.
                assert!(fits || bytes <= query.len(), "{name}: {bytes} bytes for {}", query.len());
            }
        }
    }
}

fn udp(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// What is answered to something, over UDP: a good query follows, whose answer comes after it.
fn answer_to(socket: &UdpSocket, message: &[u8]) -> Option<Vec<u8>> {
    const GOOD: u16 = 0xbeef;
    socket.send(message).unwrap();
    socket.send(&query(GOOD, "host.example.test", A)).unwrap();
    let mut answer = None;
    loop {
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).expect("the server is still there");
        let received = buffer[..length].to_vec();
        if id(&received) == GOOD {
            assert!(received.ends_with(&[127, 0, 0, 3]), "{received:?}");
            return answer;
        }
        assert_eq!(answer.replace(received), None, "two answers to {message:?}");
    }
}

/// The code of an answer that is nothing but a header.
fn failure(answer: Option<Vec<u8>>) -> u8 {
    let answer = answer.expect("an answer");
    assert_eq!((answer.len(), &answer[4..]), (12, &[0; 8][..]), "{answer:?}");
    answer[3] & 0xf
}

#[test]
fn malformed_queries_are_told_so_in_no_more_bytes_than_they_had() {
    let dns = serve(&[]);
    let socket = udp(dns.address);
    let good = query(7, "host.example.test", A);
    for length in 0..good.len() {
        let answer = answer_to(&socket, &good[..length]);
        match length {
            0..12 => assert_eq!(answer, None),
            _ => assert_eq!(failure(answer), 1, "of {length} bytes"),
        }
    }
    let changed = |changes: &[(usize, u8)]| {
        let mut message = good.clone();
        changes.iter().for_each(|&(at, byte)| message[at] = byte);
        message
    };
    for (message, code) in [
        (changed(&[(4, 0xff), (5, 0xff)]), 1),   // 65,535 questions
        (changed(&[(5, 0)]), 1),                 // none
        (changed(&[(6, 0xff), (7, 0xff)]), 1),   // answers
        (changed(&[(10, 0xff), (11, 0xff)]), 1), // additional records
        (changed(&[(11, 1)]), 1),                // one that is not there
        (changed(&[(12, 0xc0), (13, 12)]), 1),   // a name that points to itself
        (changed(&[(12, 0xff), (13, 0xff)]), 1), // and far away
        (changed(&[(12, 0x50)]), 1),             // a label that is too long
        (changed(&[(2, 0x28)]), 4),              // an update
        (changed(&[(2, 0x18)]), 4),              // an opcode that there is not
    ] {
        let answer = answer_to(&socket, &message);
        assert_eq!(failure(answer), code, "{message:?}");
    }
}

#[test]
fn an_answer_is_not_answered() {
    let dns = serve(&[]);
    let socket = udp(dns.address);
    let mut message = query(7, "host.example.test", A);
    message[2] |= 0x80;
    assert_eq!(answer_to(&socket, &message), None);
    message[5] = 0xff;
    assert_eq!(answer_to(&socket, &message), None);
    // Over TCP it is nothing that a client does.
    let mut client = support::connect(dns.address);
    client.write_all(&with_length(&message)).unwrap();
    assert_eq!(client.read(&mut [0; 100]).unwrap_or(0), 0);
}

/// Queries with random bytes changed, and bytes that are random altogether.
#[test]
fn random_bytes_do_no_harm() {
    let dns = serve(&[]);
    let socket = udp(dns.address);
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    let mut with_opt = query(7, "host.example.test", A);
    with_opt[11] = 1;
    with_opt.extend([0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0]);
    for round in 0..2000 {
        let mut message = with_opt.clone();
        match round % 3 {
            0 => {
                for _ in 0..1 + random() % 4 {
                    let at = 2 + random() % (message.len() - 2);
                    message[at] = random() as u8;
                }
            }
            1 => message.iter_mut().skip(12).for_each(|byte| *byte = random() as u8),
            _ => {
                let length = random() % 600;
                message = (0..length).map(|_| random() as u8).collect();
                if let Some(id) = message.first_mut() {
                    *id = 7; // not that of the good one
                }
            }
        }
        answer_to(&socket, &message);
        let mut client = (round % 50 == 0).then(|| support::connect(dns.address));
        if let Some(client) = &mut client {
            client.write_all(&with_length(&message)).unwrap();
            client.write_all(&message).unwrap();
        }
    }
    assert_eq!(dig(&dns, "+short +tcp host.example.test A"), "127.0.0.3\n");
}

#[test]
fn a_zone_with_an_empty_label_is_refused_and_the_line_is_shown() {
    let zone = ZoneFile::new("empty-label", "a..example.test 300 A 127.0.0.1\n");
    let mut command = std::process::Command::new(path_of("dns"));
    let file = zone.0.to_str().unwrap();
    let done = command.args([ADDRESS, file]).output().unwrap();
    let complaint = String::from_utf8(done.stderr).unwrap();
    assert_eq!(complaint, format!("dns: {file}: no record: a..example.test 300 A 127.0.0.1\n"));
    assert_eq!(done.status.code(), Some(1));
}
