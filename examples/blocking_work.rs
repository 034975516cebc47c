//! Looks up host names: each line names a host, and the answer lists its addresses.
//!
//! It shows work that blocks: a look-up asks servers far away (getaddrinfo(3)), and a callback that
//! waited for it would hold up every other client. Helper threads do it; each result comes back as a
//! message for the connection that asked, or is dropped when that is gone.
//!
//! One look-up at a time for each client keeps the answers in order: the connection is paused while it
//! waits, and the lines after the one that is being looked up stay where they are.
//!
//! Try it: `cargo run --example blocking_work`, and in another terminal
//! `printf 'localhost\nexample.org\n' | nc -N 127.0.0.1 7004`. An address to listen on can be given.

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::process::ExitCode;

use oneloop::codec::{FrameError, FrameHandler, FrameMessageHandler, Framed, Lines};
use oneloop::{Blocking, Connection, Error, Limits, ListenOptions, Reactor, blocking};

const THREADS: usize = 8;
/// More look-ups than that are not waited for.
const LOOKUPS_MAX: usize = 256;
/// The longest name that there is (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 255;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blocking_work: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:7004"));
    let mut reactor = Reactor::new()?;
    let (blocking, inbox) = blocking(THREADS, LOOKUPS_MAX);
    let resolver = reactor.add(Framed::new(Resolver { blocking }));
    reactor.attach(resolver, inbox)?; // which starts the threads
    let limits = Limits::new().input_bytes_max(64 * NAME_BYTES_MAX);
    let listener = reactor.listen_with(resolver, address, &ListenOptions::new().limits(limits))?;
    writeln!(io::stdout(), "listening on {}", reactor.listener_address(listener)?)?;
    reactor.run()?;
    Ok(())
}

struct Resolver {
    blocking: Blocking<String>,
}

impl FrameHandler for Resolver {
    type Decoder = Lines;
    type Session = ();

    fn decoder(&self) -> Lines {
        Lines::new(NAME_BYTES_MAX)
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_frame(
        &mut self,
        (): &mut (),
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), Error> {
        let Ok(name) = str::from_utf8(line) else {
            conn.send(b"a name is UTF-8\n").ignore();
            return Ok(());
        };
        let name = name.trim().to_owned();
        match self.blocking.run_for(conn.key(), move || look_up(&name)) {
            Ok(()) => conn.pause(),
            Err(_) => conn.send(b"too busy, try again\n").ignore(),
        }
        Ok(())
    }

    fn on_bad_frame(&mut self, (): &mut (), conn: &mut Connection<'_>, _: FrameError) {
        conn.send(b"a name is too long\n").ignore(); // which is all that can be wrong with a line
    }
}

impl FrameMessageHandler<String> for Resolver {
    fn on_message(&mut self, (): &mut (), conn: &mut Connection<'_>, answer: String) {
        conn.send(answer.as_bytes()).ignore();
        conn.resume();
    }
}

/// On a helper thread, where it may take as long as it does.
fn look_up(name: &str) -> String {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<String> = found.map(|found| found.ip().to_string()).collect();
            addresses.sort();
            addresses.dedup();
            format!("{name}: {}\n", addresses.join(" "))
        }
        Err(error) => format!("{name}: {error}\n"),
    }
}
