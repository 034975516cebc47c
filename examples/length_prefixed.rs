//! Binary messages with their length in front: a service that adds numbers.
//!
//! A request is four bytes of length, in network byte order, and so many bytes of numbers, eight bytes each; the
//! answer is framed alike and has their sum, which wraps. Requests may be sent ahead; answers come in their order.
//!
//! Try it: `cargo run --example length_prefixed`, and in another terminal
//!
//! ```sh
//! python3 -c '
//! import socket, struct
//! server = socket.create_connection(("127.0.0.1", 7010))
//! server.sendall(struct.pack("!IQQ", 16, 40, 2))
//! print(struct.unpack("!IQ", server.recv(12, socket.MSG_WAITALL))[1])'
//! ```
//!
//! An address to listen on can be given as an argument.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use oneloop::codec::{
    BadFrame, Decoder, Encoder, FrameError, FrameHandler, Framed, LengthFrame, LengthPrefixed,
    LengthWidth,
};
use oneloop::{Connection, Error, Limits, ListenOptions, Reactor};

const MESSAGE_BYTES_MAX: usize = 8 * 1024;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("length_prefixed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:7010"));
    let limits = Limits::new().input_bytes_max(Adder.decoder().whole_bytes_max());
    let mut reactor = Reactor::new()?;
    let adder = reactor.add(Framed::new(Adder));
    let listener = reactor.listen_with(adder, address, &ListenOptions::new().limits(limits))?;
    writeln!(io::stdout(), "listening on {}", reactor.listener_address(listener)?)?;
    reactor.run()?;
    Ok(())
}

struct Adder;

impl FrameHandler for Adder {
    type Decoder = LengthPrefixed;
    type Session = ();

    fn decoder(&self) -> LengthPrefixed {
        LengthPrefixed::new(LengthWidth::U32, MESSAGE_BYTES_MAX)
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_frame(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        frame: LengthFrame<'_>,
    ) -> Result<(), Error> {
        let (numbers, rest) = frame.body.as_chunks();
        if !rest.is_empty() {
            let rule = "a message is not made of numbers of eight bytes";
            return Err(BadFrame(FrameError::Malformed(rule)).into());
        }
        let sum = numbers
            .iter()
            .fold(0, |sum: u64, number| sum.wrapping_add(u64::from_be_bytes(*number)));
        self.decoder().encode(&sum.to_be_bytes(), conn)?;
        Ok(())
    }

    fn on_bad_frame(&mut self, _: &mut (), conn: &mut Connection<'_>, error: FrameError) {
        eprintln!("{}: {error}", conn.key());
    }
}
