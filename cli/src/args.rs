//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use oneloop::Address;

use crate::bench::contestant::Contestant;
use crate::bench::kinds::Kind;
use crate::guard;
use crate::units::{parse_bytes, parse_duration};

/// An echo server on the oneloop reactor, and a benchmark of echo servers.
#[derive(Debug, Parser)]
#[command(name = "oneloop", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Echo(EchoArguments),
    Bench(BenchArguments),
    #[command(name = guard::NAME, hide = true)]
    Guard(GuardArguments),
}

/// Send back whatever comes, on one thread, until interrupted.
///
/// SIGINT or SIGTERM lets those who are connected finish; a second one ends it at once. A line then says
/// what became of them.
///
/// It logs to standard error; RUST_LOG sets how much: RUST_LOG=oneloop=trace tells of every event,
/// read and write.
#[derive(Args, Debug)]
pub(crate) struct EchoArguments {
    /// Address to listen on, repeatable: 127.0.0.1:7000, [::1]:7000, localhost:http, *:7000 for all
    /// addresses, unix:/run/app.sock, unix:@name; for datagrams udp://127.0.0.1:7000,
    /// unixgram:/run/app.sock; sockets that were passed on: fd:3, systemd:NAME. Port 0 takes a free one.
    /// The real address is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7000")]
    pub(crate) listen: Vec<Address>,
    /// Print rates every so many seconds; nothing is printed or logged that a client would get (fd:0 of inetd).
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration)]
    pub(crate) stats: Option<Duration>,
    /// How long who is connected may take to finish after SIGINT or SIGTERM.
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = parse_duration)]
    pub(crate) drain: Duration,
    /// Before sleeping, look for more work for so long: round trips get shorter, and the core has no
    /// rest.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) spin: Option<Duration>,
    /// Log turns of the loop that take so long, and what in the next ones does.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = parse_duration)]
    pub(crate) watchdog: Duration,
    /// Log no slow turns.
    #[arg(long, conflicts_with = "watchdog")]
    pub(crate) no_watchdog: bool,
    /// Tell systemd, if it wants to know, when the server is ready, when it stops, and that it is alive
    /// (Type=notify, WatchdogSec=).
    #[arg(long)]
    pub(crate) notify: bool,
    /// Answer datagrams from ports below 1024 and from ports of one's own, too. Other servers have those, and two that
    /// answer everything go on for ever.
    #[arg(long)]
    pub(crate) answer_any_port: bool,
    /// End when standard input ends: for a child that must not outlive its parent.
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
    #[command(flatten)]
    pub(crate) listener: ListenerArguments,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    #[command(flatten)]
    pub(crate) reactor: ReactorArguments,
}

impl EchoArguments {
    /// Which options were given that mean nothing where nobody can connect, but for sockets for datagrams, or for
    /// connections that were passed on.
    pub(crate) fn only_for_listeners(
        &self,
        has_datagrams: bool,
        has_guests: bool,
    ) -> Vec<&'static str> {
        let mut given = self.listener.only_for_streams();
        if !has_datagrams {
            given.push(("--reuse-port", self.listener.reuse_port));
            given.push(("--only-v6", self.listener.only_v6));
        }
        if !has_guests {
            given.extend(self.connection.given());
        }
        given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect()
    }
}

#[derive(Args, Debug)]
#[command(
    next_help_heading = "Listeners (of these a socket for datagrams has --reuse-port and --only-v6)"
)]
pub(crate) struct ListenerArguments {
    /// Connections that the kernel completes ahead of accept, clipped to net.core.somaxconn; 4096 if nothing
    /// is said, and a socket that was passed on keeps its own.
    #[arg(long, value_name = "N")]
    pub(crate) backlog: Option<u32>,
    /// Let other processes listen on the same port; the kernel spreads the connections (SO_REUSEPORT).
    #[arg(long)]
    pub(crate) reuse_port: bool,
    /// Take no IPv4 clients on an IPv6 address.
    #[arg(long)]
    pub(crate) only_v6: bool,
    /// Let the kernel hold back small writes (Nagle's algorithm).
    #[arg(long)]
    pub(crate) no_nodelay: bool,
    /// Connections accepted in one turn of the loop.
    #[arg(long, value_name = "N")]
    pub(crate) accepts_per_turn: Option<usize>,
    /// Connections open at once on each listener; at the limit accepting pauses.
    #[arg(long, value_name = "N")]
    pub(crate) max_per_listener: Option<usize>,
    /// Connections open at once from one client address (IPv6: /64); one more is closed at once.
    #[arg(long, value_name = "N")]
    pub(crate) max_per_address: Option<usize>,
}

