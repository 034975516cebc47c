//! Datagram sockets: options that only a real kernel has.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

use oneloop::{DatagramOptions, Interface};
use rustix::net::sockopt;

use crate::support::datagrams::*;
use crate::support::*;

/// The number of the loopback interface.
const LO: Interface = Interface::Index(1);

/// A group that no other test uses at this time.
fn group() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let process = std::process::id().to_be_bytes();
    Ipv4Addr::new(239, 255, process[3], NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Joins when it is bound; does nothing else.
fn member(group: impl Into<IpAddr>, interface: Interface) -> Datagrams {
    let group = group.into();
    Datagrams::new(move |socket, call| {
        if *call == DatagramCall::Bound {
            socket.join(group, &interface).unwrap();
        }
    })
}

#[test]
fn a_broadcast_is_refused_unless_it_is_allowed() {
    let to = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
    let mut server = Bound::new(Datagrams::listens());
    server.send(to, b"to all").ignore();
    server.until("it is told", |calls| calls.len() == 2);
    assert_eq!(server.failed(), [(Some(to.into()), ErrorKind::PermissionDenied)]);
    // On loopback, so that nobody else hears it.
    let to = SocketAddr::from(([127, 255, 255, 255], 9));
    let options = DatagramOptions::new().broadcast(true);
    let mut server = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    server.send(to, b"to all").ignore();
    run_until(&mut server.reactor, "it left", |reactor| reactor.stats().datagrams_out == 1);
    assert_eq!(server.failed(), []);
}

/// The address that was asked is nobody's, and nothing can leave from there.
#[test]
fn what_was_sent_to_all_or_to_a_group_is_answered_from_where_the_routes_say() {
    let group = group();
    for any in ["0.0.0.0:0", "[::]:0"] {
        let joins_and_echoes = Datagrams::new(move |socket, call| match call {
            DatagramCall::Bound => socket.join(group.into(), &LO).unwrap(),
            DatagramCall::Datagram(data, from, _) => socket.send_to(from, data).ignore(),
            _ => {}
        });
        let mut server = Bound::with(joins_and_echoes, any, &DatagramOptions::new());
        server.until("it joins", |calls| calls.len() == 1);
        let client = udp();
        client.set_broadcast(true).unwrap();
        sockopt::set_ip_multicast_if(&client, &Ipv4Addr::LOCALHOST).unwrap();
        for asked in [Ipv4Addr::new(127, 255, 255, 255), group] {
            client.send_to(b"anybody?", (asked, server.address.port())).unwrap();
            let (data, from) = server.received(&client);
            assert_eq!((&data[..], from.ip()), (&b"anybody?"[..], Ipv4Addr::LOCALHOST.into()));
        }
        assert_eq!(server.failed(), []);
    }
}

#[test]
fn all_members_of_a_group_hear_what_is_sent_to_it() {
    let group = group();
    let options = DatagramOptions::new().reuse_address(true);
    let by_address = Interface::Address(Ipv4Addr::LOCALHOST);
    let mut one = Bound::with(member(group, by_address), &format!("{group}:0"), &options);
    let mut other = Bound::with(member(group, LO), &one.address.to_string(), &options);
    one.until("it joins", |calls| calls.len() == 1);
    other.until("it joins", |calls| calls.len() == 1);
    let options = DatagramOptions::new().multicast_interface(LO).multicast_ttl(0);
    let mut sender = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    sender.send(one.address, b"to all").ignore();
    run_until(&mut sender.reactor, "it left", |reactor| reactor.stats().datagrams_out == 1);
    for member in [&mut one, &mut other] {
        member.until("it is heard", |calls| calls.len() == 2);
        assert_eq!(member.shown(), [b"to all"]);
    }
}

#[test]
fn who_has_left_a_group_hears_it_no_more() {
    let group = group();
    let leaves = Datagrams::new(move |socket, call| match call {
        DatagramCall::Bound => {
            socket.join(group.into(), &LO).unwrap();
            let again = socket.join(group.into(), &LO).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::AddrInUse);
        }
        DatagramCall::Datagram(..) if socket.stats().datagrams_in == 1 => {
            socket.leave(group.into(), &LO).unwrap();
            assert!(socket.leave(group.into(), &LO).is_err(), "it has left");
        }
        _ => {}
    });
    let mut server = Bound::with(leaves, "0.0.0.0:0", &DatagramOptions::new());
    server.until("it joins", |calls| calls.len() == 1);
    let (to_group, to_one) = (
        SocketAddr::from((group, server.address.port())),
        SocketAddr::from((Ipv4Addr::LOCALHOST, server.address.port())),
    );
    let options = DatagramOptions::new().multicast_interface(LO);
    let mut sender = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    sender.send(to_group, b"first").ignore();
    run_until(&mut sender.reactor, "it left", |reactor| reactor.stats().datagrams_out == 1);
    server.until("it is heard", |calls| calls.len() == 2);
    sender.send(to_group, b"second").ignore();
    sender.send(to_one, b"third").ignore();
    run_until(&mut sender.reactor, "all left", |reactor| reactor.stats().datagrams_out == 3);
    server.until("the last one is heard", |calls| calls.len() == 3);
    assert_eq!(server.shown(), [&b"first"[..], b"third"]);
}

