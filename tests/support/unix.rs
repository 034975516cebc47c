//! The kernel's world, in which clients come over Unix sockets. Their addresses are made up: each stands for an
//! abstract name. What a test does itself over TCP is TCP.

#![allow(dead_code, unused_imports, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use oneloop::address::UnixName;
use oneloop::{HandlerId, ListenOptions, ListenerId, StreamHandler};

use super::DEADLINE;
use super::kernel_world;

pub use super::kernel_world::*;

pub const IS_TCP: bool = false;

/// The made-up addresses have it.
const UNIX: Ipv4Addr = Ipv4Addr::new(127, 77, 77, 77);

fn name(address: SocketAddr) -> Option<String> {
    let port = address.port();
    (address.ip() == UNIX).then(|| format!("oneloop-test-{}-{port}", process::id()))
}

pub fn listen<H: StreamHandler>(
    reactor: &mut Reactor,
    handler: HandlerId<H>,
    options: &ListenOptions,
) -> (ListenerId, SocketAddr) {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let address = SocketAddr::from((UNIX, 1 + LAST.fetch_add(1, Ordering::Relaxed)));
    let unix = UnixName::from_abstract(name(address).unwrap()).unwrap();
    let listener = reactor.listen_at(handler, unix, options).expect("a name of its own");
    (listener, address)
}

/// What the standard library calls a TCP stream takes any stream socket.
fn connect_unix(name: &str) -> io::Result<TcpStream> {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let client = TcpStream::from(OwnedFd::from(UnixStream::connect_addr(&address)?));
    client.set_read_timeout(Some(DEADLINE))?;
    client.set_write_timeout(Some(DEADLINE))?;
    Ok(client)
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
