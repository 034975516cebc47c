//! The server: one handler for all clients. It knows no socket, no clock and no file, so that it runs in simulation
//! as it does in the world.
//!
//! What a server of a protocol is made of stands in these files, to be read in this order, from the first byte of a
//! command to the last one of its reply:
//!
//! 1. Below: the fields of [`Server`], which get their meaning on the way.
//! 2. `clients` tells what is known of a client; its table, of all that can stop a client's commands, is needed next.
//!    `handler` has the callbacks, `protocol` finds a command in the input, and `execute` carries it out or says why not.
//! 3. `commands` has the table of all commands, of which a look is enough, and a file for each family. `strings` is one
//!    of them; the others are written in the same way.
//! 4. `values` are what keys stand for, `store` has all that is kept, and `keys` is how commands read and change it.
//!    `journal` makes a record of each change.
//! 5. `reply` writes replies, `output` sends them, and `append_only` has the records written and replies wait for that.
//! 6. `blocking`: clients that wait for each other.
//!
//! Each of the other files is one thing that clients can do or have done besides, and is understood with these: `replay`
//! reads the records at the start; `transactions`, `pubsub`, `pause`; `kept` bounds what is kept for clients; `inline`
//! finds commands that people type, and `pattern` compares names; `expiry` and the other families of commands.

#![allow(unreachable_pub, reason = "all of it is private to one program")]

mod append_only;
mod blocking;
mod clients;
mod commands;
mod execute;
mod handler;
mod inline;
mod journal;
mod kept;
mod keys;
mod output;
mod pattern;
mod pause;
mod protocol;
mod pubsub;
mod replay;
mod reply;
mod store;
mod transactions;
mod values;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use oneloop::{Connection, Context, Limits, Time, TimerId};
use slab::Slab;

use self::append_only::AppendOnly;
use self::clients::Client;
use self::commands::{COMMANDS, Command};
use self::pause::Pause;
use self::protocol::{COMMAND_BYTES_MAX, CommandDecoder};
use self::pubsub::Subscriptions;
use self::store::Store;

pub use self::append_only::{Policy, RecordFile};

/// After so long a silence the kernel asks whether a client is still there. If three such questions have no answer, the
/// connection is over.
pub const KEEPALIVE: Duration = Duration::from_secs(300);
/// How often keys are removed whose deadline has passed. A command that asks for such a key before that does not find
/// it.
const EXPIRY_PERIOD: Duration = Duration::from_millis(100);
/// With so much waiting for a client, none of its commands is carried out.
const REPLY_BYTES_HIGH: usize = 64 << 20;

/// A key-value store that speaks the protocol of Redis.
#[derive(Default)]
pub struct Server {
    commands: HashMap<&'static [u8], &'static Command, ahash::RandomState>,
    store: Store,
    clients: Slab<Client>,

    // Of the client whose callback runs:
    /// Its slot.
    current: usize,
    /// Replies to it that were not sent yet.
    out: Vec<u8>,
    /// EXEC carries out what it has queued.
    is_in_exec: bool,
    /// Messages that it has published itself, within a transaction: they come behind the reply to EXEC.
    pushed: Vec<u8>,
    /// How much its PUBLISHes have made of messages for patterns.
    published_bytes: usize,

    append_only: Option<AppendOnly>,
    subscriptions: Subscriptions,
    pause: Option<Pause>,
    /// The memory of what is kept for all clients.
    kept_bytes: usize,
    /// The timer for the keys whose deadline has passed; none while no key has a deadline.
    expiry_timer: Option<TimerId>,
    started: Time,
    clients_total: u64,
    commands_total: u64,
    /// Clients that were dropped, because too much waited for the disk.
    dropped_total: u64,
    limits: Rc<Limits>,
    subscriber_limits: Rc<Limits>,
}

/// What the loop keeps with a connection.
pub struct Session {
    /// Where its [`Client`] stands, as long as it is open. Other clients know each other by their slots.
    slot: usize,
    decoder: CommandDecoder,
}

impl Server {
    pub fn new() -> Server {
        Server {
            commands: COMMANDS.iter().map(|row| (row.name.as_bytes(), row)).collect(),
            limits: Rc::new(Server::limits()),
            subscriber_limits: Rc::new(Server::subscriber_limits()),
            ..Server::default()
        }
    }

    /// Limits for the server's listener, which are those of Redis: a client may be idle for ever, as connections of a
    /// pool are, and may take its replies when it likes to; commands and replies may be large. The memory of the
    /// reactor bounds them for all clients together. But of one who has not taken 64 MiB of replies, no more is read:
    /// libraries send a pipeline as a whole before they read the first reply.
    pub fn limits() -> Limits {
        Limits::new()
            .input_bytes_max(COMMAND_BYTES_MAX + 64 * 1024)
            .output_bytes_high(REPLY_BYTES_HIGH)
            .output_bytes_max(usize::MAX)
            .output_bytes_soft(usize::MAX)
            .idle_timeout(Duration::MAX)
            .write_stall_timeout(Duration::MAX)
            .message_timeout(Duration::MAX)
    }

    /// As in Redis, less output may wait for a subscriber: 32 MB at once, or 8 MB for a minute.
    fn subscriber_limits() -> Limits {
        Server::limits()
            .output_bytes_high(64 << 10)
            .output_bytes_max(32 << 20)
            .output_bytes_soft(8 << 20)
            .output_soft_timeout(Duration::from_secs(60))
    }

    /// Every callback of a client that carries out commands, or sends what was collected, begins with this. It clears what
    /// is left of a callback that ended with a panic.
    fn begin(&mut self, conn: &Connection, slot: usize) {
        self.read_clock(conn);
        self.current = slot;
        self.out.clear();
        self.is_in_exec = false;
        self.pushed.clear();
        self.published_bytes = 0;
    }

    fn read_clock(&mut self, cx: &Context) {
        let since = cx.wall_clock().duration_since(SystemTime::UNIX_EPOCH);
        self.store.now = since.map_or(0, |since| since.as_millis() as u64);
    }

    /// Every callback that may have changed something ends with this.
    fn end(&mut self, cx: &mut Context) {
        self.write_records();
        if self.expiry_timer.is_none() && self.store.has_deadlines() {
            self.expiry_timer = Some(cx.set_handler_timer(EXPIRY_PERIOD));
        }
    }
}
