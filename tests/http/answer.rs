//! Answers, read strictly: what no client should have to tolerate fails the test.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

/// One answer of the server, with its body as it was before any transfer coding.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub is_chunked: bool,
}

/// How the body ends, RFC 9112, section 6.3.
enum Length {
    Known(usize),
    Chunked,
    ToTheEnd,
}

impl Answer {
    /// The first answer in `bytes`, to a request of this method, and how many bytes it is; `None` if they are too
    /// few, also because the connection has not ended (`is_over`) and only that would tell how long it is.
    ///
    /// # Panics
    ///
    /// If it is malformed.
    pub fn read(bytes: &[u8], method: &str, is_over: bool) -> Option<(Answer, usize)> {
        let (mut answer, head_length) = Answer::read_head(bytes, method)?;
        let rest = &bytes[head_length..];
        let body_length = match answer.length(method) {
            Length::Known(length) => {
                answer.body = rest.get(..length)?.to_vec();
                length
            }
            Length::Chunked => {
                let (body, length) = chunks(rest)?;
                answer.body = body;
                length
            }
            Length::ToTheEnd if is_over => {
                answer.body = rest.to_vec();
                rest.len()
            }
            Length::ToTheEnd => return None,
        };
        Some((answer, head_length + body_length))
    }

    /// The same without its body, whose length must be told in a way that suits the answer.
    pub fn read_head(bytes: &[u8], method: &str) -> Option<(Answer, usize)> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let parsed = head.parse(bytes);
        let parsed = parsed.unwrap_or_else(|e| panic!("{e}: {}", shown(bytes)));
        let httparse::Status::Complete(head_length) = parsed else {
            return None;
        };
        let text = &bytes[..head_length];
        assert!(text.starts_with(b"HTTP/1.1 "), "{}", shown(text));
        let line_ends = |end: u8| text.iter().filter(|byte| **byte == end).count();
        assert_eq!(line_ends(b'\n'), line_ends(b'\r'), "lines end with CRLF: {}", shown(text));
        let fields = head.headers.iter();
        let mut answer = Answer {
            status: head.code.unwrap(),
            fields: fields
                .map(|f| {
                    (f.name.to_ascii_lowercase(), String::from_utf8(f.value.to_vec()).unwrap())
                })
                .collect(),
            body: Vec::new(),
            is_chunked: false,
        };
        answer.is_chunked = matches!(answer.length(method), Length::Chunked);
        Some((answer, head_length))
    }

    /// All that was received on a connection which has ended, in answer to requests of these methods.
    pub fn read_all(mut bytes: &[u8], methods: &[&str]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for method in methods {
            let (answer, length) = Answer::read(bytes, method, true)
                .unwrap_or_else(|| panic!("no whole answer to {method}: {}", shown(bytes)));
            bytes = &bytes[length..];
            answers.push(answer);
        }
        assert!(bytes.is_empty(), "more than {} answers: {}", methods.len(), shown(bytes));
        answers
    }

    /// The value of a field that must not be there twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let (_, value) = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.fields);
        Some(value)
    }

    /// # Panics
    ///
    /// If there is no such field.
    pub fn must_have(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("no {name}: {} {:?}", self.status, self.fields))
    }

    /// Whether the server says that it is the last one.
    pub fn is_last(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn length(&self, method: &str) -> Length {
        let length = self.field("content-length").map(|length| length.parse().unwrap());
        let coding = self.field("transfer-encoding");
        if matches!(self.status, 100..200 | 204) {
            assert!(length.is_none() && coding.is_none(), "{:?}", self.fields);
            return Length::Known(0);
        }
        // RFC 9110, section 6.6.1: whoever has a clock sends it.
        assert!(self.must_have("date").ends_with(" GMT"), "{:?}", self.fields);
        if method == "HEAD" || self.status == 304 {
            return Length::Known(0);
        }
        match (length, coding) {
            (Some(_), Some(_)) => panic!("two lengths: {:?}", self.fields),
            (Some(length), None) => Length::Known(length),
            (None, Some(coding)) => {
                assert_eq!(coding, "chunked");
                Length::Chunked
            }
            (None, None) => {
                assert!(self.is_last(), "nothing tells how long it is: {:?}", self.fields);
                Length::ToTheEnd
            }
        }
    }
}

/// A chunked body, and how many bytes it is with its frame.
fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let parsed = httparse::parse_chunk_size(&bytes[at..]);
        let httparse::Status::Complete((length, size)) = parsed.expect("a chunk's size") else {
            return None;
        };
        at += length;
        let size = usize::try_from(size).unwrap();
        let end = bytes.get(at + size..at + size + 2)?;
        assert_eq!(end, b"\r\n", "a chunk's end, or no trailers: {}", shown(&bytes[at..]));
        body.extend_from_slice(&bytes[at..at + size]);
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// So much of it as is of use to a reader.
pub fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(400)];
    format!("{} bytes: \"{}\"", bytes.len(), start.escape_ascii())
}
