//! Small files in memory.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use oneloop::{Connection, Time};

use super::meta::Meta;

/// A file that is larger is not kept.
pub(super) const FILE_BYTES_MAX: u64 = 128 * 1024;
/// What all files that are kept take up, about.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one takes up beside its bytes, about.
const ENTRY_BYTES: usize = 1024;
/// After this time a file is looked at again.
const FRESH: Duration = Duration::from_secs(1);

/// From this length on it is kept in a memory file, of which nothing is copied to be sent; with a shorter one that would
/// save less than the call of its own costs that it takes.
const MEMORY_FILE_BYTES_MIN: usize = 16 * 1024;
/// So many memory files fit into the cache.
pub(crate) const MEMORY_FILES_MAX: usize = BYTES_MAX / MEMORY_FILE_BYTES_MIN;

/// What is in a small file.
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// It is one of so many, as long as it is kept.
    File(Arc<File>, #[expect(dead_code, reason = "it is counted")] Arc<()>),
}

/// How many memory files there are in the cache, about, and how many there may be: each has a descriptor.
pub(super) struct MemoryFiles {
    made: Arc<()>,
    count_max: usize,
}

impl MemoryFiles {
    pub(super) fn new(count_max: usize) -> MemoryFiles {
        MemoryFiles { made: Arc::default(), count_max }
    }

    /// Puts a file that is not too short into a memory file, if there may be one more.
    pub(super) fn keep(&self, bytes: Vec<u8>) -> Content {
        let kept = Arc::strong_count(&self.made) - 1;
        if bytes.len() >= MEMORY_FILE_BYTES_MIN
            && kept < self.count_max
            && let Some(file) = memory_file(&bytes)
        {
            return Content::File(Arc::new(file), Arc::clone(&self.made));
        }
        Content::Bytes(bytes)
    }
}

impl Content {
    pub(super) fn send(&self, span: Range<u64>, conn: &mut Connection<'_>) {
        let sent = match self {
            Content::Bytes(bytes) => conn.send(&bytes[span.start as usize..span.end as usize]),
            Content::File(file, _) => conn.send_file(file, span),
        };
        sent.ignore();
    }
}

/// A file without a name that is nowhere but in memory (memfd_create(2)); none without a descriptor for it, or where there
/// are no such files.
fn memory_file(bytes: &[u8]) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::FileExt;
        let file = rustix::fs::memfd_create("http", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
        let file = File::from(file);
        file.write_all_at(bytes, 0).ok()?;
        Some(file)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// A file in memory.
pub(super) struct Entry {
    pub(super) meta: Meta,
    pub(super) content: Content,
    /// When the look that brought it was asked for.
    asked: Time,
    /// When the last look at the file was asked for.
    pub(super) checked: Cell<Time>,
}

impl Entry {
    pub(super) fn new(meta: Meta, content: Content, asked: Time) -> Entry {
        Entry { meta, content, asked, checked: Cell::new(asked) }
    }

    /// Whether it may be sent without a look at the file.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        self.checked.get() + FRESH > now
    }

    fn memory_bytes(&self, path: &str) -> usize {
        ENTRY_BYTES + path.len() + self.meta.stamp.len as usize
    }
}

/// The files that were asked for last, by their paths.
pub(super) struct Cache {
    entries: LruCache<String, Rc<Entry>>,
    memory_bytes: usize,
}

impl Cache {
    pub(super) fn new() -> Cache {
        Cache { entries: LruCache::unbounded(), memory_bytes: 0 }
    }

    pub(super) fn get(&mut self, path: &str) -> Option<Rc<Entry>> {
        self.entries.get(path).cloned()
    }

    /// Keeps a file, unless the one that is kept by this path comes from a later look.
    pub(super) fn insert(&mut self, path: String, entry: Rc<Entry>) {
        let is_newer = |kept: &Rc<Entry>| kept.asked > entry.asked;
        if self.entries.peek(&path).is_some_and(is_newer) {
            return;
        }
        self.remove(&path);
        self.memory_bytes += entry.memory_bytes(&path);
        self.entries.put(path, entry);
        while self.memory_bytes > BYTES_MAX
            && let Some((path, entry)) = self.entries.pop_lru()
        {
            self.memory_bytes -= entry.memory_bytes(&path);
        }
    }

    pub(super) fn remove(&mut self, path: &str) {
        let removed = self.entries.pop(path);
        self.memory_bytes -= removed.map_or(0, |entry| entry.memory_bytes(path));
    }
}
