//! What /proc tells about a process: proc(5).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Pid;

/// A process by its number, ours or somebody else's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Process {
    pid: i32,
}

/// CPU time that a process and its descendants used since they began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CpuTime {
    /// What the scheduler counted, to the nanosecond, of each thread that lives; brought up to date when a thread stops
    /// running, so it is exact while all wait. Empty where the kernel keeps no such statistics.
    scheduled: BTreeMap<i32, u64>,
    /// In user mode, in ticks of 10 ms; threads that have ended are in it, and children that were waited for.
    user: Duration,
    /// In the kernel, likewise.
    system: Duration,
}

/// CPU time that was used between two moments.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct CpuSpent {
    pub(crate) total: Duration,
    /// The user part of the whole, between 0 and 1; `None` before the first tick.
    pub(crate) user_share: Option<f64>,
    /// Whether the total is one of ticks of 10 ms, because the scheduler's count does not have it all.
    pub(crate) is_by_ticks: bool,
}

impl CpuTime {
    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &CpuTime) -> CpuSpent {
        let mut scheduled = Duration::ZERO;
        for (thread, now) in &self.scheduled {
            let before = earlier.scheduled.get(thread).copied().unwrap_or(0);
            scheduled += Duration::from_nanos(now.saturating_sub(before));
        }
        let user = self.user.saturating_sub(earlier.user);
        let system = self.system.saturating_sub(earlier.system);
        let ticks = user + system;
        // A thread that has ended took its count with it. Each of the two readings of ticks is off by up to two of them.
        let has_lost_one = earlier.scheduled.keys().any(|id| !self.scheduled.contains_key(id));
        let has_all = !has_lost_one && !self.scheduled.is_empty();
        let is_by_ticks = !has_all || ticks > scheduled + 4 * TICK;
        let user_share = (!ticks.is_zero()).then(|| user.as_secs_f64() / ticks.as_secs_f64());
        CpuSpent { total: if is_by_ticks { ticks } else { scheduled }, user_share, is_by_ticks }
    }
}

/// The unit of utime and stime in /proc/PID/stat: USER_HZ, which is 100 wherever Linux runs today.
const TICK: Duration = Duration::from_millis(10);

impl Process {
    /// # Errors
    ///
    /// There is no such process, or its /proc directory may not be read.
    pub(crate) fn new(pid: u32) -> Result<Process> {
        let process = Process { pid: i32::try_from(pid).context("a process number is too large")? };
        process.read("stat").with_context(|| format!("there is no process {pid} to measure"))?;
        Ok(process)
    }

