//! Addresses, and names of Unix sockets.
#![cfg_attr(fuzzing, no_main)]

#[path = "../../tests/properties/address.rs"]
mod properties;

oneloop_fuzz::target!(properties::address);
