//! The server: what each connection is doing, and who does it.

mod answer;
mod api;
mod body;
mod cache;
mod conditional;
mod date;
mod file_head;
pub(crate) mod files;
mod head;
mod jobs;
mod listing;
mod meta;
mod path;
mod range;
mod request;
mod response;
mod stream;
mod target;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oneloop::codec::for_each_message;
use oneloop::driver::Driver;
use oneloop::{
    Blocking, Connection, Deadline, Error, HandlerId, Limits, MessageHandler, Reactor,
    ReactorLimits, StreamHandler, Time, TimerId, blocking,
};

use self::body::{Body, FRAMING_BYTES_MAX};
use self::cache::{Cache, Entry};
use self::files::Files;
use self::head::{HEAD_BYTES_MAX, HeadEnd};
use self::jobs::Done;
use self::request::{CONTENT_BYTES_MAX, Request};
use self::response::{Refused, ResponseHead, first_line};
use self::stream::{BLOCK_BYTES, Stream};

/// Helper threads, which wait for disks.
const THREADS: usize = 4;
/// Those of closed connections count, too, and results that wait, of which each has a small file or a block.
pub(crate) const JOBS_MAX: usize = 1024;
/// Bytes a second that a client must send of a request, or take of an answer.
const RATE_MIN: usize = 512;
/// How long a drain waits for a client to close that owes nothing and is owed nothing.
const IDLE_LINGER: Duration = Duration::from_secs(1);
/// Of one connection: each takes some microseconds, and others wait.
const REQUESTS_PER_TURN_MAX: usize = 128;

/// A block of a large file that is on its way out, the next one, and requests that wait: what a reader of such a file who
/// takes nothing leaves in memory. One of small files and pages leaves more, up to the limits below.
pub(crate) const READER_BYTES_MAX: usize = 2 * BLOCK_BYTES as usize + 64 * 1024;
/// There is memory for so many of these. When it is used up who holds the most is cut off.
const READERS_MAX: usize = 3_000;

/// Of all connections together: blocks of files, which take up to a millisecond each to be sent, and others wait.
const MESSAGES_PER_TURN_MAX: usize = 8;

/// The limits of a reactor that has this server.
pub(crate) fn reactor_limits() -> ReactorLimits {
    ReactorLimits::new()
        .memory_bytes_max(READERS_MAX * READER_BYTES_MAX)
        .messages_per_turn_max(MESSAGES_PER_TURN_MAX)
}

/// The limits that the server counts on: those of its listener. A client may send and take at any rate, or say nothing,
/// for as long as our `patience` lasts.
pub(crate) fn limits(patience: Duration) -> Limits {
    // Room for a whole request, and for a read beyond it.
    let content_bytes_max = CONTENT_BYTES_MAX as usize + FRAMING_BYTES_MAX;
    Limits::new()
        .input_bytes_max(HEAD_BYTES_MAX + content_bytes_max + 64 * 1024)
        .output_bytes_high(BLOCK_BYTES as usize)
        .output_bytes_low(64 * 1024)
        .output_bytes_soft(4 * 1024 * 1024)
        .output_bytes_max(4 * 1024 * 1024)
        .frames_per_turn_max(REQUESTS_PER_TURN_MAX)
        .idle_timeout(patience)
        .message_timeout(Duration::MAX) // as long as it comes at the rate
        .input_rate_min(RATE_MIN)
        .input_rate_grace(patience)
        .write_stall_timeout(patience)
        .output_rate_min(RATE_MIN)
        .linger_timeout(patience)
}

/// Adds a server of these files to a reactor; fails if the helper threads cannot be started. Its listeners are to have
/// [its limits](limits). If there are as many jobs as there may be, who asks for a file is to ask again.
pub(crate) fn add<D: Driver>(
    reactor: &mut Reactor<D>,
    files: Arc<dyn Files>,
    jobs_max: usize,
) -> io::Result<HandlerId<Server>> {
    let (jobs, inbox) = blocking(THREADS, jobs_max);
    let server =
        reactor.add(Server { files, jobs, cache: Cache::new(), response: ResponseHead::new() });
    reactor.attach(server, inbox)?;
    Ok(server)
}

/// The server.
pub(crate) struct Server {
    files: Arc<dyn Files>,
    jobs: Blocking<Done>,
    cache: Cache,
    response: ResponseHead,
}

/// A connection.
pub(crate) struct Session {
    head_end: HeadEnd,
    /// How long a head is that came, and the content that it waits for.
    content: Option<(usize, Body)>,
    work: Work,
}

