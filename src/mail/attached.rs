//! An inbox and its handler, with their types erased.

use std::marker::PhantomData;

use super::dropping::Dropping;
use super::sender::{Inbox, Left, Letter};
use crate::connection::Connection;
use crate::context::Context;
use crate::handler::MessageHandler;
use crate::key::Key;
use crate::reactor::any_handler::{AnyHandler, Owner};
use crate::watchdog::timed;

/// What is next in an inbox.
#[derive(Debug)]
pub(super) enum Next {
    /// A message to a connection, or to the handler. It is held until it is delivered.
    Message(Option<Key>),
    /// A job for it panicked.
    Panicked(Option<Key>),
}

pub(super) trait AnyInbox {
    fn handler(&self) -> u16;
    /// What is there now is what [`next`](Self::next) gives until this is called again.
    fn begin(&mut self);
    fn next(&mut self) -> Option<Next>;
    /// Whether [`next`](Self::next) may give something yet.
    fn has_next(&self) -> bool;
    /// What is done with the message that is held. `owner` is the handler's.
    fn deliver(&mut self, owner: &mut dyn AnyHandler, session: u32, conn: &mut Connection<'_>);
    fn deliver_to_handler(&mut self, owner: &mut dyn AnyHandler, cx: &mut Context<'_>);
    fn give_up(&mut self, key: Key, owner: &mut dyn AnyHandler, cx: &mut Context<'_>);
    /// Whether nothing will ever come again.
    fn is_done(&self) -> bool;
    #[cfg(feature = "sim")]
    fn is_empty(&self) -> bool;
    /// Drops what waits and takes nothing more.
    fn end(&mut self, dropping: &mut Dropping) -> Left;
}

pub(super) struct Attached<H, M> {
    inbox: Inbox<M>,
    number: u16,
    held: Option<M>,
    handler: PhantomData<fn() -> H>,
}

impl<H: MessageHandler<M>, M> Attached<H, M> {
    pub(super) fn new(inbox: Inbox<M>, number: u16) -> Attached<H, M> {
        Attached { inbox, number, held: None, handler: PhantomData }
    }

    fn owner(any: &mut dyn AnyHandler) -> &mut Owner<H> {
        any.as_owner().downcast_mut().expect("it was attached to a handler of this type")
    }

    fn held(&mut self) -> M {
        self.held.take().expect("a message is held from `next` until it is delivered")
    }
}

impl<H: MessageHandler<M>, M: 'static> AnyInbox for Attached<H, M> {
    fn handler(&self) -> u16 {
        self.number
    }

    fn begin(&mut self) {
        self.inbox.reader.begin();
    }

    fn next(&mut self) -> Option<Next> {
        let Letter { to, message } = self.inbox.reader.next()?;
        if let Some(jobs) = &self.inbox.jobs {
            jobs.is_answered();
        }
        self.held = message;
        Some(if self.held.is_some() { Next::Message(to) } else { Next::Panicked(to) })
    }

    fn has_next(&self) -> bool {
        self.inbox.reader.has_next()
    }

    fn deliver(&mut self, owner: &mut dyn AnyHandler, session: u32, conn: &mut Connection<'_>) {
        let message = self.held();
        let (handler, session) = Self::owner(owner).with(session);
        timed::<H, _, _>(conn, conn.key(), "on_message", |conn| {
            handler.on_message(session, conn, message);
        });
    }

    fn deliver_to_handler(&mut self, owner: &mut dyn AnyHandler, cx: &mut Context<'_>) {
        let message = self.held();
        let handler = &mut Self::owner(owner).handler;
        timed::<H, _, _>(cx, Key::NONE, "on_handler_message", |cx| {
            handler.on_handler_message(message, cx);
        });
    }

    fn give_up(&mut self, key: Key, owner: &mut dyn AnyHandler, cx: &mut Context<'_>) {
        let message = self.held();
        let handler = &mut Self::owner(owner).handler;
        timed::<H, _, _>(cx, key, "on_undelivered", |cx| handler.on_undelivered(key, message, cx));
    }

    fn is_done(&self) -> bool {
        match &self.inbox.jobs {
            Some(jobs) => jobs.is_over(),
            None => self.inbox.reader.is_done(),
        }
    }

    #[cfg(feature = "sim")]
    fn is_empty(&self) -> bool {
        self.inbox.reader.is_empty()
    }

    fn end(&mut self, dropping: &mut Dropping) -> Left {
        self.inbox.end(dropping)
    }
}
