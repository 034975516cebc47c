//! Tests of the core whose clients come over Unix sockets. Single tests that are about TCP say so themselves
//! (`needs_tcp`); files that are mostly about outbound connections are not here.

#![cfg(target_os = "linux")]
// Once is enough, see CONTRIBUTING.md.
#![cfg(debug_assertions)]

/// The world of all these files.
mod support {
    pub(crate) use self::all::world as kernel_world;
    pub(crate) use self::all::*;

    #[path = "mod.rs"]
    mod all;

    #[path = "unix.rs"]
    pub(crate) mod world;
}

#[path = "reactor/accept.rs"]
mod accept;
#[path = "reactor/close.rs"]
mod close;
#[path = "reactor/data.rs"]
mod data;
#[path = "reactor/deadline.rs"]
mod deadline;
#[path = "reactor/deadline_answers.rs"]
mod deadline_answers;
#[path = "reactor/deadline_message.rs"]
mod deadline_message;
#[path = "reactor/deadline_output.rs"]
mod deadline_output;
#[path = "reactor/drain.rs"]
mod drain;
#[path = "reactor/drip.rs"]
mod drip;
#[path = "reactor/edges.rs"]
mod edges;
#[path = "reactor/events.rs"]
mod events;
#[path = "reactor/fairness.rs"]
mod fairness;
#[path = "reactor/forward.rs"]
mod forward;
#[path = "reactor/handler.rs"]
mod handler;
#[path = "reactor/keys.rs"]
mod keys;
#[path = "reactor/limits.rs"]
mod limits;
#[path = "reactor/memory.rs"]
mod memory;
#[path = "reactor/output.rs"]
mod output;
#[path = "reactor/places.rs"]
mod places;
#[path = "reactor/send_file.rs"]
mod send_file;
#[path = "reactor/transfer.rs"]
mod transfer;
