//! A single-threaded, readiness-based event-loop reactor.
//!
//! One poll loop owns the sockets, keeps each connection's state in a slab, and calls
//! [handlers](StreamHandler) with the bytes that came. A handler is plain `&mut` state: no async, no
//! locks, no cells, no sockets. Everything is bounded by default, and every close has a
//! [named reason](CloseReason).
//!
//! ```no_run
//! use oneloop::{Connection, Error, StreamHandler};
//!
//! struct Echo;
//!
//! impl StreamHandler for Echo {
//!     type Session = ();
//!
//!     fn on_open(&mut self, _: &mut Connection<'_>) {}
//!
//!     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
//!         conn.send(data).ignore();
//!         Ok(data.len())
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     oneloop::serve("127.0.0.1:7000", Echo)
//! }
//! ```
//!
//! Start at [`StreamHandler`], where all calls of a connection's life stand on one page (for datagrams, at
//! [`DatagramHandler`]), then
//! [`Connection`] for what a handler may do, [`Reactor`] for more than one listener, and [`Limits`] for
//! what bounds it. For protocols of lines or other messages [`codec`] finds where each one ends. How to write a server
//! step by step, and its tests, is told in `docs/your-first-server.md`; what readiness is in `docs/readiness.md`; how all
//! this works inside in `ARCHITECTURE.md`.
//!
//! # Platform notes
//!
//! Written for Linux (epoll), and tested there. It compiles for macOS, FreeBSD (kqueue) and Windows (completion ports);
//! what these lack is an error when it is asked for. 64-bit targets only.

#![forbid(unsafe_code)]

#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd", windows)))]
compile_error!("oneloop has a driver for Linux, macOS, FreeBSD and Windows only");

#[cfg(all(windows, feature = "systemd"))]
compile_error!("the feature systemd is for Unix");

pub mod address;
mod buffer;
mod clock;
pub mod codec;
mod command;
mod connection;
mod connector;
mod context;
mod core;
mod credentials;
mod datagram;
mod deadline;
#[cfg(unix)]
mod descriptors;
mod drain;
pub mod driver;
mod error;
mod file;
mod handle;
mod handler;
mod histogram;
#[cfg(feature = "systemd")]
mod inherited;
mod key;
mod limits;
mod listener;
mod mail;
mod names;
#[cfg(feature = "systemd")]
mod notify;
mod one_line;
mod peer;
mod random;
mod reactor;
mod readiness;
mod signal;
#[cfg(feature = "sim")]
pub mod sim;
mod socket_options;
mod source;
mod stats;
#[cfg(unix)]
mod stdio;
mod stream;
mod table;
mod timer;
mod traffic;
mod watchdog;

pub use crate::address::{Address, IntoAddress, SocketAddress};
pub use crate::clock::Time;
pub use crate::connection::{Connection, Origin};
pub use crate::connector::{Backoff, ConnectOptions, Destination};
pub use crate::context::Context;
pub use crate::credentials::Credentials;
pub use crate::datagram::{
    Datagram, DatagramOptions, DatagramSocket, Interface, Queued, serve_datagrams,
};
pub use crate::deadline::Deadline;
#[cfg(unix)]
pub use crate::descriptors::raise_descriptor_limit;
pub use crate::drain::{Ended, Report};
pub use crate::error::{CloseReason, ConnectError, Error, Sent};
pub use crate::file::read_ahead;
pub use crate::handle::{Handle, HandleError};
pub use crate::handler::{DatagramHandler, Drained, MessageHandler, SourceHandler, StreamHandler};
pub use crate::histogram::Histogram;
#[cfg(feature = "systemd")]
pub use crate::inherited::Inherited;
pub use crate::key::Key;
pub use crate::limits::{DatagramLimits, Limits, ReactorLimits};
pub use crate::listener::{ListenOptions, ListenerId};
pub use crate::mail::{Blocking, Inbox, PostError, Sender, blocking, mailbox};
pub use crate::names::{NameError, Resolver};
pub use crate::peer::Peer;
pub use crate::reactor::{HandlerId, Reactor, Wait, serve};
pub use crate::readiness::{Interest, Readiness};
pub use crate::signal::Signal;
pub use crate::socket_options::SocketOptions;
pub use crate::stats::Stats;
#[cfg(unix)]
pub use crate::stdio::{Reading, Written, stdin, stdout};
pub use crate::timer::TimerId;
pub use crate::traffic::Traffic;
