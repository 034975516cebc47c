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

    /// A key was changed: the next transactions of all clients that watch it will not be carried out. So they need not
    /// watch it any longer, nor any other key.
    pub fn break_watches(&mut self, (database, key): &(usize, Bytes)) {
        while let Some(observers) = self.store.databases[*database].observers.get(key)
            && let Some(slot) = observers.watching.first().copied()
        {
            self.unwatch(slot);
            self.clients[slot].is_watch_broken = true;
        }
    }

    /// A client watches no key any more, and what has happened to its keys makes no difference.
    pub fn unwatch(&mut self, slot: usize) {
        let this = &mut self.clients[slot];
        this.is_watch_broken = false;
        for key in mem::take(&mut this.watched) {
            self.keep_less(slot, name_bytes(&key.1));
            self.store.remove_observer(&key, |observers| _ = observers.watching.remove(&slot));
        }
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
    // If a watched key has expired it is removed now, and that is a change.
    for (database, key) in &server.clients[server.current].watched {
        server.store.keys(*database).contains(key);
    }
    server.handle_touched(conn);
    let this = &mut server.clients[server.current];
    let is_stale = this.is_watch_broken;
    server.unwatch(server.current);
    if transaction.is_refused {
        return Err(Failure::new("EXECABORT Transaction discarded because of previous errors."));
    }
    if is_stale {
        return Ok(server.reply().null_array());
    }
    // The commands see by this that they are in a transaction.
    server.clients[server.current].transaction = Some(Transaction::default());
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
    server.clients[server.current].transaction = None;
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

pub fn watch(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let this = &server.clients[server.current];
    if this.transaction.is_some() {
        return Err(Failure::new("ERR WATCH inside MULTI is not allowed"));
    }
    // That a key had expired before is no later change: so those that have are removed now, and others that watch them
    // are told.
    let mut keys = server.store.keys(this.database);
    args[1..].iter().for_each(|key| _ = keys.contains(key));
    server.handle_touched(conn);
    let this = &mut server.clients[server.current];
    if this.is_watch_broken {
        return Ok(server.reply().ok()); // its next transaction is not carried out, whatever it watches
    }
    let database = this.database;
    for key in &args[1..] {
        let key = (database, Bytes::from_slice(key));
        if !server.clients[server.current].watched.contains(&key) {
            server.keep(name_bytes(&key.1))?;
            server.store.observers(database, &key.1).watching.insert(server.current);
            server.clients[server.current].watched.insert(key);
        }
    }
    Ok(server.reply().ok())
}

pub fn unwatch(server: &mut Server, _: &mut Connection, _: Args) -> Outcome {
    server.unwatch(server.current);
    Ok(server.reply().ok())
}
