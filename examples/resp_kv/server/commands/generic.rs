//! Commands for keys of any type.

use std::mem;
use std::ops::Range;

use super::*;

pub fn del(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(args[1..].iter().filter(|key| keys.remove(key).is_some()).count()))
}

pub fn exists(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(args[1..].iter().filter(|key| keys.contains(key)).count()))
}

pub fn type_of(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.simple(keys.get(args[1]).map_or("none", |value| value.type_name())))
}

pub fn rename(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (from, to) = (args[1], args[2]);
    let expires = keys.expires(from).ok_or(Failure::NO_SUCH_KEY)?;
    if from != to
        && let Some(value) = keys.remove(from)
    {
        keys.set(to, value, expires);
    }
    Ok(reply.ok())
}

/// STRLEN, HLEN, LLEN and SCARD.
pub fn len<T: Type>(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.of::<T>(args[1])?.map_or(0, |it| it.len())))
}

/// How many steps it may take to match a pattern with all keys: a few for each byte of a key, which suffice for most
/// patterns, and so many more, which take some fifty milliseconds.
const STEPS_PER_BYTE: usize = 4;
const STEPS_MORE: usize = 1 << 24;

/// Which keys are wanted, and how many are looked at: those at so many places below the cursor, from the last place to
/// the first. A cursor of 0 is the beginning, and the end. As keys only move to lower places, a walk meets every key
/// that is there all the time, and some of them twice.
struct Search<'a> {
    cursor: usize,
    count: usize,
    pattern: &'a [u8],
    type_name: Option<&'a [u8]>,
}

impl Search<'_> {
    /// Writes the keys that are found, for SCAN with the cursor for the next step before them.
    fn run(&self, keys: &mut Keys, reply: &mut Reply, is_scan: bool) -> Outcome {
        let database = keys.database();
        let end = database.keys.len();
        let start = if self.cursor == 0 { end } else { self.cursor.min(end) };
        let stop = start.saturating_sub(self.count);
        let (mut found, mut granted, mut steps) = (Vec::new(), STEPS_MORE, STEPS_MORE);
        for (key, object) in database.keys[stop..start].iter().rev() {
            granted += STEPS_PER_BYTE * key.len();
            steps += STEPS_PER_BYTE * key.len();
            let Some(matches) = pattern::matches(self.pattern, key, &mut steps) else {
                keys.store.work += granted / STEPS_PER_WORK;
                return Err(Failure::new("ERR the pattern takes too long"));
            };
            let type_name = object.value.type_name();
            let is_wanted = self.type_name.is_none_or(|name| is_word(name, type_name));
            if matches && is_wanted && !keys.has_expired(object) {
                found.push(key);
            }
        }
        if is_scan {
            reply.array(2);
            reply.bulk(stop.to_string().as_bytes());
        }
        reply.array(found.len());
        let outcome = reply.bulks(found);
        keys.store.work += start - stop + (granted - steps) / STEPS_PER_WORK;
        outcome
    }
}

/// KEYS looks at all keys in one go, as in Redis: it is for people, and for tests.
pub fn keys(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let all = Search { cursor: 0, count: usize::MAX, pattern: args[1], type_name: None };
    all.run(keys, reply, false)
}

pub fn scan(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
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

pub fn dbsize(keys: &mut Keys, _: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.database().keys.len()))
}

/// FLUSHDB and FLUSHALL. They may say whether the memory is given back at once or later: here it always is at once.
pub fn flush(keys: &mut Keys, args: Args, reply: &mut Reply, databases: Range<usize>) -> Outcome {
    if !args[1..].iter().all(|how| is_word(how, "SYNC") || is_word(how, "ASYNC")) {
        return Err(Failure::SYNTAX);
    }
    for number in databases {
        let database = &mut keys.store.databases[number];
        if database.keys.is_empty() {
            continue;
        }
        keys.store.changes += 1;
        keys.store.work += database.observers.len();
        let removed = mem::take(&mut database.keys);
        database.deadlines.clear();
        let observed = database.observers.iter_mut().filter(|(key, _)| removed.contains_key(*key));
        observed.for_each(|(_, observers)| observers.version += 1);
    }
    Ok(reply.ok())
}
