//! Reading an append-only file at the start.

use std::borrow::Cow;
use std::io::{self, Read};
use std::mem;

use oneloop::codec::Decoder;

use super::Server;
use super::commands::{Args, Command, Run};
use super::execute::call_on_keys;
use super::protocol::{CommandDecoder, Request};
use super::reply::Reply;

const READ_BYTES: usize = 1 << 20;
/// What was found in an append-only file.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) commands: u64,
    /// So many bytes are whole records, or whole transactions.
    pub(crate) whole_bytes: u64,
    /// So many bytes behind them are the beginning of one that was not written to its end.
    pub(crate) torn_bytes: u64,
}

impl Server {
    /// Carries out the commands of an append-only file.
    ///
    /// # Errors
    ///
    /// Those of reading; `InvalidData` for what is no record, with its place.
    pub(crate) fn replay(&mut self, mut file: impl Read) -> io::Result<Replayed> {
        let mut replay = Replay { server: self, database: 0, transaction: None, commands: 0 };
        let mut decoder = CommandDecoder::new(usize::MAX);
        let (mut input, mut used, mut whole, mut before) = (Vec::new(), 0, 0, 0);
        replay.server.store.journal.is_replaying = true;
        loop {
            let byte = |at: usize| before + at as u64;
            let damaged = |at: usize, what: Cow<'static, str>| {
                let what = format!("damaged at byte {}: {what}", byte(at));
                io::Error::new(io::ErrorKind::InvalidData, what)
            };
            let taken = match decoder.decode(&input[used..]) {
                Err(error) => return Err(damaged(used, error.to_string().into())),
                Ok(Some((Request::Array(args), taken))) => {
                    replay.run(&args).map_err(|error| damaged(used, error))?;
                    taken
                }
                Ok(None) if input.get(used).is_none_or(|first| *first == b'*') => 0,
                // This is a line, or begins one. A record that was torn off begins with `*`; this is no record at all.
                Ok(_) => return Err(damaged(used, "no record".into())),
            };
            used += taken;
            if replay.transaction.is_none() {
                whole = byte(used);
            }
            if taken == 0 {
                before += used as u64;
                input.drain(..mem::take(&mut used));
                let wanted = READ_BYTES.max(decoder.need().saturating_sub(input.len()));
                if (&mut file).take(wanted as u64).read_to_end(&mut input)? == 0 {
                    break;
                }
            }
        }
        let commands = replay.commands;
        self.store.journal.is_replaying = false;
        self.store.changes = 0;
        let torn_bytes = before + input.len() as u64 - whole;
        Ok(Replayed { commands, whole_bytes: whole, torn_bytes })
    }
}

/// What is known of a file while it is read.
struct Replay<'a> {
    server: &'a mut Server,
    database: usize,
    /// Commands of a transaction whose end has not come yet.
    transaction: Option<Vec<Vec<Vec<u8>>>>,
    commands: u64,
}

impl Replay<'_> {
    /// # Errors
    ///
    /// What is wrong with the record.
    fn run(&mut self, args: Args) -> Result<(), Cow<'static, str>> {
        match (args, &mut self.transaction) {
            ([b"MULTI"], None) => self.transaction = Some(Vec::new()),
            ([b"MULTI"], Some(_)) => return Err("a transaction within another".into()),
            ([b"EXEC"], transaction @ Some(_)) => {
                for args in transaction.take().unwrap_or_default() {
                    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                    self.run(&args)?;
                }
            }
            (_, Some(queued)) => queued.push(args.iter().map(|arg| arg.to_vec()).collect()),
            ([b"SELECT", number], None) => {
                self.database = super::commands::database(number).map_err(|error| error.0)?;
            }
            (_, None) => {
                let command = args.first().and_then(|name| self.server.look_up(name));
                let run = match command {
                    Some(Command { writes: true, run: Run::OnKeys(run), .. }) => *run,
                    _ => return Err("no command that changes keys".into()),
                };
                if !command.is_some_and(|command| command.takes(args.len())) {
                    return Err("wrong number of arguments".into());
                }
                let (keys, mut out) = (&mut self.server.store.keys(self.database), Vec::new());
                call_on_keys(run, keys, args, &mut Reply::new(&mut out, 2))
                    .map_err(|error| error.0)?;
                self.commands += 1;
            }
        }
        Ok(())
    }
}
