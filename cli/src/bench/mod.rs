//! The benchmark.

pub(crate) mod process;
pub(crate) mod server;
