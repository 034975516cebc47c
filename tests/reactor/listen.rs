//! Listening on what stands for an address.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use oneloop::address::UnixName;
use oneloop::{Address, IntoAddress, ListenOptions, SocketAddress};

use crate::support::*;

fn read(what: impl IntoAddress) -> String {
    what.into_address().unwrap().to_string()
}

#[test]
fn all_that_stands_for_an_address_is_taken() {
    let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    let address: Address = "127.0.0.1:7000".parse().unwrap();
    let socket: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    let text = String::from("127.0.0.1:7000");
    for read in [
        read("127.0.0.1:7000"),
        read(&text),
        read(text),
        read(&address),
        read(address),
        read(socket),
        read(SocketAddress::from(socket)),
        read(SocketAddrV4::new(v4, 7000)),
        read((v4, 7000)),
        read((IpAddr::from(v4), 7000)),
        read(("127.0.0.1", 7000)),
    ] {
        assert_eq!(read, "127.0.0.1:7000");
    }
    for read in [read(SocketAddrV6::new(v6, 7000, 0, 0)), read((v6, 7000)), read(("::1", 7000))] {
        assert_eq!(read, "[::1]:7000");
    }
    let name = UnixName::from_abstract("app").unwrap();
    assert_eq!(read(name.clone()), "unix:@app");
    assert_eq!(read(SocketAddress::from(name)), "unix:@app");
    assert_eq!(read("unix:/run/app.sock"), "unix:/run/app.sock");
}

#[test]
fn what_cannot_be_read_is_said_with_its_reason() {
    let (mut reactor, handler) = raw::reactor();
    for (error, reason) in [
        (reactor.listen(handler, "127.0.0.1:70000").unwrap_err(), "port 70000 is over 65535"),
        (reactor.listen(handler, "::1:7000").unwrap_err(), "an IPv6 address needs brackets"),
        (reactor.listen(handler, ("a b", 7000)).unwrap_err(), "the host \"a b\" has ' '"),
        (reactor.listen(handler, SocketAddress::Unnamed).unwrap_err(), "has no address"),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn an_address_that_nobody_can_accept_on_is_said_with_its_reason() {
    let (mut reactor, handler) = raw::reactor();
    let datagrams = "a datagram socket has no connections to accept";
    let inherited = "an inherited socket is taken with Inherited, and given to listen_fd";
    for (address, reason) in [
        ("udp://127.0.0.1:53", datagrams),
        ("unixgram:/dev/log", datagrams),
        ("fd:3", inherited),
        ("systemd:http", inherited),
    ] {
        let options = ListenOptions::new();
        let errors = [
            reactor.listen(handler, address).unwrap_err(),
            reactor.listen_all(handler, address, &options).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), format!("listen on {address}: {reason}"));
        }
    }
}

#[test]
fn a_star_is_one_socket_for_the_clients_of_both_families() {
    let mut server = Server::new(Recorder::echo());
    let listener = server.reactor.listen(server.handler, "*:0").unwrap();
    let address = server.reactor.listener_address(listener).unwrap().inet().unwrap();
    assert_eq!(address.ip(), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let mut client = connect(SocketAddr::new(ip, address.port()));
        server.assert_echoes(&mut client);
    }
    // The socket has the port in both families.
    let taken = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let error = server.reactor.listen(server.handler, taken).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn only_v6_leaves_a_star_to_the_clients_of_ipv6() {
    let mut server = Server::new(Recorder::echo());
    let options = ListenOptions::new().only_v6(true);
    // A port that is free for IPv6 may be somebody's for IPv4.
    let is_free_for_both = (0..20).any(|_| {
        let listener = server.reactor.listen_with(server.handler, "*:0", &options).unwrap();
        let port = server.reactor.listener_address(listener).unwrap().port().unwrap();
        let mut client = connect((Ipv6Addr::LOCALHOST, port).into());
        server.assert_echoes(&mut client);
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        server.reactor.listen(server.handler, v4).is_ok()
    });
    assert!(is_free_for_both);
}

#[test]
fn a_listener_is_found_again_by_its_own_address() {
    let mut server = Server::new(Recorder::echo());
    let address = server.reactor.listener_address(server.listener).unwrap();
    server.reactor.close_listener(server.listener);
    run_until(&mut server.reactor, "it is closed", |reactor| {
        reactor.listener_address(server.listener).is_err()
    });
    server.reactor.listen(server.handler, address).unwrap();
    let mut client = connect(server.address);
    server.assert_echoes(&mut client);
}
