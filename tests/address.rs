//! The grammar of addresses, by example.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use oneloop::Address;
use oneloop::address::{Endpoint, Host, Port, UnixName};

fn parse(text: &str) -> Address {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn error(text: &str) -> String {
    match text.parse::<Address>() {
        Ok(address) => panic!("{text:?} was read as {address:?}"),
        Err(error) => error.to_string(),
    }
}

fn tcp(text: &str) -> Endpoint {
    match parse(text) {
        Address::Tcp(endpoint) => endpoint,
        other => panic!("{text:?} is no TCP address: {other:?}"),
    }
}

fn udp(text: &str) -> Endpoint {
    match parse(text) {
        Address::Udp(endpoint) => endpoint,
        other => panic!("{text:?} is no UDP address: {other:?}"),
    }
}

fn unix(text: &str) -> UnixName {
    match parse(text) {
        Address::Unix(name) => name,
        other => panic!("{text:?} is no Unix socket: {other:?}"),
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn ip_addresses_with_ports_are_socket_addresses() {
    for text in [
        "127.0.0.1:7000",
        "0.0.0.0:0",
        "255.255.255.255:65535",
        "[::1]:7000",
        "[::]:0",
        "[fe80::1%3]:7000",
        "[::ffff:127.0.0.1]:80",
    ] {
        assert_eq!(tcp(text).socket_addr(), Some(socket(text)), "{text}");
        assert_eq!(udp(&format!("udp://{text}")).socket_addr(), Some(socket(text)), "{text}");
        assert_eq!(parse(text), Address::from(socket(text)));
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn a_star_is_all_addresses() {
    let all = tcp("*:7000");
    assert_eq!((all.host(), all.port()), (&Host::All, &Port::Number(7000)));
    assert_eq!(all.socket_addr(), None, "there are two families");
    assert_eq!(udp("udp://*:53").host(), &Host::All);
}

#[test]
fn hosts_and_services_have_names() {
    let service = |name: &str| Port::Service(name.into());
    for (text, host, port) in [
        ("localhost:7000", Host::Name("localhost".into()), Port::Number(7000)),
        ("localhost:http", Host::Name("localhost".into()), service("http")),
        ("Host-1.example.org.:z3950", Host::Name("Host-1.example.org.".into()), service("z3950")),
        ("my_service:80", Host::Name("my_service".into()), Port::Number(80)),
        ("3com.com:007", Host::Name("3com.com".into()), Port::Number(7)),
        ("unix.:80", Host::Name("unix.".into()), Port::Number(80)),
        ("tcp://unix:80", Host::Name("unix".into()), Port::Number(80)),
        ("127.0.0.1:http", Host::Ip(Ipv4Addr::LOCALHOST.into()), service("http")),
        ("[::1]:iso-tsap", Host::Ip(Ipv6Addr::LOCALHOST.into()), service("iso-tsap")),
        ("*:clc-build-daemon", Host::All, service("clc-build-daemon")),
        ("*:gds_db", Host::All, service("gds_db")),
    ] {
        let endpoint = tcp(text);
        assert_eq!((endpoint.host(), endpoint.port()), (&host, &port), "{text}");
        assert_eq!(parse(&parse(text).to_string()), parse(text));
    }
    assert_eq!(tcp("localhost:80").socket_addr(), None);
    assert_eq!(tcp("127.0.0.1:http").socket_addr(), None);
}

#[test]
fn a_scope_is_an_index_or_the_name_of_an_interface() {
    let ip: Ipv6Addr = "fe80::1".parse().unwrap();
    let named = tcp("[fe80::1%eth0.7]:7000");
    assert_eq!(named.host(), &Host::Scoped(ip, "eth0.7".into()));
    assert_eq!(named.socket_addr(), None, "the interface must be looked up");
    assert_eq!(named.host().to_string(), "fe80::1%eth0.7", "what getaddrinfo takes");
    assert_eq!(named.to_string(), "[fe80::1%eth0.7]:7000");
    let index = tcp("[fe80::1%02]:7000");
    assert_eq!(index.socket_addr(), Some(SocketAddrV6::new(ip, 7000, 0, 2).into()));
    assert_eq!(index.to_string(), "[fe80::1%2]:7000");
}

#[test]
fn a_flow_label_is_not_part_of_an_address() {
    let labelled = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 7, 0);
    assert_eq!(Address::from(SocketAddr::from(labelled)), parse("[::1]:80"));
}

#[test]
fn unix_sockets_have_paths_or_abstract_names() {
    for (text, path) in [
        ("unix:/run/app.sock", "/run/app.sock"),
        ("unix:app.sock", "app.sock"),
        ("unix:7000", "7000"),
        ("unix:///run/app.sock", "/run/app.sock"),
        ("unix:/run/my app,1:2", "/run/my app,1:2"),
        ("unix:/run/100%25", "/run/100%"),
        ("unix:%40app", "@app"),
        ("unix:./@app", "./@app"),
        ("unix:/run/ü", "/run/ü"),
    ] {
        let name = unix(text);
        assert_eq!(name.as_path().unwrap().to_str(), Some(path), "{text}");
        assert_eq!(name.as_abstract(), None);
    }
    for (text, name) in [
        ("unix:@app", &b"app"[..]),
        ("unix:@@", b"@"),
        ("unix:@//a/", b"//a/"),
        ("unix:@a%00%FFb", b"a\0\xffb"),
    ] {
        assert_eq!(unix(text).as_abstract(), Some(name), "{text}");
        assert_eq!(unix(text).as_path(), None);
    }
    let Address::UnixDatagram(name) = parse("unixgram:/dev/log") else { panic!() };
    assert_eq!(name, UnixName::from_path("/dev/log").unwrap());
}

#[test]
fn inherited_sockets_have_a_descriptor_or_a_name() {
    assert_eq!(parse("fd:3"), Address::Fd(3));
    assert_eq!(parse("fd:0"), Address::Fd(0));
    let Address::Systemd(name) = parse("systemd:my app.socket") else { panic!() };
    assert_eq!(name.as_str(), "my app.socket");
}

#[test]
fn the_kind_may_be_in_capitals() {
    for (text, written) in [
        ("UDP://[::1]:Domain", "udp://[::1]:Domain"),
        ("Unix:@App", "unix:@App"),
        ("FD:3", "fd:3"),
        ("tcp://127.0.0.1:80", "127.0.0.1:80"),
        ("TCP://SystemD:80", "tcp://SystemD:80"),
    ] {
        assert_eq!(parse(text).to_string(), written);
    }
}

#[test]
fn what_would_not_be_seen_is_written_in_hexadecimal() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let path = |bytes: &[u8]| {
        let name = UnixName::from_path(OsString::from_vec(bytes.into())).unwrap();
        Address::Unix(name).to_string()
    };
    assert_eq!(path(b"/run/a b\n"), "unix:/run/a%20b%0a");
    assert_eq!(path(b"/run/\xff\xc3\xbc\xc3"), "unix:/run/%ff\u{fc}%c3");
    assert_eq!(path(b"/100%"), "unix:/100%25");
    assert_eq!(path(b"@app"), "unix:%40app");
    assert_eq!(path(b"//run/app"), "unix:/run/app");
    assert_eq!(path("/a\u{2003}b".as_bytes()), "unix:/a%e2%80%83b");
    let name = UnixName::from_abstract(*b"\0@ a").unwrap();
    assert_eq!(Address::UnixDatagram(name).to_string(), "unixgram:@%00@%20a");
}

#[test]
fn a_name_of_a_unix_socket_has_107_bytes_at_most() {
    let name = "x".repeat(107);
    assert_eq!(unix(&format!("unix:{name}")).as_path().unwrap().as_os_str(), name.as_str());
    assert_eq!(unix(&format!("unix:@{name}")).as_abstract(), Some(name.as_bytes()));
    // What counts are the bytes, not how they are written.
    assert_eq!(unix(&format!("unix:@{}", "%ff".repeat(107))).as_abstract(), Some(&[0xff; 107][..]));
    let from_path = UnixName::from_path("ü".repeat(54)).unwrap_err();
    assert_eq!(from_path.to_string(), "the path has 108 bytes; a Unix socket's has at most 107");
    let from_bytes = UnixName::from_abstract([0; 108]).unwrap_err();
    assert_eq!(
        from_bytes.to_string(),
        "the abstract name has 108 bytes; a Unix socket's has at most 107"
    );
}

#[test]
fn what_is_no_name_of_a_unix_socket_is_refused_by_its_constructors_too() {
    for (path, message) in [
        ("", "the path is missing: unix:/run/app.sock"),
        ("/run/", "the path ends with '/': a directory is no socket"),
        ("/run/\0", "the path has a NUL byte"),
    ] {
        assert_eq!(UnixName::from_path(path).unwrap_err().to_string(), message);
    }
    let empty = UnixName::from_abstract([]).unwrap_err();
    assert_eq!(empty.to_string(), "the abstract name is missing: unix:@app");
}

/// Each with the whole message, because that is what people work with.
#[test]
fn an_error_says_which_part_is_wrong_and_what_to_write() {
    for (text, message) in [
        ("", "the address is empty: write HOST:PORT, such as 127.0.0.1:7000 or *:7000"),
        (" \n", "the address is empty: write HOST:PORT, such as 127.0.0.1:7000 or *:7000"),
        (" 127.0.0.1:7000", "there is a blank before the address"),
        ("127.0.0.1:7000\n", "there is a blank after the address"),
        // Kinds.
        (
            "http://localhost:80",
            "the kind \"http\" is unknown: there are tcp://, udp://, unix:, unixgram:, fd: and systemd:",
        ),
        ("udp:127.0.0.1:53", "\"//\" is missing after \"udp:\": udp://127.0.0.1:53"),
        ("tcp", "\"//\" is missing after \"tcp:\": tcp://HOST:PORT"),
        ("fd://3", "\"fd:\" has no \"//\" after it: fd:3"),
        ("systemd://http", "\"systemd:\" has no \"//\" after it: systemd:http"),
        ("/run/app.sock", "\"unix:\" is missing before a Unix socket: unix:/run/app.sock"),
        ("./a:b", "\"unix:\" is missing before a Unix socket: unix:./a:b"),
        ("@app", "\"unix:\" is missing before a Unix socket: unix:@app"),
        // Host and port.
        ("udp://", "host and port are missing: write HOST:PORT, such as 127.0.0.1:7000 or *:7000"),
        ("localhost", "':' is missing between host and port: localhost:PORT"),
        ("*", "':' is missing between host and port: *:PORT"),
        ("[::1]", "':' is missing between host and port: [::1]:PORT"),
        ("[::1]7000", "':' is missing between ']' and the port \"7000\""),
        ("7000", "the host is missing: for port 7000 of all addresses write *:7000"),
        (":7000", "the host before ':' is missing: for all addresses write *"),
        ("127.0.0.1:1,127.0.0.2:1", "there is a ',': give several addresses one by one"),
        ("[::1]:1,[::2]:1", "there is a ',': give several addresses one by one"),
        // IPv6.
        ("::1:7000", "an IPv6 address needs brackets: [::1]:7000"),
        ("::1:", "an IPv6 address needs brackets: [::1]:PORT"),
        ("::1", "an IPv6 address needs brackets: [::1]:PORT"),
        ("fe80::1%eth0:7000", "an IPv6 address needs brackets: [fe80::1%eth0]:7000"),
        ("1:2:3:4:5:6:7:8", "an IPv6 address needs brackets: [1:2:3:4:5:6:7:8]:PORT"),
        (
            "localhost:80:81",
            "the host \"localhost:80\" has a ':': IPv6 addresses go into brackets, [::1]:PORT",
        ),
        ("[::1:7000", "']' is missing after the IPv6 address: [::1]:PORT"),
        ("[]:80", "\"\" in the brackets is no IPv6 address"),
        ("[127.0.0.1]:80", "\"127.0.0.1\" in the brackets is no IPv6 address"),
        ("[::g]:80", "\"::g\" in the brackets is no IPv6 address"),
        ("[fe80::1%]:80", "the scope after '%' is missing: [fe80::1%eth0]:PORT"),
        ("[fe80::1%0]:80", "scope 0 is no interface: they are counted from 1"),
        ("[fe80::1%4294967296]:80", "scope 4294967296 is over 4294967295"),
        ("[fe80::1%a/b]:80", "the scope \"a/b\" has '/', and is no interface's name"),
        ("[fe80::1%a b]:80", "the scope \"a b\" has ' ', and is no interface's name"),
        ("[fe80::1%..]:80", "the scope \"..\" is no interface's name"),
        (
            "[fe80::1%abcdefghijklmnop]:80",
            "the scope \"abcdefghijklmnop\" has 16 bytes; an interface's name has at most 15",
        ),
        // Hosts.
        (
            "256.0.0.1:80",
            "the host \"256.0.0.1\" is no IPv4 address: that is four numbers from 0 to 255 without leading zeros",
        ),
        (
            "127.0.0.01:80",
            "the host \"127.0.0.01\" is no IPv4 address: that is four numbers from 0 to 255 without leading zeros",
        ),
        (
            "127.1:80",
            "the host \"127.1\" is no IPv4 address: that is four numbers from 0 to 255 without leading zeros",
        ),
        (
            "0x7F000001:80",
            "the host \"0x7F000001\" is no IPv4 address: that is four numbers from 0 to 255 without leading zeros",
        ),
        (
            "127.0.0.1.:80",
            "the host \"127.0.0.1.\" is no IPv4 address: that is four numbers from 0 to 255 without leading zeros",
        ),
        (
            "local host:80",
            "the host \"local host\" has ' ': a name has letters, digits, '-', '_' and '.'",
        ),
        ("*.org:80", "the host \"*.org\" has '*': a name has letters, digits, '-', '_' and '.'"),
        ("a\n:80", "the host \"a\\n\" has '\\n': a name has letters, digits, '-', '_' and '.'"),
        (
            "bücher.example:80",
            "the host \"bücher.example\" has 'ü', which is not ASCII: write the name as the DNS has it, xn--...",
        ),
        ("a..b:80", "the host \"a..b\" has nothing before or between its dots"),
        (".:80", "the host \".\" has nothing before or between its dots"),
        ("a.-b:80", "the host \"a.-b\" has the part \"-b\", which begins or ends with '-'"),
        // Ports.
        ("localhost:", "the port after ':' is missing"),
        ("127.0.0.1:70000", "port 70000 is over 65535"),
        ("127.0.0.1:65536", "port 65536 is over 65535"),
        (
            "127.0.0.1:-1",
            "port \"-1\" is neither a number nor the name of a service, because it begins or ends with '-'",
        ),
        (
            "127.0.0.1:+80",
            "port \"+80\" is neither a number nor the name of a service, because it has '+'",
        ),
        (
            "localhost:80/path",
            "port \"80/path\" is neither a number nor the name of a service, because it has '/'",
        ),
        (
            "localhost:8-0",
            "port \"8-0\" is neither a number nor the name of a service, because it has no letter",
        ),
        // Unix sockets.
        ("unix:", "the path is missing: unix:/run/app.sock"),
        ("unix:@", "the abstract name is missing: unix:@app"),
        ("unix://run/app.sock", "the path begins with two '/': unix:/run/app.sock"),
        ("unix:/run/", "the path ends with '/': a directory is no socket"),
        ("unix:/a\0b", "the path has a NUL byte"),
        ("unix:/a%00b", "the path has a NUL byte"),
        ("unix:@a\0b", "the abstract name has the control character '\\0': write %00"),
        ("unix:/a\tb", "the path has the control character '\\t': write %09"),
        ("unix:/a\u{85}b", "the path has the control character '\\u{85}': write %c2%85"),
        (
            "unix:/100%",
            "\"%\" in the path is no byte: after '%' come two hexadecimal digits; '%' itself is %25",
        ),
        (
            "unix:@a%+1",
            "\"%+1\" in the abstract name is no byte: after '%' come two hexadecimal digits; '%' itself is %25",
        ),
        (
            "unix:/%aü",
            "\"%aü\" in the path is no byte: after '%' come two hexadecimal digits; '%' itself is %25",
        ),
        // Inherited ones.
        ("fd:", "the descriptor is missing: fd:3"),
        ("fd:x", "the descriptor \"x\" is no number: fd:3"),
        ("fd:-1", "the descriptor \"-1\" is no number: fd:3"),
        ("fd:4294967296", "the descriptor 4294967296 is over 4294967295"),
        ("systemd:", "the name of systemd's socket is missing: systemd:NAME"),
        (
            "systemd:a:b",
            "the name \"a:b\" of systemd's socket has ':': it is printable ASCII without ':'",
        ),
        (
            "systemd:ü",
            "the name \"ü\" of systemd's socket has 'ü': it is printable ASCII without ':'",
        ),
    ] {
        assert_eq!(error(text), message, "{text:?}");
    }
}

#[test]
fn names_of_the_greatest_length_are_read_and_one_more_is_refused() {
    let label = "a".repeat(63);
    let host = format!("{label}.{label}.{label}.{}", &label[..61]);
    tcp(&format!("{host}:80"));
    tcp(&format!("{host}.:80"));
    assert!(error(&format!("{host}a:80")).ends_with("has 254 characters; a name has at most 253"));
    assert!(
        error(&format!("{label}a:80"))
            .ends_with("has 64 characters between dots, and at most 63 may be")
    );
    parse(&format!("systemd:{}", "a".repeat(255)));
    assert!(
        error(&format!("systemd:{}", "a".repeat(256)))
            .ends_with("has 256 characters, and at most 255 may be")
    );
    let long = error(&format!("unix:{}", "x".repeat(108)));
    assert_eq!(long, "the path has 108 bytes; a Unix socket's has at most 107");
}

#[test]
fn a_long_text_is_quoted_in_part() {
    let digits = "9".repeat(100_000);
    assert_eq!(error(&format!("*:{digits}")), format!("port {}… is over 65535", "9".repeat(40)));
}
