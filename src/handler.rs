//! Everything that a user implements, on one page.
//!
//! A handler never touches a socket. It is given bytes and the time, and a [`Connection`] whose calls
//! change buffers and flags; the turn does the I/O afterwards. So no callback is ever entered from
//! inside another one, and everything in `self` and in the session is plain `&mut`.

use std::io;
use std::time::Duration;

use crate::address::SocketAddress;
use crate::connection::Connection;
use crate::context::Context;
use crate::datagram::{Datagram, DatagramSocket};
use crate::deadline::Deadline;
use crate::error::{CloseReason, ConnectError, Error};
use crate::key::Key;
use crate::listener::ListenerId;
use crate::peer::Peer;
use crate::signal::Signal;
use crate::timer::TimerId;

/// The code of a byte-stream protocol: one value serves any number of listeners and connections.
///
/// State shared by all its connections is `&mut self`; the state of one connection is its `Session`.
/// Both are lent to each callback at once.
///
/// # Order of calls
///
/// For a connection: [`on_open`](Self::on_open) first, [`on_close`](Self::on_close) last, exactly once
/// each, nothing after it. In between the calls follow the order of the bytes. A connection that never
/// opened gets [`on_connect_failed`](Self::on_connect_failed) and neither of the two.
///
/// In each [turn](crate::Reactor::turn) of the loop the calls come in phases, whose numbers stand with
/// them: 3 starts and signals, 4 what sockets are ready for, 5 timers and deadlines, 6 pokes and messages,
/// 7 connecting, listening and writing, 8 ends. While the reactor [stops](crate::Reactor::stop), those of
/// phase 8 come for all that there is.
///
/// # Panics in a callback
///
/// A callback that panics closes its connection as [`CloseReason::Panicked`]: `on_close` is still
/// called, unless it was `on_open` that panicked. Output of earlier runs is delivered; what the callbacks of this run had
/// sent may be lost, or only a first part of it be delivered. A panic in [`accept`](Self::accept) turns the peer away. All
/// other connections go on. A panic in `on_close`, or in a call that belongs to no connection, goes through to the caller
/// of the reactor.
/// [`Reactor::let_panics_through`](crate::Reactor::let_panics_through) lets all of them through.
#[diagnostic::on_unimplemented(note = "a `FrameHandler` is made into one by `codec::Framed::new`")]
pub trait StreamHandler: 'static {
    /// What the handler remembers about one connection; `()` costs nothing.
    type Session: 'static;

    /// Phase 4. A peer is at the door: its socket is accepted, and nothing else has been spent on it yet.
    /// `false` turns it away: the socket is closed. After `true`, `on_open` need not follow: the limits are
    /// looked at next. A [`Peer`] tells its address, and, for a system call, the process behind a Unix socket.
    fn accept(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> bool {
        let _ = (peer, cx);
        true
    }

    /// Phase 4 (5 if it is connected only when its time is up). The connection is open: accepted, or connected by us;
    /// [`conn.origin()`](Connection::origin) says which. A greeting can be sent here.
    fn on_open(&mut self, conn: &mut Connection<'_>) -> Self::Session;

    /// Phase 4 (6 after a poke or a message). `data` is all that was received and not yet consumed, never
    /// empty. Returns how many bytes of it are done with; the rest is shown again together with what follows.
    /// So a partial message is answered with the length of the whole ones before it, often `Ok(0)`.
    ///
    /// Called on new bytes; and with bytes that were left, after [`resume`](Connection::resume), after
    /// [`on_drained`](Self::on_drained), after a poke, a message or the result of a job, and in the next turn
    /// after [`again`](Connection::again). Not after a timer: its callback asks for it with `again`. Never
    /// after [`close`](Connection::close). So a handler that gets
    /// [`Sent::OverHigh`](crate::Sent::OverHigh) for an answer can leave the rest of the requests
    /// where they are.
    ///
    /// Whoever consumes more than was shown is closed as [`CloseReason::Misuse`].
    ///
    /// The bytes are lent for the call; what is to outlive it has to be copied:
    ///
    /// ```compile_fail
    /// # use oneloop::{Connection, Error, StreamHandler};
    /// struct Keeper {
    ///     last: &'static [u8],
    /// }
    ///
    /// impl StreamHandler for Keeper {
    ///     type Session = ();
    ///     fn on_open(&mut self, _: &mut Connection<'_>) {}
    ///     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
    ///         self.last = data; // does not compile
    ///         Ok(data.len())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// An error closes the connection as [`CloseReason::HandlerError`], with a warning in the log; or, if the peer is to
    /// blame and it is a [`BadFrame`](crate::codec::BadFrame), as [`CloseReason::BadFrame`] and without one. What was already
    /// given to it is sent before.
    fn on_data(
        &mut self,
        session: &mut Self::Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error>;

    /// Phase 4. After [`Sent::OverHigh`](crate::Sent::OverHigh), or after the output went over its high
    /// watermark: it has fallen to the low one, produce again.
    fn on_drained(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>) {
        let _ = (session, conn);
    }

    /// Phase 4. The peer will send no more (it closed, or half-closed: whether it still reads, nobody
    /// knows), and all it sent was shown. By default: flush, then close.
    fn on_peer_closed(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>) {
        let _ = session;
        conn.close();
    }

    /// Phase 5. A timer of this connection, of [`Connection::set_timer`] or
    /// [`set_interval`](Connection::set_interval), is due. The handler's own timers are those of
    /// [`on_handler_timer`](Self::on_handler_timer). By default a warning is logged: a timer that nobody
    /// hears of was set in vain.
    fn on_timer(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>, timer: TimerId) {
        let _ = (session, timer);
        log::warn!("{}: a timer is due, and its handler has no on_timer", conn.key());
    }

    /// Phase 5. The connection has run out of time for something: see [`Deadline`]. `None` closes it, with
    /// the deadline's own [`CloseReason`]: after what is sent here (a last word), and what waits,
    /// unless it is the peer that does not take it. `Some(more)` gives it that much more time from
    /// now; no time at all is none.
    fn on_deadline(
        &mut self,
        session: &mut Self::Session,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        let _ = (session, conn, deadline);
        None
    }

    /// Phase 6. Somebody called [`Context::poke`] with this connection's key. Bytes left unconsumed are
    /// shown to `on_data` right after this call; to a connection that is paused, or over its high watermark,
    /// when that is over.
    fn on_poke(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>) {
        let _ = (session, conn);
    }

    /// Phase 4. The reactor drains, and all that the peer had sent when that began was shown; see
    /// [`Reactor::drain`](crate::Reactor::drain). By default: flush, then close.
    ///
    /// A handler that answers later than in `on_data` overrides it: it stays while an answer is owed,
    /// and closes when that is sent; one that waits for the rest of a message may go on receiving. The
    /// drain's deadline ends who stays too long. Outbound connections are told, too, also those that
    /// open later: a proxy keeps them while they are in use.
    ///
    /// To a connection that is [paused](Connection::pause) it is told at once, and to one whose output is [over its high
    /// watermark](Connection::is_over_high) as soon as all was shown; and a second time when it is neither any more. The
    /// default lets it be until then: who is paused may be at work on a request, and who is over the watermark may go on
    /// with an answer in [`on_drained`](Self::on_drained). Whose output never ends, asks there if the reactor [is
    /// draining](Context::is_draining), and closes. One that
    /// [forwards](Context::forward), or is forwarded to, is told when that has ended and it has not.
    fn on_drain(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>) {
        let _ = session;
        if !(conn.is_paused() || conn.is_over_high()) {
            conn.close();
        }
    }

    /// Phase 8. The connection is over; its key finds nothing any more. The session comes back by
    /// value, for whoever wants to keep something of it. A message or a job's result that is still on its
    /// way to it goes to [`on_undelivered`](MessageHandler::on_undelivered).
    fn on_close(
        &mut self,
        session: Self::Session,
        key: Key,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) {
        let _ = (session, key, reason, cx);
    }

    /// Phase 3 of the first turn after [`Reactor::add`](crate::Reactor::add): before any other call.
    fn on_start(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// Phase 8. The attempt that [`Context::connect`] named `key` and the caller named `tag` did not
    /// open.
    fn on_connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        let _ = (key, tag, error, cx);
    }

    /// Phase 5. A timer of the handler itself, of [`Context::set_handler_timer`] or
    /// [`set_handler_interval`](Context::set_handler_interval), is due. Those of a connection are those of
    /// [`on_timer`](Self::on_timer). By default a warning is logged: a timer that nobody hears of was set
    /// in vain.
    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        let _ = (timer, cx);
        log::warn!("a timer of a handler is due, and it has no on_handler_timer");
    }

    /// Phase 7, once for each [`Context::listen`]. What came of it: the address, with the port that the
    /// kernel chose if it was to; or why not. That is `NotConnected` for a listener that was closed before
    /// it opened, by [`Context::close_listener`] or by a stop, in which this call comes. By default an error
    /// is logged.
    fn on_listening(
        &mut self,
        listener: ListenerId,
        result: io::Result<SocketAddress>,
        cx: &mut Context<'_>,
    ) {
        let _ = (listener, cx);
        if let Err(error) = result {
            log::error!("{error}");
        }
    }

    /// Phase 3. A signal came that [`Reactor::watch_signals`](crate::Reactor::watch_signals) asked for:
    /// every handler is told.
    fn on_signal(&mut self, signal: Signal, cx: &mut Context<'_>) {
        let _ = (signal, cx);
    }
}

/// A handler that gets messages of type `M`: from other threads and other handlers, by a
/// [`mailbox`](crate::mailbox()), or as results of jobs that block, by [`blocking`](crate::blocking()). The
/// inbox of either is [attached](crate::Reactor::attach) to it. For several types of messages it
/// implements the trait several times.
///
/// Messages of one sender come in the order in which they were posted, each in the turn in which it is
/// found, or in a later one if there are more than
/// [`messages_per_turn_max`](crate::ReactorLimits::messages_per_turn_max).
///
/// A call for a connection that panics closes it, as any other callback that does; one that belongs to
/// no connection goes through to the caller of the reactor. Only that message is lost.
#[diagnostic::on_unimplemented(
    note = "a handler in `codec::Framed` takes messages as a `codec::FrameMessageHandler`"
)]
pub trait MessageHandler<M>: StreamHandler {
    /// Phase 6. A message for this connection, which is open, or the result of its job. Bytes left
    /// unconsumed are shown to `on_data` right after this call; to a connection that is paused, or over its
    /// high watermark, when that is over. By default it is dropped.
    fn on_message(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>, message: M) {
        let _ = (session, conn, message);
    }

