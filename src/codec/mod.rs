//! Frames: where one message of a byte stream ends and the next one begins.
//!
//! A stream keeps no borders: what was sent in one call may come in many reads, and several in one (tcp(7)).
//! A [`Decoder`] finds them again. It does no I/O and knows no time; it is shown bytes, and says how many of them
//! are a frame. [`Framed`] makes a handler of frames, a [`FrameHandler`], into a
//! [`StreamHandler`](crate::StreamHandler); or a handler calls a decoder itself in its `on_data`.
//!
//! Every decoder has a limit on a frame. In however small pieces one comes, it is not searched from its beginning again: a decoder remembers how
//! far it has looked, or knows how many bytes it waits for. Frames are borrowed from the input: nothing is copied.
//!
//! | frames | decoder | such as |
//! |---|---|---|
//! | end with LF or CR LF | [`Lines`] | SMTP, IRC, RESP's inline commands |
//! | end with other bytes | [`Delimited`] | NETCONF 1.0 (`]]>]]>`, RFC 4742), texts that end with NUL |
//! | are of one size | [`Fixed`] | records |
//! | begin with their length | [`LengthPrefixed`] | DNS over TCP |
//! | begin with their length as a varint | [`VarintPrefixed`] | streams of Protocol Buffers |
//!
//! A protocol of another kind is a type of its own that implements [`Decoder`]; its frames may be anything that borrows
//! from the input. Where a message cannot be borrowed as one piece, a handler takes it off by itself, in
//! [`for_each_message`]. So does one whose connections speak one protocol after another (HTTP, and then WebSocket): its
//! session has a decoder for each, and between two messages it may go over to the next.
//!
//! # Cost
//!
//! No decoder allocates but in [`Delimited::new`]. [`Framed`] copies what is left of a frame at the peer's end, and the error of
//! a bad frame is boxed. `Lines` and `Delimited` search with memchr, many bytes at a time; for the others it does not matter
//! how long a frame is. Where a frame is not whole yet, the work is for what is new; `Delimited` looks again at as many bytes
//! as a delimiter has, because it may have begun there.

mod bad_frame;
mod delimited;
mod each;
mod fixed;
mod framed;
mod length;
mod length_prefixed;
mod lines;
mod varint_prefixed;

use std::fmt;

use crate::connection::Connection;

pub use self::bad_frame::BadFrame;
pub use self::delimited::Delimited;
pub use self::each::{for_each_frame, for_each_message};
pub use self::fixed::Fixed;
pub use self::framed::{FrameHandler, FrameMessageHandler, Framed, FramedSession};
pub use self::length_prefixed::{LengthFrame, LengthPrefixed, LengthWidth};
pub use self::lines::{LineEnd, Lines};
pub use self::varint_prefixed::VarintPrefixed;

/// The panic of a decoder that is shown less than before.
const SHOWN_LESS: &str = "after `None` a decoder is shown the same bytes again, and more";

/// Finds frames in a stream of bytes. One value for each connection and direction: it may remember how far it has
/// looked into a frame that is not whole yet.
pub trait Decoder {
    /// What a frame is, mostly a part of the input.
    type Frame<'a>;

    /// Takes the first frame off the input: the frame, and how many bytes of the input it takes up, with all that
    /// marks its borders; at least one, or the connection ends as [`CloseReason::Misuse`](crate::CloseReason::Misuse).
    /// `None` means "not yet": it wants to be called again with the same bytes and more behind them.
    ///
    /// # Errors
    ///
    /// An error means "never": whatever comes after these bytes, they are no frame. What is a frame, and what an
    /// error, does not depend on the pieces in which the bytes come. After an error the decoder is not to be
    /// called again.
    ///
    /// # Panics
    ///
    /// It may, if it has answered `None` and is then shown less than before, because a part of a frame was consumed. Or it
    /// misses the end of a frame, as it does not look again at what it has seen.
    fn decode<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(Self::Frame<'a>, usize)>, FrameError>;

    /// After `None`: how many bytes the input must have at least before there can be a frame; 0 if that is not
    /// known. Whoever waits for them spares calls (see [`Connection::need`]).
    fn need(&self) -> usize {
        0
    }

    /// How many bytes of input a frame takes up at most, with all that marks its borders; 0 if that is not known. In a
    /// reactor [`input_bytes_max`](crate::Limits::input_bytes_max) has to be at least that, or the longest frames end their
    /// connections as [`InputTooLong`](crate::CloseReason::InputTooLong); [`Framed`] logs a warning then.
    fn whole_bytes_max(&self) -> usize;
}

/// Writes frames so that the decoder of the same kind finds them again.
pub trait Encoder {
    /// Appends one frame to the output: to a `Vec`, or to a [`Connection`], where it is copied once. The limit is
    /// that of the decoder; whoever answers with more than it takes needs an encoder with another limit.
    ///
    /// # Errors
    ///
    /// It cannot be a frame of this kind: then nothing was written.
    fn encode(&self, frame: &[u8], output: &mut impl Output) -> Result<(), FrameError>;
}

/// Where encoded frames go.
pub trait Output {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Output for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// As [`Connection::send`]; whether too much waits already is asked by
/// [`is_over_high`](Connection::is_over_high).
impl Output for Connection<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.send(bytes).ignore();
    }
}

/// Why bytes are no frame. Whose fault that is, the peer's or the handler's, a [`BadFrame`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// It would be longer than so many bytes: the limit, or what its length has room for, where that is less.
    TooLong(usize),
    /// It breaks a rule, which is told.
    Malformed(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong(bytes_max) => {
                write!(f, "a frame is over its limit of {bytes_max} bytes")
            }
            FrameError::Malformed(rule) => f.write_str(rule),
        }
    }
}

impl std::error::Error for FrameError {}
