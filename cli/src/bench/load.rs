//! The load generator: many connections, or sockets that send datagrams, each with a fixed number of messages in
//! flight.
//!
//! It is a closed loop: a connection sends its next message when an earlier one has come back, so
//! the server sets the pace. What is measured is how fast it goes when it is never without work, and
//! how long a message takes then, from just before it is sent until it is back and read. It is not how
//! long a message would take at a given rate: a server that stops for a second delays the messages that
//! are in flight, and not those that a world outside would have sent in that second ("coordinated
//! omission"). Compare latencies between servers, at the same connections and pipeline.
//!
//! A datagram that is not back in time is counted as lost, and another one sent in its place. So a loss costs
//! its connection that time.
//!
//! A load keeps its connections from slice to slice, and is at rest in between: everything sent has
//! come back. So several servers can be measured in turn, in many short slices, and the CPU time of a
//! server can be read while it waits.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use oneloop::{ConnectError, HandlerId, Limits, Reactor, ReactorLimits};

use super::client::{self, Client};
use super::flows;
use super::window::Datagrams;
use crate::address::Place;
use crate::units::grouped;

/// What holds for all of a load's slices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadOptions {
    /// The most that a connection may have in flight: pipeline times size of a message.
    pub(crate) in_flight_bytes_max: usize,
    /// How long a connection may take to open, and nothing at all come back, before the server is given up.
    pub(crate) stall_timeout: Duration,
}

/// When a slice ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Amount {
    /// After a time.
    For(Duration),
    /// After that many messages, over all connections.
    Messages(u64),
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slice {
    /// Messages that each connection has in flight.
    pub(crate) pipeline: usize,
    pub(crate) message_bytes: usize,
    pub(crate) amount: Amount,
}

/// What a slice brought.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Messages that were sent and came back as they were; what CPU time is to be divided by.
    pub(crate) messages: u64,
    /// From the first message until the end that the amount set, and the messages that were back by
    /// then: the rate, without the time in which the last ones come home.
    pub(crate) elapsed: Duration,
    pub(crate) messages_in_time: u64,
    /// Until the last one was back.
    pub(crate) elapsed_total: Duration,
    /// What became of datagrams, if that is what was sent.
    pub(crate) datagrams: Option<Datagrams>,
    /// Connections that failed, as in [`client::Tally`].
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

impl Outcome {
    pub(crate) fn messages_per_second(&self) -> f64 {
        self.messages_in_time as f64 / self.elapsed.as_secs_f64()
    }

    /// # Errors
    ///
    /// The first of the slice's errors.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.first_error {
            Some(error) => bail!("{error}"),
            None => Ok(()),
        }
    }
}

/// Open connections to one server. Dropping it resets them, which leaves no port in TIME_WAIT.
pub(crate) struct Load {
    reactor: Reactor,
    client: HandlerId<Client>,
    server: Place,
    options: LoadOptions,
}

