//! What codecs whose frames begin with their length have in common.

use super::FrameError;

/// How many bytes a frame takes up with its header, which says that `body_len` of at most `bytes_max` bytes follow.
pub(super) fn whole_len(
    header_len: usize,
    body_len: u64,
    bytes_max: usize,
) -> Result<usize, FrameError> {
    // More have no place in memory.
    let bytes_max = bytes_max.min(usize::MAX - header_len);
    let body_len = usize::try_from(body_len).ok().filter(|len| *len <= bytes_max);
    body_len.map(|len| header_len + len).ok_or(FrameError::TooLong(bytes_max))
}