    /// Phase 6. A message for the handler itself, or the result of its job. By default it is dropped.
    fn on_handler_message(&mut self, message: M, cx: &mut Context<'_>) {
        let _ = (message, cx);
    }

    /// Phase 6. A message for connection `key`, or the result of its job, which came when that was gone,
    /// closing, not open yet, or not served by this handler. It is counted in
    /// [`Stats`](crate::Stats::messages_undelivered); by default it is dropped.
    fn on_undelivered(&mut self, key: Key, message: M, cx: &mut Context<'_>) {
        let _ = (key, message, cx);
    }
}

/// What a raw source did with its readiness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// A call said `WouldBlock`: the kernel will report the next change.
    Yes,
    /// There may be more, and no event will come for it: call again in the next turn.
    No,
}

/// The raw layer: readiness of anything that the driver can register (with the mio driver, any
/// `mio::event::Source`: a pipe, an eventfd, inotify, a serial port). Here the handler does its own
/// I/O, with the promise that it does not block, and that it says whether it drained the source.
///
/// A panic in one of its calls removes the source as [`CloseReason::Panicked`]; one in `on_close` goes
/// through to the caller of the reactor.
pub trait SourceHandler: 'static {
    /// The source itself; the reactor keeps it, and lends it to every call.
    type Source: 'static;

    /// Phase 4. The source is readable, or has an error that a read will tell.
    fn on_readable(
        &mut self,
        key: Key,
        source: &mut Self::Source,
        cx: &mut Context<'_>,
    ) -> Drained {
        let _ = (key, source, cx);
        Drained::Yes
    }

    /// Phase 4. The source is writable, or has an error that a write will tell.
    fn on_writable(
        &mut self,
        key: Key,
        source: &mut Self::Source,
        cx: &mut Context<'_>,
    ) -> Drained {
        let _ = (key, source, cx);
        Drained::Yes
    }

    /// Phase 8. The source was deregistered: by [`Context::close_key`], because one of its calls panicked,
    /// or because the reactor stops. It comes back by value.
    fn on_close(
        &mut self,
        source: Self::Source,
        key: Key,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) {
        let _ = (source, key, reason, cx);
    }
}

