//! Frames: the same ones however the bytes are cut, none over its limit, and encoders' found again.

#[path = "properties/codec.rs"]
mod properties;

use oneloop::codec::{
    Decoder, Delimited, Encoder, Fixed, FrameError, LengthFrame, LengthPrefixed, LengthWidth,
    LineEnd, Lines, VarintPrefixed,
};

use properties::{Codec, Outcome, is_found_again, is_the_same_in_pieces, run};

const LONE_CR: FrameError = FrameError::Malformed("a line has a CR without an LF in it");
const LONE_LF: FrameError = FrameError::Malformed("a line ends with LF and not with CR LF");

fn decode<C: Codec>(codec: &C, stream: &[u8]) -> Outcome {
    run(codec, &[stream], false)
}

fn frames<C: Codec>(codec: &C, stream: &[u8]) -> Vec<String> {
    let outcome = decode(codec, stream);
    assert_eq!((outcome.taken, outcome.error), (stream.len(), None));
    outcome.frames.into_iter().map(|frame| String::from_utf8(frame).unwrap()).collect()
}

fn error<C: Codec>(codec: &C, stream: &[u8]) -> FrameError {
    decode(codec, stream).error.expect("it is no frame")
}

/// Calls it with all texts of at most `len_max` of these bytes.
fn each_of(alphabet: &[u8], len_max: u32, mut call: impl FnMut(&[u8])) {
    for len in 0..=len_max {
        for number in 0..alphabet.len().pow(len) {
            let digit = |at: u32| number / alphabet.len().pow(at) % alphabet.len();
            call(&(0..len).map(|at| alphabet[digit(at)]).collect::<Vec<u8>>());
        }
    }
}

/// All streams of at most `len_max` of these bytes, cut in all ways.
fn all_are_the_same_however_they_are_cut<C: Codec>(codec: &C, alphabet: &[u8], len_max: u32) {
    each_of(alphabet, len_max, |stream| {
        let whole = decode(codec, stream);
        for cuts in 0..1u32 << stream.len().saturating_sub(1) {
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut from = 0;
            for at in 1..stream.len() {
                if cuts >> (at - 1) & 1 == 1 {
                    pieces.push(&stream[from..at]);
                    from = at;
                }
            }
            pieces.push(&stream[from..]);
            is_the_same_in_pieces(codec, &pieces, &whole);
        }
    });
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
    assert_eq!(error(&Lines::new(80).refuse_lone_cr(), b"a\r\r\n"), LONE_CR);
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
        let may_end = end != LineEnd::Lf;
        assert_eq!(decode(&lines, b"abc\r").error.is_none(), may_end, "{end:?}");
    }
}

#[test]
fn lines_are_the_same_however_they_are_cut() {
    for end in [LineEnd::LfOrCrLf, LineEnd::Lf, LineEnd::CrLf] {
        for lines in [Lines::new(2).end(end), Lines::new(2).end(end).refuse_lone_cr()] {
            all_are_the_same_however_they_are_cut(&lines, b"a\r\n", 6);
        }
    }
}

#[test]
fn delimited_frames_are_the_same_however_they_are_cut() {
    for delimiter in [&b"-"[..], b"--", b"-.-", b"--."] {
        all_are_the_same_however_they_are_cut(&Delimited::new(delimiter, 3), b"-.a", 6);
    }
}

#[test]
fn a_delimiter_is_found_where_it_first_ends() {
    assert_eq!(frames(&Delimited::new(b"--", 80), b"a---b--"), ["a", "-b"]);
    assert_eq!(error(&Delimited::new(b"--", 3), b"abcd--"), FrameError::TooLong(3));
    assert_eq!(error(&Delimited::new(b"--", 3), b"abcd-"), FrameError::TooLong(3));
    assert_eq!(decode(&Delimited::new(b"--", 3), b"abc-").error, None, "it may end here");
    assert_eq!(error(&Delimited::new(b"-.-", 3), b"abc--"), FrameError::TooLong(3), "not any more");
}

