//! Walks in steps: SCAN and its like.

use super::super::keys::Keys;
use super::super::pattern;
use super::super::reply::{Done, Reply};
use super::{Args, Failure, Outcome, count, is_word, short};

/// Entries looked at in a step, if the client does not say how many.
const COUNT: usize = 10;

struct Options<'a> {
    cursor: u64,
    pattern: Option<&'a [u8]>,
    count: usize,
    type_name: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(cursor: &[u8], options: &[&'a [u8]], may_type: bool) -> Result<Options<'a>, Failure> {
        let cursor = str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
        let cursor = cursor.ok_or(Failure::new("ERR invalid cursor"))?;
        let mut parsed = Options { cursor, pattern: None, count: COUNT, type_name: None };
        let (pairs, []) = options.as_chunks::<2>() else { return Err(Failure::SYNTAX) };
        for [option, value] in pairs {
            if is_word(option, "MATCH") {
                parsed.pattern = Some(short(value)?);
            } else if is_word(option, "COUNT") {
                parsed.count = match count(value) {
                    Ok(0) => return Err(Failure::SYNTAX),
                    result => result.map_err(|_| Failure::NOT_AN_INTEGER)?,
                };
            } else if is_word(option, "TYPE") && may_type {
                parsed.type_name = Some(value);
            } else {
                return Err(Failure::SYNTAX);
            }
        }
        Ok(parsed)
    }

    fn wants(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| pattern::matches(pattern, name))
    }
}

fn begin(reply: &mut Reply, cursor: u64) {
    let mut digits = itoa::Buffer::new();
    reply.array(2);
    reply.bulk(digits.format(cursor).as_bytes());
}

pub(crate) fn scan(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(args[1], &args[2..], true)?;
    let (mut found, cursor) = keys.scan(options.cursor, options.count);
    found.retain(|(key, value)| {
        let has_type = |name: &[u8]| is_word(name, value.type_name());
        options.wants(key) && options.type_name.is_none_or(has_type)
    });
    begin(reply, cursor);
    reply.array(found.len());
    Ok(reply.bulks(found.iter().map(|(key, _)| key)))
}

pub(crate) fn hscan(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(args[2], &args[3..], false)?;
    let Some(hash) = keys.hash(args[1])? else {
        begin(reply, 0);
        return Ok(reply.array(0));
    };
    let (mut slots, cursor) = hash.scan(options.cursor, options.count);
    slots.retain(|slot| options.wants(hash.key(*slot)));
    begin(reply, cursor);
    reply.array(2 * slots.len());
    for slot in slots {
        reply.bulks([hash.key(slot), hash.value(slot)]);
    }
    Ok(Done)
}

pub(crate) fn sscan(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(args[2], &args[3..], false)?;
    let Some(set) = keys.set_of(args[1])? else {
        begin(reply, 0);
        return Ok(reply.array(0));
    };
    let (mut slots, cursor) = set.scan(options.cursor, options.count);
    slots.retain(|slot| options.wants(set.key(*slot)));
    begin(reply, cursor);
    reply.array(slots.len());
    Ok(reply.bulks(slots.iter().map(|slot| set.key(*slot))))
}
