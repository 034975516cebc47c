//! `short_way` in a simulation that grants only what drivers promise: alone, because the log level belongs to the
//! whole process.

#![cfg(feature = "sim")]

/// The world of this file.
mod support {
    pub(crate) use oneloop::sim::Kernel;

    #[path = "sim.rs"]
    pub(crate) mod world;

    pub(crate) const KERNEL: Kernel = Kernel::Contract;
}

#[path = "short_way.rs"]
mod short_way;
