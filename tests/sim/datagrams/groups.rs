//! Multicast between simulated machines, which are neighbours.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use oneloop::sim::{Faults, Kernel, ReactorId, Simulation};
use oneloop::{
    Datagram, DatagramHandler, DatagramOptions, DatagramSocket, HandlerId, Interface, Key,
    ReactorLimits, SocketAddress,
};

use super::KERNELS;

const PORT: u16 = 5353;
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb));
const LOOPBACK: Interface = Interface::Index(1);

/// Joins a group when it is bound, and leaves it when it is told to; notes what came, and from where, and what could not
/// be sent.
struct Member {
    group: Option<(IpAddr, Interface)>,
    came: Vec<(u8, IpAddr)>,
    refused: Vec<ErrorKind>,
}

impl DatagramHandler for Member {
    fn on_bound(&mut self, socket: &mut DatagramSocket<'_>) {
        if let Some((group, interface)) = &self.group {
            socket.join(*group, interface).unwrap();
        }
    }

    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        if datagram.data == b"leave" {
            let (group, interface) = self.group.clone().unwrap();
            return socket.leave(group, &interface).unwrap();
        }
        self.came.push((datagram.data[0], datagram.from.ip().unwrap().to_canonical()));
    }

    fn on_send_failed(
        &mut self,
        _: &mut DatagramSocket<'_>,
        _: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        self.refused.push(error.kind());
    }
}

struct Socket {
    id: ReactorId,
    handler: HandlerId<Member>,
    key: Key,
}

impl Socket {
    /// On a machine of its own, or that of another one.
    fn new(
        sim: &mut Simulation,
        beside: Option<&Socket>,
        group: Option<(IpAddr, Interface)>,
        address: &str,
        options: &DatagramOptions,
    ) -> Socket {
        let limits = ReactorLimits::new().connections_max(16);
        let id = match beside {
            Some(other) => sim.add_reactor_beside(other.id, limits),
            None => sim.add_reactor(limits),
        };
        let handler =
            sim[id].add_datagram_handler(Member { group, came: Vec::new(), refused: Vec::new() });
        let key = sim[id].bind_with(handler, address, options).unwrap();
        Socket { id, handler, key }
    }

    fn member(sim: &mut Simulation, beside: Option<&Socket>, group: IpAddr) -> Socket {
        let any = if group.is_ipv4() { "0.0.0.0:5353" } else { "[::]:5353" };
        let options = DatagramOptions::new().reuse_address(true);
        Socket::new(sim, beside, Some((group, Interface::Any)), any, &options)
    }

    fn sender(sim: &mut Simulation, beside: Option<&Socket>, options: &DatagramOptions) -> Socket {
        Socket::new(sim, beside, None, "[::]:0", options)
    }

    fn send(&self, sim: &mut Simulation, ip: IpAddr, data: &[u8]) {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
            ip => ip,
        };
        let to = SocketAddr::new(ip, PORT).into();
        let mut cx = sim[self.id].context(self.handler);
        cx.send_datagram(self.key, Some(&to), data).ignore();
        sim.run_until_idle();
    }

    fn came(&self, sim: &Simulation) -> Vec<u8> {
        sim[self.id].handler(self.handler).came.iter().map(|(data, _)| *data).collect()
    }
}

/// One member on the sender's machine, and two on other ones.
fn group(sim: &mut Simulation, group: IpAddr, options: &DatagramOptions) -> (Socket, [Socket; 3]) {
    let sender = Socket::sender(sim, None, options);
    let members = [
        Socket::member(sim, Some(&sender), group),
        Socket::member(sim, None, group),
        Socket::member(sim, None, group),
    ];
    sim.run_until_idle();
    (sender, members)
}

#[test]
fn all_members_hear_what_is_sent_to_their_group() {
    for (kernel, ip) in KERNELS.into_iter().flat_map(|kernel| [(kernel, V4), (kernel, V6)]) {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let (sender, members) = group(&mut sim, ip, &DatagramOptions::new());
        sender.send(&mut sim, ip, b"1");
        assert!(members.iter().all(|member| member.came(&sim) == b"1"));
        let address = if ip.is_ipv4() { sim.ip(sender.id) } else { sim.ip_v6(sender.id) };
        let (_, from) = sim[members[1].id].handler(members[1].handler).came[0];
        assert_eq!(from, address, "an answer finds its way back");
    }
}

#[test]
fn it_leaves_the_machine_with_hops_only_and_stays_there_with_a_loop_only() {
    for (options, expected) in [
        (DatagramOptions::new().multicast_ttl(0), [1, 0, 0]),
        (DatagramOptions::new().multicast_loop(false), [0, 1, 1]),
        (DatagramOptions::new().multicast_ttl(0).multicast_loop(false), [0, 0, 0]),
        // Loopback brings back whatever is sent through it, but nobody has joined there.
        (DatagramOptions::new().multicast_interface(LOOPBACK), [0, 0, 0]),
    ] {
        for ip in [V4, V6] {
            let mut sim = Simulation::new(1);
            let (sender, members) = group(&mut sim, ip, &options);
            sender.send(&mut sim, ip, b"1");
            let came = members.each_ref().map(|member| member.came(&sim).len());
            assert_eq!(came, expected, "{options:?}");
        }
    }
}

