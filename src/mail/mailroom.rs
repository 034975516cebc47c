//! The reactor's part: its bell, its inboxes, and the mail phase.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use log::debug;

use super::attached::{AnyInbox, Attached, Next};
use super::bell::Bell;
use super::sender::Inbox;
use crate::context::Context;
use crate::driver::Driver;
use crate::error::CloseReason;
use crate::handle::Requests;
use crate::handler::MessageHandler;
use crate::key::Key;
use crate::reactor::{HandlerId, Reactor};
use crate::stream::lend;

/// Empty, and without a descriptor, until something is attached or a handle is asked for.
#[derive(Default)]
pub(crate) struct Mailroom {
    bell: Option<Arc<Bell>>,
    inboxes: Vec<Box<dyn AnyInbox>>,
    pub(crate) requests: Requests,
}

impl Mailroom {
    /// Before the reactor waits: whether it may, because there is no mail.
    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.bell.as_ref().is_none_or(|bell| bell.fall_asleep())
    }

    /// After the reactor waited.
    #[inline]
    pub(crate) fn wake_up(&self) {
        if let Some(bell) = &self.bell {
            bell.wake_up();
        }
    }

    #[inline]
    fn has_mail(&self) -> bool {
        self.bell.as_ref().is_some_and(|bell| bell.answer())
    }

    #[cfg(test)]
    pub(super) fn inboxes(&self) -> usize {
        self.inboxes.len()
    }

    /// Whether mail waits, which without other threads is until the next turn.
    #[cfg(feature = "sim")]
    pub(crate) fn is_empty(&self) -> bool {
        self.inboxes.iter().all(|inbox| inbox.is_empty())
    }
}

impl<D: Driver> Reactor<D> {
    /// Has the messages of a mailbox delivered to `handler` and its connections, from the next turn on,
    /// until the reactor stops or is dropped. One handler may have several mailboxes; with many, a turn
    /// with mail looks into each of them.
    ///
    /// # Errors
    ///
    /// For the first mailbox or [`handle`](Self::handle): there is no descriptor to be woken by
    /// (eventfd(2)). For [`blocking`](crate::blocking) work: a thread cannot be started. The mailbox
    /// has ended then.
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor.
    pub fn attach<H, M>(&mut self, handler: HandlerId<H>, inbox: Inbox<M>) -> io::Result<()>
    where
        H: MessageHandler<M>,
        M: 'static,
    {
        self.assert_own(handler);
        let bell = self.bell()?;
        if let Some(jobs) = &inbox.jobs {
            let (work, threads) = Arc::clone(jobs).work();
            self.sockets.driver.start_workers(&work, threads)?;
        }
        inbox.reader.attach(bell);
        self.mailroom.inboxes.push(Box::new(Attached::<H, M>::new(inbox, handler.index)));
        Ok(())
    }

    /// The bell by which other threads reach this reactor.
    pub(crate) fn bell(&mut self) -> io::Result<Arc<Bell>> {
        if let Some(bell) = &self.mailroom.bell {
            return Ok(Arc::clone(bell));
        }
        let bell = Arc::new(Bell::new(self.sockets.driver.waker()?));
        self.mailroom.bell = Some(Arc::clone(&bell));
        Ok(bell)
    }

    /// Phase 6: what other threads want.
    #[inline]
    pub(crate) fn take_mail(&mut self) {
        if self.mailroom.has_mail() {
            self.core.has_worked = true;
            self.answer_requests();
            self.deliver_mail();
        }
    }

    /// Delivers what is in the inboxes now. What is posted meanwhile rings again, and belongs to the
    /// next turn; so does what is left over when a panic goes through.
    #[cold]
    #[inline(never)]
    fn deliver_mail(&mut self) {
        // Out of the reactor's hands, whose handlers are called. They cannot attach another one.
        let mut inboxes = std::mem::take(&mut self.mailroom.inboxes);
        for inbox in &mut inboxes {
            inbox.begin();
        }
        let mut next = 0;
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
            while let Some(inbox) = inboxes.get_mut(next) {
                self.empty(&mut **inbox);
                next += 1;
            }
        })) {
            if let Err(panic) = self.contain(panic) {
                self.mailroom.inboxes = inboxes;
                if let Some(bell) = &self.mailroom.bell {
                    bell.ring();
                }
                resume_unwind(panic);
            }
        }
        inboxes.retain_mut(|inbox| !inbox.is_done());
        self.mailroom.inboxes = inboxes;
    }

    fn empty(&mut self, inbox: &mut dyn AnyInbox) {
        while let Some(next) = inbox.next() {
            match next {
                Next::Message(None) => {
                    self.core.stats.messages += 1;
                    let handler = inbox.handler();
                    let cx = &mut Context { core: &mut self.core, host: &self.sockets, handler };
                    inbox.deliver_to_handler(&mut *self.handlers[handler as usize], cx);
                    self.hold_to_memory();
                }
                Next::Message(Some(key)) => self.deliver_message(key, inbox),
                Next::Panicked(key) => {
                    self.core.stats.job_panics += 1;
                    if let Some(key) = key.filter(|key| self.is_served_by(*key, inbox.handler())) {
                        self.core.close(key, CloseReason::Panicked);
                    }
                }
            }
        }
    }

    /// Another handler's sessions are of another type, and its keys are no business of this one.
    fn is_served_by(&self, key: Key, handler: u16) -> bool {
        self.core.stream(key).is_some_and(|stream| stream.handler == handler)
    }

    fn deliver_message(&mut self, key: Key, inbox: &mut dyn AnyInbox) {
        let handler = inbox.handler();
        if !self.is_served_by(key, handler) || !self.core.is_open(key) {
            debug!("{key}: a message for a connection that is not open");
            self.core.stats.messages_undelivered += 1;
            let cx = &mut Context { core: &mut self.core, host: &self.sockets, handler };
            inbox.give_up(key, &mut *self.handlers[handler as usize], cx);
            self.hold_to_memory();
            return;
        }
        self.core.stats.messages += 1;
        self.core.begin_run(key);
        let (core, sockets, handlers) = (&mut self.core, &self.sockets, &mut self.handlers);
        let session = core.sources.live(key).session;
        let conn = &mut lend(core, sockets, handler, key);
        inbox.deliver(&mut *handlers[handler as usize], session, conn);
        self.end_mail_run(key);
    }

    /// The end of all mailboxes: for a reactor that stops.
    pub(crate) fn end_mail(&mut self) {
        for mut inbox in std::mem::take(&mut self.mailroom.inboxes) {
            self.core.stats.messages_undelivered += inbox.end() as u64;
        }
        self.mailroom.requests.forget_stop();
    }
}
