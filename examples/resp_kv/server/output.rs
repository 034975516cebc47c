//! When replies leave.

use std::rc::Rc;

use oneloop::{Connection, Context};

use super::Server;
use super::append_only::Next;
use super::clients::Client;
use super::reply::Reply;

/// The replies to a client are collected until no command of it is left, or until there are so many bytes of them.
pub const FLUSH_BYTES: usize = 32 * 1024;

impl Server {
    /// Where replies to the current client are written.
    pub fn reply(&mut self) -> Reply<'_> {
        Reply::new(&mut self.out, self.clients[self.current].protocol)
    }

    /// Sends the replies that were collected, or keeps them until what they acknowledge is on the disk; closes the
    /// connection behind them if that is due.
    pub fn flush(&mut self, conn: &mut Connection) {
        let Client { key, is_closing: closes, .. } = self.clients[self.current];
        if self.out.is_empty() && !closes {
            return;
        }
        if self.is_behind() {
            let replies = Rc::from(&self.out[..]);
            self.hold(conn, key, &replies, if closes { Next::Close } else { Next::Resume });
            conn.pause(); // more commands would make more replies to keep
        } else {
            conn.send(&self.out).ignore();
            if closes {
                conn.close();
            }
        }
        self.out.clear();
        if self.out.capacity() > 8 * FLUSH_BYTES {
            self.out = Vec::new();
        }
    }

    /// Sends a message that the current client has published.
    pub fn deliver(&mut self, cx: &mut Context, slot: usize, message: &Rc<[u8]>) {
        let Client { key, .. } = self.clients[slot];
        if slot == self.current {
            // It comes behind the replies that were collected; while EXEC writes its array, behind the whole of that.
            let out = if self.is_in_exec { &mut self.pushed } else { &mut self.out };
            out.extend_from_slice(message);
        } else if self.is_behind() {
            self.hold(cx, key, message, Next::Nothing);
        } else {
            cx.send_shared_to(key, Rc::clone(message)).ignore();
        }
    }
}
