//! Handlers of frames.

use std::io;
use std::time::Duration;

use super::{BadFrame, Decoder, FrameError, for_each_frame};
use crate::address::SocketAddress;
use crate::connection::Connection;
use crate::context::Context;
use crate::deadline::Deadline;
use crate::error::{CloseReason, ConnectError, Error};
use crate::handler::{MessageHandler, StreamHandler};
use crate::key::Key;
use crate::listener::ListenerId;
use crate::peer::Peer;
use crate::signal::Signal;
use crate::timer::TimerId;

/// The code of a protocol of frames: a [`StreamHandler`] that is given frames in place of bytes, once it is
/// [`Framed`]. What is not said here is as there.
///
/// Messages and the results of jobs go to a [`FrameMessageHandler`]. What else only a stream handler can be, such as one of
/// datagrams, too, calls [`for_each_frame`] in its `on_data`.
///
/// ```
/// use oneloop::codec::{Encoder, Framed, FrameHandler, Lines};
/// use oneloop::{Connection, Error, Reactor};
///
/// struct Upper;
///
/// impl FrameHandler for Upper {
///     type Decoder = Lines;
///     type Session = ();
///
///     fn decoder(&self) -> Lines {
///         Lines::new(1000).refuse_lone_cr()
///     }
///
///     fn on_open(&mut self, _: &mut Connection<'_>) {}
///
///     fn on_frame(&mut self, _: &mut (), conn: &mut Connection<'_>, line: &[u8]) -> Result<(), Error> {
///         self.decoder().encode(&line.to_ascii_uppercase(), conn)?;
///         Ok(())
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let upper = reactor.add(Framed::new(Upper));
/// reactor.listen(upper, "127.0.0.1:0")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait FrameHandler: 'static {
    /// What finds the frames.
    type Decoder: Decoder + 'static;
    /// What the handler remembers about one connection.
    type Session: 'static;

    /// A decoder for a connection, before it opens.
    fn decoder(&self) -> Self::Decoder;

    /// The connection is open.
    fn on_open(&mut self, conn: &mut Connection<'_>) -> Self::Session;

    /// A frame came. After [`close`](Connection::close) none comes any more; while it is
    /// [paused](Connection::pause), or its output over the high watermark, the next one waits; after
    /// [`again`](Connection::again), and after as many as one turn may have
    /// ([`frames_per_turn_max`](crate::Limits::frames_per_turn_max)), it waits for the next turn.
    ///
    /// # Errors
    ///
    /// An error closes the connection as [`CloseReason::HandlerError`], after sending what was already given to it. But
    /// [`BadFrame`] is the peer's: [`on_bad_frame`](FrameHandler::on_bad_frame) is called, as for what the decoder refuses.
    fn on_frame(
        &mut self,
        session: &mut Self::Session,
        conn: &mut Connection<'_>,
        frame: <Self::Decoder as Decoder>::Frame<'_>,
    ) -> Result<(), Error>;

    /// What came is no frame, or [`on_frame`](FrameHandler::on_frame) said so: a last word can be sent here. Then the
    /// connection closes as [`CloseReason::BadFrame`], unless it is closed here, which gives it that reason.
    fn on_bad_frame(
        &mut self,
        session: &mut Self::Session,
        conn: &mut Connection<'_>,
        error: FrameError,
    ) {
        let _ = (session, conn, error);
    }

    /// The peer will send no more. `rest` is what came of a frame that is not whole: nothing, in good order. By
    /// default: flush, then close.
    fn on_peer_closed(
        &mut self,
        session: &mut Self::Session,
        conn: &mut Connection<'_>,
        rest: &[u8],
    ) {
        let _ = (session, rest);
        conn.close();
    }

    /// [`StreamHandler::accept`].
    fn accept(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> bool {
        let _ = (peer, cx);
        true
    }

    /// [`StreamHandler::on_drained`].
    fn on_drained(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>) {
        let _ = (session, conn);
    }

    /// [`StreamHandler::on_timer`].
    fn on_timer(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>, timer: TimerId) {
        let _ = (session, timer);
        log::warn!("{}: a timer is due, and its handler has no on_timer", conn.key());
    }

    /// [`StreamHandler::on_deadline`].
    fn on_deadline(
        &mut self,
        session: &mut Self::Session,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        let _ = (session, conn, deadline);
        None
    }

    /// [`StreamHandler::on_poke`].
    fn on_poke(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>) {
        let _ = (session, conn);
    }

    /// [`StreamHandler::on_drain`].
    fn on_drain(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>) {
        let _ = session;
        if !(conn.is_paused() || conn.is_over_high()) {
            conn.close();
        }
    }

    /// [`StreamHandler::on_close`].
    fn on_close(
        &mut self,
        session: Self::Session,
        key: Key,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) {
        let _ = (session, key, reason, cx);
    }

    /// [`StreamHandler::on_start`].
    fn on_start(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// [`StreamHandler::on_connect_failed`].
    fn on_connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        let _ = (key, tag, error, cx);
    }

    /// [`StreamHandler::on_handler_timer`].
    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        let _ = (timer, cx);
        log::warn!("a timer of a handler is due, and it has no on_handler_timer");
    }

    /// [`StreamHandler::on_listening`].
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

    /// [`StreamHandler::on_signal`].
    fn on_signal(&mut self, signal: Signal, cx: &mut Context<'_>) {
        let _ = (signal, cx);
    }
}

