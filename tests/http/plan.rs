//! What simulated clients ask, and what they must be answered.

use std::ops::Range;
use std::sync::Arc;

use crate::answer::{Answer, shown};
use crate::memory::Memory;

/// Files that are served: one that fits into a packet, one that does not fit into a socket, one that the server does
/// not keep in memory, and one that is empty.
pub const FILES: [(&str, usize); 5] = [
    ("/small.txt", 40),
    ("/page.html", 6_000),
    ("/large.bin", 150_000),
    ("/empty", 0),
    ("/d/index.html", 100),
];

/// Bytes that tell where they stand, and in which version of which file.
pub fn content(path: &str, version: usize, length: usize) -> Vec<u8> {
    let salt = path.len() * 31 + version * 101;
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16) ^ salt) as u8).collect()
}

/// Numbers that follow from the seed.
pub type Random<'a> = &'a mut dyn FnMut() -> u64;

fn below(random: Random<'_>, end: usize) -> usize {
    (random() % end as u64) as usize
}

/// True once in so many times.
pub fn once_in(random: Random<'_>, times: usize) -> bool {
    below(random, times) == 0
}

/// All requests, cut anywhere or nowhere.
pub fn pieces(random: Random<'_>, plan: &[Exchange]) -> Vec<Vec<u8>> {
    let bytes = plan.iter().map(|exchange| &exchange.sent[..]).collect::<Vec<_>>().concat();
    let mut cuts: Vec<_> = (0..random() % 4).map(|_| random() as usize % bytes.len()).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect()
}

/// A request for the file at `path`.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A request, and what its answer must be.
pub struct Exchange {
    pub method: &'static str,
    pub sent: Vec<u8>,
    expected: Expected,
    may_continue: bool,
    may_time_out: bool,
    files: Arc<Memory>,
}

