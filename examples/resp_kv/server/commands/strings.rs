//! Strings.

use super::expiry::options;
use super::*;

pub fn get(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.bulk_or_null(keys.of::<Bytes>(args[1])?))
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
