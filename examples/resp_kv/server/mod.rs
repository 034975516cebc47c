//! The server: one handler for all clients. It knows no socket, no clock and no file, so that it runs in simulation as it
//! does in the world.

mod append_only;
mod blocking;
mod bytes;
mod clients;
mod commands;
mod connection;
mod info;
mod journal;
mod pattern;
mod protocol;
mod pubsub;
mod reply;
mod store;
mod table;
mod transactions;

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use oneloop::codec::{FrameError, for_each_frame};
use oneloop::{
    CloseReason, Connection, Context, Error, Inbox, Key, Limits, StreamHandler, Time, TimerId,
};
use slab::Slab;

use self::append_only::AppendOnly;
use self::blocking::Waiting;
use self::clients::{Client, Pause};
use self::commands::{Command, Failure, Outcome, Run};
use self::protocol::{COMMAND_BYTES_MAX, Commands};
use self::pubsub::Subscriptions;
use self::reply::Reply;
use self::store::{Keys, Store};
use self::transactions::Watched;

pub(crate) use self::append_only::{Policy, RecordFile, Written};

/// Replies are collected until there are so many bytes of them, or nothing is left to do.
const REPLY_BYTES: usize = 32 * 1024;
/// How often keys are looked for whose deadline has passed, if there are any with one. Whoever asks for such a key before that
/// does not find it.
const EXPIRY_PERIOD: Duration = Duration::from_millis(100);
/// So many of them are removed in a turn.
const EXPIRED_PER_TURN: usize = 1000;

/// A key-value store that speaks the protocol of Redis.
pub(crate) struct Server {
    pub(crate) store: Store,
    commands: HashMap<&'static [u8], &'static Command, ahash::RandomState>,
    clients: Slab<Client>,
    /// Replies to the client whose commands are carried out now, which is `speaker`.
    out: Vec<u8>,
    speaker: Option<Key>,
    append_only: Option<AppendOnly>,
    subscriptions: Subscriptions,
    waiting: Waiting,
    watched: Watched,
    pause: Option<Pause>,
    expiry: Option<TimerId>,
    started: Time,
    clients_total: u64,
    commands_total: u64,
    /// For clients that do not subscribe, and for those that do.
    limits: Rc<Limits>,
    subscriber_limits: Rc<Limits>,
    failure: Option<io::Error>,
}

/// What is remembered about a connection here; the rest is its [`Client`].
pub(crate) struct Session {
    client: usize,
    commands: Commands,
}

impl Server {
    /// With chance from `seed`, that keys which collide cannot be found out.
    pub(crate) fn new(mut seed: impl FnMut() -> u64) -> Server {
        let names = ahash::RandomState::with_seeds(seed(), seed(), seed(), seed());
        let mut commands = HashMap::with_hasher(names);
        commands.extend(commands::COMMANDS.iter().map(|row| (row.name.as_bytes(), row)));
        let limits = Server::limits();
        // The policy of Redis for subscribers: 32 MB at once, or 8 MB for a minute.
        let subscriber_limits = limits
            .clone()
            .output_bytes_max(32 << 20)
            .output_bytes_soft(8 << 20)
            .output_soft_timeout(Duration::from_secs(60));
        Server {
            store: Store::new(seed),
            commands,
            clients: Slab::new(),
            out: Vec::new(),
            speaker: None,
            append_only: None,
            subscriptions: Subscriptions::default(),
            waiting: Waiting::default(),
            watched: Watched::default(),
            pause: None,
            expiry: None,
            started: Time::default(),
            clients_total: 0,
            commands_total: 0,
            limits: Rc::new(limits),
            subscriber_limits: Rc::new(subscriber_limits),
            failure: None,
        }
    }

    /// Limits for the server's listener. Clients may be idle for ever, as pools of connections are; a command may be large, and
    /// so may a reply: the reactor's memory is what bounds them.
    pub(crate) fn limits() -> Limits {
        Limits::new()
            .input_bytes_max(COMMAND_BYTES_MAX + 64 * 1024)
            .output_bytes_max(usize::MAX)
            .output_bytes_soft(usize::MAX)
            .idle_timeout(Duration::MAX)
            .message_timeout(Duration::MAX)
    }

    /// Records all changes in a file from now on. The inbox is to be attached to this handler.
    pub(crate) fn append_to(&mut self, file: impl RecordFile, policy: Policy) -> Inbox<Written> {
        let (append_only, inbox) = AppendOnly::new(file, policy);
        self.append_only = Some(append_only);
        self.store.journal.is_on = true;
        inbox
    }

