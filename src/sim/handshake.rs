//! How connections come about: bind(2), listen(2), connect(2), and the requests that are under way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::addresses::{is_near, mapped, specified};
use super::calls::{Call, os_error};
use super::decisions::Matter;
use super::net::{Event, Net};
use super::socket::{Kind, Listener, Sock};
use super::trace;
use crate::key::Key;

/// A request that is not answered is sent again after 1, 2, 4 ... seconds, so often (tcp(7),
/// `tcp_syn_retries`), and given up when the last one was waited for twice as long: after 127 s.
const SYN_RETRIES: u32 = 6;

/// ... and the answer to it, so often (tcp(7), `tcp_synack_retries`).
const SYN_ACK_RETRIES: u32 = 5;

/// How long it takes to find out that nobody has an address in one's own network (arp(7): three
/// requests, a second each).
const NOBODY: Duration = Duration::from_secs(3);

/// What the network does with a connection request, as long as it has the fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Arrives,
    Refused,
    Lost,
}

/// The server's end of a connection that nobody can accept yet, and the listener that it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    server: Key,
    listener: Key,
}

impl Net {
    pub(crate) fn listen(
        &mut self,
        host: u32,
        mut address: SocketAddr,
        backlog: u32,
        reuse_port: bool,
        only_v6: bool,
    ) -> io::Result<Key> {
        self.call(host, Call::Listen)?;
        let machine = self.machine(host);
        if address.port() == 0 {
            let last = &mut self.hosts[host as usize].last_port;
            let port = self.addresses.port_for_listener(machine, address, last, only_v6)?;
            address.set_port(port);
        }
        self.addresses.check(machine, address, reuse_port, only_v6)?;
        let listener = Listener::new(address, backlog);
        let key = self.sockets.insert(Sock::new(host, Kind::Listener(Box::new(listener))));
        self.addresses.bind(machine, address, key, reuse_port, only_v6);
        self.log(host, "listen", key, u64::from(address.port()));
        Ok(key)
    }

    /// The listener of a machine that a connection from `local` to `remote` reaches.
    fn listener(&self, machine: u32, local: SocketAddr, remote: SocketAddr) -> Option<Key> {
        // As Linux does it: which one is nobody's choice, but always the same for the same addresses.
        let hash = || {
            let hash = [local, remote].iter().fold(0, |hash, address| {
                let hash = match address.ip() {
                    IpAddr::V4(ip) => trace::digest(hash, &ip.octets()),
                    IpAddr::V6(ip) => trace::digest(hash, &ip.octets()),
                };
                trace::digest(hash, &address.port().to_be_bytes())
            });
            self.decisions.number(hash)
        };
        self.addresses.listener(machine, remote, hash)
    }

    /// The host that a connection from `local` to `remote` reaches: that of the listener, if there is
    /// one.
    fn target(&self, from: u32, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        let machine = self.addresses.machine(self.machine(from), remote.ip())?;
        let listener = self.listener(machine, local, remote);
        Some(listener.map_or(machine, |listener| self.host_of(listener)))
    }

    /// Whether a connection may come from there.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if the machine does not have the address, `AddrInUse` if it listens there (bind(2));
    /// `InvalidInput` if it is loopback's, and the other one is not on this machine.
    pub(crate) fn check_from(
        &self,
        host: u32,
        from: SocketAddr,
        address: SocketAddr,
    ) -> io::Result<()> {
        let machine = self.machine(host);
        self.addresses.check(machine, from, false, false)?;
        let reached = self.addresses.machine(machine, specified(address).ip());
        if from.ip().is_loopback() && reached != Some(machine) {
            return Err(os_error(io::ErrorKind::InvalidInput));
        }
        Ok(())
    }

    /// Begins to connect; from there, if that is said, where a port of 0 is any.
    pub(crate) fn connect(
        &mut self,
        host: u32,
        from: Option<SocketAddr>,
        address: SocketAddr,
    ) -> io::Result<Key> {
        self.call(host, Call::Connect)?;
        let machine = self.machine(host);
        let address = specified(address);
        if self.addresses.machine(machine, address.ip()).is_none() && !is_near(address.ip()) {
            self.log_error(host, "connect", Key::NONE, "NetworkUnreachable");
            return Err(os_error(io::ErrorKind::NetworkUnreachable));
        }
        let ip = match from {
            Some(from) if !from.ip().is_unspecified() => from.ip(),
            _ => self.addresses.source(machine, address.ip()),
        };
        self.addresses.claim(machine, ip)?;
        let last = &mut self.hosts[host as usize].last_port;
        let local = SocketAddr::new(ip, from.map_or(0, |from| from.port()));
        let local = self.addresses.connect(machine, local, address, last)?;
        let target = self.target(host, local, address);
        let faults = target.map_or_else(|| self.faults(host), |target| self.link(host, target));
        let sock = Sock::connecting(host, local, address, target.unwrap_or(host), &faults);
        let client = self.sockets.insert(sock);
        self.log(host, "connect", client, u64::from(address.port()));
        if target.is_none() {
            self.send(self.now + NOBODY, Event::Syn { client, tries: 0, fate: Fate::Arrives });
            return Ok(client);
        }
        let at = self.now + self.latency(&faults, Matter::ConnectLatency, client);
        let (of, refused, lost) =
            (client.index(), faults.refused_connects, faults.unanswered_connects);
        let fate = if self.decisions.chance(Matter::RefusedConnect, of, refused).is_some() {
            Fate::Refused
        } else if self.decisions.chance(Matter::UnansweredConnect, of, lost).is_some() {
            Fate::Lost
        } else {
            Fate::Arrives
        };
        match fate {
            Fate::Arrives => {}
            Fate::Refused => self.log(host, "refused", client, 0),
            Fate::Lost => self.log(host, "unanswered", client, 0),
        }
        self.send(at, Event::Syn { client, tries: 0, fate });
        Ok(client)
    }

