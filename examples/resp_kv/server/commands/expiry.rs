//! When keys expire.

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

    /// The option of SET and GETEX with this name, in capital letters.
    pub(crate) fn of_option(name: &[u8]) -> Option<Unit> {
        match name {
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
