//! Commands that are two in one: a string is read and something becomes of its key, or it is set with one option of SET.

use super::expiry::options;
use super::strings::get;
use super::*;

pub fn setnx(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let is_new = !keys.contains(args[1]);
    if is_new {
        keys.set_string(args[1], args[2], NEVER);
    }
    Ok(reply.integer(is_new.into()))
}

pub fn getset(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let replied = get(keys, args, reply)?;
    keys.set_string(args[1], args[2], NEVER);
    Ok(replied)
}

pub fn getdel(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let replied = get(keys, args, reply)?;
    keys.remove(args[1]);
    Ok(replied)
}

pub fn getex(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let (deadline, _) = options(keys, args, false)?;
    let replied = get(keys, args, reply)?;
    match deadline {
        Some(NEVER) => _ = keys.persist(args[1]),
        Some(at) if keys.contains(args[1]) => keys.expire_at(args[1], at),
        _ => {}
    }
    Ok(replied)
}
