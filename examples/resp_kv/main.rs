//! A key-value server that redis-cli, redis-benchmark and the client libraries of Redis take for one of their own.
//!
//! It shows a protocol of some size on one loop: commands as frames that are borrowed from the input, many of them
//! answered with one write; clients that wait for each other and block nobody; messages to many; a file that is
//! written by a helper thread and whose sync is awaited before a reply leaves.
//!
//! It knows strings, hashes, lists and sets, expiry, transactions, publishing, and both versions of the protocol;
//! `COMMAND LIST` tells all. It has no replication, no scripts, and no snapshots: what is to outlive it stands in
//! the append-only file.
//!
//! Try it: `cargo run --release --features signals --example resp_kv`, and in another terminal `redis-cli` or
//! `redis-benchmark -t set,get -P 16`; with `--appendonly FILE` the keys are there again after the next start. It
//! ends with a signal, or with SHUTDOWN.

mod server;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use oneloop::{ListenOptions, Reactor, ReactorLimits, SocketOptions};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::server::{KEEPALIVE, Policy, Server};

/// How long clients have, after a signal, to take the replies to what they have sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// For what clients send and are sent, not for the keys.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// For the replies among it that wait for the disk, beside the others: two of the largest.
const HELD_BYTES_MAX: usize = 512 << 20;

/// A key-value server that speaks the protocol of Redis.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(default_value = "127.0.0.1:6379")]
    address: String,
    /// Records all changes in this file, and begins with what stands there.
    #[arg(long, value_name = "FILE")]
    appendonly: Option<PathBuf>,
    /// When the records are synced to the disk: before a change is acknowledged, once a second, or when the system
    /// does.
    #[arg(long, value_name = "WHEN", default_value = "everysec", requires = "appendonly")]
    appendfsync: Sync,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sync {
    Always,
    Everysec,
    No,
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
    raise_descriptor_limit();
    let mut reactor =
        Reactor::with_limits(ReactorLimits::new().memory_bytes_max(BUFFER_BYTES_MAX))?;
    reactor.drain_on_signals(DRAIN_TIMEOUT)?;
    let mut server = Server::new(random);
    let mut inbox = None;
    if let Some(path) = &arguments.appendonly {
        let file = open(&mut server, path).map_err(|error| named(path, error))?;
        let policy = match arguments.appendfsync {
            Sync::Always => Policy::Always,
            Sync::Everysec => Policy::EverySecond,
            Sync::No => Policy::Never,
        };
        inbox = Some(server.append_to(file, policy, HELD_BYTES_MAX));
    }
    let server = reactor.add(server);
    if let Some(inbox) = inbox {
        reactor.attach(server, inbox)?;
    }
    let socket = SocketOptions::new().keepalive(KEEPALIVE, KEEPALIVE / 3, 3);
    let options = ListenOptions::new().limits(Server::limits()).socket(socket);
    let listener = reactor.listen_with(server, arguments.address.as_str(), &options)?;
    println!("listening on {}", reactor.listener_address(listener)?);
    reactor.run()?;
    reactor.handler_mut(server).finish()
}

/// Each client takes one, and the soft limit is mostly 1024, for the sake of programs that use select(2).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::warn!("the limit of descriptors stays as it is: {error}");
    }
}

/// From the operating system, by way of the standard library's own use of it.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

/// Opens the append-only file, carries out what it says, and cuts off a record that was not written to its end.
fn open(server: &mut Server, path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("another process has it open"))?;
    let replayed = server.replay(&file)?;
    log::info!("{}: {} commands", path.display(), replayed.commands);
    if replayed.torn_bytes > 0 {
        log::warn!(
            "{}: the last record is not whole; {} bytes are cut off",
            path.display(),
            replayed.torn_bytes
        );
        file.set_len(replayed.whole_bytes)?;
    }
    file.sync_all()?;
    // A new file is lost with its name.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
