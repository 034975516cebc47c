//! Which core the load runs on, and which one the servers.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The core for the load and the one for all servers; none where there is only one, which they share.
pub(crate) fn divide_cores() -> (Option<usize>, Option<usize>) {
    let Ok(ours) = sched_getaffinity(None) else { return (None, None) };
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| ours.is_set(core));
    match (cores.next(), cores.next_back()) {
        (Some(first), Some(last)) => (Some(first), Some(last)),
        _ => (None, None),
    }
}

/// Lets this thread run on one core only.
///
/// # Errors
///
/// There is no such core for us.
pub(crate) fn pin(core: usize) -> Result<()> {
    if core >= CpuSet::MAX_CPU {
        bail!("there is no core {core}");
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("core {core} is not ours to use"))
}

/// Does something while this thread runs on one core only, if there is one named. What it starts stays there.
///
/// # Errors
///
/// See [`pin`].
pub(crate) fn pinned<T>(core: Option<usize>, what: impl FnOnce() -> T) -> Result<T> {
    let Some(core) = core else { return Ok(what()) };
    let ours = sched_getaffinity(None)?;
    pin(core)?;
    let done = what();
    sched_setaffinity(None, &ours)?;
    Ok(done)
}
