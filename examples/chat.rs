//! A line chat: names, join and leave notices, and fan-out to all without a copy for each.
//!
//! It shows state that all connections share beside state of one, output to other connections by
//! their keys, and limits at work: a member that does not read delays nobody, and is dropped when
//! too much waits for it; a member that asks for much is not answered faster than it reads.
//!
//! Try it: `cargo run --example chat`, and in two other terminals `nc 127.0.0.1 7001`. The first line
//! is your name; `/who` lists the members and `/quit` leaves. What you say comes to you too, so that
//! everybody reads the same. An address to listen on can be given as an argument.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;

use oneloop::codec::{Decoder, FrameError, FrameHandler, Framed, Lines};
use oneloop::{CloseReason, Connection, Context, Error, Key, Limits, ListenOptions, Reactor};

const NAME_CHARS_MAX: usize = 20;
const LINE_BYTES_MAX: usize = 1000;
/// A longer one ends the connection.
const ENDLESS: usize = 4 * LINE_BYTES_MAX;
/// Over this much that waits for a member, it is dropped.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// What one member says goes to all the others: after so many deliveries the lines that it sent
/// ahead wait for the next turn.
const DELIVERIES_PER_TURN: usize = 4096;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:7001"));
    let limits = Limits::new()
        .input_bytes_max(Lines::new(ENDLESS).whole_bytes_max())
        .reads_per_turn_max(1)
        .output_bytes_max(OUTPUT_BYTES_MAX);
    let mut reactor = Reactor::new()?;
    let chat = reactor.add(Framed::new(Chat::default()));
    let listener = reactor.listen_with(chat, address, &ListenOptions::new().limits(limits))?;
    writeln!(io::stdout(), "listening on {}", reactor.listener_address(listener)?)?;
    reactor.run()?;
    Ok(())
}

#[derive(Default)]
struct Chat {
    members: BTreeMap<String, Key>,
    deliveries: usize,
}

impl FrameHandler for Chat {
    type Decoder = Lines;
    /// The name, once it has told one.
    type Session = Option<String>;

    fn decoder(&self) -> Lines {
        Lines::new(ENDLESS)
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Option<String> {
        conn.send(b"* welcome, what is your name?\n").ignore();
        None
    }

    fn on_frame(
        &mut self,
        session: &mut Option<String>,
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), Error> {
        if let Err(refusal) = self.handle_line(session, conn, line) {
            conn.send(format!("* {refusal}\n").as_bytes()).ignore();
        }
        self.deliveries += 1 + self.members.len();
        if self.deliveries > DELIVERIES_PER_TURN {
            self.deliveries = 0;
            conn.again();
        }
        Ok(())
    }

    fn on_bad_frame(&mut self, _: &mut Option<String>, conn: &mut Connection<'_>, _: FrameError) {
        conn.send(b"* a line has an end, good bye\n").ignore();
    }

    fn on_close(
        &mut self,
        session: Option<String>,
        _: Key,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) {
        let Some(name) = session else { return };
        self.members.remove(&name);
        match reason {
            CloseReason::PeerClosed => self.tell_all(cx, &format!("* {name} left")),
            reason => self.tell_all(cx, &format!("* {name} left: {reason}")),
        }
    }
}

impl Chat {
    /// # Errors
    ///
    /// What the member is told when its line is refused.
    fn handle_line(
        &mut self,
        session: &mut Option<String>,
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), String> {
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("a line has at most {LINE_BYTES_MAX} bytes"));
        }
        let line = str::from_utf8(line).map_err(|_| "a line is UTF-8 text")?.trim();
        if line.contains(char::is_control) {
            return Err("a line has no control characters".into());
        }
        match (&session, line) {
            (_, "/quit") => {
                conn.close();
                // Not on_close: the last of its bytes, and so its end, may take a while.
                if let Some(name) = session.take() {
                    self.members.remove(&name);
                    self.tell_all(conn, &format!("* {name} left"));
                }
            }
            (_, "/who") => {
                let names: Vec<&str> = self.members.keys().map(String::as_str).collect();
                conn.send(format!("* here: {}\n", names.join(", ")).as_bytes()).ignore();
            }
            (_, line) if line.starts_with('/') => {
                return Err("the commands are /who and /quit".into());
            }
            (Some(_), "") => {}
            (Some(name), text) => self.tell_all(conn, &format!("{name}: {text}")),
            (None, name) => {
                self.check_name(name)?;
                self.members.insert(name.into(), conn.key());
                self.tell_all(conn, &format!("* {name} joined"));
                *session = Some(name.into());
            }
        }
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result<(), String> {
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            return Err(format!("a name has 1 to {NAME_CHARS_MAX} characters, try again"));
        }
        // Or else what somebody says could look like a notice, or like said by somebody else: with
        // marks that are not seen, that turn the line around, or that look like our own.
        if !name.chars().all(|char| char.is_alphanumeric() || " -_.'".contains(char)) {
            return Err("a name has letters, digits, spaces and - _ . ' in it, try again".into());
        }
        if self.members.contains_key(name) {
            return Err(format!("the name {name} is taken, try again"));
        }
        Ok(())
    }

    fn tell_all(&self, cx: &mut Context<'_>, line: &str) {
        let line: Rc<[u8]> = format!("{line}\n").into_bytes().into();
        for member in self.members.values() {
            // Who does not take it is bounded by the output limit, and dropped by the reactor.
            cx.send_shared_to(*member, Rc::clone(&line)).ignore();
        }
    }
}
