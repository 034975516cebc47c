//! Requests for parts of a file (RFC 9110, 14).

use std::ops::Range;

use smallvec::SmallVec;

/// With more parts than this the whole file is sent.
const RANGES_MAX: usize = 16;

/// What a Range field asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Selection {
    /// All: it says nothing that this server understands, or too much.
    Whole,
    Parts(Vec<Range<u64>>),
    /// Nothing that there is.
    Unsatisfiable,
}

/// Of a file of `len` bytes.
pub(super) fn select(field: &[u8], len: u64) -> Selection {
    let Some(ranges) = str::from_utf8(field).ok().and_then(|field| {
        let (unit, ranges) = field.split_once('=')?;
        unit.eq_ignore_ascii_case("bytes").then_some(ranges)
    }) else {
        return Selection::Whole;
    };
    let mut parts = Vec::new();
    let mut count = 0;
    // Of a list what is empty is skipped (RFC 9110, 5.6.1.2).
    for range in ranges.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        count += 1;
        match parse(range, len) {
            Some(part) if count <= RANGES_MAX => parts.extend(part),
            _ => return Selection::Whole,
        }
    }
    // Parts that overlap could make a long answer of a small file.
    let bytes = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.end - part.start));
    match parts.len() {
        _ if count == 0 => Selection::Whole,
        0 => Selection::Unsatisfiable,
        _ if bytes > len => Selection::Whole,
        _ => Selection::Parts(parts),
    }
}

/// `None` if it is no range, `Some(None)` if there is nothing of it.
fn parse(range: &str, len: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = range.split_once('-')?;
    let part = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(count)) => len - count.min(len)..len,
        (Some(first), Some(last)) if last < first => return None,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(len),
        (Some(first), None) => first..len,
    };
    Some((part.start < part.end).then_some(part))
}

/// `Some(None)` if there is none. One that does not fit an integer is beyond any file.
fn number(digits: &str) -> Option<Option<u64>> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX)))
}

/// A piece of an answer's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Text(String),
    /// These bytes of the file.
    Span(Range<u64>),
}

/// Those of one answer: mostly one.
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
