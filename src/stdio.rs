//! Standard input and output as connections.
//!
//! There are two traps. `O_NONBLOCK` belongs to the open file, which a terminal's shell shares: set there, it stays
//! when the program has ended. And epoll refuses regular files and `/dev/null`. So a pipe or a terminal is opened
//! anew, which gives an open file of our own, and for the rest, but sockets, a thread stands between the file and a pipe.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use log::debug;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;

use crate::driver::open_anew;

/// Standard input, for [`Reactor::adopt`](crate::Reactor::adopt), and what tells whether it was read to its end. What
/// `std::io::stdin` has read already is not in it. [`stdout`] has an example.
///
/// As any connection it ends after the [idle time-out](crate::Limits::idle_timeout), ten minutes by default. Who waits
/// for a person to type gives the reactor [limits](crate::Reactor::set_connect_limits) without one before they adopt it.
///
/// The process's own descriptor 0 stays open: a writer at the other end of its pipe does not hear that the
/// connection was closed before the process ends.
///
/// # Errors
///
/// `IsADirectory`; `InvalidInput` if it is not open for reading; those of fstat(2), fcntl(2), pipe(2), and of beginning a
/// thread. An error of reading a file ends the connection as the end of the file does: [`Reading::check`] tells.
///
/// # Cost
///
/// Two system calls for a pipe or a socket, three for a terminal. For everything else (a regular file, `/dev/null`, the
/// side of a pseudo-terminal that a program has which runs another one in it), and for a terminal or pipe that this user
/// may not open, some more and a thread, which ends with the file or with the reactor's end of the pipe; nobody waits
/// for it.
///
/// # Platform notes
///
/// A pipe or a terminal keeps its flags, and so does whoever shares it. A socket, of which there is no second open
/// file, is made non-blocking for all. Elsewhere than on Linux everything but a socket has a thread.
pub fn stdin() -> io::Result<(OwnedFd, Reading)> {
    let shared = io::stdin();
    check(&shared, OFlags::WRONLY, "standard input cannot be read")?;
    if let Some(descriptor) = open_anew(&shared, OFlags::RDONLY)? {
        return Ok((descriptor, Reading(None)));
    }
    debug!("standard input is read by a thread");
    let mut file = File::from(shared.as_fd().try_clone_to_owned()?);
    let (ours, mut its) = io::pipe()?;
    let (failed, failure) = mpsc::channel();
    thread::Builder::new().name("oneloop-stdin".into()).spawn(move || {
        match copy(&mut file, &mut its) {
            // A terminal that has hung up, which is how the other side of a pseudo-terminal ends.
            Err(error)
                if error.raw_os_error() == Some(Errno::IO.raw_os_error()) && file.is_terminal() => {
            }
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                // Before the pipe ends; nobody listens if nobody wants to know.
                let _ = failed.send(error);
            }
            _ => {}
        }
    })?;
    Ok((ours.into(), Reading(Some(failure))))
}

/// Standard output, for [`Reactor::adopt`](crate::Reactor::adopt), and what tells when all of it is written. What is
/// printed otherwise meanwhile, with `println!`, comes in any order with it. Time-outs end it as they do [`stdin`], and
/// the one of a [stalled write](crate::Limits::write_stall_timeout) when a person stops their terminal for a while.
///
/// ```no_run
/// # use std::time::Duration;
/// # use oneloop::{Connection, Error, Limits, Reactor, StreamHandler};
/// # struct Copy;
/// # impl StreamHandler for Copy {
/// #     type Session = ();
/// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
/// #     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
/// #         Ok(data.len())
/// #     }
/// # }
/// let mut reactor = Reactor::new()?;
/// // Whoever types may think for as long as they like, and so may whoever reads a page of what was typed.
/// reactor.set_connect_limits(Limits::new().idle_timeout(Duration::MAX).write_stall_timeout(Duration::MAX))?;
/// let copy = reactor.add(Copy);
/// let (input, reading) = oneloop::stdin()?;
/// reactor.adopt(copy, input, 0)?;
/// let (output, written) = oneloop::stdout()?;
/// reactor.adopt(copy, output, 1)?;
/// reactor.run()?;
/// written.wait()?;
/// reading.check()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// The process's own descriptor 1 stays open: a reader at the other end of its pipe sees the end of file when the
/// process ends.
///
/// # Errors
///
/// As [`stdin`]; `InvalidInput` if it is not open for writing.
///
/// # Cost
///
/// As [`stdin`].
///
/// # Platform notes
///
/// As [`stdin`].
pub fn stdout() -> io::Result<(OwnedFd, Written)> {
    let shared = io::stdout();
    check(&shared, OFlags::RDONLY, "standard output cannot be written to")?;
    if let Some(descriptor) = open_anew(&shared, OFlags::WRONLY)? {
        return Ok((descriptor, Written(None)));
    }
    debug!("standard output is written by a thread");
    let mut file = File::from(shared.as_fd().try_clone_to_owned()?);
    let (mut its, ours) = io::pipe()?;
    let thread = thread::Builder::new()
        .name("oneloop-stdout".into())
        .spawn(move || copy(&mut its, &mut file))?;
    Ok((ours.into(), Written(Some(thread))))
}

/// Of what a thread would find out later, when there is nobody to tell but the log.
fn check(descriptor: impl AsFd, useless: OFlags, message: &str) -> io::Result<()> {
    let descriptor = descriptor.as_fd();
    if FileType::from_raw_mode(fstat(descriptor)?.st_mode) == FileType::Directory {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, message));
    }
    if fcntl_getfl(descriptor)? & OFlags::RWMODE == useless {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// Not [`io::copy`]: it would splice(2), which decides where in the file the bytes go before there are any, and
/// overwrites what others have written there in the meantime.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells whether the end of [`stdin`] was its end.
#[must_use = "a file that cannot be read any further looks like one that has ended"]
#[derive(Debug)]
pub struct Reading(Option<Receiver<io::Error>>);

impl Reading {
    /// Whether all that was read so far could be. To be called when the connection has closed: there is nothing to wait
    /// for. What a pipe, a terminal or a socket has to say, its connection says.
    ///
    /// # Errors
    ///
    /// Those of read(2): the disk is broken, say. The connection has ended as
    /// [`PeerClosed`](crate::CloseReason::PeerClosed) then, as at the end of the file.
    pub fn check(self) -> io::Result<()> {
        let failure = self.0.and_then(|failure| failure.try_recv().ok());
        failure.map_or(Ok(()), Err)
    }
}

/// Tells when what was sent to [`stdout`] is written.
#[must_use = "a process that ends without waiting may lose the end of its output"]
#[derive(Debug)]
pub struct Written(Option<JoinHandle<io::Result<()>>>);

impl Written {
    /// Waits until all is written to a file. To be called when the connection has closed, after
    /// [`run`](crate::Reactor::run) say: as long as it is open there may be more, and this waits for it. What went to a
    /// pipe, a terminal or a socket is written when the connection has closed, and nothing is waited for.
    ///
    /// # Errors
    ///
    /// Those of write(2): the file system is full, say. The connection has ended as
    /// [`Reset`](crate::CloseReason::Reset) then.
    pub fn wait(self) -> io::Result<()> {
        match self.0 {
            Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => Ok(()),
        }
    }
}
