//! One handler and one connection, without a network: bytes in, bytes out.

use std::io::{Read, Write};
use std::time::Duration;

use super::network::SimSocket;
use super::world::{Served, Simulation, small};
use crate::error::CloseReason;
use crate::handler::StreamHandler;
use crate::limits::Limits;
use crate::listener::ListenOptions;

/// A handler with one open connection. Each [`feed`](Harness::feed) is shown to it by itself, so a
/// test says exactly how its input is cut.
///
/// ```
/// use oneloop::sim::Harness;
/// # use oneloop::{Connection, Error, StreamHandler};
/// # struct Echo;
/// # impl StreamHandler for Echo {
/// #     type Session = ();
/// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
/// #     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
/// #         conn.send(data).ignore();
/// #         Ok(data.len())
/// #     }
/// # }
///
/// let mut harness = Harness::new(Echo);
/// harness.feed("hel");
/// harness.feed("lo");
/// assert_eq!(harness.output(), b"hello");
/// ```
pub struct Harness<H> {
    sim: Simulation,
    served: Served<H>,
    client: Option<SimSocket>,
    /// The server's end of file, or a reset, was read.
    is_over: bool,
}

impl<H: StreamHandler> Harness<H> {
    /// Opens a connection to `handler`, with the limits that a listener has if nothing is said.
    #[track_caller]
    pub fn new(handler: H) -> Harness<H> {
        Harness::with_limits(handler, Limits::new())
    }

    /// The same with other limits: of input that is not consumed, of output, of time.
    ///
    /// # Panics
    ///
    /// If they make no sense.
    ///
    /// ```
    /// use oneloop::sim::Harness;
    /// use oneloop::{CloseReason, Limits};
    /// # use oneloop::{Connection, Error, StreamHandler};
    /// # struct Lines;
    /// # impl StreamHandler for Lines {
    /// #     type Session = ();
    /// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
    /// #     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
    /// #         Ok(data.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1))
    /// #     }
    /// # }
    ///
    /// let limits = Limits::new().input_bytes_max(1024);
    /// let mut harness = Harness::with_limits(Lines, limits);
    /// harness.feed([b'x'; 1024]);
    /// harness.output();
    /// assert_eq!(harness.closed(), Some(CloseReason::InputTooLong));
    /// ```
    #[track_caller]
    pub fn with_limits(handler: H, limits: Limits) -> Harness<H> {
        let mut sim = Simulation::new(0);
        let served = sim.serve_with(handler, small(), &ListenOptions::new().limits(limits));
        let client = sim.connect(served.address);
        sim.run_until_idle();
        Harness { sim, served, client: Some(client), is_over: false }
    }

    /// Has the handler receive these bytes, and do what it does about them. What it does not read now,
    /// because it paused or its output is full, it reads later.
    ///
    /// # Panics
    ///
    /// If more is fed than the kernel's buffers hold, 256 KiB, before the handler reads any of it.
    #[track_caller]
    pub fn feed(&mut self, bytes: impl AsRef<[u8]>) {
        let mut left = bytes.as_ref();
        while let Some(client) = &mut self.client
            && !left.is_empty()
        {
            match client.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the handler does not read: {} bytes are left over", left.len())
                }
                Err(_) => return, // closed: nobody is there to be fed
            }
            self.sim.run_until_idle();
        }
    }

    /// What the handler has sent since the last call. After the handler's end of file the harness ends
    /// its side too, as a client would.
    pub fn output(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        let mut buffer = [0; 4096];
        while let Some(client) = &mut self.client {
            match client.read(&mut buffer) {
                Ok(0) => {
                    self.is_over = true;
                    self.end();
                    break;
                }
                Ok(count) => output.extend(&buffer[..count]),
                Err(error) => {
                    self.is_over |= error.kind() != std::io::ErrorKind::WouldBlock;
                    break;
                }
            }
            self.sim.run_until_idle();
        }
        output
    }

    /// Lets time pass, and timers fire.
    pub fn advance(&mut self, duration: Duration) {
        self.sim.run_for(duration);
        self.sim.run_until_idle();
    }

    /// Sends the end of file.
    pub fn end(&mut self) {
        if let Some(client) = &self.client {
            // It is an error if the handler has closed already.
            let _ = client.shutdown_write();
        }
        self.sim.run_until_idle();
    }

    /// Resets the connection.
    pub fn reset(&mut self) {
        if let Some(client) = self.client.take() {
            client.reset();
        }
        self.sim.run_until_idle();
    }

    /// Whether [`output`](Harness::output) has come to the handler's end of file, or a reset.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Why the connection was closed, once `on_close` was called: for an orderly close, after
    /// [`output`](Harness::output) has come to its end.
    pub fn closed(&self) -> Option<CloseReason> {
        self.sim[self.served.reactor].stats().last_close
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        self.sim.handler(self.served)
    }
}

/// Feeds `input` in every way to cut it, each to a handler of its own that `make` makes, and calls
/// `check` with what it did: up to 12 bytes every way there is, beyond that every way with two cuts at
/// most.
///
/// ```
/// use oneloop::sim::all_splits;
/// # use oneloop::{Connection, Error, StreamHandler};
/// # struct Echo;
/// # impl StreamHandler for Echo {
/// #     type Session = ();
/// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
/// #     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
/// #         conn.send(data).ignore();
/// #         Ok(data.len())
/// #     }
/// # }
///
/// all_splits(b"hello", || Echo, |harness| assert_eq!(harness.output(), b"hello"));
/// ```
///
/// # Panics
///
/// If `check` does, or `make`.
pub fn all_splits<H: StreamHandler>(
    input: &[u8],
    make: impl Fn() -> H,
    check: impl Fn(&mut Harness<H>),
) {
    let run = |cuts: &[usize]| {
        let mut harness = Harness::new(make());
        let mut from = 0;
        for cut in cuts.iter().copied().chain([input.len()]) {
            harness.feed(&input[from..cut]);
            from = cut;
        }
        check(&mut harness);
    };
    let places: Vec<usize> = (1..input.len()).collect();
    if input.len() <= 12 {
        for set in 0..1_u32 << places.len() {
            let cuts: Vec<usize> =
                places.iter().copied().filter(|place| set >> (place - 1) & 1 == 1).collect();
            run(&cuts);
        }
        return;
    }
    run(&[]);
    for (number, first) in places.iter().enumerate() {
        run(&[*first]);
        for second in &places[number + 1..] {
            run(&[*first, *second]);
        }
    }
}
