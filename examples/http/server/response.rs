//! Answers: their heads, refusals, and content that is sent in chunks.

use std::fmt::Display;
use std::io::Write;

use log::debug;
use oneloop::Connection;

use super::date::Date;
use super::request::Request;

/// The longest chunk that is sent.
const CHUNK_BYTES_MAX: usize = 8 * 1024;

/// Why a request is not answered as it was meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    why: &'static str,
    /// The methods that there are, with a 405.
    allow: Option<&'static str>,
}

impl Refused {
    pub(super) const fn new(status: u16, why: &'static str) -> Refused {
        Refused { status, why, allow: None }
    }

    pub(super) const fn method(allow: &'static str) -> Refused {
        Refused { status: 405, why: "not with this method", allow: Some(allow) }
    }
}

/// What all answers share: the date, and a buffer for their heads.
#[derive(Debug, Default)]
pub(super) struct Heads {
    date: Date,
    bytes: Vec<u8>,
}

/// The answer to a request, field by field.
pub(super) struct Response<'a, 'r> {
    pub(super) heads: &'a mut Heads,
    pub(super) conn: &'a mut Connection<'r>,
    pub(super) request: &'a Request<'a>,
}

impl Response<'_, '_> {
    /// Begins the head, with what all have.
    pub(super) fn begin(&mut self, status: u16) -> &mut Self {
        let (key, head) = (self.conn.key(), self.request.head);
        debug!("{key}: {} {status}", first_line(head).escape_ascii());
        self.heads.bytes.clear();
        let connection = match (self.request.keeps_alive, self.request.is_1_1) {
            (true, true) => "",
            (true, false) => "Connection: keep-alive\r\n",
            (false, _) => "Connection: close\r\n",
        };
        self.fields("HTTP/1.1 ").fields(status_line(status)).fields("\r\nDate: ");
        self.heads.bytes.extend_from_slice(self.heads.date.text(self.conn).as_bytes());
        self.fields("\r\n").fields(connection)
    }

    pub(super) fn field(&mut self, name: &str, value: impl Display) -> &mut Self {
        // A write to memory does not fail.
        let _ = write!(self.heads.bytes, "{name}: {value}\r\n");
        self
    }

    /// Whole fields, with their line ends.
    pub(super) fn fields(&mut self, fields: &str) -> &mut Self {
        self.heads.bytes.extend_from_slice(fields.as_bytes());
        self
    }

    /// Sends the head.
    pub(super) fn send(&mut self) {
        self.fields("\r\n");
        self.conn.send(&self.heads.bytes).ignore();
    }

    /// Sends the head and this content.
    pub(super) fn send_with(&mut self, content_type: &str, content: &[u8]) {
        self.field("Content-Type", content_type).field("Content-Length", content.len()).send();
        if !self.request.is_head() {
            self.conn.send(content).ignore();
        }
    }

    /// Sends the head and this content in chunks, as if its length were not known; to HTTP/1.0, which has no chunks, in one
    /// piece.
    pub(super) fn send_chunked(&mut self, content_type: &str, content: &[u8]) {
        if !self.request.is_1_1 {
            return self.send_with(content_type, content);
        }
        self.field("Content-Type", content_type).field("Transfer-Encoding", "chunked").send();
        if self.request.is_head() {
            return;
        }
        for chunk in content.chunks(CHUNK_BYTES_MAX) {
            self.conn.send(format!("{:x}\r\n", chunk.len()).as_bytes()).ignore();
            self.conn.send(chunk).ignore();
            self.conn.send(b"\r\n").ignore();
        }
        self.conn.send(b"0\r\n\r\n").ignore();
    }

    /// Sends a refusal, as a whole answer.
    pub(super) fn refuse(&mut self, refused: Refused) {
        let Refused { status, why, allow } = refused;
        debug!("{}: {why}", self.conn.key());
        self.begin(status);
        if let Some(allow) = allow {
            self.field("Allow", allow);
        }
        if status == 503 {
            self.field("Retry-After", 1);
        }
        let content = format!("{}: {why}\n", status_line(status));
        self.send_with("text/plain; charset=utf-8", content.as_bytes());
    }
}

/// The request line, or as much of it as is of use in a log.
pub(super) fn first_line(head: &[u8]) -> &[u8] {
    let head = &head[..head.len().min(1000)];
    head.split(|byte| *byte == b'\r').next().unwrap_or_default()
}

/// The status with its name (RFC 9110, 15; RFC 6585).
fn status_line(status: u16) -> &'static str {
    match status {
        200 => "200 OK",
        204 => "204 No Content",
        206 => "206 Partial Content",
        301 => "301 Moved Permanently",
        304 => "304 Not Modified",
        400 => "400 Bad Request",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        408 => "408 Request Timeout",
        412 => "412 Precondition Failed",
        413 => "413 Content Too Large",
        414 => "414 URI Too Long",
        416 => "416 Range Not Satisfiable",
        417 => "417 Expectation Failed",
        431 => "431 Request Header Fields Too Large",
        501 => "501 Not Implemented",
        503 => "503 Service Unavailable",
        505 => "505 HTTP Version Not Supported",
        _ => "500 Internal Server Error",
    }
}
