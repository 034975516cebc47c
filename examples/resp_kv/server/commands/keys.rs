//! What concerns keys of any type.

use super::*;

/// How a command tells a time.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Seconds,
    Millis,
    SecondsSince1970,
    MillisSince1970,
}

impl Unit {
    /// The option of SET and GETEX with this name.
    pub(crate) fn of_option(name: &[u8]) -> Option<Unit> {
        const OPTIONS: [(&str, Unit); 4] = [
            ("EX", Unit::Seconds),
            ("PX", Unit::Millis),
            ("EXAT", Unit::SecondsSince1970),
            ("PXAT", Unit::MillisSince1970),
        ];
        OPTIONS.iter().find(|(option, _)| is_word(name, option)).map(|(_, unit)| *unit)
    }

    /// The moment in milliseconds since 1970; 0 for all that are earlier. `None` for one that is too late.
    pub(crate) fn deadline(self, number: i64, now: u64) -> Option<u64> {
        let millis = match self {
            Unit::Seconds | Unit::SecondsSince1970 => number.checked_mul(1000)?,
            Unit::Millis | Unit::MillisSince1970 => number,
        };
        let at = match self {
            Unit::Seconds | Unit::Millis => millis.checked_add_unsigned(now)?,
            Unit::SecondsSince1970 | Unit::MillisSince1970 => millis,
        };
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
    /// Gives a key that is there a deadline; one that has passed removes it.
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

/// The deadline of a key, as `of` tells it of the deadline and the time: -2 without a key, -1 without a deadline.
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

/// It takes as long as there are keys, as the real one: for people, and for tests.
pub(crate) fn keys_like(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let pattern = short(args[1])?;
    keys.store.work += keys.len();
    let (mut found, _) = keys.scan(0, usize::MAX);
    found.retain(|(key, _)| pattern::matches(pattern, key));
    reply.array(found.len());
    Ok(reply.bulks(found.iter().map(|(key, _)| key)))
}

/// Entries looked at in a step, if the client does not say how many.
const COUNT: usize = 10;

/// The options of SCAN.
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

pub(crate) fn dbsize(keys: &mut Keys, _: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.len()))
}

/// Whether the memory is given back at once or later makes no difference here.
fn check_flush(args: Args) -> Result<(), Failure> {
    match args {
        [_] => Ok(()),
        [_, how] if is_word(how, "SYNC") || is_word(how, "ASYNC") => Ok(()),
        _ => Err(Failure::SYNTAX),
    }
}

pub(crate) fn flushdb(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    check_flush(args)?;
    keys.clear();
    Ok(reply.ok())
}

pub(crate) fn flushall(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    check_flush(args)?;
    for number in 0..DATABASES {
        keys.store.keys(number).clear();
    }
    Ok(reply.ok())
}
