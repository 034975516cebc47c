//! `oneloop echo`: the server.

mod hushed;
mod options;
mod stdin;

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use oneloop::{
    Address, CloseReason, Connection, Context, Datagram, DatagramHandler, DatagramOptions,
    DatagramSocket, Error, HandlerId, Inherited, Interest, Key, ListenOptions, Reactor, Stats,
    StreamHandler, Time, TimerId, Wait,
};

use rustix::net::{SocketType, sockopt};

use crate::address::Place;
use crate::args::EchoArguments;
use hushed::Hushed;
use options::{datagram_options, limits, listen_options, reactor_limits};
use stdin::{Stdin, UntilClosed};

/// Runs the server until it is stopped from outside.
///
/// # Errors
///
/// It cannot listen, a limit makes no sense, or the poll is broken.
pub(crate) fn run(arguments: &EchoArguments) -> Result<()> {
    // Before anything else opens descriptors.
    let mut inherited = Inherited::from_env();
    if arguments.until_stdin_closes && arguments.listen.contains(&Address::Fd(0)) {
        bail!("--until-stdin-closes: standard input is a socket that is served, fd:0");
    }
    oneloop::raise_descriptor_limit();
    let mut reactor = Reactor::with_limits(reactor_limits(&arguments.reactor))?;
    if let Some(spin) = arguments.spin {
        reactor.set_wait(Wait::Spin(spin));
    }
    reactor.set_watchdog((!arguments.no_watchdog).then_some(arguments.watchdog));
    let rates = arguments.stats.map(Rates::every);
    let echo = reactor.add(Echo {
        rates,
        guests: 0,
        hushed: Hushed::default(),
        is_host: false,
        answers_any_port: false,
        own_ports: Vec::new(),
    });
    let limits = limits(&arguments.listener, &arguments.connection);
    reactor.set_connect_limits(limits.clone())?;
    let mut doors = Doors {
        reactor: &mut reactor,
        echo,
        inherited: &mut inherited,
        options: listen_options(&arguments.listener, limits),
        datagram_options: datagram_options(&arguments.listener),
    };
    let mut places = Vec::new();
    for address in &arguments.listen {
        places.extend(doors.open(address)?);
    }
    let echoes = reactor.handler_mut(echo);
    echoes.is_host = !places.is_empty();
    echoes.answers_any_port = arguments.answer_any_port;
    check_use(arguments, &places, echoes.guests > 0)?;
    let hushed = std::mem::take(&mut echoes.hushed);
    if arguments.until_stdin_closes {
        reactor
            .add_source(UntilClosed, Stdin::new()?, Interest::Readable)
            .context("--until-stdin-closes needs a pipe or a terminal as standard input")?;
    }
    if arguments.notify {
        reactor.notify_systemd().context("--notify")?;
    }
    reactor.drain_on_signals(arguments.drain).context("SIGINT and SIGTERM cannot be watched")?;
    hushed.hush().context("/dev/null")?;
    for place in &places {
        say(&format!("listening on {place}"));
    }
    say(&reactor.run()?.to_string());
    Ok(())
}

/// Refuses options that would be ignored.
fn check_use(arguments: &EchoArguments, places: &[Place], has_guests: bool) -> Result<()> {
    let has_listeners = !places.iter().all(Place::is_datagram);
    let has_datagrams = places.iter().any(Place::is_datagram);
    let unused = arguments.only_for_listeners(has_datagrams, has_guests);
    if !has_listeners && !unused.is_empty() {
        let what =
            if has_guests { "connection that was passed on" } else { "socket for datagrams" };
        bail!("a {what} has no {}", unused.join(", no "));
    }
    if arguments.answer_any_port && !has_datagrams {
        bail!("--answer-any-port is for datagrams, and nothing here takes any");
    }
    Ok(())
}

/// What the server needs to be reachable.
struct Doors<'a> {
    reactor: &'a mut Reactor,
    echo: HandlerId<Echo>,
    inherited: &'a mut Inherited,
    options: ListenOptions,
    datagram_options: DatagramOptions,
}

impl Doors<'_> {
    /// Opens all that an address stands for: where the server really is.
    fn open(&mut self, address: &Address) -> Result<Vec<Place>> {
        match address {
            Address::Udp(_) | Address::UnixDatagram(_) => {
                let socket = self.reactor.bind_with(self.echo, address, &self.datagram_options)?;
                Ok(vec![Place::Datagram(self.reactor.datagram_address(socket)?)])
            }
            Address::Fd(_) | Address::Systemd(_) => {
                let places = self.adopt(address);
                places.with_context(|| format!("listen on {address}"))
            }
            _ => {
                // The reactor's own errors name the address that failed.
                let listeners = self.reactor.listen_all(self.echo, address, &self.options)?;
                let place = |listener| Ok(Place::Stream(self.reactor.listener_address(listener)?));
                listeners.into_iter().map(place).collect()
            }
        }
    }

    /// What was passed on may listen, be a socket for datagrams, or be a client's already.
    fn adopt(&mut self, address: &Address) -> io::Result<Vec<Place>> {
        let (reactor, echo) = (&mut *self.reactor, self.echo);
        let mut places = Vec::new();
        for socket in self.inherited.take(address)? {
            if sockopt::socket_type(&socket)? == SocketType::DGRAM {
                let key = reactor.bind_fd(echo, socket, &self.datagram_options)?;
                places.push(Place::Datagram(reactor.datagram_address(key)?));
            } else if Inherited::is_listener(&socket)? {
                let listener = reactor.listen_fd(echo, socket, &self.options)?;
                places.push(Place::Stream(reactor.listener_address(listener)?));
            } else {
                reactor.handler_mut(echo).hushed.add(&socket)?;
                reactor.adopt(echo, socket, 0)?;
                reactor.handler_mut(echo).guests += 1;
            }
        }
        Ok(places)
    }
}

/// A line on standard output, at once. Nobody may be reading it any more; that is no reason to end.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

struct Echo {
    rates: Option<Rates>,
    /// Connections that the process was started with, as inetd(8) does for each client.
    guests: usize,
    hushed: Hushed,
    /// Whether others may come.
    is_host: bool,
    answers_any_port: bool,
    /// Of the sockets for datagrams.
    own_ports: Vec<u16>,
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

/// What came cut off is not answered: the answer would be another one. Nor is, unless asked for, who may be another server
/// that answers everything, or this one: a forged sender is enough for the two to go on for ever.
impl DatagramHandler for Echo {
    fn on_bound(&mut self, socket: &mut DatagramSocket<'_>) {
        self.own_ports.extend(socket.local_address().ok().and_then(|address| address.port()));
    }

    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        let may_be_a_server = |port| port < 1024 || self.own_ports.contains(&port);
        let is_left_alone =
            !self.answers_any_port && datagram.from.port().is_some_and(may_be_a_server);
        if !datagram.is_truncated() && !is_left_alone {
            socket.send_to(datagram.from, datagram.data).ignore();
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
             {:.0} datagrams/s in, {:.0} datagrams/s out, {:.0} dropped/s, {:.0} turns/s",
            now.connections,
            rate(now.accepts, before.accepts),
            rate(now.closes_total(), before.closes_total()),
            rate(now.reads, before.reads),
            rate(now.bytes_in, before.bytes_in) / 1e6,
            rate(now.bytes_out, before.bytes_out) / 1e6,
            rate(now.datagrams_in, before.datagrams_in),
            rate(now.datagrams_out, before.datagrams_out),
            rate(now.datagrams_dropped, before.datagrams_dropped),
            rate(now.turns, before.turns),
        )
    }
}
