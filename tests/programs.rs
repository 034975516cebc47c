//! The example programs, end to end, with outside programs as their clients.

// Once is enough, see CONTRIBUTING.md.
#![cfg(debug_assertions)]

mod example;
mod support;

#[path = "programs/dns.rs"]
mod dns;
#[path = "programs/example_tools.rs"]
mod example_tools;
#[path = "programs/examples.rs"]
mod examples;
#[path = "programs/interop.rs"]
mod interop;
#[path = "programs/proxy.rs"]
mod proxy;
