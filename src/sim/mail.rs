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
    /// How many jobs were taken up.
    begun: u64,
    /// The numbers of those that are not done, in the order in which they were taken up.
    under_way: Vec<u64>,
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
        self.crews.push(Crew { work: Arc::clone(work), workers, begun: 0, under_way: Vec::new() });
    }
}

impl Net {
    /// Has each worker that is free take up a job, and draws how long that takes.
    pub(crate) fn begin_jobs(&mut self, host: u32) {
        for crew in 0..self.host(host).mail.crews.len() {
            loop {
                let one = &mut self.host(host).mail.crews[crew];
                if one.begun == one.work.submitted() || one.under_way.len() == one.workers {
                    break;
                }
                let number = one.begun;
                one.begun += 1;
                one.under_way.push(number);
                let of = host as usize;
                let micros = 1 + self.decisions.below(Matter::JobTime, of, JOB_MICROS_MAX);
                let mut at = self.now + Duration::from_micros(micros);
                let faults = self.faults(host);
                if let Some(mut how) = self.decisions.chance(Matter::SlowJob, of, faults.slow_jobs)
                {
                    let nanos = faults.slow_job_max.as_nanos() as u64;
                    at = at + Duration::from_nanos(how.below(nanos));
                }
                self.send(at, Event::Job { host, crew, number });
            }
        }
    }

    /// A job is done, and its worker takes up another one.
    pub(crate) fn do_job(&mut self, host: u32, crew: usize, number: u64) {
        let one = &mut self.host(host).mail.crews[crew];
        // Those that were taken up before it, and are not done, are in front of it.
        let Some(before) = one.under_way.iter().position(|begun| *begun == number) else { return };
        one.under_way.remove(before);
        let work = Arc::clone(&one.work);
        self.log(host, "job", Key::NONE, number);
        let (of, failed) = (host as usize, self.faults(host).failed_lookups);
        // Only the job itself knows whether it is a look-up.
        let fails = self.decisions.would_happen(Matter::FailedLookup, of, failed);
        self.names.begin_job(fails);
        work.run_one(before);
        if self.names.was_asked()
            && self.decisions.chance(Matter::FailedLookup, of, failed).is_some()
        {
            self.log_error(host, "look up", Key::NONE, "Failed");
        }
        self.begin_jobs(host);
    }
}
