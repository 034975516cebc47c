//! What an `on_data` does with what has come: one message after the other.

use super::{BadFrame, Decoder};
use crate::connection::Connection;
use crate::error::{CloseReason, Error};

/// Calls `take` with what `data` begins with, and then with what is behind what it took, as long as the connection takes
/// more: until it is closed, paused or over its high watermark, or `take` asked for the rest in the next turn
/// ([`again`](Connection::again)). After [`frames_per_turn_max`](crate::Limits::frames_per_turn_max) messages in one turn
/// the rest is for the next one, too.
///
/// `take` is shown at least one byte. It answers how many the message takes up, or `None`, which means "not yet": then it
/// is called with the same bytes, and more behind them, when more have come. If it knows how many it waits for it says so
/// ([`need`](Connection::need)), and is not called before, but at the peer's end, or when no more would be taken
/// ([`input_bytes_max`](crate::Limits::input_bytes_max)); if not, it should remember how far it has
/// looked, or a long message in small pieces costs a search from its beginning for each of them.
///
/// `data` is what [`on_data`](crate::StreamHandler::on_data) was shown, and the result, how many bytes were taken, is what
/// it is to answer: the rest is shown again by the reactor, which cannot do that with a buffer of the handler's own.
///
/// A message takes up at least one byte: one of none would be there for ever. Such a one, and one that takes up more than
/// there is, closes the connection as [`CloseReason::Misuse`].
///
/// It is for protocols whose messages are found by other means than a [`Decoder`]; [`for_each_frame`] has that.
///
/// # Errors
///
/// What `take` fails with. How much was taken before it is lost with that: a handler that goes on all the same consumes all
/// that it was shown.
///
/// ```
/// use oneloop::codec::{BadFrame, FrameError, for_each_message};
/// use oneloop::{Connection, Error, StreamHandler};
///
/// /// Adds up what it is told: a message is `+` and a number of four bytes, or `?`, which asks for the sum.
/// struct Adder;
///
/// impl StreamHandler for Adder {
///     type Session = u32;
///
///     fn on_open(&mut self, _: &mut Connection<'_>) -> u32 {
///         0
///     }
///
///     fn on_data(&mut self, sum: &mut u32, conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
///         for_each_message(conn, data, |conn, rest| match rest {
///             [b'?', ..] => {
///                 conn.send(format!("{sum}\n").as_bytes()).ignore();
///                 Ok(Some(1))
///             }
///             [b'+', number @ ..] => {
///                 let Some(number) = number.first_chunk() else {
///                     conn.need(5);
///                     return Ok(None);
///                 };
///                 *sum = sum.wrapping_add(u32::from_be_bytes(*number));
///                 Ok(Some(5))
///             }
///             _ => Err(BadFrame(FrameError::Malformed("no message begins like that")).into()),
///         })
///     }
/// }
///
/// oneloop::Reactor::new()?.add(Adder);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn for_each_message(
    conn: &mut Connection<'_>,
    data: &[u8],
    mut take: impl FnMut(&mut Connection<'_>, &[u8]) -> Result<Option<usize>, Error>,
) -> Result<usize, Error> {
    let mut left = conn.frames_left();
    let mut consumed = 0;
    // One that took more than there is ends it, and the sum stays too large: the reactor finds out.
    while left > 0 && consumed < data.len() {
        let taken = match take(conn, &data[consumed..]) {
            Ok(Some(taken)) => taken,
            Ok(None) => break,
            Err(error) => {
                conn.set_frames_left(left - 1, false);
                return Err(error);
            }
        };
        if taken == 0 {
            log::error!("{}: a message takes up no bytes", conn.key());
            conn.close_as(CloseReason::Misuse);
        }
        consumed = consumed.saturating_add(taken);
        left -= 1;
        if !conn.takes_more() {
            break;
        }
    }
    conn.set_frames_left(left, consumed < data.len());
    Ok(consumed)
}

/// Calls `on_frame` for each whole frame that `data` begins with, as [`for_each_message`] does. If the decoder knows how
/// many bytes it waits for, it is not called before they are there ([`need`](Connection::need)).
///
/// # Errors
///
/// What `on_frame` fails with; [`BadFrame`] for bytes that are no frame. An `on_data` that returns that one ends the
/// connection as [`CloseReason::BadFrame`], any other error as [`CloseReason::HandlerError`].
///
/// ```
/// use oneloop::codec::{Encoder, Lines, for_each_frame};
/// use oneloop::{Connection, Error, StreamHandler};
///
/// /// Sends each line back.
/// struct Echo;
///
/// impl StreamHandler for Echo {
///     type Session = Lines;
///
///     fn on_open(&mut self, _: &mut Connection<'_>) -> Lines {
///         Lines::new(1000).refuse_lone_cr()
///     }
///
///     fn on_data(&mut self, lines: &mut Lines, conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
///         let answers = lines.clone();
///         for_each_frame(lines, conn, data, |conn, line| Ok(answers.encode(line, conn)?))
///     }
/// }
///
/// oneloop::Reactor::new()?.add(Echo);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn for_each_frame<D: Decoder>(
    decoder: &mut D,
    conn: &mut Connection<'_>,
    data: &[u8],
    mut on_frame: impl FnMut(&mut Connection<'_>, D::Frame<'_>) -> Result<(), Error>,
) -> Result<usize, Error> {
    for_each_message(conn, data, |conn, rest| {
        let Some((frame, taken)) = decoder.decode(rest).map_err(BadFrame)? else {
            if decoder.need() > 0 {
                conn.need(decoder.need());
            }
            return Ok(None);
        };
        on_frame(conn, frame)?;
        Ok(Some(taken))
    })
}