/// As Linux with a loopback interface and another one: the interface is that of the sender's address, and a packet that
/// says that it is from loopback may not come, or go, another way.
#[test]
fn what_is_sent_from_loopback_is_heard_on_loopback_only() {
    let network = Interface::Index(2);
    for (from, interface, expected) in [
        ("127.0.0.1:0", Interface::Any, [1, 0, 0]),
        ("127.0.0.1:0", LOOPBACK, [1, 0, 0]),
        ("127.0.0.1:0", network.clone(), [0, 0, 0]),
        ("[::1]:0", Interface::Any, [0, 0, 0]),
        ("[::1]:0", network, [0, 0, 0]),
    ] {
        let mut sim = Simulation::new(1);
        let group = if from.starts_with('[') { V6 } else { V4 };
        let options = DatagramOptions::new().multicast_interface(interface.clone());
        let sender = Socket::new(&mut sim, None, None, from, &options);
        let any = if group.is_ipv4() { "0.0.0.0:5353" } else { "[::]:5353" };
        let reused = DatagramOptions::new().reuse_address(true);
        let on_loopback = Some((group, LOOPBACK));
        let members = [
            Socket::new(&mut sim, Some(&sender), on_loopback, any, &reused),
            Socket::member(&mut sim, None, group),
            Socket::member(&mut sim, None, group),
        ];
        sim.run_until_idle();
        let to = SocketAddr::new(group, PORT).into();
        let mut cx = sim[sender.id].context(sender.handler);
        cx.send_datagram(sender.key, Some(&to), b"1").ignore();
        sim.run_until_idle();
        let is_refused = group.is_ipv4() && interface == Interface::Index(2);
        let refused = &sim[sender.id].handler(sender.handler).refused;
        assert_eq!(
            *refused,
            vec![ErrorKind::InvalidInput; usize::from(is_refused)],
            "{from} {interface:?}"
        );
        let came = members.each_ref().map(|member| member.came(&sim).len());
        assert_eq!(came, expected, "{from} {interface:?}");
    }
}

#[test]
fn who_has_left_hears_it_no_more_and_others_do() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let (sender, members) = group(&mut sim, V4, &DatagramOptions::new());
        let ip = sim.ip(members[1].id);
        sender.send(&mut sim, ip, b"leave");
        sender.send(&mut sim, V4, b"1");
        assert_eq!(members.each_ref().map(|member| member.came(&sim).len()), [1, 0, 1]);
    }
}

/// Each way to a machine has losses of its own.
#[test]
fn what_is_lost_or_kept_back_on_one_way_comes_on_others() {
    let mut sim = Simulation::new(1);
    let (sender, members) = group(&mut sim, V4, &DatagramOptions::new());
    sim.set_link_faults(sender.id, members[1].id, Faults::none().lost_datagrams(1.0));
    sim.partition(sender.id, members[2].id);
    sender.send(&mut sim, V4, b"1");
    assert_eq!(members.each_ref().map(|member| member.came(&sim).len()), [1, 0, 0]);
    sim.rejoin(sender.id, members[2].id);
    sender.send(&mut sim, V4, b"2");
    assert_eq!(members.each_ref().map(|member| member.came(&sim).len()), [2, 0, 1]);
}

#[test]
fn who_has_joined_one_group_hears_no_other_of_its_machine() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let (sender, members) = group(&mut sim, V4, &DatagramOptions::new());
        let other = Socket::member(&mut sim, Some(&members[1]), "239.9.9.9".parse().unwrap());
        sim.run_until_idle();
        sender.send(&mut sim, V4, b"1");
        assert_eq!([members[1].came(&sim), other.came(&sim)], [b"1".to_vec(), vec![]]);
    }
}

/// On Linux one member makes the machine one (ip(7), `IP_MULTICAST_ALL`).
#[test]
fn who_has_not_joined_hears_the_groups_of_its_machine_on_linux_only() {
    for (kernel, expected) in [(Kernel::Linux, 1), (Kernel::Contract, 0)] {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let (sender, members) = group(&mut sim, V4, &DatagramOptions::new());
        let options = DatagramOptions::new().reuse_address(true);
        let other = Socket::new(&mut sim, Some(&members[1]), None, "0.0.0.0:5353", &options);
        sim.run_until_idle();
        sender.send(&mut sim, V4, b"1");
        assert_eq!(other.came(&sim).len(), expected, "{kernel:?}");
        assert_eq!(members[1].came(&sim), b"1");
    }
}
