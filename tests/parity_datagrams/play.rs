//! Plays one script in the world that its parent module names.

use std::io::ErrorKind;
use std::time::Duration;

use oneloop::{
    Datagram, DatagramHandler, DatagramOptions, DatagramSocket, HandlerId, Key, ReactorLimits,
    SocketAddress,
};

use super::world::*;
use crate::{Saw, Script, Step};

/// Echoes, and notes.
#[derive(Default)]
struct Noting {
    saw: Vec<Saw>,
    first_bytes: Vec<u8>,
}

impl DatagramHandler for Noting {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        let Datagram { data, from, length, .. } = datagram;
        self.saw.push(Saw::Datagram { length, shown: data.len() });
        self.first_bytes.extend(data.first());
        socket.send_to(from, data).ignore();
    }

    fn on_send_failed(
        &mut self,
        _: &mut DatagramSocket<'_>,
        to: Option<&SocketAddress>,
        error: &std::io::Error,
    ) {
        self.saw.push(Saw::Failed { has_address: to.is_some(), error: error.raw_os_error() });
    }
}

struct Player {
    reactor: Reactor,
    handler: HandlerId<Noting>,
    key: Key,
}

impl Player {
    fn new(buffer_bytes: usize, options: &DatagramOptions) -> Player {
        let limits = ReactorLimits::new().connections_max(16).read_buffer_bytes(buffer_bytes);
        let mut reactor = Reactor::with_limits(limits).unwrap();
        let handler = reactor.add_datagram_handler(Noting::default());
        let key = reactor.bind_with(handler, "127.0.0.1:0", options).unwrap();
        Player { reactor, handler, key }
    }

    fn settle(&mut self) {
        for _ in 0..10 {
            self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
    }
}

pub(crate) fn play(script: &Script) -> Vec<Saw> {
    let mut peer = Some(udp());
    let peer_address = peer.as_ref().unwrap().local_addr().unwrap();
    let options = match script.is_connected {
        true => DatagramOptions::new().connect(peer_address),
        false => DatagramOptions::new(),
    };
    let mut player = Player::new(script.buffer_bytes, &options);
    let address = player.reactor.datagram_address(player.key).unwrap().inet().unwrap();
    for step in script.steps {
        match *step {
            Step::PeerSends(count, length) => {
                for number in 0..count {
                    let peer = peer.as_ref().unwrap();
                    peer.send_to(&vec![number as u8; length], address).unwrap();
                }
                player.settle();
            }
            Step::PeerReceives(count) => {
                player.settle();
                let mut buffer = vec![0; 70_000];
                for _ in 0..count {
                    let (length, _) = peer.as_ref().unwrap().recv_from(&mut buffer).unwrap();
                    let handler = player.reactor.handler_mut(player.handler);
                    handler.saw.push(Saw::PeerReceived(length));
                }
                let error = peer.as_ref().unwrap().recv_from(&mut buffer).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "that was all");
            }
            Step::PeerCloses => peer = None,
            Step::Sends(length) => {
                let to = (!script.is_connected).then_some(SocketAddress::from(peer_address));
                let mut cx = player.reactor.context(player.handler);
                cx.send_datagram(player.key, to.as_ref(), &vec![7; length]).ignore();
            }
            Step::Settle => player.settle(),
        }
    }
    let handler = player.reactor.handler_mut(player.handler);
    assert!(handler.first_bytes.is_sorted(), "in order: {:?}", handler.first_bytes);
    std::mem::take(&mut handler.saw)
}

/// What a receive queue keeps of one datagram of so many bytes: its room by how many of them fit, the first ones.
pub(crate) fn kept_of_each(bytes: usize) -> usize {
    let mut player = Player::new(64 * 1024, &DatagramOptions::new());
    let address = player.reactor.datagram_address(player.key).unwrap().inet().unwrap();
    let peer = udp();
    let room = datagram_room();
    for number in 0..2 * room / bytes.max(500) {
        let data = vec![u8::try_from(number >> 8).unwrap(); bytes];
        peer.send_to(&data, address).unwrap();
    }
    let mut count = usize::MAX;
    while std::mem::replace(&mut count, player.reactor.handler(player.handler).saw.len()) != count {
        player.settle();
    }
    let handler = player.reactor.handler(player.handler);
    assert!(handler.first_bytes.is_sorted());
    assert_eq!(usize::from(*handler.first_bytes.last().unwrap()), (count - 1) >> 8);
    room / count
}
