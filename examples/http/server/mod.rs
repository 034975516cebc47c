//! The server: what each connection is doing, and who does it.
//!
//! What comes is read by `head`, which finds where a head ends, `request`, which says what it means, with `target` and
//! `path`, and `body`. `serving` does what comes of it. It is answered by `api`, or with a file: `files` is where they come
//! from, `jobs` what helper threads do with them, `file` what an answer says of one, and `range` which parts of it follow.
//! A small one comes from the `cache`, a large one leaves as a `stream`, and of a directory there is a `listing`. Answers
//! are written with `response`, which has the `date`.

mod api;
mod body;
mod cache;
mod date;
pub(crate) mod files;
mod head;
mod jobs;
mod listing;
mod meta;
mod path;
mod range;
mod request;
mod response;
mod serving;
mod stream;
mod target;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oneloop::codec::for_each_message;
use oneloop::driver::Driver;
use oneloop::{
    Blocking, Connection, Context, Deadline, Error, HandlerId, Key, Limits, MessageHandler,
    Reactor, ReactorLimits, StreamHandler, Time, TimerId, blocking,
};

use self::body::{Body, FRAMING_BYTES_MAX};
use self::cache::{Cache, Entry};
use self::files::Files;
use self::head::{HEAD_BYTES_MAX, HeadEnd, has_begun};
use self::jobs::{Block, Found, LookedUp};
use self::request::CONTENT_BYTES_MAX;
use self::response::{Heads, Refused, first_line};
use self::serving::Serving;
use self::stream::{BLOCK_BYTES, Stream};

/// Helper threads, which wait for disks; so many look files up, and so many read them. One more lists directories.
const THREADS: usize = 4;
/// What they may have to do, and results that wait, of which each has a small file, or a block. Those of closed
/// connections count, too.
pub(crate) const JOBS_MAX: usize = 1024;
/// Of directories to list: one with many names takes milliseconds, and its page may be as long as several blocks.
const LISTINGS_MAX: usize = 64;
/// Bytes a second that a client must send of a request, or take of an answer.
const RATE_MIN: usize = 512;
/// Of one connection: each takes some microseconds, and others wait.
const REQUESTS_PER_TURN_MAX: usize = 128;

/// A block of a large file that is on its way out, the next one, and requests that wait: what a reader of such a file who
/// takes nothing leaves in memory. One of small files and pages leaves more, up to the limits below.
pub(crate) const READER_BYTES_MAX: usize = 2 * BLOCK_BYTES as usize + 64 * 1024;
/// There is memory for so many of these. When it is used up who holds the most is cut off.
const READERS_IN_MEMORY: usize = 3_000;

/// Of all connections together: blocks of files, which take up to a millisecond each to be sent, and others wait. A third
/// of them are looks at files, and another third are pages of directories, if there are some.
const MESSAGES_PER_TURN_MAX: usize = 8;
/// The same for connections: to end one that has much to send takes half a millisecond.
const EVENTS_PER_POLL_MAX: usize = 128;

/// The limits of a reactor that has this server.
pub(crate) fn reactor_limits() -> ReactorLimits {
    ReactorLimits::new()
        .memory_bytes_max(READERS_IN_MEMORY * READER_BYTES_MAX)
        .messages_per_turn_max(MESSAGES_PER_TURN_MAX)
        .events_per_poll_max(EVENTS_PER_POLL_MAX)
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
    let (look_ups, looked_up) = blocking(THREADS, jobs_max);
    // By themselves, so that who asks for a small file does not wait for all that are sent large ones, or lists.
    let (listings, listed) = blocking(1, jobs_max.min(LISTINGS_MAX));
    let (reads, blocks) = blocking(THREADS, jobs_max);
    let (cache, heads) = (Cache::new(), Heads::default());
    let server = reactor.add(Server { files, look_ups, listings, reads, cache, heads });
    reactor.attach(server, looked_up)?;
    reactor.attach(server, listed)?;
    reactor.attach(server, blocks)?;
    Ok(server)
}

