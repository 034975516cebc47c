//! Signals as a source of the poll: the handler of a signal sets a flag and then writes a byte, which
//! wakes the loop. Both are what a signal handler may do (signal-safety(7)); the signal-hook library
//! installs it.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{flag, low_level};

use crate::signal::Signal;

fn number_of(signal: Signal) -> i32 {
    match signal {
        Signal::Interrupt => SIGINT,
        Signal::Terminate => SIGTERM,
        Signal::Hangup => SIGHUP,
        Signal::User1 => SIGUSR1,
        Signal::User2 => SIGUSR2,
    }
}

#[derive(Debug)]
struct Watched {
    signal: Signal,
    has_come: Arc<AtomicBool>,
    actions: [SigId; 2],
}

/// The signals that one driver watches.
#[derive(Debug)]
pub(super) struct Caught {
    reader: UnixStream,
    writer: UnixStream,
    watched: Vec<Watched>,
}

impl Caught {
    pub(super) fn new() -> io::Result<Caught> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?; // full is as good as written: the loop wakes
        Ok(Caught { reader, writer, watched: Vec::new() })
    }

    pub(super) fn watch(&mut self, signal: Signal) -> io::Result<()> {
        if self.watched.iter().any(|watched| watched.signal == signal) {
            return Ok(());
        }
        let number = number_of(signal);
        let writer = self.writer.try_clone()?;
        let has_come = Arc::new(AtomicBool::new(false));
        // Run in this order: whoever is woken finds the flag.
        let first = flag::register(number, Arc::clone(&has_come))?;
        let second = low_level::pipe::register(number, writer).inspect_err(|_| {
            low_level::unregister(first);
        })?;
        self.watched.push(Watched { signal, has_come, actions: [first, second] });
        Ok(())
    }

    /// The bytes first, then the flags: a signal in between wakes the loop once more, and is not lost.
    pub(super) fn take(&mut self, take: &mut dyn FnMut(Signal)) {
        let mut bytes = [0; 64];
        loop {
            match self.reader.read(&mut bytes) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        for watched in &self.watched {
            if watched.has_come.swap(false, Ordering::SeqCst) {
                take(watched.signal);
            }
        }
    }
}

impl AsRawFd for Caught {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        for watched in &self.watched {
            for action in watched.actions {
                low_level::unregister(action);
            }
        }
    }
}
