//! Signals of the process, as events of the loop.

use std::fmt;

/// A signal that a reactor can be told of (signal(7)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGINT`: the terminal's interrupt key.
    Interrupt,
    /// `SIGTERM`: asked to end.
    Terminate,
    /// `SIGHUP`: the terminal is gone; by custom, to read the configuration again.
    Hangup,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
            Signal::Hangup => "SIGHUP",
            Signal::User1 => "SIGUSR1",
            Signal::User2 => "SIGUSR2",
        })
    }
}

/// A set of signals; each is in it once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Signals(u8);

impl Signals {
    const ALL: [Signal; 5] =
        [Signal::Interrupt, Signal::Terminate, Signal::Hangup, Signal::User1, Signal::User2];

    pub(crate) fn insert(&mut self, signal: Signal) {
        self.0 |= 1 << signal as u8;
    }

    pub(crate) fn contains(self, signal: Signal) -> bool {
        self.0 & 1 << signal as u8 != 0
    }

    /// In the order of their declaration.
    pub(crate) fn iter(self) -> impl Iterator<Item = Signal> {
        Signals::ALL.into_iter().filter(move |signal| self.contains(*signal))
    }
}
