//! The grammar of addresses, over all short texts and many random ones.

#[path = "properties/address.rs"]
mod properties;

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStringExt;

use oneloop::Address;
use oneloop::address::{Endpoint, UnixName};

use properties::{assert_round_trip, path, read};

/// Seeds, each a test of its own; a failure prints its seed.
const SEEDS: u64 = 20_000;

struct Random(u64);

impl Random {
    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn string(&mut self, alphabet: &str, length: usize) -> String {
        let chars: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| chars[self.below(chars.len())]).collect()
    }

    /// Few bits, or many: short numbers and zeros are special.
    fn number(&mut self) -> u64 {
        self.next() >> self.below(64)
    }
}

const LETTERS: &str = "abcXYZ";
const ALPHANUMERIC: &str = "abcdefXYZ0123456789";

fn socket_addr(random: &mut Random) -> SocketAddr {
    let port = random.number() as u16;
    if random.below(2) == 0 {
        return SocketAddr::from((Ipv4Addr::from(random.number() as u32), port));
    }
    let high = u128::from(random.number()) << (16 * random.below(5));
    let ip = Ipv6Addr::from(high | u128::from(random.number()));
    let scope = if random.below(2) == 0 { 0 } else { random.number() as u32 };
    SocketAddrV6::new(ip, port, 0, scope).into()
}

fn label(random: &mut Random) -> String {
    let length = 1 + random.below(8);
    let middle = random.string(&format!("{ALPHANUMERIC}-_"), length);
    format!("{}{middle}{}", random.string(LETTERS, 1), random.string(ALPHANUMERIC, 1))
}

fn host(random: &mut Random) -> String {
    match random.below(8) {
        0 => "*".into(),
        1 => random.one(&["unix", "tcp", "UDP", "fd", "systemd", "unixgram", "localhost"]).into(),
        2 => {
            let length = 1 + random.below(15);
            // With a letter in front it is no index, and neither "." nor "..".
            let scope = format!("e{}", random.string("eth0129._-@~", length - 1));
            format!("[{}%{scope}]", Ipv6Addr::from(u128::from(random.next())))
        }
        3 => Ipv4Addr::from(random.next() as u32).to_string(),
        _ => {
            let labels: Vec<String> = (0..1 + random.below(4)).map(|_| label(random)).collect();
            labels.join(".") + random.one(&["", "."])
        }
    }
}

fn port(random: &mut Random) -> String {
    match random.below(2) {
        0 => (random.number() as u16).to_string(),
        _ => {
            let length = random.below(6);
            let middle = random.string(ALPHANUMERIC, length);
            let dash = random.one(&["", "-"]);
            format!("{}{middle}{dash}{}", random.string(LETTERS, 1), random.string(ALPHANUMERIC, 1))
        }
    }
}

fn endpoint(random: &mut Random) -> Endpoint {
    if random.below(4) == 0 {
        return socket_addr(random).into();
    }
    let text = format!("udp://{}:{}", host(random), port(random));
    match text.parse() {
        Ok(Address::Udp(endpoint)) => endpoint,
        other => panic!("{text}: {other:?}"),
    }
}

fn bytes(random: &mut Random) -> Vec<u8> {
    let pieces: &[&[u8]] = &[
        b"/",
        b"//",
        b"@",
        b"%",
        b"%41",
        b".",
        b"..",
        b" ",
        b":",
        b",",
        b"a",
        b"run",
        b"\n",
        b"\x7f",
        b"\xff",
        b"\xc3",
        "ü".as_bytes(),
        "\u{a0}".as_bytes(),
        "\u{202e}".as_bytes(),
        b"\"",
    ];
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(30) {
        match random.below(3) {
            0 => bytes.push(1 + random.below(255) as u8),
            _ => bytes.extend_from_slice(random.one(pieces)),
        }
    }
    bytes.truncate(107);
    bytes
}

fn unix_name(random: &mut Random) -> UnixName {
    let mut bytes = bytes(random);
    if random.below(2) == 0 {
        bytes[0] = random.below(256) as u8;
        return UnixName::from_abstract(bytes).unwrap();
    }
    if bytes.ends_with(b"/") {
        *bytes.last_mut().unwrap() = b'x';
    }
    UnixName::from_path(OsString::from_vec(bytes)).unwrap()
}

/// Any value of the type, built by whatever builds one.
fn address(random: &mut Random) -> Address {
    match random.below(6) {
        0 => Address::Tcp(endpoint(random)),
        1 => Address::Udp(endpoint(random)),
        2 => Address::Unix(unix_name(random)),
        3 => Address::UnixDatagram(unix_name(random)),
        4 => Address::Fd(random.number() as u32),
        _ => {
            let printable: String = (' '..='~').filter(|&c| c != ':').collect();
            let length = random.below(254);
            let name = format!("{}x", random.string(&printable, length)).replacen("//", "x", 1);
            format!("systemd:{name}").parse().unwrap()
        }
    }
}

