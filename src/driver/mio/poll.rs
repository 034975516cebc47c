//! The poll: how streams are registered with it, and how it is waited for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, Timespec};
#[cfg(target_os = "linux")]
use rustix::io::Errno;

use super::{Mio, platform};
#[cfg(target_os = "linux")]
use crate::clock::Time;
use crate::driver::StreamKind;

/// The epoll descriptor: readable when a turn would find events, for a reactor inside another loop.
impl AsRawFd for Mio {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl AsFd for Mio {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

/// What a connection is registered for, once. Priority is asked for because a read stops at the urgent mark:
/// it says that a short read does not mean drained.
pub(super) fn interest_of(kind: StreamKind) -> mio::Interest {
    match kind {
        StreamKind::Tcp => platform::STREAM | mio::Interest::WRITABLE,
        StreamKind::Unix | StreamKind::PipeIn | StreamKind::PipeOut => platform::STREAM,
    }
}

impl Mio {
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                // A signal came: nothing is ready, and the turn goes on to look at its timers.
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// epoll_wait(2) counts in milliseconds. It waits for the whole ones; for what is left ppoll(2) does,
    /// on the epoll descriptor, which is readable when there are events.
    #[cfg(target_os = "linux")]
    pub(super) fn wait_until(&mut self, now: Time, until: Time) -> io::Result<()> {
        let mut rest = until - now;
        // The kernel may be late by so much of the time that it is asked to wait (a fifth of that, for
        // processes that are not niced).
        let slack = (rest / 200).min(Duration::from_millis(100));
        let whole = (rest - slack).as_millis();
        if whole > 0 {
            let whole = Duration::from_millis(u64::try_from(whole).unwrap_or(u64::MAX));
            self.wait(Some(whole))?;
            if !self.events.is_empty() {
                return Ok(());
            }
            rest = until - self.clock.now();
            if rest.is_zero() {
                return Ok(());
            }
        }
        let timeout = Timespec::try_from(rest).ok();
        let mut descriptors = [PollFd::new(self.poll.registry(), PollFlags::IN)];
        match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => {
                self.events.clear();
                Ok(())
            }
            Ok(_) => self.wait(Some(Duration::ZERO)),
            Err(error) => Err(error.into()),
        }
    }
}
