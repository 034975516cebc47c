//! Writes replies, in either version of the protocol.

use std::borrow::Cow;

/// The longest reply of several strings, of one command or one transaction: a short command can ask for the same large
/// value a million times. A single string always has room.
pub const REPLY_BYTES_MAX: usize = 128 << 20;

/// What came of a command. It has written its reply, unless it owes none now; or it has failed, and what it has written
/// by then is taken back.
pub type Outcome = Result<Done, Failure>;

/// The methods of [`Reply`] return it: so no command forgets its reply.
#[derive(Debug)]
pub struct Done;

/// Why a command was not carried out: the text for its client, which begins with the kind of error.
#[derive(Debug)]
pub struct Failure(pub Cow<'static, str>);

impl Failure {
    pub const SYNTAX: Failure = Failure::new("ERR syntax error");
    pub const NOT_AN_INTEGER: Failure = Failure::new("ERR value is not an integer or out of range");
    pub const NO_SUCH_KEY: Failure = Failure::new("ERR no such key");
    pub const OVERFLOW: Failure = Failure::new("ERR increment or decrement would overflow");
    pub const TOO_LARGE: Failure = Failure::new("ERR the reply would be too large");
    pub const WRONG_TYPE: Failure =
        Failure::new("WRONGTYPE Operation against a key holding the wrong kind of value");

    pub const fn new(text: &'static str) -> Failure {
        Failure(Cow::Borrowed(text))
    }

    pub fn wrong_arguments(command: &str) -> Failure {
        Failure::from(format!("ERR wrong number of arguments for '{command}' command"))
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure(text.into())
    }
}

/// Writes replies for one client, in the version of the protocol that it speaks: 2, or 3 after `HELLO 3`.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: u8,
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Vec<u8>, protocol: u8) -> Reply<'a> {
        Reply { out, protocol }
    }

    pub fn ok(&mut self) -> Done {
        self.write(b"+OK\r\n")
    }

    pub fn simple(&mut self, text: &str) -> Done {
        self.line(b'+', text.as_bytes())
    }

    /// The text begins with the kind of error, such as `ERR`. It may contain what a client sent; ends of lines in that
    /// become spaces, as an error is one line.
    pub fn error(&mut self, text: &str) -> Done {
        self.line(b'-', text.replace(['\r', '\n'], " ").as_bytes())
    }

    pub fn integer(&mut self, number: i64) -> Done {
        let mut digits = itoa::Buffer::new();
        self.line(b':', digits.format(number).as_bytes())
    }

    pub fn count(&mut self, count: usize) -> Done {
        self.integer(count as i64)
    }

    pub fn bulk(&mut self, bytes: &[u8]) -> Done {
        self.header(b'$', bytes.len());
        self.write(bytes);
        self.write(b"\r\n")
    }

    /// Each of these strings. As this may fail, a command takes them out of a key afterwards, or puts them back.
    pub fn bulks(&mut self, strings: impl IntoIterator<Item: AsRef<[u8]>>) -> Outcome {
        for string in strings {
            self.bulk(string.as_ref());
            self.check()?;
        }
        Ok(Done)
    }

    pub fn bulk_or_null(&mut self, string: Option<impl AsRef<[u8]>>) -> Done {
        match string {
            Some(string) => self.bulk(string.as_ref()),
            None => self.null(),
        }
    }

    pub fn null(&mut self) -> Done {
        self.either(b"$-1\r\n", b"_\r\n")
    }

    /// The null that stands for an array: of EXEC, and of a blocking pop that timed out.
    pub fn null_array(&mut self) -> Done {
        self.either(b"*-1\r\n", b"_\r\n")
    }

    /// So many replies follow.
    pub fn array(&mut self, len: usize) -> Done {
        self.header(b'*', len)
    }

    /// So many pairs follow.
    pub fn map(&mut self, pairs: usize) -> Done {
        if self.protocol == 2 { self.header(b'*', 2 * pairs) } else { self.header(b'%', pairs) }
    }

    /// So many members follow.
    pub fn set(&mut self, len: usize) -> Done {
        self.header(if self.protocol == 2 { b'*' } else { b'~' }, len)
    }

    /// So many parts follow of a message that is no reply.
    pub fn push(&mut self, len: usize) -> Done {
        self.header(if self.protocol == 2 { b'*' } else { b'>' }, len)
    }

    fn header(&mut self, kind: u8, len: usize) -> Done {
        let mut digits = itoa::Buffer::new();
        self.line(kind, digits.format(len).as_bytes())
    }

    fn line(&mut self, kind: u8, text: &[u8]) -> Done {
        self.write(&[kind]);
        self.write(text);
        self.write(b"\r\n")
    }

    fn either(&mut self, two: &[u8], three: &[u8]) -> Done {
        self.write(if self.protocol == 2 { two } else { three })
    }

    /// Bytes that are a whole reply or message, or a part of one.
    pub fn write(&mut self, bytes: &[u8]) -> Done {
        self.out.extend_from_slice(bytes);
        Done
    }

    /// # Errors
    ///
    /// What was written is longer than [`REPLY_BYTES_MAX`].
    pub fn check(&self) -> Result<(), Failure> {
        if self.out.len() > REPLY_BYTES_MAX { Err(Failure::TOO_LARGE) } else { Ok(()) }
    }
}
