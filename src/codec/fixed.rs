//! Frames of one size.

use super::{Decoder, Encoder, FrameError, Output};

/// Splits into frames of so many bytes. There is nothing that would be an error.
///
/// ```
/// use oneloop::codec::{Decoder, Fixed};
///
/// let mut records = Fixed::new(3);
/// assert_eq!(records.decode(b"onetwo").unwrap(), Some((&b"one"[..], 3)));
/// assert_eq!(records.decode(b"tw").unwrap(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Fixed {
    bytes: usize,
}

impl Fixed {
    /// Frames of `bytes` bytes.
    ///
    /// In a reactor [`input_bytes_max`](crate::Limits::input_bytes_max) has to be at least its
    /// [`whole_bytes_max`](Decoder::whole_bytes_max).
    ///
    /// # Panics
    ///
    /// If that is none.
    pub fn new(bytes: usize) -> Fixed {
        assert_ne!(bytes, 0, "a frame has at least one byte");
        Fixed { bytes }
    }
}

impl Decoder for Fixed {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        Ok(input.get(..self.bytes).map(|frame| (frame, self.bytes)))
    }

    fn need(&self) -> usize {
        self.bytes
    }

    /// How many bytes a frame takes up.
    fn whole_bytes_max(&self) -> usize {
        self.bytes
    }
}

impl Encoder for Fixed {
    fn encode(&self, frame: &[u8], output: &mut impl Output) -> Result<(), FrameError> {
        if frame.len() != self.bytes {
            return Err(FrameError::Malformed("a frame has another size than all of them have"));
        }
        output.put(frame);
        Ok(())
    }
}