#[test]
fn frames_of_one_size_are_the_same_however_they_are_cut() {
    assert_eq!(frames(&Fixed::new(3), b"onetwo"), ["one", "two"]);
    all_are_the_same_however_they_are_cut(&Fixed::new(3), b"ab", 8);
}

#[test]
fn frames_with_their_length_are_the_same_however_they_are_cut() {
    let plain = LengthPrefixed::new(LengthWidth::U8, 3);
    let typed = plain.clone().offset(1);
    for codec in [plain.clone(), typed.clone(), typed.counts_itself(), plain.counts_header()] {
        all_are_the_same_however_they_are_cut(&codec, &[0, 1, 2, 9], 6);
    }
    all_are_the_same_however_they_are_cut(&LengthPrefixed::new(LengthWidth::U16, 3), &[0, 1, 2], 7);
    all_are_the_same_however_they_are_cut(&VarintPrefixed::new(3), &[0, 1, 2, 0x80], 6);
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
        assert_eq!(frames(&codec, &[big, b"hi"].concat()), ["hi"]);
        let little: Vec<u8> = big.iter().rev().copied().collect();
        assert_eq!(frames(&codec.little_endian(), &[&little, &b"hi"[..]].concat()), ["hi"]);
    }
}

#[test]
fn a_length_may_count_the_header_and_stand_behind_other_bytes() {
    let codec = LengthPrefixed::new(LengthWidth::U16, 80).offset(1).counts_header();
    assert_eq!(frames(&codec, b"T\0\x05hi"), ["Thi"]);
    let frame = LengthFrame { head: b"T", body: b"hi" };
    assert_eq!(codec.clone().decode(b"T\0\x05hi and more"), Ok(Some((frame, 5))));
    assert_eq!(frames(&codec, b"T\0\x03"), ["T"]);
    let less = FrameError::Malformed("the length of a frame is less than its header's");
    assert_eq!(error(&codec, b"T\0\x02"), less);
}

/// The terminating message of PostgreSQL, and its simplest query.
#[test]
fn a_length_may_count_itself_and_not_what_stands_before_it() {
    let codec = LengthPrefixed::new(LengthWidth::U32, 80).offset(1).counts_itself();
    assert_eq!(frames(&codec, b"Q\0\0\0\x06;\0X\0\0\0\x04"), ["Q;\0", "X"]);
    let less = FrameError::Malformed("the length of a frame is less than its header's");
    assert_eq!(error(&codec, b"X\0\0\0\x03"), less);
    let mut bytes = Vec::new();
    codec.encode(b"Q;\0", &mut bytes).unwrap();
    assert_eq!(bytes, b"Q\0\0\0\x06;\0");
}

/// How many bytes of a stream the frame takes up that it begins with.
fn taken<C: Codec>(codec: &C, stream: &[u8]) -> usize {
    codec.clone().decode(stream).unwrap().expect("it is whole").1
}

#[test]
fn the_longest_frame_takes_up_whole_bytes_max() {
    fn is_longest<C: Codec>(codec: &C, stream: &[u8]) {
        assert_eq!((taken(codec, stream), codec.whole_bytes_max()), (stream.len(), stream.len()));
    }
    is_longest(&Lines::new(3), b"abc\r\n");
    is_longest(&Lines::new(3).end(LineEnd::CrLf), b"abc\r\n");
    is_longest(&Lines::new(3).end(LineEnd::Lf), b"abc\n");
    is_longest(&Delimited::new(b"-.-", 3), b"abc-.-");
    is_longest(&Fixed::new(3), b"abc");
    is_longest(&VarintPrefixed::new(3), b"\x83\x80\x80\x80\x80\x80\x80\x80\x80\0abc");
    let narrow = LengthPrefixed::new(LengthWidth::U8, usize::MAX).offset(1);
    is_longest(&LengthPrefixed::new(LengthWidth::U16, 3).offset(1), b"T\0\x03abc");
    is_longest(&narrow, &[0xff; 2 + 255]);
    is_longest(&narrow.clone().counts_itself(), &[0xff; 2 + 254]);
    is_longest(&narrow.counts_header(), &[0xff; 255]);
    assert_eq!(LengthPrefixed::new(LengthWidth::U64, usize::MAX).whole_bytes_max(), usize::MAX);
    assert_eq!(Lines::new(usize::MAX).whole_bytes_max(), usize::MAX);
    assert_eq!(Delimited::new(b"--", usize::MAX).whole_bytes_max(), usize::MAX);
    assert_eq!(VarintPrefixed::new(usize::MAX).whole_bytes_max(), usize::MAX);
}

