//! The kernel's world, in which clients come over Unix sockets. Their addresses are made up: each stands for an
//! abstract name. What a test does itself over TCP is TCP.

#![allow(dead_code, unused_imports, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use oneloop::address::UnixName;
use oneloop::{HandlerId, ListenOptions, ListenerId, StreamHandler};

use super::kernel_world;

pub use super::kernel_world::*;

pub const IS_TCP: bool = false;

/// The made-up addresses have it.
const UNIX: Ipv4Addr = Ipv4Addr::new(127, 77, 77, 77);

fn name(address: SocketAddr) -> Option<UnixName> {
    let name = format!("oneloop-test-{}-{}", process::id(), address.port());
    (address.ip() == UNIX).then(|| UnixName::from_abstract(name).expect("a short name"))
}

pub fn listen<H: StreamHandler>(
    reactor: &mut Reactor,
    handler: HandlerId<H>,
    options: &ListenOptions,
) -> (ListenerId, SocketAddr) {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let address = SocketAddr::from((UNIX, 1 + LAST.fetch_add(1, Ordering::Relaxed)));
    let name = name(address).expect("it is made up");
    let listener = reactor.listen_with(handler, name, options).expect("a name of its own");
    (listener, address)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    match name(address) {
        Some(name) => connect_unix(&name).expect("the server listens"),
        None => kernel_world::connect(address),
    }
}

pub fn connect_from(from: Ipv4Addr, buffer_bytes: usize, address: SocketAddr) -> TcpStream {
    match name(address) {
        Some(_) => connect(address),
        None => kernel_world::connect_from(from, buffer_bytes, address),
    }
}

pub fn try_connect(address: SocketAddr) -> io::Result<TcpStream> {
    match name(address) {
        Some(name) => connect_unix(&name),
        None => kernel_world::try_connect(address),
    }
}

pub fn until_received(address: SocketAddr, client: &TcpStream, count: usize) {
    // What was written to a Unix socket has arrived.
    if name(address).is_none() {
        kernel_world::until_received(address, client, count);
    }
}
