//! One handler and one connection, without a network: bytes in, bytes out.

use std::io::{Read, Write};
use std::time::Duration;

use super::network::SimSocket;
use super::sim_driver::SimDriver;
use super::trace::Entry;
use super::world::{Served, Simulation, small};
use crate::core::Source;
use crate::error::CloseReason;
use crate::handler::StreamHandler;
use crate::key::Key;
use crate::limits::Limits;
use crate::listener::ListenOptions;
use crate::reactor::Reactor;
use crate::stats::Stats;
use crate::stream::flag::{CLOSING, DEAD, OUTBOUND};

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
    /// The handler's connection.
    key: Option<Key>,
    /// The end of file, or a reset, was sent,
    has_ended: bool,
    /// ... and the handler's was read.
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
        // It may have closed in `on_open`.
        let mut sources = sim[served.reactor].core.sources.iter();
        let is_ours =
            |source: &Source| matches!(source, Source::Stream(stream) if !stream.has(OUTBOUND));
        let key = sources.find(|(_, source)| is_ours(source)).map(|(key, _)| key);
        drop(sources);
        Harness { sim, served, client: Some(client), key, has_ended: false, is_over: false }
    }

    /// Has the handler receive these bytes, and do what it does about them. What it does not read now,
    /// because it paused or its output is full, it reads later.
    ///
    /// # Panics
    ///
    /// If the connection is closed, by either side, so that the handler is not shown any of it; if more
    /// is fed than the kernel's buffers hold, 256 KiB, before the handler reads any of it.
    #[track_caller]
    pub fn feed(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(!self.has_ended, "nothing can be fed after `end` or `reset`");
        assert!(
            self.is_heard(),
            "the handler is not shown this, it has closed: {:?} (`try_feed` minds nothing)",
            self.closed()
        );
        self.try_feed(bytes);
    }

    /// The same for a handler that may have closed: what it is not shown does not fail the test. Whether
    /// it was there to be shown the first of these bytes.
    ///
    /// # Panics
    ///
    /// If more is fed than the kernel's buffers hold, 256 KiB, before the handler reads any of it.
    #[track_caller]
    pub fn try_feed(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let is_heard = self.is_heard();
        let mut left = bytes.as_ref();
        while let Some(client) = &mut self.client
            && !left.is_empty()
        {
            match client.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the handler does not read: {} bytes are left over", left.len())
                }
                Err(_) => break, // closed: nobody is there to be fed
            }
            self.sim.run_until_idle();
        }
        is_heard
    }

    /// Whether the handler would be shown what is fed, now or when it reads on.
    fn is_heard(&self) -> bool {
        let sources = &self.sim[self.served.reactor].core.sources;
        match self.key.and_then(|key| sources.get(key)) {
            Some(Source::Stream(stream)) => !self.has_ended && !stream.has(CLOSING | DEAD),
            _ => false,
        }
    }

    /// What the handler has sent since the last call. After the handler's end of file the harness ends
    /// its side too, as a client would.
    #[track_caller]
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
    #[track_caller]
    pub fn advance(&mut self, duration: Duration) {
        self.sim.run_for(duration);
        self.sim.run_until_idle();
    }

    /// Sends the end of file.
    #[track_caller]
    pub fn end(&mut self) {
        self.has_ended = true;
        if let Some(client) = &self.client {
            // It is an error if the handler has closed already.
            let _ = client.shutdown_write();
        }
        self.sim.run_until_idle();
    }

    /// Resets the connection.
    #[track_caller]
    pub fn reset(&mut self) {
        self.has_ended = true;
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
    /// [`output`](Harness::output) has come to its end. If the handler connects to others, it is the
    /// reason of the connection that was closed last.
    pub fn closed(&self) -> Option<CloseReason> {
        self.sim[self.served.reactor].stats().last_close
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        self.sim.handler(self.served)
    }

    /// Its reactor: to give it messages, jobs, a drain. What was done there takes effect with the next
    /// [`advance`](Self::advance), also by no time.
    pub fn reactor_mut(&mut self) -> &mut Reactor<SimDriver> {
        &mut self.sim[self.served.reactor]
    }

    /// What its reactor has counted.
    pub fn stats(&self) -> &Stats {
        self.sim[self.served.reactor].stats()
    }

    /// The last things that happened, as of a [`Simulation`].
    pub fn trace(&self) -> Vec<Entry> {
        self.sim.trace()
    }
}
