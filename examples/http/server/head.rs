//! Where the head of a request ends.

use memchr::memchr;
use oneloop::codec::{Decoder, FrameError};

/// The longest request line (RFC 9112, 3 recommends 8000 bytes at least).
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024;
/// The longest head.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most that empty lines before a head take up.
const EMPTY_BYTES_MAX: usize = 8;

/// Finds heads: lines that end with CR LF, the last of them empty. Empty lines before it belong to none
/// (RFC 9112, 2.2).
///
/// It is stricter than others about what two servers might see differently, one behind the other: a line that
/// ends with LF alone, and one that continues the one before it.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Where the head begins, behind the empty lines.
    start: usize,
    /// Where the line begins that has no end yet.
    line: usize,
    /// No LF is between that and here.
    scanned: usize,
}

impl Decoder for Heads {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        while let Some(found) = memchr(b'\n', &input[self.scanned..]) {
            let end = self.scanned + found + 1;
            self.check_length(end - 1)?;
            let line = &input[self.line..end];
            let is_first = self.line == self.start;
            if !line.ends_with(b"\r\n") {
                return Err(FrameError::Malformed("a line ends with LF alone"));
            }
            if !is_first && (line.starts_with(b" ") || line.starts_with(b"\t")) {
                return Err(FrameError::Malformed("a line continues the one before it"));
            }
            (self.line, self.scanned) = (end, end);
            match (line.len(), is_first) {
                (2, true) if end > EMPTY_BYTES_MAX => {
                    return Err(FrameError::Malformed("empty lines in place of a request"));
                }
                (2, true) => self.start = end,
                (2, false) => {
                    let head = &input[self.start..end];
                    *self = Heads::default();
                    return Ok(Some((head, end)));
                }
                _ => {}
            }
        }
        self.check_length(input.len())?;
        self.scanned = input.len();
        Ok(None)
    }
}

impl Heads {
    /// Whether the line, and the head, may have gone on to `end` without one.
    fn check_length(&self, end: usize) -> Result<(), FrameError> {
        if self.line == self.start && end - self.start > LINE_BYTES_MAX {
            return Err(FrameError::TooLong(LINE_BYTES_MAX));
        }
        if end - self.start > HEAD_BYTES_MAX {
            return Err(FrameError::TooLong(HEAD_BYTES_MAX));
        }
        Ok(())
    }
}
