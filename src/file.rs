//! Files, which have no readiness: a read waits for the disk.

use std::fs::File;
use std::io;
use std::ops::Range;

/// So much is copied at once where a file has to be.
const COPY_BYTES_MAX: u64 = 64 * 1024;

/// Has a part of a file read into the system's memory, where [`send_file`](crate::Connection::send_file) finds it without
/// waiting for the disk. It blocks, and belongs into a [blocking job](crate::blocking()). The system forgets it again
/// when memory is short.
///
/// On Linux nothing is copied (sendfile(2), to `/dev/null`), which takes a system call to open that, and one or a few for
/// the file; elsewhere a call for each 64 KiB.
///
/// # Errors
///
/// `UnexpectedEof` if the file ends before the part does; those of sendfile(2) and read(2).
pub fn read_ahead(file: &File, mut range: Range<u64>) -> io::Result<()> {
    let null = if cfg!(target_os = "linux") {
        File::options().write(true).open("/dev/null").ok()
    } else {
        None
    };
    let mut buffer = Vec::new();
    while !range.is_empty() {
        let count = match &null {
            #[cfg(target_os = "linux")]
            Some(null) => discard(null, file, &range)?,
            _ => copy_some(file, &range, &mut buffer)?,
        };
        range.start += count as u64;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn discard(null: &File, file: &File, range: &Range<u64>) -> io::Result<usize> {
    let count = (range.end - range.start) as usize;
    let sent = rustix::io::retry_on_intr(|| {
        rustix::fs::sendfile(null, file, Some(&mut { range.start }), count)
    });
    match sent {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        // There are files that cannot be sent so (sendfile(2)).
        Err(rustix::io::Errno::INVAL) => copy_some(file, range, &mut Vec::new()),
        result => Ok(result?),
    }
}

/// Reads the beginning of a part that is not empty into `buffer`, and gives how many bytes that were.
///
/// # Errors
///
/// `UnexpectedEof` if there are none.
pub(crate) fn copy_some(
    file: &File,
    range: &Range<u64>,
    buffer: &mut Vec<u8>,
) -> io::Result<usize> {
    buffer.resize((range.end - range.start).min(COPY_BYTES_MAX) as usize, 0);
    loop {
        #[cfg(unix)]
        let result = std::os::unix::fs::FileExt::read_at(file, buffer, range.start);
        #[cfg(windows)]
        let result = std::os::windows::fs::FileExt::seek_read(file, buffer, range.start);
        match result {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
