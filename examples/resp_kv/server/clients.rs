//! What is known of each client.
//!
//! Four things stop a client's commands, and then they stay in its input:
//!
//! | what stops them                   | flag           | is it paused?   | who starts it again          |
//! |-----------------------------------|----------------|-----------------|------------------------------|
//! | it waits for an element of a list | `blocked`      | no              | `unblock`, also by its timer |
//! | a command came in a CLIENT PAUSE  | `is_postponed` | no              | `unpause`                    |
//! | its replies wait for the disk     | none           | yes, by `flush` | `AppendOnly::release`        |
//! | it is closed behind its replies   | `is_closing`   | if more comes   | nobody                       |
//!
//! A connection that is not paused is read although its commands wait: otherwise we would not notice that the client
//! leaves. It is paused as well when there is no more room for its input.
//!
//! Two of these may come together: who waits in BLPOP may have replies that wait for the disk, and then gets another one
//! that waits. When the first of them has left, it goes on, and what it adds waits behind the others. So it is with whose
//! next command came in a CLIENT PAUSE that ends before the disk is done.

use std::collections::{BTreeMap, BTreeSet};

use oneloop::{Connection, Context, Key, Time};

use super::blocking::Blocked;
use super::commands::{Command, Failure};
use super::transactions::Transaction;
use super::values::Bytes;

pub struct Client {
    pub id: u64,
    pub key: Key,
    pub address: String,
    pub name: Bytes,
    pub since: Time,
    pub last_active: Time,
    pub last_command: &'static str,
    pub database: usize,
    /// The version of the protocol, 2 or 3.
    pub protocol: u8,
    pub transaction: Option<Transaction>,
    /// Keys that it watches, with the [versions](super::store::Observers) that they had when it began to.
    pub watched: BTreeMap<(usize, Bytes), u64>,
    /// Its channels, and its patterns.
    pub subscribed: [BTreeSet<Bytes>; 2],
    /// What it waits for, after BLPOP or BRPOP.
    pub blocked: Option<Blocked>,
    /// A command of it came during CLIENT PAUSE.
    pub is_postponed: bool,
    /// It is closed behind the replies that it has not been sent yet.
    pub is_closing: bool,
    /// Its part of [`Server::kept_bytes`](super::Server).
    pub kept_bytes: usize,
}

impl Client {
    pub fn new(id: u64, conn: &Connection) -> Client {
        Client {
            id,
            key: conn.key(),
            address: conn
                .peer_address()
                .map_or_else(|_| "?:0".into(), |address| address.to_string()),
            name: Bytes::default(),
            since: conn.now(),
            last_active: conn.now(),
            last_command: "NULL",
            database: 0,
            protocol: 2,
            transaction: None,
            watched: BTreeMap::new(),
            subscribed: Default::default(),
            kept_bytes: 0,
            blocked: None,
            is_postponed: false,
            is_closing: false,
        }
    }

    /// Whether its next commands have to stay in the input.
    pub fn must_wait(&self) -> bool {
        self.blocked.is_some() || self.is_postponed || self.is_closing
    }

    pub fn subscriptions(&self) -> usize {
        self.subscribed.iter().map(BTreeSet::len).sum()
    }

    /// Whether it may call a command with so many arguments now.
    pub fn check(&self, command: &Command, arguments: usize) -> Result<(), Failure> {
        if !command.takes(arguments) {
            return Err(Failure::wrong_arguments(command.name));
        }
        if command.name == "shutdown" && self.transaction.is_some() {
            return Err(Failure::new("ERR Command not allowed inside a transaction"));
        }
        // In version 2 a client could not tell a message from a reply.
        if self.protocol == 2 && self.subscriptions() > 0 && !command.is_for_subscribers() {
            return Err(Failure::from(format!(
                "ERR Can't execute '{}': only (P)SUBSCRIBE / (P)UNSUBSCRIBE / PING / QUIT are allowed in this context",
                command.name
            )));
        }
        Ok(())
    }
}

/// Has the commands that wait in a client's input shown to `on_data` again. To resume a connection does that, and only one
/// that is paused can be resumed. (One whose input had no more room was paused already.)
pub fn show_again(cx: &mut Context, client: Key) {
    cx.pause_key(client);
    cx.resume_key(client);
}
