use oneloop::codec::{Encoder, FrameHandler, Framed, Lines};
use oneloop::{Connection, Error};

const LINE_BYTES_MAX: usize = 200;

struct Tally;

impl FrameHandler for Tally {
    type Decoder = Lines;
    type Session = ();

    fn decoder(&self) -> Lines {
        Lines::new(LINE_BYTES_MAX).refuse_lone_cr()
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_frame(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), Error> {
        self.decoder().encode(line, conn)?;
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    oneloop::serve("127.0.0.1:7000", Framed::new(Tally))
}
