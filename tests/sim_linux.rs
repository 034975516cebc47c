//! All tests that need no kernel, in a simulation that does what Linux does.
//!
//! Single tests that are not for it say so themselves (`needs_kernel`, `needs_linux`). Whole files:
//! `accept`, `source`, `descriptors`, `interop`, `fairness`, `examples` and `trace` are about the kernel, other
//! processes, or the machine's time.

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
#[path = "data.rs"]
mod data;
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
