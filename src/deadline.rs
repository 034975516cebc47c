//! What a connection may run out of time for.

use std::fmt;

use crate::error::CloseReason;

/// A deadline of a connection, as [`on_deadline`](crate::StreamHandler::on_deadline) hears of it.
///
/// The times are those of the connection's [`Limits`](crate::Limits). Each deadline has a
/// [`CloseReason`] of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Deadline {
    /// The peer has not sent anything since the connection opened, for
    /// [`first_byte_timeout`](crate::Limits::first_byte_timeout).
    FirstByte,
    /// Nothing was received and nothing sent for [`idle_timeout`](crate::Limits::idle_timeout).
    Idle,
    /// The peer took none of the output that waits for
    /// [`write_stall_timeout`](crate::Limits::write_stall_timeout), or less of it than
    /// [`output_rate_min`](crate::Limits::output_rate_min) asks for in that time.
    WriteStall,
    /// More than [`output_bytes_soft`](crate::Limits::output_bytes_soft) of output waited for all of
    /// [`output_soft_timeout`](crate::Limits::output_soft_timeout).
    OutputSoft,
    /// The handler consumed none of the input that it was shown, for
    /// [`message_timeout`](crate::Limits::message_timeout): a message began and did not end.
    Message,
    /// A message came at less than [`input_rate_min`](crate::Limits::input_rate_min).
    InputRate,
    /// What the handler asked for with [`expect_within`](crate::Connection::expect_within) did not
    /// happen.
    Expect,
}

impl Deadline {
    pub(crate) fn reason(self) -> CloseReason {
        match self {
            Deadline::FirstByte => CloseReason::FirstByteTimeout,
            Deadline::Idle => CloseReason::IdleTimeout,
            Deadline::WriteStall => CloseReason::WriteStallTimeout,
            Deadline::OutputSoft => CloseReason::OutputSoftTimeout,
            Deadline::Message => CloseReason::MessageTimeout,
            Deadline::InputRate => CloseReason::InputTooSlow,
            Deadline::Expect => CloseReason::ExpectTimeout,
        }
    }

    /// Whether it is the peer that does not take what it is sent: then no orderly close would come to an
    /// end, and a last word would not arrive.
    pub(crate) fn is_of_output(self) -> bool {
        matches!(self, Deadline::WriteStall | Deadline::OutputSoft)
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason().fmt(f)
    }
}
