//! Files, which have no readiness: a read waits for the disk.

use std::fs::File;
use std::io;
use std::ops::Range;

/// So much is copied at once where a file has to be.
const COPY_BYTES_MAX: u64 = 16 * 1024;

/// Has a part of a file read into the system's memory, where [`send_file`](crate::Connection::send_file) finds it without
/// waiting for the disk. It blocks, and belongs into a [blocking job](crate::blocking()). The system forgets it again
/// when memory is short.
///
/// On Linux nothing is copied (sendfile(2), to `/dev/null`). That takes four system calls for each 2 GB begun, three of them
/// for `/dev/null`; elsewhere it takes a call for each 16 KiB.
///
/// # Errors
///
/// `UnexpectedEof` if the file ends before the part does; those of sendfile(2) and read(2).
pub fn read_ahead(file: &File, mut range: Range<u64>) -> io::Result<()> {
    let mut buffer = Vec::new();
    while !range.is_empty() {
        #[cfg(target_os = "linux")]
        if let Some(count) = discard(file, &range)? {
            range.start += count as u64;
            continue;
        }
        range.start += copy_some(file, &range, &mut buffer)? as u64;
    }
    Ok(())
}

/// Sends the beginning of a part that is not empty to nobody, and gives how many bytes that were; nothing if that cannot be.
#[cfg(target_os = "linux")]
fn discard(file: &File, range: &Range<u64>) -> io::Result<Option<usize>> {
    use std::os::unix::fs::FileTypeExt;
    let null = File::options().write(true).open("/dev/null");
    // Somebody's script may have made a file of it.
    let is_null = |file: &File| file.metadata().is_ok_and(|data| data.file_type().is_char_device());
    let Some(null) = null.ok().filter(is_null) else { return Ok(None) };
    let count = (range.end - range.start) as usize;
    let sent = rustix::io::retry_on_intr(|| {
        rustix::fs::sendfile(&null, file, Some(&mut { range.start }), count)
    });
    match sent {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(Some(count)),
        Err(error) if cannot_be_sent(error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// There are files that sendfile(2) does not send, places in them that it takes for no place, and systems that do not have
/// it, or do not let it be called (seccomp(2)). A read tells then what it is.
#[cfg(target_os = "linux")]
pub(crate) fn cannot_be_sent(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OVERFLOW | Errno::PERM)
}

/// Reads the beginning of a part that is not empty into `buffer`, and gives how many bytes that were.
///
/// # Errors
///
/// `UnexpectedEof` if there are none; those of read(2), but for `WouldBlock`, which nobody could wait for here.
pub(crate) fn copy_some(
    file: &File,
    range: &Range<u64>,
    buffer: &mut Vec<u8>,
) -> io::Result<usize> {
    let count = (range.end - range.start).min(COPY_BYTES_MAX);
    if i64::try_from(range.start.saturating_add(count)).is_err() {
        return Err(io::ErrorKind::UnexpectedEof.into()); // places that no system can name
    }
    buffer.resize(count as usize, 0);
    loop {
        #[cfg(unix)]
        let result = std::os::unix::fs::FileExt::read_at(file, buffer, range.start);
        #[cfg(windows)]
        let result = std::os::windows::fs::FileExt::seek_read(file, buffer, range.start);
        match result {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, error));
            }
            result => return result,
        }
    }
}
