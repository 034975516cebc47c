//! Frames that end with some bytes which they do not have inside.

use std::rc::Rc;

use memchr::memmem::Finder;

use super::{Decoder, Encoder, FrameError, Output, SHOWN_LESS};

/// Splits at a delimiter, and gives what is between without it. A frame over the limit is
/// [`TooLong`](FrameError::TooLong) as soon as no delimiter can end it in time; nothing else is an error.
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
    /// In a reactor [`input_bytes_max`](crate::Limits::input_bytes_max) has to be at least its
    /// [`whole_bytes_max`](Decoder::whole_bytes_max).
    ///
    /// # Panics
    ///
    /// If the delimiter has no bytes.
    pub fn new(delimiter: &[u8], bytes_max: usize) -> Delimited {
        assert!(!delimiter.is_empty(), "a delimiter has at least one byte");
        let delimiter = Rc::new(Finder::new(delimiter).into_owned());
        Delimited { delimiter, bytes_max, scanned: 0 }
    }

    /// Whether a frame that has no delimiter yet can still end in time: at the latest behind `bytes_max` bytes a delimiter
    /// has to begin, so the input is no longer than that, or what is behind is a part of one. With `--` and a limit of 3,
    /// `abc` and `abc-` can become a frame, `abcd` and `abc-d` cannot.
    fn may_end(&self, input: &[u8]) -> bool {
        let delimiter = self.delimiter.needle();
        let first = (input.len() + 1).saturating_sub(delimiter.len());
        let last = input.len().min(self.bytes_max);
        (first..=last).rev().any(|at| delimiter.starts_with(&input[at..]))
    }
}

impl Decoder for Delimited {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        let len = self.delimiter.needle().len();
        // All but its last byte may have been there the last time.
        let from = self.scanned.saturating_sub(len - 1);
        let rest = input.get(from..).expect(SHOWN_LESS);
        let found = self.delimiter.find(rest).map(|at| from + at);
        let is_too_long = match found {
            Some(at) => at > self.bytes_max,
            None => !self.may_end(input),
        };
        if is_too_long {
            return Err(FrameError::TooLong(self.bytes_max));
        }
        self.scanned = if found.is_some() { 0 } else { input.len() };
        Ok(found.map(|at| (&input[..at], at + len)))
    }

    /// How many bytes a frame takes up at most, with its delimiter.
    fn whole_bytes_max(&self) -> usize {
        self.bytes_max.saturating_add(self.delimiter.needle().len())
    }
}

impl Encoder for Delimited {
    fn encode(&self, frame: &[u8], output: &mut impl Output) -> Result<(), FrameError> {
        let delimiter = self.delimiter.needle();
        if frame.len() > self.bytes_max {
            return Err(FrameError::TooLong(self.bytes_max));
        }
        // One that begins with the last bytes of the frame, and ends in the delimiter behind it, would be found first.
        let begins_early = |bytes: usize| {
            let (begin, end) = delimiter.split_at(bytes);
            frame.ends_with(begin) && delimiter.starts_with(end)
        };
        if (1..delimiter.len()).any(begins_early) || self.delimiter.find(frame).is_some() {
            return Err(FrameError::Malformed("a frame has its delimiter in it"));
        }
        output.put(frame);
        output.put(delimiter);
        Ok(())
    }
}
