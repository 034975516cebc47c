//! Clients for counting: plain blocking sockets, because their own cost does not enter the figures and
//! their order does.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use oneloop::SocketAddress;

use crate::address::Place;

/// So many datagrams, and so many bytes in them, fit into the usual receive buffer (`net.core.rmem_default`), and
/// none may be lost.
const DATAGRAMS_IN_FLIGHT_MAX: usize = 128;
const DATAGRAM_BYTES_IN_FLIGHT_MAX: usize = 64 * 1024;

/// A connected socket of any kind: to the system its reads and writes are those of a file.
pub(super) struct Client {
    socket: File,
    is_datagram: bool,
}

impl Client {
    pub(super) fn connect(place: &Place, patience: Duration) -> Result<Client> {
        let socket = open(place, patience).with_context(|| format!("connecting to {place}"))?;
        Ok(Client { socket: socket.into(), is_datagram: place.is_datagram() })
    }

    /// Messages of `size` bytes: each is a datagram, or all are one write.
    fn send(&mut self, messages: &[u8], size: usize) -> Result<()> {
        for piece in messages.chunks(self.piece(messages.len(), size)) {
            self.socket.write_all(piece).context("the server does not take what is sent")?;
        }
        Ok(())
    }

    fn receive(&mut self, messages: &mut [u8], size: usize) -> Result<()> {
        for piece in messages.chunks_mut(self.piece(messages.len(), size)) {
            self.socket.read_exact(piece).context("the server does not answer")?;
        }
        Ok(())
    }

    fn piece(&self, all: usize, size: usize) -> usize {
        if self.is_datagram { size } else { all }
    }
}

/// Whether there is a client for such a server.
pub(super) fn is_counted(place: &Place) -> bool {
    !matches!(place, Place::Datagram(SocketAddress::Unix(_)))
}

fn open(place: &Place, patience: Duration) -> Result<OwnedFd> {
    Ok(match place {
        Place::Stream(SocketAddress::Inet(address)) => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            stream.into()
        }
        Place::Stream(SocketAddress::Unix(name)) => {
            let address = match (name.as_path(), name.as_abstract()) {
                (Some(path), _) => UnixAddress::from_pathname(path)?,
                (_, name) => UnixAddress::from_abstract_name(name.unwrap_or_default())?,
            };
            let stream = UnixStream::connect_addr(&address)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            stream.into()
        }
        Place::Datagram(SocketAddress::Inet(address)) => {
            let any = match address {
                SocketAddr::V4(_) => "0.0.0.0:0",
                SocketAddr::V6(_) => "[::]:0",
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(patience))?;
            socket.into()
        }
        _ => bail!("what such a server does is not counted"),
    })
}

/// A message, repeated `pipeline` times.
fn batch(size: usize, pipeline: usize) -> Vec<u8> {
    let message = (0..size).map(|i| b'a' + (i % 26) as u8);
    message.collect::<Vec<u8>>().repeat(pipeline)
}

/// # Errors
///
/// The server or this process is out of descriptors, or the machine out of ports.
pub(super) fn connect_many(
    place: &Place,
    connections: usize,
    patience: Duration,
) -> Result<Vec<Client>> {
    let connect = |n| {
        let client = Client::connect(place, patience);
        client.with_context(|| format!("connection {n} of {connections}"))
    };
    (1..=connections).map(connect).collect()
}

/// Sends `messages` of `size` bytes in all, `pipeline` in one write: in each round first on every
/// connection, and only then collects the answers. So a server finds many connections ready in one
/// poll, as it does under load. Of datagrams a round is as many as a socket can hold.
pub(super) fn echo(
    clients: &mut [Client],
    size: usize,
    pipeline: usize,
    messages: usize,
) -> Result<()> {
    let sent = batch(size, pipeline);
    let mut received = vec![0; sent.len()];
    let is_datagram = clients.first().is_some_and(|client| client.is_datagram);
    let at_once = match is_datagram {
        true => (DATAGRAMS_IN_FLIGHT_MAX / pipeline).min(DATAGRAM_BYTES_IN_FLIGHT_MAX / sent.len()),
        false => clients.len(),
    };
    for _ in 0..messages / (pipeline * clients.len()) {
        for clients in clients.chunks_mut(at_once.max(1)) {
            for client in &mut *clients {
                client.send(&sent, size)?;
            }
            for client in &mut *clients {
                client.receive(&mut received, size)?;
                ensure!(received == sent, "the server answers with other bytes than it was sent");
            }
        }
    }
    Ok(())
}

/// `count` clients, one after the other, each of which connects, exchanges one message and closes.
pub(super) fn connect_echo_close(
    place: &Place,
    count: usize,
    size: usize,
    patience: Duration,
) -> Result<()> {
    for _ in 0..count {
        echo(&mut [Client::connect(place, patience)?], size, 1, 1)?;
    }
    Ok(())
}
