//! Parts of the key-value server that are of use by themselves: where commands end, patterns and replies.

#![allow(unreachable_pub, reason = "the parts are those of one program")]

#[path = "../examples/resp_kv/server/inline.rs"]
mod inline;
#[path = "../examples/resp_kv/server/pattern.rs"]
#[expect(dead_code, reason = "the check of names, which is about their length only")]
mod pattern;
#[path = "../examples/resp_kv/server/protocol.rs"]
mod protocol;
#[path = "../examples/resp_kv/server/reply.rs"]
#[expect(dead_code, reason = "the errors that only commands have")]
mod reply;

use oneloop::codec::{Decoder, FrameError};

use protocol::{BULK_BYTES_MAX, COMMAND_BYTES_MAX, CommandDecoder, Request};
use reply::{Done, Failure, REPLY_BYTES_MAX, Reply};

/// What came of a stream: the arguments of each command, what is left, and an error.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    commands: Vec<Vec<Vec<u8>>>,
    rest: usize,
    error: Option<FrameError>,
}

/// Shows a stream in pieces, as a connection would.
fn decode(pieces: &[&[u8]]) -> Outcome {
    let mut decoder = CommandDecoder::new(COMMAND_BYTES_MAX);
    let mut outcome = Outcome { commands: Vec::new(), rest: 0, error: None };
    let mut input = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut consumed = 0;
        loop {
            match decoder.decode(&input[consumed..]) {
                Ok(Some((command, taken))) => {
                    consumed += taken;
                    outcome.commands.push(match command {
                        Request::Array(args) => args.iter().map(|arg| arg.to_vec()).collect(),
                        Request::Inline(words) => words,
                    });
                }
                Ok(None) => {
                    let need = decoder.need();
                    assert!(need == 0 || need > input.len() - consumed, "it has {need} already");
                    break;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        input.drain(..consumed);
    }
    outcome.rest = input.len();
    outcome
}

/// xorshift64 (Marsaglia 2003): the same numbers each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn short_streams_are_the_same_commands_in_whatever_pieces_they_come() {
    const ALPHABET: &[u8] = b"*$1-\r\n\"";
    for len in 1..=5 {
        for number in 0..ALPHABET.len().pow(len) {
            let byte = |at: u32| ALPHABET[number / ALPHABET.len().pow(at) % ALPHABET.len()];
            let stream: Vec<u8> = (0..len).map(byte).collect();
            let whole = decode(&[&stream]);
            for cut in 1..stream.len() {
                assert_eq!(decode(&[&stream[..cut], &stream[cut..]]), whole, "{stream:?} {cut}");
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(decode(&bytes), whole, "{stream:?} byte by byte");
        }
    }
}

#[test]
fn pipelines_are_the_same_commands_in_whatever_pieces_they_come() {
    for seed in 1..300 {
        let mut state = seed;
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..1 + random(&mut state) % 5 {
            let mut argument = || vec![b'a'; (random(&mut state) % 40) as usize];
            let args = [argument(), b"\r\n$*".to_vec(), argument()];
            if seed % 3 == 0 {
                stream.extend_from_slice(b"\"a\\x0d\\n\"  'b\\'' c\r\n");
                expected.push(vec![b"a\r\n".to_vec(), b"b'".to_vec(), b"c".to_vec()]);
            }
            stream.extend_from_slice(b"*3\r\n");
            for argument in &args {
                stream.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                stream.extend_from_slice(argument);
                stream.extend_from_slice(b"\r\n");
            }
            expected.push(args.to_vec());
        }
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (piece, behind) =
                rest.split_at(rest.len().min(1 + (random(&mut state) % 20) as usize));
            pieces.push(piece);
            rest = behind;
        }
        let expected = Outcome { commands: expected, rest: 0, error: None };
        assert_eq!(decode(&pieces), expected, "seed {seed}");
    }
}

#[test]
fn a_length_is_refused_before_anything_of_that_length_has_come() {
    let too_long = format!("*2\r\n${}\r\n", BULK_BYTES_MAX + 1);
    for stream in ["*1049601\r\n", "*1\r\n$-1\r\n", too_long.as_str(), "*99999999999999999999"] {
        assert!(decode(&[stream.as_bytes()]).error.is_some(), "{stream:?}");
    }
    let all = format!("*2\r\n${BULK_BYTES_MAX}\r\n");
    assert_eq!(decode(&[all.as_bytes()]).error, None);
}

#[test]
fn a_command_is_refused_that_is_too_long_as_a_whole() {
    let half = BULK_BYTES_MAX / 2 + 50_000;
    let head = format!("*3\r\n${half}\r\n");
    let bulk = [&vec![b'x'; half][..], format!("\r\n${half}\r\n").as_bytes()].concat();
    let error = decode(&[head.as_bytes(), &bulk]).error;
    assert_eq!(error, Some(FrameError::TooLong(COMMAND_BYTES_MAX)));
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    pattern::matches(pattern, text, &mut { usize::MAX }).unwrap()
}

/// Whether it matches, by trying all ways: for short texts.
fn matches_slowly(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| matches_slowly(rest, &text[at..])),
        ([b'?', rest @ ..], [_, text @ ..]) => matches_slowly(rest, text),
        ([first, rest @ ..], [byte, text @ ..]) if first == byte => matches_slowly(rest, text),
        _ => false,
    }
}

