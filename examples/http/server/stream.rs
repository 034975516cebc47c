//! Large files on their way out: read off the loop, a block at a time, and no faster than their reader takes them.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use oneloop::{Blocking, Connection, Limits};

use super::files::File;
use super::jobs::{Done, read};
use super::range::Piece;

/// So much is read at once: with what waits before it, enough to keep a fast reader busy while the next one is read.
pub(super) const BLOCK_BYTES: u64 = 128 * 1024;

/// What is left to send of a file.
pub(super) struct Stream {
    pub(super) pieces: VecDeque<Piece>,
    /// `None` while a helper thread has it.
    file: Option<Box<dyn File>>,
    /// A block that was sent, whose room is used again.
    block: Vec<u8>,
    /// Of the connection, after the answer.
    pub(super) keeps_alive: bool,
    /// Of the connection, before and after.
    limits: Rc<Limits>,
}

/// How it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// It waits for a block, or for the reader.
    Waits,
    Finished,
    /// It cannot be finished.
    Failed,
}

impl Stream {
    /// A file whose head is to be sent next, and then its pieces. From now on the connection has no
    /// more in its output than a block and the next one.
    pub(super) fn begin(
        conn: &mut Connection<'_>,
        file: Box<dyn File>,
        keeps_alive: bool,
    ) -> Stream {
        let limits = Rc::clone(conn.limits());
        let high = BLOCK_BYTES as usize;
        conn.set_limits(&Rc::new((*limits).clone().output_bytes_high(high)));
        let pieces = VecDeque::new();
        Stream { pieces, file: Some(file), block: Vec::new(), keeps_alive, limits }
    }

    /// The answer is sent.
    pub(super) fn end(&self, conn: &mut Connection<'_>) {
        conn.set_limits(&self.limits);
    }

    /// Sends what can be sent, and has the next block read if there is room for it.
    pub(super) fn go_on(&mut self, conn: &mut Connection<'_>, jobs: &Blocking<Done>) -> Progress {
        while let Some(piece) = self.pieces.front_mut() {
            let span = match piece {
                Piece::Text(text) => {
                    conn.send(text.as_bytes()).ignore();
                    self.pieces.pop_front();
                    continue;
                }
                Piece::Span(span) if span.is_empty() => {
                    self.pieces.pop_front();
                    continue;
                }
                Piece::Span(span) => span,
            };
            if conn.is_over_high() {
                self.block = Vec::new(); // which would be idle for as long as a slow reader likes
                return Progress::Waits; // for on_drained
            }
            let Some(mut file) = self.file.take() else { return Progress::Waits };
            let (offset, len) = (span.start, (span.end - span.start).min(BLOCK_BYTES));
            span.start += len;
            let block = std::mem::take(&mut self.block);
            let job = move || {
                let block = read(&mut *file, offset, len as usize, block);
                Done::Read(file, block)
            };
            return match jobs.run_for(conn.key(), job) {
                Ok(()) => Progress::Waits,
                Err(_) => Progress::Failed,
            };
        }
        match self.file {
            Some(_) => Progress::Finished,
            None => Progress::Waits,
        }
    }

    /// A block was read.
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub(super) fn take_block(
        &mut self,
        conn: &mut Connection<'_>,
        file: Box<dyn File>,
        block: io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        self.file = Some(file);
        self.block = block?;
        conn.send(&self.block).ignore();
        Ok(())
    }
}