#[test]
fn a_length_over_its_limit_is_an_error_before_its_bytes_are_there() {
    let codec = LengthPrefixed::new(LengthWidth::U8, 3);
    assert_eq!(frames(&codec, b"\x03abc"), ["abc"]);
    assert_eq!(error(&codec, b"\x04"), FrameError::TooLong(3));
    assert_eq!(error(&codec.counts_header(), b"\x05"), FrameError::TooLong(3));
    assert_eq!(frames(&VarintPrefixed::new(3), b"\x03abc"), ["abc"]);
    assert_eq!(error(&VarintPrefixed::new(3), b"\x04"), FrameError::TooLong(3));
}

#[test]
fn a_length_that_no_memory_has_room_for_is_too_long() {
    for bytes_max in [3, usize::MAX] {
        let too_long = |header_len| FrameError::TooLong(bytes_max.min(usize::MAX - header_len));
        let codec = LengthPrefixed::new(LengthWidth::U64, bytes_max);
        assert_eq!(error(&codec, &[0xff; 8]), too_long(8));
        let varint = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(error(&VarintPrefixed::new(bytes_max), &varint), too_long(10));
    }
}

/// Against numbers that are wide enough for every sum.
#[test]
fn no_length_overflows_whatever_is_added_to_it() {
    let powers = [0, 1, 8, 16, 31, 32, 33, 63].map(|bits| 1u64 << bits);
    let around = |n: u64| [n.wrapping_sub(1), n, n.wrapping_add(1)];
    let lengths = || [0, 9, 17, u64::MAX].into_iter().chain(powers).flat_map(around);
    let widths =
        [LengthWidth::U8, LengthWidth::U16, LengthWidth::U32, LengthWidth::U64].into_iter();
    for ((width, bytes), length) in
        widths.zip([1, 2, 4, 8]).flat_map(|w| lengths().map(move |l| (w, l)))
    {
        let length = if bytes == 8 { length } else { length % (1 << (8 * bytes)) };
        for (bytes_max, offset) in
            [0, 1, 255, 1 << 20, usize::MAX].into_iter().flat_map(|max| [0, 1, 7].map(|o| (max, o)))
        {
            let plain = LengthPrefixed::new(width, bytes_max).offset(offset);
            for (mut codec, counted) in [
                (plain.clone(), 0),
                (plain.clone().counts_itself(), bytes),
                (plain.counts_header(), offset + bytes),
            ] {
                let header = [&[0; 8][..offset], &length.to_be_bytes()[8 - bytes..]].concat();
                let result = codec.decode(&header).map(|frame| frame.map(|(_, taken)| taken));
                let header_len = header.len() as i128;
                let body = i128::from(length) - counted as i128;
                let whole = body + header_len;
                let fits = body <= bytes_max as i128 && whole <= usize::MAX as i128;
                let what = format!("{codec:?}, {length}");
                match result {
                    Err(FrameError::Malformed(_)) => assert!(body < 0, "{what}"),
                    Err(_) => assert!(body >= 0 && !fits, "{what}"),
                    Ok(Some(taken)) => assert!(body == 0 && taken == header.len(), "{what}"),
                    Ok(None) => {
                        assert!(body > 0 && fits && codec.need() as i128 == whole, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_length_behind_more_bytes_than_memory_has_never_comes() {
    let mut codec = LengthPrefixed::new(LengthWidth::U8, 3).offset(usize::MAX);
    assert_eq!(codec.decode(b"abcdef"), Ok(None));
    assert_eq!(codec.need(), usize::MAX);
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

/// A handler that consumed a part of a frame is told so.
#[test]
#[should_panic(expected = "after `None` a decoder is shown the same bytes again, and more")]
fn lines_that_are_shown_less_than_before_say_so() {
    let mut lines = Lines::new(80);
    assert_eq!(lines.decode(b"not whole"), Ok(None));
    let _ = lines.decode(b"whole");
}

#[test]
#[should_panic(expected = "after `None` a decoder is shown the same bytes again, and more")]
fn delimited_frames_that_are_shown_less_than_before_say_so() {
    let mut parts = Delimited::new(b"--", 80);
    assert_eq!(parts.decode(b"not whole"), Ok(None));
    let _ = parts.decode(b"whole");
}

fn all_are_found_again<C: Codec>(codec: &C, alphabet: &[u8], len_max: u32) {
    each_of(alphabet, len_max, |frame| is_found_again(codec, frame));
}

#[test]
fn what_an_encoder_wrote_its_decoder_finds_again() {
    for end in [LineEnd::LfOrCrLf, LineEnd::Lf, LineEnd::CrLf] {
        all_are_found_again(&Lines::new(3).end(end), b"a\r\n", 5);
        all_are_found_again(&Lines::new(3).end(end).refuse_lone_cr(), b"a\r\n", 5);
    }
    for delimiter in [&b"-"[..], b"--", b"-.-", b"--."] {
        all_are_found_again(&Delimited::new(delimiter, 4), b"-.a", 6);
    }
    all_are_found_again(&Fixed::new(2), b"ab", 4);
    all_are_found_again(&VarintPrefixed::new(3), b"ab", 5);
    all_are_found_again(&LengthPrefixed::new(LengthWidth::U16, 3).little_endian(), b"ab", 5);
    all_are_found_again(&LengthPrefixed::new(LengthWidth::U8, 3).counts_header(), b"ab", 5);
    let typed = LengthPrefixed::new(LengthWidth::U8, 3).offset(1);
    all_are_found_again(&typed.counts_itself(), b"ab", 5);
}

#[test]
fn an_encoder_knows_the_bounds_of_its_length() {
    let mut bytes = Vec::new();
    let codec = LengthPrefixed::new(LengthWidth::U8, 1000);
    assert_eq!(codec.encode(&[0; 255], &mut bytes), Ok(()));
    assert_eq!(codec.encode(&[0; 256], &mut bytes), Err(FrameError::TooLong(255)), "in one byte");
    let codec = codec.counts_header();
    assert_eq!(codec.encode(&[0; 254], &mut bytes), Ok(()));
    assert_eq!(
        codec.encode(&[0; 255], &mut bytes),
        Err(FrameError::TooLong(254)),
        "and the header"
    );
    let narrow = LengthPrefixed::new(LengthWidth::U8, 10);
    assert_eq!(narrow.encode(&[0; 11], &mut bytes), Err(FrameError::TooLong(10)));
    let no_room = FrameError::Malformed("the length of a frame has no room for its header's");
    assert_eq!(codec.offset(255).encode(&[0; 255], &mut bytes), Err(no_room));
    let mut bytes = Vec::new();
    VarintPrefixed::new(1000).encode(&[7; 300], &mut bytes).unwrap();
    assert_eq!(bytes[..2], [0xac, 2]);
    LengthPrefixed::new(LengthWidth::U8, 9).offset(1).encode(b"Thi", &mut bytes).unwrap();
    assert!(bytes.ends_with(b"T\x02hi"));
}
