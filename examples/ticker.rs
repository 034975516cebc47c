//! A ticker: every second, and whenever a line is typed, a line to every client.
//!
//! It shows a mailbox: a thread of its own reads the standard input, which would block the loop, and
//! posts each line to the handler. A post is no system call while the loop is awake, and one when it
//! sleeps. It also shows an interval, and fan-out without a copy for each client.
//!
//! Try it: `cargo run --example ticker`, in other terminals `nc 127.0.0.1 7003`, and type some lines
//! here. `(sleep 5; cat FILE) | ...` sends a file to whoever is there by then. At the end of the input it goes on ticking.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use std::{env, thread};

use oneloop::{
    CloseReason, Connection, Context, Error, Key, MessageHandler, PostError, Reactor, Sender,
    StreamHandler, TimerId, mailbox,
};

const TICK: Duration = Duration::from_secs(1);
/// Lines that the loop may be behind; who reads them waits then.
const LINES_MAX: usize = 64;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ticker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:7003"));
    let mut reactor = Reactor::new()?;
    let ticker = reactor.add(Ticker::default());
    let (lines, inbox) = mailbox(LINES_MAX);
    reactor.attach(ticker, inbox)?;
    let listener = reactor.listen(ticker, address)?;
    writeln!(io::stdout(), "listening on {}", reactor.listener_address(listener)?)?;
    thread::spawn(move || feed(&lines));
    reactor.run()?;
    Ok(())
}

/// Posts what is typed, until the input or the reactor ends. This thread may block.
fn feed(lines: &Sender<String>) {
    for line in io::stdin().lock().lines() {
        let Ok(mut line) = line else { return };
        loop {
            match lines.post(line) {
                Ok(()) => break,
                Err(PostError::Full(back)) => line = back,
                Err(_) => return,
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[derive(Default)]
struct Ticker {
    clients: BTreeSet<Key>,
    ticks: u64,
}

impl Ticker {
    fn tell_all(&self, cx: &mut Context<'_>, line: &str) {
        let line: Rc<[u8]> = format!("{line}\n").into_bytes().into();
        for client in &self.clients {
            // One that does not read is dropped by the reactor when it is over its output limit.
            cx.send_shared_to(*client, Rc::clone(&line)).ignore();
        }
    }
}

impl StreamHandler for Ticker {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.set_handler_interval(TICK);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.clients.insert(conn.key());
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len()) // nobody is asked anything
    }

    fn on_handler_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
        self.ticks += 1;
        self.tell_all(cx, &format!("tick {}", self.ticks));
    }

    fn on_close(&mut self, (): (), key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.clients.remove(&key);
    }
}

impl MessageHandler<String> for Ticker {
    fn on_handler_message(&mut self, line: String, cx: &mut Context<'_>) {
        self.tell_all(cx, &line);
    }
}
