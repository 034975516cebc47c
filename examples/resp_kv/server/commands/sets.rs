//! Sets: members under one key, each once.

use super::super::bytes::Bytes;
use super::super::keys::Keys;
use super::super::reply::{Done, Reply};
use super::super::store::{Set, Value};
use super::{Args, Failure, Outcome, count, integer};

pub(crate) fn sadd(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    keys.set_of(args[1])?;
    let set = keys.get_or_insert(args[1], |store| Value::Set(Box::new(store.new_set())));
    let Value::Set(set) = set else { unreachable!("asked before") };
    let new = args[2..].iter().filter(|member| set.insert(member, ()).1.is_none()).count();
    if new > 0 {
        keys.touch(args[1]);
    }
    Ok(reply.count(new))
}

pub(crate) fn srem(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let removed = match keys.set_of(args[1])? {
        Some(set) => args[2..].iter().filter(|member| set.remove(member).is_some()).count(),
        None => 0,
    };
    if removed > 0 {
        keys.touch(args[1]);
        keys.remove_if_empty(args[1]);
    }
    Ok(reply.count(removed))
}

pub(crate) fn scard(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.set_of(args[1])?.map_or(0, |set| set.len())))
}

pub(crate) fn sismember(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.integer(keys.set_of(args[1])?.is_some_and(|set| set.contains(args[2])).into()))
}

pub(crate) fn smembers(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let set = keys.set_of(args[1])?;
    reply.set(set.as_ref().map_or(0, |set| set.len()));
    Ok(reply.bulks(set.iter().flat_map(|set| set.iter()).map(|(member, ())| member)))
}

/// A member by chance.
fn random_member(keys: &mut Keys, key: &[u8]) -> Result<Option<Bytes>, Failure> {
    let random = keys.store.random();
    let set = keys.set_of(key)?;
    Ok(set.and_then(|set| set.random_slot(random).map(|slot| set.key(slot).clone())))
}

fn pop_member(keys: &mut Keys, key: &[u8]) -> Result<Option<Bytes>, Failure> {
    let member = random_member(keys, key)?;
    if let (Some(member), Some(set)) = (&member, keys.set_of(key)?) {
        set.remove(member);
        keys.touch(key);
        keys.remove_if_empty(key);
        let record: [&[u8]; 3] = [b"SREM", key, member];
        keys.store.journal.record_instead(keys.number, &record);
    }
    Ok(member)
}

pub(crate) fn spop(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let wanted = match args[2..] {
        [] => {
            return Ok(reply.bulk_or_null(pop_member(keys, args[1])?.as_deref()));
        }
        [wanted] => count(wanted)?,
        _ => return Err(Failure::SYNTAX),
    };
    let len = keys.set_of(args[1])?.map_or(0, |set| set.len()).min(wanted);
    reply.set(len);
    for _ in 0..len {
        reply.bulk_or_null(pop_member(keys, args[1])?.as_deref());
    }
    Ok(Done)
}

/// One member; so many different ones; or, negative, so many of which some may be the same.
pub(crate) fn srandmember(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let wanted = match args[2..] {
        [] => {
            return Ok(reply.bulk_or_null(random_member(keys, args[1])?.as_deref()));
        }
        [wanted] => integer(wanted)?,
        _ => return Err(Failure::SYNTAX),
    };
    let len = keys.set_of(args[1])?.map_or(0, |set| set.len());
    if wanted < 0 {
        let wanted = usize::try_from(wanted.unsigned_abs()).unwrap_or(usize::MAX);
        if wanted > 1 << 20 {
            return Err(Failure::new("ERR value is out of range"));
        }
        let wanted = if len == 0 { 0 } else { wanted };
        reply.array(wanted);
        for _ in 0..wanted {
            reply.bulk_or_null(random_member(keys, args[1])?.as_deref());
        }
        return Ok(Done);
    }
    let mut wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(len);
    reply.array(wanted);
    if wanted < len / 2 {
        let mut chosen = keys.store.new_set();
        while chosen.len() < wanted {
            if let Some(member) = random_member(keys, args[1])?
                && chosen.insert(&member, ()).1.is_none()
            {
                reply.bulk(&member);
            }
        }
        return Ok(Done);
    }
    // Of those that are left, each with the chance that makes as many as are wanted (Knuth, volume 2, algorithm S).
    let randoms: Vec<u64> = (0..len).map(|_| keys.store.random()).collect();
    let set = keys.set_of(args[1])?;
    let members = set.iter().flat_map(|set| set.iter()).zip(randoms);
    for (left, ((member, ()), random)) in (1..=len as u64).rev().zip(members) {
        if random % left < wanted as u64 {
            reply.bulk(member);
            wanted -= 1;
        }
    }
    Ok(Done)
}

#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Intersection,
    Union,
    Difference,
}

/// What the operation makes of the sets under these keys; a key that is not there is the empty set.
fn combine(keys: &mut Keys, names: &[&[u8]], operation: Operation) -> Result<Set, Failure> {
    let mut result = keys.store.new_set();
    if let Some(first) = keys.set_of(names[0])? {
        first.iter().for_each(|(member, ())| {
            result.insert(member, ());
        });
    }
    for name in &names[1..] {
        let other = keys.set_of(name)?;
        match (operation, other) {
            (Operation::Union, Some(other)) => other.iter().for_each(|(member, ())| {
                result.insert(member, ());
            }),
            (Operation::Difference, Some(other)) => other.iter().for_each(|(member, ())| {
                result.remove(member);
            }),
            (Operation::Intersection, other) => {
                let is_gone =
                    |member: &Bytes| !other.as_ref().is_some_and(|other| other.contains(member));
                let members = result.iter().map(|(member, ())| member);
                let gone: Vec<Bytes> = members.filter(|member| is_gone(member)).cloned().collect();
                gone.iter().for_each(|member| {
                    result.remove(member);
                });
            }
            (_, None) => {}
        }
    }
    Ok(result)
}

pub(crate) fn combined(
    keys: &mut Keys,
    args: Args,
    reply: &mut Reply,
    operation: Operation,
) -> Outcome {
    let result = combine(keys, &args[1..], operation)?;
    reply.set(result.len());
    Ok(reply.bulks(result.iter().map(|(member, ())| member)))
}
