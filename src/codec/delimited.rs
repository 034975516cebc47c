//! Frames that end with some bytes which they do not have inside.

use std::rc::Rc;

use memchr::memmem::Finder;

use super::{Decoder, Encoder, FrameError, Output};

/// Splits at a delimiter, and gives what is between without it.
///
/// ```
/// use oneloop::codec::{Decoder, Delimited};
///
/// let mut parts = Delimited::new(b"\0", 1024);
/// assert_eq!(parts.decode(b"one\0two").unwrap(), Some((&b"one"[..], 4)));
/// ```
#[derive(Clone, Debug)]
pub struct Delimited {
    /// Shared by the decoders of all connections.
    delimiter: Rc<Finder<'static>>,
    bytes_max: usize,
    /// No delimiter ends before.
    scanned: usize,
}

impl Delimited {
    /// Frames of at most `bytes_max` bytes, the delimiter not counted. Clones share it.
    ///
    /// # Panics
    ///
    /// If the delimiter has no bytes.
    pub fn new(delimiter: &[u8], bytes_max: usize) -> Delimited {
        assert!(!delimiter.is_empty(), "a delimiter has at least one byte");
        let delimiter = Rc::new(Finder::new(delimiter).into_owned());
        Delimited { delimiter, bytes_max, scanned: 0 }
    }
}

impl Decoder for Delimited {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        let len = self.delimiter.needle().len();
        // All but its last byte may have been there the last time.
        let from = self.scanned.saturating_sub(len - 1);
        let (result, known) = match self.delimiter.find(&input[from..]) {
            Some(at) => (Some((&input[..from + at], from + at + len)), from + at),
            None => (None, (input.len() + 1).saturating_sub(len)),
        };
        if known > self.bytes_max {
            return Err(FrameError::TooLong(self.bytes_max));
        }
        self.scanned = if result.is_some() { 0 } else { input.len() };
        Ok(result)
    }
}

impl Encoder for Delimited {
    fn encode(&self, frame: &[u8], output: &mut impl Output) -> Result<(), FrameError> {
        let delimiter = self.delimiter.needle();
        if frame.len() > self.bytes_max {
            return Err(FrameError::TooLong(self.bytes_max));
        }
        // Also one that begins in the frame and ends in the delimiter behind it would be found first.
        let tail = &frame[frame.len().saturating_sub(delimiter.len() - 1)..];
        let is_found_early = self.delimiter.find(&[tail, delimiter].concat()) != Some(tail.len());
        if is_found_early || self.delimiter.find(frame).is_some() {
            return Err(FrameError::Malformed("a frame has its delimiter in it"));
        }
        output.put(frame);
        output.put(delimiter);
        Ok(())
    }
}
