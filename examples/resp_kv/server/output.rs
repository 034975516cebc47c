//! When replies leave.

use std::rc::Rc;

use oneloop::{Connection, Context};

use super::Server;
use super::reply::{REPLY_BYTES_MAX, Reply};

/// Replies are collected until there are so many bytes of them, or no command is left.
pub(crate) const FLUSH_BYTES: usize = 32 * 1024;

impl Server {
    /// Writes replies to the current client.
    pub(crate) fn reply(&mut self) -> Reply<'_> {
        Reply::new(&mut self.out, self.clients[self.current].protocol)
    }

    /// Sends the replies that were collected; or keeps them, until what they acknowledge is on the disk.
    pub(crate) fn flush(&mut self, conn: &mut Connection) {
        let closes = self.clients[self.current].is_closing;
        if self.out.is_empty() && !closes {
            return;
        }
        match &mut self.append_only {
            _ if self.out.len() > REPLY_BYTES_MAX => {
                log::debug!("{}: asked for too large a reply", conn.key());
                self.dropped_total += 1;
                conn.abort();
            }
            Some(append_only) if append_only.is_behind(&self.store.journal) => {
                let replies = Rc::from(&self.out[..]);
                if append_only.hold(&self.store.journal, conn.key(), &replies, closes) {
                    conn.pause(); // so that there is an end to what is kept
                } else {
                    log::debug!("{}: too much waits for the disk", conn.key());
                    self.dropped_total += 1;
                    conn.abort();
                }
            }
            _ => {
                conn.send(&self.out).ignore();
                if closes {
                    conn.close();
                }
            }
        }
        self.out.clear();
        if self.out.capacity() > 8 * FLUSH_BYTES {
            self.out = Vec::new();
        }
    }

    /// Sends to any client.
    pub(crate) fn deliver(&mut self, cx: &mut Context, client: usize, message: &Rc<[u8]>) {
        let key = self.clients[client].key;
        if self.speaker == Some(key) {
            // Behind the replies that wait there; within EXEC, whose array is not whole, behind all of it.
            let is_in_exec = self.clients[client].transaction.is_some();
            let out = if is_in_exec { &mut self.pushed } else { &mut self.out };
            Reply::new(out, self.clients[client].protocol).write(message);
            return;
        }
        match &mut self.append_only {
            Some(append_only) if append_only.is_behind(&self.store.journal) => {
                if !append_only.hold(&self.store.journal, key, message, false) {
                    log::debug!("{key}: too much waits for the disk");
                    self.dropped_total += 1;
                    cx.abort_key(key);
                }
            }
            _ => cx.send_shared_to(key, Rc::clone(message)).ignore(),
        }
    }
}
