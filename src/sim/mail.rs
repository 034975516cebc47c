//! What a simulated host has for mail: an end of its poll, and jobs without threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::decisions::Matter;
use super::net::{Event, Net};
use crate::driver::{Wake, Work};
use crate::key::Key;

/// The longest that a simulated job takes, in microseconds, unless it is slow.
const JOB_MICROS_MAX: u64 = 10_000;

/// Of one host. Posts come from handlers and from a test's own code between the steps, so that nothing
/// here depends on threads; one that does start some has left the simulation.
#[derive(Debug, Default)]
pub(crate) struct HostMail {
    waker: Arc<Woken>,
    crews: Vec<Crew>,
}

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The workers of one [`Work`].
struct Crew {
    work: Arc<dyn Work>,
    workers: usize,
    /// Jobs that were seen, each of which has a moment at which one is done.
    seen: u64,
    /// Those whose moment is yet to come.
    waiting: usize,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl HostMail {
    pub(crate) fn waker(&self) -> Arc<dyn Wake> {
        Arc::<Woken>::clone(&self.waker)
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.waker.0.load(Ordering::Acquire)
    }

    pub(crate) fn take_wake(&self) -> bool {
        self.waker.0.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn add_workers(&mut self, work: &Arc<dyn Work>, workers: usize) {
        self.crews.push(Crew { work: Arc::clone(work), workers, seen: 0, waiting: 0 });
    }
}

impl Net {
    /// Gives each job that was submitted since the last time a moment at which it will be done.
    pub(crate) fn begin_jobs(&mut self, host: u32) {
        for crew in 0..self.host(host).mail.crews.len() {
            loop {
                let one = &mut self.host(host).mail.crews[crew];
                if one.seen == one.work.submitted() {
                    break;
                }
                one.seen += 1;
                one.waiting += 1;
                let of = host as usize;
                let micros = 1 + self.decisions.below(Matter::JobTime, of, JOB_MICROS_MAX);
                let mut at = self.now + Duration::from_micros(micros);
                let faults = self.faults(host);
                if let Some(mut how) = self.decisions.chance(Matter::SlowJob, of, faults.slow_jobs)
                {
                    let nanos = faults.slow_job_max.as_nanos() as u64;
                    at = at + Duration::from_nanos(how.below(nanos));
                }
                self.send(at, Event::Job { host, crew });
            }
        }
    }

    /// A job is done: one of those that the workers would have taken up.
    pub(crate) fn do_job(&mut self, host: u32, crew: usize) {
        let one = &mut self.host(host).mail.crews[crew];
        let (work, taken_up) = (Arc::clone(&one.work), one.workers.min(one.waiting));
        one.waiting -= 1;
        let number = self.decisions.below(Matter::JobOrder, host as usize, taken_up as u64);
        self.log(host, "job", Key::NONE, number);
        let failed_lookups = self.faults(host).failed_lookups;
        let fails = self.decisions.chance(Matter::FailedLookup, host as usize, failed_lookups);
        self.names.begin_job(fails.is_some());
        work.run_one(number as usize);
        if self.names.has_failed() {
            self.log_error(host, "look up", Key::NONE, "Failed");
        }
    }
}