enum Expected {
    /// A file, or this part of it.
    File(&'static str, Option<Range<usize>>),
    /// Several parts of one.
    Parts(&'static str, Vec<Range<usize>>),
    /// These bytes.
    Echo(Vec<u8>),
    /// JSON that is not known before.
    Json,
    /// No more than this.
    Status(u16),
}

impl Exchange {
    /// Any request. Where it can be it has a number of its own, so that its answer is no other one's.
    pub fn any(random: Random<'_>, files: &Arc<Memory>) -> Exchange {
        let tag = random();
        // The large one takes its time.
        let file = if once_in(random, 4) { below(random, FILES.len()) } else { 0 };
        let (path, length) = FILES[file];
        let get = |fields: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let exchange = |method, sent: String, expected| Exchange {
            method,
            sent: sent.into_bytes(),
            expected,
            may_continue: false,
            may_time_out: false,
            files: Arc::clone(files),
        };
        match random() % 12 {
            0 | 1 => exchange("GET", get(""), Expected::File(path, None)),
            2 if length > 0 => {
                let start = below(random, length);
                let end = start + below(random, length - start) + 1;
                let field = format!("Range: bytes={start}-{}\r\n", end - 1);
                exchange("GET", get(&field), Expected::File(path, Some(start..end)))
            }
            3 if length > 20 => {
                let third = length / 3;
                let parts =
                    vec![0..below(random, third - 1) + 1, third..third + 5, length - 3..length];
                let ranges: Vec<_> =
                    parts.iter().map(|part| format!("{}-{}", part.start, part.end - 1)).collect();
                let field = format!("Range: bytes={}\r\n", ranges.join(","));
                exchange("GET", get(&field), Expected::Parts(path, parts))
            }
            4 => {
                let sent = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                exchange("HEAD", sent, Expected::File(path, None))
            }
            5 => exchange("GET", get("If-None-Match: *\r\n"), Expected::Status(304)),
            6 => {
                let sent = format!("GET /nothing/{tag} HTTP/1.1\r\nHost: a\r\n\r\n");
                exchange("GET", sent, Expected::Status(404))
            }
            7 => {
                let sent = "GET /api/stats HTTP/1.1\r\nHost: a\r\n\r\n".to_string();
                exchange("GET", sent, Expected::Json)
            }
            8 => {
                // A body that a file has no use for.
                let body = "GET /small.txt HTTP/1.1\r\n\r\n";
                let sent = get(&format!("Content-Length: {}\r\n", body.len())) + body;
                exchange("GET", sent, Expected::File(path, None))
            }
            kind => {
                let length_max = [10, 10, 3_000, 30_000][below(random, 4)];
                let mut body = tag.to_string().into_bytes();
                body.extend(content("/api/echo", 0, below(random, length_max)));
                let may_continue = once_in(random, 4);
                let mut sent = b"POST /api/echo HTTP/1.1\r\nHost: a\r\n".to_vec();
                if may_continue {
                    sent.extend(b"Expect: 100-continue\r\n");
                }
                if kind == 9 {
                    sent.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                    sent.extend(&body);
                } else {
                    sent.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                    sent.extend(chunked(random, &body));
                }
                let exchange = exchange("POST", String::new(), Expected::Echo(body));
                Exchange { sent, may_continue, ..exchange }
            }
        }
    }

    /// A request that is refused, together with all that follows it.
    pub fn refused(random: Random<'_>, files: &Arc<Memory>) -> Exchange {
        const HEADS: [&str; 6] = [
            "GET /small.txt HTTP/1.1\nHost: a\n\n",
            "GET /small.txt HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET /small.txt HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
            "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /api/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ];
        Exchange {
            method: "GET",
            sent: HEADS[below(random, HEADS.len())].into(),
            expected: Expected::Status(400),
            may_continue: false,
            may_time_out: false,
            files: Arc::clone(files),
        }
    }

    /// Says that this is the last request.
    pub fn close(mut self) -> Exchange {
        let line = self.sent.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        self.sent.splice(line..line, *b"Connection: close\r\n");
        self
    }

    /// Whether the request may not come to the server, or a part of it, who is then tired of waiting.
    pub fn may_time_out(mut self, may: bool) -> Exchange {
        self.may_time_out = may;
        self
    }

    /// The answer that `bytes` begin with, and how many of them it is with what may come before it; `None` if they are
    /// too few.
    ///
    /// # Panics
    ///
    /// If it is not what it must be.
    pub fn read(&self, bytes: &[u8]) -> Option<(Answer, usize)> {
        let (answer, length) = Answer::read(bytes, self.method, false)?;
        if answer.status != 100 {
            self.check(&answer);
            return Some((answer, length));
        }
        assert!(self.may_continue, "{}", shown(bytes));
        let (answer, rest) = Answer::read(&bytes[length..], self.method, false)?;
        self.check(&answer);
        Some((answer, length + rest))
    }

    /// As much of an answer as came before the connection ended is its beginning.
    pub fn check_beginning(&self, bytes: &[u8]) {
        let Some((answer, length)) = Answer::read_head(bytes, self.method) else {
            return;
        };
        let body = &bytes[length..];
        if answer.status == 100 {
            return self.check_beginning(body);
        }
        if answer.status == 408 && self.may_time_out {
            return;
        }
        let asked = shown(&self.sent);
        assert_eq!(answer.status, self.status(), "another status: {asked}: {:?}", answer.fields);
        if answer.field("content-length").is_some() {
            let is_it = self.body(&answer).is_none_or(|all| all.starts_with(body));
            assert!(is_it, "another body: {asked}: {:?} {}", answer.fields, shown(body));
        }
    }

    fn status(&self) -> u16 {
        match self.expected {
            Expected::File(_, None) | Expected::Echo(_) | Expected::Json => 200,
            Expected::File(_, Some(_)) | Expected::Parts(..) => 206,
            Expected::Status(status) => status,
        }
    }

    /// What the body must be, if that is known: of a file, the version that the answer says it is of.
    fn body(&self, answer: &Answer) -> Option<Vec<u8>> {
        match &self.expected {
            _ if self.method == "HEAD" => Some(Vec::new()),
            Expected::File(path, part) => {
                let file = self.files.version(path, answer.must_have("last-modified"));
                let part = part.clone().unwrap_or(0..file.len());
                Some(file[part].to_vec())
            }
            Expected::Echo(sent) => Some(sent.clone()),
            _ => None,
        }
    }

    fn check(&self, answer: &Answer) {
        let seen = || {
            let (asked, body) = (shown(&self.sent), shown(&answer.body));
            format!("{asked}: {} {:?} {body}", answer.status, answer.fields)
        };
        if answer.status == 408 && self.may_time_out {
            return assert!(answer.is_last(), "{}", seen());
        }
        assert_eq!(answer.status, self.status(), "another status: {}", seen());
        if let Some(body) = self.body(answer) {
            assert!(answer.body == body, "another body: {}", seen());
        }
        match &self.expected {
            Expected::File(path, None) => {
                let file = self.files.version(path, answer.must_have("last-modified"));
                assert_eq!(answer.must_have("content-length"), file.len().to_string());
            }
            Expected::Parts(path, parts) => {
                let file = self.files.version(path, answer.must_have("last-modified"));
                let parts: Vec<_> = parts.iter().map(|part| &file[part.clone()]).collect();
                assert_parts(answer, &parts);
            }
            Expected::Json => {
                assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok());
            }
            Expected::Status(400) => {
                assert!(answer.is_last(), "refused, and not the last: {}", seen())
            }
            _ => {}
        }
    }
}

/// In chunks of any size.
fn chunked(random: Random<'_>, mut body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(below(random, body.len().min(4_000)) + 1);
        chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunks.extend(chunk);
        chunks.extend(b"\r\n");
        body = rest;
    }
    chunks.extend(b"0\r\n\r\n");
    chunks
}

/// The body of the answer has exactly these parts.
fn assert_parts(answer: &Answer, parts: &[&[u8]]) {
    let content_type = answer.must_have("content-type");
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut rest = &answer.body[..];
    for part in parts {
        // The line's end before a boundary is a part of it, but the first one needs none.
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let delimiter = format!("--{boundary}\r\n");
        assert!(rest.starts_with(delimiter.as_bytes()), "{}", shown(rest));
        let head = rest.windows(4).position(|end| end == b"\r\n\r\n").expect("a part's head") + 4;
        assert!(rest[head..].starts_with(part), "{} and {}", shown(&rest[head..]), shown(part));
        rest = &rest[head + part.len()..];
    }
    assert_eq!(rest, format!("\r\n--{boundary}--\r\n").as_bytes());
}
