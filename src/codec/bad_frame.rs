//! Whose fault it is that bytes are no frame.

use std::fmt;

use super::FrameError;

/// What a peer sent is no frame. An [`on_data`](crate::StreamHandler::on_data) or an
/// [`on_frame`](crate::codec::FrameHandler::on_frame) that returns this error ends its connection as
/// [`CloseReason::BadFrame`](crate::CloseReason::BadFrame). [`for_each_frame`](crate::codec::for_each_frame) does it for what
/// its decoder refuses, and a handler for what only it can know to be wrong:
///
/// ```
/// use oneloop::Error;
/// use oneloop::codec::{BadFrame, FrameError};
///
/// fn number(line: &[u8]) -> Result<u32, Error> {
///     let text = std::str::from_utf8(line).ok();
///     let number = text.and_then(|text| text.parse().ok());
///     Ok(number.ok_or(BadFrame(FrameError::Malformed("a line is no number")))?)
/// }
///
/// assert!(number(b"forty-two").unwrap_err().is::<BadFrame>());
/// ```
///
/// A [`FrameError`] by itself says nothing about whose it is: that of an [`Encoder`](crate::codec::Encoder), which a
/// handler's own answer does not fit, is the handler's failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadFrame(pub FrameError);

impl From<FrameError> for BadFrame {
    fn from(error: FrameError) -> BadFrame {
        BadFrame(error)
    }
}

/// As the error in it.
impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BadFrame {}
