//! Work that blocks, on threads of its own; what comes of it is mail.

use std::fmt;
use std::sync::{Arc, Weak};

use super::pool::Pool;
use super::sender::{Inbox, PostError, mailbox};
use crate::key::Key;

/// Makes helper threads for work that blocks (files, name look-up, databases, long computations),
/// which would hold up every connection if a callback did it: a [`Blocking`] to give jobs to, and an
/// inbox, to be [attached](crate::Reactor::attach) to the handler that gets the results. At most
/// `jobs_max` jobs are waiting, being done, or done with the result not delivered.
///
/// ```
/// use oneloop::{Blocking, Connection, Error, MessageHandler, Reactor, StreamHandler};
///
/// /// Answers each request with the first line of the file that it names.
/// struct FirstLine {
///     blocking: Blocking<String>,
/// }
///
/// impl StreamHandler for FirstLine {
///     type Session = ();
///
///     fn on_open(&mut self, _: &mut Connection<'_>) {}
///
///     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
///         let path = String::from_utf8_lossy(data).trim().to_owned();
///         self.blocking.run_for(conn.key(), move || match std::fs::read_to_string(path) {
///             Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
///             Err(error) => error.to_string(),
///         })?; // too many at once: this connection closes
///         Ok(data.len())
///     }
/// }
///
/// impl MessageHandler<String> for FirstLine {
///     fn on_message(&mut self, _: &mut (), conn: &mut Connection<'_>, line: String) {
///         conn.send(line.as_bytes()).ignore();
///     }
/// }
///
/// let (blocking, inbox) = oneloop::blocking(4, 64);
/// let mut reactor = Reactor::new()?;
/// let handler = reactor.add(FirstLine { blocking });
/// reactor.attach(handler, inbox)?; // which starts the threads
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # The end
///
/// When the reactor stops or is dropped, jobs that have not begun are dropped, and the results of the
/// others when they are done; a stop counts both
/// ([`Stats::jobs_unanswered`](crate::Stats::jobs_unanswered)). Nobody waits for the threads: each of them ends
/// after the job that it does, and a process that ends does not wait for them either. When the last clone of the
/// `Blocking` is dropped, the jobs that it was given are still done and delivered.
///
/// # Panics
///
/// If one of the numbers is 0.
pub fn blocking<M: Send + 'static>(threads: usize, jobs_max: usize) -> (Blocking<M>, Inbox<M>) {
    assert!(threads > 0, "work is done by one thread at least");
    assert!(jobs_max > 0, "there is room for one job at least");
    let (sender, mut inbox) = mailbox(jobs_max);
    let pool = Arc::new(Pool::new(threads, jobs_max, Arc::clone(&sender.postbox)));
    inbox.jobs = Some(Arc::<Pool<M>>::clone(&pool));
    (Blocking { giver: Arc::new(Giver { pool }) }, inbox)
}

/// Gives jobs to helper threads; see [`blocking`](blocking()). Clones give to the same threads.
pub struct Blocking<M> {
    giver: Arc<Giver<M>>,
}

impl<M: Send + 'static> Blocking<M> {
    /// Has `job` done on a helper thread. What it returns is a message for connection `key`:
    /// [`on_message`](crate::MessageHandler::on_message), or
    /// [`on_undelivered`](crate::MessageHandler::on_undelivered) if that is not open by then. There is
    /// always room for it. If the job panics, that is logged and counted
    /// ([`Stats::job_panics`](crate::Stats::job_panics)), and the connection is closed as
    /// [`Panicked`](crate::CloseReason::Panicked).
    ///
    /// Jobs begin in the order in which they were given; with several threads they may end in any.
    ///
    /// # Errors
    ///
    /// There are as many jobs as there may be, or the reactor has ended. The error has the job.
    ///
    /// # Cost
    ///
    /// An allocation; a lock that is held for some instructions; a futex(2) call if a thread has
    /// nothing to do.
    pub fn run_for<F>(&self, key: Key, job: F) -> Result<(), PostError<F>>
    where
        F: FnOnce() -> M + Send + 'static,
    {
        self.giver.pool.submit(Some(key), None, job)
    }

    /// The same, with the result for the handler itself:
    /// [`on_handler_message`](crate::MessageHandler::on_handler_message). If the job panics, the
    /// handler does not hear of it.
    ///
    /// # Errors
    ///
    /// As [`run_for`](Self::run_for).
    ///
    /// # Cost
    ///
    /// As [`run_for`](Self::run_for).
    pub fn run<F>(&self, job: F) -> Result<(), PostError<F>>
    where
        F: FnOnce() -> M + Send + 'static,
    {
        self.giver.pool.submit(None, None, job)
    }

    /// As [`run`](Self::run), but a job that `wanted` says is not wanted any more, because what it refers to was
    /// dropped, gives way to another one for which there is no room otherwise. It is dropped then, and has no result.
    pub(crate) fn run_while<F>(&self, wanted: Weak<()>, job: F) -> Result<(), PostError<F>>
    where
        F: FnOnce() -> M + Send + 'static,
    {
        self.giver.pool.submit(None, Some(wanted), job)
    }
}

impl<M> Clone for Blocking<M> {
    fn clone(&self) -> Blocking<M> {
        Blocking { giver: Arc::clone(&self.giver) }
    }
}

impl<M> fmt::Debug for Blocking<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pool { threads, jobs_max, .. } = &*self.giver.pool;
        f.debug_struct("Blocking")
            .field("threads", threads)
            .field("jobs_max", jobs_max)
            .finish_non_exhaustive()
    }
}

/// What all clones share; when it is dropped, nobody will give a job again.
struct Giver<M> {
    pool: Arc<Pool<M>>,
}

impl<M> Drop for Giver<M> {
    fn drop(&mut self) {
        self.pool.close();
    }
}
