//! All tests of the core that need no kernel, in a simulation that does what Linux does.

#![cfg(feature = "sim")]
#![allow(clippy::duplicate_mod, reason = "each file brings its support along")]

/// The world of all these files.
mod support {
    pub(crate) use oneloop::sim::Kernel;

    #[path = "sim.rs"]
    pub(crate) mod world;

    pub(crate) const KERNEL: Kernel = Kernel::Linux;
}

mod simulated;
