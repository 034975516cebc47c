//! Requests that depend on the version that the client has (RFC 9110, 13).

use super::date;
use super::meta::Meta;
use super::request::Request;

/// The status of the answer if it is not the file: 304, or 412.
pub(super) fn judge(request: &Request<'_>, meta: &Meta) -> Option<u16> {
    // In the order of RFC 9110, 13.2.2.
    let is_failed = match (&request.if_match[..], request.if_unmodified_since) {
        ([], Some(date)) => is_older_than(date, meta).unwrap_or(false),
        ([], None) => false,
        (lines, _) => !names(lines, meta, false),
    };
    if is_failed {
        return Some(412);
    }
    let is_known = match (&request.if_none_match[..], request.if_modified_since) {
        ([], Some(date)) => is_older_than(date, meta).is_some_and(|is_older| !is_older),
        ([], None) => false,
        (lines, _) => names(lines, meta, true),
    };
    is_known.then_some(304)
}

/// Whether a part would fit what the client has (RFC 9110, 13.1.5). A date does not tell: the file may have become
/// another one twice in that second.
pub(super) fn may_be_partial(request: &Request<'_>, meta: &Meta) -> bool {
    request.if_range.is_none_or(|version| version == meta.etag.as_bytes())
}

/// Whether one of the lists has this version's tag; one that is said to be weak only if `weak`.
fn names(lines: &[&[u8]], meta: &Meta, weak: bool) -> bool {
    let mut tags = lines.iter().flat_map(|tags| tags.split(|byte| *byte == b','));
    // Any version, but not in a list.
    lines == [b"*"]
        || tags.any(|tag| {
            let tag = tag.trim_ascii();
            let tag = if weak { tag.strip_prefix(b"W/").unwrap_or(tag) } else { tag };
            tag == meta.etag.as_bytes()
        })
}

/// Whether a date is before that of the file; `None` if it is no date.
fn is_older_than(date: &[u8], meta: &Meta) -> Option<bool> {
    Some(date::parse(date)? < date::parse(meta.last_modified.as_bytes())?)
}
