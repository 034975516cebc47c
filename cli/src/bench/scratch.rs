//! Temporary files and directories of the benchmark, which do not stay behind, neither at its end nor when a signal ends
//! it before that.

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, Once, PoisonError};

use anyhow::Result;

use super::signals;

/// All that are there.
static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A path that nobody else has; what is there is removed when this is dropped, and when SIGINT, SIGTERM or SIGHUP ends the
/// process. Nothing removes it after SIGKILL.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// In the directory for temporary files. Nothing is made there yet. The name begins with [`prefix`].
    ///
    /// # Errors
    ///
    /// See [`signals::before_end`].
    pub(super) fn new(suffix: &str) -> Result<Scratch> {
        Scratch::at(std::env::temp_dir().join(prefix() + suffix))
    }

    /// In the directory of a file, with its name and [`prefix`] behind it. Nothing is made there yet.
    ///
    /// # Errors
    ///
    /// See [`signals::before_end`].
    pub(super) fn beside(file: &Path) -> Result<Scratch> {
        let mut path = file.as_os_str().to_owned();
        path.push(".");
        path.push(prefix());
        Scratch::at(path.into())
    }

    fn at(path: PathBuf) -> Result<Scratch> {
        static WATCH: Once = Once::new();
        let mut watched = Ok(());
        WATCH.call_once(|| watched = signals::before_end(remove_all));
        watched?;
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

fn remove_all() {
    let paths = paths();
    paths.iter().for_each(remove);
    // Locked to the end, so that nothing is made any more.
    mem::forget(paths);
}
