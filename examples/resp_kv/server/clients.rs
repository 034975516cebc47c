//! What is known of each client, and CLIENT.

use std::collections::BTreeSet;
use std::time::Duration;

use oneloop::{Connection, Context, Key, Time, TimerId};

use super::Server;
use super::blocking::Blocked;
use super::bytes::Bytes;
use super::commands::{Command, Failure, Kind, Outcome, count, integer, is_word, quote};
use super::transactions::Transaction;

pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) key: Key,
    address: String,
    name: Bytes,
    library: [Bytes; 2],
    since: Time,
    pub(crate) last_active: Time,
    pub(crate) last_command: &'static str,
    pub(crate) database: usize,
    pub(crate) protocol: u8,
    pub(crate) transaction: Option<Transaction>,
    /// Keys that it watches, and whether one of them was changed since.
    pub(crate) watched: BTreeSet<(usize, Bytes)>,
    pub(crate) is_spoiled: bool,
    pub(crate) channels: BTreeSet<Bytes>,
    pub(crate) patterns: BTreeSet<Bytes>,
    pub(crate) blocked: Option<Blocked>,
    /// A command that came while clients were paused.
    pub(crate) postponed: Option<Vec<Bytes>>,
    /// When the replies are sent.
    pub(crate) is_closing: bool,
}

/// CLIENT PAUSE: until the timer fires, or CLIENT UNPAUSE.
pub(crate) struct Pause {
    pub(crate) timer: TimerId,
    ends: Time,
    is_for_reads: bool,
}

impl Client {
    pub(crate) fn new(id: u64, conn: &Connection<'_>) -> Client {
        Client {
            id,
            key: conn.key(),
            address: conn
                .peer_address()
                .map_or_else(|_| "?:0".into(), |address| address.to_string()),
            name: Bytes::default(),
            library: Default::default(),
            since: conn.now(),
            last_active: conn.now(),
            last_command: "NULL",
            database: 0,
            protocol: 2,
            transaction: None,
            watched: BTreeSet::new(),
            is_spoiled: false,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            blocked: None,
            postponed: None,
            is_closing: false,
        }
    }

    /// Whether its next commands have to stay where they are.
    pub(crate) fn must_wait(&self) -> bool {
        self.blocked.is_some() || self.postponed.is_some() || self.is_closing
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether it may call a command with so many arguments now.
    pub(crate) fn check(&self, command: &Command, arguments: usize) -> Outcome {
        let wanted = command.arity.unsigned_abs() as usize;
        if arguments < wanted || (command.arity > 0 && arguments > wanted) {
            return Err(Failure::wrong_arguments(command.name));
        }
        // In version 2 a message could not be told from a reply.
        const ALLOWED: [&str; 7] =
            ["ping", "subscribe", "psubscribe", "unsubscribe", "punsubscribe", "quit", "reset"];
        if self.protocol == 2 && self.subscriptions() > 0 && !ALLOWED.contains(&command.name) {
            return Err(Failure::from(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context",
                command.name
            )));
        }
        Ok(())
    }

    pub(crate) fn set_name(&mut self, name: &[u8]) -> Outcome {
        let is_plain = name.iter().all(u8::is_ascii_graphic);
        if !is_plain {
            return Err(Failure::new(
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ));
        }
        self.name = Bytes::from(name);
        Ok(())
    }

    fn flags(&self) -> String {
        let flags = [
            (self.transaction.is_some(), 'x'),
            (self.blocked.is_some(), 'b'),
            (self.subscriptions() > 0, 'P'),
            (self.is_spoiled, 'd'),
            (self.is_closing, 'c'),
        ];
        let set: String = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
        if set.is_empty() { "N".into() } else { set }
    }

    /// The line of CLIENT LIST.
    fn describe(&self, now: Time) -> String {
        format!(
            "id={} addr={} name={} age={} idle={} flags={} db={} sub={} psub={} multi={} watch={} cmd={} user=default \
             lib-name={} lib-ver={} resp={}\n",
            self.id,
            self.address,
            quote(&self.name),
            (now - self.since).as_secs(),
            (now - self.last_active).as_secs(),
            self.flags(),
            self.database,
            self.channels.len(),
            self.patterns.len(),
            self.transaction.as_ref().map_or(-1, |transaction| transaction.len() as i64),
            self.watched.len(),
            self.last_command,
            quote(&self.library[0]),
            quote(&self.library[1]),
            self.protocol,
        )
    }

