//! A mailbox: the half that posts, and the half that a reactor reads.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::dropping::Dropping;
use super::pool::Jobs;
use super::postbox::{Postbox, Reader, Refused};
use crate::key::Key;

/// A message on its way.
#[derive(Debug)]
pub(super) struct Letter<M> {
    /// `None` for the handler itself. Whoever posts to a key may have any, also one of nobody.
    pub(super) to: Option<Key>,
    /// `None` from a job that panicked.
    pub(super) message: Option<M>,
}

/// Makes a mailbox with room for `capacity` messages: a sender, which may be cloned and may go to other
/// threads if `M` may, and an inbox, to be [attached](crate::Reactor::attach) to a
/// [`MessageHandler`](crate::MessageHandler). What is posted before that waits.
///
/// ```
/// use oneloop::{Connection, Context, Error, MessageHandler, Reactor, StreamHandler};
///
/// struct Sum(u32);
///
/// impl StreamHandler for Sum {
///     type Session = ();
///     fn on_open(&mut self, _: &mut Connection<'_>) {}
///     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
///         Ok(data.len())
///     }
/// }
///
/// impl MessageHandler<u32> for Sum {
///     fn on_handler_message(&mut self, message: u32, _: &mut Context<'_>) {
///         self.0 += message;
///     }
/// }
///
/// let (sender, inbox) = oneloop::mailbox(16);
/// let mut reactor = Reactor::new()?;
/// let sum = reactor.add(Sum(0));
/// reactor.attach(sum, inbox)?;
/// let thread = std::thread::spawn(move || {
///     for number in 1..=10 {
///         sender.post(number).expect("there is room");
///     }
/// });
/// reactor.run_until(|reactor| reactor.handler(sum).0 == 55)?;
/// # thread.join().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Cost
///
/// All the memory that the mailbox will ever use: that of `capacity` messages, and some words for each.
///
/// # Panics
///
/// If the capacity is 0.
pub fn mailbox<M>(capacity: usize) -> (Sender<M>, Inbox<M>) {
    let (postbox, reader) = Postbox::new(capacity);
    (Sender { postbox }, Inbox { reader, jobs: None })
}

/// Posts messages to a handler and its connections, from any thread. Clones post to the same mailbox.
///
/// A mailbox ends when the reactor that it is attached to stops or is dropped, or when its inbox is
/// dropped without having been attached. What waits in it then is dropped there, on the thread that does
/// it; a stop counts it ([`Stats::messages_undelivered`](crate::Stats::messages_undelivered)). A message
/// that panics when it is dropped costs no other one: the panic goes through when all are dropped.
///
/// When the last clone is dropped, what was posted is still delivered, and then the reactor forgets the
/// mailbox. For that it is woken, as by [`post`](Self::post).
pub struct Sender<M> {
    pub(super) postbox: Arc<Postbox<Letter<M>>>,
}

impl<M> Sender<M> {
    /// Posts a message to the handler: [`on_handler_message`](crate::MessageHandler::on_handler_message).
    ///
    /// # Errors
    ///
    /// The mailbox is full, or has ended. The error has the message.
    ///
    /// # Cost
    ///
    /// It never waits, neither for the reactor nor for other threads, and allocates nothing. If the
    /// reactor waits in the kernel, and nobody has posted anything since it does, a write to an
    /// eventfd; else no system call.
    pub fn post(&self, message: M) -> Result<(), PostError<M>> {
        self.put(None, message)
    }

    /// Posts a message to a connection: [`on_message`](crate::MessageHandler::on_message), or
    /// [`on_undelivered`](crate::MessageHandler::on_undelivered) if it is not open when the message
    /// arrives. A key may come a long way: as plain data it can be sent to a thread and back.
    ///
    /// # Errors
    ///
    /// As [`post`](Self::post).
    ///
    /// # Cost
    ///
    /// As [`post`](Self::post).
    pub fn post_to(&self, key: Key, message: M) -> Result<(), PostError<M>> {
        self.put(Some(key), message)
    }

    fn put(&self, to: Option<Key>, message: M) -> Result<(), PostError<M>> {
        let message_of = |letter: Letter<M>| letter.message.expect("a letter with a message");
        match self.postbox.post(Letter { to, message: Some(message) }) {
            Ok(()) => Ok(()),
            Err(Refused::Full(letter)) => Err(PostError::Full(message_of(letter))),
            Err(Refused::Ended(letter)) => Err(PostError::Ended(message_of(letter))),
        }
    }

    /// Whether nobody will read what is posted any more: every post is refused.
    pub fn has_ended(&self) -> bool {
        self.postbox.has_ended()
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        self.postbox.add_poster();
        Sender { postbox: Arc::clone(&self.postbox) }
    }
}

/// The last one has the reactor forget the mailbox, once it has delivered what is in it.
impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        self.postbox.remove_poster();
    }
}

impl<M> fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("capacity", &self.postbox.capacity()).finish_non_exhaustive()
    }
}

/// The half of a mailbox that is to be [attached](crate::Reactor::attach) to a handler. It may go to
/// another thread before, to the one that makes the reactor.
pub struct Inbox<M> {
    pub(super) reader: Reader<Letter<M>>,
    /// What there is to be done for those who post, if these are jobs.
    pub(super) jobs: Option<Arc<dyn Jobs>>,
}

/// What an inbox held at its end.
#[derive(Clone, Copy, Default)]
pub(super) struct Left {
    pub(super) messages: usize,
    /// Jobs without a result, or whose result was not delivered.
    pub(super) jobs: usize,
}

impl<M> Inbox<M> {
    /// From now on nothing is taken. Drops what waits; the second time, nothing.
    pub(super) fn end(&mut self, dropping: &mut Dropping) -> Left {
        let jobs = self.jobs.as_ref().map(|jobs| jobs.end(dropping));
        let mut letters = 0;
        for letter in self.reader.end() {
            letters += 1;
            dropping.drop(letter);
        }
        match jobs {
            Some(jobs) => Left { messages: 0, jobs }, // of which the letters are results
            None => Left { messages: letters, jobs: 0 },
        }
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        let mut dropping = Dropping::default();
        self.end(&mut dropping);
        dropping.finish();
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

/// Why a message was not taken. It has the message.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostError<M> {
    /// There is no room for it now: the mailbox holds as many messages as it may, or there are as many jobs
    /// without a delivered result.
    Full(M),
    /// Nobody will read it: the reactor has stopped, or is gone.
    Ended(M),
}

impl<M> PostError<M> {
    /// The message, back.
    pub fn into_message(self) -> M {
        match self {
            PostError::Full(message) | PostError::Ended(message) => message,
        }
    }

    /// Whether there may be room later.
    pub fn is_full(&self) -> bool {
        matches!(self, PostError::Full(_))
    }
}

impl<M> fmt::Debug for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "Full(..)" } else { "Ended(..)" })
    }
}

impl<M> fmt::Display for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostError::Full(_) => "the mailbox is full",
            PostError::Ended(_) => "the reactor has ended",
        })
    }
}

impl<M> Error for PostError<M> {}