/// How often a server that does not answer is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Load {
    /// Opens the connections, a few hundred at a time, and returns when all are open. Sockets that send datagrams
    /// are open at once, whether or not somebody is there.
    ///
    /// # Errors
    ///
    /// One of them does not open.
    pub(crate) fn connect(
        server: &Place,
        connections: usize,
        options: LoadOptions,
    ) -> Result<Load> {
        let limits = ReactorLimits::new()
            .connections_max(connections + 1)
            // Bounded by what may be in flight.
            .memory_bytes_max(usize::MAX);
        let mut reactor = Reactor::with_limits(limits).context("the load generator")?;
        // What the load takes its time for is nobody's business here.
        reactor.set_watchdog(None);
        // The load must read whatever it has still to send: if it waited for the server to read
        // first, and the server for the load, both would wait for ever.
        let high = options.in_flight_bytes_max.max(64 * 1024) + 1;
        let limits = Limits::new()
            .output_bytes_high(high)
            .output_bytes_max(2 * high)
            .connect_timeout(options.stall_timeout);
        reactor.set_connect_limits(limits)?;
        let client = reactor.add(Client::new(server.clone(), connections));
        let mut load = Load { reactor, client, server: server.clone(), options };
        match server {
            Place::Stream(_) => load.open_all(connections)?,
            Place::Datagram(address) => {
                let bytes_max = options.in_flight_bytes_max;
                flows::bind_all(&mut load.reactor, client, address, connections, bytes_max)
                    .with_context(|| format!("a load of {server}"))?;
            }
        }
        Ok(load)
    }

    fn open_all(&mut self, connections: usize) -> Result<()> {
        while self.client().open < connections {
            self.reactor.turn(None)?;
            if let Some((number, error)) = self.client().connect_failure {
                bail!(self.describe_connect_failure(number, error));
            }
            if let Some(error) = &self.client().tally.first_error {
                bail!("{}: {error}", self.server);
            }
        }
        Ok(())
    }

    fn describe_connect_failure(&self, number: usize, error: ConnectError) -> String {
        let server = &self.server;
        match error {
            ConnectError::AddressUnavailable => {
                format!("{server}: no local port left for connection {number}: fewer --connections")
            }
            _ if number == 0 => format!("cannot connect to {server}: {error}"),
            _ => format!("cannot open connection {number} to {server}: {error}"),
        }
    }

    /// Runs a slice, and returns when all that was sent has come back, or is lost. Errors of single connections
    /// are counted, and the others go on.
    ///
    /// # Errors
    ///
    /// No connection is left, or the server does not answer any more; messages that are no datagrams.
    pub(crate) fn run(&mut self, slice: &Slice) -> Result<Outcome> {
        debug_assert!(slice.pipeline * slice.message_bytes <= self.options.in_flight_bytes_max);
        ensure!(
            !self.server.is_datagram() || flows::SIZES.contains(&slice.message_bytes),
            "{}: a datagram has {} to {} bytes, and not {}",
            self.server,
            flows::SIZES.start(),
            grouped(*flows::SIZES.end() as u64),
            grouped(slice.message_bytes as u64)
        );
        let started = self.begin(slice);
        let mut answers = self.client().answers;
        let mut silent_since = None;
        loop {
            self.reactor.turn(Some(LOOK_INTERVAL))?;
            let client = self.client();
            if client.in_flight == 0 {
                break;
            }
            if client.answers != answers {
                answers = client.answers;
                silent_since = None;
            } else if silent_since.get_or_insert_with(Instant::now).elapsed()
                >= self.options.stall_timeout
            {
                bail!(self.describe_stall());
            }
        }
        self.finish(slice, started)
    }

    fn begin(&mut self, slice: &Slice) -> u64 {
        let client = self.reactor.handler_mut(self.client);
        client.latency.reset();
        let errors = std::mem::take(&mut client.tally);
        // What went wrong while the load was at rest is this slice's.
        client.tally.errors = errors.errors;
        client.tally.first_error = errors.first_error;
        let started = client.now();
        let (until, to_send) = match slice.amount {
            Amount::For(duration) => (started + duration.as_nanos() as u64, u64::MAX),
            Amount::Messages(messages) => (u64::MAX, messages),
        };
        client.slice = client::Slice {
            message_bytes: slice.message_bytes,
            pipeline: slice.pipeline as u64,
            until,
            to_send,
        };
        let keys: Vec<_> = client.keys().collect();
        let mut context = self.reactor.context(self.client);
        for key in keys {
            context.poke(key);
        }
        if self.server.is_datagram() {
            context.set_handler_timer(Duration::ZERO);
        }
        started
    }

    fn finish(&mut self, slice: &Slice, started: u64) -> Result<Outcome> {
        let client = self.reactor.handler_mut(self.client);
        let tally = std::mem::take(&mut client.tally);
        let ended = client.now();
        let until = match slice.amount {
            Amount::For(_) => client.slice.until,
            // Without the time in which others were waited for in vain.
            Amount::Messages(_) => client.answered_at,
        };
        if client.open == 0 || tally.messages == 0 {
            let error = tally.first_error.unwrap_or_else(|| match client.open {
                0 => "every connection was lost".into(),
                _ if tally.datagrams.sent > 0 => {
                    format!("none of {} datagrams came back", grouped(tally.datagrams.sent))
                }
                _ => "the time was over before anything was sent: a longer --duration".into(),
            });
            bail!("{}: {error}", self.server);
        }
        Ok(Outcome {
            messages: tally.messages,
            elapsed: Duration::from_nanos(until - started),
            messages_in_time: tally.messages_in_time,
            elapsed_total: Duration::from_nanos(ended - started),
            datagrams: self.server.is_datagram().then_some(tally.datagrams),
            errors: tally.errors,
            first_error: tally.first_error,
        })
    }

    #[cold]
    fn describe_stall(&self) -> String {
        let (server, in_flight) = (&self.server, self.client().in_flight);
        let seconds = self.options.stall_timeout.as_secs_f64();
        format!("{server}: no answer for {seconds} s, with {in_flight} messages on their way")
    }

    fn client(&self) -> &Client {
        self.reactor.handler(self.client)
    }

    /// How long the messages of the last slice took, in nanoseconds.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.client().latency
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let keys: Vec<_> = self.client().keys().collect();
        let mut context = self.reactor.context(self.client);
        for key in keys {
            context.abort_key(key);
        }
        // Nothing is left to be told of a poll that fails now.
        let _ = self.reactor.turn(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn every_connection_that_the_server_closes_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Place::Stream(listener.local_addr().unwrap().into());
        // Of four connections three are closed when a second message comes.
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut message = [0; 8];
                    for count in 0.. {
                        if stream.read_exact(&mut message).is_err() || count > 0 && number < 3 {
                            break;
                        }
                        stream.write_all(&message).unwrap();
                    }
                });
            }
        });
        let stall_timeout = Duration::from_secs(60);
        let options = LoadOptions { in_flight_bytes_max: 8, stall_timeout };
        let mut load = Load::connect(&server, 4, options).unwrap();
        let slice = Slice { pipeline: 1, message_bytes: 8, amount: Amount::Messages(4) };
        assert_eq!(load.run(&slice).unwrap().errors, 0);
        let outcome = load.run(&slice).unwrap();
        assert_eq!((outcome.errors, outcome.messages), (3, 1));
    }
}
