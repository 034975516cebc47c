//! Frames as they stand on the wire, by rules of their own: the codecs are held to these.

use oneloop::codec::{
    Decoder, Delimited, Encoder, Fixed, FrameError, LengthPrefixed, LengthWidth, LineEnd, Lines,
    Output, VarintPrefixed,
};
use oneloop::sim::Simulation;

use super::within;

/// How frames are told apart.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Lines { end: LineEnd, refuses_cr: bool },
    Delimited(&'static [u8]),
    Fixed,
    Length { width: (LengthWidth, usize), is_little: bool, offset: usize, counts: Counts },
    Varint,
}

/// What a length is that of, besides what stands behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Counts {
    Nothing,
    Itself,
    Header,
}

/// A kind of frames, and the most bytes that one has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coding {
    kind: Kind,
    bytes_max: usize,
}

/// Bytes that are no frame, and what they are refused with.
pub(super) type Bad = (Vec<u8>, FrameError);

const MALFORMED: FrameError = FrameError::Malformed("");
const VARINT_BYTES_MAX: usize = 10;

impl Coding {
    pub(super) fn any(sim: &mut Simulation) -> Coding {
        let mut is = || within(sim, 0..2) == 0;
        let (is_little, refuses_cr) = (is(), is());
        let counts = [Counts::Nothing, Counts::Itself, Counts::Header][within(sim, 0..3)];
        let kind = match within(sim, 0..5) {
            0 => {
                let end = [LineEnd::LfOrCrLf, LineEnd::Lf, LineEnd::CrLf][within(sim, 0..3)];
                Kind::Lines { end, refuses_cr: refuses_cr || end == LineEnd::CrLf }
            }
            1 => Kind::Delimited([&b"\0"[..], b"--", b"-.-", b"--."][within(sim, 0..4)]),
            2 => Kind::Fixed,
            3 => {
                let width = [
                    (LengthWidth::U8, 1),
                    (LengthWidth::U16, 2),
                    (LengthWidth::U32, 4),
                    (LengthWidth::U64, 8),
                ][within(sim, 0..4)];
                Kind::Length { width, is_little, offset: within(sim, 0..3), counts }
            }
            _ => Kind::Varint,
        };
        // With a header a byte of length has room for it.
        Coding { kind, bytes_max: within(sim, 2..240) }
    }

    pub(super) fn codec(&self) -> AnyCodec {
        let bytes_max = self.bytes_max;
        match self.kind {
            Kind::Lines { end, refuses_cr } => {
                let lines = Lines::new(bytes_max).end(end);
                AnyCodec::Lines(if refuses_cr { lines.refuse_lone_cr() } else { lines })
            }
            Kind::Delimited(delimiter) => AnyCodec::Delimited(Delimited::new(delimiter, bytes_max)),
            Kind::Fixed => AnyCodec::Fixed(Fixed::new(bytes_max)),
            Kind::Length { width, is_little, offset, counts } => {
                let mut length = LengthPrefixed::new(width.0, bytes_max).offset(offset);
                if is_little {
                    length = length.little_endian();
                }
                AnyCodec::Length(match counts {
                    Counts::Nothing => length,
                    Counts::Itself => length.counts_itself(),
                    Counts::Header => length.counts_header(),
                })
            }
            Kind::Varint => AnyCodec::Varint(VarintPrefixed::new(bytes_max)),
        }
    }

    /// A frame of bytes that may be taken for borders, often as long as one may be. It begins with `start`.
    pub(super) fn frame(&self, sim: &mut Simulation, start: &[u8]) -> Vec<u8> {
        let len = match (self.kind, within(sim, 0..4)) {
            (Kind::Fixed, _) | (_, 0) => self.bytes_max,
            _ => within(sim, start.len()..self.bytes_max + 1),
        };
        let (alphabet, head_len): (&[u8], usize) = match self.kind {
            Kind::Lines { refuses_cr: true, .. } => (b"ab", 0),
            Kind::Lines { .. } => (b"ab\r", 0),
            Kind::Delimited(_) => (b"a-.\0", 0),
            Kind::Length { offset, .. } => (b"\0\x01\x05\n\xff", offset),
            Kind::Fixed | Kind::Varint => (b"\0\x01\x05\n\x80\xff", 0),
        };
        let any = |_| alphabet[within(sim, 0..alphabet.len())];
        let mut frame: Vec<u8> = (0..head_len + len).map(any).collect();
        frame[..start.len()].copy_from_slice(start);
        match self.kind {
            Kind::Lines { end: LineEnd::LfOrCrLf, .. } if frame.ends_with(b"\r") => {
                frame.pop();
                frame.push(b'a');
            }
            Kind::Delimited(delimiter) => {
                // It would end there.
                while let Some(at) = first(&[&frame, delimiter].concat(), delimiter)
                    && at < frame.len()
                {
                    frame[at] = b'a';
                }
            }
            _ => {}
        }
        frame
    }

    /// The frame as it is sent. There may be several ways: `way` 0 is that of an encoder.
    pub(super) fn wire(&self, frame: &[u8], way: usize) -> Vec<u8> {
        match self.kind {
            Kind::Lines { end, .. } => {
                let has_cr = match end {
                    LineEnd::LfOrCrLf => way % 2 == 1,
                    LineEnd::Lf => false,
                    LineEnd::CrLf => true,
                };
                [frame, if has_cr { b"\r\n" } else { b"\n" }].concat()
            }
            Kind::Delimited(delimiter) => [frame, delimiter].concat(),
            Kind::Fixed => frame.to_vec(),
            Kind::Length { offset, .. } => {
                let (head, body) = frame.split_at(offset);
                [head, &self.length(body.len() as i64), body].concat()
            }
            Kind::Varint => [varint(frame.len(), way % 4), frame.to_vec()].concat(),
        }
    }

