//! The load of a comparison: connections that stay open, and slices of messages over them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use oneloop::{
    CloseReason, ConnectError, Connection, Context, Error, HandlerId, Key, Reactor, StreamHandler,
};

use super::Scenario;

/// A server that answers nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// The open connections to one server.
pub(super) struct Load {
    reactor: Reactor,
    client: HandlerId<Client>,
    connections: usize,
}

impl Load {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Not all connections open.
    pub(super) fn open(address: SocketAddr, scenario: &Scenario) -> Result<Load> {
        let mut reactor = Reactor::new()?;
        let client = reactor.add(Client::new(scenario));
        for _ in 0..scenario.connections {
            let key = reactor.context(client).connect(address, 0);
            reactor.handler_mut(client).keys.push(key);
        }
        let mut load = Load { reactor, client, connections: scenario.connections };
        load.turn_until_done().context("connecting")?;
        Ok(load)
    }

    /// Exchanges `quota` messages on every connection; gives how long it took.
    ///
    /// # Errors
    ///
    /// A connection ends, wrong bytes come back, or none.
    pub(super) fn run(&mut self, quota: usize) -> Result<Duration> {
        let client = self.reactor.handler_mut(self.client);
        client.quota = quota;
        client.done = 0;
        let keys = std::mem::take(&mut client.keys);
        let begun = Instant::now();
        let mut context = self.reactor.context(self.client);
        keys.iter().for_each(|&key| context.poke(key));
        self.reactor.handler_mut(self.client).keys = keys;
        self.turn_until_done()?;
        Ok(begun.elapsed())
    }

    fn turn_until_done(&mut self) -> Result<()> {
        loop {
            let (begun, bytes_in) = (Instant::now(), self.reactor.stats().bytes_in);
            self.reactor.turn(Some(PATIENCE))?;
            let client = self.reactor.handler(self.client);
            if let Some(failure) = &client.failure {
                bail!("{failure}");
            }
            if client.done == self.connections {
                return Ok(());
            }
            if self.reactor.stats().bytes_in == bytes_in && begun.elapsed() >= PATIENCE {
                bail!("no answer within {} s", PATIENCE.as_secs());
            }
        }
    }
}

/// A closed loop on every connection: as many messages in flight as the pipeline is deep, one more for
/// each that came back, until the quota is sent.
struct Client {
    size: usize,
    pipeline: usize,
    /// One pipeline's worth of equal messages.
    batch: Vec<u8>,
    quota: usize,
    /// Connections that are open, or that have their quota back.
    done: usize,
    keys: Vec<Key>,
    failure: Option<String>,
}

struct Session {
    /// Bytes of a message that has not come back as a whole.
    partial: usize,
    to_send: usize,
    to_receive: usize,
}

impl Client {
    fn new(scenario: &Scenario) -> Client {
        let message: Vec<u8> = (0..scenario.size).map(|i| b'a' + (i % 26) as u8).collect();
        Client {
            size: scenario.size,
            pipeline: scenario.pipeline,
            batch: message.repeat(scenario.pipeline),
            quota: 0,
            done: 0,
            keys: Vec::new(),
            failure: None,
        }
    }

    /// Whether these are the bytes that come next.
    fn is_echo(&self, mut partial: usize, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let length = data.len().min(self.batch.len() - partial);
            if data[..length] != self.batch[partial..partial + length] {
                return false;
            }
            data = &data[length..];
            partial = 0;
        }
        true
    }
}

impl StreamHandler for Client {
    type Session = Session;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Session {
        self.done += 1;
        Session { partial: 0, to_send: 0, to_receive: 0 }
    }

    /// Begins a slice.
    fn on_poke(&mut self, session: &mut Session, conn: &mut Connection<'_>) {
        let first = self.pipeline.min(self.quota);
        session.to_send = self.quota - first;
        session.to_receive = self.quota;
        conn.send(&self.batch[..first * self.size]).ignore();
    }

    fn on_data(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        if !self.is_echo(session.partial, data) {
            return Err("the server answers with other bytes than it was sent".into());
        }
        let bytes = session.partial + data.len();
        let whole = bytes / self.size;
        session.partial = bytes % self.size;
        let Some(to_receive) = session.to_receive.checked_sub(whole) else {
            return Err("the server answers with more than it was sent".into());
        };
        session.to_receive = to_receive;
        let next = whole.min(session.to_send);
        if next > 0 {
            session.to_send -= next;
            conn.send(&self.batch[..next * self.size]).ignore();
        } else if to_receive == 0 && whole > 0 {
            self.done += 1;
        }
        Ok(data.len())
    }

    fn on_close(&mut self, _: Session, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.failure.get_or_insert_with(|| match reason {
            CloseReason::HandlerError => {
                "the server answers with other bytes than it was sent".into()
            }
            reason => format!("connection {key} ended: {reason}"),
        });
    }

    fn on_connect_failed(&mut self, _: Key, _: u64, error: ConnectError, _: &mut Context<'_>) {
        self.failure.get_or_insert_with(|| error.to_string());
    }
}
