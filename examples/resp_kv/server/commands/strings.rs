//! Strings, and numbers in them.

use super::super::bytes::Bytes;
use super::super::keys::Keys;
use super::super::protocol::BULK_BYTES_MAX;
use super::super::reply::{Done, Reply};
use super::super::store::{NEVER, Value};
use super::keys::Unit;
use super::{Args, Failure, Outcome, float_sum, integer, is_word};

pub(crate) fn get(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.bulk_or_null(keys.string(args[1])?.map(|string| &**string)))
}

pub(crate) fn strlen(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.string(args[1])?.map_or(0, |string| string.len())))
}

/// What is to become of a key's deadline.
enum Deadline {
    Keep,
    Clear,
    At(u64),
}

/// The options of SET and GETEX.
struct Options {
    deadline: Option<Deadline>,
    if_exists: Option<bool>,
    get: bool,
}

impl Options {
    fn parse(now: u64, args: Args, command: &str) -> Result<Options, Failure> {
        let mut options = Options { deadline: None, if_exists: None, get: false };
        let is_set = command == "set";
        let mut args = args.iter();
        while let Some(option) = args.next() {
            let deadline = if let Some(unit) = Unit::of_option(option) {
                let number = args.next().ok_or(Failure::SYNTAX)?;
                Deadline::At(unit.deadline_after(number, now, command)?)
            } else if is_set && is_word(option, "KEEPTTL") {
                Deadline::Keep
            } else if !is_set && is_word(option, "PERSIST") {
                Deadline::Clear
            } else if is_set && (is_word(option, "NX") || is_word(option, "XX")) {
                if options.if_exists.replace(is_word(option, "XX")).is_some() {
                    return Err(Failure::SYNTAX);
                }
                continue;
            } else if is_set && is_word(option, "GET") {
                options.get = true;
                continue;
            } else {
                return Err(Failure::SYNTAX);
            };
            if options.deadline.replace(deadline).is_some() {
                return Err(Failure::SYNTAX);
            }
        }
        Ok(options)
    }
}

pub(crate) fn set(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (key, value) = (args[1], args[2]);
    if args.len() == 3 {
        keys.set(key, Value::String(Bytes::from(value)), NEVER);
        return Ok(reply.ok());
    }
    let options = Options::parse(keys.store.now, &args[3..], "set")?;
    let old = if options.get { keys.string(key)?.cloned() } else { None };
    let exists = keys.contains(key);
    let is_wanted = options.if_exists.is_none_or(|wanted| wanted == exists);
    if is_wanted {
        let expires = match options.deadline {
            Some(Deadline::At(at)) => at,
            Some(Deadline::Keep) => keys.expires(key).unwrap_or(NEVER),
            _ => NEVER,
        };
        keys.set(key, Value::String(Bytes::from(value)), expires);
        keys.record_string(key, value, expires);
    }
    Ok(match (options.get, is_wanted) {
        (true, _) => reply.bulk_or_null(old.as_deref()),
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    })
}

impl Keys<'_> {
    /// Gives a key that is a string, or none, this one; its deadline stays.
    fn replace_string(&mut self, key: &[u8], string: &[u8]) {
        *self.get_or_insert(key, |_| Value::String(Bytes::default())) =
            Value::String(Bytes::from(string));
        self.touch(key);
    }

    /// Records that a key has this string and this deadline.
    fn record_string(&mut self, key: &[u8], value: &[u8], expires: u64) {
        let (database, journal) = (self.number, &mut self.store.journal);
        let mut digits = itoa::Buffer::new();
        let at = digits.format(expires).as_bytes();
        match expires {
            NEVER => journal.record_instead(database, &[b"SET", key, value]),
            _ => journal.record_instead(database, &[b"SET", key, value, b"PXAT", at]),
        }
    }
}

pub(crate) fn setex(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let at = Unit::Seconds.deadline_after(args[2], keys.store.now, "setex")?;
    keys.set(args[1], Value::String(Bytes::from(args[3])), at);
    keys.record_string(args[1], args[3], at);
    Ok(reply.ok())
}

pub(crate) fn setnx(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let is_new = !keys.contains(args[1]);
    if is_new {
        keys.set(args[1], Value::String(Bytes::from(args[2])), NEVER);
    }
    Ok(reply.integer(is_new.into()))
}

pub(crate) fn getset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let replied = get(keys, args, reply)?;
    keys.set(args[1], Value::String(Bytes::from(args[2])), NEVER);
    Ok(replied)
}

pub(crate) fn getdel(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let replied = get(keys, args, reply)?;
    keys.remove(args[1]);
    Ok(replied)
}

pub(crate) fn getex(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(keys.store.now, &args[2..], "getex")?;
    let replied = get(keys, args, reply)?;
    match options.deadline {
        Some(Deadline::At(at)) if keys.contains(args[1]) => keys.expire_at(args[1], at),
        Some(Deadline::Clear) => {
            keys.persist(args[1]);
        }
        _ => {}
    }
    Ok(replied)
}

pub(crate) fn mget(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    reply.array(args.len() - 1);
    for key in &args[1..] {
        // What is no string is not there, for once.
        reply.bulk_or_null(keys.string(key).unwrap_or(None).map(|string| &**string));
    }
    Ok(Done)
}

pub(crate) fn mset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (pairs, []) = args[1..].as_chunks::<2>() else {
        return Err(Failure::wrong_arguments("mset"));
    };
    for pair in pairs {
        keys.set(pair[0], Value::String(Bytes::from(pair[1])), NEVER);
    }
    Ok(reply.ok())
}

pub(crate) fn append(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (key, more) = (args[1], args[2]);
    if keys.string(key)?.map_or(0, |string| string.len()) + more.len() > BULK_BYTES_MAX {
        return Err(Failure::TOO_LONG);
    }
    let string = keys.get_or_insert(key, |_| Value::String(Bytes::default()));
    let Value::String(string) = string else { unreachable!("asked before") };
    string.append(more);
    let len = string.len();
    keys.touch(key);
    Ok(reply.count(len))
}

pub(crate) fn getrange(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    let string = keys.string(args[1])?.map_or(&b""[..], |string| string);
    Ok(reply.bulk(&string[super::range(start, stop, string.len())]))
}

pub(crate) fn add(keys: &mut Keys, args: Args, reply: &mut Reply, by: i64) -> Outcome {
    let key = args[1];
    let number = keys.string(key)?.map_or(Ok(0), |string| integer(string))?;
    let number =
        number.checked_add(by).ok_or(Failure::new("ERR increment or decrement would overflow"))?;
    let mut digits = itoa::Buffer::new();
    keys.replace_string(key, digits.format(number).as_bytes());
    Ok(reply.integer(number))
}

pub(crate) fn incrby(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    add(keys, args, reply, integer(args[2])?)
}

pub(crate) fn decrby(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let by = integer(args[2])?.checked_neg().ok_or(Failure::new("ERR decrement would overflow"))?;
    add(keys, args, reply, by)
}

pub(crate) fn incrbyfloat(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let key = args[1];
    let number = keys.string(key)?.map_or(&b"0"[..], |string| &**string);
    let sum = float_sum(number, args[2], Failure::NOT_A_FLOAT)?;
    keys.replace_string(key, sum.as_bytes());
    let expires = keys.expires(key).unwrap_or(NEVER);
    keys.record_string(key, sum.as_bytes(), expires);
    Ok(reply.bulk(sum.as_bytes()))
}
