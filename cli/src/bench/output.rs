//! What a measurement puts out, once: at its end, or when an error or a signal ends it before that.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use serde::Serialize;

use super::progress::Progress;
use super::scratch::Scratch;
use super::signals;

/// What is measured, as far as it has come.
pub(super) trait Figures: Serialize + Send + 'static {
    fn is_empty(&self) -> bool;

    /// # Errors
    ///
    /// Those of `out`.
    fn print(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Figures, and where they go: to standard output, and into a file if there is one.
pub(super) struct Output<T> {
    /// Taken by who puts them out.
    found: Arc<Mutex<Option<Found<T>>>>,
}

impl<T: Figures> Output<T> {
    /// # Errors
    ///
    /// See [`signals::before_end`].
    pub(super) fn new(figures: T, json: Option<JsonFile>) -> Result<Output<T>> {
        let found = Arc::new(Mutex::new(Some(Found { figures, json })));
        let output = Output { found: Arc::clone(&found) };
        signals::before_end(move || {
            // Locked to the end: see `finish`.
            let mut found = lock(&found);
            if let Some(found) = found.take() {
                Progress::new().clear();
                // Nobody is left to be told.
                let _ = found.put_out(false);
            }
        })?;
        Ok(output)
    }

    /// Adds what was found.
    pub(super) fn add(&self, add: impl FnOnce(&mut T)) {
        if let Some(found) = &mut *lock(&self.found) {
            add(&mut found.figures);
        }
    }

    /// Puts everything out, complete or up to an error, which is the one to tell.
    ///
    /// # Errors
    ///
    /// That one, or what cannot be written.
    pub(super) fn finish(self, result: Result<()>) -> Result<()> {
        let found = lock(&self.found).take();
        let Some(found) = found else {
            // A signal ends the process, which may have been the reason of the error, too.
            loop {
                thread::park();
            }
        };
        let written = found.put_out(result.is_ok());
        result.and(written)
    }
}

fn lock<T>(found: &Mutex<T>) -> MutexGuard<'_, T> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Found<T> {
    figures: T,
    json: Option<JsonFile>,
}

/// How figures stand in a file.
#[derive(Serialize)]
struct Document<'a, T> {
    is_complete: bool,
    #[serde(flatten)]
    figures: &'a T,
}

impl<T: Figures> Found<T> {
    /// Nothing if there is nothing but an error.
    fn put_out(self, is_complete: bool) -> Result<()> {
        let Found { figures, json } = self;
        if figures.is_empty() && !is_complete {
            return Ok(());
        }
        let printed = print(&figures, is_complete).context("printing the figures");
        let document = Document { is_complete, figures: &figures };
        // If one cannot be written, the other one is.
        json.map_or(Ok(()), |json| json.write(&document)).and(printed)
    }
}

fn print(figures: &impl Figures, is_complete: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    figures.print(&mut out)?;
    if !is_complete {
        writeln!(out, "\nIncomplete: an error or a signal ended it early.")?;
    }
    out.flush()
}

/// The file of `--json`. One that was there stays as it is until the new one is whole.
pub(super) struct JsonFile {
    file: File,
    /// Where it is written, and where it goes then; `None` of what is no regular file, such as /dev/stdout.
    rename: Option<(Scratch, PathBuf)>,
}

impl JsonFile {
    /// # Errors
    ///
    /// It cannot be made.
    pub(super) fn create(path: &Path) -> Result<JsonFile> {
        let cannot = || format!("cannot write {}", path.display());
        if path.starts_with("/dev") || fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let file = File::create(path).with_context(cannot)?;
            return Ok(JsonFile { file, rename: None });
        }
        // Where a link leads to, if it is one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let scratch = Scratch::beside(&path)?;
        let file = File::create(scratch.path()).with_context(cannot)?;
        Ok(JsonFile { file, rename: Some((scratch, path)) })
    }

    fn write(mut self, document: &impl Serialize) -> Result<()> {
        let write = || -> io::Result<()> {
            serde_json::to_writer_pretty(&mut self.file, document)?;
            writeln!(self.file)?;
            self.rename.map_or(Ok(()), |(scratch, path)| fs::rename(scratch.path(), path))
        };
        write().context("writing the JSON file")
    }
}
