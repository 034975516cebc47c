//! The tests of the core, as they are, in a simulation: everything that needs no kernel.
//!
//! Single tests that do need one say so themselves (`needs_kernel`, `needs_linux`). Whole files that
//! are not here need it from one end to the other: `accept_errors` and `descriptors` (the process's
//! own, and calls that fail in another process), `connect_unix` and `datagram_unix` (the file system, and
//! the standard library's sockets), `datagram_inherited` and `datagram_options` (the real ones' options), `flood` (the
//! machine's time), `interop`, `examples`, `example_tools` and `proxy` (programs), `inherited` and `notify` (what other
//! processes pass on and hear).

#[path = "../accept.rs"]
mod accept;
#[path = "../blocking.rs"]
mod blocking;
#[path = "../changed_limits.rs"]
mod changed_limits;
#[path = "../close.rs"]
mod close;
#[path = "../connect.rs"]
mod connect;
#[path = "../connect_from.rs"]
mod connect_from;
#[path = "../connect_retry.rs"]
mod connect_retry;
#[path = "../data.rs"]
mod data;
#[path = "../datagram.rs"]
mod datagram;
#[path = "../datagram_answers.rs"]
mod datagram_answers;
#[path = "../datagram_bind.rs"]
mod datagram_bind;
#[path = "../datagram_ends.rs"]
mod datagram_ends;
#[path = "../datagram_output.rs"]
mod datagram_output;
#[path = "../deadline.rs"]
mod deadline;
#[path = "../deadline_answers.rs"]
mod deadline_answers;
#[path = "../deadline_message.rs"]
mod deadline_message;
#[path = "../deadline_output.rs"]
mod deadline_output;
#[path = "../drain.rs"]
mod drain;
#[path = "../drip.rs"]
mod drip;
#[path = "../edges.rs"]
mod edges;
#[path = "../events.rs"]
mod events;
#[path = "../fairness.rs"]
mod fairness;
#[path = "../forward.rs"]
mod forward;
#[path = "../forward_pipe.rs"]
mod forward_pipe;
#[path = "../handle.rs"]
mod handle;
#[path = "../handler.rs"]
mod handler;
#[path = "../interval.rs"]
mod interval;
#[path = "../keys.rs"]
mod keys;
#[path = "../limits.rs"]
mod limits;
#[path = "../listen.rs"]
mod listen;
#[path = "../mail.rs"]
mod mail;
#[path = "../mail_ends.rs"]
mod mail_ends;
#[path = "../mail_threads.rs"]
mod mail_threads;
#[path = "../memory.rs"]
mod memory;
#[path = "../misuse.rs"]
mod misuse;
#[path = "../names.rs"]
mod names;
#[path = "../output.rs"]
mod output;
#[path = "../panic.rs"]
mod panic;
#[path = "../pipe.rs"]
mod pipe;
#[path = "../places.rs"]
mod places;
#[path = "../reconfigure.rs"]
mod reconfigure;
#[path = "../short_way.rs"]
mod short_way;
#[path = "../source.rs"]
mod source;
#[path = "../source_ends.rs"]
mod source_ends;
#[path = "../stop.rs"]
mod stop;
#[path = "../timer.rs"]
mod timer;
#[path = "../trace.rs"]
mod trace;
#[path = "../transfer.rs"]
mod transfer;
#[path = "../wait.rs"]
mod wait;
#[path = "../watchdog.rs"]
mod watchdog;
