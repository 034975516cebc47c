//! The load's side of datagrams: sends, checks what comes back and what does not, measures how long it took.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::{
    CloseReason, Context, Datagram, DatagramHandler, DatagramLimits, DatagramOptions,
    DatagramSocket, HandlerId, Key, Reactor, SocketAddress,
};

use super::client::Client;
use super::pattern::Pattern;
use super::scratch::prefix;
use super::window::{Arrival, Window};

/// A datagram that is not back after so long is lost. Longer than any server that is not stopped takes, and
/// short enough that the end of a slice can wait for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often it is looked for those.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A datagram begins with its number.
const NUMBER_BYTES: usize = 8;

/// How many bytes a message may have: its number, and no more than UDP over IPv4 takes.
pub(super) const SIZES: std::ops::RangeInclusive<usize> = NUMBER_BYTES..=65_507;

/// All sockets of a load that send datagrams.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// By number.
    flows: Vec<Flow>,
    numbers: HashMap<Key, usize>,
    /// The datagram that is being sent.
    datagram: Vec<u8>,
}

#[derive(Debug)]
struct Flow {
    /// `None` when it was lost.
    key: Option<Key>,
    window: Window,
}

impl Flows {
    fn add(&mut self, key: Key) {
        self.numbers.insert(key, self.flows.len());
        self.flows.push(Flow { key: Some(key), window: Window::default() });
    }
}

/// Binds sockets that send to a server, and that it can answer; `bytes_max` is what each may have on its way.
///
/// # Errors
///
/// Those of [`Reactor::bind_with`].
pub(super) fn bind_all(
    reactor: &mut Reactor,
    client: HandlerId<Client>,
    server: &SocketAddress,
    count: usize,
    bytes_max: usize,
) -> io::Result<()> {
    let limits =
        DatagramLimits::new().queue_len_max(usize::MAX).queue_bytes_max(bytes_max.max(1024 * 1024));
    let options = DatagramOptions::new().connect(server.clone()).limits(limits);
    for _ in 0..count {
        let key = bind(reactor, client, server, &options)?;
        let client = reactor.handler_mut(client);
        client.flows.add(key);
        client.open += 1;
    }
    Ok(())
}

fn bind(
    reactor: &mut Reactor,
    client: HandlerId<Client>,
    server: &SocketAddress,
    options: &DatagramOptions,
) -> io::Result<Key> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let any: SocketAddr = match server {
        SocketAddress::Inet(SocketAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddress::Inet(SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        _ => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", prefix());
            let name = UnixName::from_abstract(name)?;
            return reactor.bind_with(client, name, options);
        }
    };
    reactor.bind_with(client, any, options)
}

/// What a datagram of a connection has after its number. Both are in where it begins in the pattern, so that
/// one of another connection, or with another number, does not pass.
fn content(pattern: &Pattern, connection: usize, number: u64, bytes: usize) -> &[u8] {
    let position = Pattern::start(connection) + number * bytes as u64;
    &pattern.from(position)[..bytes - NUMBER_BYTES]
}

impl Client {
    /// Gives up what was lost, and sees to it that every socket has its pipeline in flight.
    pub(super) fn look_after_flows(&mut self, cx: &mut Context<'_>) {
        let now = self.now();
        let sent_before = now.saturating_sub(PATIENCE.as_nanos() as u64);
        for number in 0..self.flows.flows.len() {
            let lost = self.flows.flows[number].window.give_up(sent_before);
            self.count_lost(lost);
            self.fill(number, cx, now);
        }
    }

    fn count_lost(&mut self, lost: u64) {
        self.in_flight -= lost;
        self.tally.datagrams.lost += lost;
    }

    /// Sends until the pipeline is full, as long as the slice goes on.
    fn fill(&mut self, connection: usize, cx: &mut Context<'_>, now: u64) {
        let flow = &mut self.flows.flows[connection];
        let Some(key) = flow.key else { return };
        let (slice, datagram) = (&mut self.slice, &mut self.flows.datagram);
        let mut lost = 0;
        while flow.window.in_flight() < slice.pipeline && slice.to_send > 0 && now <= slice.until {
            let (number, more) = flow.window.send(now, slice.pipeline);
            lost += more;
            datagram.clear();
            datagram.extend_from_slice(&number.to_be_bytes());
            let content = content(&self.pattern, connection, number, slice.message_bytes);
            datagram.extend_from_slice(content);
            // What is not taken does not come back, and is counted then.
            cx.send_datagram(key, None, datagram).ignore();
            slice.to_send -= 1;
            self.in_flight += 1;
            self.tally.datagrams.sent += 1;
        }
        self.count_lost(lost);
    }

    /// The number of a datagram that is as it was sent.
    fn check(&self, connection: usize, datagram: &Datagram<'_>) -> Option<u64> {
        let bytes = self.slice.message_bytes;
        let (number, data) = datagram.data.split_first_chunk()?;
        let number = u64::from_be_bytes(*number);
        let is_known = number < self.flows.flows[connection].window.sent();
        (is_known && data == content(&self.pattern, connection, number, bytes)).then_some(number)
    }
}

impl DatagramHandler for Client {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        let Some(&connection) = self.flows.numbers.get(&socket.key()) else { return };
        // One reading serves both ways: what is checked and sent below leaves right after it.
        let now = self.now();
        self.tally.datagrams.received += 1;
        let number = self.check(connection, &datagram);
        let window = &mut self.flows.flows[connection].window;
        match number.map(|number| window.take(number)) {
            Some(Arrival::InTime { sent_at, is_overtaken }) => {
                self.count(1, now);
                self.tally.datagrams.out_of_order += u64::from(is_overtaken);
                self.latency.saturating_record(now - sent_at);
            }
            Some(Arrival::Late) => {
                self.answers += 1;
                self.tally.datagrams.late += 1;
            }
            Some(Arrival::Again) => self.tally.datagrams.duplicated += 1,
            None => {
                self.tally.datagrams.bad += 1;
                let length = datagram.length;
                self.fail(format!(
                    "connection {connection}: wrong bytes: a datagram of {length} that was not sent"
                ));
            }
        }
        self.fill(connection, socket, now);
    }

    fn on_send_failed(
        &mut self,
        socket: &mut DatagramSocket<'_>,
        _: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        let Some(connection) = self.flows.numbers.get(&socket.key()) else { return };
        // The server takes its time: that is a loss like others.
        if error.kind() != ErrorKind::WouldBlock {
            self.fail(format!("connection {connection}: {error}"));
        }
    }

    fn on_close(&mut self, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        let Some(connection) = self.flows.numbers.remove(&key) else { return };
        let flow = &mut self.flows.flows[connection];
        flow.key = None;
        self.open -= 1;
        let lost = flow.window.give_up(u64::MAX);
        self.count_lost(lost);
        if reason != CloseReason::Stopped {
            self.fail(format!("connection {connection} was lost: {reason}"));
        }
    }
}