/// The code of a datagram protocol: one value serves any number of sockets, UDP or Unix, that are bound for
/// it by [`Reactor::bind`](crate::Reactor::bind). If it implements [`StreamHandler`] as well, it serves
/// connections with the same state.
///
/// A datagram comes whole or not at all, once or twice, in any order; no connection tells when the other side
/// is gone. What was sent may be lost without a word.
///
/// A panic in one of its calls closes the socket as [`CloseReason::Panicked`]; one in `on_close` or `on_bind_failed`
/// goes through to the caller of the reactor.
///
/// ```
/// use oneloop::{Datagram, DatagramHandler, DatagramSocket, Reactor};
///
/// struct Echo;
///
/// impl DatagramHandler for Echo {
///     fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
///         socket.send_to(datagram.from, datagram.data).ignore();
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let echo = reactor.add_datagram_handler(Echo);
/// let socket = reactor.bind(echo, "127.0.0.1:0")?;
/// println!("listening on {}", reactor.datagram_address(socket)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait DatagramHandler: 'static {
    /// Phase 4 of the first turn after the socket was bound: before any other call.
    fn on_bound(&mut self, socket: &mut DatagramSocket<'_>) {
        let _ = socket;
    }

    /// Phase 8. The socket that [`Context::bind_for`] or [`DatagramSocket::bind`] named `key` was not bound, and
    /// no other call comes for it. Why, with the address; that is `NotConnected` for one that was closed before, or
    /// that a stop of the reactor kept from it. By default the error is logged.
    fn on_bind_failed(&mut self, key: Key, error: io::Error, cx: &mut Context<'_>) {
        let _ = (key, cx);
        log::error!("{error}");
    }

    /// Phase 4. A datagram came; it may have no bytes, or may have been
    /// [truncated](Datagram::is_truncated). An answer leaves from the address that was asked
    /// ([`Datagram::to`]). Who answers with more than it was sent can be made to
    /// flood somebody whose address a sender has forged.
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>);

    /// Phase 4. After [`Queued::Full`](crate::Queued::Full): half of the queue has gone, send again.
    fn on_room(&mut self, socket: &mut DatagramSocket<'_>) {
        let _ = socket;
    }

    /// Phase 4, 5 or 7. Something went wrong with what was sent; the socket goes on. With `to`, a datagram to
    /// that address was dropped: it is too large, there is no way there, nobody is there (Unix), it is a
    /// broadcast that was not [allowed](crate::DatagramOptions::broadcast), or a Unix socket's receiver had no room for
    /// [`send_timeout`](crate::DatagramLimits::send_timeout), or the queue none for what stood aside so long
    /// (`WouldBlock`); others pass it meanwhile. Without, it is not
    /// known which one: all that waited was dropped because the reactor is over its
    /// [memory](crate::ReactorLimits::memory_bytes_max) (`OutOfMemory`), or the network told of one that has left
    /// already, of a [connected](crate::DatagramOptions::connect) socket mostly `ConnectionRefused`, because
    /// nobody is there (icmp(7)). By default nothing: what is lost, a protocol over datagrams has to notice anyhow.
    fn on_send_failed(
        &mut self,
        socket: &mut DatagramSocket<'_>,
        to: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        let _ = (socket, to, error);
    }

    /// Phase 5. A timer of the socket, of [`DatagramSocket::set_timer`] or
    /// [`set_interval`](DatagramSocket::set_interval), is due. By default a warning is logged: a timer that
    /// nobody hears of was set in vain.
    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, timer: TimerId) {
        let _ = timer;
        log::warn!("{}: a timer is due, and its handler has no on_timer", socket.key());
    }

    /// Phase 4. The reactor drains, and what waited when that began was shown. By default the socket is
    /// closed. Who owes an answer stays, and closes when it is sent; the drain's deadline ends who stays too
    /// long.
    fn on_drain(&mut self, socket: &mut DatagramSocket<'_>) {
        socket.close();
    }

    /// Phase 8. The socket is closed: by its handler ([`Closed`](CloseReason::Closed)), because one of its
    /// calls panicked, because the system gave nothing but errors ([`Io`](CloseReason::Io)), or because
    /// the reactor stops. Its key finds nothing any more.
    fn on_close(&mut self, key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        let _ = (key, reason, cx);
    }
}
