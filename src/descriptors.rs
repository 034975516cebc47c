//! How many descriptors this process may have.

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of descriptors of this process, and of the children that it starts, as far as it may without
/// privileges: the soft limit to the hard one. Gives the limit from then on, `usize::MAX` if there is none.
///
/// For servers, before they listen: each connection takes a descriptor, and the soft limit is mostly 1024, for the sake
/// of programs that use select(2). What a process needs besides (files, look-ups, the reactor's own) is to be left free
/// by [`ReactorLimits::connections_max`](crate::ReactorLimits::connections_max).
///
/// If the system refuses, the limit stays as it was, and the log has a warning.
///
/// # Cost
///
/// Two system calls, getrlimit(2) and setrlimit(2).
///
/// # Platform notes
///
/// Unix only. macOS refuses where the hard limit is infinite, as it is by default (setrlimit(2)).
///
/// # Examples
///
/// ```
/// use oneloop::ReactorLimits;
///
/// let for_clients = oneloop::raise_descriptor_limit().saturating_sub(50);
/// let limits = ReactorLimits::new();
/// let connections_max = limits.connections_max.min(for_clients.max(1));
/// let limits = limits.connections_max(connections_max);
/// ```
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            warn!("the limit of descriptors stays as it is: {error}");
            limit.current
        }
    };
    in_number(current)
}

/// How many it may have now (getrlimit(2), `RLIMIT_NOFILE`).
pub(crate) fn descriptors_max() -> usize {
    in_number(getrlimit(Resource::Nofile).current)
}

fn in_number(limit: Option<u64>) -> usize {
    limit.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX)
}
