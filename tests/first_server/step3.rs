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
    let mut reactor = Reactor::new()?;
    let tally = reactor.add(Framed::new(Tally::default()));
    reactor.listen_with(tally, "127.0.0.1:7000", &ListenOptions::new().limits(limits()))?;
    reactor.run()?;
    Ok(())
}
