//! Hashes: fields with values under one key.

use super::*;

fn set_fields(keys: &mut Keys, args: Args, command: &str) -> Result<usize, Failure> {
    let (pairs, []) = args[2..].as_chunks::<2>() else {
        return Err(Failure::wrong_arguments(command));
    };
    let hash = keys.make::<Hash>(args[1])?;
    let before = hash.len();
    hash.extend(
        pairs.iter().map(|[field, value]| (Bytes::from_slice(field), Bytes::from_slice(value))),
    );
    let new = hash.len() - before;
    keys.touch(args[1]);
    Ok(new)
}

pub fn hset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(set_fields(keys, args, "hset")?))
}

pub fn hmset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    set_fields(keys, args, "hmset")?;
    Ok(reply.ok())
}

pub fn hget(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.of::<Hash>(args[1])?;
    Ok(reply.bulk_or_null(hash.and_then(|hash| hash.get(args[2]))))
}

pub fn hmget(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.of::<Hash>(args[1])?;
    reply.array(args.len() - 2);
    for field in &args[2..] {
        reply.bulk_or_null(hash.as_ref().and_then(|hash| hash.get(*field)));
        reply.check()?;
    }
    Ok(Done)
}

pub fn hdel(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let removed = keys.of::<Hash>(args[1])?.map_or(0, |hash| {
        args[2..].iter().filter(|field| hash.swap_remove(**field).is_some()).count()
    });
    if removed > 0 {
        keys.taken_from(args[1]);
    }
    Ok(reply.count(removed))
}

pub fn hexists(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let is_there = keys.of::<Hash>(args[1])?.is_some_and(|hash| hash.contains_key(args[2]));
    Ok(reply.integer(is_there.into()))
}

pub fn hgetall(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.of::<Hash>(args[1])?;
    reply.map(hash.as_ref().map_or(0, |hash| hash.len()));
    reply.bulks(hash.iter().flat_map(|hash| hash.iter()).flat_map(<[&Bytes; 2]>::from))
}

pub fn hkeys(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.of::<Hash>(args[1])?;
    reply.array(hash.as_ref().map_or(0, |hash| hash.len()));
    reply.bulks(hash.iter().flat_map(|hash| hash.keys()))
}

pub fn hvals(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let hash = keys.of::<Hash>(args[1])?;
    reply.array(hash.as_ref().map_or(0, |hash| hash.len()));
    reply.bulks(hash.iter().flat_map(|hash| hash.values()))
}

pub fn hincrby(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let by = integer(args[3])?;
    let not_a_number = |_| Failure::new("ERR hash value is not an integer");
    let number = match keys.of::<Hash>(args[1])?.and_then(|hash| hash.get(args[2])) {
        Some(value) => integer(value).map_err(not_a_number)?,
        None => 0,
    };
    let number = number.checked_add(by).ok_or(Failure::OVERFLOW)?;
    let mut digits = itoa::Buffer::new();
    let value = Bytes::from_slice(digits.format(number).as_bytes());
    keys.make::<Hash>(args[1])?.insert(Bytes::from_slice(args[2]), value);
    keys.touch(args[1]);
    Ok(reply.integer(number))
}
