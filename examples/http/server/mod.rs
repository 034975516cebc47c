//! The server: what each connection is doing, and who does it.
//!
//! Read on with `serving`, which takes a request from its first byte to its answer. It finds the end of the `head`, reads
//! it as a `request`, which has a `target`, waits for the `body`, and asks `api` what that is about. A file's `path` is
//! looked up by the `jobs` of helper threads in the `files`. `meta` is what an answer says of a file, and `range` which parts
//! of it follow. A small file is kept in the `cache`, a large one leaves as a `stream`, and a directory has a `listing`. All
//! answers are written with `response`, which has the `date`.

mod api;
mod body;
pub(crate) mod cache;
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
use std::sync::Arc;
use std::time::Duration;

use oneloop::codec::for_each_message;
use oneloop::driver::Driver;
use oneloop::{
    Blocking, Connection, Context, Deadline, Error, HandlerId, Key, Limits, MessageHandler,
    Reactor, ReactorLimits, StreamHandler, TimerId, blocking,
};

use self::body::{Body, FRAMING_BYTES_MAX};
use self::cache::{Cache, MemoryFiles};
use self::files::Files;
use self::head::{HEAD_BYTES_MAX, HeadEnd, has_begun};
use self::jobs::{Found, LookedUp, ReadAhead};
use self::request::CONTENT_BYTES_MAX;
use self::response::{Heads, Refused, first_line};
use self::serving::{Asked, Serving};
use self::stream::Stream;

/// Helper threads that look files up, and as many that read them: they wait for disks. One more lists directories.
const THREADS: usize = 4;
/// Looks at files that wait, are under way, or have a result that was not taken yet, which may be a file of 128 KiB; and
/// as many parts of files that are read ahead. Those for connections that have closed count as well.
pub(crate) const JOBS_MAX: usize = 1024;
/// Directories to list: one with many names takes milliseconds, and a page of them up to 1 MiB.
const LISTINGS_MAX: usize = 64;
/// Bytes a second that a client must send of a request, or take of an answer.
const RATE_MIN: usize = 512;
/// Requests that one connection is answered in a turn: each takes up to some microseconds, for which the others wait.
/// However many connections have more of them, all these go on in the next turn.
const REQUESTS_PER_TURN_MAX: usize = 32;

/// What a reader of large files who takes nothing leaves in memory: requests that wait. A reader of small files leaves
/// twice that, or two files that only it has still; one of pages and echoes more, up to the limits below.
pub(crate) const READER_BYTES_MAX: usize = 64 * 1024;
/// Connections have the memory of so many of these, 940 MiB; when that is used up, the one that holds the most is cut off.
/// The cache has 64 MiB, and results that wait may have 192 MiB: about 1.2 GB in all, and up to 256 KiB more for each
/// client that takes nothing of small files which the cache has given up.
const READERS_IN_MEMORY: usize = 15_000;

/// Results that are taken in a turn: to send a page takes up to a millisecond, for which all others wait. A third of
/// them are looks at files, and a third are pages of directories, if there are some.
const MESSAGES_PER_TURN_MAX: usize = 8;
/// Connections whose news are looked at in a turn: to cut off one that has much to send takes half a millisecond.
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
    // A whole request, and a read beyond it.
    let input_bytes_max =
        HEAD_BYTES_MAX + CONTENT_BYTES_MAX as usize + FRAMING_BYTES_MAX + 64 * 1024;
    // The largest answer that is sent at once, an echo or a page, has room behind what waits already.
    let output_bytes_max = 4 * 1024 * 1024;
    Limits::new()
        .input_bytes_max(input_bytes_max)
        .output_bytes_high(128 * 1024)
        .output_bytes_low(64 * 1024) // while a fast reader takes so much, the next part is read
        .output_bytes_soft(output_bytes_max) // none: patience and rate say how long output may wait
        .output_bytes_max(output_bytes_max)
        .frames_per_turn_max(REQUESTS_PER_TURN_MAX)
        .idle_timeout(patience)
        .message_timeout(Duration::MAX) // as long as it comes at the rate
        .input_rate_min(RATE_MIN)
        .input_rate_grace(patience)
        .write_stall_timeout(patience)
        .output_rate_min(RATE_MIN)
        .linger_timeout(patience) // in a drain a second, if the client says nothing
}

