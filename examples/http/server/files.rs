//! The files that are served, and where they come from.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// A tree of files: a [`Directory`], or whatever a test puts in its place. It is called on helper threads, and may
/// block.
pub(crate) trait Files: Send + Sync + 'static {
    /// Opens what is at `path`: names with `/` before each; a directory's may end with one. None of them is empty,
    /// `.` or `..`. Fails as `NotFound`, `NotADirectory`, `PermissionDenied`; as `ResourceBusy` if there is no descriptor
    /// for it now; or as whatever else went wrong.
    fn open(&self, path: &str) -> io::Result<Opened>;

    /// The names in the directory at `path`, but no more than `count_max`; fails in the same ways. It reads no more of them
    /// than it has to.
    fn names(&self, path: &str, count_max: usize) -> io::Result<Names>;
}

/// What is at a path.
pub(crate) enum Opened {
    /// A file, and what tells this version of it from others.
    File(Arc<File>, Stamp),
    Directory,
}

/// What is in a directory.
pub(crate) struct Names {
    /// In their order, those of directories with a `/` behind them.
    pub(crate) names: Vec<String>,
    /// There are more names.
    pub(crate) has_more: bool,
}

/// Times of files are no finer than this: of the kernel's clock it is some milliseconds, but file systems may keep whole
/// seconds, or every other one; with a margin.
const CLOCK_TICK_NANOS: i128 = 2_050_000_000;

/// What changes when a file does. What is written through a mapping may change nothing of it for a while (mmap(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Its length in bytes.
    pub(crate) len: u64,
    /// When it was last written, or is said to have been: a copy may have the time of another file.
    pub(crate) modified: SystemTime,
    /// The number of its inode,
    pub(crate) inode: u64,
    /// ... which is one of this file system only.
    pub(crate) device: u64,
    /// When that last changed, which nobody can set (inode(7)); since 1970.
    pub(crate) changed_nanos: i128,
    /// That is long enough ago for the next change to have another time. A change before that has the same tag if the
    /// length is the same, for whoever was answered in between.
    pub(crate) is_settled: bool,
}

/// A directory of the file system. What links lead out of it is not served; that does not hold against somebody who
/// may change the directory, and does while a file is being opened.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Serves what is in `root`, if that is a directory that can be read.
    pub(crate) fn open(root: &Path) -> io::Result<Directory> {
        fs::read_dir(root)?;
        Ok(Directory { root: root.canonicalize()? })
    }

    /// Where `path` really is.
    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        let full = self.root.join(path.trim_start_matches('/'));
        let real = full.canonicalize().map_err(with_stable_kind)?;
        if !real.starts_with(&self.root) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(real)
    }
}

/// Gives an error a kind that is stable where its own is not. Links that lead in a circle, or on and on
/// (path_resolution(7)), lead to nothing; without a descriptor, of this process or of all, or while another program
/// holds a lease on the file (fcntl(2)), a client may try again.
fn with_stable_kind(error: io::Error) -> io::Error {
    let kind = match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => ErrorKind::NotFound,
        Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN) => ErrorKind::ResourceBusy,
        _ => return error,
    };
    io::Error::new(kind, error)
}

impl Files for Directory {
    fn open(&self, path: &str) -> io::Result<Opened> {
        let real = self.resolve(path)?;
        // It is looked at before it is opened, as to open a device may set something off.
        let metadata = fs::metadata(&real)?;
        if metadata.is_dir() {
            return Ok(Opened::Directory);
        }
        check_is_file(&metadata)?;
        // A pipe may have taken its place meanwhile, and would wait for somebody to write into it.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
        let mut options = File::options();
        let file = options.read(true).custom_flags(flags).open(&real).map_err(with_stable_kind)?;
        let metadata = file.metadata()?;
        check_is_file(&metadata)?;
        Ok(Opened::File(Arc::new(file), stamp(&metadata)?))
    }

    fn names(&self, path: &str, count_max: usize) -> io::Result<Names> {
        let mut entries = fs::read_dir(self.resolve(path)?).map_err(with_stable_kind)?;
        let mut names = Vec::new();
        for entry in entries.by_ref().take(count_max) {
            let entry = entry?;
            // A name that is no UTF-8 has no link.
            if let Ok(mut name) = entry.file_name().into_string() {
                if entry.file_type().is_ok_and(|file_type| file_type.is_dir()) {
                    name.push('/');
                }
                names.push(name);
            }
        }
        names.sort();
        Ok(Names { names, has_more: entries.next().is_some() })
    }
}

fn check_is_file(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
}

fn stamp(metadata: &Metadata) -> io::Result<Stamp> {
    let changed_nanos =
        i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let is_settled = changed_nanos + CLOCK_TICK_NANOS < now as i128;
    Ok(Stamp {
        len: metadata.len(),
        modified: metadata.modified()?,
        inode: metadata.ino(),
        device: metadata.dev(),
        changed_nanos,
        is_settled,
    })
}
