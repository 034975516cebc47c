//! What holds for every codec, whatever the bytes are and however they are cut.
//!
//! Each function here is about one kind of frames, and takes a case as bytes: some for the codec's settings, then the
//! cuts, then the input. `tests/codec_random.rs` tries it with random cases, and `fuzz/` with those that a fuzzer makes.

#![allow(dead_code, reason = "every target of the fuzzer uses one function")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use oneloop::codec::{
    Decoder, Delimited, Encoder, Fixed, FrameError, LengthFrame, LengthPrefixed, LengthWidth,
    LineEnd, Lines, VarintPrefixed,
};

/// A codec whose frames can be kept, in the form that its encoder takes.
pub trait Codec: Decoder + Encoder + Clone {
    fn keep(frame: Self::Frame<'_>) -> Vec<u8>;

    /// Whether a frame may stand in a stream as these bytes, and its encoder takes it.
    fn is_written(&self, frame: &[u8], bytes: &[u8]) -> bool {
        let mut written = Vec::new();
        self.encode(frame, &mut written) == Ok(()) && written == bytes
    }
}

impl Codec for Lines {
    fn keep(frame: &[u8]) -> Vec<u8> {
        frame.to_vec()
    }

    /// An encoder refuses a line that ends with a CR where a CR may be a part of the end.
    fn is_written(&self, frame: &[u8], bytes: &[u8]) -> bool {
        let may_end_with_cr = self.clone().decode(b"\r\r\n") == Ok(Some((b"\r", 3)));
        let is_known = self.encode(frame, &mut Vec::new()).is_ok()
            || may_end_with_cr && frame.ends_with(b"\r") && !frame.contains(&b'\n');
        let end = bytes.strip_prefix(frame);
        is_known && end.is_some_and(|end| [&b"\n"[..], b"\r\n"].contains(&end))
    }
}

impl Codec for Delimited {
    fn keep(frame: &[u8]) -> Vec<u8> {
        frame.to_vec()
    }
}

impl Codec for Fixed {
    fn keep(frame: &[u8]) -> Vec<u8> {
        frame.to_vec()
    }
}

impl Codec for LengthPrefixed {
    fn keep(frame: LengthFrame<'_>) -> Vec<u8> {
        [frame.head, frame.body].concat()
    }
}

impl Codec for VarintPrefixed {
    fn keep(frame: &[u8]) -> Vec<u8> {
        frame.to_vec()
    }

    /// A length may have more bytes than it needs.
    fn is_written(&self, frame: &[u8], bytes: &[u8]) -> bool {
        let is_length = |length: &[u8]| {
            let bits = length.iter().rev().fold(0, |bits, byte| bits << 7 | u128::from(byte & 127));
            bits == frame.len() as u128 && (1..=10).contains(&length.len())
        };
        self.encode(frame, &mut Vec::new()).is_ok()
            && bytes.strip_suffix(frame).is_some_and(is_length)
    }
}

/// What came of a stream: whole frames, what is left of one, and an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub frames: Vec<Vec<u8>>,
    /// So many bytes the frames took up.
    pub taken: usize,
    pub error: Option<FrameError>,
}

