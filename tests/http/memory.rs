//! Files in memory, for the server in a simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::server::files::{File, Files, Opened, Stamp};

/// Files by their paths. Each has versions, which are all kept, to be compared with what was served.
#[derive(Default)]
pub struct Memory {
    files: Mutex<BTreeMap<String, Vec<Arc<[u8]>>>>,
}

impl Memory {
    /// Puts another version in the place of what is at `path`, as rename(2) does: who has opened a file has that one.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.files.lock().unwrap().entry(path.to_string()).or_default().push(bytes.into());
    }

    /// All versions that ever were at `path`.
    pub fn versions(&self, path: &str) -> Vec<Arc<[u8]>> {
        self.files.lock().unwrap()[path].clone()
    }
}

impl Files for Memory {
    fn open(&self, path: &str) -> io::Result<Opened> {
        let files = self.files.lock().unwrap();
        if let Some(versions) = files.get(path) {
            let bytes = Arc::clone(versions.last().unwrap());
            // Each is a minute younger.
            let age = Duration::from_secs(60 * versions.len() as u64);
            let modified = SystemTime::UNIX_EPOCH + age;
            let stamp = Stamp { len: bytes.len() as u64, modified };
            return Ok(Opened::File(Box::new(Open(bytes)), stamp));
        }
        let directory = if path.ends_with('/') { path.to_string() } else { format!("{path}/") };
        let below = files.keys().filter_map(|path| path.strip_prefix(&directory));
        let names: BTreeSet<_> =
            below.map(|path| path.split_inclusive('/').next().unwrap()).collect();
        if names.is_empty() {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(Opened::Directory(names.into_iter().map(str::to_string).collect()))
    }
}

/// A file that is open.
struct Open(Arc<[u8]>);

impl File for Open {
    /// Gives less than there is room for, as a disk may.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[self.0.len().min(offset as usize)..];
        let count = rest.len().min(buffer.len()).min(10_000);
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
