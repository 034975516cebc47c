//! What we say and log, where nobody but a client could hear it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// Which of standard output and standard error are a guest's, whom nothing but the echo may reach: neither what we say
/// nor what is logged.
#[derive(Default)]
pub(super) struct Hushed {
    has_stdout: bool,
    has_stderr: bool,
}

impl Hushed {
    /// # Errors
    ///
    /// Standard output or standard error is closed, or this process may have no more descriptors.
    pub(super) fn add(&mut self, guest: &impl AsFd) -> io::Result<()> {
        self.has_stdout |= is_same(&io::stdout(), guest)?;
        self.has_stderr |= is_same(&io::stderr(), guest)?;
        Ok(())
    }

    /// They lead nowhere from now on.
    ///
    /// # Errors
    ///
    /// There is no /dev/null.
    pub(super) fn hush(self) -> io::Result<()> {
        let nowhere = File::options().write(true).open("/dev/null")?;
        if self.has_stdout {
            rustix::stdio::dup2_stdout(&nowhere)?;
        }
        if self.has_stderr {
            rustix::stdio::dup2_stderr(&nowhere)?;
        }
        Ok(())
    }
}

fn is_same(one: &impl AsFd, other: &impl AsFd) -> io::Result<bool> {
    let identity = |fd: BorrowedFd<'_>| -> io::Result<(u64, u64)> {
        let metadata = File::from(fd.try_clone_to_owned()?).metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    };
    Ok(identity(one.as_fd())? == identity(other.as_fd())?)
}
