//! Large files on their way out: read ahead off the loop, a part at a time, and sent no faster than their reader takes them.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use oneloop::{Blocking, Connection, read_ahead};

use super::jobs::ReadAhead;
use super::range::{Piece, Pieces};

/// So much is read ahead at once.
const PART_BYTES: u64 = 256 * 1024;
/// After this time it is tried again to have a part read, if there were too many jobs.
const BUSY: Duration = Duration::from_millis(20);

/// What is left to send of a file.
pub(super) struct Stream {
    pieces: VecDeque<Piece>,
    file: Arc<File>,
    /// What a helper thread reads ahead.
    reading: Option<Range<u64>>,
    /// The connection goes on after the answer.
    pub(super) keeps_alive: bool,
}

impl Stream {
    pub(super) fn new(file: Arc<File>, pieces: Pieces, keeps_alive: bool) -> Stream {
        Stream { pieces: pieces.into_iter().collect(), file, reading: None, keeps_alive }
    }

    /// Sends what can be sent, and has the next part read if there is room for it. Gives whether all is sent; otherwise
    /// it waits for a part, for the reader, or for a timer.
    pub(super) fn send_next(
        &mut self,
        conn: &mut Connection<'_>,
        reads: &Blocking<ReadAhead>,
    ) -> bool {
        while self.reading.is_none()
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
                return false;
            }
            let part = span.start..span.end.min(span.start + PART_BYTES);
            let (file, ahead) = (Arc::clone(&self.file), part.clone());
            if reads.run_for(conn.key(), move || ReadAhead(read_ahead(&file, ahead))).is_err() {
                conn.set_timer(BUSY);
                return false;
            }
            span.start = part.end;
            self.reading = Some(part);
        }
        self.reading.is_none()
    }

    /// Sends a part that was read ahead, or fails as the read did.
    pub(super) fn take(&mut self, conn: &mut Connection<'_>, read: ReadAhead) -> io::Result<()> {
        let part = self.reading.take().expect("only what was asked for comes");
        read.0?;
        conn.send_file(&self.file, part).ignore();
        Ok(())
    }
}
