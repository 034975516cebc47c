//! A terminal and a socket in one loop, as nc(1): what is typed is sent, what comes is printed, until both sides
//! have said all.
//!
//! It shows standard input and output as connections, and forwarding between three of them: the end of the input
//! half-closes the socket, and the answer still comes; who reads the output slowly slows the sender down.
//!
//! Try it: `cargo run --release -- echo`, and in another terminal `cargo run --example netcat 127.0.0.1:7000`; or
//! `printf 'GET / HTTP/1.0\r\n\r\n' | cargo run --example netcat 127.0.0.1:8080`. With `-l` it waits for one client.
//! An address may also be `localhost:7000`, of which all that it stands for is tried, or `unix:/run/app.sock`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use oneloop::{
    Address, CloseReason, ConnectError, Connection, Context, Error, Key, Limits, ListenOptions,
    Origin, Peer, Reactor, StreamHandler,
};

fn main() -> ExitCode {
    env_logger::init();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (address, listens) = match &arguments[..] {
        [flag, address] if flag == "-l" => (address, true),
        [address] if address != "-l" => (address, false),
        _ => {
            eprintln!("usage: netcat [-l] ADDRESS, for example 127.0.0.1:7000");
            return ExitCode::FAILURE;
        }
    };
    match run(address, listens) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netcat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(address: &str, listens: bool) -> Result<(), Error> {
    let mut reactor = Reactor::new()?;
    // Somebody may think before they type, and look at a page for as long as they like.
    let limits = Limits::new()
        .idle_timeout(Duration::MAX)
        .write_stall_timeout(Duration::MAX)
        .output_soft_timeout(Duration::MAX);
    reactor.set_connect_limits(limits.clone())?;
    let handler = reactor.add(Netcat::default());
    let (input, reading) = oneloop::stdin()?;
    let input = reactor.adopt(handler, input, 0)?;
    let (output, written) = oneloop::stdout()?;
    let output = reactor.adopt(handler, output, 0)?;
    let netcat = reactor.handler_mut(handler);
    (netcat.input, netcat.output) = (Some(input), Some(output));
    if listens {
        let listener =
            reactor.listen_with(handler, address, &ListenOptions::new().limits(limits))?;
        eprintln!("listening on {}", reactor.listener_address(listener)?);
    } else {
        reactor.handler_mut(handler).to = Some(address.parse()?);
    }
    reactor.run()?;
    written.wait()?;
    reading.check().map_err(|error| format!("standard input: {error}"))?;
    match reactor.handler_mut(handler).error.take() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Netcat {
    /// Unless it waits for a client.
    to: Option<Address>,
    input: Option<Key>,
    output: Option<Key>,
    socket: Option<Key>,
    /// Why it did not end well.
    error: Option<String>,
}

impl StreamHandler for Netcat {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        if let Some(to) = &self.to {
            cx.connect(to, 0);
        }
    }

    fn accept(&mut self, _: &Peer<'_>, _: &mut Context<'_>) -> bool {
        self.socket.is_none()
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        let own = conn.key();
        match conn.origin() {
            // Nothing is read before there is somebody to give it to.
            Origin::Adopted(_) => return conn.pause(),
            Origin::Accepted(listener) => conn.close_listener(listener),
            Origin::Connected(_) => {}
        }
        self.socket = Some(own);
        let (Some(input), Some(output)) = (self.input, self.output) else { return conn.close() };
        if !(conn.forward(input, own) && conn.forward(own, output)) {
            conn.close();
        }
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, _: &[u8]) -> Result<usize, Error> {
        Err("data that is not forwarded".into())
    }

    fn on_connect_failed(&mut self, _: Key, _: u64, error: ConnectError, cx: &mut Context<'_>) {
        self.error = Some(format!("cannot connect: {error}"));
        cx.stop();
    }

    fn on_close(&mut self, (): (), key: Key, reason: CloseReason, cx: &mut Context<'_>) {
        use CloseReason::{Closed, OtherSide, PeerClosed, Stopped};
        // The last one is that of an input that nobody needs any more.
        let is_good = matches!(reason, PeerClosed | Closed | OtherSide | Stopped);
        if !is_good && self.error.is_none() {
            self.error = Some(match (reason, self.output == Some(key)) {
                (CloseReason::Reset, true) => "nobody reads the output any more".into(),
                _ => reason.to_string(),
            });
        }
        for own in [&mut self.input, &mut self.output] {
            own.take_if(|own| *own == key);
        }
        if self.output.is_some() {
            return; // what came last is still being printed
        }
        match self.socket.filter(|socket| *socket != key && cx.is_open(*socket)) {
            // The other side has said all. A file goes on being sent; a person need not type another line to find out.
            Some(socket) if io::stdin().is_terminal() => cx.close_key(socket),
            Some(_) => {}
            None => cx.stop(),
        }
    }
}
