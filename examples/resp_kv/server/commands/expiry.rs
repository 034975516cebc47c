//! When keys expire.

use super::*;

/// How an argument gives a time: in so many milliseconds each, from now on or since 1970.
#[derive(Clone, Copy)]
pub struct Unit {
    millis: i64,
    is_from_now: bool,
}

impl Unit {
    pub const SECONDS: Unit = Unit { millis: 1000, is_from_now: true };
    pub const MILLIS: Unit = Unit { millis: 1, is_from_now: true };
    pub const SECONDS_SINCE_1970: Unit = Unit { millis: 1000, is_from_now: false };
    pub const MILLIS_SINCE_1970: Unit = Unit { millis: 1, is_from_now: false };

    /// The option of SET and GETEX with this name, in capital letters.
    fn of_option(name: &[u8]) -> Option<Unit> {
        match name {
            b"EX" => Some(Unit::SECONDS),
            b"PX" => Some(Unit::MILLIS),
            b"EXAT" => Some(Unit::SECONDS_SINCE_1970),
            b"PXAT" => Some(Unit::MILLIS_SINCE_1970),
            _ => None,
        }
    }

    /// The moment in milliseconds since 1970 that a number means, which is to be `least` or more; 0 for all moments before
    /// 1970.
    fn deadline(self, number: &[u8], least: i64, now: u64, command: &[u8]) -> Result<u64, Failure> {
        let number = integer(number)?;
        let millis = Some(number).filter(|number| *number >= least);
        let millis = millis.and_then(|number| number.checked_mul(self.millis));
        let from = if self.is_from_now { now } else { 0 };
        let at = millis.and_then(|millis| millis.checked_add_unsigned(from)).ok_or_else(|| {
            let command = quote(command).to_ascii_lowercase();
            Failure::from(format!("ERR invalid expire time in '{command}' command"))
        })?;
        Ok(u64::try_from(at).unwrap_or(0))
    }
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
                if is_set || keys.of::<Bytes>(args[1])?.is_some() {
                    unit.deadline(number, 1, keys.store.now, args[0])?
                } else {
                    NEVER // as GETEX does not look at the number then
                }
            }
        };
        if deadline.replace(at).is_some() {
            return Err(Failure::SYNTAX);
        }
    }
    Ok((deadline, if_exists))
}

impl Keys<'_> {
    /// Gives a key that is there a deadline. If that has passed, the key is removed.
    pub fn expire_at(&mut self, key: &[u8], at: u64) {
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
    pub fn persist(&mut self, key: &[u8]) -> bool {
        let had_one = self.expires(key).is_some_and(|expires| expires != NEVER);
        if had_one {
            self.set_expires(key, NEVER);
            self.store.journal.record_instead(self.number, &[b"PERSIST", key]);
        }
        had_one
    }
}

pub fn expire(keys: &mut Keys, args: Args, reply: &mut Reply, unit: Unit) -> Outcome {
    let at = unit.deadline(args[2], i64::MIN, keys.store.now, args[0])?;
    let is_there = keys.contains(args[1]);
    if is_there {
        keys.expire_at(args[1], at);
    }
    Ok(reply.integer(is_there.into()))
}

/// TTL and PTTL: what `of` makes of the key's deadline and the time; -2 without a key, -1 without a deadline.
pub fn ttl(keys: &mut Keys, args: Args, reply: &mut Reply, of: fn(u64, u64) -> u64) -> Outcome {
    Ok(reply.integer(match keys.expires(args[1]) {
        None => -2,
        Some(NEVER) => -1,
        Some(at) => of(at, keys.store.now) as i64,
    }))
}

pub fn persist(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.integer(keys.persist(args[1]).into()))
}
