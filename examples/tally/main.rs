//! A tally: counters with names, over a protocol of lines. It is what `docs/your-first-server.md` builds, step by step.
//!
//! It shows state that all clients share beside state of each, limits and deadlines, an end that answers what was asked,
//! and in `tests.rs`, which is a part of `tests/first_server.rs` here, how all that is tested without a network.
//!
//! Try it: `cargo run --features signals --example tally`, and in another terminal `nc 127.0.0.1 7000`:
//! `add apples 3`, `get apples`, `quit`. An address to listen on can be given as an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use oneloop::codec::{Decoder, FrameError, FrameHandler, Framed, Lines};
use oneloop::{Connection, Deadline, Error, Limits, ListenOptions, Reactor};

const LINE_BYTES_MAX: usize = 200;
const NAMES_MAX: usize = 10_000;

fn limits() -> Limits {
    Limits::new()
        .connections_max(1000)
        .connections_per_address_max(100)
        .input_bytes_max(Lines::new(LINE_BYTES_MAX).whole_bytes_max())
        .message_timeout(Duration::from_secs(10))
        .idle_timeout(Duration::from_secs(60))
}

/// How long clients may take to read their last answers when the server ends.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// What is shared by all clients.
#[derive(Default)]
struct Tally {
    totals: BTreeMap<String, i64>,
}

impl FrameHandler for Tally {
    type Decoder = Lines;
    /// How many commands this client gave.
    type Session = u64;

    fn decoder(&self) -> Lines {
        Lines::new(LINE_BYTES_MAX).refuse_lone_cr()
    }

    fn on_open(&mut self, _: &mut Connection<'_>) -> u64 {
        0
    }

    fn on_frame(
        &mut self,
        commands: &mut u64,
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), Error> {
        *commands += 1;
        let Ok(line) = std::str::from_utf8(line) else {
            conn.send(b"error: a command is UTF-8 text\n").ignore();
            return Ok(());
        };
        if line == "quit" {
            conn.send(format!("bye, after {commands} commands\n").as_bytes()).ignore();
            conn.close();
            return Ok(());
        }
        let answer = self.answer(line).unwrap_or_else(|why| format!("error: {why}"));
        conn.send(format!("{answer}\n").as_bytes()).ignore();
        Ok(())
    }

    fn on_bad_frame(&mut self, _: &mut u64, conn: &mut Connection<'_>, error: FrameError) {
        conn.send(format!("error: {error}\n").as_bytes()).ignore();
    }

    fn on_deadline(
        &mut self,
        _: &mut u64,
        conn: &mut Connection<'_>,
        _: Deadline,
    ) -> Option<Duration> {
        conn.send(b"error: too slow\n").ignore();
        None
    }

    fn on_drain(&mut self, _: &mut u64, conn: &mut Connection<'_>) {
        conn.send(b"bye, the server ends\n").ignore();
        conn.close();
    }
}

impl Tally {
    /// The answer to a command, or what is wrong with it.
    fn answer(&mut self, line: &str) -> Result<String, &'static str> {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["add", name, number] => {
                let number: i64 = number.parse().map_err(|_| "NUMBER is a whole number")?;
                if self.totals.len() == NAMES_MAX && !self.totals.contains_key(name) {
                    return Err("there are too many names");
                }
                let old = self.totals.get(name).copied().unwrap_or(0);
                let total = old.checked_add(number).ok_or("the total would be too large")?;
                self.totals.insert(name.to_string(), total);
                Ok(format!("{name} {total}"))
            }
            ["get", name] => {
                let total = self.totals.get(name).ok_or("nobody has added anything to this")?;
                Ok(format!("{name} {total}"))
            }
            _ => Err("there are: add NAME NUMBER, get NAME, quit"),
        }
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:7000"));
    let mut reactor = Reactor::new()?;
    let tally = reactor.add(Framed::new(Tally::default()));
    let listener = reactor.listen_with(tally, address, &ListenOptions::new().limits(limits()))?;
    println!("listening on {}", reactor.listener_address(listener)?);
    reactor.drain_on_signals(DRAIN_TIME)?;
    let report = reactor.run()?;
    println!("{report}");
    Ok(())
}

#[cfg(test)]
mod tests;
