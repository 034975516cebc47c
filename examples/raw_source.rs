//! Serves to every TCP client what a command prints, from the moment the client comes.
//!
//! It shows the raw layer: a pipe of the user's own (any `mio::event::Source` will do) in the same
//! loop as the connections; and two handlers of different types that talk without cells: one is told
//! of the other's connections through a channel, and sends to them by their keys.
//!
//! Try it: `cargo run --example raw_source`, and in other terminals `nc 127.0.0.1 7011`. An address
//! and a command can be given: `... -- 0.0.0.0:7011 vmstat 1`, or `cat` to fan out what you type.
//! When the command ends, every client is sent the rest, and the program ends.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::{env, mem};

use mio::unix::pipe;
use oneloop::{
    CloseReason, Connection, Context, Drained, Error, Interest, Key, Reactor, SourceHandler,
    StreamHandler,
};

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raw_source: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| String::from("127.0.0.1:7011"));
    let mut command: Vec<String> = arguments.collect();
    if command.is_empty() {
        command = ["sh", "-c", "while date; do sleep 1; done"].map(String::from).to_vec();
    }

    let (sender, newcomers) = mpsc::channel();
    let mut reactor = Reactor::new()?;
    let clients = reactor.add(Clients { newcomers: sender });
    let listener = reactor.listen(clients, address)?;
    writeln!(io::stdout(), "listening on {}", reactor.listener_address(listener)?)?;

    let child = Command::new(&command[0]).args(&command[1..]).stdout(Stdio::piped()).spawn();
    let mut child =
        child.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", command[0])))?;
    let pipe = pipe::Receiver::from(child.stdout.take().expect("it was asked to be piped"));
    pipe.set_nonblocking(true)?; // which is up to us: a read that blocks would stop the whole loop
    let alive = Rc::new(());
    let feed_life = Rc::downgrade(&alive);
    let feed = Feed { newcomers, clients: Vec::new(), _alive: alive };
    reactor.add_source(feed, pipe, Interest::Readable)?;

    // The feed ends with its pipe; the clients end when they have read the rest.
    reactor.run_until(|reactor| feed_life.strong_count() == 0 && reactor.connections() == 0)?;
    eprintln!("{}: {}", command[0], child.wait()?);
    Ok(())
}

/// The clients: they come, and have nothing to say.
struct Clients {
    newcomers: mpsc::Sender<Key>,
}

impl StreamHandler for Clients {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        if self.newcomers.send(conn.key()).is_err() {
            return conn.close(); // the feed is gone
        }
        eprintln!("{}: a client came", conn.key());
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_close(&mut self, _: (), key: Key, reason: CloseReason, _: &mut Context<'_>) {
        eprintln!("{key}: a client left: {reason}");
    }
}

/// What reads the pipe, and sends to all.
struct Feed {
    newcomers: mpsc::Receiver<Key>,
    clients: Vec<Key>,
    _alive: Rc<()>,
}

impl SourceHandler for Feed {
    type Source = pipe::Receiver;

    fn on_readable(
        &mut self,
        key: Key,
        pipe: &mut pipe::Receiver,
        cx: &mut Context<'_>,
    ) -> Drained {
        let mut buffer = [0; 16 * 1024];
        match pipe.read(&mut buffer) {
            Ok(0) => cx.close_key(key),
            Ok(count) => {
                let data: Rc<[u8]> = Rc::from(&buffer[..count]);
                self.clients.extend(self.newcomers.try_iter());
                for client in &self.clients {
                    cx.send_shared_to(*client, Rc::clone(&data)).ignore();
                }
                self.clients.retain(|client| cx.is_open(*client));
                // One read is this call's share of the turn. There may be more in the pipe, and
                // there would be no event for it.
                return Drained::No;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Drained::Yes,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Drained::No,
            Err(error) => {
                eprintln!("the pipe: {error}");
                cx.close_key(key);
            }
        }
        Drained::Yes
    }

    fn on_close(&mut self, _: pipe::Receiver, _: Key, _: CloseReason, cx: &mut Context<'_>) {
        let mut clients = mem::take(&mut self.clients);
        clients.extend(self.newcomers.try_iter());
        for client in clients {
            cx.close_key(client);
        }
    }
}