#[test]
fn what_is_written_is_read_as_the_same_address() {
    for seed in 0..SEEDS {
        let address = address(&mut Random(seed));
        assert_round_trip(&address, &format!("seed {seed}"));
        let text = address.to_string();
        assert!(!text.chars().any(char::is_control), "seed {seed}: {text:?}");
        if path(&address).is_some() {
            assert!(!text.contains(char::is_whitespace), "seed {seed}: {text:?}");
        }
    }
}

#[test]
fn every_short_text_is_read_or_refused() {
    const CHARS: [&str; 12] = ["[", "]", ":", "%", "*", "/", "@", "1", "a", ".", "-", " "];
    const LENGTH_MAX: u32 = 4;
    for length in 0..=LENGTH_MAX {
        for mut number in 0..CHARS.len().pow(length) {
            let mut text = String::new();
            for _ in 0..length {
                text.push_str(CHARS[number % CHARS.len()]);
                number /= CHARS.len();
            }
            for kind in ["", "udp://", "unix:", "unixgram:@", "fd:", "systemd:", "[::1", "[::1%"] {
                read(&format!("{kind}{text}"));
            }
        }
    }
}

#[test]
fn any_text_is_read_or_refused() {
    let pieces = [
        "",
        "tcp:",
        "udp:",
        "unix:",
        "unixgram:",
        "fd:",
        "systemd:",
        "//",
        "/",
        ":",
        "[",
        "]",
        "%",
        "%00",
        "%4",
        "*",
        "@",
        "::",
        "::1",
        "fe80::1",
        "127.0.0.1",
        "0x",
        "65535",
        "65536",
        "localhost",
        "http",
        "-",
        "_",
        ".",
        ",",
        " ",
        "\n",
        "\0",
        "ü",
        "\u{2028}",
        "\u{1f600}",
        "99999999999999999999",
    ];
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let count = random.below(8);
        let text: String = (0..count).map(|_| random.one(&pieces)).collect();
        read(&text);
    }
    read(&"[".repeat(100_000));
    read(&"::1%".repeat(100_000));
    read(&format!("unix:{}", "%41".repeat(100_000)));
}

#[test]
fn a_part_that_an_error_shows_is_short_also_where_its_characters_are_escaped() {
    for c in ["\u{1a}", "\u{200b}", "\u{e0001}"] {
        read(&format!("!{}", c.repeat(36)));
    }
}

#[test]
fn an_address_with_one_change_is_read_or_refused() {
    let chars: Vec<char> = "[]:%*/@.-_, \0\nü019afx".chars().collect();
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut text: Vec<char> = address(&mut random).to_string().chars().collect();
        let at = random.below(text.len());
        let new = chars[random.below(chars.len())];
        match random.below(5) {
            0 => drop(text.remove(at)),
            1 => text.insert(at, new),
            2 => text[at] = new,
            3 => text.truncate(at),
            _ => text.swap(at, 0),
        }
        read(&text.into_iter().collect::<String>());
    }
}

/// One part of an address is made wrong, and the error is about that part and no other.
#[test]
fn the_error_names_the_part_that_is_wrong() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let kind = random.one(&["", "tcp://", "udp://"]);
        let name = format!("{}.example", label(&mut random));
        let (host, port) = (host(&mut random), port(&mut random));
        let wrong = random.one(&["!", " ", "/", "\\", "#", "ü", "\u{7f}", "%"]);
        let over = 65_536 + random.number();
        let ip = Ipv6Addr::from(u128::from(random.next()));
        let path = random.string(LETTERS, 108);
        let (text, expected) = match random.below(16) {
            0 => (format!("{kind}{name}{wrong}x:{port}"), format!("the host \"{name}")),
            1 => (format!("{kind}{name}.:{wrong}:{port}"), "the host \"".into()),
            2 => (format!("{kind}{name}..:{port}"), format!("the host \"{name}..\" has nothing")),
            3 => (format!("{kind}:{port}"), "the host before ':' is missing".into()),
            4 => (format!("{kind}{name}"), format!("':' is missing between host and port: {name}")),
            5 => (format!("udp://{host}:"), "the port after ':' is missing".into()),
            6 => (format!("udp://{host}:{over}"), format!("port {over} is over 65535")),
            7 => (format!("udp://{host}:{port}{wrong}1"), format!("port \"{port}")),
            8 => (
                format!("{kind}{ip}:{port}"),
                format!("an IPv6 address needs brackets: [{ip}]:{port}"),
            ),
            9 => (format!("{kind}[{ip}:{port}"), "']' is missing".into()),
            10 => (
                format!("{kind}[{ip}]{port}"),
                format!("':' is missing between ']' and the port \"{port}\""),
            ),
            11 => {
                (format!("{kind}[{ip}x]:{port}"), format!("\"{ip}x\" in the brackets is no IPv6"))
            }
            12 => (format!("{kind}[{ip}%e/th]:{port}"), "the scope \"e/th\" has '/'".into()),
            13 => (format!("unix:{path}"), "the path has 108 bytes".into()),
            14 => (format!("unixgram:@{path}"), "the abstract name has 108 bytes".into()),
            _ => (format!("fd:1{wrong}1"), "the descriptor \"1".into()),
        };
        let error = text.parse::<Address>().expect_err(&text).to_string();
        assert!(error.starts_with(&expected), "seed {seed}, {text:?}: {error}");
    }
}