/// What others on the machine have joined is theirs, also for who is bound to all addresses.
#[test]
fn who_has_joined_a_group_hears_only_its_own() {
    let options = DatagramOptions::new().reuse_address(true);
    for any in ["0.0.0.0", "[::]"] {
        let (own, foreign) = (group(), group());
        let mut server = Bound::with(member(own, LO), &format!("{any}:0"), &options);
        server.until("it joins", |calls| calls.len() == 1);
        let port = server.address.port();
        let mut other = Bound::with(member(foreign, LO), &format!("{any}:{port}"), &options);
        other.until("it joins", |calls| calls.len() == 1);
        let options = DatagramOptions::new().multicast_interface(LO);
        let mut sender = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
        for group in [foreign, own] {
            sender.send((group, port).into(), &group.octets()).ignore();
        }
        run_until(&mut sender.reactor, "all left", |reactor| reactor.stats().datagrams_out == 2);
        server.until("one is heard", |calls| calls.len() == 2);
        other.until("one is heard", |calls| calls.len() == 2);
        assert_eq!([server.shown(), other.shown()], [[own.octets()], [foreign.octets()]], "{any}");
    }
}

#[test]
fn a_group_of_ipv6_is_heard_by_its_members_only() {
    if !alone("a_group_of_ipv6_is_heard_by_its_members_only") {
        return;
    }
    let v6 = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x6f6e, std::process::id() as u16);
    let Some(interface) = interface(true) else {
        return println!("this machine has no interface for {v6}, it was not tested");
    };
    let mut server = Bound::with(member(v6, interface), "[::]:0", &DatagramOptions::new());
    server.until("it joins", |calls| calls.len() == 1);
    let socket = duplicate_of(server.address);
    let socket = socket2::SockRef::from(&socket);
    assert!(!socket.multicast_all_v6().unwrap() && !socket.multicast_all_v4().unwrap());
}

/// Sends three datagrams to a group, which differ in their options, and one to its member alone: which of
/// them come. What does not loop, and may not leave the machine, goes nowhere.
fn heard(group: impl Into<IpAddr>, interface: &Interface, alone: IpAddr) -> Vec<Vec<u8>> {
    let group = group.into();
    let any = if group.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let mut server = Bound::with(member(group, interface.clone()), any, &DatagramOptions::new());
    server.until("it joins", |calls| calls.len() == 1);
    let port = server.address.port();
    for (is_looped, word) in [(true, &b"one"[..]), (false, b"two"), (true, b"three")] {
        let options = DatagramOptions::new()
            .multicast_interface(interface.clone())
            .multicast_ttl(0)
            .multicast_loop(is_looped);
        let mut sender = Bound::with(Datagrams::listens(), any, &options);
        sender.send(SocketAddr::new(group, port), word).ignore();
        run_until(&mut sender.reactor, "it left", |reactor| reactor.stats().datagrams_out == 1);
    }
    let mut sender = Bound::with(Datagrams::listens(), any, &DatagramOptions::new());
    sender.send(SocketAddr::new(alone, port), b"last").ignore();
    run_until(&mut sender.reactor, "it left", |reactor| reactor.stats().datagrams_out == 1);
    server.until("the last one is heard", |calls| {
        calls.iter().any(|call| matches!(call, DatagramCall::Datagram(data, ..) if data == b"last"))
    });
    server.shown()
}

