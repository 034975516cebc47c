//! CLIENT: what clients may know of each other, and do to each other.

use oneloop::Connection;

use super::super::Server;
use super::super::bytes::Bytes;
use super::super::clients::Client;
use super::{Args, Failure, Outcome, count, integer, is_word, quote};

pub(crate) fn client(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let this = &mut server.clients[server.current];
    let (command, rest) = (args[1], &args[2..]);
    match (command, rest) {
        (_, []) if is_word(command, "ID") => {
            let id = this.id as i64;
            Ok(server.reply().integer(id))
        }
        (_, []) if is_word(command, "GETNAME") => {
            let name = this.name.clone();
            Ok(server.reply().bulk_or_null((!name.is_empty()).then_some(&*name)))
        }
        (_, [name]) if is_word(command, "SETNAME") => {
            this.set_name(name)?;
            Ok(server.reply().ok())
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
            Ok(server.reply().ok())
        }
        (_, []) if is_word(command, "INFO") => {
            let line = this.describe(conn.now());
            Ok(server.reply().verbatim(&line))
        }
        _ if is_word(command, "LIST") => list(server, conn, rest),
        _ if is_word(command, "KILL") => kill(server, conn, rest),
        (_, [millis, mode @ ..]) if is_word(command, "PAUSE") && mode.len() < 2 => {
            let is_for_reads = match mode {
                [mode] if is_word(mode, "WRITE") => false,
                [mode] if !is_word(mode, "ALL") => return Err(Failure::SYNTAX),
                _ => true,
            };
            server.pause(conn, millis, is_for_reads)?;
            Ok(server.reply().ok())
        }
        (_, []) if is_word(command, "UNPAUSE") => {
            server.unpause(conn);
            Ok(server.reply().ok())
        }
        (_, [id, how @ ..]) if is_word(command, "UNBLOCK") && how.len() < 2 => {
            unblock(server, conn, id, how.first())
        }
        _ => {
            let what = quote(command);
            let text = "ERR unknown subcommand or wrong number of arguments for";
            Err(format!("{text} '{what}'. Try CLIENT LIST, ID, SETNAME, KILL or PAUSE.").into())
        }
    }
}

/// Which clients are meant.
type Filter<'a> = Box<dyn Fn(&Client) -> bool + 'a>;

fn list(server: &mut Server, conn: &Connection, args: Args) -> Outcome {
    let wants: Filter = match args {
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
    clients.retain(|client| wants(client) && conn.is_open(client.key));
    clients.sort_by_key(|client| client.id);
    let lines: String = clients.iter().map(|client| client.describe(conn.now())).collect();
    Ok(server.reply().verbatim(&lines))
}

/// The old form, of one address, tells that there is no such client; the new one, of filters, counts.
fn kill(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let (mut skips_me, mut is_old) = (true, false);
    let mut filters: Vec<Filter> = Vec::new();
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
        let is_meant = conn.is_open(other.key) && filters.iter().all(|filter| filter(other));
        if is_meant && !(skips_me && slot == server.current) {
            killed += 1;
            if slot == server.current {
                other.is_closing = true; // it gets its reply
            } else {
                conn.close_key(other.key);
            }
        }
    }
    match (is_old, killed) {
        (true, 0) => Err(Failure::new("ERR No such client")),
        (true, _) => Ok(server.reply().ok()),
        (false, _) => Ok(server.reply().integer(killed)),
    }
}

fn unblock(server: &mut Server, conn: &mut Connection, id: &[u8], how: Option<&&[u8]>) -> Outcome {
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
    Ok(server.reply().integer(found.is_some().into()))
}
