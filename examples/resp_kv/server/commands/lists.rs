//! Lists. Clients that wait for an element of one are in `blocking.rs`.

use std::ops::Range;

use super::*;

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

impl Side {
    /// The command that takes an element off this end.
    pub fn pop_command(self) -> &'static str {
        if self == Side::Left { "lpop" } else { "rpop" }
    }
}

impl Keys<'_> {
    /// Takes an element off a list.
    pub fn pop(&mut self, key: &[u8], side: Side) -> Result<Option<Bytes>, Failure> {
        let list = self.of::<List>(key)?;
        let element = list.and_then(|list| match side {
            Side::Left => list.pop_front(),
            Side::Right => list.pop_back(),
        });
        if element.is_some() {
            self.taken_from(key);
        }
        Ok(element)
    }
}

pub fn push(keys: &mut Keys, args: Args, reply: &mut Reply, side: Side) -> Outcome {
    let list = keys.make::<List>(args[1])?;
    let elements = args[2..].iter().map(|element| Bytes::from_slice(element));
    match side {
        Side::Left => elements.for_each(|element| list.push_front(element)),
        Side::Right => list.extend(elements),
    }
    let len = list.len();
    keys.touch(args[1]);
    Ok(reply.count(len))
}

pub fn pop(keys: &mut Keys, args: Args, reply: &mut Reply, side: Side) -> Outcome {
    let wanted = match args[2..] {
        [] => return Ok(reply.bulk_or_null(keys.pop(args[1], side)?)),
        [wanted] => count(wanted)?,
        _ => return Err(Failure::wrong_arguments(side.pop_command())),
    };
    let Some(list) = keys.of::<List>(args[1])? else { return Ok(reply.null_array()) };
    let (len, taken) = (list.len(), wanted.min(list.len()));
    reply.array(taken);
    match side {
        Side::Left => {
            reply.bulks(list.range(..taken))?;
            list.drain(..taken);
        }
        Side::Right => {
            reply.bulks(list.range(len - taken..).rev())?;
            list.truncate(len - taken);
        }
    }
    if taken > 0 {
        keys.taken_from(args[1]);
    }
    Ok(Done)
}

/// The place of an element, if there is one with this index. A negative index counts from the end.
fn position(index: i64, len: usize) -> Option<usize> {
    range(index, index, len).next()
}

pub fn lindex(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let Some(list) = keys.of::<List>(args[1])? else { return Ok(reply.null()) };
    let place = position(integer(args[2])?, list.len());
    Ok(reply.bulk_or_null(place.map(|place| &list[place])))
}

pub fn lset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let list = keys.of::<List>(args[1])?.ok_or(Failure::NO_SUCH_KEY)?;
    let place = position(integer(args[2])?, list.len());
    let place = place.ok_or(Failure::new("ERR index out of range"))?;
    list[place] = Bytes::from_slice(args[3]);
    keys.touch(args[1]);
    Ok(reply.ok())
}

/// The part of `len` elements from `start` to `stop` inclusive, each counted from the end if negative.
fn range(start: i64, stop: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let from_start = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let start = from_start(start).clamp(0, len);
    let stop = from_start(stop).saturating_add(1).clamp(start, len);
    start as usize..stop as usize
}

pub fn lrange(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    let Some(list) = keys.of::<List>(args[1])? else { return Ok(reply.array(0)) };
    let range = range(start, stop, list.len());
    reply.array(range.len());
    reply.bulks(list.range(range))
}

pub fn ltrim(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    if let Some(list) = keys.of::<List>(args[1])? {
        let range = range(start, stop, list.len());
        list.truncate(range.end);
        list.drain(..range.start);
        keys.taken_from(args[1]);
    }
    Ok(reply.ok())
}

/// Removes the first elements that are equal, or the last ones if their number is negative, or all if it is 0.
pub fn lrem(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let wanted = integer(args[2])?;
    let Some(list) = keys.of::<List>(args[1])? else { return Ok(reply.count(0)) };
    let work = list.iter().map(|element| 1 + element.len() / BYTES_PER_WORK).sum::<usize>();
    let equal = list.iter().filter(|element| ***element == *args[3]).count();
    let count = if wanted == 0 { equal } else { equal.min(wanted.unsigned_abs() as usize) };
    if count > 0 {
        let first = if wanted < 0 { equal - count } else { 0 };
        let mut seen = 0;
        list.retain(|element| {
            let is_equal = **element == *args[3];
            seen += usize::from(is_equal);
            !(is_equal && seen > first && seen <= first + count)
        });
        keys.taken_from(args[1]);
    }
    keys.store.work += work;
    Ok(reply.count(count))
}
