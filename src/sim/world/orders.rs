//! What is to happen at one place: in the bytes of a link, or at the next call of a kind.

use std::io;
use std::panic::Location;

use super::{Party, ReactorId, Simulation};
use crate::sim::calls::Call;
use crate::sim::orders::Cut;

impl Simulation {
    /// Makes the next call of this kind fail with this error, on a reactor's host. Told twice, the next
    /// two fail. For errors that [`io::ErrorKind`] has no name for, give the system's number:
    /// [`io::Error::from_raw_os_error`].
    ///
    /// A test that ends before the call was made fails, as [`assert_all_done`](Self::assert_all_done) does,
    /// unless [`heal`](Self::heal) has withdrawn what was ordered.
    ///
    /// # Panics
    ///
    /// If no system call fails with that.
    ///
    /// ```
    /// use std::io;
    /// use oneloop::sim::{Call, Script, Simulation};
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
    /// let mut sim = Simulation::new(1);
    /// let echo = sim.serve(Echo);
    /// let client = sim.client(echo.address, Script::new().send("a").expect("a"));
    /// const ENOBUFS: i32 = 105;
    /// sim.fail_next(echo.reactor, Call::Accept, io::Error::from_raw_os_error(ENOBUFS));
    /// sim.run_for(std::time::Duration::from_secs(1));
    /// assert_eq!(sim[echo.reactor].stats().accept_errors, 1);
    /// sim.assert_done(client);
    /// ```
    #[track_caller]
    pub fn fail_next(&mut self, id: ReactorId, call: Call, error: impl Into<io::Error>) {
        let host = self.host(id);
        self.log("fail next", host, 0);
        self.network.net.borrow_mut().fail_next(host, call, &error.into(), Location::caller());
    }

    /// Cuts what comes from one host to another: the next reads there give pieces of these sizes, and
    /// later ones what there is. A piece that has not arrived as a whole is given in parts; no read goes
    /// beyond its end. With several connections between the two it is the next reads of any.
    ///
    /// It holds on both kernels, for TCP, Unix sockets and pipes. What has arrived already may be given as a whole.
    /// Pieces that are left over when the test ends fail it, as [`assert_all_done`](Self::assert_all_done) does, unless
    /// [`heal`](Self::heal) has withdrawn what was ordered.
    ///
    /// # Panics
    ///
    /// If a piece has no byte.
    ///
    /// ```
    /// use oneloop::sim::{Party, Script, Simulation};
    /// # use oneloop::{Connection, Error, StreamHandler};
    /// # #[derive(Default)]
    /// # struct Log { seen: Vec<Vec<u8>> }
    /// # impl StreamHandler for Log {
    /// #     type Session = ();
    /// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
    /// #     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
    /// #         self.seen.push(data.to_vec());
    /// #         Ok(data.len())
    /// #     }
    /// # }
    ///
    /// let mut sim = Simulation::new(1);
    /// let log = sim.serve(Log::default());
    /// sim.cut_reads(Party::Clients, log.reactor, [1, 7, 3]);
    /// sim.client(log.address, Script::new().send("GET a\r\nPUT b 1\r\n").close());
    /// sim.run_until_idle();
    /// assert_eq!(sim.handler(log).seen, [&b"G"[..], b"ET a\r\nP", b"UT ", b"b 1\r\n"]);
    /// sim.assert_all_done();
    /// ```
    #[track_caller]
    pub fn cut_reads(
        &mut self,
        from: impl Into<Party>,
        to: impl Into<Party>,
        sizes: impl IntoIterator<Item = usize>,
    ) {
        self.cut(Cut::Reads, from.into(), to.into(), sizes);
    }

    /// The same for what one host sends to another: its next writes take so many bytes, if they are
    /// offered so many, and later ones what there is room for.
    ///
    /// # Panics
    ///
    /// If a piece has no byte.
    #[track_caller]
    pub fn cut_writes(
        &mut self,
        from: impl Into<Party>,
        to: impl Into<Party>,
        sizes: impl IntoIterator<Item = usize>,
    ) {
        self.cut(Cut::Writes, from.into(), to.into(), sizes);
    }

    #[track_caller]
    fn cut(&mut self, what: Cut, from: Party, to: Party, sizes: impl IntoIterator<Item = usize>) {
        let link = (self.host_of(from), self.host_of(to));
        self.log("cut", link.0, u64::from(link.1));
        let sizes = sizes.into_iter().collect();
        self.network.net.borrow_mut().cut(what, link, sizes, Location::caller());
    }

    /// Resets a connection, for both sides, when exactly so many bytes of what one host sends to another
    /// from now on have arrived there; with 0, in place of the next one. With several connections between
    /// the two all their bytes count, and it is the one that sends the last of these that is reset. Told
    /// twice, the second one counts from the first reset on. Unix sockets have no network that could reset them, and
    /// their bytes do not count.
    ///
    /// If the test ends before so much was sent it fails, as [`assert_all_done`](Self::assert_all_done)
    /// does, unless [`heal`](Self::heal) has withdrawn what was ordered.
    ///
    /// ```
    /// use oneloop::sim::{End, Party, Script, Simulation};
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
    /// let mut sim = Simulation::new(1);
    /// let echo = sim.serve(Echo);
    /// sim.reset_after(echo.reactor, Party::Clients, 3);
    /// let client = sim.client(echo.address, Script::new().send("hello").expect("hel"));
    /// sim.run_until_idle();
    /// assert_eq!(sim.received(client), b"hel");
    /// assert_eq!(sim.end(client), Some(End::Reset));
    /// ```
    #[track_caller]
    pub fn reset_after(&mut self, from: impl Into<Party>, to: impl Into<Party>, bytes: usize) {
        let link = (self.host_of(from.into()), self.host_of(to.into()));
        self.log("reset after", link.0, bytes as u64);
        self.network.net.borrow_mut().reset_after(link, bytes, Location::caller());
    }

    /// What was ordered and has not come to pass.
    pub(in crate::sim) fn order_left(&self) -> Option<String> {
        self.network.net.try_borrow().ok()?.orders.left()
    }

    /// Checks that all has.
    #[track_caller]
    pub(in crate::sim) fn assert_ordered(&self) {
        if let Some(order) = self.order_left() {
            panic!("{order}");
        }
    }
}
