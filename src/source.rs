//! Raw sources: readiness without the reactor's own I/O.

use std::io;

use crate::command::Host;
use crate::context::Context;
use crate::core::{Core, Source};
use crate::driver::{Driver, RawSource};
use crate::error::CloseReason;
use crate::handler::{Drained, SourceHandler};
use crate::key::Key;
use crate::reactor::Reactor;
use crate::readiness::{Interest, Readiness};
use crate::watchdog::timed;

/// The driver-free half of a raw source.
#[derive(Debug)]
pub(crate) struct Raw {
    /// Where its other half is.
    pub(crate) slot: usize,
    pub(crate) readiness: Readiness,
    pub(crate) queued: bool,
    /// Set when it is over.
    pub(crate) reason: Option<CloseReason>,
}

/// A raw source and its handler, with their types erased.
pub(crate) trait AnyRaw<D> {
    fn readable(&mut self, key: Key, cx: &mut Context<'_>) -> Drained;
    fn writable(&mut self, key: Key, cx: &mut Context<'_>) -> Drained;
    fn register(&mut self, driver: &mut D, key: Key, interest: Interest) -> io::Result<()>;
    fn deregister(&mut self, driver: &mut D) -> io::Result<()>;
    fn close(self: Box<Self>, key: Key, reason: CloseReason, cx: &mut Context<'_>);
}

struct Pair<H: SourceHandler> {
    handler: H,
    source: H::Source,
}

impl<D, H> AnyRaw<D> for Pair<H>
where
    H: SourceHandler,
    H::Source: RawSource<D>,
{
    fn readable(&mut self, key: Key, cx: &mut Context<'_>) -> Drained {
        timed::<H, _, _>(cx, key, "on_readable", |cx| {
            self.handler.on_readable(key, &mut self.source, cx)
        })
    }

    fn writable(&mut self, key: Key, cx: &mut Context<'_>) -> Drained {
        timed::<H, _, _>(cx, key, "on_writable", |cx| {
            self.handler.on_writable(key, &mut self.source, cx)
        })
    }

    fn register(&mut self, driver: &mut D, key: Key, interest: Interest) -> io::Result<()> {
        self.source.register(driver, key, interest)
    }

    fn deregister(&mut self, driver: &mut D) -> io::Result<()> {
        self.source.deregister(driver)
    }

    fn close(self: Box<Self>, key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        let Pair { mut handler, source } = *self;
        timed::<H, _, _>(cx, key, "on_close", |cx| handler.on_close(source, key, reason, cx));
    }
}

/// The handler number of callbacks that have no stream handler.
pub(crate) const NO_HANDLER: u16 = u16::MAX;

fn context<'a>(core: &'a mut Core, host: &'a dyn Host) -> Context<'a> {
    Context { core, host, handler: NO_HANDLER }
}

impl<D: Driver> Reactor<D> {
    /// Registers a source of one's own; its key names it from now on. It has to be non-blocking: some
    /// are made that way (`mio::unix::pipe::new`), others have to be told (a pipe to a child process,
    /// `set_nonblocking(true)`), and one that is not holds up the whole loop.
    ///
    /// # Errors
    ///
    /// Those of registering, epoll_ctl(2): among others, `PermissionDenied` for a regular file.
    pub fn add_source<H>(
        &mut self,
        handler: H,
        source: H::Source,
        interest: Interest,
    ) -> io::Result<Key>
    where
        H: SourceHandler,
        H::Source: RawSource<D>,
    {
        let entry = self.raws.vacant_entry();
        let raw =
            Raw { slot: entry.key(), readiness: Readiness::EMPTY, queued: false, reason: None };
        let key = self.core.sources.insert(Source::Raw(Box::new(raw)));
        let mut pair: Box<dyn AnyRaw<D>> = Box::new(Pair { handler, source });
        if let Err(error) = pair.register(&mut self.sockets.driver, key, interest) {
            self.core.sources.remove(key);
            return Err(error);
        }
        entry.insert(pair);
        Ok(key)
    }

    /// The ready phase's part.
    #[inline(never)]
    pub(crate) fn run_raw(&mut self, key: Key) {
        let Some(raw) = self.core.raw_mut(key) else { return };
        raw.queued = false;
        let ready = std::mem::take(&mut raw.readiness);
        let slot = raw.slot;
        if raw.reason.is_some() {
            return;
        }
        let is_any = |hint: Readiness| ready.0 & hint.0 != 0;
        let mut left = Readiness::EMPTY;
        self.core.running = key;
        if is_any(Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR) {
            let mut cx = context(&mut self.core, &self.sockets);
            if self.raws[slot].readable(key, &mut cx) == Drained::No {
                left = left | Readiness::READABLE;
            }
        }
        let is_over = self.core.raw_mut(key).is_none_or(|raw| raw.reason.is_some());
        if !is_over && is_any(Readiness::WRITABLE | Readiness::ERROR) {
            let mut cx = context(&mut self.core, &self.sockets);
            if self.raws[slot].writable(key, &mut cx) == Drained::No {
                left = left | Readiness::WRITABLE;
            }
        }
        self.core.running = Key::NONE;
        if left != Readiness::EMPTY
            && let Some(raw) = self.core.raw_mut(key)
        {
            raw.readiness = raw.readiness | left;
            self.core.queue(key);
        }
        self.hold_to_memory();
    }

    /// The reap phase's part.
    pub(crate) fn reap_raw(&mut self, key: Key, raw: &Raw) {
        let mut pair = self.raws.remove(raw.slot);
        if let Err(error) = pair.deregister(&mut self.sockets.driver) {
            // Its user may have closed it already; what matters is that it reports nothing more.
            log::debug!("{key}: not deregistered: {error}");
        }
        let reason = raw.reason.unwrap_or(CloseReason::Stopped);
        pair.close(key, reason, &mut context(&mut self.core, &self.sockets));
    }
}