/// An interface that has multicast, which loopback has only in part. What is sent through it here does not
/// leave the machine.
fn interface(has_v6: bool) -> Option<Interface> {
    const UP_AND_MULTICAST: u32 = 0x1001; // netdevice(7), SIOCGIFFLAGS
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let mut interfaces = std::fs::read_dir("/sys/class/net").ok()?;
    interfaces.find_map(|entry| {
        let path = entry.ok()?.path();
        let read = |name| std::fs::read_to_string(path.join(name)).ok();
        let flags = u32::from_str_radix(read("flags")?.trim().strip_prefix("0x")?, 16).ok()?;
        let name = path.file_name()?.to_str()?;
        let fits = !has_v6 || addresses.lines().any(|line| line.ends_with(&format!(" {name}")));
        let index = read("ifindex")?.trim().parse().ok()?;
        (fits && flags & UP_AND_MULTICAST == UP_AND_MULTICAST).then_some(Interface::Index(index))
    })
}

#[test]
fn multicast_loops_unless_it_is_told_not_to() {
    let groups: [(IpAddr, IpAddr); 2] = [
        (group().into(), Ipv4Addr::LOCALHOST.into()),
        (
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x6f6c, std::process::id() as u16).into(),
            Ipv6Addr::LOCALHOST.into(),
        ),
    ];
    for (group, alone) in groups {
        match interface(group.is_ipv6()) {
            Some(interface) => {
                let expected = [&b"one"[..], b"three", b"last"];
                assert_eq!(heard(group, &interface, alone), expected, "{group}");
            }
            None => println!("this machine has no interface for {group}, it was not tested"),
        }
    }
}

/// A socket that takes both families joins groups of both, and sends to them as it was told.
#[test]
fn a_dual_stack_socket_is_a_member_of_groups_of_both_families() {
    let v4 = group();
    let v6 = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x6f6d, std::process::id() as u16);
    let (interface, groups) = match interface(true) {
        Some(interface) => (interface, vec![v4.to_ipv6_mapped(), v6]),
        None => {
            println!("this machine has no interface for {v6}, it was not tested");
            (LO, vec![v4.to_ipv6_mapped()])
        }
    };
    let joined: Vec<IpAddr> = groups.iter().map(|group| group.to_canonical()).collect();
    let options = DatagramOptions::new().multicast_interface(interface.clone()).multicast_ttl(0);
    let datagrams = Datagrams::new(move |socket, call| {
        if *call == DatagramCall::Bound {
            joined.iter().for_each(|group| socket.join(*group, &interface).unwrap());
        }
    });
    let mut both = Bound::with(datagrams, "[::]:0", &options);
    both.until("it joins", |calls| calls.len() == 1);
    let mut sender = Bound::with(Datagrams::listens(), "*:0", &options);
    for group in &groups {
        sender.send((*group, both.address.port()).into(), &group.octets()).ignore();
    }
    assert_idle(&mut sender.reactor);
    assert_eq!(sender.failed(), []);
    both.until("all are heard", |calls| calls.len() == 1 + groups.len());
    assert_eq!(both.shown(), groups.iter().map(|group| group.octets()).collect::<Vec<_>>());
}

#[test]
fn a_socket_for_ipv6_only_joins_no_group_that_it_would_never_hear() {
    let datagrams = Datagrams::new(|socket, call| {
        if *call == DatagramCall::Bound {
            let error = socket.join(group().into(), &LO).unwrap_err();
            assert_eq!(error.to_string(), "a socket for IPv6 only hears no group of IPv4");
        }
    });
    let options = DatagramOptions::new().only_v6(true);
    let mut server = Bound::with(datagrams, "[::]:0", &options);
    server.until("it is bound", |calls| calls.len() == 1);
}

