//! The jobs that block: given by some, done by helper threads, each with a result that has its place from the beginning.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use log::error;

use super::dropping::{Dropping, drop_quietly};
use super::postbox::Postbox;
use super::sender::{Letter, PostError};
use crate::driver::Work;
use crate::key::Key;
use crate::one_line::OneLine;

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
pub(super) struct Pool<M> {
    pub(super) threads: usize,
    pub(super) jobs_max: usize,
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
    /// Threads that wait for a job. The others look for one before they do, so no system call has to wake them.
    idle: usize,
    /// Nobody will look at a result.
    has_ended: bool,
}

impl<M> Default for Waiting<M> {
    fn default() -> Waiting<M> {
        Waiting { jobs: VecDeque::new(), submitted: 0, idle: 0, has_ended: false }
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
    /// Whose results go to a box that has room for `jobs_max`.
    pub(super) fn new(
        threads: usize,
        jobs_max: usize,
        results: Arc<Postbox<Letter<M>>>,
    ) -> Pool<M> {
        Pool {
            threads,
            jobs_max,
            waiting: Mutex::default(),
            changed: Condvar::new(),
            unanswered: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            results,
        }
    }

    /// Nobody will give a job again.
    pub(super) fn close(&self) {
        // Under the lock, so that a thread that has looked is waiting by now.
        let waiting = self.lock();
        self.is_closed.store(true, Ordering::Release);
        self.changed.notify_all();
        drop(waiting);
        // With no result to come, nothing else would have the inbox forgotten.
        self.results.ring();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<M>> {
        // Nothing of the user's is run under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Send + 'static> Pool<M> {
    /// Has a job done whose result is for connection `to`, or for the handler itself. It is worth doing as long as
    /// what `wanted` refers to is held, always if that is `None`: one that is not gives its place to another, and is
    /// dropped then.
    pub(super) fn submit<F>(
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
            Ok(())
        };
        let wakes = result.is_ok() && waiting.idle > 0;
        // A thread that is woken takes it at once, and what follows may run code of the user's.
        drop(waiting);
        if wakes {
            self.changed.notify_one();
        }
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
            waiting.idle += 1;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
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
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> OneLine<&str> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    OneLine::new(text.unwrap_or("no message"))
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
