//! Large files on their way out: read off the loop, a block at a time, and no faster than their reader takes them.

use std::collections::VecDeque;
use std::io;

use oneloop::{Blocking, Connection};

use super::files::File;
use super::jobs::{Done, read};
use super::range::Piece;

/// So much is read at once: with what waits before it, enough to keep a fast reader busy while the next one is read.
const BLOCK_BYTES: u64 = 128 * 1024;

/// What is left to send of a file.
pub(super) struct Stream {
    pieces: VecDeque<Piece>,
    /// `None` while a helper thread has it.
    file: Option<Box<dyn File>>,
    /// A block that was sent, whose room is used again.
    block: Vec<u8>,
    /// Of the connection, after the answer.
    pub(super) keeps_alive: bool,
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
    pub(super) fn new(file: Box<dyn File>, pieces: Vec<Piece>, keeps_alive: bool) -> Stream {
        Stream { pieces: pieces.into(), file: Some(file), block: Vec::new(), keeps_alive }
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