    pub(crate) fn arrive_syn(&mut self, client: Key, tries: u32, fate: Fate) {
        let Some((from, local, remote)) = self.connecting(client) else { return };
        if tries > SYN_RETRIES {
            return self.arrive_reset(client, io::ErrorKind::TimedOut);
        }
        let Some(target) = self.target(from, local, remote) else {
            return self.arrive_reset(client, io::ErrorKind::HostUnreachable);
        };
        // Who tries again after the faults have ended is answered.
        let link = self.link(from, target);
        let fate = match fate {
            Fate::Lost if link.unanswered_connects > 0.0 => Fate::Lost,
            Fate::Refused if link.refused_connects > 0.0 => Fate::Refused,
            _ => Fate::Arrives,
        };
        let is_severed = self.is_severed(from, target) || self.is_severed(target, from);
        if fate == Fate::Lost || is_severed {
            return self.retry_syn(client, tries, fate);
        }
        let faults = self.link(target, from);
        let listener = self.listener(self.machine(target), local, remote);
        let found = listener.filter(|_| fate != Fate::Refused).and_then(|key| {
            match self.sockets.get(key).map(|sock| &sock.kind) {
                Some(Kind::Listener(listener)) => Some((key, listener)),
                _ => None,
            }
        });
        let Some((key, listener)) = found else {
            if local == remote && fate == Fate::Arrives {
                return self.arrive_at_itself(client);
            }
            let at = self.now + self.latency(&faults, Matter::AnswerLatency, client);
            return self.send(at, Event::Reset { to: client });
        };
        if listener.is_full() {
            self.log(target, "backlog full", key, 0);
            return self.retry_syn(client, tries, Fate::Arrives);
        }
        // An IPv6 socket shows IPv4 addresses as its own.
        let is_mapped = listener.address.is_ipv6();
        let seen = |address| if is_mapped { mapped(address) } else { address };
        let at = self.now + self.latency(&faults, Matter::AnswerLatency, client);
        let mut server = Sock::connected(target, seen(remote), seen(local), client, from, &faults);
        server.not_before(at);
        let server = self.sockets.insert(server);
        if let Some(stream) = self.stream(client) {
            stream.peer = server;
            stream.remote_host = target;
        }
        if let Some(listener) = self.listener_mut(key) {
            listener.handshakes += 1;
        }
        self.send(at, Event::Established { client, door: Door { server, listener: key }, tries });
    }

    /// A request that meets the very socket that made it opens it (RFC 9293, 3.5, simultaneous initiation).
    fn arrive_at_itself(&mut self, client: Key) {
        self.log(self.host_of(client), "itself", client, 0);
        if let Some(stream) = self.stream(client) {
            stream.peer = client;
            stream.is_connecting = false;
            self.wake(client);
        }
    }

    fn retry_syn(&mut self, client: Key, tries: u32, fate: Fate) {
        self.log(self.host_of(client), "again", client, u64::from(tries) + 1);
        let at = self.now + Duration::from_secs(1 << tries);
        self.send(at, Event::Syn { client, tries: tries + 1, fate });
    }

    /// The answer to a request arrives, and is answered.
    pub(crate) fn arrive_established(&mut self, client: Key, door: Door, tries: u32) {
        let host = self.host_of(client);
        let Some(stream) = self.stream(client).filter(|stream| stream.is_connecting) else {
            // It has given up meanwhile.
            return self.send(self.now, Event::Acknowledged { door, tries: 0 });
        };
        let (peer_host, is_vanished) = (stream.remote_host, stream.is_vanished);
        if is_vanished || self.is_severed(peer_host, host) {
            if tries > SYN_RETRIES {
                self.end_handshake(door, false);
                return self.arrive_reset(client, io::ErrorKind::TimedOut);
            }
            let at = self.now + Duration::from_secs(1 << tries);
            return self.send(at, Event::Established { client, door, tries: tries + 1 });
        }
        let faults = self.faults_from(client);
        let at = self.now + self.latency(&faults, Matter::AnswerLatency, client);
        if let Some(stream) = self.stream(client) {
            stream.is_connecting = false;
            stream.not_before = at;
        }
        self.wake(client);
        self.send(at, Event::Acknowledged { door, tries: 0 });
    }

    /// The end of a handshake: the server may accept. If nothing of the client comes, it is asked again, and then forgotten.
    pub(crate) fn arrive_acknowledged(&mut self, door: Door, tries: u32) {
        let Some(stream) = self.stream(door.server) else { return };
        let (client, is_reset) = (stream.peer, stream.is_reset);
        if is_reset {
            return self.end_handshake(door, false);
        }
        if self.stream(client).is_none() || self.is_lost(client) {
            if tries > SYN_ACK_RETRIES {
                return self.end_handshake(door, false);
            }
            self.log(self.host_of(door.server), "again", door.server, u64::from(tries) + 1);
            let at = self.now + Duration::from_secs(1 << tries);
            return self.send(at, Event::Acknowledged { door, tries: tries + 1 });
        }
        if self.listener_mut(door.listener).is_none() {
            self.send_reset(door.server, client);
            return self.forget(door.server);
        }
        self.end_handshake(door, true);
    }

    fn end_handshake(&mut self, door: Door, is_open: bool) {
        if let Some(listener) = self.listener_mut(door.listener) {
            listener.handshakes -= 1;
            if is_open {
                listener.queue.push_back(door.server);
                return self.wake(door.listener);
            }
        }
        self.forget(door.server);
    }
}
