//! Where a UDP socket can send to, between machines. What loopback shows is in `tests/parity_datagrams.rs`.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use oneloop::sim::{Faults, Kernel, ReactorId, Simulation};
use oneloop::{
    Datagram, DatagramHandler, DatagramOptions, DatagramSocket, HandlerId, Key, ReactorLimits,
    SocketAddress,
};

use super::KERNELS;

/// Notes who sent, and what could not be sent, and answers the first one.
#[derive(Default)]
struct Noting {
    came_from: Vec<SocketAddress>,
    failed: Vec<(Option<SocketAddress>, ErrorKind)>,
}

impl DatagramHandler for Noting {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        self.came_from.push(datagram.from.clone());
        if datagram.data == b"?" {
            socket.send_to(datagram.from, b"!").ignore();
        }
    }

    fn on_send_failed(
        &mut self,
        _: &mut DatagramSocket<'_>,
        to: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        self.failed.push((to.cloned(), error.kind()));
    }
}

fn machines(kernel: Kernel) -> (Simulation, [ReactorId; 2]) {
    let mut sim = Simulation::with(1, kernel, Faults::none());
    let ids = [(); 2].map(|()| sim.add_reactor(ReactorLimits::new().connections_max(16)));
    (sim, ids)
}

struct Socket {
    id: ReactorId,
    handler: HandlerId<Noting>,
    key: Key,
}

impl Socket {
    fn bind(sim: &mut Simulation, id: ReactorId, ip: impl Into<IpAddr>) -> Socket {
        let handler = sim[id].add_datagram_handler(Noting::default());
        let key = sim[id].bind(handler, SocketAddr::new(ip.into(), 7000)).unwrap();
        Socket { id, handler, key }
    }

    fn ask(&self, sim: &mut Simulation, to: SocketAddr) {
        let mut cx = sim[self.id].context(self.handler);
        cx.send_datagram(self.key, Some(&to.into()), b"?").ignore();
        sim.run_until_idle();
    }

    fn noted<'a>(&self, sim: &'a Simulation) -> &'a Noting {
        sim[self.id].handler(self.handler)
    }
}

#[test]
fn what_loopbacks_address_sends_to_another_machine_fails() {
    for kernel in KERNELS {
        let (mut sim, [near, far]) = machines(kernel);
        let near = Socket::bind(&mut sim, near, Ipv4Addr::LOCALHOST);
        let far = Socket::bind(&mut sim, far, Ipv4Addr::UNSPECIFIED);
        for ip in [sim.ip(far.id), [10, 9, 9, 9].into()] {
            let to = SocketAddr::new(ip, 7000);
            near.ask(&mut sim, to);
            let failed = &near.noted(&sim).failed;
            assert_eq!(failed.last(), Some(&(Some(to.into()), ErrorKind::InvalidInput)));
        }
        assert_eq!(far.noted(&sim).came_from.len(), 0);
        // Its own machine it reaches by any address.
        let own = SocketAddr::new(sim.ip(near.id), 7000);
        near.ask(&mut sim, own);
        assert_eq!(near.noted(&sim).failed.len(), 2);
    }
}

/// Linux sends it, and who receives it drops it (RFC 4291, 2.5.3).
#[test]
fn what_loopbacks_ipv6_address_sends_to_another_machine_is_lost() {
    for kernel in KERNELS {
        let (mut sim, [near, far]) = machines(kernel);
        let near = Socket::bind(&mut sim, near, Ipv6Addr::LOCALHOST);
        let far = Socket::bind(&mut sim, far, Ipv6Addr::UNSPECIFIED);
        let to = SocketAddr::new(sim.ip_v6(far.id), 7000);
        near.ask(&mut sim, to);
        assert_eq!((near.noted(&sim).failed.len(), far.noted(&sim).came_from.len()), (0, 0));
    }
}

#[test]
fn where_there_is_no_way_a_socket_cannot_be_connected() {
    for kernel in KERNELS {
        let (mut sim, [id, far]) = machines(kernel);
        let far = SocketAddr::new(sim.ip(far), 7000);
        let handler = sim[id].add_datagram_handler(Noting::default());
        for (at, peer, error) in [
            ("0.0.0.0:0", "192.0.2.1:7000".parse().unwrap(), ErrorKind::NetworkUnreachable),
            ("127.0.0.1:0", "192.0.2.1:7000".parse().unwrap(), ErrorKind::NetworkUnreachable),
            ("127.0.0.1:0", far, ErrorKind::InvalidInput),
        ] {
            let result = sim[id].bind_with(handler, at, &DatagramOptions::new().connect(peer));
            assert_eq!(result.unwrap_err().kind(), error, "{at} to {peer}");
        }
        // Nothing is left of them.
        assert!(sim[id].bind(handler, "0.0.0.0:32768").is_ok());
    }
}

/// Each sees the other's address as one of its own family.
#[test]
fn a_socket_of_one_family_and_one_of_both_see_addresses_of_their_own() {
    for kernel in KERNELS {
        let (mut sim, [id, other]) = machines(kernel);
        let IpAddr::V4(ip) = sim.ip(id) else { unreachable!("it is IPv4") };
        let mapped = Socket::bind(&mut sim, id, ip.to_ipv6_mapped());
        let v4 = Socket::bind(&mut sim, other, Ipv4Addr::UNSPECIFIED);
        v4.ask(&mut sim, SocketAddr::new(ip.into(), 7000));
        assert_eq!(v4.noted(&sim).came_from, [SocketAddr::new(ip.into(), 7000)]);
        let IpAddr::V4(other_ip) = sim.ip(other) else { unreachable!("it is IPv4") };
        let shown = SocketAddr::new(other_ip.to_ipv6_mapped().into(), 7000);
        assert_eq!(mapped.noted(&sim).came_from, [shown]);
        // Connected, one of both has an address of IPv6, too.
        let options = DatagramOptions::new().connect(SocketAddr::new(other_ip.into(), 7000));
        let key = sim[id].bind_with(mapped.handler, "[::]:0", &options).unwrap();
        let local = sim[id].datagram_address(key).unwrap();
        assert_eq!(local.ip(), Some(ip.to_ipv6_mapped().into()));
    }
}
