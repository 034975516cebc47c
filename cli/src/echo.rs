//! `oneloop echo`: the server.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use oneloop::{
    Address, CloseReason, Connection, Context, Drained, Error, HandlerId, Inherited, Interest, Key,
    Limits, ListenOptions, ListenerId, Reactor, ReactorLimits, SocketOptions, SourceHandler, Stats,
    StreamHandler, Time, TimerId, Wait,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::{ConnectionArguments, EchoArguments, ListenerArguments, ReactorArguments};
use crate::descriptors;

/// Runs the server until it is stopped from outside.
///
/// # Errors
///
/// It cannot listen, a limit makes no sense, or the poll is broken.
pub(crate) fn run(arguments: &EchoArguments) -> Result<()> {
    // Before anything else opens descriptors.
    let mut inherited = Inherited::from_env();
    descriptors::raise_limit();
    let mut reactor = Reactor::with_limits(reactor_limits(&arguments.reactor))?;
    if let Some(spin) = arguments.spin {
        reactor.set_wait(Wait::Spin(spin));
    }
    reactor.set_watchdog((!arguments.no_watchdog).then_some(arguments.watchdog));
    let rates = arguments.stats.map(Rates::every);
    let echo = reactor.add(Echo { rates, guests: 0, is_host: false });
    let limits = limits(&arguments.listener, &arguments.connection);
    reactor.set_connect_limits(limits.clone())?;
    let options = listen_options(&arguments.listener, limits);
    let mut addresses = Vec::new();
    for address in &arguments.listen {
        for listener in listen(&mut reactor, echo, address, &mut inherited, &options)? {
            addresses.push(reactor.listener_address(listener)?);
        }
    }
    let echoes = reactor.handler_mut(echo);
    echoes.is_host = !addresses.is_empty();
    // Our standard output may be a guest's.
    let is_silent = echoes.guests > 0;
    if arguments.until_stdin_closes {
        let stdin = rustix::stdio::stdin().as_fd().try_clone_to_owned()?;
        reactor
            .add_source(UntilClosed, Stdin(stdin), Interest::Readable)
            .context("--until-stdin-closes needs a pipe or a terminal as standard input")?;
    }
    if arguments.notify {
        reactor.notify_systemd().context("--notify")?;
    }
    reactor.drain_on_signals(arguments.drain).context("SIGINT and SIGTERM cannot be watched")?;
    for address in addresses.iter().filter(|_| !is_silent) {
        say(&format!("listening on {address}"));
    }
    let report = reactor.run()?;
    if !is_silent {
        say(&report.to_string());
    }
    Ok(())
}

fn listen(
    reactor: &mut Reactor,
    echo: HandlerId<Echo>,
    address: &Address,
    inherited: &mut Inherited,
    options: &ListenOptions,
) -> Result<Vec<ListenerId>> {
    match address {
        Address::Fd(_) | Address::Systemd(_) => {
            let sockets = inherited.take(address).and_then(|sockets| {
                let mut listeners = Vec::new();
                for socket in sockets {
                    if Inherited::is_listener(&socket)? {
                        listeners.push(reactor.listen_fd(echo, socket, options)?);
                    } else {
                        reactor.adopt(echo, socket, 0)?;
                        reactor.handler_mut(echo).guests += 1;
                    }
                }
                Ok(listeners)
            });
            sockets.with_context(|| format!("listen on {address}"))
        }
        // The reactor's own errors name the address that failed.
        _ => Ok(vec![reactor.listen_with(echo, address, options)?]),
    }
}

/// A line on standard output, at once. Nobody may be reading it any more; that is no reason to end.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn reactor_limits(arguments: &ReactorArguments) -> ReactorLimits {
    let limits = ReactorLimits::new().connections_max(arguments.max_connections);
    let limits = set(limits, arguments.events_per_poll, ReactorLimits::events_per_poll_max);
    let limits = set(limits, arguments.memory_max, ReactorLimits::memory_bytes_max);
    set(limits, arguments.read_buffer, ReactorLimits::read_buffer_bytes)
}

