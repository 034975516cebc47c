//! Pipes, and what else reads and writes but is no socket.
//!
//! recv(2) and send(2) of such a descriptor fail with `ENOTSOCK`, and only then is it read and written as a file: it is
//! pipes that pay for it, with a call.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;

use super::retrying;
use crate::driver::StreamKind;

fn is_no_socket(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOTSOCK.raw_os_error())
}

/// Goes on after recv(2) failed.
#[cold]
#[inline(never)]
pub(super) fn read(error: io::Error, pipe: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    if is_no_socket(&error) {
        retrying(|| rustix::io::read(pipe, &mut *buffer))
    } else {
        Err(error)
    }
}

/// Goes on after send(2) failed.
#[cold]
#[inline(never)]
pub(super) fn write(error: io::Error, pipe: &OwnedFd, data: &[u8]) -> io::Result<usize> {
    if is_no_socket(&error) { retrying(|| rustix::io::write(pipe, data)) } else { Err(error) }
}

/// Goes on after sendmsg(2) failed.
#[cold]
#[inline(never)]
pub(super) fn write_vectored(
    error: io::Error,
    pipe: &OwnedFd,
    slices: &[IoSlice<'_>],
) -> io::Result<usize> {
    if is_no_socket(&error) { retrying(|| rustix::io::writev(pipe, slices)) } else { Err(error) }
}

/// A pipe has no error of its own, but for this: nobody reads it any more (poll(2), `POLLERR`).
#[cold]
pub(super) fn take_error(pipe: &OwnedFd) -> io::Result<Option<io::Error>> {
    let mut descriptors = [PollFd::new(pipe, PollFlags::empty())];
    retrying(|| rustix::event::poll(&mut descriptors, Some(&Timespec::default())))?;
    let is_unread = descriptors[0].revents().contains(PollFlags::ERR);
    Ok(is_unread.then(|| io::ErrorKind::BrokenPipe.into()))
}

/// In which direction it goes.
pub(super) fn kind_of(descriptor: &OwnedFd) -> io::Result<StreamKind> {
    match fcntl_getfl(descriptor)? & OFlags::RWMODE {
        OFlags::WRONLY => Ok(StreamKind::PipeOut),
        OFlags::RDWR => {
            let message = "the descriptor is no socket, and open for both directions";
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
        _ => Ok(StreamKind::PipeIn),
    }
}

/// A descriptor of our own for what is behind `shared`, which a reactor can adopt: a socket's, or another open file of a
/// pipe or a terminal, so that making it non-blocking changes nothing for those who share the first one, a terminal's
/// shell among them. `None` for what is neither, and if it cannot be opened anew.
#[cfg(target_os = "linux")]
pub(crate) fn open_anew(shared: impl AsFd, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    use rustix::fs::{FileType, Mode, fstat, makedev, open};
    use std::io::IsTerminal;
    use std::os::fd::AsRawFd;

    /// Opened anew, the side of a pseudo-terminal that programs have is another pseudo-terminal (pty(7)).
    const PTMX: (u32, u32) = (5, 2);

    let shared = shared.as_fd();
    let status = fstat(shared)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Socket => return Ok(Some(shared.try_clone_to_owned()?)), // there is no other way to it
        FileType::Fifo => {}
        FileType::CharacterDevice
            if status.st_rdev != makedev(PTMX.0, PTMX.1) && shared.is_terminal() => {}
        _ => return Ok(None),
    }
    let path = format!("/proc/self/fd/{}", shared.as_raw_fd());
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match open(&path, flags, Mode::empty()) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(error) => {
            // Another user's terminal or pipe, no reader yet, no /proc.
            log::debug!("{path} cannot be opened: {error}");
            Ok(None)
        }
    }
}

/// Without /proc there is no other open file to be had, but for sockets.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open_anew(shared: impl AsFd, _: OFlags) -> io::Result<Option<OwnedFd>> {
    let shared = shared.as_fd();
    Ok(match rustix::net::sockopt::socket_type(shared) {
        Ok(_) => Some(shared.try_clone_to_owned()?),
        Err(_) => None,
    })
}
