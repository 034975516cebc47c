//! Carrying out commands.

use oneloop::{Connection, Context};

use super::Server;
use super::clients::Client;
use super::commands::{Args, Command, Failure, OnKeys, Outcome, Run, quote};
use super::keys::Keys;
use super::reply::Reply;
use super::store::BYTES_PER_WORK;

impl Server {
    /// The command of this name, in letters of either case.
    pub fn look_up(&self, name: &[u8]) -> Option<&'static Command> {
        let mut lower = [0; 32];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.commands.get(&*lower).copied()
    }

    /// Carries out a command of the current client, queues it for EXEC, leaves it in the input for as long as CLIENT
    /// PAUSE wants it, or says why it cannot be carried out.
    pub fn handle_command(&mut self, conn: &mut Connection, args: Args) {
        let Some(name) = args.first() else { return };
        let known = self.look_up(name);
        let client = &mut self.clients[self.current];
        client.last_active = conn.now();
        client.last_command = known.map_or("NULL", |command| command.name);
        let checked = match known {
            None => Err(unknown(args)),
            Some(command) => client.check(command, args.len()).map(|()| command),
        };
        if checked.as_ref().is_ok_and(|command| self.must_postpone(command)) {
            self.clients[self.current].is_postponed = true;
            return; // it comes again
        }
        self.commands_total += 1;
        let is_in_transaction = self.clients[self.current].transaction.is_some();
        match checked {
            Err(failure) => self.refuse(known, &failure),
            Ok(command) if self.is_full() && self.writes(command) => {
                let failure = Failure::new("ERR too many changes wait for the disk");
                self.refuse(known, &failure);
            }
            Ok(command) if is_in_transaction && !command.is_never_queued() => {
                if let Err(failure) = self.queue(command, args) {
                    self.refuse(known, &failure);
                }
            }
            Ok(command) => {
                self.call(conn, command, args);
                self.handle_touched(conn);
            }
        }
    }

    /// Tells the current client why a command is not carried out, nor the transaction that it was to be a part of. With
    /// EXEC that ends.
    fn refuse(&mut self, command: Option<&Command>, failure: &Failure) {
        if command.is_some_and(|command| command.name == "exec") {
            self.take_transaction(self.current);
            self.unwatch(self.current);
        } else if let Some(transaction) = &mut self.clients[self.current].transaction {
            transaction.is_refused = true;
        }
        self.reply().error(&failure.0);
    }

    /// Whether a command of the current client changes something now, if it is carried out.
    pub fn writes(&self, command: &Command) -> bool {
        match (command.name, &self.clients[self.current].transaction) {
            ("exec", Some(transaction)) => transaction.writes(),
            (_, Some(_)) => false, // it is only queued
            _ => command.writes,
        }
    }

    /// Carries out a command of the current client. That it may be carried out now was looked at.
    pub fn call(&mut self, conn: &mut Connection, command: &'static Command, args: Args) {
        let before = self.out.len();
        let outcome = match command.run {
            Run::OnServer(run) => run(self, conn, args),
            Run::OnKeys(run) => {
                let Client { protocol, database, .. } = self.clients[self.current];
                let mut reply = Reply::new(&mut self.out, protocol);
                call_on_keys(run, &mut self.store.keys(database), args, &mut reply)
            }
        };
        let written = self.out.len() - before; // also what is taken back was work
        self.store.work += args.len() + written / BYTES_PER_WORK;
        if let Err(failure) = outcome {
            self.out.truncate(before);
            self.reply().error(&failure.0);
        }
    }

    /// Tells those who wait that lists were changed. They take elements, which changes more keys.
    pub fn handle_touched(&mut self, cx: &mut Context) {
        let mut at = 0;
        while let Some(touched) = self.store.touched.get(at).cloned() {
            at += 1;
            self.serve_waiting(cx, &touched);
        }
        self.store.touched.clear();
    }
}

/// Carries out a command on keys, and records it if it changed something.
pub fn call_on_keys(run: OnKeys, keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let changes = keys.store.changes;
    keys.store.journal.has_own_record = false;
    let outcome = run(keys, args, reply);
    if keys.store.changes != changes && !keys.store.journal.has_own_record {
        keys.store.journal.record(keys.number, args);
    }
    outcome
}

fn unknown(args: Args) -> Failure {
    let name = quote(args[0]);
    let others: String = args[1..].iter().take(8).map(|arg| format!("'{}' ", quote(arg))).collect();
    format!("ERR unknown command '{name}', with args beginning with: {others}").into()
}
