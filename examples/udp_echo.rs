//! The smallest UDP server: it sends back each datagram, to whom it came from.
//!
//! Try it: `cargo run --example udp_echo`, and in another terminal `socat - UDP:127.0.0.1:7006`. An address
//! to bind to can be given as its argument: `*:7000` for IPv4 and IPv6, `unixgram:/tmp/echo.sock` for a Unix socket.
//! `RUST_LOG=oneloop=trace` shows the loop at work.
//!
//! A sender's address can be forged. So it leaves ports below 1024 and its own one alone: an answer to another
//! server that answers everything, or to itself, would be sent back and forth for ever.

use std::env;
use std::process::ExitCode;

use oneloop::{Datagram, DatagramHandler, DatagramSocket};

#[derive(Default)]
struct Echo {
    own_port: Option<u16>,
}

impl DatagramHandler for Echo {
    fn on_bound(&mut self, socket: &mut DatagramSocket) {
        self.own_port = socket.local_address().ok().and_then(|address| address.port());
    }

    fn on_datagram(&mut self, socket: &mut DatagramSocket, datagram: Datagram) {
        let port = datagram.from.port();
        if port.is_none_or(|port| port >= 1024 && Some(port) != self.own_port) {
            socket.send_to(datagram.from, datagram.data).ignore();
        }
    }
}

fn main() -> ExitCode {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("info"));
    let address = env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:7006"));
    match oneloop::serve_datagrams(address, Echo::default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("udp_echo: {error}");
            ExitCode::FAILURE
        }
    }
}
