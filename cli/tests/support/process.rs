//! Other processes, as /proc shows them: proc_pid_stat(5).

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A process that is told from later ones of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    parent: i32,
    state: String,
    started_at: String,
}

impl Process {
    fn read(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (before, after) = stat.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        // The list begins with field 3.
        let fields: Vec<&str> = after.split_whitespace().collect();
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Process {
            pid,
            name: name.into(),
            arguments: arguments.split_terminator('\0').map(String::from).collect(),
            parent: fields[1].parse().ok()?,
            state: fields[0].into(),
            started_at: fields[19].into(),
        })
    }

    /// All processes that this one started and that are still there.
    pub(crate) fn children_of(pid: u32) -> Vec<Process> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let processes = numbers.filter_map(Process::read);
        processes.filter(|process| process.parent.unsigned_abs() == pid).collect()
    }

    /// Whether it runs no more; nobody may have waited for it yet.
    pub(crate) fn is_gone(&self) -> bool {
        let now = Process::read(self.pid);
        now.is_none_or(|now| now.started_at != self.started_at || "ZX".contains(&now.state))
    }

    pub(crate) fn sockets(&self) -> usize {
        let Ok(entries) = fs::read_dir(Path::new("/proc").join(self.pid.to_string()).join("fd"))
        else {
            return 0;
        };
        let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }
}

pub(crate) fn terminate(pid: u32) {
    signal(pid, Signal::TERM);
}

pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}
