//! The reactor's part: who takes look-ups to helper threads, and what comes back.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use log::{debug, error};

use super::{NameError, Resolver};
use crate::address::Endpoint;
use crate::command::Command;
use crate::connection::Connection;
use crate::context::Context;
use crate::driver::Driver;
use crate::error::{ConnectError, Error};
use crate::handler::{MessageHandler, StreamHandler};
use crate::key::Key;
use crate::mail::{Blocking, PostError, blocking, drop_quietly, message_of};
use crate::reactor::{HandlerId, Reactor};

/// A look-up mostly waits for a server far away, and one that does not answer takes a thread for seconds.
const THREADS: usize = 4;
/// As many as wait for those threads have a chance of an answer within a connect's time.
const LOOK_UPS_MAX: usize = 256;

/// What a reactor has for look-ups. Threads, a mailbox and the handler that reads it there are from the first
/// look-up on.
pub(crate) struct Names {
    /// The driver's, unless the user gave one.
    resolver: Option<Arc<dyn Resolver>>,
    threads: usize,
    look_ups_max: usize,
    handler: Option<HandlerId<Desk>>,
    blocking: Option<Blocking<Answer>>,
}

impl Default for Names {
    fn default() -> Names {
        let (threads, look_ups_max) = (THREADS, LOOK_UPS_MAX);
        Names { resolver: None, threads, look_ups_max, handler: None, blocking: None }
    }
}

/// What became of a look-up.
#[derive(Debug)]
pub(crate) enum Outcome {
    Found(Vec<SocketAddr>),
    NotFound,
    Failed,
    /// ... by a panic.
    Panicked,
}

/// ... and for whom it was.
pub(crate) struct Answer {
    key: Key,
    /// Which of the look-ups for that connection.
    look_up: Weak<()>,
    /// `None` if it was not made, because nobody waited for it any longer.
    outcome: Option<Outcome>,
}

fn look_up(key: Key, resolver: &dyn Resolver, endpoint: &Endpoint) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| resolver.addresses(endpoint))) {
        Ok(Ok(found)) if found.is_empty() => Outcome::NotFound,
        Ok(Ok(found)) => Outcome::Found(found),
        Ok(Err(NameError::NotFound)) => Outcome::NotFound,
        Ok(Err(NameError::Failed(error))) => {
            debug!("{key}: look-up of {endpoint}: {error}");
            Outcome::Failed
        }
        Err(panic) => {
            error!("{key}: a look-up of {endpoint} panicked: {}", message_of(&*panic));
            drop_quietly(panic);
            Outcome::Panicked
        }
    }
}

/// Takes the answers to the phase in which connects begin. It serves no connections of its own.
pub(crate) struct Desk;

impl StreamHandler for Desk {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

impl MessageHandler<Answer> for Desk {
    fn on_handler_message(&mut self, answer: Answer, cx: &mut Context<'_>) {
        let Answer { key, look_up, outcome } = answer;
        if let Some(outcome) = outcome {
            cx.core.commands.push_back(Command::LookedUp { key, look_up, outcome });
        }
    }
}

impl<D: Driver> Reactor<D> {
    /// Who is asked for names from now on, by up to `threads` helper threads, with at most `look_ups_max`
    /// look-ups that wait or are being made: one more fails as
    /// [`ResolverBusy`](ConnectError::ResolverBusy). By default it is the system, or the simulation, with
    /// 4 threads and 256 look-ups.
    ///
    /// A look-up is a job as [`blocking`](crate::blocking()) has them, and counted as such. Those that are under
    /// way are answered by whom they asked. One whose connection, or try, has ended meanwhile is not begun, and leaves
    /// its place to another; one that has begun has its thread until it is answered.
    ///
    /// # Panics
    ///
    /// If one of the numbers is 0.
    pub fn set_resolver(&mut self, resolver: impl Resolver, threads: usize, look_ups_max: usize) {
        assert!(threads > 0, "look-ups are made by one thread at least");
        assert!(look_ups_max > 0, "there is room for one look-up at least");
        self.names.resolver = Some(Arc::new(resolver));
        (self.names.threads, self.names.look_ups_max) = (threads, look_ups_max);
        // The next look-up makes threads anew; these end after their last one.
        self.names.blocking = None;
    }

    /// Who is asked for names. What it does blocks: it is for [`blocking`](crate::blocking()) work.
    pub fn resolver(&self) -> Arc<dyn Resolver> {
        match &self.names.resolver {
            Some(resolver) => Arc::clone(resolver),
            None => self.sockets.driver.resolver(),
        }
    }

    /// Has a name looked up for a connection; [`Command::LookedUp`] tells what came of it. Whoever drops what this
    /// returns does not wait for that any longer: a look-up that has not begun is not made.
    ///
    /// # Errors
    ///
    /// There is no room for it, or there are no threads.
    pub(crate) fn begin_look_up(
        &mut self,
        key: Key,
        endpoint: Arc<Endpoint>,
    ) -> Result<Arc<()>, ConnectError> {
        let resolver = self.resolver();
        let waits = Arc::new(());
        let (wanted, own) = (|| Arc::downgrade(&waits), Arc::downgrade(&waits));
        let mut job = move || {
            let is_wanted = own.strong_count() > 0;
            let outcome = is_wanted.then(|| look_up(key, &*resolver, &endpoint));
            Answer { key, look_up: own, outcome }
        };
        if let Some(blocking) = &self.names.blocking {
            job = match blocking.run_while(wanted(), job) {
                Ok(()) => return Ok(waits),
                Err(PostError::Full(_)) => return Err(ConnectError::ResolverBusy),
                Err(PostError::Ended(job)) => job, // with the reactor's last stop
            };
        }
        let (blocking, inbox) = blocking(self.names.threads, self.names.look_ups_max);
        let handler = match self.names.handler {
            Some(handler) => handler,
            None => self.add(Desk),
        };
        self.names.handler = Some(handler);
        self.attach(handler, inbox).map_err(|error| {
            error!("{key}: no threads to look names up: {error}");
            ConnectError::of_error(&error)
        })?;
        let begun = blocking.run_while(wanted(), job).map_err(|_| ConnectError::ResolverBusy);
        self.names.blocking = Some(blocking);
        begun.map(|()| waits)
    }
}
