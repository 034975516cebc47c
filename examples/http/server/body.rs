//! Where the body of a request ends, and what its content is.
//!
//! A body is left with the head in the connection's input until all of it is there: so it counts for the limits of the
//! connection and of the reactor, and only one in chunks is copied.

use oneloop::codec::{Decoder, FrameError, LineEnd, Lines};

use super::request::{CONTENT_BYTES_MAX, FIELDS_MAX};
use super::response::Refused;

/// The longest size line, with its extensions, and the longest line of the trailer.
const LINE_BYTES_MAX: usize = 256;
/// The most that size lines, extensions and trailer take up together.
pub(super) const FRAMING_BYTES_MAX: usize = 64 * 1024;

/// Finds the end of a body, which may come in pieces.
#[derive(Debug)]
pub(super) enum Body {
    /// A body of this length.
    Counted(usize),
    /// A body in chunks (RFC 9112, 7.1).
    Chunked(Box<Chunks>),
}

impl Body {
    /// How many bytes of `input` are the body as it was sent; `None` while it is not whole. Each call has the
    /// same bytes again, with more behind them.
    pub(super) fn find_end(&mut self, input: &[u8]) -> Result<Option<usize>, Refused> {
        match self {
            Body::Counted(length) => Ok((input.len() >= *length).then_some(*length)),
            Body::Chunked(chunks) => chunks.find_end(input, |_| {}),
        }
    }

    /// How many bytes of input there must be at least, as far as that is known.
    pub(super) fn need(&self) -> usize {
        match self {
            Body::Counted(length) => *length,
            Body::Chunked(chunks) => chunks.need(),
        }
    }
}

/// The content of a body that was sent in chunks, and found whole.
pub(super) fn content(sent: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    // It does not fail, as the body was found by the same rules.
    let _ = Chunks::new().find_end(sent, |chunk| content.extend_from_slice(chunk));
    content
}

/// Goes from chunk to chunk.
#[derive(Debug)]
pub(super) struct Chunks {
    lines: Lines,
    next: Next,
    /// Where the next thing begins.
    at: usize,
    content_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Size,
    /// So many bytes of content.
    Data(usize),
    /// The line end that follows the content of a chunk.
    DataEnd,
    /// A field of the trailer, which begins there, or the empty line that ends it all.
    Trailer(usize),
}

impl Chunks {
    pub(super) fn new() -> Chunks {
        let lines = Lines::new(LINE_BYTES_MAX).end(LineEnd::CrLf);
        Chunks { lines, next: Next::Size, at: 0, content_bytes: 0 }
    }

    /// Where the next thing ends, as far as that is known.
    fn need(&self) -> usize {
        match self.next {
            Next::Data(length) => self.at + length,
            _ => self.at + 1,
        }
    }

    fn find_end(
        &mut self,
        input: &[u8],
        mut on_content: impl FnMut(&[u8]),
    ) -> Result<Option<usize>, Refused> {
        while input.len() >= self.need() {
            let rest = &input[self.at..];
            if let Next::Data(length) = self.next {
                on_content(&rest[..length]);
                self.at += length;
                self.next = Next::DataEnd;
                continue;
            }
            if matches!(self.next, Next::DataEnd) && rest[0] != b'\r' {
                return Err(Refused::new(400, "a chunk is longer than its size"));
            }
            let (line, taken) = match self.lines.decode(rest) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(FrameError::Malformed(rule)) => return Err(Refused::new(400, rule)),
                Err(_) => return Err(Refused::new(400, "a line among the chunks is too long")),
            };
            self.at += taken;
            if self.at - self.content_bytes > FRAMING_BYTES_MAX {
                return Err(Refused::new(413, "too much beside the content"));
            }
            match self.next {
                Next::Size => self.next = self.take_size(line)?,
                Next::Trailer(start) if line.is_empty() => {
                    check_trailer(&input[start..self.at])?;
                    return Ok(Some(self.at));
                }
                Next::Trailer(_) => {}
                Next::Data(_) | Next::DataEnd => self.next = Next::Size,
            }
        }
        Ok(None)
    }

    fn take_size(&mut self, line: &[u8]) -> Result<Next, Refused> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(digits);
        if digits.is_empty() || !(extension.is_empty() || is_extension(extension)) {
            return Err(Refused::new(400, "a chunk begins with its size"));
        }
        let size = str::from_utf8(digits).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
        match size {
            Some(0) => Ok(Next::Trailer(self.at)),
            Some(size) if size <= CONTENT_BYTES_MAX - self.content_bytes as u64 => {
                self.content_bytes += size as usize;
                Ok(Next::Data(size as usize))
            }
            _ => Err(Refused::new(413, "the content is too large")),
        }
    }
}

/// Whether `rest` is an extension, and whitespace before it (RFC 9112, 7.1.1). What it says does not matter, but another
/// server might take a character that it may not have for the line's end.
fn is_extension(rest: &[u8]) -> bool {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let may_be = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    rest[blanks..].starts_with(b";") && rest.iter().all(may_be)
}

/// What the fields say does not matter, but another server might take what is no field for a request.
fn check_trailer(trailer: &[u8]) -> Result<(), Refused> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(trailer, &mut fields) {
        Ok(status) if status.is_complete() => Ok(()),
        _ => Err(Refused::new(400, "the trailer is malformed")),
    }
}
