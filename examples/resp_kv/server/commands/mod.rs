//! The commands: one table, and a file for each family.

mod client;
mod combined;
mod connection;
mod expiry;
mod generic;
mod hashes;
mod info;
mod lists;
mod numbers;
mod sets;
mod strings;
mod table;

use std::str::FromStr;

use oneloop::Connection;

// The families begin with `use super::*`: they see this and all that stands below.
use super::Server;
use super::keys::Keys;
use super::pattern::{self, check_name};
use super::protocol::BULK_BYTES_MAX;
pub use super::reply::{Done, Failure, Outcome, Reply};
use super::store::{BYTES_PER_WORK, DATABASES, NEVER, STEPS_PER_WORK};
use super::values::{Bytes, Hash, List, Set, Type, Value};

pub use self::connection::database;
pub use self::lists::Side;
pub use self::table::COMMANDS;

/// One row of the table.
pub struct Command {
    pub name: &'static str,
    /// How many arguments it has with its name; if negative, at least so many.
    pub arity: i32,
    /// It changes keys, or sends messages to others. CLIENT PAUSE WRITE puts these off: also PUBLISH and BLPOP.
    pub writes: bool,
    pub run: Run,
}

impl Command {
    /// Whether it is carried out at once also within a transaction.
    pub fn is_never_queued(&self) -> bool {
        matches!(self.name, "multi" | "exec" | "discard" | "watch" | "quit")
    }

    /// Whether a client that subscribes to something may call it also in version 2 of the protocol.
    pub fn is_for_subscribers(&self) -> bool {
        matches!(self.name, "ping" | "quit") || self.name.ends_with("subscribe")
    }

    /// Whether it may have so many arguments with its name.
    pub fn takes(&self, arguments: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arguments >= least } else { arguments == least }
    }
}

/// The function that carries out a command. Unless it fails it writes what its client is to get now, mostly one reply.
pub enum Run {
    /// It needs nothing but the keys of a database. So it can be carried out again when the append-only file is read.
    OnKeys(OnKeys),
    /// It may need all that the server knows. Its client is the current one.
    OnServer(fn(&mut Server, &mut Connection, Args) -> Outcome),
}

pub type OnKeys = fn(&mut Keys, Args, &mut Reply) -> Outcome;

/// A command's arguments, the first of which is its name.
pub type Args<'a> = &'a [&'a [u8]];

/// An integer as the protocol writes it: no plus sign, no zeros in front, no spaces.
pub fn integer(text: &[u8]) -> Result<i64, Failure> {
    const BYTES_MAX: usize = "-9223372036854775808".len();
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = text == b"0" || matches!(digits, [b'1'..=b'9', ..]);
    parse(text, BYTES_MAX).filter(|_| is_plain).ok_or(Failure::NOT_AN_INTEGER)
}

/// A count, which is not negative.
pub fn count(text: &[u8]) -> Result<usize, Failure> {
    let number = integer(text).ok().and_then(|number| usize::try_from(number).ok());
    number.ok_or(Failure::new("ERR value is out of range, must be positive"))
}

/// A number. It may be infinite.
pub fn float(text: &[u8]) -> Result<f64, Failure> {
    const BYTES_MAX: usize = 512; // more than the longest that is written
    let number = parse(text, BYTES_MAX).filter(|number: &f64| !number.is_nan());
    number.ok_or(Failure::new("ERR value is not a valid float"))
}

/// A number that is written in so many bytes at most: of a longer text no byte is looked at.
fn parse<T: FromStr>(text: &[u8], bytes_max: usize) -> Option<T> {
    let text = Some(text).filter(|text| text.len() <= bytes_max)?;
    str::from_utf8(text).ok()?.parse().ok()
}

pub fn is_word(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// What a client sent, as text for an error: the beginning of it, with an escape for each byte that cannot be printed.
pub fn quote(argument: &[u8]) -> String {
    argument[..argument.len().min(128)].escape_ascii().to_string()
}
