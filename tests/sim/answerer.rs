//! A server that answers, and a client that asks it.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::net::SocketAddr;
use std::time::Duration;

use oneloop::sim::{Script, Simulation};
use oneloop::{Connection, Error, StreamHandler};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Sends back what it receives, as `answer` makes it.
pub(crate) struct Answerer<F>(pub(crate) F);

impl<F: FnMut(&[u8]) -> Vec<u8> + 'static> StreamHandler for Answerer<F> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let answer = (self.0)(data);
        conn.send(&answer).ignore();
        Ok(data.len())
    }
}

pub(crate) fn echo() -> Answerer<impl FnMut(&[u8]) -> Vec<u8>> {
    Answerer(<[u8]>::to_vec)
}

pub(crate) fn hello() -> Script {
    Script::new().send("hello").expect("hello")
}

pub(crate) fn ask(sim: &mut Simulation, address: SocketAddr) {
    sim.client(address, Script::new().send("hello").close());
    sim.run_for(SECOND);
}
