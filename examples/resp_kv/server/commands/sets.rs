//! Sets: different members under one key.

use std::collections::BTreeSet;

use super::super::clients::Client;
use super::*;

pub fn sadd(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let set = keys.make::<Set>(args[1])?;
    let before = set.len();
    set.extend(args[2..].iter().map(|member| Bytes::from_slice(member)));
    let new = set.len() - before;
    if new > 0 {
        keys.touch(args[1]);
    }
    Ok(reply.count(new))
}

pub fn srem(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let removed = keys
        .of::<Set>(args[1])?
        .map_or(0, |set| args[2..].iter().filter(|member| set.swap_remove(**member)).count());
    if removed > 0 {
        keys.taken_from(args[1]);
    }
    Ok(reply.count(removed))
}

pub fn sismember(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let is_member = keys.of::<Set>(args[1])?.is_some_and(|set| set.contains(args[2]));
    Ok(reply.integer(is_member.into()))
}

pub fn smembers(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let set = keys.of::<Set>(args[1])?;
    reply.set(set.as_ref().map_or(0, |set| set.len()));
    reply.bulks(set.iter().flat_map(|set| set.iter()))
}

/// Takes random members out. The record of changes says which ones.
pub fn spop(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let (key, wanted) = match args[1..] {
        [key] => (key, None),
        [key, wanted] => (key, Some(count(wanted)?)),
        _ => return Err(Failure::SYNTAX),
    };
    let Client { protocol, database, .. } = server.clients[server.current];
    let mut keys = server.store.keys(database);
    let mut reply = Reply::new(&mut server.out, protocol);
    let len = keys.of::<Set>(key)?.map_or(0, |set| set.len());
    let taken = wanted.unwrap_or(1).min(len);
    keys.store.work += taken;
    let Some(set) = keys.of::<Set>(key)? else {
        return Ok(if wanted.is_some() { reply.set(0) } else { reply.null() });
    };
    for last in (len - taken..len).rev() {
        let random = conn.random() % (last as u64 + 1);
        set.swap_indices(random as usize, last);
    }
    if wanted.is_some() {
        reply.set(taken);
    }
    reply.bulks(&set.as_slice()[len - taken..])?;
    let members: Vec<Bytes> = set.drain(len - taken..).collect();
    if taken > 0 {
        keys.taken_from(key);
        let record: Vec<&[u8]> =
            [b"SREM", key].into_iter().chain(members.iter().map(|member| &**member)).collect();
        keys.store.journal.record(database, &record);
    }
    Ok(Done)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Intersection,
    Union,
    Difference,
}

/// SINTER, SUNION and SDIFF. The work is in proportion to all members, of each set once, however often it is named.
pub fn combine(keys: &mut Keys, args: Args, reply: &mut Reply, operation: Operation) -> Outcome {
    let others: BTreeSet<&[u8]> = args[2..].iter().copied().collect();
    for name in others.iter().chain([&args[1]]) {
        let set = keys.of::<Set>(name)?.into_iter().flat_map(|set| set.iter());
        let work = set.map(|member| 1 + member.len() / BYTES_PER_WORK).sum::<usize>();
        keys.store.work += work;
    }
    // No clone, which would have the room that the set had when it was largest.
    let mut result = Set::default();
    result.extend(keys.of::<Set>(args[1])?.into_iter().flat_map(|set| set.iter().cloned()));
    for name in others {
        match (operation, keys.of::<Set>(name)?) {
            (Operation::Intersection, Some(other)) => {
                result.retain(|member| other.contains(member));
            }
            (Operation::Intersection, None) => result.clear(),
            (Operation::Union, Some(other)) => result.extend(other.iter().cloned()),
            (Operation::Difference, Some(other)) => {
                other.iter().for_each(|member| _ = result.swap_remove(member));
            }
            (_, None) => {}
        }
    }
    reply.set(result.len());
    reply.bulks(result)
}
