//! A simulation of the world.

mod decisions;
mod driver;
mod events;
mod faults;
mod net;
mod socket;
mod trace;

pub use driver::{Network, SimDriver, SimHost, SimReserve, SimSocket, SimSource};
pub use faults::{Faults, Kernel};
pub use trace::Entry;
