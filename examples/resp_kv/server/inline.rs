//! Commands that people type: lines of words.

use memchr::memchr;
use oneloop::codec::FrameError;

pub const LINE_BYTES_MAX: usize = 64 << 10;

pub type Words = Vec<Vec<u8>>;

/// The words of the first line in the input, without the quotes, and its length. Up to `offset` it was looked through
/// before.
pub fn decode_line(input: &[u8], offset: &mut usize) -> Result<Option<(Words, usize)>, FrameError> {
    let end = memchr(b'\n', &input[*offset..]).map(|end| *offset + end);
    *offset = if end.is_some() { 0 } else { input.len() };
    if end.unwrap_or(input.len()) > LINE_BYTES_MAX {
        return Err(FrameError::Malformed("too big inline request"));
    }
    let Some(end) = end else { return Ok(None) };
    let words =
        words(&input[..end]).ok_or(FrameError::Malformed("unbalanced quotes in request"))?;
    // Some web page makes its reader's browser post a form to us, in which commands stand: carry out none of them.
    let is_http = |name: &Vec<u8>| matches!(&*name.to_ascii_lowercase(), b"post" | b"host:");
    if words.first().is_some_and(is_http) {
        return Err(FrameError::Malformed("this is no HTTP server"));
    }
    Ok(Some((words, end + 1)))
}

/// The words of a line. A word may be in quotes, double ones with `\n`, `\x41` and the like for other bytes. `None`: a
/// quote has no end, or something stands directly behind its end.
fn words(line: &[u8]) -> Option<Words> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while let [first, after @ ..] = rest {
        let (word, end) = match first {
            b'"' | b'\'' => quoted(after, *first)?,
            _ => {
                let len = rest.iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
                (rest[..len].to_vec(), &rest[len..])
            }
        };
        if end.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return None;
        }
        words.push(word);
        rest = end.trim_ascii_start();
    }
    Some(words)
}

/// What stands in quotes, and what follows them.
fn quoted(mut input: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        let (byte, rest) = match input {
            [byte, rest @ ..] if *byte == quote => return Some((word, rest)),
            [b'\\', b'x', high, low, rest @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
                (digit(*high) << 4 | digit(*low), rest)
            }
            [b'\\', b'n', rest @ ..] if quote == b'"' => (b'\n', rest),
            [b'\\', b'r', rest @ ..] if quote == b'"' => (b'\r', rest),
            [b'\\', b't', rest @ ..] if quote == b'"' => (b'\t', rest),
            [b'\\', b'a', rest @ ..] if quote == b'"' => (7, rest),
            [b'\\', b'b', rest @ ..] if quote == b'"' => (8, rest),
            [b'\\', byte, rest @ ..] if quote == b'"' || *byte == quote => (*byte, rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        word.push(byte);
        input = rest;
    }
}
