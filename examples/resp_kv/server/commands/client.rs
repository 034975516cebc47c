//! CLIENT: what clients may know of each other, and do to each other.

use oneloop::Time;

use super::super::clients::Client;
use super::super::pubsub::Topic;
use super::*;

impl Client {
    pub fn set_name(&mut self, name: &[u8]) -> Result<(), Failure> {
        let is_plain = check_name(name)?.iter().all(u8::is_ascii_graphic);
        if !is_plain {
            return Err(Failure::new(
                "ERR Client names cannot contain spaces, newlines or special characters.",
            ));
        }
        self.name = Bytes::from_slice(name);
        Ok(())
    }

    /// The line of CLIENT LIST.
    fn describe(&self, now: Time) -> String {
        format!(
            "id={} addr={} name={} age={} idle={} db={} sub={} psub={} multi={} watch={} cmd={} user=default \
             resp={}\n",
            self.id,
            self.address,
            quote(&self.name),
            (now - self.since).as_secs(),
            (now - self.last_active).as_secs(),
            self.database,
            self.subscribed[Topic::Channel as usize].len(),
            self.subscribed[Topic::Pattern as usize].len(),
            self.transaction.as_ref().map_or(-1, |transaction| transaction.len() as i64),
            self.watched.len(),
            self.last_command,
            self.protocol,
        )
    }
}

pub fn client(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let this = &mut server.clients[server.current];
    match (&*args[1].to_ascii_uppercase(), &args[2..]) {
        (b"ID", []) => {
            let id = this.id as i64;
            Ok(server.reply().integer(id))
        }
        (b"GETNAME", []) => {
            let name = this.name.clone();
            Ok(server.reply().bulk_or_null((!name.is_empty()).then_some(name)))
        }
        (b"SETNAME", [name]) => {
            this.set_name(name)?;
            Ok(server.reply().ok())
        }
        (b"INFO", []) => {
            let line = this.describe(conn.now());
            Ok(server.reply().bulk(line.as_bytes()))
        }
        (b"LIST", []) => {
            let mut clients: Vec<&Client> =
                server.clients.iter().map(|(_, client)| client).collect();
            clients.retain(|client| conn.is_open(client.key));
            clients.sort_by_key(|client| client.id);
            let lines: String = clients.iter().map(|client| client.describe(conn.now())).collect();
            Ok(server.reply().bulk(lines.as_bytes()))
        }
        (b"KILL", filters) => kill(server, conn, filters),
        (b"PAUSE", [millis, mode @ ..]) if mode.len() < 2 => {
            let is_for_reads = match mode {
                [mode] if is_word(mode, "WRITE") => false,
                [mode] if !is_word(mode, "ALL") => return Err(Failure::SYNTAX),
                _ => true,
            };
            server.pause(conn, millis, is_for_reads)?;
            Ok(server.reply().ok())
        }
        (b"UNPAUSE", []) => {
            server.unpause(conn);
            Ok(server.reply().ok())
        }
        _ => {
            let what = quote(args[1]);
            let text = "ERR unknown subcommand or wrong number of arguments for";
            Err(format!("{text} '{what}'. Try CLIENT LIST, ID, SETNAME, KILL or PAUSE.").into())
        }
    }
}

/// CLIENT KILL. The old form has an address, and says if there is no such client. The new one has filters, and says how
/// many clients were killed.
fn kill(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let is_old = args.len() == 1;
    let (mut id, mut address, mut skips_me) = (None, None, !is_old);
    match args.as_chunks::<2>() {
        ([], [one]) => address = Some(*one),
        (pairs @ [_, ..], []) => {
            for [filter, value] in pairs {
                if is_word(filter, "ID") {
                    let wrong = |_| Failure::new("ERR client-id should be greater than 0");
                    id = Some(count(value).map_err(wrong)? as u64);
                } else if is_word(filter, "ADDR") {
                    address = Some(*value);
                } else if is_word(filter, "SKIPME") && is_word(value, "yes") {
                    skips_me = true;
                } else if is_word(filter, "SKIPME") && is_word(value, "no") {
                    skips_me = false;
                } else {
                    return Err(Failure::SYNTAX);
                }
            }
        }
        _ => return Err(Failure::SYNTAX),
    }
    server.store.work += server.clients.len();
    let mut killed = 0;
    for (slot, other) in &mut server.clients {
        let is_meant = conn.is_open(other.key)
            && id.is_none_or(|id| other.id == id)
            && address.is_none_or(|address| other.address.as_bytes() == address);
        if is_meant && !(skips_me && slot == server.current) {
            killed += 1;
            if slot == server.current {
                other.is_closing = true; // it gets its reply
            } else {
                conn.abort_key(other.key); // it might be slow to take what waits for it
            }
        }
    }
    match (is_old, killed) {
        (true, 0) => Err(Failure::new("ERR No such client")),
        (true, _) => Ok(server.reply().ok()),
        (false, _) => Ok(server.reply().integer(killed)),
    }
}