/// What a connection waits for. While it is something of ours it is paused, and the next request stays where it is:
/// so answers are in order.
enum Work {
    /// A request.
    Request,
    /// A look at a file.
    LookUp(Box<LookUp>),
    /// The rest of a large file.
    Stream(Box<Stream>),
}

/// A request whose file is looked up.
struct LookUp {
    head: Box<[u8]>,
    path: String,
    known: Option<Rc<Entry>>,
    asked: Time,
}

impl StreamHandler for Server {
    type Session = Session;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Session {
        Session { head_end: HeadEnd::default(), content: None, work: Work::Request }
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        for_each_message(conn, data, |conn, rest| {
            self.take_request(session, conn, rest).or_else(|refused| {
                self.give_up(session, conn, rest, refused);
                Ok(None)
            })
        })
    }

    fn on_drained(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        self.go_on(session, conn);
    }

    /// A client that sends no more may still read.
    fn on_peer_closed(&mut self, _: &mut Session, conn: &mut Connection<'_>) {
        conn.close();
    }

    fn on_deadline(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        match deadline {
            Deadline::InputRate | Deadline::Idle if !conn.unconsumed().is_empty() => {
                let line = first_line(conn.unconsumed()).to_vec();
                self.give_up(session, conn, &line, Refused::new(408, "the request takes too long"));
            }
            _ => {}
        }
        None
    }

    /// Who has sent a part of a request may send the rest, and who is owed an answer gets it; both close then. The others,
    /// who may keep a connection open for which they have no use, close now, or when they have taken what was sent.
    fn on_drain(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        if !matches!(session.work, Work::Request) || !conn.unconsumed().is_empty() {
            return;
        }
        if conn.output_len() > 0 {
            conn.set_timer(IDLE_LINGER);
            return;
        }
        let limits = Limits::clone(conn.limits());
        let linger = limits.linger_timeout.min(IDLE_LINGER);
        conn.set_limits(&Rc::new(limits.linger_timeout(linger)));
        conn.close();
    }

    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection<'_>, _: TimerId) {
        self.go_on(session, conn);
        if conn.is_draining() {
            self.on_drain(session, conn);
        }
    }
}

impl MessageHandler<Done> for Server {
    fn on_message(&mut self, session: &mut Session, conn: &mut Connection<'_>, done: Done) {
        match (done, std::mem::replace(&mut session.work, Work::Request)) {
            (Done::Found(found), Work::LookUp(look_up)) => {
                self.take_found(session, conn, *look_up, found);
            }
            (Done::Read(block), Work::Stream(mut stream)) => {
                let taken = stream.take_block(conn, block);
                session.work = Work::Stream(stream);
                match taken {
                    Ok(()) => self.go_on(session, conn),
                    Err(error) => {
                        // Its length was promised: an end before that says that this is not all (RFC 9112, 8). What
                        // was sent is right, and some of it may be answers of before.
                        log::debug!("{}: the file cannot be read on: {error}", conn.key());
                        conn.close();
                    }
                }
            }
            (_, work) => session.work = work,
        }
    }
}

impl Server {
    /// Answers the first request of the input; gives its length, or `None` if it is not whole. An empty line before it
    /// is taken by itself.
    ///
    /// # Errors
    ///
    /// What the client is to be told before the connection closes.
    fn take_request(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        input: &[u8],
    ) -> Result<Option<usize>, Refused> {
        let (head, mut body) = match session.content.take() {
            Some(waiting) => waiting,
            None => {
                let Some(end) = session.head_end.find(input)? else { return Ok(None) };
                let (head, rest) = input.split_at(end);
                if head == b"\r\n" {
                    return Ok(Some(end));
                }
                let request = Request::parse(head)?;
                let Some(framing) = request.framing else {
                    self.answer(session, conn, head, &request, &[], rest);
                    return Ok(Some(end));
                };
                api::route(&request)?;
                if request.expects_continue && rest.is_empty() {
                    conn.send(b"HTTP/1.1 100 Continue\r\n\r\n").ignore();
                }
                (end, Body::new(framing))
            }
        };
        let (request, rest) = input.split_at(head);
        let Some(length) = body.find_end(rest)? else {
            conn.need(head + body.need());
            session.content = Some((head, body));
            return Ok(None);
        };
        let (content, rest) = rest.split_at(length);
        self.answer(session, conn, request, &Request::parse(request)?, content, rest);
        Ok(Some(head + length))
    }

    /// Sends the next part of a large file.
    fn go_on(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        let Work::Stream(stream) = &mut session.work else { return };
        if stream.send_next(conn, &self.jobs) {
            let keeps_alive = stream.keeps_alive;
            self.finish(session, conn, keeps_alive);
        }
    }
}
