//! The server: one handler for all clients. It knows no socket, no clock and no file, so that it runs in simulation
//! as it does in the world.

mod append_only;
mod blocking;
mod bytes;
mod clients;
mod commands;
mod execute;
mod journal;
mod keys;
mod output;
mod pattern;
mod protocol;
mod pubsub;
mod replay;
mod reply;
mod store;
mod transactions;
mod values;

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use oneloop::codec::{Decoder, FrameError, for_each_message};
use oneloop::{
    CloseReason, Connection, Context, Error, Inbox, Key, Limits, StreamHandler, Time, TimerId,
};
use slab::Slab;

use self::append_only::AppendOnly;
use self::clients::{Client, Pause};
use self::commands::Command;
use self::output::FLUSH_BYTES;
use self::protocol::{COMMAND_BYTES_MAX, Commands};
use self::pubsub::Subscriptions;
use self::store::Store;

pub(crate) use self::append_only::{Policy, RecordFile, Written};

/// After so long a silence the kernel asks whether a client is still there; three times, until it is taken for gone.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(300);
/// How often keys are looked for whose deadline has passed, if there are any with one. Whoever asks for such a key
/// before that does not find it.
const EXPIRY_PERIOD: Duration = Duration::from_millis(100);
/// So many of them are removed in a turn.
const EXPIRED_PER_TURN: usize = 1000;
/// After so many arguments, and entries that were looked at, the other clients have their turn: about a millisecond.
const WORK_PER_TURN: usize = 16_000;

