//! Frames: the same ones however the bytes are cut, none over its limit, and encoders' found again.

use oneloop::codec::{
    Decoder, Delimited, Encoder, Fixed, FrameError, LengthPrefixed, LengthWidth, LineEnd, Lines,
    VarintPrefixed,
};

const LONE_CR: FrameError = FrameError::Malformed("a line has a CR without an LF in it");
const LONE_LF: FrameError = FrameError::Malformed("a line ends with LF and not with CR LF");

/// A decoder whose frames can be kept.
trait Keeping: Decoder + Clone {
    fn keep(frame: Self::Frame<'_>) -> Vec<u8>;
}

macro_rules! frames_are_slices {
    ($($decoder:ty),*) => {$(
        impl Keeping for $decoder {
            fn keep(frame: &[u8]) -> Vec<u8> {
                frame.to_vec()
            }
        }
    )*};
}

frames_are_slices!(Lines, Delimited, Fixed, VarintPrefixed);

impl Keeping for LengthPrefixed {
    fn keep(frame: Self::Frame<'_>) -> Vec<u8> {
        [frame.head, b"|", frame.body].concat()
    }
}

/// What came of a stream: whole frames, what is left of one, and an error.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Outcome {
    frames: Vec<Vec<u8>>,
    rest: usize,
    error: Option<FrameError>,
}

