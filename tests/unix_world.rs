//! Tests of the core whose clients come over Unix sockets.

#![allow(clippy::duplicate_mod, reason = "each file brings its support along")]

/// The world of all these files.
mod support {
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[path = "../kernel/mod.rs"]
    mod kernel;
    #[path = "world.rs"]
    mod kernel_world;
    #[path = "unix.rs"]
    pub(crate) mod world;
}

mod accept;
mod close;
mod data;
mod deadline;
mod deadline_answers;
mod deadline_message;
mod deadline_output;
mod drain;
mod drip;
mod edges;
mod events;
mod fairness;
mod handler;
mod keys;
mod limits;
mod memory;
mod misuse;
mod output;
mod panic;
mod places;
mod short_way;
mod stop;
mod transfer;
