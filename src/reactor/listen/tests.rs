//! Which addresses a name stands for, a test cannot choose; here it chooses them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::connection::Connection;
use crate::error::Error;

struct Nobody;

impl StreamHandler for Nobody {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

fn taken() -> (TcpListener, SocketAddress) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().into();
    (listener, address)
}

fn free() -> SocketAddress {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()
}

#[test]
fn the_first_place_that_can_be_bound_is_taken() {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Nobody).index;
    let ((_listener, taken), options) = (taken(), ListenOptions::new());
    let places = [taken.clone(), free(), taken.clone()];
    reactor.listen_first(handler, &places, &options).unwrap();
    assert_eq!(reactor.listeners.len(), 1);
    let error = reactor.listen_first(handler, std::slice::from_ref(&taken), &options).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("listen on {taken}: ")), "{error}");
    assert_eq!((reactor.listeners.len(), reactor.core.sources.len()), (1, 1));
}

#[test]
fn all_places_are_taken_or_none() {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Nobody).index;
    let ((_listener, taken), options) = (taken(), ListenOptions::new());
    let error = reactor.listen_everywhere(handler, &[free(), free(), taken], &options);
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!((reactor.listeners.len(), reactor.core.sources.len()), (0, 0));
    assert!(reactor.sockets.sockets.iter().all(Option::is_none), "the door stays open");
    reactor.turn(Some(std::time::Duration::ZERO)).unwrap();

    let listeners = reactor.listen_everywhere(handler, &[free(), free()], &options).unwrap();
    for listener in &listeners {
        TcpStream::connect(reactor.listener_address(*listener).unwrap()).unwrap();
    }
    assert_eq!((listeners.len(), reactor.listeners.len()), (2, 2));
}
