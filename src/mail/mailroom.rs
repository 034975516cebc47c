//! The reactor's part: its bell, its inboxes, and the mail phase.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use log::debug;

use super::attached::{AnyInbox, Attached, Next};
use super::bell::Bell;
use super::dropping::Dropping;
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
    /// The inbox after which the next turn begins: the one at which the last turn's budget ended.
    last: Option<usize>,
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

    /// Has the next turn look at the mail.
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
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
    /// with mail looks into each of them. A turn delivers
    /// [`messages_per_turn_max`](crate::ReactorLimits::messages_per_turn_max) messages at most.
    ///
    /// # Errors
    ///
    /// For the first mailbox or [`handle`](Self::handle): there is no descriptor to be woken by
    /// (eventfd(2)). For [`blocking`](crate::blocking) work: a thread cannot be started. The mailbox
    /// has ended then.
    ///
    /// # Cost
    ///
    /// The first time, for a mailbox or a handle, an eventfd(2), which stays as long as the reactor, and
    /// its registration (epoll_ctl(2)). For blocking work, its threads (clone(2)); they are not joined.
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor.
    pub fn attach<H, M>(&mut self, handler: HandlerId<H>, inbox: Inbox<M>) -> io::Result<()>
    where
        H: MessageHandler<M>,
        M: 'static,
    {
        self.core.assert_own(handler);
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

    /// Delivers what is in the inboxes now, within the turn's budget. What is posted meanwhile rings
    /// again, and belongs to the next turn; so does what is left over by the budget, or when a panic
    /// goes through.
    #[cold]
    #[inline(never)]
    fn deliver_mail(&mut self) {
        // Out of the reactor's hands, whose handlers are called. They cannot attach another one.
        let mut inboxes = std::mem::take(&mut self.mailroom.inboxes);
        for inbox in &mut inboxes {
            inbox.begin();
        }
        let mut shares = Shares::new(self.core.limits.messages_per_turn_max, self.mailroom.last);
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
            while let Some(inbox) = shares.next(&mut inboxes) {
                self.deliver_next(inbox);
            }
        })) {
            if let Err(panic) = self.contain(panic) {
                self.mailroom.inboxes = inboxes;
                self.mailroom.ring();
                resume_unwind(panic);
            }
        }
        self.mailroom.last = None;
        if inboxes.iter().any(|inbox| inbox.has_next()) {
            self.mailroom.last = Some(shares.at);
            self.mailroom.ring();
        }
        inboxes.retain(|inbox| !inbox.is_done());
        self.mailroom.inboxes = inboxes;
    }

    fn deliver_next(&mut self, inbox: &mut dyn AnyInbox) {
        if let Some(next) = inbox.next() {
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

    /// The end of all mailboxes: for a reactor that stops. A panic of what is dropped goes through, when
    /// all is.
    pub(crate) fn end_mail(&mut self) {
        let mut dropping = Dropping::default();
        for mut inbox in std::mem::take(&mut self.mailroom.inboxes) {
            let left = inbox.end(&mut dropping);
            self.core.stats.messages_undelivered += left.messages as u64;
            self.core.stats.jobs_unanswered += left.jobs as u64;
        }
        self.mailroom.requests.forget_stop();
        dropping.finish();
    }
}

/// How the inboxes share a turn's budget: in rounds, in each of which every one that has more gets an
/// equal part of what is left. So a mailbox that is never empty takes nothing from the others but what
/// they leave, and there are at most two rounds more than inboxes.
struct Shares {
    left: usize,
    /// The inbox that is being delivered, and how many more it may in this round.
    at: usize,
    part_left: usize,
    part: usize,
    /// How many inboxes have their turn in this round yet.
    to_come: usize,
}

impl Shares {
    /// The first round begins after `last`, so that with more inboxes than budget none is always too
    /// late.
    fn new(left: usize, last: Option<usize>) -> Shares {
        Shares { left, at: last.unwrap_or(usize::MAX), part_left: 0, part: 0, to_come: 0 }
    }

    /// Whose next message is to be delivered.
    fn next<'a>(&mut self, inboxes: &'a mut [Box<dyn AnyInbox>]) -> Option<&'a mut dyn AnyInbox> {
        while self.left > 0 {
            if self.part_left > 0 && inboxes[self.at].has_next() {
                self.part_left -= 1;
                self.left -= 1;
                return Some(&mut *inboxes[self.at]);
            }
            if self.to_come == 0 {
                let with_more = inboxes.iter().filter(|inbox| inbox.has_next()).count();
                if with_more == 0 {
                    return None;
                }
                self.part = (self.left / with_more).max(1);
                self.to_come = inboxes.len();
            }
            self.to_come -= 1;
            self.at = self.at.wrapping_add(1);
            if self.at >= inboxes.len() {
                self.at = 0; // also when some that were before it are gone
            }
            self.part_left = self.part;
        }
        None
    }
}