/// Shows a stream in pieces, as a connection would. Checks on the way that what was needed was enough to know.
fn run<D: Keeping>(decoder: &D, pieces: &[&[u8]]) -> Outcome {
    let mut decoder = decoder.clone();
    let (mut input, mut outcome) =
        (Vec::new(), Outcome { frames: Vec::new(), rest: 0, error: None });
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut consumed = 0;
        loop {
            match decoder.decode(&input[consumed..]) {
                Ok(Some((frame, taken))) => {
                    assert!(taken > 0, "each frame takes up something");
                    outcome.frames.push(D::keep(frame));
                    consumed += taken;
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

fn decode<D: Keeping>(decoder: &D, stream: &[u8]) -> Outcome {
    run(decoder, &[stream])
}

fn frames<D: Keeping>(decoder: &D, stream: &[u8]) -> Vec<String> {
    let outcome = decode(decoder, stream);
    assert_eq!((outcome.rest, outcome.error), (0, None));
    outcome.frames.into_iter().map(|frame| String::from_utf8(frame).unwrap()).collect()
}

fn error<D: Keeping>(decoder: &D, stream: &[u8]) -> FrameError {
    decode(decoder, stream).error.expect("it is no frame")
}

/// All streams of at most `len_max` of these bytes, cut in all ways.
fn is_the_same_however_it_is_cut<D: Keeping>(decoder: &D, alphabet: &[u8], len_max: u32) {
    for len in 0..=len_max {
        for number in 0..alphabet.len().pow(len) {
            let digit = |at: u32| number / alphabet.len().pow(at) % alphabet.len();
            let stream: Vec<u8> = (0..len).map(|at| alphabet[digit(at)]).collect();
            let whole = decode(decoder, &stream);
            for cuts in 0..1u32 << len.saturating_sub(1) {
                let mut pieces: Vec<&[u8]> = Vec::new();
                let mut from = 0;
                for at in 1..stream.len() {
                    if cuts >> (at - 1) & 1 == 1 {
                        pieces.push(&stream[from..at]);
                        from = at;
                    }
                }
                pieces.push(&stream[from..]);
                let cut = run(decoder, &pieces);
                assert_eq!(cut, whole, "{pieces:?}");
            }
        }
    }
}

#[test]
fn lines_end_with_lf_or_cr_lf() {
    assert_eq!(
        frames(&Lines::new(80), b"one\r\ntwo\n\n\r\nthree\n"),
        ["one", "two", "", "", "three"]
    );
}

#[test]
fn a_lone_cr_is_a_byte_like_others_unless_it_is_refused() {
    assert_eq!(frames(&Lines::new(80), b"a\rb\r\r\n"), ["a\rb\r"]);
    assert_eq!(error(&Lines::new(80).refuse_lone_cr(), b"a\rb\n"), LONE_CR);
    assert_eq!(frames(&Lines::new(80).refuse_lone_cr(), b"ab\r\ncd\n"), ["ab", "cd"]);
}

#[test]
fn with_lf_alone_as_its_end_a_line_keeps_its_cr() {
    let lines = Lines::new(80).end(LineEnd::Lf);
    assert_eq!(frames(&lines, b"one\r\ntwo\n"), ["one\r", "two"]);
    assert_eq!(error(&lines.refuse_lone_cr(), b"one\r\n"), LONE_CR);
}

#[test]
fn strict_lines_end_with_cr_lf_only() {
    let lines = Lines::new(80).end(LineEnd::CrLf);
    assert_eq!(frames(&lines, b"one\r\n\r\n"), ["one", ""]);
    assert_eq!(error(&lines, b"one\ntwo\r\n"), LONE_LF);
    assert_eq!(error(&lines, b"one\rtwo\r\n"), LONE_CR);
}

#[test]
fn a_line_may_be_as_long_as_its_limit_and_not_longer() {
    for end in [LineEnd::LfOrCrLf, LineEnd::Lf, LineEnd::CrLf] {
        let lines = Lines::new(3).end(end);
        let ending = if end == LineEnd::CrLf { "\r\n" } else { "\n" };
        assert_eq!(frames(&lines, format!("abc{ending}").as_bytes()), ["abc"]);
        assert_eq!(error(&lines, format!("abcd{ending}").as_bytes()), FrameError::TooLong(3));
        assert_eq!(error(&lines, b"abcd"), FrameError::TooLong(3), "before its end is there");
    }
}

#[test]
fn lines_are_the_same_however_they_are_cut() {
    for end in [LineEnd::LfOrCrLf, LineEnd::Lf, LineEnd::CrLf] {
        for lines in [Lines::new(2).end(end), Lines::new(2).end(end).refuse_lone_cr()] {
            is_the_same_however_it_is_cut(&lines, b"a\r\n", 6);
        }
    }
}

#[test]
fn delimited_frames_are_the_same_however_they_are_cut() {
    for delimiter in [&b"-"[..], b"--", b"-.-", b"--."] {
        is_the_same_however_it_is_cut(&Delimited::new(delimiter, 3), b"-.a", 6);
    }
}

#[test]
fn a_delimiter_is_found_where_it_first_ends() {
    assert_eq!(frames(&Delimited::new(b"--", 80), b"a---b--"), ["a", "-b"]);
    assert_eq!(error(&Delimited::new(b"--", 3), b"abcd--"), FrameError::TooLong(3));
    assert_eq!(error(&Delimited::new(b"--", 3), b"abcd-"), FrameError::TooLong(3));
    assert_eq!(decode(&Delimited::new(b"--", 3), b"abc-").error, None, "it may end here");
}

#[test]
fn frames_of_one_size_are_the_same_however_they_are_cut() {
    assert_eq!(frames(&Fixed::new(3), b"onetwo"), ["one", "two"]);
    is_the_same_however_it_is_cut(&Fixed::new(3), b"ab", 8);
}

#[test]
fn frames_with_their_length_are_the_same_however_they_are_cut() {
    let plain = LengthPrefixed::new(LengthWidth::U8, 3);
    for codec in [plain.clone(), plain.clone().offset(1), plain.counts_header()] {
        is_the_same_however_it_is_cut(&codec, &[0, 1, 2, 9], 6);
    }
    is_the_same_however_it_is_cut(&LengthPrefixed::new(LengthWidth::U16, 3), &[0, 1, 2], 7);
    is_the_same_however_it_is_cut(&VarintPrefixed::new(3), &[0, 1, 2, 0x80], 6);
}

#[test]
fn a_length_has_its_width_and_its_order() {
    for (width, big) in [
        (LengthWidth::U8, &[2][..]),
        (LengthWidth::U16, &[0, 2]),
        (LengthWidth::U32, &[0, 0, 0, 2]),
        (LengthWidth::U64, &[0, 0, 0, 0, 0, 0, 0, 2]),
    ] {
        let codec = LengthPrefixed::new(width, 80);
        assert_eq!(frames(&codec, &[big, b"hi"].concat()), ["|hi"]);
        let little: Vec<u8> = big.iter().rev().copied().collect();
        assert_eq!(frames(&codec.little_endian(), &[&little, &b"hi"[..]].concat()), ["|hi"]);
    }
}

#[test]
fn a_length_may_count_the_header_and_stand_behind_other_bytes() {
    let codec = LengthPrefixed::new(LengthWidth::U16, 80).offset(1).counts_header();
    assert_eq!(frames(&codec, b"T\0\x05hi"), ["T|hi"]);
    assert_eq!(frames(&codec, b"T\0\x03"), ["T|"]);
    let less = FrameError::Malformed("the length of a frame is less than its header's");
    assert_eq!(error(&codec, b"T\0\x02"), less);
}

#[test]
fn a_length_over_its_limit_is_an_error_before_its_bytes_are_there() {
    let codec = LengthPrefixed::new(LengthWidth::U8, 3);
    assert_eq!(frames(&codec, b"\x03abc"), ["|abc"]);
    assert_eq!(error(&codec, b"\x04"), FrameError::TooLong(3));
    assert_eq!(error(&codec.counts_header(), b"\x05"), FrameError::TooLong(3));
    assert_eq!(frames(&VarintPrefixed::new(3), b"\x03abc"), ["abc"]);
    assert_eq!(error(&VarintPrefixed::new(3), b"\x04"), FrameError::TooLong(3));
}

#[test]
fn a_length_that_no_memory_has_room_for_is_too_long() {
    for bytes_max in [3, usize::MAX] {
        let codec = LengthPrefixed::new(LengthWidth::U64, bytes_max);
        assert_eq!(error(&codec, &[0xff; 8]), FrameError::TooLong(bytes_max));
        let varint = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(error(&VarintPrefixed::new(bytes_max), &varint), FrameError::TooLong(bytes_max));
    }
}

#[test]
fn a_varint_ends_within_64_bits() {
    let over = FrameError::Malformed("the length of a frame is over 64 bits");
    let mut bytes = [0x80; 10];
    bytes[9] = 2;
    assert_eq!(error(&VarintPrefixed::new(80), &bytes), over);
    let long = FrameError::Malformed("the length of a frame is over 10 bytes long");
    assert_eq!(error(&VarintPrefixed::new(80), &[0x80; 10]), long);
    assert_eq!(frames(&VarintPrefixed::new(80), &[0x82, 0x80, 0, b'h', b'i']), ["hi"]);
}

/// What an encoder wrote, its decoder finds again; what it would not find, is refused and leaves no byte.
fn is_found_again<C: Keeping + Encoder>(codec: &C, alphabet: &[u8], len_max: u32) {
    for len in 0..=len_max {
        for number in 0..alphabet.len().pow(len) {
            let digit = |at: u32| number / alphabet.len().pow(at) % alphabet.len();
            let frame: Vec<u8> = (0..len).map(|at| alphabet[digit(at)]).collect();
            let mut bytes = Vec::new();
            match codec.encode(&frame, &mut bytes) {
                Ok(()) => {
                    bytes.extend_from_within(..);
                    let outcome = decode(codec, &bytes);
                    let found = outcome
                        .frames
                        .iter()
                        .map(|frame| frame.strip_prefix(b"|").unwrap_or(frame));
                    assert!(found.eq([&frame, &frame]), "{frame:?} became {outcome:?}");
                    assert_eq!((outcome.rest, outcome.error), (0, None));
                }
                Err(_) => assert_eq!(bytes, b""),
            }
        }
    }
}

#[test]
fn what_an_encoder_wrote_its_decoder_finds_again() {
    for end in [LineEnd::LfOrCrLf, LineEnd::Lf, LineEnd::CrLf] {
        is_found_again(&Lines::new(3).end(end), b"a\r\n", 5);
        is_found_again(&Lines::new(3).end(end).refuse_lone_cr(), b"a\r\n", 5);
    }
    for delimiter in [&b"-"[..], b"--", b"-.-", b"--."] {
        is_found_again(&Delimited::new(delimiter, 4), b"-.a", 6);
    }
    is_found_again(&Fixed::new(2), b"ab", 4);
    is_found_again(&VarintPrefixed::new(3), b"ab", 5);
    is_found_again(&LengthPrefixed::new(LengthWidth::U16, 3).little_endian(), b"ab", 5);
    is_found_again(&LengthPrefixed::new(LengthWidth::U8, 3).counts_header(), b"ab", 5);
}

#[test]
fn an_encoder_knows_the_bounds_of_its_length() {
    let mut bytes = Vec::new();
    let codec = LengthPrefixed::new(LengthWidth::U8, 1000);
    assert_eq!(codec.encode(&[0; 255], &mut bytes), Ok(()));
    assert_eq!(codec.encode(&[0; 256], &mut bytes), Err(FrameError::TooLong(1000)));
    let codec = codec.counts_header();
    assert_eq!(codec.encode(&[0; 254], &mut bytes), Ok(()));
    assert_eq!(codec.encode(&[0; 255], &mut bytes), Err(FrameError::TooLong(1000)));
    let mut bytes = Vec::new();
    VarintPrefixed::new(1000).encode(&[7; 300], &mut bytes).unwrap();
    assert_eq!(bytes[..2], [0xac, 2]);
    LengthPrefixed::new(LengthWidth::U8, 9).offset(1).encode(b"Thi", &mut bytes).unwrap();
    assert!(bytes.ends_with(b"T\x02hi"));
}
