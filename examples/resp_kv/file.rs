//! The append-only file as the operating system has it: opened by one process at a time, and a torn record at its end
//! moved to another file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::server::{RecordFile, Server};

impl RecordFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Opens the append-only file, carries out what it says, and cuts off a record that was not written to its end.
pub(crate) fn open_and_replay(server: &mut Server, path: &Path) -> io::Result<File> {
    let file = open_regular(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        Errno::WOULDBLOCK => io::Error::other("another process has it open"),
        other => other.into(),
    })?;
    let replayed = server.replay(&file)?;
    log::info!("{}: {} bytes of records", path.display(), replayed.whole_bytes);
    if replayed.torn_bytes > 0 {
        let kept = beside(path, replayed.whole_bytes);
        keep_torn(&file, replayed.whole_bytes, &kept).map_err(|error| named(&kept, error))?;
        file.set_len(replayed.whole_bytes)?;
        log::warn!(
            "{}: the last record is not whole; {} bytes are cut off, and kept as {}",
            path.display(),
            replayed.torn_bytes,
            kept.display()
        );
    }
    file.sync_all()?;
    sync_name(path)?;
    Ok(file)
}

/// Where that is kept which is cut off a file behind so many bytes.
fn beside(path: &Path, whole_bytes: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".cut-{whole_bytes}"));
    name.into()
}

/// Adds what stands behind so many bytes to another file: a length that is damaged makes a torn record of all that
/// follows it.
fn keep_torn(mut file: &File, whole_bytes: u64, kept: &Path) -> io::Result<()> {
    let mut copy = open_regular(kept)?;
    file.seek(SeekFrom::Start(whole_bytes))?;
    io::copy(&mut file, &mut copy)?;
    copy.sync_all()?;
    sync_name(kept)
}

/// Opens a file to read it and to write at its end, and makes it if need be. A pipe would have no end.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file"));
    }
    Ok(file)
}

/// Without this a new file may be gone after a crash, because its name was not written.
fn sync_name(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The error, with the name of the file that it is about.
pub(crate) fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
