//! The smallest handler, for tests of something else.

use oneloop::{Connection, Error, StreamHandler};

/// Sends back what it is sent.
pub struct Echo;

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }
}