    pub(crate) fn pid(self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// For kill(2).
    pub(super) fn raw(self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }

    fn read(self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid))
    }

    /// Of it and its descendants.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(crate) fn cpu_time(self) -> Result<CpuTime> {
        let mut time = self.own_cpu_time()?;
        for descendant in self.descendants() {
            // One that is gone is with its parent.
            let Ok(more) = descendant.own_cpu_time() else { continue };
            time.scheduled.extend(more.scheduled);
            time.user += more.user;
            time.system += more.system;
        }
        Ok(time)
    }

    fn own_cpu_time(self) -> Result<CpuTime> {
        let stat = self.stat()?;
        // Fields 14 to 17 of proc_pid_stat(5): its own time and that of children that it waited for; the list begins with
        // field 3.
        let ticks = |field: usize| -> Result<Duration> {
            let ticks: u32 = stat.get(field).context("/proc/PID/stat is short")?.parse()?;
            Ok(TICK * ticks)
        };
        let (user, system) = (ticks(11)? + ticks(13)?, ticks(12)? + ticks(14)?);
        let nanos = |id: i32| {
            let text = self.read(&format!("task/{id}/schedstat")).ok()?;
            Some((id, text.split_whitespace().next()?.parse().ok()?))
        };
        let scheduled = self.threads()?.into_iter().filter_map(nanos).collect();
        Ok(CpuTime { scheduled, user, system })
    }

    /// Whether none of its threads, and of its descendants', is running or about to.
    pub(crate) fn is_asleep(self) -> bool {
        let sleeps = |process: Process| {
            let threads = process.threads().unwrap_or_default();
            threads.into_iter().all(|id| {
                let stat = process.read_stat(&format!("task/{id}/stat"));
                stat.is_ok_and(|stat| stat.first().is_some_and(|state| state != "R"))
            })
        };
        sleeps(self) && self.descendants().into_iter().all(sleeps)
    }

    fn stat(self) -> Result<Vec<String>> {
        self.read_stat("stat").with_context(|| format!("process {} is gone", self.pid))
    }

    /// Field 3 and following of a file such as /proc/PID/stat: those after the name, which may contain anything.
    fn read_stat(self, file: &str) -> Result<Vec<String>> {
        let text = self.read(file)?;
        let (_, rest) = text.rsplit_once(')').context("/proc/PID/stat has no name")?;
        Ok(rest.split_whitespace().map(String::from).collect())
    }

    /// Resident bytes, of it and its descendants, but for the pages of files: of the program's own text, more or fewer are
    /// mapped from run to run, by a hundred KiB. A page that several share counts once. Exact where the kernel can tell
    /// (`smaps_rollup`), and we may ask; the cheaper counter lags by up to some dozen pages a core.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(crate) fn anonymous_bytes(self) -> Result<u64> {
        let of_others = self.descendants().into_iter().map(Process::own_anonymous_bytes);
        // One that has just ended has none.
        Ok(self.own_anonymous_bytes()? + of_others.filter_map(Result::ok).sum::<u64>())
    }

    fn own_anonymous_bytes(self) -> Result<u64> {
        let status =
            self.read("status").with_context(|| format!("process {} is gone", self.pid))?;
        let text = self.read("smaps_rollup").unwrap_or(status);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            // The second one is that of kernels before 5.4.
            if matches!(words.next(), Some("Pss_Anon:" | "Anonymous:" | "RssAnon:")) {
                let kib: u64 = words.next().context("/proc names no resident size")?.parse()?;
                return Ok(kib * 1024);
            }
        }
        bail!("/proc names no resident size of process {}", self.pid)
    }

    /// How many threads it and its descendants have.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(crate) fn thread_count(self) -> Result<usize> {
        let of_others = self.descendants().into_iter().filter_map(|other| other.threads().ok());
        Ok(self.threads()?.len() + of_others.map(|threads| threads.len()).sum::<usize>())
    }

    fn threads(self) -> Result<Vec<i32>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid))
            .with_context(|| format!("process {} is gone", self.pid))?;
        Ok(tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect())
    }

    /// The processes whose parent is this one.
    pub(crate) fn children(self) -> Vec<Process> {
        let children = |id| self.read(&format!("task/{id}/children")).unwrap_or_default();
        let texts: Vec<String> =
            self.threads().unwrap_or_default().into_iter().map(children).collect();
        let numbers = texts.iter().flat_map(|text| text.split_whitespace());
        numbers.filter_map(|pid| Some(Process { pid: pid.parse().ok()? })).collect()
    }

    fn descendants(self) -> Vec<Process> {
        let mut found = self.children();
        let mut next = 0;
        while let Some(&process) = found.get(next) {
            found.extend(process.children());
            next += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_can_be_measured() {
        let process = Process::new(std::process::id()).unwrap();
        assert!(process.anonymous_bytes().unwrap() > 0);
        assert!(process.thread_count().unwrap() > 0);
        assert!(!process.is_asleep());
        let before = process.cpu_time().unwrap();
        while process.cpu_time().unwrap().since(&before).total.is_zero() {}
    }

    #[test]
    fn what_its_descendants_need_is_counted() {
        let script = "sh -c 'echo $$; while :; do :; done' & echo $$; wait";
        let mut shell =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut pid = || lines.next().unwrap().unwrap().parse::<u32>().unwrap();
        let busy = [pid(), pid()].into_iter().find(|pid| *pid != shell.id()).unwrap();
        let busy = Process::new(busy).unwrap();
        let process = Process::new(shell.id()).unwrap();
        let before = process.cpu_time().unwrap();
        assert!(process.anonymous_bytes().unwrap() > process.own_anonymous_bytes().unwrap());
        assert!(!process.is_asleep());
        let spent = loop {
            let spent = process.cpu_time().unwrap().since(&before);
            if spent.total > Duration::from_millis(50) {
                break spent;
            }
        };
        assert!(!spent.is_by_ticks, "{spent:?}");
        rustix::process::kill_process(busy.raw().unwrap(), rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn what_threads_took_that_ended_is_told_by_ticks() {
        let time = |threads: &[(i32, u64)], ticks: u32| CpuTime {
            scheduled: threads.iter().copied().collect(),
            user: TICK * ticks,
            system: Duration::ZERO,
        };
        let before = time(&[(1, 5_000_000), (2, 1_000_000)], 1);
        let spent = time(&[(1, 35_000_000), (2, 1_000_000), (3, 7_000_000)], 4).since(&before);
        assert_eq!((spent.total, spent.is_by_ticks), (Duration::from_millis(37), false));
        // One that was there is gone; one came and went in between; nothing is counted at all.
        let gone = time(&[(1, 35_000_000)], 4);
        let unseen = time(&[(1, 5_000_000), (2, 1_000_000)], 9);
        for (after, ticks) in [(gone, 3), (unseen, 8), (time(&[], 3), 2)] {
            let spent = after.since(&before);
            assert_eq!((spent.total, spent.is_by_ticks), (TICK * ticks, true));
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // Linux gives out no number over 2^22.
        let error = Process::new(1 << 23).unwrap_err();
        assert!(error.to_string().contains("no process 8388608"), "{error}");
    }
}
