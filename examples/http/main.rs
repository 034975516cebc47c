//! An HTTP/1.1 server: the files of a directory, and a little JSON (RFC 9110, RFC 9112).
//!
//! It shows somebody else's protocol on one loop: requests that come in pieces or many at once, answered in order; files
//! that are looked up and read ahead off the loop, and sent without a copy, no faster than their reader takes them; small
//! ones from memory; and clients that are slow, broken or hostile, who are told so where there is an answer for it, and hold
//! up nobody.
//!
//! All files are served that it may read and whose names are UTF-8, also those that begin with a dot; of a directory
//! `index.html`, or a page of what is in it. Only a directory `api` at the top cannot be seen, as services have its
//! names. Files are to be replaced by others (rename(2)): of one that is written over while it is sent, a client gets
//! what is there by then, and zeros for what was cut off. It has no TLS, no HTTP/2, no compression, and takes no files.
//! It may use 1.2 GB of memory, and up to 2.7 GB more if 10,000 clients take nothing of files that the cache has given
//! up meanwhile; one address may have all connections: `--per-address` is for servers that no proxy stands before.
//! Lists of directories have one thread and 64 places, which a few clients can take: others are told to try again
//! (503). The loop waits for the disk while it closes a file of gigabytes that was removed or replaced: about a second.
//!
//! Try it: `cargo run --release --features signals --example http -- .`, and in another terminal
//! `curl -i http://127.0.0.1:8080/README.md`, `curl http://127.0.0.1:8080/api/stats` or
//! `curl --data-binary @README.md http://127.0.0.1:8080/api/echo`. `RUST_LOG=http=debug` logs each answer. SIGTERM and
//! Ctrl-C end it when what it has read by then is answered, after ten seconds at the latest; a second one at once.
//!
//! To read it, begin with `server/mod.rs`.

mod server;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use oneloop::{Address, ListenOptions, Reactor, SocketOptions};

use server::cache::MEMORY_FILES_MAX;
use server::files::Directory;

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(10);
/// What is open beside connections and the files that are sent on them: what the loop needs, the log, and on each helper
/// thread a file or a directory that is looked up.
const DESCRIPTORS_OWN: usize = 32;
/// One of so many descriptors may be that of a file in memory.
const DESCRIPTORS_PER_MEMORY_FILE: usize = 8;
/// A connection, the file that is sent on it, and the next one. Files that were opened for clients that have gone since
/// are not counted: should they use up all descriptors, what is not in memory is answered with 503 for a moment.
const DESCRIPTORS_PER_CLIENT: usize = 3;
/// The kernel takes no more than this from us that it cannot send yet. By default it takes some megabytes for each client
/// that reads nothing, and while it copies those nobody else is served.
const UNSENT_BYTES: usize = 128 * 1024;

/// Serves the files of a directory over HTTP.
#[derive(Parser)]
struct Arguments {
    /// What is served, with all below it
    directory: PathBuf,
    /// Where to listen
    #[arg(default_value = "127.0.0.1:8080")]
    address: Address,
    /// Seconds that a client may say nothing, or send or take less than 512 bytes a second; fractions count
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    patience: Duration,
    /// Connections from one address at once; any number by default, as all clients of a proxy have one
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    per_address: usize,
}

fn main() -> ExitCode {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("warn"));
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.filter(|duration| !duration.is_zero()).ok_or_else(|| "not a number of seconds".into())
}

/// Only TCP sockets of Linux have such an option.
fn socket_options(address: &Address) -> SocketOptions {
    let options = SocketOptions::new();
    let has_option = cfg!(target_os = "linux") && matches!(address, Address::Tcp(_));
    if has_option { options.unsent_low_bytes(UNSENT_BYTES) } else { options }
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    let Arguments { directory, address, patience, per_address } = arguments;
    let files = Directory::open(directory).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
    })?;
    let limits = server::reactor_limits();
    let descriptors = oneloop::raise_descriptor_limit();
    let memory_files_max = MEMORY_FILES_MAX.min(descriptors / DESCRIPTORS_PER_MEMORY_FILE);
    let others = DESCRIPTORS_OWN + memory_files_max;
    let clients_max = descriptors.saturating_sub(others) / DESCRIPTORS_PER_CLIENT;
    let connections_max = limits.connections_max.min(clients_max.max(1));
    let mut reactor = Reactor::with_limits(limits.connections_max(connections_max))?;
    let server = server::add(&mut reactor, Arc::new(files), server::JOBS_MAX, memory_files_max)?;
    let limits = server::limits(*patience).connections_per_address_max(*per_address);
    let options = ListenOptions::new().limits(limits).socket(socket_options(address));
    let listener = reactor.listen_with(server, address, &options)?;
    reactor.drain_on_signals(DRAIN)?;
    println!("listening on {}", reactor.listener_address(listener)?);
    reactor.run()?;
    Ok(())
}
