//! `--until-stdin-closes`: standard input as a source of the loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use oneloop::{Context, Drained, Key, SourceHandler};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Stops the loop when standard input ends: no thread, and nothing to do until that day.
pub(super) struct UntilClosed;

/// Our own name for standard input. It is not made non-blocking, because that would hold for all who
/// share it, a terminal's shell among them: it is asked before it is read.
pub(super) struct Stdin(OwnedFd);

impl Stdin {
    /// # Errors
    ///
    /// It is closed, or this process may have no more descriptors.
    pub(super) fn new() -> io::Result<Stdin> {
        Ok(Stdin(rustix::stdio::stdin().as_fd().try_clone_to_owned()?))
    }

    fn is_readable(&self) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        Ok(poll(&mut descriptors, Some(&Timespec::default()))? > 0)
    }
}

impl mio::event::Source for Stdin {
    fn register(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
        interests: mio::Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
        interests: mio::Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &mio::Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

impl SourceHandler for UntilClosed {
    type Source = Stdin;

    fn on_readable(&mut self, _: Key, stdin: &mut Stdin, cx: &mut Context<'_>) -> Drained {
        let mut ignored = [0; 4096];
        match stdin.is_readable() {
            Ok(false) => return Drained::Yes,
            Ok(true) => match rustix::io::read(&stdin.0, &mut ignored) {
                Ok(0) => cx.stop(),
                Ok(_) | Err(rustix::io::Errno::INTR) => return Drained::No,
                // A terminal that is gone.
                Err(_) => cx.stop(),
            },
            Err(_) => cx.stop(),
        }
        Drained::Yes
    }
}
