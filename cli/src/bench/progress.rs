//! What is going on, for somebody who watches.

use std::io::{self, IsTerminal, Write};

/// One line on standard error that is written over and over; nothing if that is no terminal.
pub(super) struct Progress {
    is_shown: bool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { is_shown: io::stderr().is_terminal() }
    }

    pub(super) fn clear(&self) {
        self.say("");
    }

    pub(super) fn say(&self, text: &str) {
        if self.is_shown {
            let mut stderr = io::stderr().lock();
            // To the first column, and erase the line.
            let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
        }
    }
}

/// An error ends the measurement in the middle of a line.
impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