fn limits(listener: &ListenerArguments, connection: &ConnectionArguments) -> Limits {
    let limits = Limits::new();
    let limits = set(limits, listener.accepts_per_turn, Limits::accepts_per_turn_max);
    let limits = set(limits, listener.max_per_listener, Limits::connections_max);
    let limits = set(limits, listener.max_per_address, Limits::connections_per_address_max);
    let limits = set(limits, connection.read_bytes_per_turn, Limits::read_bytes_per_turn_max);
    let limits = set(limits, connection.reads_per_turn, Limits::reads_per_turn_max);
    let limits = set(limits, connection.write_bytes_per_turn, Limits::write_bytes_per_turn_max);
    let limits = set(limits, connection.output_low, Limits::output_bytes_low);
    let limits = set(limits, connection.output_high, Limits::output_bytes_high);
    let limits = set(limits, connection.output_max, Limits::output_bytes_max);
    let limits = set(limits, connection.linger, Limits::linger_timeout);
    let limits = if connection.no_deadlines { without_deadlines(limits) } else { limits };
    let limits = set(limits, connection.output_soft, Limits::output_bytes_soft);
    let limits = set(limits, connection.output_soft_time, Limits::output_soft_timeout);
    let limits = set(limits, connection.write_stall, Limits::write_stall_timeout);
    let limits = set(limits, connection.first_byte, Limits::first_byte_timeout);
    set(limits, connection.idle, Limits::idle_timeout)
}

fn listen_options(listener: &ListenerArguments, limits: Limits) -> ListenOptions {
    let options = ListenOptions::new()
        .reuse_port(listener.reuse_port)
        .only_v6(listener.only_v6)
        .limits(limits);
    let options = set(options, listener.backlog, ListenOptions::backlog);
    if listener.no_nodelay {
        return options.socket(SocketOptions::new().nodelay(false));
    }
    options
}

fn without_deadlines(limits: Limits) -> Limits {
    limits
        .output_soft_timeout(Duration::MAX)
        .write_stall_timeout(Duration::MAX)
        .first_byte_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .message_timeout(Duration::MAX)
}

/// Sets a limit if it was given.
fn set<L, T>(limits: L, value: Option<T>, setter: impl FnOnce(L, T) -> L) -> L {
    match value {
        Some(value) => setter(limits, value),
        None => limits,
    }
}

struct Echo {
    rates: Option<Rates>,
    /// Connections that the process was started with, as inetd(8) does for each client.
    guests: usize,
    /// Whether others may come.
    is_host: bool,
}

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }

    fn on_close(&mut self, (): (), _: Key, _: CloseReason, cx: &mut Context<'_>) {
        if !self.is_host {
            self.guests -= 1;
            if self.guests == 0 {
                cx.stop();
            }
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        if let Some(rates) = &mut self.rates {
            rates.begin(cx);
            cx.set_handler_interval(rates.interval);
        }
    }

    fn on_handler_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
        if let Some(rates) = &mut self.rates {
            say(&rates.line(cx));
            rates.begin(cx);
        }
    }
}

/// `--stats`: the reactor's counters as rates.
struct Rates {
    interval: Duration,
    since: Time,
    before: Stats,
}

impl Rates {
    fn every(interval: Duration) -> Rates {
        Rates { interval, since: Time::default(), before: Stats::default() }
    }

    fn begin(&mut self, cx: &mut Context<'_>) {
        self.since = cx.now();
        self.before = cx.stats().clone();
    }

    fn line(&self, cx: &Context<'_>) -> String {
        let seconds = cx.now().since(self.since).as_secs_f64();
        let (now, before) = (cx.stats(), &self.before);
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        format!(
            "{} connections, {:.0} accepts/s, {:.0} closes/s, {:.0} reads/s, {:.2} MB/s in, {:.2} MB/s out, \
             {:.0} turns/s",
            now.connections,
            rate(now.accepts, before.accepts),
            rate(now.closes_total(), before.closes_total()),
            rate(now.reads, before.reads),
            rate(now.bytes_in, before.bytes_in) / 1e6,
            rate(now.bytes_out, before.bytes_out) / 1e6,
            rate(now.turns, before.turns),
        )
    }
}

/// `--until-stdin-closes`: no thread, and nothing to do until that day.
struct UntilClosed;

/// Our own name for standard input. It is not made non-blocking, because that would hold for all who
/// share it, a terminal's shell among them: it is asked before it is read.
struct Stdin(OwnedFd);

impl Stdin {
    fn is_readable(&self) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        Ok(poll(&mut descriptors, Some(&Timespec::default()))? > 0)
    }
}

impl mio::event::Source for Stdin {
    fn register(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
        interests: mio::Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &mio::Registry,
        token: mio::Token,
        interests: mio::Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &mio::Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

impl SourceHandler for UntilClosed {
    type Source = Stdin;

    fn on_readable(&mut self, _: Key, stdin: &mut Stdin, cx: &mut Context<'_>) -> Drained {
        let mut ignored = [0; 4096];
        match stdin.is_readable() {
            Ok(false) => return Drained::Yes,
            Ok(true) => match rustix::io::read(&stdin.0, &mut ignored) {
                Ok(0) => cx.stop(),
                Ok(_) | Err(rustix::io::Errno::INTR) => return Drained::No,
                // A terminal that is gone.
                Err(_) => cx.stop(),
            },
            Err(_) => cx.stop(),
        }
        Drained::Yes
    }
}
