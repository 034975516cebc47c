//! Commands for keys of any type.

use super::*;

/// How an argument gives a time.
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
const MATCH_STEPS_PER_BYTE: usize = 4;
const MATCH_STEPS: usize = 1 << 24;

/// Which keys are wanted, and how many are looked at.
struct Search<'a> {
    cursor: u64,
    count: usize,
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
}

impl Search<'_> {
    /// Writes the keys that are found, for SCAN with the cursor for the next step before them.
    fn run(&self, keys: &mut Keys, reply: &mut Reply, is_scan: bool) -> Outcome {
        let (there, cursor) = keys.scan(self.cursor, self.count);
        let (mut found, mut is_slow) = (Vec::new(), false);
        let (mut granted, mut steps) = (MATCH_STEPS, MATCH_STEPS);
        for (key, value) in there {
            granted += MATCH_STEPS_PER_BYTE * key.len();
            steps += MATCH_STEPS_PER_BYTE * key.len();
            let has_type = self.type_name.is_none_or(|name| is_word(name, value.type_name()));
            let matches = |pattern| pattern::matches_within(pattern, key, &mut steps);
            match self.pattern.map_or(Some(true), matches) {
                Some(true) if has_type => found.push(key),
                Some(_) => {}
                None => {
                    is_slow = true;
                    break;
                }
            }
        }
        if !is_slow {
            if is_scan {
                reply.array(2);
                reply.bulk(cursor.to_string().as_bytes());
            }
            reply.array(found.len());
            reply.bulks(found);
        }
        keys.store.work += self.count.min(keys.len()) + (granted - steps) / STEPS_PER_WORK;
        if is_slow { Err(Failure::new("ERR the pattern takes too long")) } else { Ok(Done) }
    }
}

/// KEYS looks at all keys in one go, as in Redis: it is for people, and for tests.
pub(crate) fn keys(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let pattern = Some(args[1]);
    let all = Search { cursor: 0, count: usize::MAX, pattern, type_name: None };
    all.run(keys, reply, false)
}

pub(crate) fn scan(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let cursor = str::from_utf8(args[1]).ok().and_then(|cursor| cursor.parse().ok());
    let cursor = cursor.ok_or(Failure::new("ERR invalid cursor"))?;
    let mut search = Search { cursor, count: 10, pattern: None, type_name: None };
    let (options, []) = args[2..].as_chunks::<2>() else { return Err(Failure::SYNTAX) };
    for [option, value] in options {
        if is_word(option, "MATCH") {
            search.pattern = Some(value);
        } else if is_word(option, "COUNT") {
            let count = integer(value)?;
            search.count =
                usize::try_from(count).ok().filter(|count| *count > 0).ok_or(Failure::SYNTAX)?;
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

/// FLUSHDB and FLUSHALL may say whether the memory is given back at once or later. Here it always is at once.
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
