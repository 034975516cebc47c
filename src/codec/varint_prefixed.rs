//! Frames that begin with their length, in a number of bytes that depends on it.

use super::length::whole_len;
use super::{Decoder, Encoder, FrameError, Output};

/// More bytes have no place in 64 bits.
const VARINT_BYTES_MAX: usize = 10;

/// Splits by a length of variable width in front of each frame: seven bits a byte, the low ones first, the eighth
/// says that more follow: the base 128 varints of Protocol Buffers ("Encoding", protobuf.dev), which are the unsigned LEB128 of
/// DWARF 5, 7.6.
///
/// It is written in as few bytes as it needs, and may come in up to ten. One that is longer, or over 64 bits, is
/// [`Malformed`](FrameError::Malformed); one over the limit is [`TooLong`](FrameError::TooLong) when it is whole, before the
/// frame comes.
///
/// ```
/// use oneloop::codec::{Decoder, Encoder, VarintPrefixed};
///
/// let mut messages = VarintPrefixed::new(1000);
/// let mut bytes = Vec::new();
/// messages.encode(&[b'x'; 300], &mut bytes)?;
/// assert_eq!(bytes[..2], [0xac, 2]);
/// assert_eq!(messages.decode(&bytes)?, Some((&[b'x'; 300][..], 302)));
/// # Ok::<(), oneloop::codec::FrameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct VarintPrefixed {
    bytes_max: usize,
    need: usize,
}

impl VarintPrefixed {
    /// Frames of at most `bytes_max` bytes, the length not counted.
    ///
    /// In a reactor [`input_bytes_max`](crate::Limits::input_bytes_max) has to be at least its
    /// [`whole_bytes_max`](Decoder::whole_bytes_max).
    pub fn new(bytes_max: usize) -> VarintPrefixed {
        VarintPrefixed { bytes_max, need: 0 }
    }
}

/// The number that the input begins with, and how many bytes it takes up.
fn read_varint(input: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0u64;
    for (at, byte) in input.iter().take(VARINT_BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * at);
        if shifted >> (7 * at) != bits {
            return Err(FrameError::Malformed("the length of a frame is over 64 bits"));
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if input.len() >= VARINT_BYTES_MAX {
        return Err(FrameError::Malformed("the length of a frame is over 10 bytes long"));
    }
    Ok(None)
}

impl Decoder for VarintPrefixed {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        self.need = 1;
        let Some((length, header_len)) = read_varint(input)? else {
            self.need = input.len() + 1;
            return Ok(None);
        };
        let whole = whole_len(header_len, length, self.bytes_max)?;
        self.need = whole;
        Ok(input.get(header_len..whole).map(|frame| (frame, whole)))
    }

    fn need(&self) -> usize {
        self.need
    }

    /// How many bytes a frame takes up at most, with its length, which may have more bytes than it needs.
    fn whole_bytes_max(&self) -> usize {
        self.bytes_max.saturating_add(VARINT_BYTES_MAX)
    }
}

impl Encoder for VarintPrefixed {
    fn encode(&self, frame: &[u8], output: &mut impl Output) -> Result<(), FrameError> {
        if frame.len() > self.bytes_max {
            return Err(FrameError::TooLong(self.bytes_max));
        }
        let (mut header, mut len) = ([0; VARINT_BYTES_MAX], 0);
        let mut rest = frame.len();
        loop {
            header[len] = rest as u8 & 0x7f;
            rest >>= 7;
            len += 1;
            if rest == 0 {
                break;
            }
            header[len - 1] |= 0x80;
        }
        output.put(&header[..len]);
        output.put(frame);
        Ok(())
    }
}
