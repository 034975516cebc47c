//! What codecs whose frames begin with their length have in common.

use super::FrameError;

/// How many bytes a frame takes up with its header, whose length says that `body_len` follow: at most `bytes_max`.
pub(super) fn whole_len(
    header_len: usize,
    body_len: u64,
    bytes_max: usize,
) -> Result<usize, FrameError> {
    let body_len = usize::try_from(body_len).ok().filter(|len| *len <= bytes_max);
    let whole_len = body_len.and_then(|len| len.checked_add(header_len));
    whole_len.ok_or(FrameError::TooLong(bytes_max))
}
