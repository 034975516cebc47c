//! MULTI, EXEC, DISCARD and WATCH.

use std::mem;

use oneloop::Connection;

use super::Server;
use super::commands::{Args, Command, Failure, Outcome};
use super::kept::name_bytes;
use super::protocol::BULK_BYTES_MAX;
use super::reply::REPLY_BYTES_MAX;
use super::values::Bytes;

/// After so much work, which takes some seconds, EXEC answers each of the other commands with an error. It does so, too,
/// when its replies leave no room for one of the largest strings.
const WORK_MAX: usize = 1 << 26;

/// A command with its arguments.
type Queued = (&'static Command, Vec<Bytes>);

/// What a client has queued since MULTI.
#[derive(Default)]
pub struct Transaction {
    queued: Vec<Queued>,
    bytes: usize,
    /// One of its commands was refused.
    pub is_refused: bool,
}

impl Transaction {
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    pub fn writes(&self) -> bool {
        self.queued.iter().any(|(command, _)| command.writes)
    }
}

/// The memory of a queued command: its arguments, with what the allocator needs for each, and its place in a vector
/// that grows by doubling.
fn queued_bytes(args: Args) -> usize {
    const ALLOCATION_BYTES: usize = 16;
    let arguments = args.iter().map(|arg| size_of::<Bytes>() + ALLOCATION_BYTES + arg.len());
    2 * size_of::<Queued>() + ALLOCATION_BYTES + arguments.sum::<usize>()
}

impl Server {
    /// Keeps a command of the current client for EXEC.
    pub fn queue(&mut self, command: &'static Command, args: Args) -> Outcome {
        let bytes = queued_bytes(args);
        self.keep(bytes)?;
        if let Some(transaction) = &mut self.clients[self.current].transaction {
            transaction.bytes += bytes;
            let args = args.iter().map(|arg| Bytes::from_slice(arg)).collect();
            transaction.queued.push((command, args));
        }
        Ok(self.reply().simple("QUEUED"))
    }

    /// Ends a client's transaction, if it has begun one, and returns what it has queued.
    pub fn take_transaction(&mut self, slot: usize) -> Option<Transaction> {
        let transaction = self.clients[slot].transaction.take()?;
        self.keep_less(slot, transaction.bytes);
        Some(transaction)
    }

    /// A client watches no key any more. Whether one of its keys was changed since it began to watch it.
    pub fn unwatch(&mut self, slot: usize) -> bool {
        let mut has_changed = false;
        for (key, version) in mem::take(&mut self.clients[slot].watched) {
            self.keep_less(slot, name_bytes(&key.1));
            self.store.remove_observer(&key, |observers| {
                observers.watchers -= 1;
                has_changed |= observers.version != version;
            });
        }
        has_changed
    }
}

pub fn multi(server: &mut Server, _: &mut Connection, _: Args) -> Outcome {
    let transaction = &mut server.clients[server.current].transaction;
    if transaction.is_some() {
        return Err(Failure::new("ERR MULTI calls can not be nested"));
    }
    *transaction = Some(Transaction::default());
    Ok(server.reply().ok())
}

pub fn exec(server: &mut Server, conn: &mut Connection, _: Args) -> Outcome {
    let transaction = server.take_transaction(server.current);
    let transaction = transaction.ok_or(Failure::new("ERR EXEC without MULTI"))?;
    for (database, key) in server.clients[server.current].watched.keys() {
        server.store.keys(*database).drop_if_expired(key); // a change, too
    }
    let is_stale = server.unwatch(server.current);
    if transaction.is_refused {
        return Err(Failure::new("EXECABORT Transaction discarded because of previous errors."));
    }
    if is_stale {
        return Ok(server.reply().null_array());
    }
    server.is_in_exec = true;
    let start = server.store.journal.len();
    server.reply().array(transaction.len());
    for (command, args) in transaction.queued {
        if server.out.len() + server.pushed.len() > REPLY_BYTES_MAX - BULK_BYTES_MAX {
            server.reply().error(&Failure::TOO_LARGE.0);
        } else if server.store.work > WORK_MAX {
            server.reply().error("ERR the transaction takes too long");
        } else {
            let args: Vec<&[u8]> = args.iter().map(|arg| &**arg).collect();
            server.call(conn, command, &args);
        }
    }
    server.store.journal.make_transaction(start);
    server.is_in_exec = false;
    let pushed = mem::take(&mut server.pushed);
    Ok(server.reply().write(&pushed))
}

pub fn discard(server: &mut Server, _: &mut Connection, _: Args) -> Outcome {
    if server.take_transaction(server.current).is_none() {
        return Err(Failure::new("ERR DISCARD without MULTI"));
    }
    server.unwatch(server.current);
    Ok(server.reply().ok())
}

pub fn watch(server: &mut Server, _: &mut Connection, args: Args) -> Outcome {
    let this = &server.clients[server.current];
    if this.transaction.is_some() {
        return Err(Failure::new("ERR WATCH inside MULTI is not allowed"));
    }
    let database = this.database;
    for key in &args[1..] {
        let key = (database, Bytes::from_slice(key));
        if !server.clients[server.current].watched.contains_key(&key) {
            server.keep(name_bytes(&key.1))?;
            server.store.keys(database).drop_if_expired(&key.1); // that is no later change
            let observers = server.store.observers(database, &key.1);
            observers.watchers += 1;
            let version = observers.version;
            server.clients[server.current].watched.insert(key, version);
        }
    }
    Ok(server.reply().ok())
}

pub fn unwatch(server: &mut Server, _: &mut Connection, _: Args) -> Outcome {
    server.unwatch(server.current);
    Ok(server.reply().ok())
}
