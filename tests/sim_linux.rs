//! All tests that need no kernel, in a simulation that does what Linux does.
//!
//! Single tests that are not for it say so themselves (`needs_kernel`, `needs_linux`). Whole files
//! that are not: `accept`, `source` and `descriptors` (the process's own, and what other processes
//! do), `fairness` (the machine's time), `interop`, `examples` and `trace` (programs and their output).

#![cfg(feature = "sim")]
#![allow(clippy::duplicate_mod, reason = "each file brings its support along")]

/// The world of all these files.
mod support {
    pub(crate) use oneloop::sim::Kernel;

    #[path = "sim.rs"]
    pub(crate) mod world;

    pub(crate) const KERNEL: Kernel = Kernel::Linux;
}

#[path = "close.rs"]
mod close;
#[path = "connect.rs"]
mod connect;
#[path = "data.rs"]
mod data;
#[path = "edges.rs"]
mod edges;
#[path = "events.rs"]
mod events;
#[path = "handler.rs"]
mod handler;
#[path = "keys.rs"]
mod keys;
#[path = "limits.rs"]
mod limits;
#[path = "memory.rs"]
mod memory;
#[path = "misuse.rs"]
mod misuse;
#[path = "output.rs"]
mod output;
#[path = "panic.rs"]
mod panic;
#[path = "stop.rs"]
mod stop;
#[path = "timer.rs"]
mod timer;
