//! Stream handlers with their types erased, each with its sessions.

use std::any::Any;
use std::net::SocketAddr;

use slab::Slab;

use crate::connection::Connection;
use crate::context::Context;
use crate::error::{CloseReason, ConnectError, Error};
use crate::handler::StreamHandler;
use crate::key::Key;
use crate::timer::TimerId;

/// [`StreamHandler`] as an object: sessions are named by number.
pub(crate) trait AnyHandler {
    fn accept(&mut self, peer: SocketAddr, cx: &mut Context<'_>) -> bool;
    fn open(&mut self, conn: &mut Connection<'_>) -> u32;
    fn data(
        &mut self,
        session: u32,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error>;
    fn drained(&mut self, session: u32, conn: &mut Connection<'_>);
    fn peer_closed(&mut self, session: u32, conn: &mut Connection<'_>);
    fn timer(&mut self, session: u32, conn: &mut Connection<'_>, timer: TimerId);
    fn poke(&mut self, session: u32, conn: &mut Connection<'_>);
    fn close(&mut self, session: u32, key: Key, reason: CloseReason, cx: &mut Context<'_>);
    fn start(&mut self, cx: &mut Context<'_>);
    fn connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>);
    fn handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>);
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// The sessions of one handler.
///
/// Sessions of size zero have nothing to tell them apart: as many are kept as connections are open,
/// in a vector that needs no memory, and any of them serves any connection.
enum Sessions<S> {
    Zero(Vec<S>),
    Slab(Slab<S>),
}

impl<S> Sessions<S> {
    fn new() -> Sessions<S> {
        if size_of::<S>() == 0 { Sessions::Zero(Vec::new()) } else { Sessions::Slab(Slab::new()) }
    }

    fn insert(&mut self, session: S) -> u32 {
        match self {
            Sessions::Zero(all) => {
                all.push(session);
                0
            }
            Sessions::Slab(slab) => {
                u32::try_from(slab.insert(session)).expect("no more sessions than table slots")
            }
        }
    }

    #[inline]
    fn get_mut(&mut self, number: u32) -> &mut S {
        match self {
            Sessions::Zero(all) => all.last_mut().expect("a session for each open connection"),
            Sessions::Slab(slab) => &mut slab[number as usize],
        }
    }

    fn remove(&mut self, number: u32) -> S {
        match self {
            Sessions::Zero(all) => all.pop().expect("a session for each open connection"),
            Sessions::Slab(slab) => slab.remove(number as usize),
        }
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
}

impl<H: StreamHandler> AnyHandler for Owner<H> {
    fn accept(&mut self, peer: SocketAddr, cx: &mut Context<'_>) -> bool {
        self.handler.accept(peer, cx)
    }

    fn open(&mut self, conn: &mut Connection<'_>) -> u32 {
        let session = self.handler.on_open(conn);
        self.sessions.insert(session)
    }

    #[inline]
    fn data(
        &mut self,
        session: u32,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.handler.on_data(self.sessions.get_mut(session), conn, data)
    }

    fn drained(&mut self, session: u32, conn: &mut Connection<'_>) {
        self.handler.on_drained(self.sessions.get_mut(session), conn);
    }

    fn peer_closed(&mut self, session: u32, conn: &mut Connection<'_>) {
        self.handler.on_peer_closed(self.sessions.get_mut(session), conn);
    }

    fn timer(&mut self, session: u32, conn: &mut Connection<'_>, timer: TimerId) {
        self.handler.on_timer(self.sessions.get_mut(session), conn, timer);
    }

    fn poke(&mut self, session: u32, conn: &mut Connection<'_>) {
        self.handler.on_poke(self.sessions.get_mut(session), conn);
    }

    fn close(&mut self, session: u32, key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        let session = self.sessions.remove(session);
        self.handler.on_close(session, key, reason, cx);
    }

    fn start(&mut self, cx: &mut Context<'_>) {
        self.handler.on_start(cx);
    }

    fn connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        self.handler.on_connect_failed(key, tag, error, cx);
    }

    fn handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        self.handler.on_handler_timer(timer, cx);
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
        assert!(matches!(&sessions, Sessions::Zero(all) if all.len() == 2));
        drop(sessions.remove(first));
        assert_eq!(DROPPED.with(Cell::get), 1);
        drop(sessions);
        assert_eq!(DROPPED.with(Cell::get), 2);
    }
}
