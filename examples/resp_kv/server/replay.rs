//! Reading an append-only file at the start.

use std::io::{self, Read};
use std::mem;

use oneloop::codec::Decoder;

use super::Server;
use super::commands::{Args, Command, Failure, OnKeys, Run, database};
use super::execute::call_on_keys;
use super::protocol::{CommandDecoder, Request};
use super::reply::Reply;

const READ_BYTES: usize = 1 << 20;

/// What was found in an append-only file.
#[derive(Debug)]
pub struct Replayed {
    /// So many bytes are whole records, or whole transactions.
    pub whole_bytes: u64,
    /// So many bytes behind them are the beginning of one that was not written to its end.
    pub torn_bytes: u64,
}

impl Server {
    /// Carries out the commands of an append-only file.
    ///
    /// # Errors
    ///
    /// Those of reading; `InvalidData` for what is no record, with its place.
    pub fn replay(&mut self, mut file: impl Read) -> io::Result<Replayed> {
        let decoder = CommandDecoder::new(usize::MAX);
        let mut replay = Replay { server: self, decoder, database: 0, transaction: None };
        replay.server.store.journal.is_replaying = true;
        let (mut input, mut used) = (Vec::new(), 0);
        let (mut place, mut whole_bytes) = (0, 0);
        loop {
            let taken = replay.run_next(&input[used..]).map_err(|what| {
                let what = format!("damaged at byte {place}: {}", what.0);
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?;
            used += taken;
            place += taken as u64;
            if replay.transaction.is_none() {
                whole_bytes = place;
            }
            if taken == 0 {
                input.drain(..mem::take(&mut used));
                let wanted = READ_BYTES.max(replay.decoder.need().saturating_sub(input.len()));
                if (&mut file).take(wanted as u64).read_to_end(&mut input)? == 0 {
                    break;
                }
            }
        }
        self.store.journal.is_replaying = false;
        self.store.changes = 0;
        Ok(Replayed { whole_bytes, torn_bytes: place + input.len() as u64 - whole_bytes })
    }
}

/// What is known of a file while it is read.
struct Replay<'a> {
    server: &'a mut Server,
    decoder: CommandDecoder,
    database: usize,
    /// Commands of a transaction whose end has not come yet.
    transaction: Option<Vec<Vec<Vec<u8>>>>,
}

impl Replay<'_> {
    /// Carries out the record that this begins with, and returns its length; 0 if it is not whole.
    fn run_next(&mut self, input: &[u8]) -> Result<usize, Failure> {
        match self.decoder.decode(input) {
            Ok(Some((Request::Array(args), taken))) => self.run(&args).map(|()| taken),
            Ok(None) if input.first().is_none_or(|first| *first == b'*') => Ok(0),
            // This is a line, or begins one. A record that was torn off begins with `*`.
            Ok(_) => Err(Failure::new("no record")),
            Err(error) => Err(error.to_string().into()),
        }
    }

    fn run(&mut self, args: Args) -> Result<(), Failure> {
        let change = self.change(args); // an error also for MULTI, EXEC and SELECT, where it is not looked at
        match (args, &mut self.transaction) {
            ([b"MULTI"], None) => self.transaction = Some(Vec::new()),
            ([b"MULTI"], Some(_)) => return Err(Failure::new("a transaction within another")),
            ([b"EXEC"], transaction @ Some(_)) => {
                for args in transaction.take().unwrap_or_default() {
                    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                    self.run(&args)?;
                }
            }
            ([b"SELECT", number], None) => self.database = database(number)?,
            (_, None) => {
                let (keys, mut out) = (&mut self.server.store.keys(self.database), Vec::new());
                call_on_keys(change?, keys, args, &mut Reply::new(&mut out, 2))?;
            }
            (_, Some(queued)) => {
                if !matches!(args, [b"SELECT", _]) {
                    change?; // or the error would have the place of EXEC
                }
                queued.push(args.iter().map(|arg| arg.to_vec()).collect());
            }
        }
        Ok(())
    }

    /// What carries out a record that changes keys.
    fn change(&self, args: Args) -> Result<OnKeys, Failure> {
        let command = args.first().and_then(|name| self.server.look_up(name));
        let Some(Command { writes: true, run: Run::OnKeys(run), .. }) = command else {
            return Err(Failure::new("no command that changes keys"));
        };
        if !command.is_some_and(|command| command.takes(args.len())) {
            return Err(Failure::new("wrong number of arguments"));
        }
        Ok(*run)
    }
}
