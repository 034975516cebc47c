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
    /// The methods that there are, if it is that.
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

/// The head of an answer, written into a buffer that all of them share.
#[derive(Debug, Default)]
pub(super) struct ResponseHead {
    date: Date,
    bytes: Vec<u8>,
}

impl ResponseHead {
    /// Begins one, with what all have.
    pub(super) fn begin(
        &mut self,
        conn: &Connection<'_>,
        status: u16,
        request: &Request<'_>,
    ) -> &mut ResponseHead {
        debug!("{}: {} {status}", conn.key(), first_line(request.head).escape_ascii());
        self.bytes.clear();
        self.bytes.extend_from_slice(b"HTTP/1.1 ");
        self.bytes.extend_from_slice(status_line(status).as_bytes());
        self.bytes.extend_from_slice(b"\r\nDate: ");
        self.bytes.extend_from_slice(self.date.text(conn).as_bytes());
        match (request.keeps_alive, request.is_1_1) {
            (true, true) => self.bytes.extend_from_slice(b"\r\n"),
            (true, false) => self.bytes.extend_from_slice(b"\r\nConnection: keep-alive\r\n"),
            (false, _) => self.bytes.extend_from_slice(b"\r\nConnection: close\r\n"),
        }
        self
    }

    pub(super) fn field(&mut self, name: &str, value: impl Display) -> &mut ResponseHead {
        // Into memory, which does not fail.
        let _ = write!(self.bytes, "{name}: {value}\r\n");
        self
    }

    /// Whole fields, with their line ends.
    pub(super) fn fields(&mut self, fields: &[u8]) -> &mut ResponseHead {
        self.bytes.extend_from_slice(fields);
        self
    }

    pub(super) fn send(&mut self, conn: &mut Connection<'_>) {
        self.bytes.extend_from_slice(b"\r\n");
        conn.send(&self.bytes).ignore();
    }

    /// Sends a whole answer that has this content.
    pub(super) fn send_with(
        &mut self,
        conn: &mut Connection<'_>,
        request: &Request<'_>,
        content_type: &str,
        content: &[u8],
    ) {
        self.field("Content-Type", content_type).field("Content-Length", content.len());
        self.send(conn);
        if !request.is_head() {
            conn.send(content).ignore();
        }
    }

    /// Sends a refusal, as a whole answer.
    pub(super) fn refuse(
        &mut self,
        conn: &mut Connection<'_>,
        request: &Request<'_>,
        refused: Refused,
    ) {
        let Refused { status, why, allow } = refused;
        debug!("{}: {why}", conn.key());
        self.begin(conn, status, request);
        if let Some(allow) = allow {
            self.field("Allow", allow);
        }
        if status == 503 {
            self.field("Retry-After", 1);
        }
        let content = format!("{}: {why}\n", status_line(status));
        self.send_with(conn, request, "text/plain; charset=utf-8", content.as_bytes());
    }

    /// Sends a whole answer that has this content in chunks, as if its length were not known; to HTTP/1.0, which has none,
    /// as one piece.
    pub(super) fn send_chunked(
        &mut self,
        conn: &mut Connection<'_>,
        request: &Request<'_>,
        content_type: &str,
        content: &[u8],
    ) {
        if !request.is_1_1 {
            return self.send_with(conn, request, content_type, content);
        }
        self.field("Content-Type", content_type).field("Transfer-Encoding", "chunked").send(conn);
        if request.is_head() {
            return;
        }
        for chunk in content.chunks(CHUNK_BYTES_MAX) {
            conn.send(format!("{:x}\r\n", chunk.len()).as_bytes()).ignore();
            conn.send(chunk).ignore();
            conn.send(b"\r\n").ignore();
        }
        conn.send(b"0\r\n\r\n").ignore();
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
