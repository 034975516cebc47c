//! What an answer says about a file.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::date;
use super::files::Stamp;

/// What an answer says about one version of a file.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(super) stamp: Stamp,
    pub(super) content_type: String,
    pub(super) etag: String,
    pub(super) last_modified: String,
    /// The fields of an answer that has all of it.
    pub(super) whole: Vec<u8>,
}

impl Meta {
    /// Of a file of this name, or with this path.
    pub(super) fn new(name: &str, stamp: Stamp) -> Meta {
        let content_type = content_type(name);
        let nanos = stamp.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let etag = format!("\"{nanos:x}-{:x}-{:x}\"", stamp.changed_nanos, stamp.len);
        let last_modified = date::format(stamp.modified.min(SystemTime::now())); // as it must be (RFC 9110, 8.8.2.1)
        let mut whole = validators(&etag, &last_modified);
        // Into memory, which does not fail.
        let _ = write!(
            whole,
            "Accept-Ranges: bytes\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n",
            stamp.len
        );
        Meta { stamp, content_type, etag, last_modified, whole: whole.into_bytes() }
    }

    /// The fields that tell this version from others.
    pub(super) fn validators(&self) -> String {
        validators(&self.etag, &self.last_modified)
    }
}

fn validators(etag: &str, last_modified: &str) -> String {
    format!("Last-Modified: {last_modified}\r\nETag: {etag}\r\n")
}

fn content_type(name: &str) -> String {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    match guess.type_() {
        mime_guess::mime::TEXT => format!("{guess}; charset=utf-8"),
        _ => guess.to_string(),
    }
}
