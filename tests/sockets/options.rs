//! Socket options: what was asked for is what the kernel has, on what is accepted too, or an error.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use oneloop::address::UnixName;
#[cfg(feature = "sim")]
use oneloop::{Address, ReactorLimits};
use oneloop::{
    Backoff, ConnectError, ConnectOptions, Destination, Limits, ListenOptions, ListenerId,
    SocketOptions,
};
use rustix::net::{AddressFamily, sockopt};
use socket2::SockRef;

use crate::support::*;

/// A server that listens with these options, on both families.
fn listen(options: SocketOptions) -> (Server, ListenerId) {
    let mut server = Server::new(Recorder::echo());
    let options = ListenOptions::new().socket(options);
    let listener = server.reactor.listen_with(server.handler, "*:0", &options).unwrap();
    (server, listener)
}

/// What the server has of connections over IPv4 and over IPv6.
fn accepted(options: SocketOptions) -> [OwnedFd; 2] {
    let (mut server, listener) = listen(options);
    let port = server.reactor.listener_address(listener).unwrap().port().unwrap();
    let addresses =
        [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()];
    addresses.map(|address| {
        let mut client = connect(address);
        server.assert_echoes(&mut client);
        kernel::server_side_of(&client)
    })
}

/// What the kernel has of outbound connections: to one address, of either family, and to several.
fn connected(options: SocketOptions) -> [OwnedFd; 3] {
    let (_deaf, deaf) = nobody();
    let options = Rc::new(ConnectOptions::new().socket(options));
    ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0 and nobody"].map(|to| {
        let (address, is_alone) = (to.trim_end_matches(" and nobody"), !to.ends_with("nobody"));
        let listener = TcpListener::bind(address).unwrap();
        let to = listener.local_addr().unwrap();
        let to = if is_alone { to.into() } else { Destination::from(vec![deaf, to]) };
        let mut client = Client::new(Recorder::new());
        client.cx().connect_with(to, 0, &options);
        client.until("it opens", |calls| calls.opened().len() == 1);
        kernel::server_side_of(&listener.accept().unwrap().0)
    })
}

/// One of each that can be seen on a connection.
fn many() -> SocketOptions {
    let seconds = Duration::from_secs;
    SocketOptions::new()
        .nodelay(false)
        .keepalive(seconds(71), seconds(13), 7)
        .receive_buffer_bytes(50_000)
        .send_buffer_bytes(60_000)
        .user_timeout(Duration::from_millis(12_345))
        .traffic_class(0xb8)
        .unsent_low_bytes(70_000)
}

#[test]
fn what_was_set_is_handed_down_from_a_listener_and_set_on_an_outbound_connection() {
    let seconds = Duration::from_secs;
    for socket in accepted(many()).into_iter().chain(connected(many())) {
        let is_v6 = sockopt::socket_domain(&socket).unwrap() == AddressFamily::INET6;
        assert!(!sockopt::tcp_nodelay(&socket).unwrap());
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), seconds(71));
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), seconds(13));
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), 7);
        // Doubled, for the kernel's own bookkeeping (socket(7)).
        assert_eq!(sockopt::socket_recv_buffer_size(&socket).unwrap(), 100_000);
        assert_eq!(sockopt::socket_send_buffer_size(&socket).unwrap(), 120_000);
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 12_345);
        assert_eq!(sockopt::ip_tos(&socket).unwrap(), 0xb8);
        if is_v6 {
            assert_eq!(sockopt::ipv6_tclass(&socket).unwrap(), 0xb8);
        }
        assert_eq!(SockRef::from(&socket).tcp_notsent_lowat().unwrap(), 70_000);
    }
}

#[test]
fn what_was_not_asked_for_is_as_the_system_has_it() {
    let plain = TcpListener::bind("[::]:0").unwrap();
    let options = SocketOptions::new;
    for socket in accepted(options()).into_iter().chain(connected(options())) {
        let is_v6 = sockopt::socket_domain(&socket).unwrap() == AddressFamily::INET6;
        assert!(sockopt::tcp_nodelay(&socket).unwrap(), "the one that is on by default");
        assert!(!sockopt::socket_keepalive(&socket).unwrap());
        let idle = sockopt::tcp_keepidle(&plain).unwrap();
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), idle);
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 0);
        assert_eq!(sockopt::ip_tos(&socket).unwrap(), 0);
        if is_v6 {
            assert_eq!(sockopt::ipv6_tclass(&socket).unwrap(), 0);
        }
        assert_eq!(SockRef::from(&socket).tcp_notsent_lowat().unwrap(), 0);
        assert_eq!(SockRef::from(&socket).device().unwrap(), None);
    }
}