    /// The field of a length of a frame that has so many bytes behind it.
    fn length(&self, body_len: i64) -> Vec<u8> {
        let Kind::Length { width, is_little, offset, counts } = self.kind else {
            return Vec::new();
        };
        let counted = match counts {
            Counts::Nothing => 0,
            Counts::Itself => width.1,
            Counts::Header => offset + width.1,
        };
        let length = body_len + counted as i64;
        let mut bytes = length.to_le_bytes()[..width.1].to_vec();
        if !is_little {
            bytes.reverse();
        }
        bytes
    }

    /// What cannot be a frame, if there is such a thing.
    pub(super) fn bad(&self, sim: &mut Simulation) -> Option<Bad> {
        let too_long = FrameError::TooLong(self.bytes_max);
        let endless = || (vec![b'x'; self.bytes_max + 1], too_long);
        let is_malformed = within(sim, 0..2) == 0;
        match self.kind {
            Kind::Lines { end: LineEnd::CrLf, .. } if is_malformed && within(sim, 0..2) == 0 => {
                Some((b"a\n".to_vec(), MALFORMED))
            }
            Kind::Lines { refuses_cr: true, .. } if is_malformed => {
                Some((b"a\rb".to_vec(), MALFORMED))
            }
            Kind::Lines { .. } | Kind::Delimited(_) => Some(endless()),
            Kind::Fixed => None,
            Kind::Length { offset, counts, .. } => {
                let is_malformed = is_malformed && counts != Counts::Nothing;
                let body_len = if is_malformed { -1 } else { self.bytes_max as i64 + 1 };
                let error = if is_malformed { MALFORMED } else { too_long };
                Some(([vec![0; offset], self.length(body_len)].concat(), error))
            }
            Kind::Varint if is_malformed => Some((vec![0x80; VARINT_BYTES_MAX], MALFORMED)),
            Kind::Varint => Some((varint(self.bytes_max + 1, 0), too_long)),
        }
    }

    /// What no encoder writes.
    pub(super) fn too_long(&self) -> Vec<u8> {
        vec![b'x'; self.codec().whole_bytes_max() + 1]
    }
}

/// Where a part is for the first time.
fn first(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Seven bits a byte, the low ones first; and so many bytes more than it needs.
fn varint(mut number: usize, more: usize) -> Vec<u8> {
    let mut bytes = vec![(number & 127) as u8];
    while number > 127 {
        number >>= 7;
        bytes.push((number & 127) as u8);
    }
    bytes.resize(bytes.len() + more, 0);
    let last = bytes.len() - 1;
    bytes[..last].iter_mut().for_each(|byte| *byte |= 0x80);
    bytes
}

/// Any codec of the library: frames are what stands before their length, if there is such a thing, and the rest.
#[derive(Clone, Debug)]
pub(super) enum AnyCodec {
    Lines(Lines),
    Delimited(Delimited),
    Fixed(Fixed),
    Length(LengthPrefixed),
    Varint(VarintPrefixed),
}

type Found<F> = Result<Option<(F, usize)>, FrameError>;

impl Decoder for AnyCodec {
    type Frame<'a> = [&'a [u8]; 2];

    fn decode<'a>(&mut self, input: &'a [u8]) -> Found<[&'a [u8]; 2]> {
        let plain = |found: Found<&'a [u8]>| found.map(|found| found.map(|(f, n)| ([&[], f], n)));
        match self {
            AnyCodec::Lines(codec) => plain(codec.decode(input)),
            AnyCodec::Delimited(codec) => plain(codec.decode(input)),
            AnyCodec::Fixed(codec) => plain(codec.decode(input)),
            AnyCodec::Varint(codec) => plain(codec.decode(input)),
            AnyCodec::Length(codec) => {
                let found = codec.decode(input)?;
                Ok(found.map(|(frame, taken)| ([frame.head, frame.body], taken)))
            }
        }
    }

    fn need(&self) -> usize {
        match self {
            AnyCodec::Lines(codec) => codec.need(),
            AnyCodec::Delimited(codec) => codec.need(),
            AnyCodec::Fixed(codec) => codec.need(),
            AnyCodec::Length(codec) => codec.need(),
            AnyCodec::Varint(codec) => codec.need(),
        }
    }

    fn whole_bytes_max(&self) -> usize {
        match self {
            AnyCodec::Lines(codec) => codec.whole_bytes_max(),
            AnyCodec::Delimited(codec) => codec.whole_bytes_max(),
            AnyCodec::Fixed(codec) => codec.whole_bytes_max(),
            AnyCodec::Length(codec) => codec.whole_bytes_max(),
            AnyCodec::Varint(codec) => codec.whole_bytes_max(),
        }
    }
}

impl Encoder for AnyCodec {
    fn encode(&self, frame: &[u8], output: &mut impl Output) -> Result<(), FrameError> {
        match self {
            AnyCodec::Lines(codec) => codec.encode(frame, output),
            AnyCodec::Delimited(codec) => codec.encode(frame, output),
            AnyCodec::Fixed(codec) => codec.encode(frame, output),
            AnyCodec::Length(codec) => codec.encode(frame, output),
            AnyCodec::Varint(codec) => codec.encode(frame, output),
        }
    }
}
