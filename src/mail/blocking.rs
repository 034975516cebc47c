//! Work that blocks, on threads of its own; what comes of it is mail.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use log::error;

use super::dropping::{Dropping, drop_quietly};
use super::postbox::Postbox;
use super::sender::{Inbox, Letter, PostError, mailbox};
use crate::driver::Work;
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
/// ([`Stats::jobs_unanswered`](crate::Stats::jobs_unanswered)). Nobody waits for the threads: each of them ends after the job that it
/// does, and a process that ends does not wait for them either. When the last clone of the `Blocking`
/// is dropped, the jobs that it was given are still done and delivered.
///
/// # Panics
///
/// If one of the numbers is 0.
pub fn blocking<M: Send + 'static>(threads: usize, jobs_max: usize) -> (Blocking<M>, Inbox<M>) {
    assert!(threads > 0, "work is done by one thread at least");
    assert!(jobs_max > 0, "there is room for one job at least");
    let (sender, mut inbox) = mailbox(jobs_max);
    let pool = Arc::new(Pool {
        threads,
        jobs_max,
        waiting: Mutex::default(),
        changed: Condvar::new(),
        unanswered: AtomicUsize::new(0),
        is_closed: AtomicBool::new(false),
        results: Arc::clone(&sender.postbox),
    });
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
        // Under the lock, so that a thread that has looked is waiting by now.
        let waiting = self.pool.lock();
        self.pool.is_closed.store(true, Ordering::Release);
        self.pool.changed.notify_all();
        drop(waiting);
        // With no result to come, nothing else would have the inbox forgotten.
        self.pool.results.ring();
    }
}

struct Job<M> {
    /// Whom the result is for; `None` for the handler itself.
    to: Option<Key>,
    /// It is wanted as long as what this refers to is held; `None` if it always is.
    wanted: Option<Weak<()>>,
    run: Box<dyn FnOnce() -> M + Send>,
}

impl<M> Job<M> {
    fn is_wanted(&self) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.strong_count() > 0)
    }
}

/// What the threads, the givers and the inbox share.
struct Pool<M> {
    threads: usize,
    jobs_max: usize,
    waiting: Mutex<Waiting<M>>,
    /// There is a job, or there will be no more.
    changed: Condvar,
    /// Jobs whose result was not delivered yet. Invariant: at most `jobs_max`, which is the capacity
    /// of `results`; it grows under the lock only.
    unanswered: AtomicUsize,
    /// There is nobody left to give a job.
    is_closed: AtomicBool,
    results: Arc<Postbox<Letter<M>>>,
}

struct Waiting<M> {
    jobs: VecDeque<Job<M>>,
    submitted: u64,
    /// Nobody will look at a result.
    has_ended: bool,
}

impl<M> Default for Waiting<M> {
    fn default() -> Waiting<M> {
        Waiting { jobs: VecDeque::new(), submitted: 0, has_ended: false }
    }
}

impl<M> Waiting<M> {
    /// Takes out the jobs whose results nobody wants any more.
    fn take_unwanted(&mut self) -> VecDeque<Job<M>> {
        if self.jobs.iter().all(Job::is_wanted) {
            return VecDeque::new();
        }
        let (wanted, unwanted) =
            std::mem::take(&mut self.jobs).into_iter().partition(Job::is_wanted);
        self.jobs = wanted;
        unwanted
    }
}

impl<M> Pool<M> {
    fn lock(&self) -> MutexGuard<'_, Waiting<M>> {
        // Nothing of the user's is run under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Send + 'static> Pool<M> {
    fn submit<F>(
        &self,
        to: Option<Key>,
        wanted: Option<Weak<()>>,
        job: F,
    ) -> Result<(), PostError<F>>
    where
        F: FnOnce() -> M + Send + 'static,
    {
        let mut waiting = self.lock();
        if waiting.has_ended {
            return Err(PostError::Ended(job));
        }
        // After it the places that delivered results have left in `results` are seen, too.
        let is_full = || self.unanswered.load(Ordering::Acquire) >= self.jobs_max;
        let given_up = if is_full() { waiting.take_unwanted() } else { VecDeque::new() };
        self.unanswered.fetch_sub(given_up.len(), Ordering::AcqRel);
        let result = if is_full() {
            Err(PostError::Full(job))
        } else {
            self.unanswered.fetch_add(1, Ordering::AcqRel);
            waiting.submitted += 1;
            waiting.jobs.push_back(Job { to, wanted, run: Box::new(job) });
            self.changed.notify_one();
            Ok(())
        };
        // Which may run code of the user's: outside of the lock.
        drop(waiting);
        drop_quietly(given_up);
        result
    }

    /// The next job; waits for it. `None` if there will be no more.
    fn next(&self) -> Option<Job<M>> {
        let mut waiting = self.lock();
        loop {
            if waiting.has_ended {
                return None;
            }
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if self.is_closed.load(Ordering::Acquire) {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn answer(&self, job: Job<M>) {
        let (message, panic) = match catch_unwind(AssertUnwindSafe(job.run)) {
            Ok(message) => (Some(message), None),
            Err(panic) => (None, Some(panic)),
        };
        if let Some(panic) = &panic {
            let text = message_of(&**panic);
            match job.to {
                Some(key) => error!("{key}: a blocking job panicked: {text}"),
                None => error!("a blocking job panicked: {text}"),
            }
        }
        // Refused only at the end of the reactor, at which results are dropped.
        let refused = self.results.post(Letter { to: job.to, message });
        // Either may panic when it is dropped, which must not end the thread.
        drop_quietly(refused);
        drop_quietly(panic);
    }
}

/// What was said by a panic.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl<M: Send + 'static> Work for Pool<M> {
    fn run(&self) {
        while let Some(job) = self.next() {
            self.answer(job);
        }
    }

    fn run_one(&self, number: usize) -> bool {
        let mut waiting = self.lock();
        let newest = waiting.jobs.len().saturating_sub(1);
        let Some(job) = waiting.jobs.remove(number.min(newest)) else { return false };
        drop(waiting);
        self.answer(job);
        true
    }

    fn submitted(&self) -> u64 {
        self.lock().submitted
    }
}

/// What an inbox knows of the jobs whose results it gets.
pub(super) trait Jobs: Send + Sync {
    /// A result was taken out.
    fn is_answered(&self);
    /// Whether no result will ever come again.
    fn is_over(&self) -> bool;
    /// Nobody will look at results any more: drops the jobs that have not begun. How many jobs are left
    /// without a result that was taken out.
    fn end(&self, dropping: &mut Dropping) -> usize;
    /// What the threads are to run, and how many there are to be.
    fn work(self: Arc<Self>) -> (Arc<dyn Work>, usize);
}

impl<M: Send + 'static> Jobs for Pool<M> {
    fn is_answered(&self) {
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
    }

    fn is_over(&self) -> bool {
        self.is_closed.load(Ordering::Acquire) && self.unanswered.load(Ordering::Acquire) == 0
    }

    fn end(&self, dropping: &mut Dropping) -> usize {
        let mut waiting = self.lock();
        waiting.has_ended = true;
        let jobs = std::mem::take(&mut waiting.jobs);
        drop(waiting);
        self.changed.notify_all();
        // Which runs code of the user's: outside of the lock.
        for job in jobs {
            dropping.drop(job);
        }
        self.unanswered.load(Ordering::Acquire)
    }

    fn work(self: Arc<Self>) -> (Arc<dyn Work>, usize) {
        let threads = self.threads;
        (self, threads)
    }
}
