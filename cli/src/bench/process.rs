//! What /proc tells about a process: proc(5).

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

/// CPU time that a process used since it began.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct CpuTime {
    /// What the scheduler counted, to the nanosecond, over the threads that live; brought up to date
    /// when a thread stops running, so it is exact while the process waits.
    pub(crate) total: Duration,
    /// In user mode, sampled by the kernel in ticks of 10 ms: good for a share, not for a sum.
    pub(crate) user: Duration,
    /// In the kernel, sampled likewise.
    pub(crate) system: Duration,
}

impl CpuTime {
    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            total: self.total.saturating_sub(earlier.total),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// The user part of the whole, between 0 and 1; `None` before the first tick.
    pub(crate) fn user_share(self) -> Option<f64> {
        let sum = (self.user + self.system).as_secs_f64();
        (sum > 0.0).then(|| self.user.as_secs_f64() / sum)
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

    /// # Errors
    ///
    /// The process is gone.
    pub(crate) fn cpu_time(self) -> Result<CpuTime> {
        let stat = self.stat()?;
        let ticks = |field: usize| -> Result<Duration> {
            let ticks: u32 = stat.get(field).context("/proc/PID/stat is short")?.parse()?;
            Ok(TICK * ticks)
        };
        // Fields 14 and 15 of proc_pid_stat(5); the list begins with field 3.
        let (user, system) = (ticks(11)?, ticks(12)?);
        let total = self.scheduled().unwrap_or(user + system);
        Ok(CpuTime { total, user, system })
    }

    /// Field 3 and following of /proc/PID/stat: those after the name, which may contain anything.
    fn stat(self) -> Result<Vec<String>> {
        let text = self.read("stat").with_context(|| format!("process {} is gone", self.pid))?;
        let (_, rest) = text.rsplit_once(')').context("/proc/PID/stat has no name")?;
        Ok(rest.split_whitespace().map(String::from).collect())
    }

    /// The sum over all threads; `None` where the kernel keeps no such statistics.
    fn scheduled(self) -> Option<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid)).ok()? {
            let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
                continue;
            };
            nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Resident bytes but for the pages of files: of the program's own text, more or fewer are mapped
    /// from run to run, by a hundred KiB. Exact where the kernel can tell (`smaps_rollup`), and we may
    /// ask; the cheaper counter lags by up to some dozen pages a core.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(crate) fn anonymous_bytes(self) -> Result<u64> {
        let status =
            self.read("status").with_context(|| format!("process {} is gone", self.pid))?;
        let text = self.read("smaps_rollup").unwrap_or(status);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if matches!(words.next(), Some("Anonymous:" | "RssAnon:")) {
                let kib: u64 = words.next().context("/proc names no resident size")?.parse()?;
                return Ok(kib * 1024);
            }
        }
        bail!("/proc names no resident size of process {}", self.pid)
    }

    /// # Errors
    ///
    /// The process is gone.
    pub(crate) fn threads(self) -> Result<usize> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid));
        Ok(tasks.with_context(|| format!("process {} is gone", self.pid))?.count())
    }

    /// The processes whose parent is this one.
    pub(crate) fn children(self) -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let processes = numbers.map(|pid| Process { pid });
        // Field 4 is the parent.
        let is_ours =
            |stat: Vec<String>| stat.get(1).is_some_and(|ppid| *ppid == self.pid.to_string());
        processes.filter(|process| process.stat().is_ok_and(is_ours)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_measured() {
        let process = Process::new(std::process::id()).unwrap();
        assert!(process.anonymous_bytes().unwrap() > 0);
        assert!(process.threads().unwrap() > 0);
        let before = process.cpu_time().unwrap();
        while process.cpu_time().unwrap().since(before).total.is_zero() {}
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // Linux gives out no number over 2^22.
        let error = Process::new(1 << 23).unwrap_err();
        assert!(error.to_string().contains("no process 8388608"), "{error}");
    }
}
