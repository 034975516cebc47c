//! A key-value server that redis-cli, redis-benchmark and the client libraries of Redis take for one of their own.
//!
//! It shows a protocol of some size on one loop: commands as frames that are borrowed from the input, many of them
//! answered with one write; clients that wait for each other and block nobody; messages to many; a file that is
//! written by a helper thread and whose sync is awaited before a reply leaves.
//!
//! It knows strings, hashes, lists and sets, expiry, transactions, publishing, and both versions of the protocol;
//! `COMMAND LIST` names all commands. What is to outlive it stands in the append-only file, which grows with every
//! change and is never rewritten. It has no other types (sorted sets, streams, bits), no scripts, no replication and no
//! snapshots. It has no password, so it is for addresses that only friends reach. And it has no bound for the keys:
//! what clients send and are sent is bounded, what they keep is not. All clients wait while one command works on much
//! at once: `KEYS *` or FLUSHALL, SUNION, LREM or DEL of millions, or one by which the keys, a list, a hash or a set of
//! millions take twice the room. A client whose pipeline has more than 64 MiB of replies must read while it sends: its
//! next commands wait until it does. Fractions (INCRBYFLOAT) have 15 digits. A transaction is cut short after 64 MiB of
//! replies, or some seconds: each of the other commands is answered with an error.
//!
//! Try it: `cargo run --release --features signals --example resp_kv`, and in another terminal `redis-cli` or
//! `redis-benchmark -t set,get -P 16`; with `--appendonly FILE` the keys are there again after the next start. A
//! signal, or SHUTDOWN, ends it when what was sent by then is answered, after five seconds at the latest; a second
//! signal at once, but for the time that the disk takes. Who waits by then for an element of a list, or for the end of
//! a CLIENT PAUSE, gets no answer.
//!
//! To read it, begin with `server/mod.rs`.

mod file;
mod server;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oneloop::{Address, ListenOptions, Reactor, ReactorLimits, SocketOptions, Wait};

use self::server::{KEEPALIVE, Policy, Server};

/// How long clients have, after a signal, to take the replies to what they have sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// For what clients send and are sent, not for the keys. A message counts once for each client that has not taken it.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// In addition to that, for the replies that wait for the disk, and for the records.
const WAITING_BYTES_MAX: usize = 512 << 20;

/// A key-value server that speaks the protocol of Redis.
#[derive(Parser)]
struct Arguments {
    /// Where to listen: also `unix:/run/kv.sock`, say.
    #[arg(default_value = "127.0.0.1:6379")]
    address: Address,
    /// Records all changes in this file, and begins with what stands there. A record at its end that is not whole is
    /// moved to FILE.cut-N, where N is the number of bytes before it.
    #[arg(long, value_name = "FILE")]
    appendonly: Option<PathBuf>,
    /// When the records are synced to the disk.
    #[arg(long, value_name = "WHEN", default_value = "everysec", requires = "appendonly")]
    appendfsync: Policy,
    /// How long to look for more requests after the last one before the server sleeps. To wake it up costs a client
    /// more than this costs the server.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    spin: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("resp_kv: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    // Each client takes one.
    oneloop::raise_descriptor_limit();
    let mut reactor =
        Reactor::with_limits(ReactorLimits::new().memory_bytes_max(BUFFER_BYTES_MAX))?;
    reactor.set_wait(Wait::Spin(Duration::from_micros(arguments.spin.into())));
    let mut server = Server::new();
    let mut inbox = None;
    if let Some(path) = &arguments.appendonly {
        let file =
            file::open_and_replay(&mut server, path).map_err(|error| file::named(path, error))?;
        inbox = Some(server.append_to(file, arguments.appendfsync, WAITING_BYTES_MAX));
    }
    // Not before: while the file is read, which may take long, a signal ends the program at once.
    reactor.drain_on_signals(DRAIN_TIMEOUT)?;
    let server = reactor.add(server);
    if let Some(inbox) = inbox {
        reactor.attach(server, inbox)?;
    }
    let mut socket = SocketOptions::new();
    // Only TCP sockets of Linux have such an option.
    if cfg!(target_os = "linux") && matches!(arguments.address, Address::Tcp(_)) {
        socket = socket.keepalive(KEEPALIVE, KEEPALIVE / 3, 3);
    }
    let options = ListenOptions::new().limits(Server::limits()).socket(socket);
    let listener = reactor.listen_with(server, &arguments.address, &options)?;
    println!("listening on {}", reactor.listener_address(listener)?);
    let ended = reactor.run();
    // Also when the loop has failed: what was acknowledged is to be in the file.
    let finished = reactor.handler_mut(server).finish();
    ended?;
    match &arguments.appendonly {
        Some(path) => finished.map_err(|error| file::named(path, error)),
        None => finished,
    }
}
