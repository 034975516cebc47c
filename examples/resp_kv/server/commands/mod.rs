//! The commands: one table, and a file for each family.

mod client;
mod connection;
mod generic;
mod hashes;
mod info;
mod lists;
mod sets;
mod strings;
mod table;

use std::borrow::Cow;

use oneloop::Connection;

// The families begin with `use super::*`: they see this and all that stands below.
use super::Server;
use super::bytes::Bytes;
use super::keys::Keys;
use super::pattern;
use super::protocol::BULK_BYTES_MAX;
use super::reply::{Done, Reply};
use super::store::{DATABASES, NEVER, STEPS_PER_WORK};
use super::values::{Hash, List, Set, Value};

pub(crate) use self::connection::database;
pub(crate) use self::lists::Side;
pub(crate) use self::table::COMMANDS;

/// One row of the table.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// How many arguments it has with its name; if negative, at least so many.
    pub(crate) arity: i32,
    /// It changes keys, or sends messages to others. CLIENT PAUSE WRITE puts these off: also PUBLISH and BLPOP.
    pub(crate) writes: bool,
    pub(crate) run: Run,
    /// It is carried out at once also within a transaction.
    pub(crate) is_never_queued: bool,
    /// A client that subscribes to something may call it also in version 2 of the protocol.
    pub(crate) is_for_subscribers: bool,
}

impl Command {
    const fn never_queued(self) -> Command {
        Command { is_never_queued: true, ..self }
    }

    const fn for_subscribers(self) -> Command {
        Command { is_for_subscribers: true, ..self }
    }

    /// Whether it may have so many arguments with its name.
    pub(crate) fn takes(&self, arguments: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arguments >= least } else { arguments == least }
    }
}

/// The function that carries out a command. Unless it fails it writes what its client is to get now, mostly one reply.
pub(crate) enum Run {
    /// It needs nothing but the keys of a database. So it can be carried out again when the append-only file is read.
    OnKeys(fn(&mut Keys, Args, &mut Reply) -> Outcome),
    /// It may need all that the server knows. Its client is the current one.
    OnServer(fn(&mut Server, &mut Connection, Args) -> Outcome),
}

/// A command's arguments, the first of which is its name.
pub(crate) type Args<'a> = &'a [&'a [u8]];

pub(crate) type Outcome = Result<Done, Failure>;

/// Why a command was not carried out: the text for its client, which begins with the kind of error.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Cow<'static, str>);

impl Failure {
    pub(crate) const SYNTAX: Failure = Failure::new("ERR syntax error");
    pub(crate) const NOT_AN_INTEGER: Failure =
        Failure::new("ERR value is not an integer or out of range");
    pub(crate) const NO_SUCH_KEY: Failure = Failure::new("ERR no such key");
    pub(crate) const OVERFLOW: Failure = Failure::new("ERR increment or decrement would overflow");
    const NO_ROOM: Failure =
        Failure::new("ERR the reply would be too large, and nothing is taken out");
    pub(crate) const WRONG_TYPE: Failure =
        Failure::new("WRONGTYPE Operation against a key holding the wrong kind of value");

    pub(crate) const fn new(text: &'static str) -> Failure {
        Failure(Cow::Borrowed(text))
    }

    pub(crate) fn wrong_arguments(command: &str) -> Failure {
        Failure(format!("ERR wrong number of arguments for '{command}' command").into())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure(text.into())
    }
}

/// An integer as the protocol writes it: no plus sign, no zeros in front, no spaces.
pub(crate) fn integer(text: &[u8]) -> Result<i64, Failure> {
    const BYTES_MAX: usize = "-9223372036854775808".len();
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = text.len() <= BYTES_MAX && matches!(digits, [b'1'..=b'9', ..]) || text == b"0";
    let number = str::from_utf8(text).ok().filter(|_| is_plain).and_then(|text| text.parse().ok());
    number.ok_or(Failure::NOT_AN_INTEGER)
}

/// A count, which is not negative.
pub(crate) fn count(text: &[u8]) -> Result<usize, Failure> {
    let number = integer(text).ok().and_then(|number| usize::try_from(number).ok());
    number.ok_or(Failure::new("ERR value is out of range, must be positive"))
}

/// A number. Redis reads no longer ones, either.
pub(crate) fn float(text: &[u8]) -> Result<f64, Failure> {
    const BYTES_MAX: usize = 5 * 1024;
    let is_plain =
        text.len() <= BYTES_MAX && text.first().is_some_and(|byte| !byte.is_ascii_whitespace());
    let number = str::from_utf8(text).ok().filter(|_| is_plain).and_then(|text| text.parse().ok());
    number
        .filter(|number: &f64| !number.is_nan())
        .ok_or(Failure::new("ERR value is not a valid float"))
}

/// A name of a client or a channel, or a pattern of names, if it is not too long: matching takes as many steps as the
/// product of the lengths.
///
/// # Errors
///
/// It is longer than that.
pub(crate) fn check_name(name: &[u8]) -> Result<&[u8], Failure> {
    const BYTES_MAX: usize = 256;
    if name.len() > BYTES_MAX {
        let text = format!("ERR a name or pattern has at most {BYTES_MAX} bytes");
        return Err(text.into());
    }
    Ok(name)
}

/// A command that takes something out of the keys asks before whether that has room in the reply. It would be lost
/// otherwise, with the client that is dropped.
///
/// # Errors
///
/// It has no room.
fn check_room(reply: &Reply, strings: usize, bytes: usize) -> Result<(), Failure> {
    if reply.has_room(strings, bytes) { Ok(()) } else { Err(Failure::NO_ROOM) }
}

/// The same for one string, however long it is.
pub(crate) fn check_room_for_one(reply: &Reply) -> Result<(), Failure> {
    check_room(reply, 1, BULK_BYTES_MAX)
}

pub(crate) fn is_word(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// What a client sent, as text for an error: the beginning of it, with an escape for each byte that cannot be printed.
pub(crate) fn quote(argument: &[u8]) -> String {
    argument[..argument.len().min(128)].escape_ascii().to_string()
}

/// The part of `len` elements from `start` to `stop` inclusive, each counted from the end if negative.
fn range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let from_start = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let start = from_start(start).clamp(0, len);
    let stop = from_start(stop).saturating_add(1).clamp(start, len);
    start as usize..stop as usize
}
