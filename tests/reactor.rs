//! The reactor over the kernel's sockets.

mod support;

#[path = "reactor/mod.rs"]
mod reactor;
