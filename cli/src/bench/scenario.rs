//! A kind of load: how many connections, with how much in flight on each.

use std::time::Duration;

use serde::Serialize;

use super::load::{Amount, LoadOptions, Slice};
use super::resources::Needs;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Scenario {
    pub(crate) connections: usize,
    /// Messages in flight on each connection.
    pub(crate) pipeline: usize,
    /// Bytes of a message.
    pub(crate) size: usize,
}

/// What was asked for, or else what is usual.
pub(super) fn or_usual<'a>(asked: &'a [usize], usual: &'a [usize]) -> &'a [usize] {
    if asked.is_empty() { usual } else { asked }
}

/// What the largest of the scenarios needs, on one server that we start, on TCP; `None` if there are none.
pub(super) fn needs(scenarios: &[Scenario]) -> Option<Needs> {
    let in_flight = |scenario: &Scenario| {
        scenario.connections.saturating_mul(scenario.pipeline).saturating_mul(scenario.size)
    };
    Some(Needs {
        connections: scenarios.iter().map(|scenario| scenario.connections).max()?,
        servers: 1,
        in_flight_bytes: scenarios.iter().map(in_flight).max()?,
        follows_flags: true,
        takes_ports: true,
        starts_servers: true,
    })
}

impl Scenario {
    pub(super) fn slice(&self, amount: Amount) -> Slice {
        Slice { pipeline: self.pipeline, message_bytes: self.size, amount }
    }

    pub(super) fn load_options(&self, stall_timeout: Duration) -> LoadOptions {
        LoadOptions { in_flight_bytes_max: self.pipeline * self.size, stall_timeout }
    }
}
