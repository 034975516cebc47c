//! The tests of the reactor that run in every world: over the kernel's sockets (`tests/reactor.rs`), and in simulation
//! under both kernels (`tests/sim_linux.rs`, `tests/sim_contract.rs`).
//!
//! Single tests that need a kernel say so themselves (`needs_kernel`, `needs_linux`). Whole files that need one are
//! in `tests/sockets` (the process's own descriptors, calls that fail in another process, the file system, options of
//! real sockets, what other processes pass on and hear) and in `tests/programs`; `tests/flood.rs` needs the machine's
//! time.

mod accept;
mod blocking;
mod changed_limits;
mod close;
mod connect;
mod connect_from;
mod connect_retry;
mod data;
mod datagram;
mod datagram_answers;
mod datagram_bind;
mod datagram_ends;
mod datagram_output;
mod deadline;
mod deadline_answers;
mod deadline_message;
mod deadline_output;
mod drain;
mod drip;
mod edges;
mod events;
mod fairness;
mod forward;
mod forward_pipe;
mod handle;
mod handler;
mod interval;
mod keys;
mod limits;
mod listen;
mod mail;
mod mail_ends;
mod mail_threads;
mod memory;
mod misuse;
mod names;
mod output;
mod panic;
mod pipe;
mod places;
mod reconfigure;
mod send_file;
mod short_way;
mod source;
mod source_ends;
mod stop;
mod timer;
mod trace;
mod transfer;
mod wait;
mod watchdog;
