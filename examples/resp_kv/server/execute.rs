//! Carrying out commands.

use oneloop::{Connection, Context};

use super::Server;
use super::clients::Client;
use super::commands::{Args, Command, Failure, Outcome, Run, is_word, quote};
use super::keys::Keys;
use super::reply::Reply;
use super::store::BYTES_PER_WORK;

impl Server {
    /// The command of this name, in letters of either case.
    pub(crate) fn look_up(&self, name: &[u8]) -> Option<&'static Command> {
        let mut lower = [0; 32];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.commands.get(&*lower).copied()
    }

    /// Carries out a command of the current client, queues it for EXEC, leaves it in the input for as long as CLIENT
    /// PAUSE wants it, or says why it cannot be carried out.
    pub(crate) fn handle_command(&mut self, conn: &mut Connection, args: Args) {
        let Some(name) = args.first() else { return };
        self.commands_total += 1;
        let known = self.look_up(name);
        let client = &mut self.clients[self.current];
        client.last_active = conn.now();
        let checked = match known {
            None => Err(unknown(args)),
            Some(command) => {
                client.last_command = command.name;
                client.check(command, args.len()).map(|()| command)
            }
        };
        match checked {
            // Some web page makes its reader's browser post a form to us, in which commands stand: carry out none of
            // them.
            Err(_) if is_word(name, "POST") || is_word(name, "Host:") => client.is_closing = true,
            Err(failure) => {
                client.refuse_transaction();
                self.reply().error(&failure.0);
            }
            Ok(command) if self.must_postpone(command) => {
                self.clients[self.current].is_postponed = true;
                self.commands_total -= 1; // it comes again
            }
            Ok(command) if self.clients[self.current].queues(command) => self.queue(command, args),
            Ok(command) => {
                self.call(conn, command, args);
                self.handle_touched(conn);
            }
        }
    }

    /// Carries out a command of the current client. That it may be carried out now was looked at.
    pub(crate) fn call(&mut self, conn: &mut Connection, command: &'static Command, args: Args) {
        let before = self.out.len();
        let outcome = match command.run {
            Run::OnServer(run) => run(self, conn, args),
            Run::OnKeys(run) => {
                let Client { protocol, database, .. } = self.clients[self.current];
                let mut reply = Reply::new(&mut self.out, protocol);
                call_on_keys(run, &mut self.store.keys(database), args, &mut reply)
            }
        };
        if let Err(failure) = outcome {
            self.out.truncate(before);
            self.reply().error(&failure.0);
        }
        let replied = self.out.len().saturating_sub(before);
        self.store.work += args.len() + replied / BYTES_PER_WORK;
    }

    /// Tells the observers of the keys that were changed.
    pub(crate) fn handle_touched(&mut self, cx: &mut Context) {
        let mut at = 0;
        while let Some(touched) = self.store.touched.get(at).cloned() {
            at += 1;
            self.break_watches(&touched);
            self.serve_waiting(cx, &touched);
        }
        self.store.touched.clear();
    }
}

/// Carries out a command on keys, and records it if it changed something.
pub(crate) fn call_on_keys(
    run: fn(&mut Keys, Args, &mut Reply) -> Outcome,
    keys: &mut Keys,
    args: Args,
    reply: &mut Reply,
) -> Outcome {
    let changes = keys.store.changes;
    let outcome = run(keys, args, reply);
    let has_own_record = keys.store.journal.take_own_record();
    if keys.store.changes != changes && !has_own_record {
        keys.store.journal.record(keys.number, args);
    }
    outcome
}

fn unknown(args: Args) -> Failure {
    let name = quote(args[0]);
    let others: String = args[1..].iter().take(8).map(|arg| format!("'{}' ", quote(arg))).collect();
    format!("ERR unknown command '{name}', with args beginning with: {others}").into()
}
