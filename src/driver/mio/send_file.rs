//! Files that are sent without a way through the process (sendfile(2)).

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::{Mio, pipe, platform, retrying};
use crate::driver::common::write_file_by_copy;
use crate::file::cannot_be_sent;

/// See [`Driver::write_file`](crate::driver::Driver::write_file).
pub(super) fn write_file(
    driver: &Mio,
    stream: &OwnedFd,
    slices: &[IoSlice<'_>],
    file: &File,
    range: &Range<u64>,
) -> io::Result<usize> {
    if !ignores_sigpipe() {
        return write_file_by_copy(driver, stream, slices, file, range);
    }
    let in_slices: usize = slices.iter().map(|slice| slice.len()).sum();
    if in_slices > 0 {
        // They need no packet of their own (send(2), MSG_MORE).
        let written = retrying(|| {
            let flags = platform::NOSIGNAL | SendFlags::MORE;
            rustix::net::sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags)
        });
        let written = written.or_else(|error| pipe::write_vectored(error, stream, slices))?;
        if written < in_slices {
            return Ok(written);
        }
    }
    let (mut offset, count) = (range.start, (range.end - range.start) as usize);
    match retrying(|| rustix::fs::sendfile(stream, file, Some(&mut offset), count)) {
        // What it is stands in the next call's way, too; an error of the socket may have another name then.
        Ok(0) | Err(_) if in_slices > 0 => Ok(in_slices),
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(in_slices + count),
        Err(error) if Errno::from_io_error(&error).is_some_and(cannot_be_sent) => {
            write_file_by_copy(driver, stream, slices, file, range)
        }
        Err(error) => Err(error),
    }
}

/// Whether this process ignored `SIGPIPE` when it first sent a file, as Rust's `main` has it: sendfile(2) raises it if the
/// peer is gone, and no flag turns that off (tried).
fn ignores_sigpipe() -> bool {
    const SIGPIPE: u32 = 13;
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default(); // proc(5)
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        ignored.is_some_and(|mask| mask & 1 << (SIGPIPE - 1) != 0)
    })
}
