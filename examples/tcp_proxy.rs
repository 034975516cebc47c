//! A proxy: whoever connects is connected to one server, and from then on the reactor passes everything on.
//!
//! It shows outbound connections, a handler that serves both sides, and forwarding, which takes the bytes,
//! the pressure of a slow reader and the ends from one side to the other without a callback. The server may be
//! a name, which is looked up off the loop for each client, or a Unix socket. Whoever comes while it cannot be reached is
//! reset, and the log says why; with `RUST_LOG=tcp_proxy=info` also how much went over each connection.
//!
//! Try it: `cargo run --example tcp_proxy 127.0.0.1:7005 127.0.0.1:7000`, with `cargo run --release -- echo`
//! behind it, and in a third terminal `nc 127.0.0.1 7005`.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use oneloop::{
    Address, CloseReason, ConnectError, Connection, Context, Error, Key, Origin, Reactor,
    StreamHandler,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, server] = &arguments[..] else {
        eprintln!("usage: tcp_proxy LISTEN SERVER, for example 127.0.0.1:7005 127.0.0.1:7000");
        return ExitCode::FAILURE;
    };
    match serve(listen, server) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp_proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(listen: &str, server: &str) -> io::Result<()> {
    let server: Address = server.parse()?;
    if !matches!(server, Address::Tcp(_) | Address::Unix(_)) {
        return Err(io::Error::other(format!("{server} is no server to connect to")));
    }
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let mut reactor = Reactor::new()?;
    let proxy = reactor.add(Proxy { server });
    let listener = reactor.listen(proxy, listen)?;
    writeln!(io::stdout(), "listening on {}", reactor.listener_address(listener)?)?;
    reactor.run()?;
    Ok(())
}

struct Proxy {
    server: Address,
}

impl StreamHandler for Proxy {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        let own = conn.key();
        match conn.origin() {
            Origin::Accepted(_) => {
                // Nothing is read before there is somebody to give it to.
                conn.pause();
                conn.connect(&self.server, own.to_bits());
            }
            Origin::Adopted(_) => unreachable!("nothing is adopted here"),
            Origin::Connected(client) => {
                let client = Key::from_bits(client);
                if !(conn.forward(client, own) && conn.forward(own, client)) {
                    conn.close(); // the client has gone meanwhile
                }
            }
        }
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, _: &[u8]) -> Result<usize, Error> {
        Err("data that is not forwarded".into())
    }

    fn on_connect_failed(
        &mut self,
        _: Key,
        client: u64,
        reason: ConnectError,
        cx: &mut Context<'_>,
    ) {
        let client = Key::from_bits(client);
        log::warn!("{client}: no connection to {}: {reason}", self.server);
        cx.abort_key(client);
    }

    fn on_close(&mut self, (): (), key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        let Some(traffic) = cx.traffic(key) else { return };
        log::info!("{key}: {reason}; {} bytes in, {} out", traffic.bytes_in, traffic.bytes_out);
    }
}
