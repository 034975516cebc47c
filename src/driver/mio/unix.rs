//! Unix sockets that listen or are bound to receive: their paths, and who connects to them (unix(7)).
//!
//! The kernel removes no path when its socket is closed, so that after a crash one is left that nobody listens on,
//! and at which nobody can. Taking it over has two dangers. The path may be in use after all: a connect tells, which
//! is refused exactly if nobody listens. And two processes that start at once may both find nobody, so that the
//! second one removes the path which the first one has just made; that server then waits for ever for clients that
//! reach another one. No system call removes a path only if it is still the same file. So a starter locks
//! a file beside the path first (flock(2)), and keeps the lock as long as it listens; the kernel frees it however the
//! process ends. The lock's file stays: whoever removed it would have the race again, one file further.

use std::fs::{remove_file, symlink_metadata};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use log::{debug, warn};
use rustix::fs::{FlockOperation, Mode, OFlags, chmod, fchmod, flock, open};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketType, sockopt};

use super::sockets::{set_backlog, socket, unix_address};
use crate::address::{SocketAddress, UnixName};
use crate::driver::ListenConfig;

/// The path that a socket was bound to. Dropping it removes the path, unless that is another file by now.
#[derive(Debug)]
pub struct BoundPath {
    /// Absolute, so that the process may change its directory.
    path: PathBuf,
    /// Its file, whose number is not given to another one as long as the socket is open.
    device: u64,
    inode: u64,
    /// Released when the path is gone.
    _lock: Option<OwnedFd>,
}

impl BoundPath {
    fn new(path: &Path, lock: Option<OwnedFd>) -> io::Result<BoundPath> {
        let path = std::path::absolute(path)?;
        let file = symlink_metadata(&path)?;
        Ok(BoundPath { device: file.dev(), inode: file.ino(), path, _lock: lock })
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        let path = self.path.display();
        let is_ours = symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if !is_ours {
            return debug!("{path} is gone already, or somebody else's");
        }
        if let Err(error) = remove_file(&self.path) {
            warn!("{path} stays: {error}");
        }
    }
}

/// Binds a new socket to `name`, and listens.
pub(super) fn listen(
    socket: OwnedFd,
    name: &UnixName,
    config: &ListenConfig,
) -> io::Result<(OwnedFd, Option<BoundPath>)> {
    let path = bind(&socket, name, config.unix_mode, config.replace_stale)?;
    // From here on an error removes the path.
    set_backlog(&socket, config.backlog)?;
    Ok((socket, path))
}

/// Binds a new socket, of streams or datagrams, to `name`.
pub(super) fn bind(
    socket: &OwnedFd,
    name: &UnixName,
    mode: Option<u32>,
    replace_stale: bool,
) -> io::Result<Option<BoundPath>> {
    let address = unix_address(name)?;
    let Some(path) = name.as_path() else {
        rustix::net::bind(socket, &address)?;
        return Ok(None);
    };
    let lock = if replace_stale { Some(lock(path)?) } else { None };
    let mode = mode.map(mode_of).transpose()?;
    if let Some(mode) = mode {
        // The file is born with it, less what the umask takes: at no time with more. Elsewhere than on Linux a
        // socket has none (fchmod(2), EINVAL), and nobody gets in before it listens.
        match fchmod(socket, mode) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match rustix::net::bind(socket, &address) {
        Err(Errno::ADDRINUSE) if lock.is_some() => {
            remove_stale(path, &address, sockopt::socket_type(socket)?)?;
            rustix::net::bind(socket, &address)?;
        }
        result => result?,
    }
    let bound = BoundPath::new(path, lock)?; // from here on an error removes the path
    if let Some(mode) = mode
        && mode_of(symlink_metadata(path)?.mode() & MODE_MAX)? != mode
    {
        chmod(path, mode)?;
    }
    Ok(Some(bound))
}

const MODE_MAX: u32 = 0o777;

fn mode_of(mode: u32) -> io::Result<Mode> {
    if mode > MODE_MAX {
        let message = format!("the mode 0o{mode:o} is over 0o777");
        return Err(io::Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(Mode::from_bits_truncate(mode as _)) // their type is each platform's own
}

fn in_use(message: String) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, message)
}

fn is_no_socket(path: &Path) -> io::Error {
    in_use(format!("{} is not a socket", path.display()))
}

fn somebody_listens() -> io::Error {
    in_use("somebody listens there".into())
}

/// Makes sure that no other starter does anything to `path`, as long as what it gives is open.
fn lock(path: &Path) -> io::Result<OwnedFd> {
    // Nothing is put beside a file that is none of ours.
    if symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Err(is_no_socket(path));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let explain = |error: Errno| {
        let mut message = format!("{}: {}", name.display(), io::Error::from(error));
        if error == Errno::ACCESS
            && let Ok(file) = symlink_metadata(&name)
        {
            let user = file.uid();
            message += &format!("; user {user} listened there: if that is over, remove this file");
        }
        io::Error::new(io::Error::from(error).kind(), message)
    };
    let lock = open(&name, flags, Mode::RUSR | Mode::WUSR).map_err(explain)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(somebody_listens()),
        Err(error) => Err(explain(error)),
    }
}

/// Removes a socket's path that nobody listens on. A new one of that type is to have it.
fn remove_stale(path: &Path, address: &SocketAddrUnix, kind: SocketType) -> io::Result<()> {
    match symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Err(is_no_socket(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()), // meanwhile
        Err(error) => return Err(error),
    }
    // Without the lock's file, as programs do that others wrote, somebody may listen there yet. Such a one gets a
    // connection that ends at once; of a datagram socket it hears nothing.
    let probe = socket(&SocketAddress::Unnamed, kind)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {
            debug!("{}: nobody listens there any more", path.display());
            remove_file(path)
        }
        Err(Errno::NOENT) => Ok(()), // meanwhile
        // AGAIN: and its backlog is full; PERM: a datagram socket that is connected to somebody else.
        Ok(()) | Err(Errno::AGAIN | Errno::PERM) => Err(somebody_listens()),
        Err(Errno::PROTOTYPE) => {
            Err(in_use(format!("{} is a socket of another type, in use", path.display())))
        }
        Err(error) => {
            let error = io::Error::from(error);
            Err(in_use(format!("whether somebody listens there cannot be seen: {error}")))
        }
    }
}

pub(super) fn no_credentials() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "only peers on Unix sockets have credentials")
}