    /// What CLIENT LIST and KILL call it.
    fn type_name(&self) -> &'static str {
        if self.subscriptions() > 0 { "pubsub" } else { "normal" }
    }
}

impl Server {
    /// Whether CLIENT PAUSE holds for this command of this client.
    pub(crate) fn is_paused(&self, client: usize, command: &Command) -> bool {
        let Some(pause) = &self.pause else { return false };
        let client = &self.clients[client];
        let writes = match (command.name, &client.transaction) {
            ("exec", Some(transaction)) => transaction.writes(),
            (_, Some(_)) => false, // it is only queued
            _ => matches!(command.kind, Kind::Write | Kind::PubSub),
        };
        pause.is_for_reads || writes
    }

    /// Keeps a command for later, and all that follow it where they are.
    pub(crate) fn postpone(&mut self, conn: &mut Connection<'_>, client: usize, args: &[&[u8]]) {
        self.clients[client].postponed = Some(args.iter().map(|arg| Bytes::from(*arg)).collect());
        conn.pause();
    }

    pub(crate) fn unpause(&mut self, cx: &mut Context<'_>) {
        let Some(pause) = self.pause.take() else { return };
        cx.cancel_timer(pause.timer);
        for (_, client) in self.clients.iter().filter(|(_, client)| client.postponed.is_some()) {
            cx.poke(client.key);
        }
    }

    fn pause(&mut self, cx: &mut Context<'_>, millis: &[u8], is_for_reads: bool) -> Outcome {
        let millis = integer(millis).ok().and_then(|millis| u64::try_from(millis).ok());
        let millis = millis.ok_or(Failure::new("ERR timeout is not an integer or out of range"))?;
        let mut ends = cx.now() + Duration::from_millis(millis);
        let mut is_for_reads = is_for_reads;
        if let Some(old) = self.pause.take() {
            cx.cancel_timer(old.timer);
            ends = ends.max(old.ends);
            is_for_reads |= old.is_for_reads;
        }
        let timer = cx.set_handler_timer(ends - cx.now());
        self.pause = Some(Pause { timer, ends, is_for_reads });
        Ok(())
    }
}

pub(crate) fn client(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
) -> Outcome {
    let now = conn.now();
    let this = &mut server.clients[client];
    let (command, rest) = (args[1], &args[2..]);
    match (command, rest) {
        (_, []) if is_word(command, "ID") => {
            let id = this.id as i64;
            server.reply(client).integer(id);
        }
        (_, []) if is_word(command, "GETNAME") => {
            let name = this.name.clone();
            server.reply(client).bulk_or_null((!name.is_empty()).then_some(&*name));
        }
        (_, [name]) if is_word(command, "SETNAME") => {
            this.set_name(name)?;
            server.reply(client).ok();
        }
        (_, [what, value]) if is_word(command, "SETINFO") => {
            let place = ["lib-name", "lib-ver"].iter().position(|name| is_word(what, name));
            let place = place.ok_or(Failure::new("ERR Unrecognized option"))?;
            if !value.iter().all(u8::is_ascii_graphic) {
                return Err(Failure::new(
                    "ERR lib-name and lib-ver cannot contain spaces, newlines or special characters.",
                ));
            }
            this.library[place] = Bytes::from(*value);
            server.reply(client).ok();
        }
        (_, []) if is_word(command, "INFO") => {
            let line = this.describe(now);
            server.reply(client).verbatim(&line);
        }
        _ if is_word(command, "LIST") => list(server, client, now, rest)?,
        _ if is_word(command, "KILL") => kill(server, conn, client, rest)?,
        (_, [millis, mode @ ..]) if is_word(command, "PAUSE") && mode.len() < 2 => {
            let is_for_reads = match mode {
                [mode] if is_word(mode, "WRITE") => false,
                [mode] if !is_word(mode, "ALL") => return Err(Failure::SYNTAX),
                _ => true,
            };
            server.pause(conn, millis, is_for_reads)?;
            server.reply(client).ok();
        }
        (_, []) if is_word(command, "UNPAUSE") => {
            server.unpause(conn);
            server.reply(client).ok();
        }
        (_, [id, how @ ..]) if is_word(command, "UNBLOCK") && how.len() < 2 => {
            unblock(server, conn, client, id, how.first())?;
        }
        _ => {
            return Err(Failure::from(format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'. Try CLIENT LIST, INFO, ID, SETNAME, GETNAME, \
                 SETINFO, KILL, PAUSE, UNPAUSE or UNBLOCK.",
                quote(command)
            )));
        }
    }
    Ok(())
}

