//! Hashes: fields with values under one key.

use super::super::bytes::Bytes;
use super::super::keys::Keys;
use super::super::reply::{Done, Reply};
use super::super::store::{Store, Value};
use super::{Args, Failure, Outcome, integer};

impl Keys<'_> {
    /// Sets a field; whether it is new. The key is a hash, or there is none.
    fn set_field(&mut self, key: &[u8], field: &[u8], value: &[u8]) -> bool {
        let hash = self.get_or_insert(key, Store::new_hash);
        let Value::Hash(hash) = hash else { unreachable!("asked before") };
        hash.insert(field, Bytes::from(value)).1.is_none()
    }

    fn field(&mut self, key: &[u8], field: &[u8]) -> Result<Option<&Bytes>, Failure> {
        Ok(self.hash(key)?.and_then(|hash| hash.get(field)))
    }
}

fn set_fields(keys: &mut Keys, args: Args, command: &str) -> Result<usize, Failure> {
    let (pairs, []) = args[2..].as_chunks::<2>() else {
        return Err(Failure::wrong_arguments(command));
    };
    keys.hash(args[1])?;
    let new = pairs.iter().filter(|pair| keys.set_field(args[1], pair[0], pair[1])).count();
    keys.touch(args[1]);
    Ok(new)
}

pub(crate) fn hset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(set_fields(keys, args, "hset")?))
}

pub(crate) fn hmset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    set_fields(keys, args, "hmset")?;
    Ok(reply.ok())
}

pub(crate) fn hget(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.bulk_or_null(keys.field(args[1], args[2])?.map(|value| &**value)))
}

pub(crate) fn hmget(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.hash(args[1])?;
    reply.array(args.len() - 2);
    for field in &args[2..] {
        let value = hash.as_ref().and_then(|hash| hash.get(field));
        reply.bulk_or_null(value.map(|value| &**value));
    }
    Ok(Done)
}

pub(crate) fn hdel(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let removed = match keys.hash(args[1])? {
        Some(hash) => args[2..].iter().filter(|field| hash.remove(field).is_some()).count(),
        None => 0,
    };
    if removed > 0 {
        keys.touch(args[1]);
        keys.remove_if_empty(args[1]);
    }
    Ok(reply.count(removed))
}

pub(crate) fn hexists(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.integer(keys.field(args[1], args[2])?.is_some().into()))
}

pub(crate) fn hlen(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.hash(args[1])?.map_or(0, |hash| hash.len())))
}

pub(crate) fn hgetall(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.hash(args[1])?;
    reply.map(hash.as_ref().map_or(0, |hash| hash.len()));
    for (field, value) in hash.iter().flat_map(|hash| hash.iter()) {
        reply.bulks([field, value]);
    }
    Ok(Done)
}

pub(crate) fn hkeys(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.hash(args[1])?;
    reply.array(hash.as_ref().map_or(0, |hash| hash.len()));
    Ok(reply.bulks(hash.iter().flat_map(|hash| hash.iter()).map(|(field, _)| field)))
}

pub(crate) fn hvals(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.hash(args[1])?;
    reply.array(hash.as_ref().map_or(0, |hash| hash.len()));
    Ok(reply.bulks(hash.iter().flat_map(|hash| hash.iter()).map(|(_, value)| value)))
}

pub(crate) fn hincrby(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let by = integer(args[3])?;
    let not_a_number = |_| Failure::new("ERR hash value is not an integer");
    let number = match keys.field(args[1], args[2])? {
        Some(value) => integer(value).map_err(not_a_number)?,
        None => 0,
    };
    let number =
        number.checked_add(by).ok_or(Failure::new("ERR increment or decrement would overflow"))?;
    let mut digits = itoa::Buffer::new();
    keys.set_field(args[1], args[2], digits.format(number).as_bytes());
    keys.touch(args[1]);
    Ok(reply.integer(number))
}
