//! Scripted clients: they do one thing after another on a socket of their own.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use super::network::SimSocket;
use super::script::{Pace, Place, Script, Step};
use crate::clock::Time;

/// So much is read at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// How a client's connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The server sent its end of file.
    Ended,
    /// The connection was reset, be it before the client looked at it for the first time.
    Reset,
    /// It never opened, or the network gave up on it: refused, timed out.
    Failed(io::ErrorKind),
    /// The client itself closed.
    Left,
}

/// What a client wants of the simulation.
pub(super) enum Wish {
    /// To hear of the next change of its socket.
    Nothing,
    /// To be woken then.
    WakeAt(Time),
}

#[derive(Debug)]
pub(super) struct Client {
    socket: Option<SimSocket>,
    is_connected: bool,
    steps: VecDeque<(Step, Place)>,
    steps_total: usize,
    may_end: bool,
    pub(super) received: Vec<u8>,
    /// Received bytes that were expected.
    expected: usize,
    pace: Pace,
    /// A slow reader reads again then.
    reads_at: Time,
    /// When it will be woken, as it last wished.
    wakes_at: Time,
    pub(super) end: Option<End>,
}

impl Client {
    pub(super) fn new(socket: io::Result<SimSocket>, script: Script) -> Client {
        let (socket, end) = match socket {
            Ok(socket) => (Some(socket), None),
            Err(error) => (None, Some(End::Failed(error.kind()))),
        };
        Client {
            socket,
            is_connected: false,
            steps_total: script.steps.len(),
            steps: script.steps,
            may_end: script.may_end,
            received: Vec::new(),
            expected: 0,
            pace: Pace::AtOnce,
            reads_at: Time::from_nanos(0),
            wakes_at: Time::from_nanos(0),
            end,
        }
    }

    /// Whether all steps were taken.
    pub(super) fn is_done(&self) -> bool {
        self.steps.is_empty()
    }

    /// What it waits for, or failed in, unless all steps were taken.
    pub(super) fn step_left(&self) -> Option<String> {
        let (step, _) = self.steps.front()?;
        let place = self.place()?;
        let step = match step {
            Step::Send(bytes, sent) => format!("sending, {sent} of {} bytes gone", bytes.len()),
            Step::Expect(bytes) => format!("expecting {}", around(bytes, 0)),
            Step::ExpectBytes(count) => format!("expecting {count} bytes"),
            Step::Respond(_) => "expecting bytes that its own code takes".to_string(),
            Step::ExpectEnd => "expecting the end of file".to_string(),
            Step::Wait(_) | Step::Until(_) => "waiting".to_string(),
            step => format!("about to {}", format!("{step:?}").to_lowercase()),
        };
        let unexpected = around(&self.received[self.expected..], 0);
        let end = match self.end {
            Some(end) => format!("over: {end:?}"),
            None if self.is_connected => "open".to_string(),
            None => "not open yet".to_string(),
        };
        Some(format!("{step}, at {place}; received since: {unexpected}; its connection is {end}"))
    }

    /// The line of the step that it is at, and which one of the script it is.
    pub(super) fn place(&self) -> Option<String> {
        let (_, place) = self.steps.front()?;
        let number = self.steps_total - self.steps.len() + 1;
        Some(format!("{}:{}, step {number} of {}", place.file(), place.line(), self.steps_total))
    }

    /// Whether it has not taken all of its steps, and has to.
    pub(super) fn waits(&self) -> bool {
        !(self.is_done() || self.may_end && self.end.is_some())
    }

