//! Lines of text, or of anything else that has no line feed in it.

use memchr::{memchr, memchr2};

use super::{Decoder, Encoder, FrameError, Output, SHOWN_LESS};

/// What ends a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LineEnd {
    /// LF, or CR LF: what Internet protocols send and what people type. An encoder ends with LF: whoever has to answer with
    /// CR LF, as SMTP has (RFC 5321, 2.3.8), encodes with [`CrLf`](LineEnd::CrLf).
    #[default]
    LfOrCrLf,
    /// LF; a CR before it belongs to the line.
    Lf,
    /// CR LF, and nothing else: an LF alone is an error, and so is a CR alone. For protocols in which one server
    /// must not see two lines where another one sees one.
    CrLf,
}

/// Splits into lines, and gives them without their ends. A line over the limit is [`TooLong`](FrameError::TooLong), with or
/// without its end. With [`LineEnd::CrLf`] a CR or LF by itself is [`Malformed`](FrameError::Malformed); with
/// [`refuse_lone_cr`](Lines::refuse_lone_cr) a CR.
///
/// ```
/// use oneloop::codec::{Decoder, Lines};
///
/// let mut lines = Lines::new(80);
/// assert_eq!(lines.decode(b"HELO example.org\r\nMAIL").unwrap(), Some((&b"HELO example.org"[..], 18)));
/// assert_eq!(lines.decode(b"MAIL").unwrap(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Lines {
    bytes_max: usize,
    end: LineEnd,
    refuses_lone_cr: bool,
    /// Where the search goes on: before, no line ends.
    scanned: usize,
}

impl Lines {
    /// Lines of at most `bytes_max` bytes, their ends not counted, which end with LF or with CR LF.
    ///
    /// In a reactor [`input_bytes_max`](crate::Limits::input_bytes_max) has to be at least its
    /// [`whole_bytes_max`](Decoder::whole_bytes_max).
    pub fn new(bytes_max: usize) -> Lines {
        Lines { bytes_max, end: LineEnd::LfOrCrLf, refuses_lone_cr: false, scanned: 0 }
    }

    /// What ends a line.
    #[must_use]
    pub fn end(mut self, end: LineEnd) -> Lines {
        self.end = end;
        self
    }

    /// Makes a CR that does not belong to the end of a line an error, as it is always with [`LineEnd::CrLf`]. By
    /// default it is a byte like others: then a line may come that ends with a CR, and an encoder refuses that one with
    /// [`LineEnd::LfOrCrLf`]. Who sends back what came wants this.
    #[must_use]
    pub fn refuse_lone_cr(mut self) -> Lines {
        self.refuses_lone_cr = true;
        self
    }

    /// Whether a CR can only be a part of the end.
    fn refuses_cr(&self) -> bool {
        self.refuses_lone_cr || self.end == LineEnd::CrLf
    }

    /// Gives the whole line, which takes up `taken` bytes with its end.
    fn finish<'a>(
        &mut self,
        line: &'a [u8],
        taken: usize,
    ) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        if line.len() > self.bytes_max {
            return Err(FrameError::TooLong(self.bytes_max));
        }
        self.scanned = 0;
        Ok(Some((line, taken)))
    }

    /// The line has no end yet. The next search begins behind `scanned` bytes.
    fn go_on(
        &mut self,
        input: &[u8],
        scanned: usize,
    ) -> Result<Option<(&'static [u8], usize)>, FrameError> {
        let may_end = self.end != LineEnd::Lf && input.ends_with(b"\r");
        if input.len() - usize::from(may_end) > self.bytes_max {
            return Err(FrameError::TooLong(self.bytes_max));
        }
        self.scanned = scanned;
        Ok(None)
    }
}

const LONE_CR: FrameError = FrameError::Malformed("a line has a CR without an LF in it");
const LONE_LF: FrameError = FrameError::Malformed("a line ends with LF and not with CR LF");

impl Decoder for Lines {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        let rest = input.get(self.scanned..).expect(SHOWN_LESS);
        let found =
            if self.refuses_cr() { memchr2(b'\r', b'\n', rest) } else { memchr(b'\n', rest) };
        let Some(at) = found.map(|at| self.scanned + at) else {
            return self.go_on(input, input.len());
        };
        if input[at] == b'\n' {
            // With its CR it would have been found by that.
            let line = &input[..at];
            return match self.end {
                LineEnd::CrLf if at > self.bytes_max => self.finish(line, at + 1),
                LineEnd::CrLf => Err(LONE_LF),
                LineEnd::Lf => self.finish(line, at + 1),
                LineEnd::LfOrCrLf => self.finish(line.strip_suffix(b"\r").unwrap_or(line), at + 1),
            };
        }
        match input.get(at + 1) {
            _ if at > self.bytes_max => Err(FrameError::TooLong(self.bytes_max)),
            _ if self.end == LineEnd::Lf => Err(LONE_CR),
            None => self.go_on(input, at),
            Some(b'\n') => self.finish(&input[..at], at + 2),
            Some(_) => Err(LONE_CR),
        }
    }

    /// How many bytes a line takes up at most, with its end.
    fn whole_bytes_max(&self) -> usize {
        self.bytes_max.saturating_add(if self.end == LineEnd::Lf { 1 } else { 2 })
    }
}

impl Encoder for Lines {
    /// Ends the line with LF, or with CR LF for [`LineEnd::CrLf`].
    fn encode(&self, line: &[u8], output: &mut impl Output) -> Result<(), FrameError> {
        if line.len() > self.bytes_max {
            return Err(FrameError::TooLong(self.bytes_max));
        }
        if memchr(b'\n', line).is_some() {
            return Err(FrameError::Malformed("a line has an LF in it"));
        }
        if self.refuses_cr() && memchr(b'\r', line).is_some() {
            return Err(LONE_CR);
        }
        if self.end == LineEnd::LfOrCrLf && line.ends_with(b"\r") {
            return Err(FrameError::Malformed(
                "a line has a CR at its end, which would be taken for a part of that",
            ));
        }
        output.put(line);
        output.put(if self.end == LineEnd::CrLf { b"\r\n" } else { b"\n" });
        Ok(())
    }
}
