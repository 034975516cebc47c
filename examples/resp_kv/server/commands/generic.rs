//! Commands for keys of any type.

use std::ops::Range;

use super::*;

/// How an argument gives a time: in so many milliseconds each, from now on or since 1970.
#[derive(Clone, Copy)]
pub(crate) struct Unit {
    millis: i64,
    is_from_now: bool,
}

impl Unit {
    pub(crate) const SECONDS: Unit = Unit { millis: 1000, is_from_now: true };
    pub(crate) const MILLIS: Unit = Unit { millis: 1, is_from_now: true };
    pub(crate) const SECONDS_SINCE_1970: Unit = Unit { millis: 1000, is_from_now: false };
    pub(crate) const MILLIS_SINCE_1970: Unit = Unit { millis: 1, is_from_now: false };

    /// The option of SET and GETEX with this name.
    pub(crate) fn of_option(name: &[u8]) -> Option<Unit> {
        match &*name.to_ascii_uppercase() {
            b"EX" => Some(Unit::SECONDS),
            b"PX" => Some(Unit::MILLIS),
            b"EXAT" => Some(Unit::SECONDS_SINCE_1970),
            b"PXAT" => Some(Unit::MILLIS_SINCE_1970),
            _ => None,
        }
    }

    /// The moment in milliseconds since 1970; 0 for all that are earlier. `None` for one that is too late.
    fn deadline(self, number: i64, now: u64) -> Option<u64> {
        let millis = number.checked_mul(self.millis)?;
        let at = millis.checked_add_unsigned(if self.is_from_now { now } else { 0 })?;
        Some(u64::try_from(at).unwrap_or(0))
    }

    /// The moment for a key that is set together with it: the number is more than 0.
    pub(crate) fn deadline_after(
        self,
        number: &[u8],
        now: u64,
        command: &[u8],
    ) -> Result<u64, Failure> {
        let number = integer(number)?;
        let at = self.deadline(number, now).filter(|_| number > 0);
        at.ok_or_else(|| invalid_time(command))
    }
}

fn invalid_time(command: &[u8]) -> Failure {
    let command = quote(command).to_ascii_lowercase();
    format!("ERR invalid expire time in '{command}' command").into()
}

impl Keys<'_> {
    /// Gives a key that is there a deadline. If that has passed, the key is removed.
    pub(crate) fn expire_at(&mut self, key: &[u8], at: u64) {
        let number = self.number;
        if at <= self.store.now && !self.store.journal.is_replaying {
            self.remove(key);
            self.store.journal.record_instead(number, &[b"DEL", key]);
        } else {
            self.set_expires(key, at);
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at).as_bytes();
            self.store.journal.record_instead(number, &[b"PEXPIREAT", key, at]);
        }
    }

    /// Takes a key's deadline away, if it had one.
    pub(crate) fn persist(&mut self, key: &[u8]) -> bool {
        let had_one = self.expires(key).is_some_and(|expires| expires != NEVER);
        if had_one {
            self.set_expires(key, NEVER);
            self.store.journal.record_instead(self.number, &[b"PERSIST", key]);
        }
        had_one
    }
}

pub(crate) fn expire(keys: &mut Keys, args: Args, reply: &mut Reply, unit: Unit) -> Outcome {
    let at = unit.deadline(integer(args[2])?, keys.store.now);
    let at = at.ok_or_else(|| invalid_time(args[0]))?;
    let is_there = keys.contains(args[1]);
    if is_there {
        keys.expire_at(args[1], at);
    }
    Ok(reply.integer(is_there.into()))
}

/// TTL and PTTL: what `of` makes of the key's deadline and the time; -2 without a key, -1 without a deadline.
pub(crate) fn deadline(
    keys: &mut Keys,
    args: Args,
    reply: &mut Reply,
    of: fn(u64, u64) -> u64,
) -> Outcome {
    Ok(reply.integer(match keys.expires(args[1]) {
        None => -2,
        Some(NEVER) => -1,
        Some(at) => of(at, keys.store.now) as i64,
    }))
}

