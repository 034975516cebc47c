//! BLPOP and BRPOP: clients that wait for an element of a list. They block nobody: a client that waits is an entry in
//! the queue of each of its keys.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use oneloop::{Connection, Context, TimerId};

use super::Server;
use super::append_only::Next;
use super::clients::{Client, show_again};
use super::commands::{Args, Failure, Outcome, Side, float};
use super::kept::name_bytes;
use super::reply::{Done, Reply};
use super::values::Bytes;

/// What a client waits for.
pub struct Blocked {
    database: usize,
    keys: BTreeSet<Bytes>,
    side: Side,
    timer: Option<TimerId>,
}

pub fn pop(server: &mut Server, conn: &mut Connection, args: Args, side: Side) -> Outcome {
    let (keys, timeout) = (&args[1..args.len() - 1], args[args.len() - 1]);
    let timeout =
        float(timeout).map_err(|_| Failure::new("ERR timeout is not a float or out of range"))?;
    if timeout < 0.0 {
        return Err(Failure::new("ERR timeout is negative"));
    }
    let is_for_ever = timeout == 0.0;
    let timeout = Duration::try_from_secs_f64(timeout)
        .map_err(|_| Failure::new("ERR timeout is out of range"))?;
    let database = server.clients[server.current].database;
    for key in keys {
        if let Some(element) = server.pop_recorded(database, key, side)? {
            return Ok(element_reply(&mut server.reply(), key, &element));
        }
    }
    let slot = server.current;
    if server.is_in_exec {
        return Ok(server.reply().null_array()); // nothing waits in a transaction
    }
    let keys: BTreeSet<Bytes> = keys.iter().map(|key| Bytes::from_slice(key)).collect();
    server.keep(keys.iter().map(|key| name_bytes(key)).sum())?;
    for key in &keys {
        server.store.observers(database, key).waiting.push_back(slot);
    }
    let timer = (!is_for_ever).then(|| conn.set_timer(timeout));
    server.clients[slot].blocked = Some(Blocked { database, keys, side, timer });
    Ok(Done)
}

fn element_reply(reply: &mut Reply, key: &[u8], element: &[u8]) -> Done {
    reply.array(2);
    reply.bulk(key);
    reply.bulk(element)
}

impl Server {
    /// Takes an element off a list, and records that as the pop of a client that did not wait.
    fn pop_recorded(
        &mut self,
        database: usize,
        key: &[u8],
        side: Side,
    ) -> Result<Option<Bytes>, Failure> {
        let element = self.store.keys(database).pop(key, side)?;
        if element.is_some() {
            self.store.journal.record(database, &[side.pop_command().as_bytes(), key]);
        }
        Ok(element)
    }

    /// A key was changed: if it is a list now, its elements go to the clients that wait for them.
    pub fn serve_waiting(&mut self, cx: &mut Context, touched: &(usize, Bytes)) {
        let (database, key) = touched;
        while let Some(observers) = self.store.databases[*database].observers.get(key)
            && let Some(slot) = observers.waiting.front().copied()
            && let Client { blocked: Some(blocked), key: connection, .. } = &self.clients[slot]
        {
            let side = blocked.side;
            if !cx.is_open(*connection) {
                self.forget_waiting(cx, slot); // it is closing, and would lose the element
            } else if let Ok(Some(element)) = self.pop_recorded(*database, key, side) {
                self.unblock(cx, slot, |reply| element_reply(reply, key, &element));
            } else {
                break;
            }
        }
    }

    /// Ends a client's wait with this reply. If that has to wait for the disk, so have its next commands.
    pub fn unblock(
        &mut self,
        cx: &mut Context,
        slot: usize,
        reply: impl FnOnce(&mut Reply) -> Done,
    ) {
        self.forget_waiting(cx, slot);
        let mut message = Vec::new();
        reply(&mut Reply::new(&mut message, self.clients[slot].protocol));
        let (key, message) = (self.clients[slot].key, Rc::from(message));
        if self.is_behind() {
            self.hold(cx, key, &message, Next::Resume);
            cx.pause_key(key);
        } else {
            cx.send_shared_to(key, message).ignore();
            show_again(cx, key);
        }
    }

    /// Takes a client out of all queues. It gets no reply.
    pub fn forget_waiting(&mut self, cx: &mut Context, slot: usize) {
        let Some(blocked) = self.clients[slot].blocked.take() else { return };
        if let Some(timer) = blocked.timer {
            cx.cancel_timer(timer);
        }
        for key in blocked.keys {
            self.keep_less(slot, name_bytes(&key));
            self.store.remove_observer(&(blocked.database, key), |observers| {
                if observers.waiting.front() == Some(&slot) {
                    observers.waiting.pop_front(); // without a look at the others: mostly it is the first one
                } else {
                    observers.waiting.retain(|other| *other != slot);
                }
            });
        }
    }
}