/// Shows a stream in pieces, as a connection would; if `heeds_need`, only when as many bytes are there as the decoder
/// asked for. Checks on the way that a frame is what stands there, and that what was needed was enough to know.
pub fn run<C: Codec>(codec: &C, pieces: &[&[u8]], heeds_need: bool) -> Outcome {
    let mut decoder = codec.clone();
    let mut input = Vec::new();
    let mut outcome = Outcome { frames: Vec::new(), taken: 0, error: None };
    let mut need = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        while !heeds_need || input.len() - outcome.taken >= need {
            let rest = &input[outcome.taken..];
            match decoder.decode(rest) {
                Ok(Some((frame, taken))) => {
                    let frame = C::keep(frame);
                    assert!((1..=rest.len()).contains(&taken), "it took up {taken} bytes");
                    assert!(taken <= codec.whole_bytes_max(), "more than the most: {taken} bytes");
                    assert!(need <= taken, "it needed {need} bytes and took up {taken}");
                    let bytes = &rest[..taken];
                    assert!(
                        codec.is_written(&frame, bytes),
                        "{frame:?} does not stand in {bytes:?}"
                    );
                    outcome.frames.push(frame);
                    outcome.taken += taken;
                    need = 0;
                }
                Ok(None) => {
                    need = decoder.need();
                    assert!(need == 0 || need > rest.len(), "it has {need} already");
                    assert!(need <= codec.whole_bytes_max(), "it needs more than the most: {need}");
                    break;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome
}

/// The frames, and the error, are what they are of the `whole`.
pub fn is_the_same_in_pieces<C: Codec>(codec: &C, pieces: &[&[u8]], whole: &Outcome) {
    for heeds_need in [false, true] {
        assert_eq!(&run(codec, pieces, heeds_need), whole, "{pieces:?}, need: {heeds_need}");
    }
}

/// No frame is over its limit; what is refused as too long could not have become one that is not, and what waits for
/// more can become one; a length in front is judged when it is whole, which `has_length` tells. `unlimited` is the same
/// codec with another limit, and `head` how many bytes do not count.
fn keeps_its_limit<C: Codec>(
    codec: &C,
    unlimited: &C,
    (bytes_max, head): (usize, usize),
    has_length: impl Fn(&[u8]) -> bool,
    input: &[u8],
) {
    let outcome = run(codec, &[input], false);
    let is_over = |frame: &[u8]| frame.len() - head > bytes_max;
    assert!(!outcome.frames.iter().any(|frame| is_over(frame)), "over {bytes_max}: {outcome:?}");
    let rest = &input[outcome.taken..];
    let mut end = Vec::new();
    let _ = unlimited.encode(b"", &mut end);
    // A part of the end may be there.
    let ended = |tail: usize| [rest, &end[tail..]].concat();
    match outcome.error {
        Some(FrameError::TooLong(_)) => {
            for mut input in (0..=end.len()).map(ended) {
                let mut decoder = unlimited.clone();
                let is_short = matches!(decoder.decode(&input), Ok(None));
                if is_short && decoder.need() < 1 << 16 {
                    input.resize(decoder.need().max(input.len()), 0);
                }
                if let Ok(Some((frame, _))) = unlimited.clone().decode(&input) {
                    let frame = C::keep(frame);
                    assert!(is_over(&frame), "{frame:?} is not over {bytes_max}");
                }
            }
        }
        Some(_) => {}
        None => {
            let mut decoder = codec.clone();
            let waits = matches!(decoder.decode(rest), Ok(None));
            let is_frame = |input: Vec<u8>| {
                let mut decoder = codec.clone();
                let whole = decoder.decode(&input).ok().flatten();
                whole.is_some_and(|(frame, _)| !is_over(&C::keep(frame)))
            };
            let can_end = match decoder.need() {
                0 => (0..end.len()).map(ended).any(is_frame),
                need if has_length(rest) && need < 1 << 16 => {
                    is_frame([rest, &vec![0; need - rest.len()]].concat())
                }
                _ => true,
            };
            assert!(waits && can_end, "{rest:?} cannot become a frame, and waits");
        }
    }
}

/// What an encoder wrote, its decoder finds again; what it would not find, is refused and leaves no byte.
pub fn is_found_again<C: Codec>(codec: &C, frame: &[u8]) {
    let mut bytes = Vec::new();
    match codec.encode(frame, &mut bytes) {
        Ok(()) => {
            bytes.extend_from_within(..);
            let outcome = run(codec, &[&bytes], false);
            assert_eq!(outcome.frames, [frame, frame]);
            assert_eq!((outcome.taken, outcome.error), (bytes.len(), None));
        }
        Err(_) => assert_eq!(bytes, b""),
    }
}

/// Numbers for the settings, from the front of a case; zeros if there are no more.
struct Case<'a>(&'a [u8]);

impl<'a> Case<'a> {
    fn number(&mut self) -> usize {
        let Some((number, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*number)
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// The pieces of what is left: as long as the case says, again and again.
    fn pieces(mut self) -> Vec<&'a [u8]> {
        let count = self.number() % 8;
        let lengths: Vec<usize> = self.bytes(count).iter().map(|len| usize::from(*len)).collect();
        let mut lengths = lengths.into_iter().map(|len| len.max(1)).cycle();
        let mut pieces = Vec::new();
        while !self.0.is_empty() {
            pieces.push(self.bytes(lengths.next().unwrap_or(1)));
        }
        pieces
    }
}

/// All of it, for one codec. Pieces of the input are frames to encode, too.
fn holds<C: Codec>(
    codec: &C,
    unlimited: &C,
    limit: (usize, usize),
    has_length: impl Fn(&[u8]) -> bool,
    case: Case<'_>,
) {
    const PIECES_MAX: usize = 20;
    let pieces = case.pieces();
    let input = pieces.concat();
    is_the_same_in_pieces(codec, &pieces, &run(codec, &[&input], false));
    is_found_again(codec, &input);
    keeps_its_limit(codec, unlimited, limit, &has_length, &input);
    let mut len = 0;
    for piece in pieces.into_iter().take(PIECES_MAX) {
        is_found_again(codec, piece);
        len += piece.len();
        keeps_its_limit(codec, unlimited, limit, &has_length, &input[..len]);
    }
}

pub fn lines(case: &[u8]) {
    let mut case = Case(case);
    let end = [LineEnd::LfOrCrLf, LineEnd::Lf, LineEnd::CrLf][case.number() % 3];
    let refuses_cr = case.number() % 2 == 1;
    let bytes_max = case.number();
    let codec = |bytes_max| {
        let lines = Lines::new(bytes_max).end(end);
        if refuses_cr { lines.refuse_lone_cr() } else { lines }
    };
    holds(&codec(bytes_max), &codec(usize::MAX), (bytes_max, 0), |_| true, case);
}

pub fn delimited(case: &[u8]) {
    let mut case = Case(case);
    let bytes_max = case.number();
    let len = case.number() % 5;
    let delimiter = [case.bytes(len), b"-"].concat();
    let codec = |bytes_max| Delimited::new(&delimiter, bytes_max);
    holds(&codec(bytes_max), &codec(usize::MAX), (bytes_max, 0), |_| true, case);
}

pub fn fixed(case: &[u8]) {
    let mut case = Case(case);
    let bytes = case.number().max(1);
    holds(&Fixed::new(bytes), &Fixed::new(bytes), (bytes, 0), |_| true, case);
}

pub fn length_prefixed(case: &[u8]) {
    const WIDTHS: [LengthWidth; 4] =
        [LengthWidth::U8, LengthWidth::U16, LengthWidth::U32, LengthWidth::U64];
    let mut case = Case(case);
    let width = WIDTHS[case.number() % 4];
    let (is_little_endian, counts) = (case.number() % 2 == 1, case.number() % 3);
    let offset = case.number() % 5;
    // The last one stands for no limit, where only the size of memory is one.
    let bytes_max = Some(case.number()).filter(|max| *max < 255).unwrap_or(usize::MAX);
    let codec = |bytes_max| {
        let mut codec = LengthPrefixed::new(width, bytes_max).offset(offset);
        if is_little_endian {
            codec = codec.little_endian();
        }
        match counts {
            0 => codec,
            1 => codec.counts_header(),
            _ => codec.counts_itself(),
        }
    };
    let header_len = offset + [1, 2, 4, 8][width as usize];
    let has_length = |input: &[u8]| input.len() >= header_len;
    holds(&codec(bytes_max), &codec(usize::MAX), (bytes_max, offset), has_length, case);
}

pub fn varint_prefixed(case: &[u8]) {
    let mut case = Case(case);
    let bytes_max = Some(case.number()).filter(|max| *max < 255).unwrap_or(usize::MAX);
    let codec = VarintPrefixed::new;
    let has_length = |input: &[u8]| input.iter().any(|byte| *byte < 0x80);
    holds(&codec(bytes_max), &codec(usize::MAX), (bytes_max, 0), has_length, case);
}