    /// After the reactor has stopped: writes what is left to write.
    ///
    /// # Errors
    ///
    /// Why the server ended, or why not everything could be written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        match &mut self.append_only {
            Some(append_only) => append_only.finish(&mut self.store.journal),
            None => Ok(()),
        }
    }

    fn look_up(&self, name: &[u8]) -> Option<&'static Command> {
        let mut lower = [0; 32];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.commands.get(&*lower).copied()
    }

    /// Replies to the client whose command is carried out.
    fn reply(&mut self, client: usize) -> Reply<'_> {
        Reply::new(&mut self.out, self.clients[client].protocol)
    }

    /// Carries out one command, or says why not.
    fn execute(&mut self, conn: &mut Connection<'_>, client: usize, args: &[&[u8]]) {
        let Some(name) = args.first() else { return };
        self.commands_total += 1;
        let known = self.look_up(name);
        let this = &mut self.clients[client];
        this.last_active = conn.now();
        let checked = match known {
            None => Err(unknown(args)),
            Some(command) => {
                this.last_command = command.name;
                this.check(command, args.len()).map(|()| command)
            }
        };
        match checked {
            Err(failure) => {
                this.spoil_transaction();
                self.reply(client).error(&failure.0);
            }
            Ok(command) if self.is_paused(client, command) => self.postpone(conn, client, args),
            Ok(command) if self.clients[client].queues(command) => {
                self.queue(client, command, args)
            }
            Ok(command) => {
                self.run(conn, client, command, args);
                if !self.store.touched.is_empty() {
                    self.handle_touched(conn);
                }
            }
        }
    }

    fn run(
        &mut self,
        conn: &mut Connection<'_>,
        client: usize,
        command: &'static Command,
        args: &[&[u8]],
    ) {
        let outcome = match command.run {
            Run::Server(run) => run(self, conn, client, args),
            Run::Keys(run) => {
                let Client { protocol, database, .. } = self.clients[client];
                let mut reply = Reply::new(&mut self.out, protocol);
                run_on_keys(run, &mut self.store.keys(database), args, &mut reply)
            }
        };
        if let Err(failure) = outcome {
            self.reply(client).error(&failure.0);
        }
    }

    /// Somebody watches or waits for keys, and some of them were changed.
    fn handle_touched(&mut self, cx: &mut Context<'_>) {
        let mut at = 0;
        while let Some(touched) = self.store.touched.get(at).cloned() {
            at += 1;
            self.spoil_watchers(&touched);
            self.serve_waiting(cx, &touched);
        }
        self.store.touched.clear();
    }

    /// Sends the replies that were collected; or keeps them, until what they acknowledge is on the disk.
    fn flush(&mut self, conn: &mut Connection<'_>, client: usize) {
        if self.out.is_empty() && !self.clients[client].is_closing {
            return;
        }
        let closes = self.clients[client].is_closing;
        match &mut self.append_only {
            Some(append_only) if append_only.is_behind(&self.store.journal) => {
                append_only.hold(&self.store.journal, conn.key(), &self.out, closes);
                conn.pause(); // so that there is an end to what is kept
            }
            _ => {
                conn.send(&self.out).ignore();
                if closes {
                    conn.close();
                }
            }
        }
        self.out.clear();
        if self.out.capacity() > 8 * REPLY_BYTES {
            self.out = Vec::new();
        }
    }

    /// Sends to another client, or to the one whose command is carried out.
    fn deliver(&mut self, cx: &mut Context<'_>, client: usize, message: &Rc<[u8]>) {
        let key = self.clients[client].key;
        if self.speaker == Some(key) {
            self.out.extend_from_slice(message);
            return;
        }
        match &mut self.append_only {
            Some(append_only) if append_only.is_behind(&self.store.journal) => {
                append_only.hold(&self.store.journal, key, message, false);
            }
            _ => cx.send_shared_to(key, Rc::clone(message)).ignore(),
        }
    }

    /// The clock is read once a turn, as everything in it happens at once.
    fn begin(&mut self, conn: &Connection<'_>) {
        self.read_clock(conn);
        self.speaker = Some(conn.key());
    }

    fn read_clock(&mut self, cx: &Context<'_>) {
        let since = cx.wall_clock().duration_since(SystemTime::UNIX_EPOCH);
        self.store.now = since.map_or(0, |since| since.as_millis() as u64);
    }

    /// What every callback ends with that may have changed something.
    fn end(&mut self, cx: &mut Context<'_>) {
        self.speaker = None;
        if let Some(append_only) = &mut self.append_only {
            append_only.write(&mut self.store.journal);
        }
        if self.expiry.is_none() && self.store.has_deadlines() {
            self.expiry = Some(cx.set_handler_timer(EXPIRY_PERIOD));
        }
    }
}

