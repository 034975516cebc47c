//! What only a kernel has: the process's descriptors, calls that fail, the file system, options of sockets, and what
//! other processes pass on and hear.

mod child;
mod support;

#[path = "sockets/accept_errors.rs"]
mod accept_errors;
#[path = "sockets/connect_unix.rs"]
mod connect_unix;
#[path = "sockets/datagram_batch.rs"]
mod datagram_batch;
#[path = "sockets/datagram_inherited.rs"]
mod datagram_inherited;
#[path = "sockets/datagram_memory.rs"]
mod datagram_memory;
#[path = "sockets/datagram_options.rs"]
mod datagram_options;
#[path = "sockets/datagram_unix.rs"]
mod datagram_unix;
#[path = "sockets/datagram_unix_room.rs"]
mod datagram_unix_room;
#[path = "sockets/descriptors.rs"]
mod descriptors;
#[path = "sockets/inherited.rs"]
mod inherited;
#[path = "sockets/listen_names.rs"]
mod listen_names;
#[path = "sockets/listen_unix.rs"]
mod listen_unix;
#[path = "sockets/notify.rs"]
mod notify;
#[path = "sockets/options.rs"]
mod options;
#[path = "sockets/segments.rs"]
mod segments;
#[path = "sockets/short_connections.rs"]
mod short_connections;
#[path = "sockets/signals.rs"]
mod signals;
#[path = "sockets/unix.rs"]
mod unix;
#[path = "sockets/unix_streams.rs"]
mod unix_streams;

#[test]
#[ignore = "the server process of other tests"]
fn child() {
    child::serve();
}
