//! Where the head of a request ends.

use memchr::memchr;

use super::response::Refused;

/// The longest request line (RFC 9112, 3 recommends 8000 bytes at least).
const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// The longest head.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Whether a request begins in `input`: it has anything but CR and LF.
pub(super) fn has_begun(input: &[u8]) -> bool {
    input.iter().any(|byte| !b"\r\n".contains(byte))
}

/// Finds the end of a head, which may come in pieces.
///
/// What two servers might see differently, one behind the other, is refused: here a line that ends with LF alone, and
/// by the parser one that continues the one before it.
#[derive(Debug, Default)]
pub(super) struct HeadEnd {
    /// Where the line begins that has no end yet.
    line: usize,
    /// There is no LF from there to here.
    scanned: usize,
}

impl HeadEnd {
    /// The length of the head that `input` begins with, and of its empty line; 2 for an empty line before a head (RFC 9112,
    /// 2.2); `None` while it has not come. Each call has the same bytes again, with more behind them.
    pub(super) fn find(&mut self, input: &[u8]) -> Result<Option<usize>, Refused> {
        loop {
            let found = memchr(b'\n', &input[self.scanned..]);
            let end = found.map_or(input.len(), |at| self.scanned + at + 1);
            if self.line == 0 && end > REQUEST_LINE_BYTES_MAX {
                return Err(Refused::new(414, "the request line is too long"));
            }
            if end > HEAD_BYTES_MAX {
                return Err(Refused::new(431, "the head is too long"));
            }
            self.scanned = end;
            if found.is_none() {
                return Ok(None);
            }
            let line = &input[self.line..end];
            if !line.ends_with(b"\r\n") {
                return Err(Refused::new(400, "a line ends with LF alone"));
            }
            if line.len() == 2 {
                *self = HeadEnd::default();
                return Ok(Some(end));
            }
            self.line = end;
        }
    }
}
