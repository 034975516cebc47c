//! Requests for parts of a file (RFC 9110, 14).

use std::ops::Range;

use smallvec::SmallVec;

/// With more parts than this the whole file is sent.
const RANGES_MAX: usize = 16;

/// The parts of a file of `len` bytes that a Range field asks for; none if the file has none of them. `None` stands for the
/// whole file: it is empty, or the field says nothing that this server understands, or asks for too much.
pub(super) fn select(field: &[u8], len: u64) -> Option<Vec<Range<u64>>> {
    let (unit, ranges) = str::from_utf8(field).ok()?.split_once('=')?;
    // An empty element of a list is skipped (RFC 9110, 5.6.1.2).
    let ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
    let count = ranges.clone().count();
    if !unit.eq_ignore_ascii_case("bytes") || count == 0 || count > RANGES_MAX || len == 0 {
        return None;
    }
    let mut parts = ranges.map(|range| parse(range, len)).collect::<Option<Vec<_>>>()?;
    parts.retain(|part| !part.is_empty());
    // Parts that overlap could make a long answer of a small file.
    let bytes = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.end - part.start));
    (bytes <= len).then_some(parts)
}

/// The bytes that a range has of a file of `len`, which may be none; `None` if it is no range.
fn parse(range: &str, len: u64) -> Option<Range<u64>> {
    if !range.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    // A number that does not fit an integer is beyond any file.
    let number = |digits: &str| digits.parse().unwrap_or(u64::MAX);
    match range.split_once('-')? {
        ("", "") => None,
        (_, last) if last.contains('-') => None,
        ("", count) => Some(len - number(count).min(len)..len),
        (first, "") => Some(number(first)..len),
        (first, last) if number(last) < number(first) => None,
        (first, last) => Some(number(first)..number(last).saturating_add(1).min(len)),
    }
}

/// A piece of an answer's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Text(String),
    /// These bytes of the file.
    Span(Range<u64>),
}

/// The pieces of one answer, mostly one.
pub(super) type Pieces = SmallVec<[Piece; 1]>;

impl Piece {
    pub(super) fn len(&self) -> u64 {
        match self {
            Piece::Text(text) => text.len() as u64,
            Piece::Span(span) => span.end - span.start,
        }
    }
}

/// The value of a Content-Range field.
pub(super) fn content_range(part: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", part.start, part.end - 1)
}

/// Several parts as one content (RFC 9110, 14.6).
pub(super) fn multipart(
    parts: &[Range<u64>],
    len: u64,
    content_type: &str,
    boundary: &str,
) -> Pieces {
    let mut pieces = Pieces::new();
    for part in parts {
        let range = content_range(part, len);
        pieces.push(Piece::Text(format!(
            "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n"
        )));
        pieces.push(Piece::Span(part.clone()));
    }
    pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n")));
    pieces
}