/// The server.
pub(crate) struct Server {
    files: Arc<dyn Files>,
    look_ups: Blocking<LookedUp>,
    listings: Blocking<LookedUp>,
    reads: Blocking<Block>,
    cache: Cache,
    heads: Heads,
}

/// A connection.
pub(crate) struct Session {
    head_end: HeadEnd,
    /// How long a head is that came, and the body that it waits for.
    body: Option<(usize, Body)>,
    waiting: Waiting,
    /// The next request is the last one, as there is a drain.
    is_last: bool,
}

/// What a connection waits for. While a helper thread works for it, it is paused, and the next request stays where it is:
/// so answers are in order.
enum Waiting {
    /// A request.
    Request,
    /// A look at a file.
    LookUp(Box<LookUp>),
    /// The rest of a large file.
    Stream(Box<Stream>),
    /// In a drain: that the client sends nothing after so many bytes.
    Silence(u64),
}

/// A request whose file is looked up.
struct LookUp {
    head: Box<[u8]>,
    /// What is in memory.
    known: Option<Rc<Entry>>,
    asked: Time,
}

impl Server {
    fn serving<'a, 'r>(
        &'a mut self,
        session: &'a mut Session,
        conn: &'a mut Connection<'r>,
    ) -> Serving<'a, 'r> {
        Serving { server: self, session, conn }
    }
}

impl StreamHandler for Server {
    type Session = Session;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Session {
        let head_end = HeadEnd::default();
        Session { head_end, body: None, waiting: Waiting::Request, is_last: false }
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        for_each_message(conn, data, |conn, rest| Ok(self.serving(session, conn).take(rest)))
    }

    fn on_drained(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        self.serving(session, conn).send_next();
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
            Deadline::InputRate | Deadline::Idle if has_begun(conn.unconsumed()) => {
                let line = first_line(conn.unconsumed()).to_vec();
                let refused = Refused::new(408, "the request takes too long");
                self.serving(session, conn).give_up(&line, refused);
            }
            _ => {}
        }
        None
    }

    /// An idle connection closes now. One that has sent a part of a request may send the rest, and is answered. One that
    /// waits for an answer is told again when it has that.
    fn on_drain(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        if matches!(session.waiting, Waiting::Request) {
            session.is_last = true;
            if !has_begun(conn.unconsumed()) {
                self.serving(session, conn).close();
            }
        }
    }

    /// A large file is tried to go on with, or a drain to close a connection.
    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection<'_>, _: TimerId) {
        match session.waiting {
            Waiting::Silence(bytes_in) => self.serving(session, conn).end_silence(bytes_in),
            _ => self.serving(session, conn).send_next(),
        }
    }
}

impl MessageHandler<LookedUp> for Server {
    fn on_message(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        looked_up: LookedUp,
    ) {
        match std::mem::replace(&mut session.waiting, Waiting::Request) {
            Waiting::LookUp(look_up) => {
                self.serving(session, conn).take_found(*look_up, looked_up);
            }
            other => session.waiting = other,
        }
    }

    /// Who asked for the look at a file is gone. The others were not to look meanwhile, but to take what is in memory: they
    /// look again, unless that is right.
    fn on_undelivered(&mut self, _: Key, looked_up: LookedUp, _: &mut Context<'_>) {
        if !matches!(looked_up.found, Found::Unchanged) {
            self.cache.remove(&looked_up.path);
        }
    }
}

impl MessageHandler<Block> for Server {
    fn on_message(&mut self, session: &mut Session, conn: &mut Connection<'_>, block: Block) {
        let Waiting::Stream(stream) = &mut session.waiting else { return };
        match stream.take(conn, block) {
            Ok(()) => self.serving(session, conn).send_next(),
            Err(error) => {
                // Its length was promised: an end before that says that this is not all (RFC 9112, 8). What was sent is
                // right, and some of it may be answers of before.
                log::debug!("{}: the file cannot be read on: {error}", conn.key());
                self.serving(session, conn).finish(false);
            }
        }
    }
}