pub(crate) fn persist(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.integer(keys.persist(args[1]).into()))
}

pub(crate) fn del(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(args[1..].iter().filter(|key| keys.remove(key).is_some()).count()))
}

pub(crate) fn exists(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(args[1..].iter().filter(|key| keys.contains(key)).count()))
}

pub(crate) fn type_of(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.simple(keys.get(args[1]).map_or("none", |value| value.type_name())))
}

pub(crate) fn rename(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (from, to) = (args[1], args[2]);
    let expires = keys.expires(from).ok_or(Failure::NO_SUCH_KEY)?;
    if from != to
        && let Some(value) = keys.remove(from)
    {
        keys.set(to, value, expires);
    }
    Ok(reply.ok())
}

/// How many steps it may take to match a pattern with all keys: a few for each byte of a key, which suffice for most
/// patterns, and so many more, which take some fifty milliseconds.
const STEPS_PER_BYTE: usize = 4;
const STEPS_MORE: usize = 1 << 24;

/// Which keys are wanted, and how many are looked at.
struct Search<'a> {
    cursor: usize,
    count: usize,
    pattern: &'a [u8],
    type_name: Option<&'a [u8]>,
}

impl Search<'_> {
    /// Writes the keys that are found, for SCAN with the cursor for the next step before them.
    fn run(&self, keys: &mut Keys, reply: &mut Reply, is_scan: bool) -> Outcome {
        let (there, cursor) = keys.scan(self.cursor, self.count);
        let (mut found, mut granted, mut steps) = (Vec::new(), STEPS_MORE, STEPS_MORE);
        for (key, value) in there {
            granted += STEPS_PER_BYTE * key.len();
            steps += STEPS_PER_BYTE * key.len();
            let Some(matches) = pattern::matches(self.pattern, key, &mut steps) else {
                keys.store.work += granted / STEPS_PER_WORK;
                return Err(Failure::new("ERR the pattern takes too long"));
            };
            if matches && self.type_name.is_none_or(|name| is_word(name, value.type_name())) {
                found.push(key);
            }
        }
        if is_scan {
            reply.array(2);
            reply.bulk(cursor.to_string().as_bytes());
        }
        reply.array(found.len());
        let outcome = reply.bulks(found);
        keys.store.work += self.count.min(keys.len()) + (granted - steps) / STEPS_PER_WORK;
        outcome
    }
}

/// KEYS looks at all keys in one go, as in Redis: it is for people, and for tests.
pub(crate) fn keys(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let all = Search { cursor: 0, count: usize::MAX, pattern: args[1], type_name: None };
    all.run(keys, reply, false)
}

pub(crate) fn scan(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let cursor = str::from_utf8(args[1]).ok().and_then(|cursor| cursor.parse().ok());
    let cursor = cursor.ok_or(Failure::new("ERR invalid cursor"))?;
    let mut search = Search { cursor, count: 10, pattern: b"*", type_name: None };
    let (options, []) = args[2..].as_chunks::<2>() else { return Err(Failure::SYNTAX) };
    for [option, value] in options {
        if is_word(option, "MATCH") {
            search.pattern = value;
        } else if is_word(option, "COUNT") {
            let count = usize::try_from(integer(value)?).ok();
            search.count = count.filter(|count| *count > 0).ok_or(Failure::SYNTAX)?;
        } else if is_word(option, "TYPE") {
            search.type_name = Some(value);
        } else {
            return Err(Failure::SYNTAX);
        }
    }
    search.run(keys, reply, true)
}

pub(crate) fn dbsize(keys: &mut Keys, _: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.len()))
}

/// FLUSHDB and FLUSHALL. They may say whether the memory is given back at once or later: here it always is at once.
pub(crate) fn flush(
    keys: &mut Keys,
    args: Args,
    reply: &mut Reply,
    databases: Range<usize>,
) -> Outcome {
    if !args[1..].iter().all(|how| is_word(how, "SYNC") || is_word(how, "ASYNC")) {
        return Err(Failure::SYNTAX);
    }
    for number in databases {
        keys.store.keys(number).clear();
    }
    Ok(reply.ok())
}
