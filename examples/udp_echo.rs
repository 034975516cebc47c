//! The smallest UDP server: it sends back each datagram, to whom it came from.
//!
//! Try it: `cargo run --example udp_echo`, and in another terminal `socat - UDP:127.0.0.1:7000`. An address
//! to bind to can be given as its argument: `*:7000` for IPv4 and IPv6, `unixgram:/tmp/echo.sock` for a Unix socket.
//! `RUST_LOG=oneloop=trace` shows the loop at work.

use oneloop::{Datagram, DatagramHandler, DatagramSocket};

struct Echo;

impl DatagramHandler for Echo {
    fn on_datagram(&mut self, socket: &mut DatagramSocket, datagram: Datagram) {
        socket.send_to(datagram.from, datagram.data).ignore();
    }
}

fn main() -> std::io::Result<()> {
    env_logger::init();
    oneloop::serve_datagrams(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:7000"), Echo)
}