/// What a handler of frames does with messages from a mailbox, or with the results of blocking jobs. With it [`Framed`] is a
/// [`MessageHandler`]. What is not said here is as there.
pub trait FrameMessageHandler<M>: FrameHandler {
    /// [`MessageHandler::on_message`].
    fn on_message(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>, message: M) {
        let _ = (session, conn, message);
    }

    /// [`MessageHandler::on_handler_message`].
    fn on_handler_message(&mut self, message: M, cx: &mut Context<'_>) {
        let _ = (message, cx);
    }

    /// [`MessageHandler::on_undelivered`].
    fn on_undelivered(&mut self, key: Key, message: M, cx: &mut Context<'_>) {
        let _ = (key, message, cx);
    }
}

/// A [`FrameHandler`] as a [`StreamHandler`].
#[derive(Debug)]
pub struct Framed<H> {
    handler: H,
    /// The log has the warning.
    is_warned: bool,
}

impl<H: FrameHandler> Framed<H> {
    /// Makes a handler of frames one of bytes.
    pub fn new(handler: H) -> Framed<H> {
        Framed { handler, is_warned: false }
    }

    /// Longer frames will be put down to their senders.
    #[cold]
    fn warn(&mut self, whole_bytes_max: usize, input_bytes_max: usize) {
        if !self.is_warned {
            log::warn!(
                "a frame may take up {whole_bytes_max} bytes, and input_bytes_max is {input_bytes_max}: longer \
                 ones end their connections as InputTooLong"
            );
        }
        self.is_warned = true;
    }

    /// The handler of frames.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler of frames, to change.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }
}

/// The session of a [`Framed`] handler: that of its handler, and a decoder.
#[derive(Debug)]
pub struct FramedSession<D, S> {
    decoder: D,
    session: S,
    /// Behind so many bytes from the peer stands what is shown next, unless that is forwarded.
    consumed: u64,
}

impl<H: FrameHandler> StreamHandler for Framed<H> {
    type Session = FramedSession<H::Decoder, H::Session>;

    fn accept(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> bool {
        self.handler.accept(peer, cx)
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Self::Session {
        let decoder = self.handler.decoder();
        let session = self.handler.on_open(conn); // which may set limits
        let (whole, input) = (decoder.whole_bytes_max(), conn.limits().input_bytes_max);
        if whole > input {
            self.warn(whole, input);
        }
        FramedSession { decoder, session, consumed: 0 }
    }

    fn on_data(
        &mut self,
        framed: &mut Self::Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let FramedSession { decoder, session, consumed } = framed;
        let handler = &mut self.handler;
        let start = conn.bytes_in() - data.len() as u64;
        if start != *consumed {
            // The beginning of a frame that it has looked at went elsewhere.
            *decoder = handler.decoder();
        }
        let result = for_each_frame(decoder, conn, data, |conn, frame| {
            handler.on_frame(session, conn, frame)
        });
        match &result {
            Ok(count) => *consumed = start + *count as u64,
            Err(error) => {
                if let Some(BadFrame(error)) = error.downcast_ref() {
                    handler.on_bad_frame(session, conn, *error);
                }
            }
        }
        result
    }

    fn on_drained(&mut self, framed: &mut Self::Session, conn: &mut Connection<'_>) {
        self.handler.on_drained(&mut framed.session, conn);
    }

    fn on_peer_closed(&mut self, framed: &mut Self::Session, conn: &mut Connection<'_>) {
        let rest = conn.unconsumed().to_vec();
        self.handler.on_peer_closed(&mut framed.session, conn, &rest);
    }

    fn on_timer(&mut self, framed: &mut Self::Session, conn: &mut Connection<'_>, timer: TimerId) {
        self.handler.on_timer(&mut framed.session, conn, timer);
    }

    fn on_deadline(
        &mut self,
        framed: &mut Self::Session,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        self.handler.on_deadline(&mut framed.session, conn, deadline)
    }

    fn on_poke(&mut self, framed: &mut Self::Session, conn: &mut Connection<'_>) {
        self.handler.on_poke(&mut framed.session, conn);
    }

    fn on_drain(&mut self, framed: &mut Self::Session, conn: &mut Connection<'_>) {
        self.handler.on_drain(&mut framed.session, conn);
    }

    fn on_close(
        &mut self,
        framed: Self::Session,
        key: Key,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) {
        self.handler.on_close(framed.session, key, reason, cx);
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.handler.on_start(cx);
    }

    fn on_connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        self.handler.on_connect_failed(key, tag, error, cx);
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        self.handler.on_handler_timer(timer, cx);
    }

    fn on_listening(
        &mut self,
        listener: ListenerId,
        result: io::Result<SocketAddress>,
        cx: &mut Context<'_>,
    ) {
        self.handler.on_listening(listener, result, cx);
    }

    fn on_signal(&mut self, signal: Signal, cx: &mut Context<'_>) {
        self.handler.on_signal(signal, cx);
    }
}

impl<M, H: FrameMessageHandler<M>> MessageHandler<M> for Framed<H> {
    fn on_message(&mut self, framed: &mut Self::Session, conn: &mut Connection<'_>, message: M) {
        self.handler.on_message(&mut framed.session, conn, message);
    }

    fn on_handler_message(&mut self, message: M, cx: &mut Context<'_>) {
        self.handler.on_handler_message(message, cx);
    }

    fn on_undelivered(&mut self, key: Key, message: M, cx: &mut Context<'_>) {
        self.handler.on_undelivered(key, message, cx);
    }
}
