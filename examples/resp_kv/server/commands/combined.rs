//! Commands that are two in one: a string is read and something becomes of its key, or it is set with one option of SET.

use super::expiry::Unit;
use super::strings::{Deadline, Options, get};
use super::*;

pub(crate) fn setex(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let expires = Unit::SECONDS.deadline_after(args[2], keys.store.now, args[0])?;
    keys.set_string(args[1], args[3], expires);
    Ok(reply.ok())
}

pub(crate) fn setnx(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let is_new = !keys.contains(args[1]);
    if is_new {
        keys.set_string(args[1], args[2], NEVER);
    }
    Ok(reply.integer(is_new.into()))
}

pub(crate) fn getset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let replied = get(keys, args, reply)?;
    keys.set_string(args[1], args[2], NEVER);
    Ok(replied)
}

pub(crate) fn getdel(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let replied = get(keys, args, reply)?;
    keys.remove(args[1]);
    Ok(replied)
}

pub(crate) fn getex(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(&args[2..], false)?;
    if keys.of::<Bytes>(args[1])?.is_none() {
        return Ok(reply.null());
    }
    let expires = options.expires(keys, args, Deadline::Keep)?;
    let replied = get(keys, args, reply)?;
    if expires == NEVER {
        keys.persist(args[1]);
    } else if keys.expires(args[1]) != Some(expires) {
        keys.expire_at(args[1], expires);
    }
    Ok(replied)
}
