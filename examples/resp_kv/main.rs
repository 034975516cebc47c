//! A key-value server that redis-cli, redis-benchmark and the client libraries of Redis take for one of their own.
//!
//! It shows a protocol of some size on one loop: commands as frames that are borrowed from the input, many of them
//! answered with one write; clients that wait for each other and block nobody; messages to many; a file that is
//! written by a helper thread and whose sync is awaited before a reply leaves.
//!
//! It knows strings, hashes, lists and sets, expiry, transactions, publishing, and both versions of the protocol;
//! `COMMAND LIST` tells all. What is to outlive it stands in the append-only file, which grows with every change and is
//! never rewritten. It has no other types (sorted sets, streams, bits), no scripts, no replication, no snapshots; no
//! password, so it is for addresses that only friends reach; and no bound for the keys: what clients send and are sent is
//! bounded, what they keep is not.
//!
//! Try it: `cargo run --release --features signals --example resp_kv`, and in another terminal `redis-cli` or
//! `redis-benchmark -t set,get -P 16`; with `--appendonly FILE` the keys are there again after the next start. A signal, or
//! SHUTDOWN, ends it when what was sent by then is answered, after five seconds at the latest; a second signal at once.
//!
//! To read it, begin with `server/mod.rs`.

mod server;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oneloop::{Address, ListenOptions, Reactor, ReactorLimits, SocketOptions, Wait};
use rustix::fs::{FlockOperation, flock};

use self::server::{KEEPALIVE, Policy, Server};

/// How long clients have, after a signal, to take the replies to what they have sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// For what clients send and are sent, not for the keys. A message counts once for each client that has not taken it.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// For the replies that wait for the disk, in addition to that: one of the largest fits in half of it.
const HELD_BYTES_MAX: usize = 513 << 20;

/// A key-value server that speaks the protocol of Redis.
#[derive(Parser)]
struct Arguments {
    /// Where to listen: also `unix:/run/kv.sock`, say.
    #[arg(default_value = "127.0.0.1:6379")]
    address: Address,
    /// Records all changes in this file, and begins with what stands there. A record at its end that is not whole is
    /// moved to FILE.cut.
    #[arg(long, value_name = "FILE")]
    appendonly: Option<PathBuf>,
    /// When the records are synced to the disk.
    #[arg(long, value_name = "WHEN", default_value = "everysec", requires = "appendonly")]
    appendfsync: Policy,
    /// How long to look for more requests after the last one before the server sleeps. Who sends to a server that
    /// sleeps has to wake it up, which costs the client more than this costs the server.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 10)]
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
    let mut server = Server::new(random);
    let mut inbox = None;
    if let Some(path) = &arguments.appendonly {
        let file = open(&mut server, path).map_err(|error| named(path, error))?;
        inbox = Some(server.append_to(file, arguments.appendfsync, HELD_BYTES_MAX));
    }
    // Not before: while the file is read, which may take long, a signal ends the program at once.
    reactor.drain_on_signals(DRAIN_TIMEOUT)?;
    let server = reactor.add(server);
    if let Some(inbox) = inbox {
        reactor.attach(server, inbox)?;
    }
    let mut socket = SocketOptions::new();
    // Other sockets, and other systems, have no such option.
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
        Some(path) => finished.map_err(|error| named(path, error)),
        None => finished,
    }
}

/// From the operating system, by way of the standard library's own use of it.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

/// Opens the append-only file, carries out what it says, and cuts off a record that was not written to its end.
fn open(server: &mut Server, path: &Path) -> io::Result<File> {
    let file = open_regular(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("another process has it open"))?;
    let replayed = server.replay(&file)?;
    log::info!("{}: {} commands", path.display(), replayed.commands);
    if replayed.torn_bytes > 0 {
        let kept = beside(path);
        keep_torn(&file, replayed.whole_bytes, &kept).map_err(|error| {
            let bytes = replayed.torn_bytes;
            let error = named(&kept, error);
            io::Error::new(
                error.kind(),
                format!("{error}; make room for the {bytes} bytes of a torn record"),
            )
        })?;
        file.set_len(replayed.whole_bytes)?;
        log::warn!(
            "{}: the last record is not whole; {} bytes are cut off, and kept at the end of {}",
            path.display(),
            replayed.torn_bytes,
            kept.display()
        );
    }
    file.sync_all()?;
    sync_name(path)?;
    Ok(file)
}

/// Where that is kept which is cut off a file.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".cut");
    name.into()
}

/// Adds what stands behind so many bytes to another file: a length that is damaged makes a torn record of all that
/// follows it.
fn keep_torn(mut file: &File, whole_bytes: u64, kept: &Path) -> io::Result<()> {
    let mut copy = open_regular(kept)?;
    let kept_bytes = copy.metadata()?.len();
    file.seek(SeekFrom::Start(whole_bytes))?;
    let copied = io::copy(&mut file, &mut copy).and_then(|_| copy.sync_all());
    if let Err(error) = copied {
        copy.set_len(kept_bytes)?; // not half of it, for the next attempt to add to
        return Err(error);
    }
    sync_name(kept)
}

/// Opens a file to read it and to write at its end, and makes it if need be. A pipe would have no end.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file"));
    }
    Ok(file)
}

/// A new file is lost with its name.
fn sync_name(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