/// Carries out a command on keys, and records it if it changed something.
fn run_on_keys(
    run: fn(&mut Keys<'_>, &[&[u8]], &mut Reply<'_>) -> Outcome,
    keys: &mut Keys<'_>,
    args: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Outcome {
    let changes = keys.store.changes;
    let outcome = run(keys, args, reply);
    let has_own_record = keys.store.journal.take_own_record();
    if keys.store.changes != changes && !has_own_record {
        keys.store.journal.record(keys.number, args);
    }
    outcome
}

fn unknown(args: &[&[u8]]) -> Failure {
    let mut text =
        format!("ERR unknown command '{}', with args beginning with: ", commands::quote(args[0]));
    for argument in args[1..].iter().take(8) {
        text.push_str(&format!("'{}' ", commands::quote(argument)));
    }
    Failure::from(text)
}

impl StreamHandler for Server {
    type Session = Session;

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.started = cx.now();
        if let Some(append_only) = &mut self.append_only {
            append_only.start(cx);
        }
        self.end(cx);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Session {
        self.clients_total += 1;
        let client = self.clients.insert(Client::new(self.clients_total, conn));
        Session { client, commands: Commands::default() }
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let client = session.client;
        if self.clients[client].must_wait() {
            conn.pause(); // whoever serves it resumes it
            return Ok(0);
        }
        self.begin(conn);
        let result = for_each_frame(&mut session.commands, conn, data, |conn, command| {
            match command {
                protocol::Command::Array(args) => self.execute(conn, client, &args),
                protocol::Command::Inline(words) => {
                    let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    self.execute(conn, client, &args);
                }
            }
            let this = &self.clients[client];
            if this.must_wait() {
                conn.pause(); // for the rest of the commands
            }
            if self.out.len() >= REPLY_BYTES || this.is_closing {
                self.flush(conn, client);
            }
            Ok(())
        });
        if let Err(error) = &result {
            let error = match error.downcast_ref() {
                Some(FrameError::TooLong(_)) => "too big a command".into(),
                _ => error.to_string(),
            };
            self.reply(client).error(&format!("ERR Protocol error: {error}"));
        }
        self.flush(conn, client);
        self.end(conn);
        // Who has sent nothing more is not paused: that it leaves is to be noticed.
        if self.clients[client].blocked.is_some()
            && matches!(result, Ok(used) if used == data.len())
        {
            conn.resume();
        }
        result
    }

    fn on_poke(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        let Some(args) = self.clients[session.client].postponed.take() else { return };
        let args: Vec<&[u8]> = args.iter().map(|argument| &**argument).collect();
        self.begin(conn);
        self.commands_total -= 1;
        conn.resume();
        self.execute(conn, session.client, &args);
        self.flush(conn, session.client);
        self.end(conn);
    }

    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection<'_>, _: TimerId) {
        self.time_out(conn, session.client);
        self.end(conn);
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        self.read_clock(cx);
        if self.expiry == Some(timer) {
            let has_more = self.store.expire(EXPIRED_PER_TURN);
            self.expiry = has_more.then(|| cx.set_handler_timer(Duration::ZERO));
            self.handle_touched(cx);
        } else if self.pause.as_ref().is_some_and(|pause| pause.timer == timer) {
            self.unpause(cx);
        } else if let Some(append_only) = &mut self.append_only {
            append_only.sync_soon();
        }
        self.end(cx);
    }

    fn on_close(&mut self, session: Session, _: Key, _: CloseReason, cx: &mut Context<'_>) {
        self.forget_waiting(cx, session.client);
        self.unwatch(session.client);
        self.unsubscribe_all(session.client);
        self.clients.remove(session.client);
    }
}

impl oneloop::MessageHandler<Written> for Server {
    fn on_handler_message(&mut self, written: Written, cx: &mut Context<'_>) {
        let Some(append_only) = &mut self.append_only else { return };
        if let Err(error) = append_only.handle_written(written, cx) {
            log::error!("the append-only file: {error}");
            self.failure = Some(error);
            cx.stop(); // nothing that it could not keep is acknowledged
        }
        self.end(cx);
    }
}
