//! An echo that sees off whoever says nothing: a warning first, and then the door.
//!
//! It shows the deadlines of a connection. Their times stand in the listener's limits; `on_deadline`
//! hears of one that was missed, and decides: more time, or a last word. A log-in has a deadline of its
//! own, and those who are in have other limits than those who are not.
//!
//! Try it: `cargo run --example idle_kick`, and in another terminal `nc 127.0.0.1 7002`. Say `hello`
//! within five seconds, anything else within ten; then wait. An address to listen on can be given as an
//! argument, and a number by which all times are divided.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use oneloop::codec::{Encoder, FrameError, FrameHandler, Framed, Lines};
use oneloop::{Connection, Deadline, Error, Limits, ListenOptions, Reactor};

const LINE_BYTES_MAX: usize = 1000;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("idle_kick: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:7002"));
    let divisor = match env::args().nth(2).map(|number| number.parse()) {
        None => 1,
        Some(Ok(divisor)) if divisor > 0 => divisor,
        Some(_) => return Err(io::Error::other("the divisor has to be a number from 1")),
    };
    let second = Duration::from_secs(1) / divisor;
    let limits = Limits::new().message_timeout(5 * second);
    let members = Rc::new(limits.clone().idle_timeout(10 * second));

    env_logger::init();
    let mut reactor = Reactor::new()?;
    let handler = reactor.add(Framed::new(IdleKick { second, members }));
    let listener = reactor.listen_with(handler, address, &ListenOptions::new().limits(limits))?;
    writeln!(io::stdout(), "listening on {}", reactor.listener_address(listener)?)?;
    reactor.run()?;
    Ok(())
}

struct IdleKick {
    second: Duration,
    /// What holds for those who have said hello.
    members: Rc<Limits>,
}

#[derive(Default)]
struct Session {
    is_member: bool,
    is_warned: bool,
}

impl FrameHandler for IdleKick {
    type Decoder = Lines;
    type Session = Session;

    /// The rest of a line has to come within the time of a message.
    fn decoder(&self) -> Lines {
        Lines::new(LINE_BYTES_MAX).refuse_lone_cr()
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Session {
        conn.expect_within(5 * self.second);
        Session::default()
    }

    fn on_frame(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), Error> {
        session.is_warned = false;
        if session.is_member {
            self.decoder().encode(line, conn)?;
        } else if line.trim_ascii() == b"hello" {
            session.is_member = true;
            conn.expect_nothing();
            conn.set_limits(&self.members);
            conn.send(b"welcome\n").ignore();
        } else {
            conn.send(b"say hello first\n").ignore();
        }
        Ok(())
    }

    fn on_bad_frame(&mut self, _: &mut Session, conn: &mut Connection<'_>, error: FrameError) {
        conn.send(format!("bye: {error}\n").as_bytes()).ignore();
    }

    fn on_deadline(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        match deadline {
            Deadline::Idle if !session.is_warned => {
                session.is_warned = true;
                conn.send(b"still there?\n").ignore();
                Some(5 * self.second)
            }
            _ => {
                conn.send(format!("bye: {deadline}\n").as_bytes()).ignore();
                None
            }
        }
    }
}
