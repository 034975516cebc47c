//! Strings.

use super::expiry::Unit;
use super::*;

pub fn get(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.bulk_or_null(keys.of::<Bytes>(args[1])?))
}

/// The deadline that options of SET or GETEX give a key, if any; and of SET, whether the key has to be there.
pub type Options = (Option<u64>, Option<bool>);

pub fn options(keys: &mut Keys, args: Args, is_set: bool) -> Result<Options, Failure> {
    let (mut deadline, mut if_exists) = (None, None);
    let mut rest = args[if is_set { 3 } else { 2 }..].iter();
    while let Some(option) = rest.next() {
        let at = match (&*option.to_ascii_uppercase(), is_set) {
            (b"KEEPTTL", true) => keys.expires(args[1]).unwrap_or(NEVER),
            (b"PERSIST", false) => NEVER,
            (word @ (b"NX" | b"XX"), true) => {
                if if_exists.replace(word == b"XX") == Some(word != b"XX") {
                    return Err(Failure::SYNTAX);
                }
                continue;
            }
            (word, _) => {
                let unit = Unit::of_option(word).ok_or(Failure::SYNTAX)?;
                let number = rest.next().ok_or(Failure::SYNTAX)?;
                unit.deadline(number, 1, keys.store.now, args[0])?
            }
        };
        if deadline.replace(at).is_some() {
            return Err(Failure::SYNTAX);
        }
    }
    Ok((deadline, if_exists))
}

impl Keys<'_> {
    /// Sets a key to a string with this deadline. The record says the moment, whatever the command said.
    pub fn set_string(&mut self, key: &[u8], value: &[u8], expires: u64) {
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

pub fn set(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (key, value) = (args[1], args[2]);
    let (deadline, if_exists) = options(keys, args, true)?;
    if if_exists.is_some_and(|wanted| wanted != keys.contains(key)) {
        return Ok(reply.null());
    }
    keys.set_string(key, value, deadline.unwrap_or(NEVER));
    Ok(reply.ok())
}

pub fn mget(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    reply.array(args.len() - 1);
    for key in &args[1..] {
        // MGET answers nil for a key of another type.
        reply.bulk_or_null(keys.of::<Bytes>(key).unwrap_or(None));
        reply.check()?;
    }
    Ok(Done)
}

pub fn mset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (pairs, []) = args[1..].as_chunks::<2>() else {
        return Err(Failure::wrong_arguments("mset"));
    };
    for [key, value] in pairs {
        keys.set(key, Value::String(Bytes::from_slice(value)), NEVER);
    }
    Ok(reply.ok())
}

pub fn append(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
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
