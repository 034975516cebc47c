//! Lists, as far as nobody waits for their elements; who does is in `blocking.rs`.

use super::super::bytes::Bytes;
use super::super::keys::Keys;
use super::super::reply::{Done, Reply};
use super::super::store::{List, Value};
use super::{Args, Failure, Outcome, count, integer, range};

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Side {
    /// The command that takes an element off this end.
    pub(crate) fn pop_command(self) -> &'static [u8] {
        if self == Side::Left { b"LPOP" } else { b"RPOP" }
    }

    fn pop(self, list: &mut List) -> Option<Bytes> {
        let element = if self == Side::Left { list.pop_front() } else { list.pop_back() };
        // The memory of a list that was long once.
        if list.len() < list.capacity() / 8 && list.capacity() > 64 {
            list.shrink_to(list.len() * 2);
        }
        element
    }

    fn push(self, list: &mut List, element: &[u8]) {
        match self {
            Side::Left => list.push_front(Bytes::from(element)),
            Side::Right => list.push_back(Bytes::from(element)),
        }
    }
}

impl Keys<'_> {
    /// Takes an element off a list.
    pub(crate) fn pop(&mut self, key: &[u8], side: Side) -> Result<Option<Bytes>, Failure> {
        let element = self.list(key)?.and_then(|list| side.pop(list));
        if element.is_some() {
            self.touch(key);
            self.remove_if_empty(key);
        }
        Ok(element)
    }
}

pub(crate) fn push(keys: &mut Keys, args: Args, reply: &mut Reply, side: Side) -> Outcome {
    let (key, elements) = (args[1], &args[2..]);
    keys.list(key)?;
    let list = keys.get_or_insert(key, |_| Value::List(Box::default()));
    let Value::List(list) = list else { unreachable!("asked before") };
    elements.iter().for_each(|element| side.push(list, element));
    let len = list.len();
    keys.touch(key);
    Ok(reply.count(len))
}

pub(crate) fn pop(keys: &mut Keys, args: Args, reply: &mut Reply, side: Side) -> Outcome {
    let key = args[1];
    let wanted = match args[2..] {
        [] => {
            return Ok(reply.bulk_or_null(keys.pop(key, side)?.as_deref()));
        }
        [wanted] => count(wanted)?,
        _ if side == Side::Left => return Err(Failure::wrong_arguments("lpop")),
        _ => return Err(Failure::wrong_arguments("rpop")),
    };
    let Some(len) = keys.list(key)?.map(|list| list.len()) else {
        return Ok(reply.null_array());
    };
    reply.array(wanted.min(len));
    for _ in 0..wanted.min(len) {
        reply.bulk_or_null(keys.pop(key, side)?.as_deref());
    }
    Ok(Done)
}

pub(crate) fn llen(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    Ok(reply.count(keys.list(args[1])?.map_or(0, |list| list.len())))
}

/// Where an element stands; an index from the end is negative.
fn position(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add_unsigned(len as u64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

pub(crate) fn lindex(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let index = integer(args[2])?;
    let list = keys.list(args[1])?;
    let element = list.and_then(|list| position(index, list.len()).map(|index| &*list[index]));
    Ok(reply.bulk_or_null(element))
}

pub(crate) fn lset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let index = integer(args[2])?;
    let list = keys.list(args[1])?.ok_or(Failure::NO_SUCH_KEY)?;
    let index = position(index, list.len()).ok_or(Failure::OUT_OF_RANGE)?;
    list[index] = Bytes::from(args[3]);
    keys.touch(args[1]);
    Ok(reply.ok())
}

pub(crate) fn lrange(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    let Some(list) = keys.list(args[1])? else {
        return Ok(reply.array(0));
    };
    let range = range(start, stop, list.len());
    reply.array(range.len());
    Ok(reply.bulks(list.range(range)))
}

pub(crate) fn ltrim(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    if let Some(list) = keys.list(args[1])? {
        let range = range(start, stop, list.len());
        list.truncate(range.end);
        list.drain(..range.start);
        keys.touch(args[1]);
        keys.remove_if_empty(args[1]);
    }
    Ok(reply.ok())
}

/// Removes so many elements that are equal, from the end if negative, all if 0.
pub(crate) fn lrem(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let wanted = integer(args[2])?;
    let Some(list) = keys.list(args[1])? else {
        return Ok(reply.integer(0));
    };
    let equal = list.iter().filter(|element| ***element == *args[3]).count();
    let count = if wanted == 0 { equal } else { equal.min(wanted.unsigned_abs() as usize) };
    let first = if wanted < 0 { equal - count } else { 0 };
    let mut seen = 0;
    list.retain(|element| {
        let is_equal = **element == *args[3];
        seen += usize::from(is_equal);
        !(is_equal && seen > first && seen <= first + count)
    });
    if count > 0 {
        keys.touch(args[1]);
        keys.remove_if_empty(args[1]);
    }
    Ok(reply.count(count))
}