fn words(alphabet: &[u8], len_max: u32) -> Vec<Vec<u8>> {
    let of_len = |len: u32| {
        (0..alphabet.len().pow(len)).map(move |number| {
            (0..len).map(|at| alphabet[number / alphabet.len().pow(at) % alphabet.len()]).collect()
        })
    };
    (0..=len_max).flat_map(of_len).collect()
}

#[test]
fn stars_and_question_marks_match_as_if_all_ways_were_tried() {
    for pattern in words(b"ab*?", 5) {
        for text in words(b"ab", 5) {
            let expected = matches_slowly(&pattern, &text);
            assert_eq!(matches(&pattern, &text), expected, "{pattern:?} {text:?}");
        }
    }
}

#[test]
fn classes_ranges_and_escapes_match_bytes() {
    let cases: [(&str, &str, bool); 14] = [
        ("h[ae]llo", "hello", true),
        ("h[ae]llo", "hillo", false),
        ("h[^e]llo", "hallo", true),
        ("h[^e]llo", "hello", false),
        ("h[a-c]llo", "hbllo", true),
        ("h[c-a]llo", "hbllo", true),
        ("h[a-c]llo", "hdllo", false),
        ("h\\?llo", "h?llo", true),
        ("h\\?llo", "hello", false),
        ("[\\]]", "]", true),
        ("[a-]", "-", true),
        ("*[0-9]*", "key:7:x", true),
        ("a[b", "ab", true),
        ("a\\", "a\\", true),
    ];
    for (pattern, text, expected) in cases {
        let found = matches(pattern.as_bytes(), text.as_bytes());
        assert_eq!(found, expected, "{pattern} {text}");
    }
}

#[test]
fn a_pattern_of_many_stars_takes_no_longer_than_its_length_times_that_of_the_text() {
    let (pattern, text) = ("a*".repeat(1000) + "b", [b'a'; 10_000]);
    let mut steps = pattern.len() * text.len();
    assert_eq!(pattern::matches(pattern.as_bytes(), &text, &mut steps), Some(false));
    assert_eq!(pattern::matches(pattern.as_bytes(), &text, &mut { 20_000 }), None, "too few steps");
}

/// What a reply looks like in versions 2 and 3.
type Written = (fn(&mut Reply) -> Done, &'static str, &'static str);

#[test]
fn each_version_of_the_protocol_has_its_replies() {
    let written: [Written; 15] = [
        (|reply| reply.ok(), "+OK\r\n", "+OK\r\n"),
        (|reply| reply.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
        (|reply| reply.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
        (|reply| reply.integer(-7), ":-7\r\n", ":-7\r\n"),
        (|reply| reply.count(7), ":7\r\n", ":7\r\n"),
        (|reply| reply.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (|reply| reply.bulk_or_null(Some("a")), "$1\r\na\r\n", "$1\r\na\r\n"),
        (|reply| reply.bulk_or_null(None::<&str>), "$-1\r\n", "_\r\n"),
        (|reply| reply.null(), "$-1\r\n", "_\r\n"),
        (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
        (|reply| reply.array(2), "*2\r\n", "*2\r\n"),
        (|reply| reply.map(2), "*4\r\n", "%2\r\n"),
        (|reply| reply.set(2), "*2\r\n", "~2\r\n"),
        (|reply| reply.push(2), "*2\r\n", ">2\r\n"),
        (|reply| reply.write(b"any"), "any", "any"),
    ];
    for (write, two, three) in written {
        for (protocol, expected) in [(2, two), (3, three)] {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, protocol));
            assert_eq!(out, expected.as_bytes(), "version {protocol}");
        }
    }
}

#[test]
fn several_strings_are_refused_that_make_a_reply_too_large() {
    for protocol in [2, 3] {
        let mut out = vec![0; REPLY_BYTES_MAX - 100];
        let mut reply = Reply::new(&mut out, protocol);
        assert!(reply.bulks(["x"; 10]).is_ok());
        let refused = reply.bulks(std::iter::repeat_n("x", 1_000_000)).unwrap_err();
        assert_eq!(refused.0, Failure::TOO_LARGE.0);
        assert!(out.len() < REPLY_BYTES_MAX + 100, "it ends with the first that has no room");
    }
}