/// A key-value store that speaks the protocol of Redis.
pub(crate) struct Server {
    store: Store,
    commands: HashMap<&'static [u8], &'static Command, ahash::RandomState>,
    clients: Slab<Client>,
    /// The client whose commands are carried out, its connection while its callback runs, and the replies to it.
    current: usize,
    running: Option<Key>,
    out: Vec<u8>,
    /// What its own transaction has sent it beside the replies.
    pushed: Vec<u8>,
    append_only: Option<AppendOnly>,
    subscriptions: Subscriptions,
    /// What all clients have queued since their MULTI.
    queued_bytes: usize,
    pause: Option<Pause>,
    expiry: Option<TimerId>,
    started: Time,
    clients_total: u64,
    commands_total: u64,
    /// Clients that were sent away because their replies took too much memory.
    dropped_total: u64,
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
            current: 0,
            running: None,
            out: Vec::new(),
            pushed: Vec::new(),
            append_only: None,
            subscriptions: Subscriptions::default(),
            queued_bytes: 0,
            pause: None,
            expiry: None,
            started: Time::default(),
            clients_total: 0,
            commands_total: 0,
            dropped_total: 0,
            limits: Rc::new(limits),
            subscriber_limits: Rc::new(subscriber_limits),
            failure: None,
        }
    }

    /// Limits for the server's listener, which are those of Redis: a client may be idle for ever, as in pools of
    /// connections, and may leave its replies where they are; a command may be large, and so may a reply. The
    /// reactor's memory is what bounds them all, and what waits for the disk has a bound of its own. But when the server ends it does not wait for long for idle clients,
    /// which do not notice.
    pub(crate) fn limits() -> Limits {
        Limits::new()
            .input_bytes_max(COMMAND_BYTES_MAX + 64 * 1024)
            .output_bytes_max(usize::MAX)
            .output_bytes_soft(usize::MAX)
            .idle_timeout(Duration::MAX)
            .write_stall_timeout(Duration::MAX)
            .message_timeout(Duration::MAX)
            .linger_timeout(Duration::from_secs(1))
    }

    /// Records all changes in a file from now on. Replies and messages that wait for it take at most so much memory,
    /// beside that of the reactor. The inbox is to be attached to this handler.
    pub(crate) fn append_to(
        &mut self,
        file: impl RecordFile,
        policy: Policy,
        held_bytes_max: usize,
    ) -> Inbox<Written> {
        let (append_only, inbox) = AppendOnly::new(file, policy, held_bytes_max);
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

    /// What every callback begins with that carries out commands. A callback that ended with a panic has left
    /// something of its own.
    fn begin(&mut self, conn: &Connection, client: usize) {
        self.read_clock(conn);
        self.current = client;
        self.running = Some(conn.key());
        self.out.clear();
        self.pushed.clear();
        self.store.journal.take_own_record();
    }

    fn read_clock(&mut self, cx: &Context) {
        let since = cx.wall_clock().duration_since(SystemTime::UNIX_EPOCH);
        self.store.now = since.map_or(0, |since| since.as_millis() as u64);
    }

    /// What every callback ends with that may have changed something.
    fn end(&mut self, cx: &mut Context) {
        self.running = None;
        if let Some(append_only) = &mut self.append_only {
            append_only.write(&mut self.store.journal);
        }
        if self.expiry.is_none() && self.store.has_deadlines() {
            self.expiry = Some(cx.set_handler_timer(EXPIRY_PERIOD));
        }
    }
}

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
        let client = self.clients.insert(Client::new(self.clients_total, conn));
        Session { client, commands: Commands::new(COMMAND_BYTES_MAX) }
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection,
        data: &[u8],
    ) -> Result<usize, Error> {
        let client = session.client;
        if self.clients[client].must_wait() {
            // Whoever serves it has this shown again. Until there is no more room it is read: that it leaves is to be
            // noticed, whatever it has sent before.
            if self.clients[client].is_closing || data.len() >= COMMAND_BYTES_MAX {
                conn.pause();
            }
            return Ok(0);
        }
        self.begin(conn, client);
        let mut has_rest = true;
        let result = for_each_message(conn, data, |conn, rest| {
            let Some((command, taken)) = session.commands.decode(rest)? else {
                has_rest = false;
                if session.commands.need() > 0 {
                    conn.need(session.commands.need());
                }
                return Ok(None);
            };
            match command {
                protocol::Command::Array(args) => self.execute(conn, &args),
                protocol::Command::Inline(words) => {
                    let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    self.execute(conn, &args);
                }
            }
            let this = &self.clients[client];
            if this.is_postponed {
                return Ok(None);
            }
            if this.must_wait() {
                conn.pause(); // for the rest of the commands
            }
            if self.store.work > WORK_PER_TURN {
                self.store.work = 0;
                conn.again();
            }
            if self.out.len() >= FLUSH_BYTES {
                self.flush(conn);
            }
            Ok(Some(taken))
        });
        // Not an error of this callback: who sent it is to get the replies to what came before, also those that wait.
        let used = result.unwrap_or_else(|error| {
            let error = match error.downcast_ref() {
                Some(FrameError::TooLong(_)) => "too big a command".into(),
                _ => error.to_string(),
            };
            self.reply().error(&format!("ERR Protocol error: {error}"));
            self.clients[client].is_closing = true;
            data.len()
        });
        let this = &mut self.clients[client];
        this.is_closing |= this.is_last && (!has_rest || used == data.len());
        self.flush(conn);
        self.end(conn);
        if self.clients[client].blocked.is_some() {
            conn.resume();
        }
        Ok(used)
    }

    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection, _: TimerId) {
        self.time_out(conn, session.client);
        self.end(conn);
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context) {
        self.read_clock(cx);
        if self.expiry == Some(timer) {
            let has_more = self.store.expire(EXPIRED_PER_TURN);
            self.expiry = has_more.then(|| cx.set_handler_timer(Duration::ZERO));
            self.handle_touched(cx);
        } else if self.pause.as_ref().is_some_and(|pause| pause.timer == timer) {
            self.unpause(cx);
        } else if let Some(append_only) = &mut self.append_only {
            append_only.handle_timer(timer, cx);
        }
        self.end(cx);
    }

    /// Who waits for an element of a list would wait for ever. Commands that were postponed are carried out now.
    fn on_drain(&mut self, session: &mut Session, conn: &mut Connection) {
        let this = &mut self.clients[session.client];
        this.is_last = this.is_postponed;
        let is_last = this.is_last;
        self.unpause(conn);
        if is_last || (self.clients[session.client].blocked.is_none() && conn.is_paused()) {
            return;
        }
        self.forget_waiting(conn, session.client);
        self.begin(conn, session.client);
        self.clients[session.client].is_closing = true;
        self.flush(conn); // which closes it, behind the replies that wait for the disk
        self.end(conn);
    }

    fn on_close(&mut self, session: Session, _: Key, _: CloseReason, cx: &mut Context) {
        self.forget_waiting(cx, session.client);
        self.unwatch(session.client);
        self.unsubscribe_all(session.client);
        self.take_transaction(session.client);
        self.clients.remove(session.client);
    }
}

impl oneloop::MessageHandler<Written> for Server {
    fn on_handler_message(&mut self, written: Written, cx: &mut Context) {
        let Some(append_only) = &mut self.append_only else { return };
        if let Err(error) = append_only.handle_written(written, cx) {
            log::error!("the append-only file: {error}");
            self.failure = Some(error);
            cx.stop(); // nothing that it could not keep is acknowledged
        }
        self.end(cx);
    }
}
