//! What a path in a request means.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::response::Refused;

/// What stands for itself in a path, so that it can be a path again (RFC 3986, 3.3).
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The path without escapes, empty segments and `.`; it begins with `/`, and ends with one if it was said to be a
/// directory. One that leads upwards, in whatever spelling, or has a slash in an escape, is refused: nobody needs
/// it, and whoever looked at the path before, a proxy perhaps, may have seen another one.
pub(super) fn normalize(path: &str) -> Result<Cow<'_, str>, Refused> {
    let is_plain = |pair: &[u8]| pair[0] != b'%' && (pair[0] != b'/' || !b"/.".contains(&pair[1]));
    if path.as_bytes().windows(2).all(is_plain) && !path.ends_with('%') {
        return Ok(Cow::Borrowed(path));
    }
    let is_escape = |rest: &str| match rest.as_bytes() {
        [b'2', b'f' | b'F', ..] => false,
        [first, second, ..] => first.is_ascii_hexdigit() && second.is_ascii_hexdigit(),
        _ => false,
    };
    if !path.split('%').skip(1).all(is_escape) {
        return Err(Refused::new(400, "an escape in the path is malformed, or a slash"));
    }
    let Ok(decoded) = percent_decode_str(path).decode_utf8() else {
        return Err(Refused::new(400, "the path is no UTF-8"));
    };
    let mut resolved = String::with_capacity(decoded.len());
    for segment in decoded.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        if segment == ".." {
            return Err(Refused::new(403, "the path leads upwards"));
        }
        if segment.contains('\0') {
            return Err(Refused::new(400, "the path has a NUL in it"));
        }
        resolved.push('/');
        resolved.push_str(segment);
    }
    if resolved.is_empty() || decoded.ends_with('/') || decoded.ends_with("/.") {
        resolved.push('/');
    }
    Ok(Cow::Owned(resolved))
}

/// A path, or a name, as it stands in a link.
pub(super) fn encode(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}
