//! What a client asks about its connection and about the server.

use std::fmt::Display;
use std::time::Duration;

use super::super::KEEPALIVE;
use super::super::append_only::Policy;
use super::*;

/// How long SHUTDOWN waits for clients that do not take their replies.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub fn ping(server: &mut Server, _: &mut Connection, args: Args) -> Outcome {
    if args.len() > 2 {
        return Err(Failure::wrong_arguments("ping"));
    }
    let this = &server.clients[server.current];
    let is_subscriber = this.protocol == 2 && this.subscriptions() > 0;
    let mut reply = server.reply();
    match args.get(1) {
        text if is_subscriber => {
            reply.array(2);
            reply.bulks([b"pong", *text.unwrap_or(&&b""[..])])
        }
        Some(text) => Ok(reply.bulk(text)),
        None => Ok(reply.simple("PONG")),
    }
}

pub fn echo(server: &mut Server, _: &mut Connection, args: Args) -> Outcome {
    Ok(server.reply().bulk(args[1]))
}

/// The number of a database.
pub fn database(number: &[u8]) -> Result<usize, Failure> {
    let number = usize::try_from(integer(number)?).ok().filter(|number| *number < DATABASES);
    number.ok_or(Failure::new("ERR DB index is out of range"))
}

pub fn select(server: &mut Server, _: &mut Connection, args: Args) -> Outcome {
    server.clients[server.current].database = database(args[1])?;
    Ok(server.reply().ok())
}

pub fn quit(server: &mut Server, _: &mut Connection, _: Args) -> Outcome {
    server.clients[server.current].is_closing = true;
    Ok(server.reply().ok())
}

pub fn hello(server: &mut Server, _: &mut Connection, args: Args) -> Outcome {
    let this = &mut server.clients[server.current];
    let (version, name) = match args[1..] {
        [] => (None, None),
        [version] => (Some(version), None),
        [version, option, name] if is_word(option, "SETNAME") => (Some(version), Some(name)),
        [_, option, ..] => {
            let option = quote(option);
            return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
        }
    };
    let protocol = match version.map(integer) {
        None => this.protocol,
        Some(Ok(2)) => 2,
        Some(Ok(3)) => 3,
        Some(Ok(_)) => return Err(Failure::new("NOPROTO unsupported protocol version")),
        Some(Err(_)) => {
            return Err(Failure::new("ERR Protocol version is not an integer or out of range"));
        }
    };
    if let Some(name) = name {
        this.set_name(name)?;
    }
    this.protocol = protocol;
    let id = this.id as i64;
    let mut reply = server.reply();
    reply.map(7);
    reply.bulks(["server", "redis", "version", info::REDIS_VERSION, "proto"])?;
    reply.integer(protocol.into());
    reply.bulk(b"id");
    reply.integer(id);
    reply.bulks(["mode", "standalone", "role", "master", "modules"])?;
    Ok(reply.array(0))
}

/// All clients get the replies to what they have sent, if they take them in time, and what is recorded is written. Who
/// waits for an element of a list or for the end of a CLIENT PAUSE gets no reply, and what it has sent behind that is not
/// carried out.
pub fn shutdown(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let known = ["NOSAVE", "SAVE", "NOW", "FORCE"];
    if !args[1..].iter().all(|option| known.iter().any(|name| is_word(option, name))) {
        return Err(Failure::SYNTAX);
    }
    log::info!("SHUTDOWN");
    server.clients[server.current].is_closing = true;
    conn.drain(SHUTDOWN_TIMEOUT);
    Ok(Done)
}

/// CONFIG GET, for the settings that clients ask for. They cannot be set: they are arguments of the program, or fixed.
pub fn config(server: &mut Server, _: &mut Connection, args: Args) -> Outcome {
    if !is_word(args[1], "GET") || args.len() != 3 {
        return Err(Failure::new("ERR only CONFIG GET with one pattern is known here"));
    }
    let wanted = check_name(args[2])?.to_ascii_lowercase();
    let policy = server.append_only.as_ref().map(|append_only| append_only.policy);
    let appendfsync = if policy == Some(Policy::Always) { "always" } else { "everysec" };
    let settings: [(&str, &dyn Display); 9] = [
        ("appendonly", if policy.is_some() { &"yes" } else { &"no" }),
        ("appendfsync", &appendfsync),
        ("client-output-buffer-limit", &"normal 0 0 0 pubsub 33554432 8388608 60"),
        ("databases", &DATABASES),
        ("maxmemory", &0),
        ("proto-max-bulk-len", &BULK_BYTES_MAX),
        ("save", &""),
        ("tcp-keepalive", &KEEPALIVE.as_secs()),
        ("timeout", &0),
    ];
    let mut steps = usize::MAX;
    let mut matches = |name: &str| pattern::matches(&wanted, name.as_bytes(), &mut steps);
    let wanted: Vec<_> = settings.iter().filter(|(name, _)| matches(name) == Some(true)).collect();
    server.store.work += (usize::MAX - steps) / STEPS_PER_WORK;
    let mut reply = server.reply();
    reply.map(wanted.len());
    for (name, value) in wanted {
        reply.bulks([name, value.to_string().as_str()])?;
    }
    Ok(Done)
}

/// COMMAND: the table of commands, for the clients that want to know it. There is no COMMAND DOCS, so redis-cli shows
/// the help that it has itself.
pub fn command(server: &mut Server, _: &mut Connection, args: Args) -> Outcome {
    let mut reply = server.reply();
    match args[1..] {
        [part] if is_word(part, "COUNT") => return Ok(reply.count(COMMANDS.len())),
        [part] if is_word(part, "LIST") => {
            reply.array(COMMANDS.len());
            return reply.bulks(COMMANDS.iter().map(|row| row.name));
        }
        [] => {}
        _ => return Err(Failure::SYNTAX),
    }
    reply.array(COMMANDS.len());
    for row in COMMANDS {
        // Behind name and arity come eight places more, of which clients look at where the keys stand.
        reply.array(10);
        reply.bulk(row.name.as_bytes());
        reply.integer(row.arity.into());
        reply.array(0);
        keys_of(row.name).into_iter().for_each(|place| _ = reply.integer(place));
        (0..4).for_each(|_| _ = reply.array(0));
    }
    Ok(Done)
}

/// Where a command has its first key and its last one, from its end if that is negative, and how far they are apart.
fn keys_of(command: &str) -> [i64; 3] {
    match command {
        "keys" | "scan" | "dbsize" | "flushdb" | "flushall" | "publish" | "subscribe"
        | "psubscribe" | "unsubscribe" | "punsubscribe" | "multi" | "exec" | "discard"
        | "unwatch" | "ping" | "echo" | "select" | "quit" | "hello" | "client" | "info"
        | "config" | "command" | "shutdown" => [0, 0, 0],
        "mget" | "del" | "unlink" | "exists" | "sinter" | "sunion" | "sdiff" | "watch" => {
            [1, -1, 1]
        }
        "mset" => [1, -1, 2],
        "blpop" | "brpop" => [1, -2, 1],
        "rename" => [1, 2, 1],
        _ => [1, 1, 1],
    }
}
