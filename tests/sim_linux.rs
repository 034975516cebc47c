//! All tests of the core that need no kernel, in a simulation that does what Linux does.

// Once is enough, see CONTRIBUTING.md.
#![cfg(debug_assertions)]

/// The world of all these files.
mod support {
    pub(crate) use oneloop::sim::Kernel;

    pub(crate) use self::all::*;

    #[path = "mod.rs"]
    mod all;

    #[path = "sim.rs"]
    pub(crate) mod world;

    pub(crate) const KERNEL: Kernel = Kernel::Linux;
}

#[path = "reactor/mod.rs"]
mod reactor;
