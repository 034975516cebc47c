//! Plays what happens among several sockets in the world that its parent module names.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::{
    Connection, Datagram, DatagramHandler, DatagramLimits, DatagramOptions, DatagramSocket, Error,
    HandlerId, Interface, Key, ListenOptions, ReactorLimits, SocketAddress, StreamHandler, TimerId,
};

use super::world::*;
use crate::{Among, Place, Saw};

/// What a socket's next timer does: joins or leaves through an interface.
type Membership = Rc<RefCell<Option<(bool, u32)>>>;

/// The handler of one socket.
struct Noting {
    number: usize,
    group: Ipv4Addr,
    saw: Rc<RefCell<Vec<Saw>>>,
    timer: Membership,
}

impl DatagramHandler for Noting {
    fn on_bound(&mut self, socket: &mut DatagramSocket<'_>) {
        // The only way to what a socket's own callbacks can do.
        socket.set_interval(Duration::from_millis(1));
    }

    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, _: TimerId) {
        let Some((is_join, interface)) = self.timer.take() else { return };
        let (group, interface) = (self.group.into(), Interface::Index(interface));
        let result = match is_join {
            true => socket.join(group, &interface),
            false => socket.leave(group, &interface),
        };
        if let Err(error) = result {
            self.saw.borrow_mut().push(Saw::Refused(error.raw_os_error()));
        }
    }

    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        self.saw.borrow_mut().push(Saw::Received(self.number, datagram.length));
    }

    fn on_send_failed(
        &mut self,
        _: &mut DatagramSocket<'_>,
        to: Option<&SocketAddress>,
        error: &io::Error,
    ) {
        let (has_address, error) = (to.is_some(), error.raw_os_error());
        self.saw.borrow_mut().push(Saw::Failed { has_address, error });
    }
}

struct Discard;

impl StreamHandler for Discard {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        Ok(data.len())
    }
}

struct Player {
    reactor: Reactor,
    sockets: Vec<(HandlerId<Noting>, Key, Membership)>,
    /// Where they are bound.
    addresses: Vec<SocketAddress>,
    saw: Rc<RefCell<Vec<Saw>>>,
    /// What makes names its own.
    number: u8,
}

impl Player {
    fn new() -> Player {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let reactor = Reactor::with_limits(ReactorLimits::new().connections_max(16)).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Player { reactor, sockets: Vec::new(), addresses: Vec::new(), saw: Rc::default(), number }
    }

    fn name(&self, name: &str) -> UnixName {
        let own = format!("oneloop-among-{}-{}-{name}", process::id(), self.number);
        UnixName::from_abstract(own).unwrap()
    }

    fn path(&self, name: &str) -> UnixName {
        let own = format!("oneloop-among-{}-{}-{name}", process::id(), self.number);
        UnixName::from_path(PathBuf::from("/tmp").join(own)).unwrap()
    }

    fn group(&self) -> Ipv4Addr {
        let process = process::id().to_be_bytes();
        Ipv4Addr::new(239, 254, process[3], self.number)
    }

    fn bind(&mut self, address: Option<SocketAddress>, options: &DatagramOptions) {
        let timer = Membership::default();
        let handler = self.reactor.add_datagram_handler(Noting {
            number: self.sockets.len(),
            group: self.group(),
            saw: Rc::clone(&self.saw),
            timer: Rc::clone(&timer),
        });
        let result = match address {
            Some(address) => self.reactor.bind_with(handler, address, options),
            None => self.reactor.bind_unnamed(handler, options),
        };
        match result {
            Ok(key) => {
                self.sockets.push((handler, key, timer));
                self.addresses.push(self.reactor.datagram_address(key).unwrap());
            }
            // Of binding the text has the error's number.
            Err(error) => {
                let text = error.to_string();
                let number = text.rsplit_once("(os error ").expect("the system's");
                let number = number.1.trim_end_matches(')').parse().expect("a number");
                self.saw.borrow_mut().push(Saw::Refused(Some(number)));
            }
        }
    }

    fn address(&self, place: Place) -> SocketAddress {
        match place {
            Place::At(address) => address.parse::<SocketAddr>().unwrap().into(),
            Place::Of(socket) => self.addresses[socket].clone(),
        }
    }