impl ListenerArguments {
    fn only_for_streams(&self) -> Vec<(&'static str, bool)> {
        // All of them are named, so that none is forgotten.
        let ListenerArguments {
            backlog,
            reuse_port: _,
            only_v6: _,
            no_nodelay,
            accepts_per_turn,
            max_per_listener,
            max_per_address,
        } = self;
        vec![
            ("--backlog", backlog.is_some()),
            ("--no-nodelay", *no_nodelay),
            ("--accepts-per-turn", accepts_per_turn.is_some()),
            ("--max-per-listener", max_per_listener.is_some()),
            ("--max-per-address", max_per_address.is_some()),
        ]
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits of a connection")]
pub(crate) struct ConnectionArguments {
    /// Bytes read from one connection in one turn of the loop.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) read_bytes_per_turn: Option<usize>,
    /// Reads from one connection in one turn of the loop.
    #[arg(long, value_name = "N")]
    pub(crate) reads_per_turn: Option<usize>,
    /// Bytes written to one connection in one phase of a turn.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) write_bytes_per_turn: Option<usize>,
    /// Unsent bytes at which a connection that was over --output-high is read from again.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) output_low: Option<usize>,
    /// Unsent bytes over which a connection is not read from.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) output_high: Option<usize>,
    /// Unsent bytes over which a connection is closed.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) output_max: Option<usize>,
    /// Unsent bytes over which a connection may not stay for long; see --output-soft-time.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) output_soft: Option<usize>,
    /// How long more than --output-soft may wait, before the connection is closed.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) output_soft_time: Option<Duration>,
    /// How long a client may take none of its output, or less than 64 bytes a second of it.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) write_stall: Option<Duration>,
    /// How long a client may send nothing after it connected.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) first_byte: Option<Duration>,
    /// How long nothing may come and nothing go.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) idle: Option<Duration>,
    /// No deadlines but those that are given: nobody is closed for being idle or slow.
    #[arg(long)]
    pub(crate) no_deadlines: bool,
    /// How long a closing connection may go on without progress.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) linger: Option<Duration>,
    /// The same in a drain, after the server's end of file, if that is shorter.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) drain_linger: Option<Duration>,
}

impl ConnectionArguments {
    fn given(&self) -> Vec<(&'static str, bool)> {
        let ConnectionArguments {
            read_bytes_per_turn,
            reads_per_turn,
            write_bytes_per_turn,
            output_low,
            output_high,
            output_max,
            output_soft,
            output_soft_time,
            write_stall,
            first_byte,
            idle,
            no_deadlines,
            linger,
            drain_linger,
        } = self;
        vec![
            ("--read-bytes-per-turn", read_bytes_per_turn.is_some()),
            ("--reads-per-turn", reads_per_turn.is_some()),
            ("--write-bytes-per-turn", write_bytes_per_turn.is_some()),
            ("--output-low", output_low.is_some()),
            ("--output-high", output_high.is_some()),
            ("--output-max", output_max.is_some()),
            ("--output-soft", output_soft.is_some()),
            ("--output-soft-time", output_soft_time.is_some()),
            ("--write-stall", write_stall.is_some()),
            ("--first-byte", first_byte.is_some()),
            ("--idle", idle.is_some()),
            ("--no-deadlines", *no_deadlines),
            ("--linger", linger.is_some()),
            ("--drain-linger", drain_linger.is_some()),
        ]
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits of the whole server")]
pub(crate) struct ReactorArguments {
    /// Connections open at once; at the limit accepting pauses. Memory for that many is reserved
    /// when the server starts, at about 100 bytes each.
    #[arg(long, value_name = "N", default_value_t = 10_240)]
    pub(crate) max_connections: usize,
    /// Events taken from the kernel at once.
    #[arg(long, value_name = "N")]
    pub(crate) events_per_poll: Option<usize>,
    /// Bytes in the buffers of all connections; over it the one that holds the most is closed.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) memory_max: Option<usize>,
    /// Size of the buffer that all connections are read into.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) read_buffer: Option<usize>,
}

/// Measure an echo server: its own, unless --target names another one.
///
/// Every connection keeps a fixed number of messages in flight and sends the next one when an earlier
/// one is back (a closed loop): the server is never without work, and a latency is that of a server
/// under full load, not of one at a given rate. Every byte that comes back is checked. Where there are
/// two cores, the server gets one and the load another. All combinations of the lists are measured:
/// by default eight, for 4 s each, in three quarters of a minute.
///
/// A row tells messages a second; latencies: median, 99th and 99.9th percentile, maximum; and of the
/// server CPU time a message, how much of it was in user mode and in the kernel, how busy it was (100 %
/// is one core), and the memory of a connection, from 256 connections on. Of a server that runs already
/// these are known with --pid only; `-` is for what is not known. Errors are connections that failed;
/// the first one ends it.
#[derive(Args, Debug)]
pub(crate) struct BenchArguments {
    /// Numbers of connections [default: 1,64,1000,10000].
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = parse_count)]
    pub(crate) connections: Vec<usize>,
    /// Messages in flight on each connection [default: 1,16].
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = parse_count)]
    pub(crate) pipeline: Vec<usize>,
    /// Sizes of a message in bytes [default: 64].
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', value_parser = parse_bytes)]
    pub(crate) size: Vec<usize>,
    /// How long to measure each combination, after a warm-up of a quarter of it, 1 s at most.
    /// A comparison has its slices instead.
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = parse_duration)]
    #[arg(conflicts_with_all = ["comparison", "counts"])]
    pub(crate) duration: Duration,
    /// How long a server may take to start, to take a connection, or answer nothing at all, before it is
    /// given up; while it is counted at least a minute.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) stall_timeout: Duration,
    /// A server that runs already, to be measured instead of our own: 127.0.0.1:7000,
    /// udp://127.0.0.1:7000, unix:/run/app.sock, unix:@name, unixgram:/run/app.sock.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "comparison")]
    pub(crate) target: Option<Address>,
    /// Its process, for CPU and memory; those that it started are counted with it.
    #[arg(long, requires = "target")]
    pub(crate) pid: Option<u32>,
    /// Write the figures to a file too, at the end. One that is there is replaced then.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Compare our server with another one, repeatable; ratios are to the first one named. The command
    /// is split as by a shell, must print "listening on ADDRESS" and then echo; {connections} in it
    /// stands for how many there will be at most. It is killed when the comparison ends, however that
    /// ends; processes that it starts itself are not.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = parse_contestant, group = "comparison")]
    pub(crate) against: Vec<Contestant>,
    /// Compare our server with itself, once with `echo --spin TIME` (1us to 100ms) and once without:
    /// round trips and what they cost.
    #[arg(long, value_name = "TIME", value_parser = parse_spin, group = "comparison")]
    #[arg(conflicts_with_all = ["against", "counts"])]
    pub(crate) spin: Option<Duration>,
    /// Compare our server with itself on several kinds of sockets; ratios are to the first one named.
    /// A datagram that is not back after 250 ms, or that 256 later ones have overtaken, counts as lost, and
    /// another one is sent.
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', group = "comparison")]
    #[arg(conflicts_with_all = ["against", "spin", "counts"])]
    pub(crate) kinds: Vec<Kind>,
    /// Rounds of a comparison, in each of which every server is measured once. Fewer than 6 have no
    /// 95 % interval, and are not judged.
    #[arg(long, value_name = "N", default_value_t = 60, requires = "comparison", value_parser = parse_count)]
    #[arg(conflicts_with = "counts")]
    pub(crate) cycles: usize,
    /// Only count what does not depend on time: instructions, copies, system calls and memory, with
    /// valgrind and strace. --against counts too, before it measures; without it, our own server is
    /// counted alone.
    #[arg(long, conflicts_with_all = ["target", "connections", "pipeline", "size"])]
    pub(crate) counts: bool,
    /// Do not count before a comparison.
    #[arg(long, requires = "comparison", conflicts_with_all = ["counts", "spin"])]
    pub(crate) no_counts: bool,
}

/// Become a command, to be killed when whoever started it ends.
#[derive(Args, Debug)]
pub(crate) struct GuardArguments {
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("\"{text}\" is no whole number")),
    }
}

/// A server that spins for longer would take the time of the other one, which waits for it to sleep.
fn parse_spin(text: &str) -> Result<Duration, String> {
    const SPIN_MAX: Duration = Duration::from_millis(100);
    match parse_duration(text)? {
        spin if spin > SPIN_MAX => Err("it may be at most 100ms".into()),
        spin if spin.subsec_nanos() % 1000 != 0 => Err("it is no whole number of us".into()),
        spin => Ok(spin),
    }
}

fn parse_contestant(text: &str) -> Result<Contestant, String> {
    Contestant::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
