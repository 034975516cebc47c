//! Temporary files and directories of the benchmark, which do not stay behind, neither at its end nor when a signal ends
//! it before that.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// All that are there.
static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A path in the directory for temporary files that nobody else has; what is there is removed when this is dropped, and
/// when SIGINT, SIGTERM or SIGHUP ends the process. Nothing removes it after SIGKILL.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Nothing is made there yet. The name begins with [`prefix`].
    ///
    /// # Errors
    ///
    /// Signals cannot be watched, or there can be no thread that does.
    pub(super) fn new(suffix: &str) -> Result<Scratch> {
        static WATCH: Once = Once::new();
        let mut watched = Ok(());
        WATCH.call_once(|| watched = remove_on_signals());
        watched.context("signals cannot be watched")?;
        let path = std::env::temp_dir().join(prefix() + suffix);
        paths().push(path.clone());
        Ok(Scratch { path })
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut paths = paths();
        paths.retain(|path| *path != self.path);
        remove(&self.path);
    }
}

/// How the names of all that this process makes begin.
pub(super) fn prefix() -> String {
    format!("oneloop-bench-{}", process::id())
}

fn paths() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody can be told of a failure, and nothing depends on it.
fn remove(path: &PathBuf) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

/// Has a thread wait for a signal, remove everything, and then end the process by that signal.
fn remove_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Kept to the end, so that nothing is made any more.
            let paths = paths();
            paths.iter().for_each(remove);
            // It does not return for these.
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}
