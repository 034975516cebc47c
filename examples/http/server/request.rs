//! What the head of a request says.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use super::body::{Body, Chunks};
use super::response::Refused;
use super::{path, target};

/// More fields are refused.
pub(super) const FIELDS_MAX: usize = 100;
/// The largest content.
pub(super) const CONTENT_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Options,
    /// A method that HTTP has (RFC 9110, 9.3; RFC 5789), and this server does not.
    Known,
    #[default]
    Unknown,
}

/// A request, as far as this server cares, borrowed from its head.
#[derive(Default, Debug)]
pub(super) struct Request<'a> {
    pub(super) head: &'a [u8],
    pub(super) method: Method,
    /// The path, as [`path::normalize`] gives it; `*` for an OPTIONS about the server itself.
    pub(super) path: Cow<'a, str>,
    /// What follows the path, with its `?`; or nothing.
    pub(super) query: &'a str,
    /// HTTP/1.1, not 1.0.
    pub(super) is_1_1: bool,
    /// The connection goes on after the answer.
    pub(super) keeps_alive: bool,
    pub(super) body: Option<Body>,
    pub(super) expects_continue: bool,
    pub(super) range: Option<&'a [u8]>,
    pub(super) if_range: Option<&'a [u8]>,
    /// The values of all such fields, which together are one list (RFC 9110, 5.3).
    pub(super) if_match: Vec<&'a [u8]>,
    /// The same.
    pub(super) if_none_match: Vec<&'a [u8]>,
    pub(super) if_modified_since: Option<&'a [u8]>,
    pub(super) if_unmodified_since: Option<&'a [u8]>,
}

const fn bad(why: &'static str) -> Refused {
    Refused::new(400, why)
}

impl<'a> Request<'a> {
    /// Reads a whole head. A request that is refused is the last one.
    pub(super) fn parse(head: &'a [u8]) -> Result<Request<'a>, Refused> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, &mut fields) {
            Ok(status) if status.is_complete() => {}
            Ok(_) => return Err(bad("the head ends too early")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Refused::new(431, "too many fields"));
            }
            // Also for HTTP/1.2, which is to be taken for 1.1 (RFC 9110, 2.5): the parser does not know it, and nobody sends it.
            Err(httparse::Error::Version) if names_other_version(head) => {
                return Err(Refused::new(505, "this server speaks HTTP/1.1"));
            }
            Err(_) => return Err(bad("the head is malformed")),
        }
        let is_1_1 = parsed.version == Some(1);
        let method = method(parsed.method.unwrap_or_default());
        let (path, query) = target::split(parsed.path.unwrap_or_default(), method)?;
        let path = path::normalize(path)?;
        let mut request = Request { head, method, path, query, is_1_1, ..Request::default() };
        let mut framing = FramingFields::default();
        for field in parsed.headers.iter() {
            request.take_field(&mut framing, field.name, field.value)?;
        }
        let is_host = |host: &[u8]| host.is_empty() || target::is_host(host);
        if !framing.host.map_or(!is_1_1, is_host) {
            return Err(bad("a request of HTTP/1.1 has a Host, and one that is valid"));
        }
        request.keeps_alive = !framing.closes && (is_1_1 || framing.keeps_alive);
        request.body = framing.body(is_1_1)?;
        Ok(request)
    }

    /// The answer is to have no content.
    pub(super) fn is_head(&self) -> bool {
        self.method == Method::Head
    }

    fn take_field(
        &mut self,
        framing: &mut FramingFields<'a>,
        name: &str,
        value: &'a [u8],
    ) -> Result<(), Refused> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // By length first: most fields are none of these.
        match name.len() {
            4 if is("host") => set_or_refuse(&mut framing.host, value)?,
            5 if is("range") => set_or_void(&mut self.range, value),
            6 if is("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refused::new(417, "100-continue is all that can be expected"));
                }
                self.expects_continue = self.is_1_1;
            }
            8 if is("if-range") => set_or_void(&mut self.if_range, value),
            8 if is("if-match") => self.if_match.push(value),
            10 if is("connection") => framing.take_connection(value),
            13 if is("if-none-match") => self.if_none_match.push(value),
            14 if is("content-length") => set_or_refuse(&mut framing.content_length, value)?,
            17 if is("if-modified-since") => set_or_void(&mut self.if_modified_since, value),
            17 if is("transfer-encoding") => set_or_refuse(&mut framing.transfer_encoding, value)?,
            19 if is("if-unmodified-since") => set_or_void(&mut self.if_unmodified_since, value),
            _ => {}
        }
        Ok(())
    }
}

/// The fields that say together where the request ends, and whether it is the last one.
#[derive(Default)]
struct FramingFields<'a> {
    host: Option<&'a [u8]>,
    closes: bool,
    keeps_alive: bool,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
}

impl FramingFields<'_> {
    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// The body. What another server might give another length is refused, as it would take content for a request
    /// (RFC 9112, 6.1 and 6.3).
    fn body(&self, is_1_1: bool) -> Result<Option<Body>, Refused> {
        match (self.content_length, self.transfer_encoding) {
            (Some(_), Some(_)) => Err(bad("Content-Length and Transfer-Encoding")),
            (None, Some(_)) if !is_1_1 => Err(bad("HTTP/1.0 has no Transfer-Encoding")),
            (None, Some(codings)) => {
                check_codings(codings)?;
                Ok(Some(Body::Chunked(Box::new(Chunks::new()))))
            }
            (Some(length), None) => match content_length(length)? {
                0 => Ok(None),
                length if length > CONTENT_BYTES_MAX => {
                    Err(Refused::new(413, "the content is too large"))
                }
                length => Ok(Some(Body::Counted(length as usize))),
            },
            (None, None) => Ok(None),
        }
    }
}

/// Sets a field that is no list (RFC 9110, 5.3): two of them say nothing.
fn set_or_void<'a>(field: &mut Option<&'a [u8]>, value: &'a [u8]) {
    *field = Some(if field.is_some() { b"" } else { value });
}

/// Sets a field of which another server might take the first, or the last one: two of them are refused.
fn set_or_refuse<'a>(field: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), Refused> {
    match field.replace(value) {
        Some(_) => Err(bad("Host, Content-Length or Transfer-Encoding is there twice")),
        None => Ok(()),
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "OPTIONS" => Method::Options,
        "PUT" | "DELETE" | "PATCH" | "TRACE" | "CONNECT" => Method::Known,
        _ => Method::Unknown,
    }
}

/// Whether the request line has a version that looks like one (RFC 9112, 2.3).
fn names_other_version(head: &[u8]) -> bool {
    let version = head.split(|byte| *byte == b' ').nth(2).unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b'\r', ..])
}

fn content_length(value: &[u8]) -> Result<u64, Refused> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad("a Content-Length is a number"));
    }
    // A number that is too large for an integer is too large for this server.
    Ok(str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX))
}

fn check_codings(value: &[u8]) -> Result<(), Refused> {
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let mut codings = value.rsplit(|byte| *byte == b',');
    if !codings.next().is_some_and(is_chunked) || codings.clone().any(is_chunked) {
        return Err(bad("the last transfer coding is chunked, and no other one"));
    }
    if codings.next().is_some() {
        return Err(Refused::new(501, "chunked is the only transfer coding here"));
    }
    Ok(())
}
