//! Strings.

use super::expiry::Unit;
use super::*;

pub(crate) fn get(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.bulk_or_null(keys.of::<Bytes>(args[1])?))
}

pub(crate) fn strlen(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.of::<Bytes>(args[1])?.map_or(0, |string| string.len())))
}

/// What is to become of a key's deadline.
pub(super) enum Deadline<'a> {
    Keep,
    Clear,
    Set(Unit, &'a [u8]),
}

/// The options of SET and GETEX.
pub(super) struct Options<'a> {
    deadline: Option<Deadline<'a>>,
    if_exists: Option<bool>,
}

impl<'a> Options<'a> {
    pub(super) fn parse(args: &[&'a [u8]], is_set: bool) -> Result<Options<'a>, Failure> {
        let mut options = Options { deadline: None, if_exists: None };
        let mut args = args.iter();
        while let Some(option) = args.next() {
            let option = &*option.to_ascii_uppercase();
            let deadline = match (option, is_set) {
                (b"KEEPTTL", true) => Deadline::Keep,
                (b"PERSIST", false) => Deadline::Clear,
                (b"NX" | b"XX", true) => {
                    let if_exists = option == b"XX";
                    if options.if_exists.replace(if_exists) == Some(!if_exists) {
                        return Err(Failure::SYNTAX);
                    }
                    continue;
                }
                _ => {
                    let unit = Unit::of_option(option).ok_or(Failure::SYNTAX)?;
                    Deadline::Set(unit, args.next().ok_or(Failure::SYNTAX)?)
                }
            };
            if options.deadline.replace(deadline).is_some() {
                return Err(Failure::SYNTAX);
            }
        }
        Ok(options)
    }

    /// The deadline that the key is to have, by its options or else as `otherwise` says.
    pub(super) fn expires(
        &self,
        keys: &mut Keys,
        args: Args,
        otherwise: Deadline,
    ) -> Result<u64, Failure> {
        match self.deadline.as_ref().unwrap_or(&otherwise) {
            Deadline::Keep => Ok(keys.expires(args[1]).unwrap_or(NEVER)),
            Deadline::Clear => Ok(NEVER),
            Deadline::Set(unit, number) => unit.deadline_after(number, keys.store.now, args[0]),
        }
    }
}

impl Keys<'_> {
    /// Sets a key to a string with this deadline. The record says the moment, whatever the command said.
    pub(crate) fn set_string(&mut self, key: &[u8], value: &[u8], expires: u64) {
        self.set(key, Value::String(Bytes::from_slice(value)), expires);
        let (database, journal) = (self.number, &mut self.store.journal);
        let mut digits = itoa::Buffer::new();
        let at = digits.format(expires).as_bytes();
        match expires {
            NEVER => journal.record_instead(database, &[b"SET", key, value]),
            _ => journal.record_instead(database, &[b"SET", key, value, b"PXAT", at]),
        }
    }
}

pub(crate) fn set(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (key, value) = (args[1], args[2]);
    let options = Options::parse(&args[3..], true)?;
    let expires = options.expires(keys, args, Deadline::Clear)?;
    let is_wanted = options.if_exists.is_none_or(|wanted| wanted == keys.contains(key));
    if !is_wanted {
        return Ok(reply.null());
    }
    keys.set_string(key, value, expires);
    Ok(reply.ok())
}

pub(crate) fn mget(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    reply.array(args.len() - 1);
    for key in &args[1..] {
        // MGET answers nil for a key of another type.
        reply.bulk_or_null(keys.of::<Bytes>(key).unwrap_or(None));
        reply.check()?;
    }
    Ok(Done)
}

pub(crate) fn mset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (pairs, []) = args[1..].as_chunks::<2>() else {
        return Err(Failure::wrong_arguments("mset"));
    };
    for [key, value] in pairs {
        keys.set(key, Value::String(Bytes::from_slice(value)), NEVER);
    }
    Ok(reply.ok())
}

pub(crate) fn append(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let string = keys.make::<Bytes>(args[1])?;
    if string.len() + args[2].len() > BULK_BYTES_MAX {
        let text = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        return Err(Failure::new(text));
    }
    string.extend_from_slice(args[2]);
    let len = string.len();
    keys.touch(args[1]);
    Ok(reply.count(len))
}
