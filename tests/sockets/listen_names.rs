//! Listening on names, which are looked up.

use std::io::ErrorKind;
use std::net::SocketAddr;

use oneloop::{Address, ListenOptions, ListenerId};

use crate::support::*;

fn addresses_of(reactor: &Reactor, listeners: &[ListenerId]) -> Vec<SocketAddr> {
    let address = |listener: &_| reactor.listener_address(*listener).unwrap().inet().unwrap();
    listeners.iter().map(address).collect()
}

#[test]
fn numbers_are_not_looked_up() {
    for text in ["127.0.0.1:7000", "[::1]:7000", "[fe80::1%3]:7000"] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.look_up().unwrap(), [text.parse().unwrap()]);
    }
}

#[test]
fn an_interface_has_a_name() {
    let address: Address = "[fe80::1%lo]:7".parse().unwrap();
    let found = address.look_up().unwrap();
    assert!(matches!(found[..], [SocketAddr::V6(v6)] if v6.scope_id() > 0), "{found:?}");
    let nowhere: Address = "[fe80::1%none]:7".parse().unwrap();
    let error = nowhere.look_up().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "this machine has no interface \"none\"");
}

#[test]
fn what_is_no_host_is_not_looked_up() {
    for text in ["*:7000", "udp://*:53", "unix:@app", "fd:3", "systemd:http"] {
        let error = text.parse::<Address>().unwrap().look_up().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
    }
}

#[cfg(feature = "names")]
#[test]
fn a_service_has_the_port_of_its_transport() {
    let look_up = |text: &str| text.parse::<Address>().unwrap().look_up();
    assert_eq!(look_up("[::1]:http").unwrap(), ["[::1]:80".parse().unwrap()]);
    assert_eq!(look_up("udp://127.0.0.1:domain").unwrap(), ["127.0.0.1:53".parse().unwrap()]);
    assert_eq!(look_up("udp://127.0.0.1:tftp").unwrap()[0].port(), 69);
    let error = look_up("127.0.0.1:no-such").unwrap_err();
    assert_eq!(error.to_string(), "there is no TCP service \"no-such\" (services(5))");
    let error = look_up("127.0.0.1:tftp").unwrap_err();
    assert_eq!(error.to_string(), "there is no TCP service \"tftp\" (services(5))");
}

#[cfg(feature = "names")]
#[test]
fn a_star_has_services_too() {
    let mut server = Server::new(Recorder::echo());
    let error = server.reactor.listen(server.handler, "*:no-such").unwrap_err();
    let expected = "listen on *:no-such: there is no TCP service \"no-such\" (services(5))";
    assert_eq!(error.to_string(), expected);
    // Whether the port may be bound is another matter.
    match server.reactor.listen(server.handler, "*:http") {
        Ok(listener) => assert_eq!(addresses_of(&server.reactor, &[listener])[0].port(), 80),
        Err(error) => assert!(error.to_string().starts_with("listen on [::]:80: "), "{error}"),
    }
}

#[cfg(not(feature = "names"))]
#[test]
fn without_the_feature_the_name_of_a_service_is_an_error_that_says_so() {
    let (mut reactor, handler) = raw::reactor();
    for address in ["127.0.0.1:http", "*:http"] {
        let error = reactor.listen(handler, address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature \"names\""), "{error}");
    }
}

#[test]
fn a_name_is_listened_on() {
    let mut server = Server::new(Recorder::echo());
    let (handler, options) = (server.handler, ListenOptions::new());
    let one = server.reactor.listen(handler, "localhost:0").unwrap();
    let all = server.reactor.listen_all(handler, "localhost:0", &options).unwrap();
    for address in addresses_of(&server.reactor, &[&[one], &all[..]].concat()) {
        assert!(address.ip().is_loopback(), "{address}");
        let mut client = connect(address);
        server.assert_echoes(&mut client);
    }
    let error = server.reactor.listen(handler, "no-such-host.invalid:7000").unwrap_err();
    assert!(error.to_string().starts_with("listen on no-such-host.invalid:7000: "), "{error}");
}
