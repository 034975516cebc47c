//! Children that get no copy of what this process has open, not even for a moment.

use std::thread;

use nix::libc::{CLOSE_RANGE_UNSHARE, c_int, c_uint, close_range};

/// Runs `start`, which starts programs, in a thread with a table of descriptors of its own. What `start` opens is closed
/// when it ends: it may read what its programs print, and cannot hand out the pipe to them.
///
/// Until it has become its program (execve(2)), a child has a copy of each descriptor of the thread that started it, so
/// that what another test closes in that moment stays open: a pipe has a reader, a port is taken, a lock is held.
pub(crate) fn apart<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    let alone = || {
        // SAFETY: this thread gets a table of its own (close_range(2)), and what is closed in it nobody here has used.
        let result = unsafe { close_range(3, c_uint::MAX, CLOSE_RANGE_UNSHARE as c_int) };
        assert_eq!(result, 0, "close_range: {}", std::io::Error::last_os_error());
        start()
    };
    thread::scope(|scope| scope.spawn(alone).join().unwrap())
}
