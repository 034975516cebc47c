//! Stream handlers with their types erased, each with its sessions.

use std::any::Any;
use std::io;
use std::time::Duration;

use log::debug;
use slab::Slab;

use crate::address::SocketAddress;
use crate::codec::BadFrame;
use crate::connection::Connection;
use crate::context::Context;
use crate::deadline::Deadline;
use crate::error::{CloseReason, ConnectError, Error};
use crate::handler::StreamHandler;
use crate::key::Key;
use crate::listener::ListenerId;
use crate::one_line::OneLine;
use crate::peer::Peer;
use crate::signal::Signal;
use crate::timer::TimerId;
use crate::watchdog::timed;

/// More than any slice is long.
pub(crate) const FAILED: usize = usize::MAX;

/// [`StreamHandler`] as an object: sessions are named by number.
pub(crate) trait AnyHandler {
    fn accept(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> bool;
    fn open(&mut self, conn: &mut Connection<'_>) -> u32;
    /// [`FAILED`], with the error in the core, stands for an `Err`: a plain number comes back in a
    /// register. Not timed: the short way pays for nothing.
    fn data(&mut self, session: u32, conn: &mut Connection<'_>, data: &[u8]) -> usize;
    /// The same, timed like every other call while the watchdog asks for it.
    fn data_timed(&mut self, session: u32, conn: &mut Connection<'_>, data: &[u8]) -> usize;
    fn drained(&mut self, session: u32, conn: &mut Connection<'_>);
    fn peer_closed(&mut self, session: u32, conn: &mut Connection<'_>);
    fn timer(&mut self, session: u32, conn: &mut Connection<'_>, timer: TimerId);
    fn deadline(
        &mut self,
        session: u32,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration>;
    fn poke(&mut self, session: u32, conn: &mut Connection<'_>);
    fn drain(&mut self, session: u32, conn: &mut Connection<'_>);
    fn close(&mut self, session: u32, key: Key, reason: CloseReason, cx: &mut Context<'_>);
    fn start(&mut self, cx: &mut Context<'_>);
    fn connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>);
    fn handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>);
    fn signal(&mut self, signal: Signal, cx: &mut Context<'_>);
    fn listening(
        &mut self,
        listener: ListenerId,
        result: io::Result<SocketAddress>,
        cx: &mut Context<'_>,
    );
    /// The [`Owner`], for whoever knows the handler's type.
    fn as_owner(&mut self) -> &mut dyn Any;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// The sessions of one handler.
///
/// Sessions of size zero have nothing to tell them apart: as many are kept as connections are open,
/// in a vector that needs no memory, and any of them serves any connection.
struct Sessions<S> {
    /// Used if the size is zero, which the compiler knows.
    zero: Vec<S>,
    /// Used if not.
    slab: Slab<S>,
}

impl<S> Sessions<S> {
    const ARE_ZERO: bool = size_of::<S>() == 0;

    fn new() -> Sessions<S> {
        Sessions { zero: Vec::new(), slab: Slab::new() }
    }

    fn insert(&mut self, session: S) -> u32 {
        if Self::ARE_ZERO {
            self.zero.push(session);
            return 0;
        }
        u32::try_from(self.slab.insert(session)).expect("no more sessions than table slots")
    }

    #[inline]
    fn get_mut(&mut self, number: u32) -> &mut S {
        if Self::ARE_ZERO {
            return self.zero.last_mut().expect("a session for each open connection");
        }
        &mut self.slab[number as usize]
    }

    fn remove(&mut self, number: u32) -> S {
        if Self::ARE_ZERO {
            return self.zero.pop().expect("a session for each open connection");
        }
        self.slab.remove(number as usize)
    }
}

/// A handler and its sessions.
pub(crate) struct Owner<H: StreamHandler> {
    pub(crate) handler: H,
    sessions: Sessions<H::Session>,
}

impl<H: StreamHandler> Owner<H> {
    pub(crate) fn new(handler: H) -> Owner<H> {
        Owner { handler, sessions: Sessions::new() }
    }

    pub(crate) fn with(&mut self, session: u32) -> (&mut H, &mut H::Session) {
        (&mut self.handler, self.sessions.get_mut(session))
    }
}

/// A callback of this connection.
#[inline]
fn of<'a, H, R>(
    conn: &mut Connection<'a>,
    name: &'static str,
    call: impl FnOnce(&mut Connection<'a>) -> R,
) -> R {
    timed::<H, _, _>(conn, conn.key, name, call)
}

/// An `on_data` that was shown so many bytes has failed, or what it was shown is no frame.
#[cold]
fn fail(conn: &mut Connection<'_>, shown: usize, error: Error) -> usize {
    let key = conn.key;
    let core = &mut *conn.context.core;
    if error.is::<BadFrame>() {
        debug!("{key}: a bad frame: {error}");
        core.close(key, CloseReason::BadFrame);
        return shown;
    }
    core.error = Some(OneLine::new(error));
    FAILED
}

impl<H: StreamHandler> AnyHandler for Owner<H> {
    fn accept(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> bool {
        timed::<H, _, _>(cx, Key::NONE, "accept", |cx| self.handler.accept(peer, cx))
    }

    fn open(&mut self, conn: &mut Connection<'_>) -> u32 {
        let session = of::<H, _>(conn, "on_open", |conn| self.handler.on_open(conn));
        self.sessions.insert(session)
    }

    #[inline]
    fn data(&mut self, session: u32, conn: &mut Connection<'_>, data: &[u8]) -> usize {
        match self.handler.on_data(self.sessions.get_mut(session), conn, data) {
            Ok(consumed) => consumed,
            Err(error) => fail(conn, data.len(), error),
        }
    }

    fn data_timed(&mut self, session: u32, conn: &mut Connection<'_>, data: &[u8]) -> usize {
        of::<H, _>(conn, "on_data", |conn| self.data(session, conn, data))
    }

    fn drained(&mut self, session: u32, conn: &mut Connection<'_>) {
        let session = self.sessions.get_mut(session);
        of::<H, _>(conn, "on_drained", |conn| self.handler.on_drained(session, conn));
    }

    fn peer_closed(&mut self, session: u32, conn: &mut Connection<'_>) {
        let session = self.sessions.get_mut(session);
        of::<H, _>(conn, "on_peer_closed", |conn| self.handler.on_peer_closed(session, conn));
    }

    fn timer(&mut self, session: u32, conn: &mut Connection<'_>, timer: TimerId) {
        let session = self.sessions.get_mut(session);
        of::<H, _>(conn, "on_timer", |conn| self.handler.on_timer(session, conn, timer));
    }

    fn deadline(
        &mut self,
        session: u32,
        conn: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        let session = self.sessions.get_mut(session);
        of::<H, _>(conn, "on_deadline", |conn| self.handler.on_deadline(session, conn, deadline))
    }

    fn poke(&mut self, session: u32, conn: &mut Connection<'_>) {
        let session = self.sessions.get_mut(session);
        of::<H, _>(conn, "on_poke", |conn| self.handler.on_poke(session, conn));
    }

    fn drain(&mut self, session: u32, conn: &mut Connection<'_>) {
        let session = self.sessions.get_mut(session);
        of::<H, _>(conn, "on_drain", |conn| self.handler.on_drain(session, conn));
    }

    fn close(&mut self, session: u32, key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        let session = self.sessions.remove(session);
        timed::<H, _, _>(cx, key, "on_close", |cx| self.handler.on_close(session, key, reason, cx));
    }

    fn start(&mut self, cx: &mut Context<'_>) {
        timed::<H, _, _>(cx, Key::NONE, "on_start", |cx| self.handler.on_start(cx));
    }

    fn connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        timed::<H, _, _>(cx, key, "on_connect_failed", |cx| {
            self.handler.on_connect_failed(key, tag, error, cx);
        });
    }

    fn handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        timed::<H, _, _>(cx, Key::NONE, "on_handler_timer", |cx| {
            self.handler.on_handler_timer(timer, cx);
        });
    }

    fn signal(&mut self, signal: Signal, cx: &mut Context<'_>) {
        timed::<H, _, _>(cx, Key::NONE, "on_signal", |cx| self.handler.on_signal(signal, cx));
    }

    fn listening(
        &mut self,
        listener: ListenerId,
        result: io::Result<SocketAddress>,
        cx: &mut Context<'_>,
    ) {
        timed::<H, _, _>(cx, Key::NONE, "on_listening", |cx| {
            self.handler.on_listening(listener, result, cx);
        });
    }

    fn as_owner(&mut self) -> &mut dyn Any {
        self
    }

    fn as_any(&self) -> &dyn Any {
        &self.handler
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.handler
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_size_zero_take_no_memory_and_are_dropped_one_by_one() {
        use std::cell::Cell;
        thread_local!(static DROPPED: Cell<u32> = const { Cell::new(0) });
        struct Zero;
        impl Drop for Zero {
            fn drop(&mut self) {
                DROPPED.with(|dropped| dropped.set(dropped.get() + 1));
            }
        }
        let mut sessions = Sessions::new();
        let first = sessions.insert(Zero);
        sessions.insert(Zero);
        assert_eq!((sessions.zero.len(), sessions.slab.capacity()), (2, 0));
        drop(sessions.remove(first));
        assert_eq!(DROPPED.with(Cell::get), 1);
        drop(sessions);
        assert_eq!(DROPPED.with(Cell::get), 2);
    }
}
