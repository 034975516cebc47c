//! COMMAND: the table of commands, for the clients that want to know it. Without COMMAND DOCS redis-cli helps with what
//! it knows itself.

use oneloop::Connection;

use super::super::Server;
use super::super::reply::{Done, Reply};
use super::{Args, COMMANDS, Command, Failure, Kind, Outcome, is_word};

pub(crate) fn command(server: &mut Server, _: &mut Connection, args: Args) -> Outcome {
    let named = |names: &[&[u8]]| names.iter().map(|name| server.look_up(name)).collect();
    let all = || COMMANDS.iter().map(Some).collect();
    let rows: Vec<Option<&Command>> = match args[1..] {
        [] => all(),
        [part] if is_word(part, "COUNT") => {
            return Ok(server.reply().count(COMMANDS.len()));
        }
        [part] if is_word(part, "LIST") => {
            let mut reply = server.reply();
            reply.array(COMMANDS.len());
            return Ok(reply.bulks(COMMANDS.iter().map(|row| row.name)));
        }
        [part] if is_word(part, "INFO") => all(),
        [part, ref names @ ..] if is_word(part, "INFO") => named(names),
        _ => return Err(Failure::SYNTAX),
    };
    let mut reply = server.reply();
    reply.array(rows.len());
    rows.iter().for_each(|row| describe(&mut reply, *row));
    Ok(Done)
}

fn describe(reply: &mut Reply, row: Option<&Command>) {
    let Some(row) = row else {
        reply.null_array();
        return;
    };
    reply.array(10);
    reply.bulk(row.name.as_bytes());
    reply.integer(row.arity.into());
    let flag = row.kind.flag();
    reply.set(usize::from(flag.is_some()));
    flag.iter().for_each(|flag| _ = reply.simple(flag));
    let (first, last, step) = row.keys;
    [first, last, step].iter().for_each(|number| _ = reply.integer((*number).into()));
    // Categories of rights, hints, where else keys may be, parts: none.
    (0..4).for_each(|_| _ = reply.array(0));
}

impl Kind {
    fn flag(self) -> Option<&'static str> {
        match self {
            Kind::Read => Some("readonly"),
            Kind::Write => Some("write"),
            Kind::PubSub => Some("pubsub"),
            Kind::Other => None,
        }
    }
}
