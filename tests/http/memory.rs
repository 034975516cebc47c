//! Files in memory, for the server in a simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::server::files::{Files, Names, Opened, Stamp};

/// Files by their paths. Each has versions, which are all kept, to be compared with what was served.
#[derive(Default)]
pub struct Memory {
    files: Mutex<BTreeMap<String, Vec<Arc<[u8]>>>>,
    lengths: Mutex<BTreeMap<String, u64>>,
    names_read: AtomicUsize,
    is_busy: AtomicBool,
    is_unsettled: AtomicBool,
}

impl Memory {
    /// Puts another version in the place of what is at `path`, as rename(2) does: who has opened a file has that one.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.files.lock().unwrap().entry(path.to_string()).or_default().push(bytes.into());
    }

    /// Says of what is at `path` that it is so long, as of a file that is cut off before it is read.
    pub fn say_length(&self, path: &str, length: u64) {
        self.lengths.lock().unwrap().insert(path.to_string(), length);
    }

    /// Whether no file can be opened from now on, as if there were no descriptors left.
    pub fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// Whether files have changed so lately, from now on, that they may change again and look the same.
    pub fn set_unsettled(&self, is_unsettled: bool) {
        self.is_unsettled.store(is_unsettled, Ordering::Relaxed);
    }

    /// Writes over what is at `path`, which looks the same as before.
    pub fn overwrite(&self, path: &str, bytes: Vec<u8>) {
        *self.files.lock().unwrap().get_mut(path).unwrap().last_mut().unwrap() = bytes.into();
    }

    /// How many names of directories were asked for so far, and given.
    pub fn names_read(&self) -> usize {
        self.names_read.load(Ordering::Relaxed)
    }

    /// The names in the directory at `path`.
    fn names_in(&self, path: &str) -> BTreeSet<String> {
        let files = self.files.lock().unwrap();
        let directory = if path.ends_with('/') { path.to_string() } else { format!("{path}/") };
        let below = files.keys().filter_map(|path| path.strip_prefix(&directory));
        below.map(|path| path.split_inclusive('/').next().unwrap().to_string()).collect()
    }

    /// What is at `path` now.
    pub fn latest(&self, path: &str) -> Arc<[u8]> {
        Arc::clone(self.files.lock().unwrap()[path].last().unwrap())
    }

    /// What was at `path` when it had been modified then.
    ///
    /// # Panics
    ///
    /// If nothing was.
    pub fn version(&self, path: &str, last_modified: &str) -> Arc<[u8]> {
        let files = self.files.lock().unwrap();
        let count = files[path].len();
        let is_it =
            |number: &usize| last_modified == format!("Thu, 01 Jan 1970 00:{number:02}:00 GMT");
        let number = (1..=count).find(is_it);
        let number = number.unwrap_or_else(|| panic!("{path} was never modified {last_modified}"));
        Arc::clone(&files[path][number - 1])
    }
}

impl Files for Memory {
    fn open(&self, path: &str) -> io::Result<Opened> {
        if self.is_busy.load(Ordering::Relaxed) {
            return Err(ErrorKind::ResourceBusy.into());
        }
        if let Some(versions) = self.files.lock().unwrap().get(path) {
            let bytes = Arc::clone(versions.last().unwrap());
            // So many minutes after the beginning of time.
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * versions.len() as u64);
            let said = self.lengths.lock().unwrap().get(path).copied();
            let len = said.unwrap_or(bytes.len() as u64);
            let is_settled = !self.is_unsettled.load(Ordering::Relaxed);
            let (inode, device, changed_nanos) = (0, 0, 0);
            let stamp = Stamp { len, modified, inode, device, changed_nanos, is_settled };
            return Ok(Opened::File(file(&bytes), stamp));
        }
        match self.names_in(path).is_empty() {
            true => Err(ErrorKind::NotFound.into()),
            false => Ok(Opened::Directory),
        }
    }

    fn names(&self, path: &str, count_max: usize) -> io::Result<Names> {
        let mut names = self.names_in(path).into_iter().peekable();
        names.peek().ok_or(ErrorKind::NotFound)?;
        let first: Vec<_> = names.by_ref().take(count_max).collect();
        self.names_read.fetch_add(first.len(), Ordering::Relaxed);
        Ok(Names { names: first, has_more: names.next().is_some() })
    }
}

/// A file with these bytes, which has no name.
fn file(bytes: &[u8]) -> Arc<File> {
    let file = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = File::from(file);
    file.write_all_at(bytes, 0).unwrap();
    Arc::new(file)
}
