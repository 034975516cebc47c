//! Mail: what other threads send to a reactor.
//!
//! ```text
//!   sender.rs      Sender, Inbox: what users have        blocking.rs   Blocking: what has jobs done
//!   pool.rs        the jobs, and their results
//!   mailroom.rs    what the reactor has: its bell, the inboxes, the mail phase
//!   attached.rs    an inbox whose handler is known, with its types erased
//!   dropping.rs    dropping messages and jobs, which may panic
//!   postbox.rs     a queue with a bell and an end  ┐
//!   queue.rs       a bounded queue                 ├ what other threads enter; checked by tests/model
//!   bell.rs        awake, asleep, rung             ┘
//!   sync.rs        what these are built of
//! ```

mod attached;
mod bell;
mod blocking;
mod dropping;
mod mailroom;
mod pool;
mod postbox;
mod queue;
mod sender;
mod sync;
#[cfg(test)]
mod tests;

pub use blocking::{Blocking, blocking};
pub use sender::{Inbox, PostError, Sender, mailbox};

pub(crate) use bell::Bell;
pub(crate) use dropping::drop_quietly;
pub(crate) use mailroom::Mailroom;
pub(crate) use pool::message_of;
