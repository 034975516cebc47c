//! An answer with a file: what it says of it, whether the client has that already (RFC 9110, 13), and which parts of it
//! follow.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;
use smallvec::smallvec;

use super::date::http_date;
use super::files::Stamp;
use super::range::{Piece, Pieces, content_range, multipart, select};
use super::request::{Method, Request};
use super::response::{Refused, Response};

/// What an answer says about one version of a file.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(super) stamp: Stamp,
    content_type: String,
    etag: String,
    last_modified: HttpDate,
    /// The fields of an answer with the whole file.
    whole: String,
}

impl Meta {
    /// Describes a version of the file at this path, of which the name tells the type.
    pub(super) fn new(path: &str, stamp: Stamp) -> Meta {
        let guess = mime_guess::from_path(path).first_or_octet_stream();
        let content_type = match guess.type_() {
            mime_guess::mime::TEXT => format!("{guess}; charset=utf-8"),
            _ => guess.to_string(),
        };
        let nanos = stamp.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        // Files that were written at once, and in whose place the other one comes, have the same times.
        let (inode, changed) = (stamp.inode ^ stamp.device.rotate_left(32), stamp.changed_nanos);
        let etag = format!("\"{nanos:x}-{changed:x}-{inode:x}-{:x}\"", stamp.len);
        // Not in the future (RFC 9110, 8.8.2.1).
        let last_modified = http_date(stamp.modified.min(SystemTime::now()));
        let mut meta = Meta { stamp, content_type, etag, last_modified, whole: String::new() };
        meta.whole = format!(
            "{}Accept-Ranges: bytes\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            meta.validators(),
            meta.content_type,
            stamp.len
        );
        meta
    }

    /// The fields that tell this version from others.
    fn validators(&self) -> String {
        format!("Last-Modified: {}\r\nETag: {}\r\n", self.last_modified, self.etag)
    }

    /// Sends the head that a request for this file gets; gives what follows it.
    pub(super) fn send_head(&self, response: &mut Response<'_, '_>) -> Pieces {
        let (request, len) = (response.request, self.stamp.len);
        let mut pieces = Pieces::new();
        match (self.status_instead(request), self.parts(request)) {
            (Some(304), _) => response.begin(304).fields(&self.validators()).send(),
            (Some(status), _) => response.refuse(Refused::new(status, "the file is another one")),
            (None, None) => {
                response.begin(200).fields(&self.whole).send();
                pieces.push(Piece::Span(0..len));
            }
            (None, Some(parts)) if parts.is_empty() => {
                response.begin(416).field("Content-Range", format_args!("bytes */{len}"));
                response.send_with("text/plain; charset=utf-8", b"");
            }
            (None, Some(parts)) => pieces = self.send_head_of(&parts, response),
        }
        if request.is_head() { Pieces::new() } else { pieces }
    }

    fn send_head_of(&self, parts: &[Range<u64>], response: &mut Response<'_, '_>) -> Pieces {
        let len = self.stamp.len;
        response.begin(206).fields(&self.validators());
        let pieces = if let [part] = parts {
            response.field("Content-Range", content_range(part, len));
            response.field("Content-Type", &self.content_type);
            smallvec![Piece::Span(part.clone())]
        } else {
            let boundary = format!("{:016x}", response.conn.random());
            let content_type = format_args!("multipart/byteranges; boundary={boundary}");
            response.field("Content-Type", content_type);
            multipart(parts, len, &self.content_type, &boundary)
        };
        response.field("Content-Length", pieces.iter().map(Piece::len).sum::<u64>()).send();
        pieces
    }

    /// The status of the answer if it is not the file: 304, or 412; in the order of RFC 9110, 13.2.2.
    fn status_instead(&self, request: &Request<'_>) -> Option<u16> {
        let is_failed = match (&request.if_match[..], request.if_unmodified_since) {
            ([], Some(date)) => self.is_newer_than(date) == Some(true),
            ([], None) => false,
            (lines, _) => !self.is_in(lines, false),
        };
        if is_failed {
            return Some(412);
        }
        let is_known = match (&request.if_none_match[..], request.if_modified_since) {
            ([], Some(date)) => self.is_newer_than(date) == Some(false),
            ([], None) => false,
            (lines, _) => self.is_in(lines, true),
        };
        is_known.then_some(304)
    }

    /// Whether one of the lists has this version's tag; one that is said to be weak only if it may be. A `*` is any
    /// version, but not in a list.
    fn is_in(&self, lines: &[&[u8]], may_be_weak: bool) -> bool {
        let mut tags = lines.iter().flat_map(|tags| tags.split(|byte| *byte == b','));
        let is_this = |tag: &[u8]| {
            let tag = tag.trim_ascii();
            let tag = if may_be_weak { tag.strip_prefix(b"W/").unwrap_or(tag) } else { tag };
            tag == self.etag.as_bytes()
        };
        lines == [b"*"] || tags.any(is_this)
    }

    /// Whether this version is newer than `date`; `None` if that is no date.
    fn is_newer_than(&self, date: &[u8]) -> Option<bool> {
        let date: HttpDate = str::from_utf8(date).ok()?.parse().ok()?;
        Some(self.last_modified > date)
    }

    /// The parts that are asked for; `None` stands for the whole file. There are parts only of the version that the client
    /// has, and for that a date is not enough: the file may have changed twice in a second (RFC 9110, 13.1.5).
    fn parts(&self, request: &Request<'_>) -> Option<Vec<Range<u64>>> {
        let may_be_partial = request.if_range.is_none_or(|tag| tag == self.etag.as_bytes());
        let range = request.range.filter(|_| request.method == Method::Get && may_be_partial);
        select(range?, self.stamp.len)
    }
}
