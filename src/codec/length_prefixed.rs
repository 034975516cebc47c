//! Frames that begin with their length.

use super::length::whole_len;
use super::{Decoder, Encoder, FrameError, Output};

/// How many bytes the length takes up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LengthWidth {
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Eight bytes.
    U64,
}

impl LengthWidth {
    fn bytes(self) -> usize {
        match self {
            LengthWidth::U8 => 1,
            LengthWidth::U16 => 2,
            LengthWidth::U32 => 4,
            LengthWidth::U64 => 8,
        }
    }

    /// The largest length that it has room for.
    fn length_max(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// What a length is that of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Counts {
    /// What stands behind it.
    Body,
    /// ... and itself.
    Itself,
    /// ... and what stands before it.
    Header,
}

/// A frame that has its length in front of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LengthFrame<'a> {
    /// What stands before the length: as many bytes as its [offset](LengthPrefixed::offset), mostly none.
    pub head: &'a [u8],
    /// What stands behind it.
    pub body: &'a [u8],
}

/// Splits by a length of a fixed width in front of each frame. One over the limit is [`TooLong`](FrameError::TooLong) before
/// the frame comes; one that is less than what it counts of its header is [`Malformed`](FrameError::Malformed).
///
/// ```
/// use oneloop::codec::{Decoder, Encoder, LengthPrefixed, LengthWidth};
///
/// let mut messages = LengthPrefixed::new(LengthWidth::U16, 512);
/// let mut bytes = Vec::new();
/// messages.encode(b"hello", &mut bytes)?;
/// assert_eq!(bytes, b"\0\x05hello");
/// let (frame, taken) = messages.decode(&bytes)?.unwrap();
/// assert_eq!((frame.body, taken), (&b"hello"[..], 7));
/// # Ok::<(), oneloop::codec::FrameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LengthPrefixed {
    width: LengthWidth,
    is_little_endian: bool,
    offset: usize,
    counts: Counts,
    bytes_max: usize,
    need: usize,
}

impl LengthPrefixed {
    /// Frames whose length, in network byte order, is that of the at most `bytes_max` bytes behind it.
    ///
    /// In a reactor [`input_bytes_max`](crate::Limits::input_bytes_max) has to be at least its
    /// [`whole_bytes_max`](Decoder::whole_bytes_max).
    pub fn new(width: LengthWidth, bytes_max: usize) -> LengthPrefixed {
        LengthPrefixed {
            width,
            is_little_endian: false,
            offset: 0,
            counts: Counts::Body,
            bytes_max,
            need: 0,
        }
    }

    /// The length has its low byte first.
    #[must_use]
    pub fn little_endian(mut self) -> LengthPrefixed {
        self.is_little_endian = true;
        self
    }

    /// So many bytes stand before the length: a type, say.
    #[must_use]
    pub fn offset(mut self, bytes: usize) -> LengthPrefixed {
        self.offset = bytes;
        self
    }

    /// The length is that of the whole frame: what stands before it, itself, and what stands behind. Not together with
    /// [`counts_itself`](LengthPrefixed::counts_itself), of which the last one holds.
    #[must_use]
    pub fn counts_header(mut self) -> LengthPrefixed {
        self.counts = Counts::Header;
        self
    }

    /// The length is that of itself and what stands behind, but not of what stands before it: with an
    /// [offset](LengthPrefixed::offset) of 1, the messages of PostgreSQL (its manual, "Message Formats").
    #[must_use]
    pub fn counts_itself(mut self) -> LengthPrefixed {
        self.counts = Counts::Itself;
        self
    }

    fn header_len(&self) -> usize {
        self.offset.saturating_add(self.width.bytes())
    }

    /// How many bytes the length is more than that of the body.
    fn counted(&self) -> usize {
        match self.counts {
            Counts::Body => 0,
            Counts::Itself => self.width.bytes(),
            Counts::Header => self.header_len(),
        }
    }

    /// What the limit allows, and the length has room for; `None` if it cannot even count its header.
    fn body_bytes_max(&self) -> Option<usize> {
        let room = self.width.length_max().checked_sub(self.counted() as u64)?;
        Some(usize::try_from(room).unwrap_or(usize::MAX).min(self.bytes_max))
    }

    fn read_length(&self, field: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        if self.is_little_endian {
            bytes[..field.len()].copy_from_slice(field);
            u64::from_le_bytes(bytes)
        } else {
            bytes[8 - field.len()..].copy_from_slice(field);
            u64::from_be_bytes(bytes)
        }
    }
}

impl Decoder for LengthPrefixed {
    type Frame<'a> = LengthFrame<'a>;

    fn decode<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(LengthFrame<'a>, usize)>, FrameError> {
        let header_len = self.header_len();
        self.need = header_len;
        let Some(header) = input.get(..header_len) else { return Ok(None) };
        let (head, field) = header.split_at(self.offset);
        let length = self.read_length(field);
        let Some(body_len) = length.checked_sub(self.counted() as u64) else {
            return Err(FrameError::Malformed("the length of a frame is less than its header's"));
        };
        let whole = whole_len(header_len, body_len, self.bytes_max)?;
        self.need = whole;
        let frame = |body| (LengthFrame { head, body }, whole);
        Ok(input.get(header_len..whole).map(frame))
    }

    fn need(&self) -> usize {
        self.need
    }

    /// How many bytes a frame takes up at most, with its length and what stands before it.
    fn whole_bytes_max(&self) -> usize {
        self.header_len().saturating_add(self.body_bytes_max().unwrap_or(0))
    }
}

impl Encoder for LengthPrefixed {
    /// With an [offset](LengthPrefixed::offset), the first bytes of `frame` are those that stand before the
    /// length.
    fn encode(&self, frame: &[u8], output: &mut impl Output) -> Result<(), FrameError> {
        let Some((head, body)) = frame.split_at_checked(self.offset) else {
            return Err(FrameError::Malformed("a frame has less than stands before its length"));
        };
        let Some(bytes_max) = self.body_bytes_max() else {
            return Err(FrameError::Malformed(
                "the length of a frame has no room for its header's",
            ));
        };
        if body.len() > bytes_max {
            return Err(FrameError::TooLong(bytes_max));
        }
        let length = (body.len() + self.counted()) as u64;
        output.put(head);
        match self.is_little_endian {
            true => output.put(&length.to_le_bytes()[..self.width.bytes()]),
            false => output.put(&length.to_be_bytes()[8 - self.width.bytes()..]),
        }
        output.put(body);
        Ok(())
    }
}
