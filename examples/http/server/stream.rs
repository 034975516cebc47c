//! Large files on their way out: read off the loop, a block at a time, and no faster than their reader takes them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use oneloop::{Blocking, Connection};

use super::files::File;
use super::jobs::Block;
use super::range::{Piece, Pieces};

/// So much is read at once: with what waits before it, enough to keep a fast reader busy while the next one is read.
pub(super) const BLOCK_BYTES: u64 = 128 * 1024;
/// After this time it is tried again to have a block read, if there were too many jobs.
const BUSY: Duration = Duration::from_millis(20);

/// What is left to send of a file.
pub(super) struct Stream {
    pieces: VecDeque<Piece>,
    file: Arc<dyn File>,
    /// A helper thread reads the next block.
    is_reading: bool,
    /// A block that was sent, whose room is used again.
    block: Vec<u8>,
    /// The connection goes on after the answer.
    pub(super) keeps_alive: bool,
}

impl Stream {
    pub(super) fn new(file: Arc<dyn File>, pieces: Pieces, keeps_alive: bool) -> Stream {
        let pieces = pieces.into_iter().collect();
        Stream { pieces, file, is_reading: false, block: Vec::new(), keeps_alive }
    }

    /// Sends what can be sent, and has the next block read if there is room for it. Gives whether all is sent; otherwise
    /// it waits for a block, for the reader, or for a timer.
    pub(super) fn send_next(&mut self, conn: &mut Connection<'_>, reads: &Blocking<Block>) -> bool {
        while !self.is_reading
            && let Some(piece) = self.pieces.front_mut()
        {
            let span = match piece {
                Piece::Span(span) if !span.is_empty() => span,
                text_or_sent => {
                    if let Piece::Text(text) = text_or_sent {
                        conn.send(text.as_bytes()).ignore();
                    }
                    self.pieces.pop_front();
                    continue;
                }
            };
            if conn.is_over_high() {
                self.block = Vec::new(); // which would be idle for as long as a slow reader likes
                return false;
            }
            let (offset, len) = (span.start, (span.end - span.start).min(BLOCK_BYTES));
            let (file, mut block) = (Arc::clone(&self.file), std::mem::take(&mut self.block));
            let job = move || {
                block.resize(len as usize, 0);
                Block(file.read_exact_at(&mut block, offset).map(|()| block))
            };
            if reads.run_for(conn.key(), job).is_err() {
                conn.set_timer(BUSY);
                return false;
            }
            span.start += len;
            self.is_reading = true;
        }
        !self.is_reading
    }

    /// Sends a block that was read, or fails as the read did.
    pub(super) fn take(&mut self, conn: &mut Connection<'_>, block: Block) -> io::Result<()> {
        self.is_reading = false;
        self.block = block.0?;
        conn.send(&self.block).ignore();
        Ok(())
    }
}
