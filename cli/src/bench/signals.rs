//! What is still done when SIGINT, SIGTERM or SIGHUP ends the benchmark.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

type Task = Box<dyn FnOnce() + Send>;

static TASKS: Mutex<Vec<Task>> = Mutex::new(Vec::new());

/// Has something done when a signal ends the benchmark, before what was asked for earlier. A second signal ends it at
/// once.
///
/// # Errors
///
/// Signals cannot be watched, or there can be no thread that does.
pub(super) fn before_end(task: impl FnOnce() + Send + 'static) -> Result<()> {
    static WATCH: Once = Once::new();
    let mut watched = Ok(());
    WATCH.call_once(|| watched = watch());
    watched.context("signals cannot be watched")?;
    tasks().push(Box::new(task));
    Ok(())
}

fn tasks() -> MutexGuard<'static, Vec<Task>> {
    TASKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a thread wait for a signal, do everything, and then end the process by that signal.
fn watch() -> io::Result<()> {
    let watched = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    let watched: Vec<i32> = watched.collect();
    let is_ending = Arc::new(AtomicBool::new(false));
    for &signal in &watched {
        register_conditional_default(signal, Arc::clone(&is_ending))?;
    }
    let mut signals = Signals::new(watched)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            is_ending.store(true, Ordering::Relaxed);
            // Kept to the end, so that nothing is asked for any more.
            let mut tasks = tasks();
            while let Some(task) = tasks.pop() {
                task();
            }
            // It does not return for these.
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// Whether a signal came ignored, and is to stay so: nohup(1) means it. It is a bit of SigIgn in proc_pid_status(5).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
