//! The server in simulation: with a file that can be cut at any byte, and with commands and replies to send and to expect.

#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use oneloop::sim::{Served, Simulation};
use oneloop::{ListenOptions, ReactorLimits};

use crate::model::any_command;
use crate::server::{Policy, RecordFile, Server};

/// What may wait for the file.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// A server without a file.
pub fn serve(sim: &mut Simulation) -> Served<Server> {
    let server = Server::new();
    let options = ListenOptions::new().limits(Server::limits());
    sim.serve_with(server, ReactorLimits::new().connections_max(64), &options)
}

/// A server that reads a file and goes on in it; what is torn is cut off.
pub fn serve_file(sim: &mut Simulation, disk: &Disk, policy: Policy) -> Served<Server> {
    let mut server = Server::new();
    let mut file = disk.lock();
    let replayed = server.replay(&file.bytes[..]).expect("the file is good");
    file.bytes.truncate(replayed.whole_bytes as usize);
    file.synced = file.bytes.len();
    drop(file);
    let inbox = server.append_to(disk.clone(), policy, WAITING_BYTES_MAX);
    let options = ListenOptions::new().limits(Server::limits());
    let served = sim.serve_with(server, ReactorLimits::new().connections_max(64), &options);
    sim[served.reactor].attach(served.handler, inbox).unwrap();
    served
}

/// A file. Its clones are the same one.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Contents>>);

#[derive(Default)]
pub struct Contents {
    pub bytes: Vec<u8>,
    /// So many of them outlive a crash of the machine.
    pub synced: usize,
    /// Before it has more bytes, the machine crashes.
    pub bytes_max: Option<usize>,
}

impl Disk {
    pub fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap()
    }

    /// The machine crashes: with it goes what was not synced, or some part of the end of that.
    pub fn crash(&self, random: usize) {
        let mut file = self.lock();
        let unsynced = file.bytes.len() - file.synced;
        let left = file.synced + random % (unsynced + 1);
        file.bytes.truncate(left);
        file.bytes_max = None;
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.lock();
        let room = file.bytes_max.map_or(usize::MAX, |max| max.saturating_sub(file.bytes.len()));
        if room == 0 {
            return Err(io::Error::other("nobody hears of it"));
        }
        let bytes = &bytes[..bytes.len().min(room)];
        file.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RecordFile for Disk {
    fn sync(&mut self) -> io::Result<()> {
        let mut file = self.lock();
        file.synced = file.bytes.len();
        Ok(())
    }
}

/// Some commands on keys of one client, among them whole transactions.
pub fn any_batch(sim: &mut Simulation, prefix: &str) -> Vec<Vec<String>> {
    let mut batch = Vec::new();
    for _ in 0..1 + sim.random() % 6 {
        let command = |sim: &mut Simulation| any_command(prefix, || sim.random());
        match sim.random() % 8 {
            0 => {
                batch.push(vec!["MULTI".to_string()]);
                for _ in 0..sim.random() % 4 {
                    batch.push(command(sim));
                }
                let end = if sim.random().is_multiple_of(4) { "DISCARD" } else { "EXEC" };
                batch.push(vec![end.to_string()]);
            }
            _ => batch.push(command(sim)),
        }
    }
    batch
}

/// A command as it is sent: as an array, or as a line where that is possible.
pub fn encode(sim: &mut Simulation, command: &[String]) -> Vec<u8> {
    let is_plain = command.iter().all(|word| !word.is_empty() && word.len() < 1000);
    if is_plain && sim.random().is_multiple_of(4) {
        let end = if sim.random().is_multiple_of(2) { "\n" } else { "\r\n" };
        return (command.join(" ") + end).into_bytes();
    }
    let words: String =
        command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{words}", command.len()).into_bytes()
}

/// The length of the first reply, if it is there as a whole.
pub fn reply_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let number = || str::from_utf8(&bytes[1..end]).unwrap().parse::<i64>().unwrap().max(-1);
    let mut total = end + 2;
    match bytes[0] {
        b'$' if number() >= 0 => total += number() as usize + 2,
        b'*' => {
            for _ in 0..number() {
                total += reply_length(bytes.get(total..)?)?;
            }
        }
        _ => {}
    }
    (bytes.len() >= total).then_some(total)
}

/// How many whole replies these bytes are.
pub fn count_replies(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(length) = reply_length(bytes) {
        count += 1;
        bytes = &bytes[length..];
    }
    count
}

/// The text parts of a reply, of arrays and bulk strings, and of one line what stands in it: `*1 $1 x` is one, `x`.
pub fn texts(reply: &[u8]) -> Vec<String> {
    let text = str::from_utf8(reply).unwrap();
    let lines = text.split_terminator("\r\n");
    let is_text = |line: &&str| !line.starts_with(['*', '$']);
    lines.filter(is_text).map(|line| line.trim_start_matches([':', '+']).to_string()).collect()
}
