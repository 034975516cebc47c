//! Who is at the other end of a Unix socket.

/// The process at the other end of a Unix stream, as it was when it called connect or listen (unix(7),
/// `SO_PEERCRED`). The kernel says so, not the peer; but the process may have passed the socket on since, or have
/// ended, and its number then been given to another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Credentials {
    /// Its number. `None` if it has none here: a process of another PID namespace, such as that of the host of a
    /// container; or on FreeBSD.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}
