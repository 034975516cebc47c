//! The callbacks: what the loop tells the server.

use std::time::Duration;

use oneloop::codec::{Decoder, for_each_message};
use oneloop::{
    CloseReason, Connection, Context, Error, Key, MessageHandler, StreamHandler, TimerId,
};

use super::append_only::Written;
use super::clients::Client;
use super::output::FLUSH_BYTES;
use super::protocol::{COMMAND_BYTES_MAX, CommandDecoder, Request};
use super::{Server, Session};

/// So many keys whose deadline has passed are removed in a turn, with their entries.
const EXPIRED_PER_TURN: usize = 1000;
/// After so many arguments, and entries that were looked at, the other clients have their turn: about a millisecond.
const WORK_PER_TURN: usize = 16_000;

impl StreamHandler for Server {
    type Session = Session;

    fn on_start(&mut self, cx: &mut Context) {
        self.started = cx.now();
        if let Some(append_only) = &mut self.append_only {
            append_only.start(cx);
        }
        self.end(cx);
    }

    fn on_open(&mut self, conn: &mut Connection) -> Session {
        self.clients_total += 1;
        let slot = self.clients.insert(Client::new(self.clients_total, conn));
        Session { slot, decoder: CommandDecoder::new(COMMAND_BYTES_MAX) }
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection,
        data: &[u8],
    ) -> Result<usize, Error> {
        let slot = session.slot;
        if self.clients[slot].must_wait() {
            // What it sent stays in the input, and is shown again when it goes on. We read more of it as long as there
            // is room, or we would not notice that it leaves.
            if self.clients[slot].is_closing || data.len() >= COMMAND_BYTES_MAX {
                conn.pause();
            }
            return Ok(0);
        }
        self.begin(conn, slot);
        let result = for_each_message(conn, data, |conn, rest| {
            let Some((request, taken)) = session.decoder.decode(rest)? else {
                if session.decoder.need() > 0 {
                    conn.need(session.decoder.need());
                }
                return Ok(None);
            };
            match request {
                Request::Array(args) => self.handle_command(conn, &args),
                Request::Inline(words) => {
                    let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    self.handle_command(conn, &args);
                }
            }
            let this = &self.clients[slot];
            if this.is_postponed {
                return Ok(None); // it was not carried out, and stays in the input
            }
            if this.must_wait() || self.store.work > WORK_PER_TURN {
                // It waits, or others have their turn. `again` ends the loop: the rest of its commands stays in the input.
                self.store.work = 0;
                conn.again();
            }
            if self.out.len() >= FLUSH_BYTES {
                self.flush(conn);
            }
            Ok(Some(taken))
        });
        // An error of this callback would close the connection at once. But the client is to get the replies to the
        // commands before this one, also those that wait for the disk. What is behind the error cannot be read.
        let used = result.unwrap_or_else(|error| {
            self.reply().error(&format!("ERR Protocol error: {error}"));
            self.clients[slot].is_closing = true;
            data.len()
        });
        self.flush(conn);
        self.end(conn);
        Ok(used)
    }

    /// BLPOP or BRPOP has waited long enough: no other timer is set for a connection.
    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection, _: TimerId) {
        if self.clients[session.slot].blocked.is_some() {
            self.unblock(conn, session.slot, |reply| reply.null_array());
        }
        self.end(conn);
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context) {
        self.read_clock(cx);
        if self.expiry_timer == Some(timer) {
            let has_more = !self.is_full() && self.store.remove_expired(EXPIRED_PER_TURN);
            self.expiry_timer = has_more.then(|| cx.set_handler_timer(Duration::ZERO));
            self.handle_touched(cx);
        } else if self.pause.as_ref().is_some_and(|pause| pause.timer == timer) {
            self.unpause(cx);
        } else if let Some(append_only) = &mut self.append_only {
            append_only.handle_timer(timer, cx);
        }
        self.end(cx);
    }

    /// What the client had sent was carried out, unless it waits for an element of a list or for the end of a CLIENT
    /// PAUSE. It might do so for ever, so it is closed, too.
    fn on_drain(&mut self, session: &mut Session, conn: &mut Connection) {
        if conn.is_paused() && !self.clients[session.slot].must_wait() {
            return; // its replies wait for the disk: this is called again when it goes on
        }
        self.close_behind(conn, session.slot);
    }

    fn on_peer_closed(&mut self, session: &mut Session, conn: &mut Connection) {
        self.close_behind(conn, session.slot);
    }

    fn on_close(&mut self, session: Session, _: Key, _: CloseReason, cx: &mut Context) {
        self.forget_waiting(cx, session.slot);
        self.unwatch(session.slot);
        self.unsubscribe_all(session.slot);
        self.take_transaction(session.slot);
        let client = self.clients.remove(session.slot);
        debug_assert_eq!(client.kept_bytes, 0);
    }
}

impl Server {
    /// Closes a connection behind its replies, also those that wait for the disk.
    fn close_behind(&mut self, conn: &mut Connection, slot: usize) {
        self.clients[slot].is_closing = true;
        self.begin(conn, slot);
        self.forget_waiting(conn, slot);
        self.flush(conn);
        self.end(conn);
    }
}

impl MessageHandler<Written> for Server {
    fn on_handler_message(&mut self, written: Written, cx: &mut Context) {
        if let Err(error) = written {
            log::error!("the append-only file: {error}");
            cx.stop(); // nothing that it could not keep is acknowledged
        } else if let Some(append_only) = &mut self.append_only {
            append_only.handle_written(cx);
        }
        self.end(cx);
    }
}
