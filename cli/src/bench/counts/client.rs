//! Clients for counting: plain blocking sockets, because their own cost does not enter the figures and
//! their order does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// A server under valgrind is slow, one that hangs is endless.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A message, repeated `pipeline` times for one write.
fn batch(size: usize, pipeline: usize) -> Vec<u8> {
    let message = (0..size).map(|i| b'a' + (i % 26) as u8);
    message.collect::<Vec<u8>>().repeat(pipeline)
}

pub(super) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// # Errors
///
/// The server or this process is out of descriptors, or the machine out of ports.
pub(super) fn connect_many(address: SocketAddr, connections: usize) -> Result<Vec<TcpStream>> {
    let connect = |n| connect(address).with_context(|| format!("connection {n} of {connections}"));
    (1..=connections).map(connect).collect()
}

/// Sends `messages` of `size` bytes in all, `pipeline` in one write: in each round first on every
/// connection, and only then collects the answers. So a server finds many connections ready in one
/// poll, as it does under load.
pub(super) fn echo(
    streams: &mut [TcpStream],
    size: usize,
    pipeline: usize,
    messages: usize,
) -> Result<()> {
    let sent = batch(size, pipeline);
    let mut received = vec![0; sent.len()];
    for _ in 0..messages / (pipeline * streams.len()) {
        for stream in &mut *streams {
            stream.write_all(&sent).context("the server does not take what is sent")?;
        }
        for stream in &mut *streams {
            stream.read_exact(&mut received).context("the server does not answer")?;
            ensure!(received == sent, "the server answers with other bytes than it was sent");
        }
    }
    Ok(())
}

/// `count` clients, one after the other, each of which connects, exchanges one message and closes.
pub(super) fn connect_echo_close(address: SocketAddr, count: usize, size: usize) -> Result<()> {
    for _ in 0..count {
        echo(&mut [connect(address)?], size, 1, 1)?;
    }
    Ok(())
}