/// What can be seen from outside only in a network with routers is asked of the socket.
#[test]
fn how_far_multicast_goes_is_set_on_the_socket() {
    if !alone("how_far_multicast_goes_is_set_on_the_socket") {
        return;
    }
    use rustix::net::sockopt;
    let options = DatagramOptions::new().multicast_ttl(7);
    let server = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    assert_eq!(sockopt::ip_multicast_ttl(duplicate_of(server.address)).unwrap(), 7);
    let server = Bound::with(Datagrams::listens(), "[::1]:0", &options);
    assert_eq!(sockopt::ipv6_multicast_hops(duplicate_of(server.address)).unwrap(), 7);
    let server = Bound::new(Datagrams::listens());
    assert_eq!(sockopt::ip_multicast_ttl(duplicate_of(server.address)).unwrap(), 1);
    // One that takes both families sends to groups of both.
    let options = options.multicast_loop(false);
    let server = Bound::with(Datagrams::listens(), "[::]:0", &options);
    let socket = duplicate_of(server.address);
    assert_eq!(sockopt::ipv6_multicast_hops(&socket).unwrap(), 7);
    assert_eq!(sockopt::ip_multicast_ttl(&socket).unwrap(), 7);
    assert!(!sockopt::ipv6_multicast_loop(&socket).unwrap());
    assert!(!sockopt::ip_multicast_loop(&socket).unwrap());
}

/// Doubled, for the kernel's own bookkeeping (socket(7)).
fn buffers(socket: impl std::os::fd::AsFd) -> [usize; 2] {
    use rustix::net::sockopt::{socket_recv_buffer_size, socket_send_buffer_size};
    [socket_recv_buffer_size(&socket).unwrap(), socket_send_buffer_size(&socket).unwrap()]
}

#[test]
fn the_kernels_buffers_have_the_sizes_that_were_asked_for() {
    if !alone("the_kernels_buffers_have_the_sizes_that_were_asked_for") {
        return;
    }
    let plain = buffers(udp());
    let options = DatagramOptions::new();
    for (options, expected) in [
        (options.clone(), plain),
        (options.clone().receive_buffer_bytes(50_000), [100_000, plain[1]]),
        (options.send_buffer_bytes(60_000), [plain[0], 120_000]),
    ] {
        let server = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
        assert_eq!(buffers(duplicate_of(server.address)), expected, "{options:?}");
    }
    // A Unix socket has only one; of what is inherited they are set, too.
    let (socket, _peer) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let duplicate = socket.try_clone().unwrap();
    let mut server = Bound::new(Datagrams::listens());
    let options = DatagramOptions::new().send_buffer_bytes(60_000);
    server.reactor.bind_fd(server.handler, socket.into(), &options).unwrap();
    assert_eq!(buffers(duplicate)[1], 120_000);
}

#[test]
fn a_size_that_makes_no_sense_is_refused() {
    let mut server = Bound::new(Datagrams::listens());
    let options = DatagramOptions::new;
    let name = format!("unix:@oneloop-buffers-{}", std::process::id());
    for (address, options, kind, message) in [
        (
            "127.0.0.1:0",
            options().receive_buffer_bytes(0),
            ErrorKind::InvalidInput,
            "the socket option receive_buffer_bytes is 0: from 1 to 1073741823".to_owned(),
        ),
        (
            "127.0.0.1:0",
            options().send_buffer_bytes(1 << 30),
            ErrorKind::InvalidInput,
            "the socket option send_buffer_bytes is 1073741824: from 1 to 1073741823".to_owned(),
        ),
        (
            &name,
            options().receive_buffer_bytes(50_000),
            ErrorKind::Unsupported,
            format!("receive_buffer_bytes means nothing for {name}"),
        ),
    ] {
        let error = server.reactor.bind_with(server.handler, address, &options).unwrap_err();
        assert_eq!(error.kind(), kind);
        let place = format!("udp://{address}").replace("udp://unix:", "unixgram:");
        assert_eq!(error.to_string(), format!("bind to {place}: {message}"));
    }
}