#[test]
fn a_device_is_handed_down_and_holds_for_outbound_connections() {
    let options = || SocketOptions::new().device("lo");
    for socket in accepted(options()).into_iter().chain(connected(options())) {
        assert_eq!(SockRef::from(&socket).device().unwrap().unwrap(), b"lo");
    }
}

#[test]
fn who_says_nothing_is_not_accepted_while_accepting_is_deferred() {
    use std::io::Write;
    let options = SocketOptions::new().defer_accept(Duration::from_secs(60));
    let (mut server, listener) = listen(options);
    let port = server.reactor.listener_address(listener).unwrap().port().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (mut silent, mut speaks) = (connect(address), connect(address));
    server.assert_echoes(&mut speaks);
    assert_eq!(server.reactor.stats().accepts, 1);
    silent.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut silent, 1), b"x");
    assert_eq!(server.reactor.stats().accepts, 2);
}

/// In a network of its own, whose settings may be changed.
#[test]
fn who_has_been_there_before_sends_its_first_bytes_with_its_syn() {
    let script = "ip link set lo up && echo $0 >/proc/sys/net/ipv4/tcp_fastopen && exec \"$@\"";
    let this = std::env::current_exe().unwrap();
    for (setting, expected) in
        [("3", "opened fast: 1\n"), ("1", "fast_open: the system does not serve it: ")]
    {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", script, setting]).arg(&this).args([
            "--exact",
            &full_name_of("opens_fast"),
            "--ignored",
            "--nocapture",
        ]);
        let output = apart(|| command.output()).unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains(expected), "{output:?}");
    }
}

