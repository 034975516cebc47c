//! Sets: different members under one key.

use super::*;

pub(crate) fn sadd(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let set = keys.make::<Set>(args[1])?;
    let before = set.len();
    set.extend(args[2..].iter().map(|member| Bytes::from_slice(member)));
    let new = set.len() - before;
    if new > 0 {
        keys.touch(args[1]);
    }
    Ok(reply.count(new))
}

pub(crate) fn srem(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let removed = keys
        .of::<Set>(args[1])?
        .map_or(0, |set| args[2..].iter().filter(|member| set.swap_remove(**member)).count());
    if removed > 0 {
        keys.taken_from(args[1]);
    }
    Ok(reply.count(removed))
}

pub(crate) fn scard(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(cardinality(keys, args[1])?))
}

fn cardinality(keys: &mut Keys, key: &[u8]) -> Result<usize, Failure> {
    Ok(keys.of::<Set>(key)?.map_or(0, |set| set.len()))
}

pub(crate) fn sismember(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let is_member = keys.of::<Set>(args[1])?.is_some_and(|set| set.contains(args[2]));
    Ok(reply.integer(is_member.into()))
}

pub(crate) fn smembers(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let set = keys.of::<Set>(args[1])?;
    reply.set(set.as_ref().map_or(0, |set| set.len()));
    Ok(reply.bulks(set.iter().flat_map(|set| set.iter())))
}

/// Takes so many random members out. The record of changes says which ones.
fn pop_members(
    keys: &mut Keys,
    key: &[u8],
    wanted: usize,
    reply: &Reply,
) -> Result<Vec<Bytes>, Failure> {
    let len = cardinality(keys, key)?;
    let randoms: Vec<usize> =
        (0..wanted.min(len)).map(|taken| keys.random_below(len - taken)).collect();
    let Some(set) = keys.of::<Set>(key)? else { return Ok(Vec::new()) };
    let members: Vec<Bytes> =
        randoms.iter().filter_map(|random| set.swap_remove_index(*random)).collect();
    let bytes = members.iter().map(|member| member.len()).sum();
    if let Err(failure) = check_room(reply, members.len(), bytes) {
        set.extend(members);
        return Err(failure);
    }
    if !members.is_empty() {
        keys.taken_from(key);
        record_removal(keys, key, &members);
    }
    Ok(members)
}

/// Makes as few records as have room for all members, because the key stands in each. If there are several, they are
/// one transaction.
fn record_removal(keys: &mut Keys, key: &[u8], members: &[Bytes]) {
    const MEMBER_COST: usize = 128; // which bounds their number, too
    let cost = |member: &Bytes| member.len() + MEMBER_COST;
    let is_one = members.iter().map(cost).sum::<usize>() <= BULK_BYTES_MAX;
    let start = if is_one { None } else { keys.store.journal.begin_transaction() };
    let mut rest = members;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |member: &&Bytes| {
            bytes += cost(member);
            bytes <= BULK_BYTES_MAX
        };
        let (some, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let record: Vec<&[u8]> =
            [&b"SREM"[..], key].into_iter().chain(some.iter().map(|member| &**member)).collect();
        keys.store.journal.record_instead(keys.number, &record);
        rest = others;
    }
    keys.store.journal.end_transaction(start);
}

pub(crate) fn spop(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    match args[2..] {
        [] => {
            let members = pop_members(keys, args[1], 1, reply)?;
            Ok(reply.bulk_or_null(members.first()))
        }
        [wanted] => {
            let members = pop_members(keys, args[1], count(wanted)?, reply)?;
            reply.set(members.len());
            Ok(reply.bulks(members))
        }
        _ => Err(Failure::SYNTAX),
    }
}

impl Keys<'_> {
    /// A random number below `end`, which is not 0.
    fn random_below(&mut self, end: usize) -> usize {
        (self.store.random() % end as u64) as usize
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Intersection,
    Union,
    Difference,
}

/// What the operation makes of the sets under these keys; a key that is not there is the empty set. The work is in
/// proportion to the number of all members.
fn combine(keys: &mut Keys, names: &[&[u8]], operation: Operation) -> Result<Set, Failure> {
    let mut sets = Vec::new();
    for name in names {
        let len = cardinality(keys, name)?;
        keys.store.work += len;
        sets.push((len, *name));
    }
    if operation == Operation::Intersection {
        sets.sort_unstable(); // the smallest one first
    }
    let (_, first) = sets.remove(0);
    sets.sort_unstable();
    sets.dedup();
    let mut result = match keys.of::<Set>(first)? {
        Some(set) => set.clone(),
        None => Set::with_hasher(keys.store.hasher.clone()),
    };
    for (_, name) in sets {
        let other = keys.of::<Set>(name)?;
        match (operation, other) {
            (Operation::Union, Some(other)) => result.extend(other.iter().cloned()),
            (Operation::Intersection, Some(other)) => {
                result.retain(|member| other.contains(member));
            }
            (Operation::Intersection, None) => result.clear(),
            (Operation::Difference, Some(other)) if other.len() < result.len() => {
                other.iter().for_each(|member| _ = result.swap_remove(member));
            }
            (Operation::Difference, Some(other)) => {
                result.retain(|member| !other.contains(member));
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
    Ok(reply.bulks(result))
}
