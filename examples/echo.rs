//! The smallest server: it sends back what it is sent.
//!
//! Try it: `cargo run --example echo`, and in another terminal `nc 127.0.0.1 7000`. An address to
//! listen on can be given as its argument; `RUST_LOG=oneloop=trace` shows the loop at work.

use std::env;
use std::process::ExitCode;

use oneloop::{Connection, Error, StreamHandler};

struct Echo;

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection) {}

    fn on_data(&mut self, _: &mut (), conn: &mut Connection, data: &[u8]) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }
}

fn main() -> ExitCode {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("info"));
    let address = env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:7000"));
    match oneloop::serve(address, Echo) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}
