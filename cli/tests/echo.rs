//! `oneloop echo`, from outside.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixStream};
use std::path::PathBuf;

use support::process::terminate;
use support::{DEADLINE, Program, connect, eventually, run};

fn assert_echoes(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

#[test]
fn it_prints_the_address_that_it_really_listens_on() {
    let program = Program::start(&["echo", "--listen", "127.0.0.1:0"]);
    let address = program.address();
    assert_ne!(address.port(), 0);
    assert_echoes(address);
}

#[test]
fn it_listens_on_several_addresses() {
    let program = Program::start(&["echo", "--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]);
    let addresses = [program.address(), program.address()];
    assert_eq!(addresses.map(|address| address.ip().to_string()), ["127.0.0.1", "127.0.0.2"]);
    addresses.into_iter().for_each(assert_echoes);
}

#[test]
fn it_serves_with_every_option_set() {
    let listen = "echo --listen udp://127.0.0.1:0 --listen [::1]:0";
    let options = "--stats 1m --drain 1s --spin 1ms --watchdog 1s --notify --answer-any-port --until-stdin-closes \
        --backlog 8 --reuse-port --only-v6 --no-nodelay --accepts-per-turn 2 --max-per-listener 5 \
        --max-per-address 4 --read-bytes-per-turn 4K --reads-per-turn 2 --write-bytes-per-turn 4K \
        --output-low 1K --output-high 8K --output-max 1M --output-soft 64K --output-soft-time 1m \
        --write-stall 1m --first-byte 1m --idle 1m --no-deadlines --linger 1s --drain-linger 1s \
        --max-connections 10 --events-per-poll 16 --memory-max 1M --read-buffer 4K";
    let help = run(&["echo", "--help"]).stdout;
    let names = help.split_whitespace().filter(|word| word.starts_with("--"));
    for name in names.map(|word| word.trim_end_matches([',', '.', ';', ':', ')'])) {
        // Of the first two one can be given.
        let is_given = ["--no-watchdog", "--help", "--listen"].contains(&name)
            || options.split_whitespace().any(|option| option == name);
        assert!(is_given, "{name}");
    }
    let arguments = listen.split_whitespace().chain(options.split_whitespace());
    let program = Program::start(&arguments.collect::<Vec<_>>());
    let line = program.line();
    assert!(line.starts_with("listening on udp://"), "{line}");
    assert_echoes(program.address());
}

#[test]
fn a_client_over_the_limit_of_its_source_is_turned_away() {
    let program = Program::start(&["echo", "--listen", "127.0.0.1:0", "--max-per-address", "1"]);
    let address = program.address();
    let mut first = connect(address);
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    assert!(matches!(connect(address).read(&mut [0]), Ok(0) | Err(_)));
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
}

#[test]
fn it_ends_when_its_standard_input_ends() {
    let mut program = Program::start(&["echo", "--listen", "127.0.0.1:0", "--until-stdin-closes"]);
    assert_echoes(program.address());
    program.close_stdin();
    let run = program.wait();
    assert!(run.is_clean(), "{run:?}");
}

#[test]
fn it_prints_rates() {
    let program = Program::start(&["echo", "--listen", "127.0.0.1:0", "--stats", "10ms"]);
    assert_echoes(program.address());
    let line = program.line();
    for unit in ["connections", "accepts/s", "reads/s", "MB/s in", "MB/s out", "turns/s"] {
        assert!(line.contains(unit), "{line}");
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = run(&["echo", "--listen", &address]);
    assert!(run.failure().contains(&format!("listen on {address}: ")), "{run:?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn what_cannot_be_an_address_is_said_with_its_reason() {
    for (address, reason) in [
        ("nonsense", "':' is missing between host and port: nonsense:PORT"),
        ("127.0.0.1:70000", "port 70000 is over 65535"),
        ("::1:7000", "an IPv6 address needs brackets: [::1]:7000"),
    ] {
        let run = run(&["echo", "--listen", address]);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(run.stderr.contains(address) && run.stderr.contains(reason), "{run:?}");
    }
}

fn udp_client(server: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

fn assert_echoes_datagrams(client: &UdpSocket) {
    for message in [&b"hello"[..], b"", &[7; 60_000]] {
        client.send(message).unwrap();
        let mut answer = vec![0; 70_000];
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], message);
    }
}

fn udp_address(program: &Program) -> SocketAddr {
    let line = program.line();
    line.strip_prefix("listening on udp://").expect(&line).parse().unwrap()
}

#[test]
fn it_serves_every_kind_of_socket_at_once() {
    let name = format!("oneloop-cli-kinds-{}", std::process::id());
    let (unix, unixgram) = (format!("unix:@{name}"), format!("unixgram:@{name}-datagrams"));
    let addresses = ["127.0.0.1:0", "udp://127.0.0.1:0", "udp://localhost:0", &unix, &unixgram];
    let listen = addresses.iter().flat_map(|address| ["--listen", address]);
    let program = Program::start(&["echo"].into_iter().chain(listen).collect::<Vec<_>>());
    let tcp = program.address();
    let udp = [udp_address(&program), udp_address(&program)];
    assert_eq!(program.line(), format!("listening on {unix}"));
    assert_eq!(program.line(), format!("listening on {unixgram}"));

    assert_echoes(tcp);
    udp.into_iter().for_each(|address| assert_echoes_datagrams(&udp_client(address)));
    let mut stream =
        UnixStream::connect_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let own = UnixAddress::from_abstract_name(format!("{name}-client")).unwrap();
    let client = UnixDatagram::bind_addr(&own).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let server = UnixAddress::from_abstract_name(format!("{name}-datagrams")).unwrap();
    client.send_to_addr(b"hello", &server).unwrap();
    let mut answer = [0; 10];
    assert_eq!(client.recv(&mut answer).unwrap(), 5);
    assert_eq!(&answer[..5], b"hello");

    terminate(program.pid());
    drop(stream);
    let run = program.wait();
    assert!(run.status.success() && run.stdout.starts_with("drained after "), "{run:?}");
}

#[test]
fn a_star_takes_datagrams_of_both_families() {
    let program = Program::start(&["echo", "--listen", "udp://*:0"]);
    let port = udp_address(&program).port();
    assert_echoes_datagrams(&udp_client(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    if UdpSocket::bind("[::1]:0").is_ok() {
        assert_echoes_datagrams(&udp_client(SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
    }
}

#[test]
fn a_datagram_that_is_cut_off_is_not_echoed() {
    let arguments = ["echo", "--listen", "udp://127.0.0.1:0", "--read-buffer", "4K"];
    let program = Program::start(&arguments);
    let client = udp_client(udp_address(&program));
    client.send(&[1; 4097]).unwrap();
    client.send(&[2; 4096]).unwrap();
    let mut answer = [0; 10_000];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], [2; 4096]);
}

#[test]
fn a_datagram_socket_that_cannot_be_bound_is_one_clear_line() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let run = run(&["echo", "--listen", &format!("udp://{address}")]);
    assert!(run.failure().contains(&format!("bind to udp://{address}: ")), "{run:?}");
    assert!(run.failure().contains("in use"), "{run:?}");
}

#[test]
fn a_star_takes_clients_of_both_families() {
    let program = Program::start(&["echo", "--listen", "*:0"]);
    let port = program.address().port();
    assert_echoes(SocketAddr::from(([127, 0, 0, 1], port)));
    if TcpListener::bind("[::1]:0").is_ok() {
        assert_echoes(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    }
}

/// The first socket is the reserved descriptor, the second one asks for IPv6.
#[test]
fn a_star_without_ipv6_takes_the_clients_of_ipv4() {
    let inject = "inject=socket:error=EAFNOSUPPORT:when=2";
    let strace = ["strace", "-qq", "-o/dev/null", "-e", "trace=socket", "-e", inject];
    // It ends with its standard input: killing strace leaves it.
    let arguments = ["echo", "--listen", "*:0", "--until-stdin-closes"];
    let program = Program::start_by(&strace, &arguments);
    let address = program.address();
    assert_eq!(address.ip(), Ipv4Addr::UNSPECIFIED);
    assert_echoes(SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())));
}

#[test]
fn a_name_is_looked_up() {
    let program = Program::start(&["echo", "--listen", "localhost:0"]);
    let address = program.address();
    assert!(address.ip().is_loopback(), "{address}");
    assert_echoes(address);
}

#[test]
fn limits_that_contradict_each_other_are_one_clear_line() {
    let run = run(&["echo", "--listen", "127.0.0.1:0", "--output-low", "1M"]);
    assert!(run.failure().contains("output_bytes_low"), "{run:?}");
}

#[test]
fn bad_arguments_are_named() {
    for (argument, value) in [("--backlog", "many"), ("--linger", "1 year"), ("--read-buffer", "0")]
    {
        let run = run(&["echo", argument, value]);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(run.stderr.contains(argument) && run.stderr.contains(value), "{run:?}");
    }
}

#[test]
fn sigterm_lets_who_is_connected_finish() {
    let program = Program::start(&["echo", "--listen", "127.0.0.1:0"]);
    let address = program.address();
    let mut client = connect(address);
    client.write_all(b"before").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    terminate(program.pid());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    // The door closes in the same turn, a moment later.
    eventually("a new connect is refused", || TcpStream::connect(address).err());
    drop(client);
    let run = program.wait();
    assert!(run.status.success(), "{run:?}");
    assert!(run.stdout.starts_with("drained after "), "{run:?}");
    assert!(run.stdout.contains(" finished, 0 cut off, 0 failed"), "{run:?}");
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let times = ["--drain", "1m", "--linger", "1m", "--drain-linger", "1m"];
    let program = Program::start(&[&["echo", "--listen", "127.0.0.1:0"], &times[..]].concat());
    let mut client = connect(program.address());
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    terminate(program.pid());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    terminate(program.pid());
    let run = program.wait();
    assert!(run.status.success(), "{run:?}");
    assert!(run.stdout.starts_with("stopped after "), "{run:?}");
}

#[test]
fn a_storm_of_sigterm_ends_it_in_order() {
    let program = Program::start(&["echo", "--listen", "127.0.0.1:0", "--drain", "1m"]);
    program.address();
    let pid = program.pid();
    for _ in 0..1000 {
        terminate(pid);
    }
    let run = program.wait();
    assert!(run.status.success(), "{run:?}");
    assert_eq!(run.stdout.lines().count(), 1, "{run:?}");
}

#[test]
fn it_listens_on_all_addresses_of_a_name() {
    // A file of names of its own, which no other process sees.
    let hosts = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("several-hosts");
    fs::write(&hosts, "127.0.0.1 several\n127.0.0.2 several\n").unwrap();
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", script];
    let prefix = [&unshare[..], &[hosts.to_str().unwrap()]].concat();
    let program = Program::start_by(&prefix, &["echo", "--listen", "several:0"]);
    let mut addresses = [program.address(), program.address()];
    addresses.sort();
    assert_eq!(addresses.map(|address| address.ip().to_string()), ["127.0.0.1", "127.0.0.2"]);
    addresses.into_iter().for_each(assert_echoes);
}

#[test]
fn options_that_mean_nothing_for_datagrams_are_refused_where_there_is_nothing_else() {
    let options = ["--idle", "1s", "--no-nodelay", "--reuse-port"];
    let udp = ["echo", "--listen", "udp://127.0.0.1:0"];
    let refused = run(&[&udp[..], &options].concat());
    let expected = "oneloop: a socket for datagrams has no --no-nodelay, no --idle";
    assert_eq!(refused.failure(), expected);
    let both = [&udp[..], &["--listen", "127.0.0.1:0"], &options].concat();
    let program = Program::start(&both);
    assert!(program.line().contains("udp://"));
    assert_echoes(program.address());
}

#[test]
fn an_option_for_datagrams_is_refused_where_none_come() {
    let run = run(&["echo", "--listen", "127.0.0.1:0", "--answer-any-port"]);
    let expected = "oneloop: --answer-any-port is for datagrams, and nothing here takes any";
    assert_eq!(run.failure(), expected);
}

/// Where two servers that echo would answer each other for ever, because somebody forged a sender.
#[test]
fn a_datagram_from_a_port_of_its_own_is_answered_only_if_that_is_asked_for() {
    for answers in [false, true] {
        let option = if answers { &["--answer-any-port"][..] } else { &[] };
        let program =
            Program::start(&[&["echo", "--listen", "udp://127.0.0.1:0"], option].concat());
        let line = program.line();
        let server: SocketAddr = line.strip_prefix("listening on udp://").unwrap().parse().unwrap();
        let other = UdpSocket::bind(("127.0.0.2", server.port())).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"other", server).unwrap();
        client.send_to(b"hello", server).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(client.recv(&mut [0; 9]).unwrap(), 5);
        // The answers leave in the order of what came.
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.recv(&mut [0; 9]).is_ok(), answers);
    }
}