    fn send(&mut self, from: usize, to: Option<SocketAddress>, bytes: usize) {
        let (handler, key, _) = &self.sockets[from];
        let mut cx = self.reactor.context(*handler);
        cx.send_datagram(*key, to.as_ref(), &vec![7; bytes]).ignore();
    }

    fn settle(&mut self) {
        for _ in 0..10 {
            self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
    }

    fn play(&mut self, step: Among) {
        match step {
            Among::Unix(own, peer) => {
                let options = match peer {
                    Some(peer) => DatagramOptions::new().connect(self.name(peer)),
                    None => DatagramOptions::new(),
                };
                self.bind(own.map(|own| self.name(own).into()), &options);
            }
            Among::Path(path) => {
                let options = DatagramOptions::new().replace_stale(false);
                self.bind(Some(self.path(path).into()), &options);
            }
            Among::Udp(at) => self.bind(Some(self.address(at)), &DatagramOptions::new()),
            Among::OnlyV6(at) => {
                self.bind(Some(self.address(at)), &DatagramOptions::new().only_v6(true));
            }
            Among::Sharing(at) => {
                self.bind(Some(self.address(at)), &DatagramOptions::new().reuse_address(true));
            }
            Among::Connected(at, peer) => {
                let options = DatagramOptions::new().connect(self.address(peer));
                self.bind(Some(self.address(at)), &options);
            }
            Among::SharingConnected(at, peer) => {
                let options = DatagramOptions::new().reuse_address(true);
                let options = options.connect(self.address(peer));
                self.bind(Some(self.address(at)), &options);
            }
            Among::Through { interface, hops, is_looped } => {
                let options = DatagramOptions::new()
                    .multicast_interface(Interface::Index(interface))
                    .multicast_ttl(hops)
                    .multicast_loop(is_looped);
                let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                self.bind(Some(any.into()), &options);
            }
            Among::Join(socket, interface) => {
                *self.sockets[socket].2.borrow_mut() = Some((true, interface));
            }
            Among::Leave(socket, interface) => {
                *self.sockets[socket].2.borrow_mut() = Some((false, interface));
            }
            Among::ToPeer(socket, count) => {
                (0..count).for_each(|_| self.send(socket, None, 1));
            }
            Among::ToName(socket, count, name) => {
                let to: SocketAddress = self.name(name).into();
                (0..count).for_each(|_| self.send(socket, Some(to.clone()), 1));
            }
            Among::ToPath(socket, path) => {
                let to = self.path(path).into();
                self.send(socket, Some(to), 1);
            }
            Among::ToGroup(socket, hearer) => {
                let port = self.reactor.datagram_address(self.sockets[hearer].1).unwrap().port();
                let to = SocketAddr::from((self.group(), port.unwrap()));
                self.send(socket, Some(to.into()), 1);
            }
            Among::To(socket, bytes, to) => self.send(socket, Some(self.address(to)), bytes),
            Among::Close(socket) => {
                let (handler, key, _) = &self.sockets[socket];
                self.reactor.context(*handler).close_key(*key);
            }
            Among::Listener(path) => {
                let door = self.reactor.add(Discard);
                let options = ListenOptions::new().replace_stale(false);
                self.reactor.listen_with(door, self.path(path), &options).unwrap();
                // Its abstract namesake is another one.
                let name = self.name(path);
                self.reactor.listen_with(door, name, &options).unwrap();
            }
        }
        self.settle();
    }
}

/// How many datagrams of so many bytes leave for a socket that is connected to the sender and reads nothing meanwhile.
pub(crate) fn leaving_unread(bytes: usize) -> u64 {
    let mut player = Player::new();
    let limits = DatagramLimits::new().datagrams_per_turn_max(1000).bytes_per_turn_max(usize::MAX);
    player.bind(Some(player.name("one").into()), &DatagramOptions::new().limits(limits));
    let reader = DatagramOptions::new().connect(player.name("one"));
    player.bind(Some(player.name("two").into()), &reader);
    player.settle();
    let to: SocketAddress = player.name("two").into();
    for _ in 0..500 {
        player.send(0, Some(to.clone()), bytes);
    }
    // It would read in the next one.
    player.reactor.turn(Some(Duration::ZERO)).unwrap();
    player.reactor.stats().datagrams_out
}

pub(crate) fn play(steps: &[Among]) -> Vec<Saw> {
    let mut player = Player::new();
    steps.iter().for_each(|step| player.play(*step));
    player.saw.take()
}