/// Adds a server of these files to a reactor; fails if the helper threads cannot be started. Its listeners are to have
/// [its limits](limits). While there are `jobs_max` looks at files, a client that asks for another file is to ask again.
/// Of files in memory `memory_files_max` may each have a descriptor.
pub(crate) fn add<D: Driver>(
    reactor: &mut Reactor<D>,
    files: Arc<dyn Files>,
    jobs_max: usize,
    memory_files_max: usize,
) -> io::Result<HandlerId<Server>> {
    let (look_ups, looked_up) = blocking(THREADS, jobs_max);
    // They have threads of their own, so that no look at a small file waits for lists, or for all that are sent large ones.
    let (listings, listed) = blocking(1, jobs_max.min(LISTINGS_MAX));
    let (reads, parts) = blocking(THREADS, jobs_max);
    let memory_files = Arc::new(MemoryFiles::new(memory_files_max));
    let (cache, heads) = (Cache::new(), Heads::default());
    let server = Server { files, memory_files, look_ups, listings, reads, cache, heads };
    let server = reactor.add(server);
    reactor.attach(server, looked_up)?;
    reactor.attach(server, listed)?;
    reactor.attach(server, parts)?;
    Ok(server)
}

/// The server.
pub(crate) struct Server {
    files: Arc<dyn Files>,
    memory_files: Arc<MemoryFiles>,
    look_ups: Blocking<LookedUp>,
    listings: Blocking<LookedUp>,
    reads: Blocking<ReadAhead>,
    cache: Cache,
    heads: Heads,
}

/// What is known of a connection.
#[derive(Default)]
pub(crate) struct Session {
    head_end: HeadEnd,
    /// The length of a head that has come, and the body that is awaited.
    body: Option<(usize, Body)>,
    waiting: Waiting,
    /// The connection was told of a drain while it waited for a request: the next one is the last.
    is_told: bool,
}

/// What a connection waits for. While a helper thread works for it, it is paused, and the next request stays where it is:
/// so answers are in order.
#[derive(Default)]
enum Waiting {
    #[default]
    Request,
    /// A look at a file.
    LookUp(Box<Asked>),
    /// The rest of a large file.
    Stream(Box<Stream>),
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
        Session::default()
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

    fn on_deadline(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        let is_late = matches!(deadline, Deadline::InputRate | Deadline::Idle);
        if is_late && has_begun(conn.unconsumed()) {
            let line = first_line(conn.unconsumed()).to_vec();
            let refused = Refused::new(408, "the request takes too long");
            self.serving(session, conn).give_up(&line, refused);
        }
        None
    }

    /// An idle connection closes now. One that has sent a part of a request may send the rest, and is answered. One that
    /// waits for an answer is told again when it has that.
    fn on_drain(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        if matches!(session.waiting, Waiting::Request) {
            session.is_told = true;
            if !has_begun(conn.unconsumed()) {
                conn.close();
            }
        }
    }

    /// The next part of a file is asked for again.
    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection<'_>, _: TimerId) {
        self.serving(session, conn).send_next();
    }
}

impl MessageHandler<LookedUp> for Server {
    fn on_message(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        looked_up: LookedUp,
    ) {
        if let Waiting::LookUp(asked) = std::mem::take(&mut session.waiting) {
            self.serving(session, conn).take_found(*asked, looked_up);
        }
    }

    /// The client that asked for the look at a file is gone. Others take what is in memory for as good as looked at: it goes,
    /// unless it is right.
    fn on_undelivered(&mut self, _: Key, looked_up: LookedUp, _: &mut Context<'_>) {
        if !matches!(looked_up.found, Found::Unchanged) {
            self.cache.remove(&looked_up.path);
        }
    }
}

impl MessageHandler<ReadAhead> for Server {
    fn on_message(&mut self, session: &mut Session, conn: &mut Connection<'_>, read: ReadAhead) {
        let Waiting::Stream(stream) = &mut session.waiting else { return };
        match stream.take(conn, read) {
            Ok(()) => self.serving(session, conn).send_next(),
            Err(error) => {
                // The end of the connection says that this is not all, as a length was promised (RFC 9112, 8). It is no
                // reset: answers before it may not have arrived yet.
                log::debug!("{}: the file cannot be read on: {error}", conn.key());
                self.serving(session, conn).finish(false);
            }
        }
    }
}