fn list(server: &mut Server, client: usize, now: Time, args: &[&[u8]]) -> Outcome {
    let wants: Box<dyn Fn(&Client) -> bool> = match args {
        [] => Box::new(|_| true),
        [option, name] if is_word(option, "TYPE") => {
            Box::new(|client| is_word(name, client.type_name()))
        }
        [option, ids @ ..] if is_word(option, "ID") && !ids.is_empty() => {
            let ids: Result<Vec<usize>, Failure> = ids.iter().map(|id| count(id)).collect();
            let ids = ids.map_err(|_| Failure::new("ERR Invalid client ID"))?;
            Box::new(move |client| ids.contains(&(client.id as usize)))
        }
        _ => return Err(Failure::SYNTAX),
    };
    let mut clients: Vec<&Client> = server.clients.iter().map(|(_, client)| client).collect();
    clients.retain(|client| wants(client));
    clients.sort_by_key(|client| client.id);
    let lines: String = clients.iter().map(|client| client.describe(now)).collect();
    server.reply(client).verbatim(&lines);
    Ok(())
}

/// The old form, of one address, tells that there is no such client; the new one, of filters, counts.
fn kill(server: &mut Server, conn: &mut Connection<'_>, client: usize, args: &[&[u8]]) -> Outcome {
    let (mut skips_me, mut is_old) = (true, false);
    let mut filters: Vec<Box<dyn Fn(&Client) -> bool + '_>> = Vec::new();
    if let [address] = args {
        (skips_me, is_old) = (false, true);
        filters.push(Box::new(move |client| client.address.as_bytes() == *address));
    }
    let (pairs, rest) = args.as_chunks::<2>();
    if !is_old && (pairs.is_empty() || !rest.is_empty()) {
        return Err(Failure::SYNTAX);
    }
    for [filter, value] in pairs {
        let value: &[u8] = value;
        if is_word(filter, "ID") {
            let id =
                count(value).map_err(|_| Failure::new("ERR client-id should be greater than 0"))?;
            filters.push(Box::new(move |client| client.id == id as u64));
        } else if is_word(filter, "ADDR") {
            filters.push(Box::new(move |client| client.address.as_bytes() == value));
        } else if is_word(filter, "TYPE") {
            filters.push(Box::new(move |client| is_word(value, client.type_name())));
        } else if is_word(filter, "SKIPME") && (is_word(value, "yes") || is_word(value, "no")) {
            skips_me = is_word(value, "yes");
        } else {
            return Err(Failure::SYNTAX);
        }
    }
    let mut killed = 0;
    for (slot, other) in &mut server.clients {
        if filters.iter().all(|filter| filter(other)) && !(skips_me && slot == client) {
            killed += 1;
            if slot == client {
                other.is_closing = true; // it gets its reply
            } else {
                conn.close_key(other.key);
            }
        }
    }
    match (is_old, killed) {
        (true, 0) => return Err(Failure::new("ERR No such client")),
        (true, _) => server.reply(client).ok(),
        (false, _) => server.reply(client).integer(killed),
    }
    Ok(())
}

fn unblock(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    id: &[u8],
    how: Option<&&[u8]>,
) -> Outcome {
    let id = integer(id)?;
    let is_error = match how {
        Some(how) if is_word(how, "ERROR") => true,
        Some(how) if !is_word(how, "TIMEOUT") => return Err(Failure::SYNTAX),
        _ => false,
    };
    let is_it = |other: &Client| other.id as i64 == id && other.blocked.is_some();
    let found = server.clients.iter().find(|(_, other)| is_it(other)).map(|(slot, _)| slot);
    if let Some(slot) = found {
        let error = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
        server.unblock(
            conn,
            slot,
            |reply| if is_error { reply.error(error) } else { reply.null_array() },
        );
    }
    server.reply(client).integer(found.is_some().into());
    Ok(())
}
