//! The same handlers in a simulated world: for tests of protocols, and of the loop itself.
//!
//! A simulation has hosts, a network between them, and a clock, all of them in memory. The reactors in
//! it are the very same as on real sockets, only their [driver](crate::driver::Driver) is another one.
//! Everything that is left to chance follows from a seed, so what fails once fails again. There are
//! three levels:
//!
//! - [`Harness`]: one handler, one connection, no network: bytes in, bytes out; [`all_splits`] cuts
//!   an input in every possible way.
//! - [`Simulation`]: reactors and [scripted](Script) clients, with [`Faults`].
//! - [`Check`]: a simulation under many seeds; a failure prints how to run it again. [`sweep`] makes
//!   each system call fail.
//!
//! Deterministic means: the same seed and the same program do the same, step by step. A handler that
//! reads a clock of its own instead of [`Context::now`](crate::Context::now), starts threads, or walks
//! over a `HashMap` breaks that; [`Check::twice`] finds it.
//!
//! `docs/testing-your-protocol.md` is the guide, with a complete example.

mod addresses;
mod calls;
mod check;
mod client;
mod datagram;
mod decisions;
mod driver;
mod environment;
mod events;
mod failure;
mod faults;
mod handshake;
mod harness;
mod mail;
mod multicast;
mod names;
mod net;
mod network;
mod orders;
mod packet;
mod report;
mod script;
mod sim_driver;
mod socket;
mod socket_calls;
mod source;
mod splits;
mod sweep;
mod trace;
mod unix;
mod unix_datagram;
mod wire;
mod world;

pub use calls::Call;
pub use check::Check;
pub use client::End;
pub use driver::SimReserve;
pub use faults::{Faults, Kernel};
pub use harness::Harness;
pub use network::{Network, SimHost, SimSocket};
pub use script::Script;
pub use sim_driver::SimDriver;
pub use source::SimSource;
pub use splits::all_splits;
pub use sweep::sweep;
pub use trace::{Entry, Who};
pub use unix::SimPath;
pub use world::{ClientId, ClientOptions, Party, ReactorId, Served, Simulation};