    /// Goes as far as it can. One that may end, and can go no further because the server has ended, leaves.
    ///
    /// # Errors
    ///
    /// The server did not do what the script expects.
    pub(super) fn run(&mut self, now: Time) -> Result<Wish, String> {
        if !self.is_connected {
            let Some(socket) = &self.socket else { return Ok(Wish::Nothing) };
            match socket.connect_result() {
                Ok(()) => self.is_connected = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Wish::Nothing);
                }
                Err(error) => {
                    self.note(&error);
                    return Ok(Wish::Nothing);
                }
            }
        }
        let mut wish = None;
        while self.step(now, &mut wish)? {}
        self.read(now);
        // What was read may be what the next step waited for.
        while self.step(now, &mut wish)? {
            self.read(now);
        }
        if self.may_end && self.end == Some(End::Ended) && wish.is_none() {
            self.socket = None;
        }
        // Otherwise there was nothing to read, and the socket will tell.
        if let (Pace::Slowly(..), None) = (self.pace, self.end)
            && now < self.reads_at
        {
            wish = Some(wish.unwrap_or(Time::NEVER).min(self.reads_at));
        }
        match wish {
            // One call is enough, however often the socket tells of something before it.
            Some(at) if at != self.wakes_at => {
                self.wakes_at = at;
                Ok(Wish::WakeAt(at))
            }
            _ => Ok(Wish::Nothing),
        }
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        if end != End::Ended {
            self.socket = None;
        }
    }

    fn read(&mut self, now: Time) {
        let mut buffer = Vec::new();
        while let Some(socket) = &mut self.socket {
            let room = match self.pace {
                _ if self.end.is_some() => return,
                Pace::Not => return,
                Pace::Slowly(..) if now < self.reads_at => return,
                Pace::Slowly(bytes, _) => bytes.min(READ_BYTES_MAX),
                Pace::AtOnce => 4096,
            };
            buffer.resize(room, 0);
            match socket.read(&mut buffer) {
                Ok(0) => self.finish(End::Ended),
                Ok(count) => {
                    self.received.extend(&buffer[..count]);
                    if let Pace::Slowly(_, every) = self.pace {
                        self.reads_at = now + every;
                    }
                }
                Err(error) => return self.note(&error),
            }
        }
    }

    /// Takes what came before a reset that a write has met, and that is still there.
    fn take_rest(&mut self) {
        let mut buffer = [0; 4096];
        while !matches!(self.pace, Pace::Not)
            && let Some(socket) = &mut self.socket
            && let Ok(count @ 1..) = socket.read(&mut buffer)
        {
            self.received.extend(&buffer[..count]);
        }
    }

    fn note(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => {}
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => self.finish(End::Reset),
            kind => self.finish(End::Failed(kind)),
        }
    }

    /// Takes the next step, if it can be taken: whether there may be another one.
    fn step(&mut self, now: Time, wish: &mut Option<Time>) -> Result<bool, String> {
        let Some((step, _)) = self.steps.front_mut() else { return Ok(false) };
        let is_over = self.socket.is_none();
        let unexpected = &self.received[self.expected..];
        match step {
            Step::Send(bytes, sent) => {
                let Some(socket) = &mut self.socket else { return Ok(false) };
                if *sent < bytes.len() {
                    match socket.write(&bytes[*sent..]) {
                        Ok(count) => {
                            *sent += count;
                            return Ok(true);
                        }
                        Err(error) => {
                            if error.kind() != io::ErrorKind::WouldBlock {
                                self.take_rest();
                            }
                            self.note(&error);
                            return Ok(false);
                        }
                    }
                }
            }
            Step::Expect(bytes) => {
                let there = unexpected.len().min(bytes.len());
                if unexpected[..there] != bytes[..there] {
                    let same = bytes.iter().zip(unexpected).take_while(|(one, other)| one == other);
                    let at = same.count();
                    return Err(format!(
                        "expected {} and received {}: byte {at} of {} is another one",
                        around(bytes, at),
                        around(unexpected, at),
                        bytes.len()
                    ));
                }
                if there < bytes.len() {
                    return match self.end {
                        Some(End::Ended) if !self.may_end => Err(format!(
                            "expected {} and received {}, and then the end of file: {there} bytes of \
                             {}",
                            around(bytes, there),
                            around(unexpected, there),
                            bytes.len()
                        )),
                        _ => Ok(false),
                    };
                }
                self.expected += there;
            }
            Step::ExpectBytes(count) => {
                if unexpected.len() < *count {
                    return match self.end {
                        Some(End::Ended) if !self.may_end => Err(format!(
                            "expected {count} bytes and received {}, and then the end of file",
                            unexpected.len()
                        )),
                        _ => Ok(false),
                    };
                }
                self.expected += *count;
            }
            Step::Respond(look) => {
                let taken = if unexpected.is_empty() { None } else { (look.0)(unexpected) };
                let Some((count, answer)) = taken else {
                    return match self.end {
                        Some(End::Ended) if !self.may_end => Err(format!(
                            "received {}, of which its own code takes nothing, and then the end of file",
                            around(unexpected, 0)
                        )),
                        _ => Ok(false),
                    };
                };
                let there = unexpected.len();
                if count > there {
                    return Err(format!("its own code takes {count} bytes and was shown {there}"));
                }
                self.expected += count;
                if !answer.is_empty() {
                    *step = Step::Send(answer, 0);
                    return Ok(true);
                }
            }
            Step::ExpectEnd => {
                if !unexpected.is_empty() {
                    return Err(format!(
                        "expected the end of file and received {}",
                        around(unexpected, 0)
                    ));
                }
                if self.end != Some(End::Ended) {
                    return Ok(false);
                }
            }
            Step::Wait(duration) => {
                *step = Step::Until(now + *duration);
                return Ok(true);
            }
            Step::Until(until) => {
                if now < *until {
                    *wish = Some(*until);
                    return Ok(false);
                }
            }
            Step::Read(pace) => self.pace = *pace,
            _ if is_over => return Ok(false),
            Step::Shutdown => {
                if let Some(socket) = &self.socket {
                    // If it is not connected any more, the next read tells why.
                    let _ = socket.shutdown_write();
                }
            }
            Step::Vanish => {
                if let Some(socket) = &self.socket {
                    socket.vanish();
                }
            }
            Step::Close => {
                self.socket = None;
                self.end.get_or_insert(End::Left);
            }
            Step::Reset => {
                if let Some(socket) = self.socket.take() {
                    socket.reset();
                }
                self.end.get_or_insert(End::Left);
            }
        }
        self.steps.pop_front();
        Ok(true)
    }
}

/// So many bytes are printed whole.
const SHOWN_MAX: usize = 64;

/// So many of more bytes, before and behind the place that is looked at.
const SHOWN_AROUND: usize = 16;

/// These bytes in quotes; of many only those around a place, with `…` for the others.
fn around(bytes: &[u8], at: usize) -> String {
    if bytes.len() <= SHOWN_MAX {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let at = at.min(bytes.len());
    let (start, end) = (at.saturating_sub(SHOWN_AROUND), bytes.len().min(at + SHOWN_AROUND));
    let more = |is_more| if is_more { "…" } else { "" };
    let (before, behind) = (more(start > 0), more(end < bytes.len()));
    format!("\"{before}{}{behind}\"", bytes[start..end].escape_ascii())
}