/// A duplicate of this process's UDP socket that is bound there. For tests that are alone: for a moment it holds what
/// the others have open, too.
fn duplicate_of(address: SocketAddr) -> UdpSocket {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = descriptors.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut duplicates = numbers.filter_map(|number| {
        let socket = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok()?;
        let socket = UdpSocket::from(socket);
        (socket.local_addr().ok()? == address).then_some(socket)
    });
    duplicates.next().expect("it is bound there")
}

#[test]
fn what_makes_no_sense_of_a_group_is_an_error() {
    let datagrams = Datagrams::new(|socket, call| {
        if *call == DatagramCall::Bound {
            let no_group = socket.join(Ipv4Addr::LOCALHOST.into(), &Interface::Any).unwrap_err();
            assert_eq!(no_group.kind(), ErrorKind::InvalidInput);
            let nowhere = Interface::Index(u32::MAX >> 1);
            assert!(socket.join(group().into(), &nowhere).is_err());
            let by_address = Interface::Address(Ipv4Addr::LOCALHOST);
            let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1).into();
            let error = socket.join(group, &by_address).unwrap_err();
            assert_eq!(error.to_string(), "for IPv6 an interface is named by its number");
        }
    });
    let mut server = Bound::with(datagrams, "[::]:0", &DatagramOptions::new());
    server.until("it is bound", |calls| calls.len() == 1);
    let by_address = Interface::Address(Ipv4Addr::LOCALHOST);
    let options = DatagramOptions::new().multicast_interface(by_address);
    assert!(server.reactor.bind_with(server.handler, "[::]:0", &options).is_err());
}

#[test]
fn sockets_that_share_a_port_share_the_senders() {
    let options = DatagramOptions::new().reuse_port(true);
    let mut one = Bound::with(Datagrams::listens(), "127.0.0.1:0", &options);
    let mut other = Bound::with(Datagrams::listens(), &one.address.to_string(), &options);
    let clients: Vec<_> = (0..64).map(|_| udp()).collect();
    for client in &clients {
        client.send_to(b"x", one.address).unwrap();
    }
    assert_idle(&mut one.reactor);
    assert_idle(&mut other.reactor);
    let (one, other) = (one.shown().len(), other.shown().len());
    assert!(one + other == 64 && one > 0 && other > 0, "{one} and {other}");
}

#[test]
fn a_unix_socket_has_no_options_of_ip() {
    for (options, name) in [
        (DatagramOptions::new().broadcast(true), "broadcast"),
        (DatagramOptions::new().multicast_ttl(1), "multicast_ttl"),
        (DatagramOptions::new().multicast_interface(LO), "multicast_interface"),
        (DatagramOptions::new().reuse_port(true), "reuse_port"),
        (DatagramOptions::new().gather(true), "gather"),
        (DatagramOptions::new().unix_mode(0o600), "unix_mode"),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let handler = reactor.add_datagram_handler(Datagrams::listens());
        let error = reactor.bind_unnamed(handler, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
    }
    // ... and one of IP none of Unix.
    let mut server = Bound::new(Datagrams::listens());
    let options = DatagramOptions::new().unix_mode(0o600);
    let error = server.reactor.bind_with(server.handler, "127.0.0.1:0", &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bind to udp://127.0.0.1:0: unix_mode means nothing for 127.0.0.1:0"
    );
}

#[test]
fn a_limit_of_zero_is_named() {
    let limits = oneloop::DatagramLimits::new().queue_len_max(0);
    let mut server = Bound::new(Datagrams::listens());
    let options = DatagramOptions::new().limits(limits);
    let error = server.reactor.bind_with(server.handler, "127.0.0.1:0", &options).unwrap_err();
    assert_eq!(error.to_string(), "the limit queue_len_max is 0; it must be at least 1");
}

#[cfg(not(feature = "udp-batch"))]
#[test]
fn what_needs_a_feature_is_refused_without_it() {
    let mut server = Bound::new(Datagrams::listens());
    let options = DatagramOptions::new().gather(true);
    let error = server.reactor.bind_with(server.handler, "127.0.0.1:0", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("the feature udp-batch"), "{error}");
}