#[test]
#[ignore = "run by the one before, in a network of its own"]
fn opens_fast() {
    let options = ListenOptions::new().socket(SocketOptions::new().fast_open(16));
    let mut server = Server::new(Recorder::echo());
    let listener = match server.reactor.listen_with(server.handler, "127.0.0.1:0", &options) {
        Ok(listener) => listener,
        Err(error) => return println!("{error}"),
    };
    let port = server.reactor.listener_address(listener).unwrap().port().unwrap();
    // The first connection is given a cookie, the second one shows it.
    let client = format!(
        "import socket\n\
         for _ in range(2):\n  \
           client = socket.socket()\n  \
           client.sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', {port}))\n  \
           assert client.recv(1) == b'x'\n"
    );
    let mut client = apart(|| Command::new("python3").args(["-c", &client]).spawn()).unwrap();
    run_until(&mut server.reactor, "both are answered", |_| client.try_wait().unwrap().is_some());
    let text = std::fs::read_to_string("/proc/self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().unwrap().split_whitespace();
    let mut counts = names.zip(lines.next().unwrap().split_whitespace());
    let (_, count) = counts.find(|(name, _)| *name == "TCPFastOpenPassive").unwrap();
    println!("opened fast: {count}");
}

#[test]
fn an_interface_that_is_not_there_is_an_error() {
    let options = ListenOptions::new().socket(SocketOptions::new().device("none"));
    let (mut reactor, handler) = raw::reactor();
    let error = reactor.listen_with(handler, "127.0.0.1:0", &options).unwrap_err();
    let expected = "listen on 127.0.0.1:0: the socket option device: ";
    assert!(error.to_string().starts_with(expected), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ConnectOptions::new().socket(SocketOptions::new().device("none"));
    let error = error_of(listener.local_addr().unwrap(), options);
    assert!(matches!(error, ConnectError::Io(_)), "{error:?}");
}

/// Why a connect fails.
fn error_of(to: impl Into<Destination>, options: ConnectOptions) -> ConnectError {
    let mut client = Client::new(Recorder::new());
    client.cx().connect_with(to, 1, &Rc::new(options));
    client.failed(1)[0].2
}

/// ... which is not tried again, although that is allowed.
fn final_error_of(to: impl Into<Destination>, options: SocketOptions) -> ConnectError {
    let hour = Duration::from_secs(3600);
    error_of(to, ConnectOptions::new().socket(options).retry(1, Backoff::new(hour, hour)))
}

/// Addresses that are nobody's, for documentation: RFC 5737, RFC 3849.
#[test]
fn an_address_that_the_machine_does_not_have_can_be_bound_freely() {
    let (mut reactor, handler) = raw::reactor();
    for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
        let error = reactor.listen(handler, address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
        let options = ListenOptions::new().socket(SocketOptions::new().freebind(true));
        let listener = reactor.listen_with(handler, address, &options).unwrap();
        let bound = reactor.listener_address(listener).unwrap().inet().unwrap();
        assert_eq!(bound.ip(), address.parse::<SocketAddr>().unwrap().ip());
    }
}

/// Whether there is a way from it is another question.
#[test]
fn an_address_that_the_machine_does_not_have_can_be_bound_freely_to_connect_from() {
    let hole = BlackHole::new();
    for is_free in [false, true] {
        let options = ConnectOptions::new()
            .from(SocketAddr::from(([192, 0, 2, 1], 0)))
            .limits(Limits::new().connect_timeout(Duration::from_millis(50)))
            .socket(SocketOptions::new().freebind(is_free));
        let error = error_of(hole.address, options);
        assert_eq!(error != ConnectError::AddressUnavailable, is_free, "{error:?}");
    }
}

#[test]
fn what_is_of_listeners_only_is_an_error_of_a_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let to = listener.local_addr().unwrap();
    let options = SocketOptions::new;
    for options in [options().defer_accept(Duration::from_secs(1)), options().fast_open(16)] {
        let error = final_error_of(to, options.clone());
        assert_eq!(error, ConnectError::Io(ErrorKind::InvalidInput), "{options:?}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nothing was tried");
}

/// Whoever made it decides, but for what all connections have.
#[test]
fn an_adopted_connection_has_what_was_set_on_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect(listener.local_addr().unwrap());
    let (socket, _) = listener.accept().unwrap();
    sockopt::set_socket_keepalive(&socket, true).unwrap();
    sockopt::set_tcp_nodelay(&socket, false).unwrap();
    let mut server = Server::new(Recorder::echo());
    server.reactor.adopt(server.handler, socket.into(), 0).unwrap();
    server.until("it opens", |calls| calls.opened().len() == 1);
    let socket = kernel::server_side_of(&client);
    assert!(sockopt::socket_keepalive(&socket).unwrap());
    assert!(sockopt::tcp_nodelay(&socket).unwrap());
}

#[test]
fn a_value_that_makes_no_sense_is_an_error_that_says_so() {
    let options = SocketOptions::new;
    let (mut reactor, handler) = raw::reactor();
    let second = Duration::from_secs(1);
    let days = Duration::from_secs(32_768);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    for (socket_options, message) in [
        (options().keepalive(second / 2, second, 1), "keepalive has idle 500ms"),
        (options().keepalive(Duration::ZERO, second, 1), "keepalive has idle 0ns"),
        (options().keepalive(days, second, 1), "keepalive has idle 32768s"),
        (options().keepalive(second, days, 1), "keepalive has interval 32768s"),
        (options().keepalive(second, second, 0), "keepalive has count 0"),
        (options().keepalive(second, second, 128), "keepalive has count 128"),
        (options().receive_buffer_bytes(0), "receive_buffer_bytes is 0"),
        (options().send_buffer_bytes(1 << 30), "send_buffer_bytes is 1073741824"),
        (options().unsent_low_bytes(0), "unsent_low_bytes is 0"),
        (options().unsent_low_bytes(1 << 31), "unsent_low_bytes is 2147483648"),
        (options().user_timeout(Duration::ZERO), "user_timeout is 0ns"),
        (options().user_timeout(Duration::from_nanos(1_000_001)), "user_timeout is 1.000001ms"),
        (options().user_timeout(Duration::MAX), "user_timeout is "),
        (options().traffic_class(1), "traffic_class is 0x01"),
        (options().defer_accept(second / 2), "defer_accept is 500ms"),
        (options().defer_accept(Duration::MAX), "defer_accept is "),
        (options().fast_open(0), "fast_open is 0"),
        (options().fast_open(1 << 31), "fast_open is 2147483648"),
        (options().device(""), "device is \"\""),
        (options().device("sixteen-letters!"), "device is \"sixteen-letters!\""),
        (options().device("a/b"), "device is \"a/b\""),
    ] {
        let options = ListenOptions::new().socket(socket_options.clone());
        let error = reactor.listen_with(handler, "127.0.0.1:0", &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let expected = format!("listen on 127.0.0.1:0: the socket option {message}");
        assert!(error.to_string().starts_with(&expected), "{error}");
        if !message.starts_with("defer_accept") && !message.starts_with("fast_open") {
            let error = final_error_of(to, socket_options);
            assert_eq!(error, ConnectError::Io(ErrorKind::InvalidInput), "{message}");
        }
    }
}

#[test]
fn the_largest_and_the_smallest_values_are_taken() {
    let (second, most) = (Duration::from_secs(1), Duration::from_secs(32_767));
    let millis = |millis| Duration::from_millis(millis);
    let small = SocketOptions::new()
        .keepalive(second, second, 1)
        .user_timeout(millis(1))
        .unsent_low_bytes(1)
        .receive_buffer_bytes(1)
        .send_buffer_bytes(1);
    let large = SocketOptions::new()
        .keepalive(most, most, 127)
        .user_timeout(millis(i32::MAX as u64))
        .unsent_low_bytes(i32::MAX as usize)
        .traffic_class(0xfc);
    for options in [small, large] {
        listen(options);
    }
}

/// Each of them, so that none is forgotten where it has no effect.
fn all() -> Vec<(&'static str, SocketOptions)> {
    let options = SocketOptions::new;
    let second = Duration::from_secs(1);
    vec![
        ("nodelay", options().nodelay(true)),
        ("keepalive", options().keepalive(second, second, 1)),
        ("receive_buffer_bytes", options().receive_buffer_bytes(4096)),
        ("send_buffer_bytes", options().send_buffer_bytes(4096)),
        ("user_timeout", options().user_timeout(second)),
        ("traffic_class", options().traffic_class(0x20)),
        ("unsent_low_bytes", options().unsent_low_bytes(4096)),
        ("device", options().device("lo")),
        ("freebind", options().freebind(true)),
        ("defer_accept", options().defer_accept(second)),
        ("fast_open", options().fast_open(16)),
    ]
}

const OF_LISTENERS: [&str; 2] = ["defer_accept", "fast_open"];

#[test]
fn a_unix_socket_has_none_of_them() {
    let (mut reactor, handler) = raw::reactor();
    let address = format!("unix:@oneloop-options-{}", std::process::id());
    let name = UnixName::from_abstract(format!("oneloop-options-{}", std::process::id()));
    let to = name.unwrap();
    for (name, options) in all() {
        if !OF_LISTENERS.contains(&name) {
            let error = final_error_of(to.clone(), options.clone());
            assert_eq!(error, ConnectError::Io(ErrorKind::Unsupported), "{name}");
        }
        let options = ListenOptions::new().socket(options);
        let error = reactor.listen_with(handler, &address, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let message = format!("the socket option {name} is not to be had on a Unix socket");
        assert_eq!(error.to_string(), format!("listen on {address}: {message}"));
    }
    reactor.listen(handler, &address).expect("the name is still free");
}

/// Why that is: what a Unix listener has, its connections do not.
#[test]
fn the_kernel_hands_no_buffer_size_down_from_a_unix_listener() {
    let name = format!("oneloop-buffers-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    sockopt::set_socket_send_buffer_size(&listener, 50_000).unwrap();
    let _client = UnixStream::connect_addr(&address).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert_ne!(sockopt::socket_send_buffer_size(&accepted).unwrap(), 100_000);
}

#[cfg(feature = "sim")]
#[test]
fn the_simulation_has_those_that_nobody_there_can_see() {
    let mut sim = oneloop::sim::Simulation::new(1);
    let host = sim.add_reactor(ReactorLimits::new());
    let recorder = Recorder::echo();
    let calls = recorder.calls.clone();
    let handler = sim[host].add(recorder);
    sim[host].listen(handler, "127.0.0.1:7").unwrap();
    for (name, options) in all() {
        for (to, place) in [("127.0.0.1:7", "in the simulation"), ("unix:@x", "on a Unix socket")] {
            let is_there = ["nodelay", "traffic_class"].contains(&name) && to != "unix:@x";
            let listen = ListenOptions::new().socket(options.clone());
            let of_any_port = to.replace(":7", ":0");
            match sim[host].listen_with(handler, &*of_any_port, &listen) {
                Ok(_) => assert!(is_there, "{name} {place}"),
                Err(error) => {
                    assert!(!is_there, "{error}");
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    let message = format!("the socket option {name} is not to be had {place}");
                    assert!(error.to_string().ends_with(&message), "{error}");
                }
            }
            if OF_LISTENERS.contains(&name) {
                continue;
            }
            calls.clear();
            let connect = Rc::new(ConnectOptions::new().socket(options.clone()));
            let to: Address = to.parse().unwrap();
            let key = sim[host].context(handler).connect_with(to, 1, &connect);
            sim.run_for(Duration::from_secs(1));
            let error = ConnectError::Io(ErrorKind::Unsupported);
            let failed = [(key, 1, error)];
            assert_eq!(calls.opened().len(), 2 * usize::from(is_there), "{name} {place}");
            assert_eq!(failures(&calls), failed[usize::from(is_there)..], "{name} {place}");
        }
    }
}

#[test]
fn options_of_a_callbacks_listener_are_checked_as_well() {
    let (listened, note) = noted();
    let options = ListenOptions::new().socket(SocketOptions::new().traffic_class(1));
    let recorder = Recorder::new().listening(move |_, result, _| {
        note.borrow_mut().push(result.map_err(|error| error.kind()).err());
    });
    let (mut reactor, _) = raw::reactor();
    let handler = reactor.add(recorder);
    reactor.context(handler).listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &options);
    run_until(&mut reactor, "it is told", |_| !listened.borrow().is_empty());
    assert_eq!(listened.borrow()[..], [Some(ErrorKind::InvalidInput)]);
}
