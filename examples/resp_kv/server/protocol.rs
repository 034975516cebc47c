//! Finds commands in what clients send: in the Redis serialization protocol
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), or typed as lines.

use oneloop::codec::{Decoder, FrameError};
use smallvec::SmallVec;

use super::inline::{LINE_BYTES_MAX, Words, decode_line};

/// The longest argument. Redis takes 512 MiB; here the input of a client has to have room for a whole command.
pub const BULK_BYTES_MAX: usize = 64 << 20;
/// The longest command: room for one such argument, and for others that are short.
pub const COMMAND_BYTES_MAX: usize = BULK_BYTES_MAX + LINE_BYTES_MAX;
/// A command has at most one argument for each so many bytes that it may have.
const BYTES_PER_ARGUMENT: usize = 64;

/// One command with its arguments, the first of which is its name; without any it is none.
pub enum Request<'a> {
    /// As programs send it: an array of strings, which are borrowed from the input.
    Array(SmallVec<[&'a [u8]; 8]>),
    /// As people type it.
    Inline(Words),
}

/// Finds the commands of one client. If a command comes in parts, it is looked through up to what has come, and in the
/// end once more: so the work is in proportion to the length, however small the parts are.
pub struct CommandDecoder {
    bytes_max: usize,
    /// How far a command that is not whole was looked through.
    offset: usize,
    /// How many of its arguments are still to come. Where those before them stand is not kept: there may be very many.
    missing: usize,
    /// How many bytes have to be there before the next argument is whole; 0 if that is not known.
    need: usize,
}

impl Decoder for CommandDecoder {
    type Frame<'a> = Request<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Request<'a>, usize)>, FrameError> {
        match input.first() {
            None => Ok(None),
            Some(b'*') => self.decode_array(input),
            Some(_) => {
                let line = decode_line(input, &mut self.offset)?;
                Ok(line.map(|(words, taken)| (Request::Inline(words), taken)))
            }
        }
    }

    fn need(&self) -> usize {
        self.need
    }

    fn whole_bytes_max(&self) -> usize {
        self.bytes_max
    }
}

impl CommandDecoder {
    /// Finds commands of at most so many bytes.
    pub fn new(bytes_max: usize) -> CommandDecoder {
        CommandDecoder { bytes_max, offset: 0, missing: 0, need: 0 }
    }

    fn decode_array<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(Request<'a>, usize)>, FrameError> {
        self.need = 0;
        let came_in_parts = self.offset > 0;
        if !came_in_parts {
            const INVALID: FrameError = FrameError::Malformed("invalid multibulk length");
            let Some((count, used)) = length(&input[1..]).map_err(|()| INVALID)? else {
                return Ok(None);
            };
            self.offset = 1 + used;
            self.missing = usize::try_from(count).unwrap_or(0); // less than nothing is nothing
            if self.missing > self.bytes_max / BYTES_PER_ARGUMENT {
                return Err(INVALID);
            }
        }
        let mut arguments = SmallVec::new();
        while self.missing > 0 {
            let Some((start, len)) = self.bulk(&input[self.offset..])? else { return Ok(None) };
            let start = self.offset + start;
            if !came_in_parts {
                arguments.push(&input[start..start + len]);
            }
            self.offset = start + len + 2;
            self.missing -= 1;
        }
        let taken = std::mem::take(&mut self.offset);
        if came_in_parts {
            return self.decode_array(input); // now that it is whole, from its beginning
        }
        Ok(Some((Request::Array(arguments), taken)))
    }

    /// Where in `input`, which begins with the next argument, its bytes stand, and how many there are.
    fn bulk(&mut self, input: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        const INVALID: FrameError = FrameError::Malformed("invalid bulk length");
        match input.first() {
            None => return Ok(None),
            Some(b'$') => {}
            Some(_) => return Err(FrameError::Malformed("expected '$'")),
        }
        let Some((len, used)) = length(&input[1..]).map_err(|()| INVALID)? else {
            return self.check_size(input.len()).map(|()| None);
        };
        let len = usize::try_from(len).map_err(|_| INVALID)?;
        if len > BULK_BYTES_MAX {
            return Err(INVALID);
        }
        let start = 1 + used;
        self.check_size(start + len + 2)?;
        if input.len() < start + len + 2 {
            self.need = self.offset + start + len + 2;
            return Ok(None);
        }
        if &input[start + len..start + len + 2] != b"\r\n" {
            return Err(FrameError::Malformed("expected CRLF after a bulk"));
        }
        Ok(Some((start, len)))
    }

    fn check_size(&self, more: usize) -> Result<(), FrameError> {
        let is_too_long = self.offset + more > self.bytes_max;
        if is_too_long { Err(FrameError::TooLong(self.bytes_max)) } else { Ok(()) }
    }
}

/// A length, and how many bytes it takes up with its line's end. `None`: it is not whole yet; an error: it is none.
fn length(input: &[u8]) -> Result<Option<(i64, usize)>, ()> {
    let sign_len = usize::from(input.first() == Some(&b'-'));
    let mut number: i64 = 0;
    for (at, byte) in input[sign_len..].iter().enumerate() {
        match byte {
            // No zero in front of other digits, of which there would be no end; and no number that overflows.
            b'0'..=b'9' if at == 0 || (1..1 << 40).contains(&number) => {
                number = 10 * number + i64::from(byte - b'0');
            }
            b'\r' if number > 0 || (at > 0 && sign_len == 0) => {
                let at = sign_len + at;
                return match input.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((if sign_len > 0 { -number } else { number }, at + 2))),
                    Some(_) => Err(()),
                };
            }
            _ => return Err(()),
        }
    }
    Ok(None)
}
