//! Datagram handlers with their types erased.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use super::{Datagram, DatagramSocket};
use crate::address::SocketAddress;
use crate::connection::Connection;
use crate::context::Context;
use crate::error::{CloseReason, Error};
use crate::handler::{DatagramHandler, StreamHandler};
use crate::key::Key;
use crate::reactor::any_handler::AnyHandler;
use crate::source::NO_HANDLER;
use crate::timer::TimerId;
use crate::watchdog::timed;

/// A handler that serves datagrams and no connections, in the table of those that do: nothing that it is
/// given can make one for it.
pub(crate) struct Only<H>(pub(crate) H);

impl<H: 'static> StreamHandler for Only<H> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {
        unreachable!("it serves no connections")
    }

    fn on_data(&mut self, (): &mut (), _: &mut Connection<'_>, _: &[u8]) -> Result<usize, Error> {
        unreachable!("it serves no connections")
    }
}

/// A handler of type `H`, which has this index, as the contexts of its callbacks name it: [`NO_HANDLER`] if it serves no
/// connections.
pub(crate) fn context_of<H: 'static>(handler: &dyn AnyHandler, index: u16) -> u16 {
    if handler.as_any().is::<Only<H>>() { NO_HANDLER } else { index }
}

/// [`DatagramHandler`] as an object; the handler itself is in the reactor's table.
pub(super) trait AnyDatagram: fmt::Debug {
    fn bound(&self, handler: &mut dyn AnyHandler, socket: &mut DatagramSocket<'_>);
    fn datagram(
        &self,
        handler: &mut dyn AnyHandler,
        socket: &mut DatagramSocket<'_>,
        datagram: Datagram<'_>,
    );
    fn room(&self, handler: &mut dyn AnyHandler, socket: &mut DatagramSocket<'_>);
    fn send_failed(
        &self,
        handler: &mut dyn AnyHandler,
        socket: &mut DatagramSocket<'_>,
        to: Option<&SocketAddress>,
        error: &io::Error,
    );
    fn timer(&self, handler: &mut dyn AnyHandler, socket: &mut DatagramSocket<'_>, timer: TimerId);
    fn drain(&self, handler: &mut dyn AnyHandler, socket: &mut DatagramSocket<'_>);
    fn close(
        &self,
        handler: &mut dyn AnyHandler,
        key: Key,
        reason: CloseReason,
        cx: &mut Context<'_>,
    );
    fn bind_failed(
        &self,
        handler: &mut dyn AnyHandler,
        key: Key,
        error: io::Error,
        cx: &mut Context<'_>,
    );
    /// [`context_of`] a handler, which is of this type.
    fn context(&self, handler: &dyn AnyHandler, index: u16) -> u16;
}

/// The calls of a handler of type `H`.
pub(super) struct Calls<H>(PhantomData<fn() -> H>);

impl<H> fmt::Debug for Calls<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<H>())
    }
}

impl<H: DatagramHandler> Calls<H> {
    pub(super) const OBJECT: &'static dyn AnyDatagram = &Calls::<H>(PhantomData);

    fn of(any: &mut dyn AnyHandler) -> &mut H {
        let any = any.as_any_mut();
        if any.is::<Only<H>>() {
            return any.downcast_mut().map(|Only(handler)| handler).expect("it is one");
        }
        any.downcast_mut().expect("it was bound for a handler of this type")
    }
}

/// A callback of this socket.
fn call<'a, H>(
    socket: &mut DatagramSocket<'a>,
    name: &'static str,
    call: impl FnOnce(&mut DatagramSocket<'a>),
) {
    let key = socket.key;
    timed::<H, _, _>(socket, key, name, call);
}

impl<H: DatagramHandler> AnyDatagram for Calls<H> {
    fn bound(&self, handler: &mut dyn AnyHandler, socket: &mut DatagramSocket<'_>) {
        call::<H>(socket, "on_bound", |socket| Self::of(handler).on_bound(socket));
    }

    fn datagram(
        &self,
        handler: &mut dyn AnyHandler,
        socket: &mut DatagramSocket<'_>,
        datagram: Datagram<'_>,
    ) {
        call::<H>(socket, "on_datagram", |socket| Self::of(handler).on_datagram(socket, datagram));
    }

    fn room(&self, handler: &mut dyn AnyHandler, socket: &mut DatagramSocket<'_>) {
        call::<H>(socket, "on_room", |socket| Self::of(handler).on_room(socket));
    }

    fn send_failed(
        &self,
        handler: &mut dyn AnyHandler,
        socket: &mut DatagramSocket<'_>,
        to: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        call::<H>(socket, "on_send_failed", |socket| {
            Self::of(handler).on_send_failed(socket, to, error);
        });
    }

    fn timer(&self, handler: &mut dyn AnyHandler, socket: &mut DatagramSocket<'_>, timer: TimerId) {
        call::<H>(socket, "on_timer", |socket| Self::of(handler).on_timer(socket, timer));
    }

    fn drain(&self, handler: &mut dyn AnyHandler, socket: &mut DatagramSocket<'_>) {
        call::<H>(socket, "on_drain", |socket| Self::of(handler).on_drain(socket));
    }

    fn close(
        &self,
        handler: &mut dyn AnyHandler,
        key: Key,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) {
        timed::<H, _, _>(cx, key, "on_close", |cx| Self::of(handler).on_close(key, reason, cx));
    }

    fn bind_failed(
        &self,
        handler: &mut dyn AnyHandler,
        key: Key,
        error: io::Error,
        cx: &mut Context<'_>,
    ) {
        timed::<H, _, _>(cx, key, "on_bind_failed", |cx| {
            Self::of(handler).on_bind_failed(key, error, cx);
        });
    }

    fn context(&self, handler: &dyn AnyHandler, index: u16) -> u16 {
        context_of::<H>(handler, index)
    }
}
