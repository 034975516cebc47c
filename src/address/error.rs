//! What was wrong with the text of an address.

use std::error::Error;
use std::fmt;
use std::io;

use crate::one_line::OneLine;

/// A text is no address, or a name none of a Unix socket.
///
/// Its text is for people: one line that says which part is wrong, what is wrong with it and, where that is
/// not the same, what to write instead. It quotes that part, cut short and with its control characters made
/// visible, and not the whole address: whoever prints it says what was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressError(Box<str>);

impl AddressError {
    pub(super) fn new(message: impl Into<Box<str>>) -> AddressError {
        AddressError(message.into())
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for AddressError {}

/// As `InvalidInput`.
impl From<AddressError> for io::Error {
    fn from(error: AddressError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

pub(super) type Result<T> = std::result::Result<T, AddressError>;

pub(super) fn fail<T>(message: impl Into<Box<str>>) -> Result<T> {
    Err(AddressError::new(message))
}

/// A part of the text as messages show it: it may come from anywhere, and the message go to a log.
pub(super) fn excerpt(text: &str) -> OneLine<&str> {
    const CHARS_MAX: usize = 40;
    OneLine::cut(text, CHARS_MAX)
}

/// A character as messages show it.
pub(super) fn quoted(c: char) -> String {
    format!("'{}'", excerpt(c.encode_utf8(&mut [0; 4])))
}
