//! Tests of the core whose clients come over Unix sockets. Single tests that are about TCP say so themselves
//! (`needs_tcp`); files that are mostly about outbound connections are not here.

#![cfg(target_os = "linux")]
#![allow(clippy::duplicate_mod, reason = "each file brings its support along")]

/// The world of all these files.
mod support {
    use std::time::Duration;

    pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

    #[path = "../kernel/mod.rs"]
    mod kernel;
    #[allow(dead_code, unreachable_pub, reason = "the world of TCP has more")]
    #[path = "world.rs"]
    mod kernel_world;
    #[path = "unix.rs"]
    pub(crate) mod world;
}

#[path = "accept.rs"]
mod accept;
#[path = "close.rs"]
mod close;
#[path = "data.rs"]
mod data;
#[path = "deadline.rs"]
mod deadline;
#[path = "deadline_answers.rs"]
mod deadline_answers;
#[path = "deadline_message.rs"]
mod deadline_message;
#[path = "deadline_output.rs"]
mod deadline_output;
#[path = "drain.rs"]
mod drain;
#[path = "drip.rs"]
mod drip;
#[path = "edges.rs"]
mod edges;
#[path = "events.rs"]
mod events;
#[path = "fairness.rs"]
mod fairness;
#[path = "forward.rs"]
mod forward;
#[path = "handler.rs"]
mod handler;
#[path = "keys.rs"]
mod keys;
#[path = "limits.rs"]
mod limits;
#[path = "memory.rs"]
mod memory;
#[path = "output.rs"]
mod output;
#[path = "places.rs"]
mod places;
#[path = "transfer.rs"]
mod transfer;
